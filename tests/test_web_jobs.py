"""Jobs of the page: started, watched, stopped, found again by another server; and what to label next."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import TOY, environment
from starlette.applications import Starlette
from starlette.testclient import TestClient
from waiting import until
from web_client import DIAMETER_PX, client, jobs_of, make_project

from upicker.errors import InputError, OutputError, UPickerError
from upicker.io import coordinates, micrographs
from upicker.io.micrographs import Reading
from upicker.particles import Particles
from upicker.run import detached
from upicker.run.ranking import Suggestion, write
from upicker.train.log import COLUMNS
from upicker.web.jobs import commands, job, jobs, progress
from upicker.web.jobs.commands import Plan
from upicker.web.jobs.jobs import Jobs
from upicker.web.jobs.routes import job_routes
from upicker.web.project import Project
from upicker.web.responses import Refused, on_error

# Stands for a training: writes a log as one does, goes on until it is told to end, and heeds Ctrl-C.
STAND_IN = """
import sys, time
from pathlib import Path
words = sys.argv[1:]
output = Path(words[words.index("-o") + 1])
way = Path(sys.argv[0]).with_name("way")
print("begun with", len(words), "words", flush=True)
if way.exists() and way.read_text() == "fail":
    print("upicker: the disk is full.")
    sys.exit(1)
log = output.with_suffix(".log.csv").open("w")
log.write("step,stage,seconds,learning_rate,loss,precision,recall,f1\\n")
try:
    for step in range(1, 100000):
        f1 = {2: ".5,.25,.333", 4: ".8,.6,.686"}.get(step, ",,")
        log.write(f"{step},finetune,{step * .5},1e-4,{8 / step},{f1}\\n")
        log.flush()
        if way.exists() and way.read_text() == "end" and step >= 5:
            break
        time.sleep(.02)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
output.write_bytes(b"weights")
print("fine-tuned")
"""


@pytest.fixture(autouse=True)
def heeding_ctrl_c() -> Iterator[None]:
    """What runs in the background of a shell ignores Ctrl-C, and so would all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def project(tmp_path, monkeypatch) -> Iterator[Project]:
    """Four micrographs, three of them labelled; whatever was started ends with the test."""
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    found = make_project(tmp_path, 4)
    yield found
    for one in jobs_of(found).all():
        one.process.send(signal.SIGKILL)
        until(lambda one=one: not one.process.alive)


@pytest.fixture
def stand_in(tmp_path) -> tuple[str, str]:
    path = tmp_path / "stand_in.py"
    path.write_text(STAND_IN)
    return sys.executable, str(path)


def steps(found: Jobs, name: str) -> int:
    return job.summary(found.get(name))["step"]


def after_some_steps(found: Jobs, name: str) -> None:
    until(lambda: steps(found, name) >= 4)


def visitor(found: Jobs) -> TestClient:
    return TestClient(Starlette(routes=job_routes(found), exception_handlers={UPickerError: on_error}))


def test_a_training_is_watched_from_its_start_to_its_end(project, stand_in, tmp_path):
    found = jobs_of(project, stand_in)
    started = found.finetune(steps=50)
    name = started.id
    after_some_steps(found, name)
    now = job.detail(found.get(name))
    assert (now["state"], now["steps"], now["micrographs"]) == ("running", 50, 3)
    assert now["particles"] == sum(len(coordinates.read(path)) for path in project.labels.glob("*.csv"))
    assert now["model"] is None
    assert now["left"] == pytest.approx(0.5 * (50 - now["step"]))  # the log says half a second a step
    assert now["curve"][0] == (1, 8.0)
    assert now["f1s"] == [(2, 0.333), (4, 0.686)]
    assert now["f1"] == 0.686
    assert now["log"][0].startswith("begun with")
    (tmp_path / "way").write_text("end")
    until(lambda: found.get(name).state != "running")
    now = job.summary(found.get(name))
    assert now["state"] == "done"
    assert now["message"] == "On validation labels: F1 0.686, precision 0.800, recall 0.600"
    assert Path(now["model"]).read_bytes() == b"weights"
    assert now["left"] is None
    os.utime(found.get(name).folder / detached.EXIT, (0, now["started"] + 125.0))
    assert job.summary(found.get(name))["seconds"] == pytest.approx(125.0)
    assert found.model() == Path(now["model"])
    assert now["model"] in found.choices()["models"]


