"""Proposals for the page: what is found, what is kept, and the process that finds it."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT, environment
from failing_work import Raising, Work
from waiting import until
from web_client import DIAMETER_PX, PIXEL_SIZE_A, centres, client, make_project
from web_work import number_of_process

from upicker.config import Config
from upicker.errors import ConfigError, InputError, MicrographError
from upicker.image.prepare import prepare
from upicker.io.micrographs import Reading
from upicker.pick.shipped import located
from upicker.pick.size import Estimate
from upicker.propose.proposals import propose
from upicker.run import size as run_size
from upicker.run.size import Found
from upicker.run.worker import Worker
from upicker.units import parse_length
from upicker.web.labelling import proposals as proposals_module
from upicker.web.labelling.proposals import Proposals, Proposing
from upicker.web.project import Project
from upicker.web.responses import Refused


class Here:
    """Stands for the worker: works in this process, and counts."""

    def __init__(self) -> None:
        self.done: list[Path] = []

    def do(self, work, path: Path):
        self.done.append(path)
        return work(path)

    def close(self) -> None:
        """There is no process."""


@pytest.fixture
def project(tmp_path) -> Project:
    return make_project(tmp_path, n=2, labels=False)


def made_here(project: Project, model: Path | None = None) -> tuple[Proposals, Here]:
    proposals, here = Proposals(project, lambda: model), Here()
    proposals._worker = here  # type: ignore[assignment]
    return proposals, here


def test_discs_are_proposed_first_and_the_threshold_is_that_of_the_automatic_count(project):
    config = Config().with_changes({"propose.top_k": "7", "propose.mask": False})
    found = Proposing(DIAMETER_PX, config, Reading())(project.micrographs[1])
    xy, score = np.array(found["particles"])[:, :2], np.array(found["particles"])[:, 2]
    assert (np.diff(score) <= 0).all()
    true = centres(1)
    distance = np.hypot(*(xy[: len(true), None] - true).transpose(2, 0, 1))
    assert (distance.min(0) < DIAMETER_PX / 5).all()
    assert (distance.min(1) < DIAMETER_PX / 5).all()
    prepared = prepare(Reading().read(project.micrographs[1]), DIAMETER_PX, config.image)
    automatic = propose(prepared, replace(config.propose, top_k="auto"), config.image)
    np.testing.assert_allclose(xy[score >= found["threshold"]], automatic.xy, atol=0.006)
    assert len(true) <= len(automatic) < len(xy)


def test_proposals_are_kept_until_something_that_they_depend_on_changes(project):
    proposals, here = made_here(project)
    work = proposals.wanted(0, "alog")
    assert proposals.cached(0, work) is None
    first = proposals.made(0, work)
    assert proposals.cached(0, work) == first == proposals.made(0, work)
    assert len(here.done) == 1
    again, there = made_here(project)
    assert again.made(0, again.wanted(0, "alog")) == first
    assert again.cached(1, again.wanted(1, "alog")) is None
    others = [
        replace(work, diameter_px=DIAMETER_PX + 1),
        replace(work, config=Config().with_changes({"propose.range_penalty": 0.5})),
        replace(work, config=Config().with_changes({"image.clip_sigma": 3.0})),
        replace(work, reading=Reading(3.0)),
    ]
    assert [again.cached(0, other) for other in others] == [None] * 4
    os.utime(project.micrographs[0], ns=(1, 1))
    assert again.cached(0, work) is None
    assert not there.done
    (kept,) = (project.state / "proposals").iterdir()
    kept.write_text("{")
    assert len(again.made(0, work)["particles"]) == len(first["particles"])
    assert len(there.done) == 1


def test_the_diameter_is_that_of_the_page(project):
    proposals, here = made_here(project)
    project.set_diameter(parse_length(f"{PIXEL_SIZE_A * 40}A"))
    assert proposals.wanted(0, "alog").diameter_px == pytest.approx(40)
    project.diameter = None
    with pytest.raises(Refused, match="diameter is unknown"):
        proposals.wanted(0, "alog")
    assert not here.done


@pytest.mark.parametrize("source", ["", None, "labels", 7, ["alog"]])
def test_unknown_sources_are_refused(project, source):
    with pytest.raises(Refused, match="unknown source"):
        made_here(project)[0].wanted(0, source)


def test_a_model_proposes_with_its_own_threshold(project, tmp_path):
    import torch

    from upicker.model import weights
    from upicker.model.weights import Header

    toy = {
        "model.widths": "8,8,8,8,8", "model.dim": 32, "model.heads": 2, "model.feedforward": 16,
        "model.encoder_layers": 1, "model.decoder_layers": 1, "model.query_density": 1, "train.tile_px": 96,
        "image.working_diameter_px": 16, "train.device": "cpu", "image.mask": False, "pick.views": 1,
    }  # fmt: skip
    config = Config().with_changes(toy)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = weights.build(config)
    path = tmp_path / "toy.safetensors"
    weights.save(path, model, Header(config.to_tables(), "28px", "finetune", 0.625, None, None, None, steps=1))
    threads = torch.get_num_threads()
    try:
        proposals, here = made_here(project, path)
        found = proposals.made(0, proposals.wanted(0, "model"))
    finally:
        torch.set_num_threads(threads)
    assert found["threshold"] == 0.625
    scores = [score for _, _, score in found["particles"]]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) < 0.625
    project.diameter = None
    assert proposals.wanted(0, "model").diameter_px is None
    with pytest.raises(Refused, match="diameter is unknown"):
        made_here(project)[0].wanted(0, "model")
    project.diameter = parse_length("28px")
    assert made_here(project)[0].wanted(0, "model").model == located(None)
    path.touch()
    assert proposals.cached(0, proposals.wanted(0, "model")) is None
    assert len(here.done) == 1


@pytest.fixture
def sizes(monkeypatch) -> list[tuple]:
    """The worker's work is done here, and estimates of the diameter are `DIAMETER_PX`; what they were asked."""
    asked = []

    def find(picker, paths, reading) -> Found:
        asked.append((picker.config.image.particles, paths, reading))
        return Found(Estimate(DIAMETER_PX, 24.0, 32.0, 0.5), PIXEL_SIZE_A, tuple(paths))

    monkeypatch.setattr(run_size, "find", find)
    monkeypatch.setattr(proposals_module, "Worker", Here)
    return asked


