"""Labels through the page: what was answered is on disk, whoever else is at work, and nothing of others is lost."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT, environment
from web_client import DIAMETER_PX, SHAPE, centres, client, label_store, make_project
from web_work import add, move, remove, setting

from upicker.errors import InputError, OutputError
from upicker.geometry import Region
from upicker.io import coordinates, folders, mrc
from upicker.io.coverage import FILE, Coverage, read_coverage
from upicker.io.micrographs import Reading
from upicker.particles import Particles
from upicker.train.labels import median_diameter, read_pair, split
from upicker.units import Length
from upicker.web.labelling import label_set
from upicker.web.labelling.label_store import LabelStore
from upicker.web.project import Project, labelling
from upicker.web.responses import Refused


def send(store: LabelStore, number: int, *wanted: dict, since: int = 0) -> dict:
    return store.apply(number, store.epoch, since, list(wanted))


def places(store: LabelStore, number: int) -> dict[str, tuple[float, float]]:
    return {key: (x, y) for key, x, y in store.state(number)["particles"]}


@pytest.fixture
def project(tmp_path) -> Project:
    """Three micrographs without labels."""
    return make_project(tmp_path, labels=False)


def folder_of(project: Project) -> Path:
    assert project.labels is not None
    return project.labels


def csv_of(project: Project, number: int) -> Particles:
    return coordinates.read(folder_of(project) / f"mic{number}.csv")


def covered(project: Project, partial: bool) -> dict[str, Coverage]:
    return {file.stem: found for file, found in read_coverage(folder_of(project), partial).items()}


def test_each_change_is_on_disk_when_it_is_answered_and_known_after_a_new_start(project):
    store = label_store(project)
    state = store.state(1)
    assert (state["particles"], state["coverage"], state["revision"]) == ([], "unset", 0)
    assert state["diameter_px"] == DIAMETER_PX
    assert not list(folder_of(project).glob("*.csv"))
    answer = send(store, 1, add("one", 10.12345, 20.5), add("two", 300.0, 250.0))
    assert answer == {"epoch": store.epoch, "revision": 1, "missed": [{"op": "coverage", "value": "partial"}]}
    np.testing.assert_allclose(csv_of(project, 1).xy, [[10.1234, 20.5], [300, 250]], atol=1e-4)
    send(store, 1, move("one", 11, 21), remove("two"), add("three", 0, 0), since=1)
    particles = csv_of(project, 1)
    assert particles.xy.tolist() == [[11, 21], [0, 0]]
    assert particles.diameter_px.tolist() == [DIAMETER_PX] * 2
    assert particles.score.tolist() == [1, 1]
    again = label_store(project)
    assert again.epoch != store.epoch
    assert places(again, 1) == {"one": (11, 21), "three": (0, 0)}


def test_after_a_new_start_the_state_is_told_and_unsent_changes_still_fit(project):
    old = label_store(project)
    send(old, 0, add("one", 5, 5), add("two", 9, 9))
    new = label_store(project)
    with pytest.raises(Refused) as refused:
        new.apply(0, old.epoch, 1, [move("one", 6, 6)])
    assert refused.value.status == 409
    assert refused.value.more["state"] == new.state(0)
    send(new, 0, add("two", 9, 9), move("one", 6, 6), remove("two"))
    assert places(new, 0) == {"one": (6, 6)}


def test_a_server_killed_at_work_loses_nothing_that_it_has_answered(tmp_path):
    path, folder = tmp_path / "mic.mrc", tmp_path / "labels"
    mrc.write(path, np.random.default_rng(0).normal(size=SHAPE), 2.0)
    command = [sys.executable, str(ROOT / "tests" / "web_work.py"), "label", str(path), str(folder)]
    for wait_for in (7, 23):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
            assert process.stdout is not None
            answered = [int(line) for line in itertools.islice(process.stdout, wait_for)]
            process.kill()
            answered += [int(line) for line in process.stdout if line.strip()]
        last = answered[-1]
        alive = {f"k{n}" for n in range(last + 1) if n % 5 != 2 or n + 2 > last}
        store = label_store(labelling([path], Reading(), folder, Length(28.0, "px")))
        found = places(store, 0)
        # What was under way when it died may be there or not.
        unsure = {f"k{last + 1}", f"k{last - 1}"}
        assert set(found) - unsure == alive - unsure
        assert len(coordinates.read(folder / "mic.csv")) == len(found)
        assert store.state(0)["coverage"] == "partial"
        wanted = [add(f"k{n}", n % 500 + 0.25, n // 500 + 3.5) for n in range(last + 2)]
        send(store, 0, *wanted)
        assert len(places(store, 0)) == last + 2
        send(store, 0, *(remove(key) for key in places(store, 0)), setting("coverage", "unset"))


FOREIGN = {
    "star": ("mic0_autopick.star", "star"),
    "box": ("mic0.box", "box"),
    "uid": ("012345678901234567890_mic0_patch_aligned_doseweighted.star", "star"),
    "csv": ("mic0.csv", "csv"),
    "cryoppp": ("mic0.csv", "cryoppp"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_files_of_others_are_read_and_copied_before_they_are_replaced(project, kind):
    name, format = FOREIGN[kind]
    file, xy = folder_of(project) / name, centres(0)
    scores = np.linspace(0.2, 0.9, len(xy)).round(3)
    coordinates.write(file, Particles.of(xy, 31.0, scores), format)
    content, before = file.read_bytes(), coordinates.read(file)
    store = label_store(project)
    state = store.state(0)
    assert state["file"] == str(file)
    assert state["coverage"] == "unset"
    np.testing.assert_allclose([place[1:] for place in state["particles"]], before.xy, atol=1e-4)
    assert state["diameter_px"] == (DIAMETER_PX if format == "star" else 31)
    assert file.read_bytes() == content
    assert store.counts()[0] == {"labels": len(xy), "coverage": "unset", "bad": False}

    first, second = state["particles"][0][0], state["particles"][1][0]
    send(store, 0, remove(first), move(second, 7, 8), add("new", 3, 4))
    copy = project.state / "originals" / "mic0" / name
    assert copy.read_bytes() == content
    assert [path.name for path in folder_of(project).glob("*.*") if path.is_file()] == ["mic0.csv"]
    after = csv_of(project, 0)
    np.testing.assert_allclose(after.xy, [[7, 8], *before.xy[2:], [3, 4]], atol=1e-4)
    assert after.score.tolist() == [*before.score[1:], 1]
    assert set(after.diameter_px) == {state["diameter_px"]}
    # What such a file covers is not for the page to say.
    assert not (folder_of(project) / FILE).exists()
    send(store, 0, remove("new"), since=1)
    assert [path.name for path in copy.parent.iterdir()] == [name]
    assert label_store(project).state(0)["coverage"] == "unset"


def test_a_second_foreign_file_of_the_same_name_gets_a_copy_of_its_own(project):
    file = folder_of(project) / "mic0.csv"
    contents = []
    store = label_store(project)
    for x in (5, 6):
        file.write_text(f"x,y\n{x},7\n50,{x}\n")
        contents.append(file.read_bytes())
        send(store, 0, add(f"new{x}"))
    copies = sorted((project.state / "originals" / "mic0").iterdir())
    assert [copy.read_bytes() for copy in copies] == [contents[1], contents[0]]
    assert [copy.name for copy in copies] == ["mic0.2.csv", "mic0.csv"]


def test_what_another_program_does_to_the_file_is_taken_over(project):
    store = label_store(project)
    send(store, 0, add("a", 5, 5), add("b", 9, 9))
    file = folder_of(project) / "mic0.csv"
    file.write_text("x,y,diameter\n9,9,28\n100,101,28\n")
    answer = send(store, 0, add("c", 50, 60), since=1)
    new = next(key for key in places(store, 0) if key not in "abc")
    assert places(store, 0) == {"b": (9, 9), new: (100, 101), "c": (50, 60)}
    assert {(one["op"], one["key"]) for one in answer["missed"]} == {("remove", "a"), ("add", new), ("move", new)}
    assert csv_of(project, 0).xy.tolist() == [[9, 9], [100, 101], [50, 60]]


def test_two_servers_on_one_folder_lose_nothing(project):
    stores = [label_store(project), label_store(project)]
    for n in range(6):
        send(stores[n % 2], 0, add(f"k{n}", n, 2 * n))
    send(stores[0], 0, remove("k1"))
    assert set(places(stores[1], 0)) == {"k0", "k2", "k3", "k4", "k5"} == set(places(stores[0], 0))


def test_a_file_that_cannot_be_read_is_left_alone(project):
    store = label_store(project)
    send(store, 0, add("a"))
    file = folder_of(project) / "mic0.csv"
    good = file.read_bytes()
    file.write_text("x,y\n1,nonsense\n")
    with pytest.raises(Refused, match="nonsense") as refused:
        send(store, 0, add("b"), since=1)
    assert refused.value.status == 409
    assert "state" not in refused.value.more
    assert file.read_text() == "x,y\n1,nonsense\n"
    assert "nonsense" in store.counts()[0]["error"]
    with pytest.raises(InputError):
        store.state(0)
    with pytest.raises(Refused) as refused:
        store.apply(0, "another epoch", 1, [add("b")])
    assert refused.value.status == 409
    assert "state" not in refused.value.more
    table = folder_of(project) / FILE
    said_before = table.read_text()
    table.write_text("nonsense\n")
    with pytest.raises(Refused) as refused:
        send(store, 1, add("b"))
    assert refused.value.status == 409
    assert table.read_text() == "nonsense\n"
    table.write_text(said_before)
    file.write_bytes(good)
    send(store, 0, add("b"), since=1)
    assert set(places(store, 0)) == {"a", "b"}
    file.unlink()
    assert set(places(store, 0)) == {"a", "b"}
    send(store, 0, add("c"), since=2)
    assert len(csv_of(project, 0)) == 3


def test_what_could_not_be_written_is_not_shown_as_done(project, monkeypatch):
    store = label_store(project)
    send(store, 0, add("a"))
    full = OutputError("mic0.csv", "cannot be written (No space left on device)")

    def fail(*_):
        raise full

    with monkeypatch.context() as context:
        context.setattr(label_set, "write", fail)
        with pytest.raises(OutputError):
            send(store, 0, add("b"), since=1)
    assert set(places(store, 0)) == {"a"}
    assert send(store, 0, add("b"), since=1)["revision"] == 2


def test_the_disk_is_told_to_keep_it(project, monkeypatch):
    settled = []
    monkeypatch.setattr(os, "fsync", lambda handle: settled.append(Path(f"/proc/self/fd/{handle}").resolve()))
    send(label_store(project), 0, add("a"))
    # The file and its folder, first the labels', then the coverage's.
    assert [path.suffix for path in settled] == [".csv", "", ".csv", ""]
    assert settled[1] == settled[3] == folder_of(project).resolve()


def test_coverage_is_written_as_training_reads_it(project):
    table = folder_of(project) / FILE
    coordinates.write(folder_of(project) / "other_autopick.star", Particles.of([[1, 2]]), "star")
    coordinates.write(folder_of(project) / "mic1_picks.csv", Particles.of([[1, 2]]), "csv")
    table.write_text("# by hand\nname,coverage,x0,y0,x1,y1\nother,partial,1,2,3.5,4\nmic1_picks,,,,,\n")
    store = label_store(project)
    assert [one["coverage"] for one in store.counts()] == ["unset", "complete", "unset"]
    send(store, 0, add("a"))
    send(store, 0, setting("coverage", "complete"))
    send(store, 1, setting("regions", [[30, 200.126, 10, 100], [50, -9, 9999, 40]]), setting("coverage", "regions"))
    send(store, 2, setting("coverage", "partial"))
    for partial in (False, True):
        assert covered(project, partial) == {
            "other_autopick": Coverage(True, (Region(1, 2, 3.5, 4),)),
            "mic0": Coverage(False),
            "mic1_picks": Coverage(False, (Region(10, 100, 30, 200.13), Region(50, -0.5, SHAPE[1] - 0.5, 40))),
            "mic2": Coverage(True),
        }
    assert table.read_text().startswith("# by hand\n")
    send(store, 1, add("a"))
    assert len(covered(project, True)["mic1"].regions) == 2
    again = label_store(project)
    assert [one["coverage"] for one in again.counts()] == ["complete", "regions", "partial"]
    assert [list(corners) for corners in again.state(1)["regions"]] == [[10, 100, 30, 200.13], [50, -0.5, 532.5, 40]]
    send(again, 1, setting("coverage", "unset"))
    assert covered(project, True)["mic1"] == Coverage(True)


def test_labels_begun_on_the_page_are_partial_until_somebody_says_otherwise(project):
    store = label_store(project)
    send(store, 0, add("a"))
    assert covered(project, False)["mic0"] == Coverage(True)
    assert send(store, 0, setting("coverage", "unset"), since=1)["missed"] == [{"op": "coverage", "value": "partial"}]
    assert covered(project, False)["mic0"] == Coverage(True)
    # Regions of which none is drawn yet.
    send(store, 0, setting("coverage", "regions"))
    assert store.state(0)["coverage"] == "regions"
    assert store.counts()[0]["coverage"] == "regions"
    assert covered(project, False)["mic0"] == Coverage(True)
    # A crash between the two files.
    (folder_of(project) / FILE).unlink()
    again = label_store(project)
    assert again.state(0)["coverage"] == again.counts()[0]["coverage"] == "partial"
    send(again, 0, add("b"))
    assert covered(project, False)["mic0"] == Coverage(True)
    # No labels, and no coverage set: as before.
    send(again, 0, remove("a"), remove("b"), setting("coverage", "unset"))
    assert not folders.stems(folder_of(project))
    assert covered(project, False) == {}
    assert again.state(0)["coverage"] == "unset"
    send(again, 0, add("c"))
    assert set(places(label_store(project), 0)) == {"c"}


def test_a_micrograph_without_particles_is_one_to_learn_from(project):
    store = label_store(project)
    send(store, 0, add("a", 30.5, 40.25), setting("coverage", "complete"))
    send(store, 1, setting("coverage", "complete"))
    assert covered(project, True) == {"mic0": Coverage(False), "mic1": Coverage(False)}
    division = split(project.micrographs, folder_of(project), 0.0)
    assert list(division.training) == list(project.micrographs[:2])
    length = median_diameter(list(division.training.values()))
    assert length == Length(DIAMETER_PX, "px")
    found = [read_pair(path, file, length, Reading())[1].xy.tolist() for path, file in division.training.items()]
    assert found == [[[30.5, 40.25]], []]


def test_one_diameter_for_all_labels_but_those_with_one_of_their_own(project):
    file = folder_of(project) / "mic0.csv"
    file.write_text("x,y,diameter\n1,1,30\n2,2,30\n3,3,\n4,4,55\n")
    store = label_store(project)
    assert store.state(0)["diameter_px"] == 30
    answer = send(store, 0, setting("diameter", 40.5), add("new"))
    assert answer["missed"] == []
    assert csv_of(project, 0).diameter_px.tolist() == [40.5, 40.5, 40.5, 55, 40.5]
    assert {"op": "diameter", "px": 40.5} in send(store, 0)["missed"]
    send(store, 0, setting("diameter", 55))
    send(store, 0, setting("diameter", 60))
    assert csv_of(project, 0).diameter_px.tolist() == [60, 60, 60, 60, 60]
    # Where there are no labels yet, the project's holds, also when it changes.
    assert store.state(1)["diameter_px"] == DIAMETER_PX
    send(store, 1)
    project.set_diameter(Length(33.0, "px"))
    assert store.state(1)["diameter_px"] == 33
    send(store, 1, setting("diameter", 35))
    assert not (folder_of(project) / "mic1.csv").exists()
    send(store, 1, add("a"))
    assert csv_of(project, 1).diameter_px.tolist() == [35]


def test_bad_micrographs_are_listed(project):
    store = label_store(project)
    send(store, 2, setting("bad", True))
    send(store, 0, setting("bad", True), add("a"))
    assert (project.state / "bad.txt").read_text() == "mic0\nmic2\n"
    assert [one["bad"] for one in label_store(project).counts()] == [True, False, True]
    send(store, 2, setting("bad", False))
    assert (project.state / "bad.txt").read_text() == "mic0\n"
    assert store.state(2)["bad"] is False
    assert "mic2" not in covered(project, True)


def test_changes_are_done_all_or_none(project):
    store = label_store(project)
    with pytest.raises(Refused):
        send(store, 0, add("good"), add("wrong", -2))
    assert store.state(0)["particles"] == []
    assert not folders.stems(folder_of(project))


def test_revisions_that_never_were_are_refused(project):
    store = label_store(project)
    for revision in (-1, 1, None, "0", True, 0.5):
        with pytest.raises(Refused, match="revision"):
            store.apply(0, store.epoch, revision, [])  # type: ignore[arg-type]


def test_labels_at_the_edge_stay_inside(project):
    store = label_store(project)
    send(store, 0, add("a", -0.9, -1), add("b", SHAPE[1] - 0.1, SHAPE[0]))
    assert places(store, 0) == {"a": (-0.5, -0.5), "b": (SHAPE[1] - 0.5, SHAPE[0] - 0.5)}
    assert csv_of(project, 0).inside(SHAPE).all()


@pytest.mark.parametrize("name", ["#first", "coverage", "two\nlines", "nul\x7f"])
def test_names_that_the_tables_cannot_hold_are_refused(tmp_path, name):
    path = tmp_path / f"{name}.mrc"
    mrc.write(path, np.random.default_rng(0).normal(size=SHAPE), 2.0)
    store = label_store(labelling([path], Reading(), tmp_path / "labels"))
    with pytest.raises(OutputError, match="Rename"):
        send(store, 0, add("a"))
    assert not list((tmp_path / "labels").glob("*.csv"))


@pytest.mark.parametrize("name", ["a, b", 'say "x"', "<img src=x>", "ümlaut;", "a#b", "r0.v2"])
def test_other_names_are_kept_as_they_are(tmp_path, name):
    path = tmp_path / f"{name}.mrc"
    mrc.write(path, np.random.default_rng(0).normal(size=SHAPE), 2.0)
    project = labelling([path], Reading(), tmp_path / "labels")
    send(label_store(project), 0, add("a"), setting("coverage", "complete"), setting("bad", True))
    (file,) = folders.stems(folder_of(project)).values()
    assert read_coverage(folder_of(project), True) == {file: Coverage(False)}
    assert label_store(project).counts() == [{"labels": 1, "coverage": "complete", "bad": True}]


def test_ambiguous_names_are_refused(project):
    for name in ("MIC0_DW.csv", "mic0_autopicked.csv"):
        (folder_of(project) / name).write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="ambiguous"):
        label_store(project)


def test_the_routes(project):
    with client(project) as visitor:
        state = visitor.get("/api/micrographs/1/labels").json()
        body = {"epoch": state["epoch"], "revision": state["revision"], "changes": [add("a", 12.5, 13)]}
        answer = visitor.post("/api/micrographs/1/labels", json=body)
        assert answer.status_code == 200
        assert answer.json()["revision"] == 1
        assert visitor.get("/api/micrographs/1/labels").json()["particles"] == [["a", 12.5, 13]]
        assert visitor.get("/api/micrographs").json()[1]["labels"] == 1
        assert visitor.get("/api/micrographs/3/labels").status_code == 404
        assert visitor.post("/api/micrographs/3/labels", json=body).status_code == 404
        assert visitor.post("/api/micrographs/1/labels", json={}).status_code == 409
        other = visitor.post("/api/micrographs/1/labels", json={**body, "epoch": "another"})
        assert other.status_code == 409
        assert other.json()["state"] == visitor.get("/api/micrographs/1/labels").json()
        wrong = visitor.post("/api/micrographs/1/labels", json={**body, "changes": [add("b", 1e6)]})
        assert wrong.status_code == 400
        assert "outside the micrograph" in wrong.json()["error"]["found"]


def test_nothing_is_changed_where_picks_are_inspected(tmp_path):
    with client(make_project(tmp_path, picks=True)) as visitor:
        state = visitor.get("/api/micrographs/0/labels").json()
        assert len(state["particles"]) == len(centres(0))
        body = {"epoch": state["epoch"], "revision": 0, "changes": [remove(state["particles"][0][0])]}
        assert visitor.post("/api/micrographs/0/labels", json=body).status_code == 405