def test_stopping_is_ctrl_c_first(project, stand_in):
    found = jobs_of(project, stand_in)
    name = found.finetune().id
    after_some_steps(found, name)
    found.stop(name)
    until(lambda: found.get(name).state != "running")
    now = job.detail(found.get(name))
    assert now["state"] == "stopped"
    assert "no weights" in now["message"]
    assert now["log"][-1] == "interrupted"
    assert detached.exit_code(found.get(name).folder) == 130
    assert found.stop(name).stops == 1  # nothing is left to stop


def test_another_server_finds_it_and_can_stop_it(project, stand_in):
    name = jobs_of(project, stand_in).finetune().id
    other = jobs_of(project, stand_in)
    after_some_steps(other, name)
    assert [one.id for one in other.all()] == [name]
    assert other.get(name).state == "running"
    with pytest.raises(Refused) as refusal:
        other.finetune()
    assert refusal.value.status == 409
    other.stop(name)
    until(lambda: other.get(name).state == "stopped")
    assert jobs_of(project, stand_in).finetune().state == "running"


def test_it_goes_on_in_a_session_of_its_own_without_a_terminal(project, stand_in):
    found = jobs_of(project, stand_in)
    process = found.finetune().process
    assert os.getsid(process.pid) == process.pid != os.getsid(0)


def test_one_that_is_killed_has_failed(project, stand_in):
    found = jobs_of(project, stand_in)
    name = found.finetune().id
    after_some_steps(found, name)
    found.get(name).process.send(signal.SIGKILL)
    until(lambda: found.get(name).state != "running")
    now = job.summary(found.get(name))
    assert now["state"] == "failed"
    assert now["message"].startswith("begun with")


def test_none_starts_that_cannot_be_recorded(project, stand_in, monkeypatch):
    def full(folder: Path, record: object) -> None:
        raise OutputError(folder / job.RECORD, "cannot be written (No space left on device)")

    found = jobs_of(project, stand_in)
    with monkeypatch.context() as patched:
        patched.setattr(found, "_record", full)
        with pytest.raises(OutputError, match="No space left"):
            found.finetune()
        assert list(found._folder.iterdir()) == []
    name = found.finetune().id
    after_some_steps(found, name)
    with monkeypatch.context() as patched:
        patched.setattr(found, "_record", full)
        with pytest.raises(OutputError, match="No space left"):
            found.stop(name)
    until(lambda: found.get(name).state != "running")  # it was told to stop all the same


def test_a_failure_says_what_the_training_said(project, stand_in, tmp_path):
    (tmp_path / "way").write_text("fail")
    found = jobs_of(project, stand_in)
    name = found.finetune().id
    until(lambda: found.get(name).state == "failed")
    now = job.summary(found.get(name))
    assert now["message"].endswith("upicker: the disk is full.")
    assert now["model"] is None
    assert found.model() is None


def test_a_number_that_is_used_again_is_not_mistaken(project, stand_in):
    found = jobs_of(project, stand_in)
    name = found.finetune().id
    after_some_steps(found, name)
    path = found.get(name).folder / job.RECORD
    record = json.loads(path.read_text())
    found.get(name).process.send(signal.SIGKILL)
    # The number belongs to this very process now, which would be killed with its whole group.
    path.write_text(json.dumps(record | {"pid": os.getpid()}))
    assert found.get(name).state == "failed"
    found.get(name).process.send(signal.SIGKILL)
    assert found.stop(name).stops == 0
    assert detached.Process(os.getpid(), detached.start_time(os.getpid())).alive