@pytest.mark.parametrize("source", ["alog", "model"])
def test_an_unknown_diameter_is_estimated_once_told_and_saved(project, sizes, source):
    project.diameter, project.config = None, project.config.with_changes({"image.particles": "bright"})
    with client(project) as visitor:
        assert visitor.post("/api/micrographs/0/proposals", json={"source": "nobody"}).status_code == 400
        assert visitor.post("/api/micrographs/9/proposals", json={"source": source}).status_code == 404
        assert not sizes
        first, second = (visitor.post("/api/micrographs/0/proposals", json={"source": source}) for _ in range(2))
        assert (first.status_code, second.status_code) == (200, 200)
        assert first.json()["diameter_px"] == second.json()["diameter_px"] == DIAMETER_PX
        assert first.json()["said"] == "diameter: 28 px (56 A), 24 to 32 px"
        assert second.json()["said"] == ""
        assert visitor.get("/api/session").json()["diameter"] == "56A"
    assert sizes == [("bright", project.micrographs, project.reading)]
    again = Project(project.mode, project.micrographs, project.reading, project.config, project.state)
    assert again.diameter == parse_length("56A")


def test_a_diameter_that_is_set_meanwhile_stays(project, sizes, monkeypatch):
    project.diameter = None
    proposals = Proposals(project, lambda: None)
    estimated = run_size.find
    monkeypatch.setattr(run_size, "find", lambda *asked: project.set_diameter(parse_length("90A")) or estimated(*asked))
    assert proposals.unsized(0, "model")
    assert proposals.sized(0) == ""
    assert project.diameter == parse_length("90A")
    assert not proposals.unsized(0, "model")


def test_where_nothing_is_like_a_particle_the_page_says_so(project, sizes, monkeypatch):
    def nothing(*_: object) -> Found:
        raise InputError("mic0", "nothing like a particle was found at any diameter", "Give micrographs with particles")

    monkeypatch.setattr(run_size, "find", nothing)
    project.diameter = None
    with client(project) as visitor:
        refused = visitor.post("/api/micrographs/0/proposals", json={"source": "model"})
        assert refused.status_code == 400
        assert "nothing like a particle" in refused.json()["error"]["found"]
    assert project.diameter is None


def test_own_weights_need_no_estimate(project):
    project.diameter = None
    proposals, _ = made_here(project, project.micrographs[0])  # any file
    assert not proposals.unsized(0, "model")
    assert proposals.unsized(0, "alog")


def test_the_worker_works_fails_and_comes_back():
    worker = Worker()
    try:
        number = worker.do(number_of_process, Path("a.mrc"))
        assert number != os.getpid()
        with pytest.raises(MicrographError, match="is broken"):
            worker.do(Work(), Path("bad.mrc"))
        with pytest.raises(MicrographError, match="ZeroDivisionError"):
            worker.do(Work(), Path("bug.mrc"))
        with pytest.raises(ConfigError):
            worker.do(Raising(ConfigError("a", "b")), Path("a.mrc"))
        assert worker.do(number_of_process, Path("b.mrc")) == number
        with pytest.raises(InputError, match="was stopped"):
            worker.do(Work(killed=True), Path("huge.mrc"))
        other = worker.do(number_of_process, Path("a.mrc"))
        assert other != number
        os.kill(other, signal.SIGKILL)
        until(lambda: gone(other), f"the end of process {other}")
        assert worker.do(Work(), Path("c.mrc")) == "C"
    finally:
        worker.close()
    with pytest.raises(InputError, match="server is stopping"):
        worker.do(Work(), Path("c.mrc"))


def gone(number: int) -> bool:
    """Tell whether a process has ended, with all its threads: until then its parent cannot wait for it."""
    try:
        ended = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return ended and len(list(Path(f"/proc/{number}/task").iterdir())) == 1
    except OSError:
        return True


def test_the_worker_does_not_outlive_a_server_that_is_killed():
    command = [sys.executable, str(ROOT / "tests" / "web_work.py"), "work"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment()) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        assert Path(f"/proc/{worker}").exists()
        process.kill()
        process.wait()
        until(lambda: gone(worker), f"the end of process {worker}")


def test_the_route(project):
    with client(project) as visitor:
        answer = visitor.post("/api/micrographs/0/proposals", json={"source": "alog"})
        assert answer.status_code == 200
        assert len(answer.json()["particles"]) > len(centres(0))
        assert visitor.post("/api/micrographs/0/proposals", json={"source": "alog"}).json() == answer.json()
        assert visitor.post("/api/micrographs/9/proposals", json={"source": "alog"}).status_code == 404
        # Before anything is trained the general model proposes.
        assert visitor.post("/api/micrographs/0/proposals", json={"source": "model"}).status_code == 200
        refused = visitor.post("/api/micrographs/0/proposals", json={"source": "nobody"})
        assert refused.status_code == 400
        assert "unknown source" in refused.json()["error"]["found"]
        project.micrographs[1].write_bytes(b"x" * 5000)
        broken = visitor.post("/api/micrographs/1/proposals", json={"source": "alog"})
        assert broken.status_code == 400
        assert broken.json()["error"]["where"] == str(project.micrographs[1])