def test_a_folder_that_is_no_job_is_passed_over(project):
    folder = project.state / jobs.FOLDER
    (folder / "20200101-000000-abcdef").mkdir(parents=True)
    (folder / "20200101-000001-abcdef").mkdir()
    (folder / "20200101-000001-abcdef" / job.RECORD).write_text('{"pid": "none"}')
    (folder / "notes.txt").write_text("")
    found = jobs_of(project)
    assert found.all() == []
    for name in ("20200101-000001-abcdef", "..", "notes.txt"):
        with pytest.raises(KeyError):
            found.get(name)


def words_of(project: Project, plan: Plan, folder: Path) -> list[str]:
    return commands.finetune_arguments(project, jobs_of(project).labelled(), plan, folder)


def test_what_is_learned_from_are_labelled_micrographs_that_are_not_bad(project, tmp_path):
    project.mark_bad(1, True)
    coordinates.write(project.labels / "mic3.csv", Particles.of([]), "csv")
    chosen = jobs_of(project).labelled()
    assert [one.path.name for one in chosen] == ["mic0.mrc", "mic2.mrc"]  # an empty file alone says nothing
    assert [path.name for path in jobs_of(project).unlabelled()] == ["mic3.mrc"]
    (project.labels / "coverage.csv").write_text("name,coverage\nmic3,complete\nmic2,partial\n")
    chosen = jobs_of(project).labelled()
    assert [(one.path.name, one.partial) for one in chosen] == [
        ("mic0.mrc", False),
        ("mic2.mrc", True),
        ("mic3.mrc", False),
    ]
    words = words_of(project, Plan(70, None, False), tmp_path)
    assert words[:4] == ["finetune", *(str(project.path(number)) for number in (0, 2, 3))]
    assert "mic1" not in " ".join(words)


def test_the_command_line_says_what_the_project_knows(project, tmp_path):
    project.config = project.config.with_changes(
        {"image.particles": "bright", "model.widths": "8,8,8,8,8", "pick.edge_diameters": 0.5, "train.bfloat16": "none"}
    )
    project.reading = Reading(1.25)
    words = words_of(project, Plan(70, None, True), tmp_path)
    settings = {words[at + 1] for at, word in enumerate(words) if word == "--set"}
    assert settings == {"image.particles=bright", "model.widths=8,8,8,8,8", "train.finetune_steps=70"}
    assert words[words.index("--diameter") + 1] == "28px"
    assert words[words.index("--pixel-size") + 1] == "1.25A"
    assert words[words.index("--labels") + 1] == str(project.labels)
    assert "--partial" in words
    assert "--init" not in words
    words = words_of(project, Plan(70, Path("/w/m.safetensors"), False), tmp_path)
    assert words[words.index("--init") + 1] == "/w/m.safetensors"
    assert not [word for word in words if word.startswith("model.")]  # weights bring their own
    assert "--partial" not in words


def test_micrographs_of_different_pixel_sizes_go_into_a_list(project, tmp_path):
    sizes = {project.path(0): 1.25, project.path(2): 2.5}
    project.reading = Reading(None, sizes)
    words = words_of(project, Plan(70, None, False), tmp_path)
    assert words[2] == "--labels"
    listed = {entry.path: entry.pixel_size_A for entry in micrographs.entries([words[1]])}
    assert listed == {project.path(0): 1.25, project.path(1): None, project.path(2): 2.5}


@pytest.mark.parametrize(("particles", "message"), [(0, "none yet"), (1, "only 1"), (9, "only 9")])
def test_too_few_labels_are_refused(tmp_path, particles, message):
    project = make_project(tmp_path, 2, labels=False)
    xy = np.linspace((40, 60), (500, 300), 10)[:particles]
    coordinates.write(project.labels / "mic0.csv", Particles.of(xy, DIAMETER_PX), "csv")
    found = jobs_of(project)
    with pytest.raises(InputError, match=message):
        found.finetune()
    assert "10 particles" in found.choices()["refusal"]
    assert found.all() == []
    coordinates.write(project.labels / "mic0.csv", Particles.of(np.linspace((40, 60), (500, 300), 10), 28), "csv")
    assert found.choices()["refusal"] is None


def test_routes_answer_what_the_page_needs(project, stand_in):
    page = visitor(jobs_of(project, stand_in))
    assert page.get("/api/jobs").json() == []
    assert page.get("/api/training").json()["micrographs"] == 3
    assert page.get("/api/suggestions").json() == {"model": None, "ready": False, "order": [], "why": {}, "names": {}}
    answer = page.post("/api/jobs", json={"kind": "finetune", "init": None, "steps": 30})
    assert answer.status_code == 201
    begun = answer.json()
    assert (begun["kind"], begun["state"], begun["steps"]) == ("finetune", "running", 30)
    assert page.get(f"/api/jobs/{begun['id']}").json()["curve"] is not None
    assert page.post("/api/jobs", json={"kind": "finetune"}).status_code == 409
    until(lambda: page.get(f"/api/jobs/{begun['id']}").json()["step"])
    assert page.delete(f"/api/jobs/{begun['id']}").json()["id"] == begun["id"]
    until(lambda: page.get("/api/jobs").json()[0]["state"] == "stopped")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"kind": "pretrain"}, 400, "unknown kind of job 'pretrain'"),
        ({}, 400, "unknown kind"),
        ({"kind": "finetune", "steps": "many"}, 400, "not a whole number"),
        ({"kind": "finetune", "steps": True}, 400, "not a whole number"),
        ({"kind": "finetune", "steps": 0}, 400, "must be 1 to 1000000, not 0"),
        ({"kind": "finetune", "steps": 10**9}, 400, "must be 1 to 1000000"),
        ({"kind": "finetune", "init": 3}, 400, "not a file name"),
        ({"kind": "finetune", "init": "/etc/passwd"}, 400, "not of this project"),
        ({"kind": "finetune", "partial": "yes"}, 400, "neither true nor false"),
        ({"kind": "suggest"}, 400, "no weights yet"),
    ],
)
def test_bad_requests_start_nothing(project, stand_in, body, status, message):
    found = jobs_of(project, stand_in)
    answer = visitor(found).post("/api/jobs", json=body)
    assert answer.status_code == status
    assert message in answer.json()["error"]["found"]
    assert found.all() == []


@pytest.mark.parametrize("name", ["20200101-000000-abcdef", "nothing", "%2e%2e"])
def test_a_job_that_is_not_there_is_not_found(project, name):
    page = visitor(jobs_of(project))
    assert page.get(f"/api/jobs/{name}").status_code == 404
    assert page.delete(f"/api/jobs/{name}").status_code == 404


def test_a_log_may_be_half_written(tmp_path):
    path = tmp_path / "model.log.csv"
    assert progress.read(path) == progress.TrainingProgress()
    path.write_text(",".join(COLUMNS) + "\n")
    assert progress.read(path).step == 0
    row = dict.fromkeys(COLUMNS, "") | {"stage": "finetune", "seconds": "1.5", "loss": "4"}
    lines = [
        ",".join(str(value) for value in (row | {"step": step, "seconds": 1.5 * step}).values()) for step in (1, 2, 3)
    ]
    path.write_text("\n".join([",".join(COLUMNS), *lines, "4,finetune,6."]))
    found = progress.read(path)
    assert (found.step, found.loss, found.step_seconds) == (3, 4.0, 1.5)


def test_a_long_curve_is_thinned_to_means(tmp_path):
    path = tmp_path / "model.log.csv"
    path.write_text("step,loss,f1\n" + "".join(f"{step},{step},\n" for step in range(1, 1001)))
    curve = progress.read(path).curve
    assert len(curve) <= progress.MOST_POINTS
    assert curve[0] == (2.0, 2.0)  # of the steps 1, 2 and 3
    assert curve[-1] == (1000.0, 1000.0)
    assert np.average([loss for _, loss in curve], weights=[3] * 333 + [1]) == pytest.approx(500.5)


def test_micrographs_to_ask_about_are_spread_evenly():
    paths = [Path(f"m{number}") for number in range(100)]
    assert jobs.spread(paths[:5]) == paths[:5]
    chosen = [int(path.name[1:]) for path in jobs.spread(paths, 10)]
    assert chosen == list(range(5, 100, 10))


def ranked_before(project: Project, name: str, *entries: tuple[Path, int, int]) -> Path:
    """Write what a ranking that has ended leaves; return its folder."""
    folder = project.state / jobs.FOLDER / name
    folder.mkdir(parents=True)
    record = {
        "kind": "suggest",
        "pid": 1,
        "process_start": "long ago",
        "started": 0.0,
        "stops": 0,
        "init": "m.safetensors",
    }
    (folder / job.RECORD).write_text(json.dumps(record))
    (folder / detached.EXIT).write_text("0")
    write(folder / commands.RANKING, [Suggestion(path, n, of, 1.0, 3.0, 0.5) for path, n, of in entries])
    return folder


def test_suggestions_leave_out_what_was_labelled_since(project):
    found = jobs_of(project)
    nothing = {"model": None, "ready": False, "order": [], "why": {}, "names": {}}
    assert found.suggestions() == nothing
    folder = ranked_before(project, "20260101-000000-abcdef", (project.path(3), 3, 9), (Path("gone.mrc"), 1, 2))
    assert found.suggestions()["order"] == [3]
    assert found.suggestions()["why"] == {"3": "3 uncertain of 9 detections"}
    assert (found.suggestions()["model"], found.suggestions()["ready"]) == ("m.safetensors", True)
    coordinates.write(project.labels / "mic3.csv", Particles.of([(50, 60)], 28), "csv")
    assert found.suggestions()["order"] == []
    with pytest.raises(InputError, match="no weights yet"):
        found.suggest()
    (folder / commands.RANKING).write_text("rank,micro")
    assert found.suggestions() == nothing


def test_a_ranking_is_started_with_what_the_project_knows(project, tmp_path):
    project.config = project.config.with_changes({"image.particles": "bright", "train.threads": 3})
    project.reading = Reading(1.25)
    words = commands.suggest_arguments(project, [project.path(0), project.path(3)], Path("/w/m.safetensors"), tmp_path)
    assert words == [
        "suggest", str(project.path(0)), str(project.path(3)), "--labels", str(project.labels), "--diameter", "28px",
        "--pixel-size", "1.25A", "--model", "/w/m.safetensors", "-o", str(tmp_path / "ranking.csv"),
        "--set", "train.threads=3",
    ]  # fmt: skip


def test_a_real_training_and_a_real_search(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    project = make_project(tmp_path, 6)  # five with labels: one of them is kept aside
    project.config = project.config.with_changes(TOY)
    with client(project) as page:
        begun = page.post("/api/jobs", json={"kind": "finetune", "steps": 4}).json()
        until(lambda: page.get(f"/api/jobs/{begun['id']}").json()["state"] != "running")
        done = page.get(f"/api/jobs/{begun['id']}").json()
        assert done["state"] == "done", done["log"]
        assert (done["step"], len(done["curve"]), len(done["f1s"])) == (4, 4, 2)
        assert page.get("/api/training").json()["model"] == done["model"]
        assert page.post("/api/suggestions", json={}).status_code == 201
        until(lambda: page.get("/api/jobs").json()[0]["state"] != "running")
        latest = page.get("/api/jobs").json()[0]
        # Four labelled ones tell what scores mean, one is without labels.
        assert (latest["kind"], latest["state"], latest["step"]) == ("suggest", "done", 5), latest["message"]
        found = page.get("/api/suggestions").json()
        assert (found["ready"], found["order"], found["names"]) == (True, [5], {"5": "mic5"})
        assert "uncertain of" in found["why"]["5"]
