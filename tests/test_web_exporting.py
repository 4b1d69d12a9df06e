"""Exports of the page: into which folder, and what one that is killed leaves."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import environment
from web_client import client, make_project, pick_store

from upicker.errors import OutputError
from upicker.io import coordinates
from upicker.io.formats import COMMON_FIRST
from upicker.io.micrographs import Reading
from upicker.particles import Particles
from upicker.run import record
from upicker.web.inspecting import exporting
from upicker.web.project import Project, inspecting
from upicker.web.responses import Refused

# Exports, and is killed when it begins to write the file of a number; the entries count as one.
KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from web_client import make_project, pick_store
from upicker.io import atomic
from upicker.web.inspecting import exporting
from upicker.web.project import inspecting
from upicker.io.micrographs import Reading

root, last = Path(sys.argv[2]), int(sys.argv[3])
project = inspecting(sorted((root / "micrographs").iterdir()), Reading(), root / "picks", root / "labels")
store, written = pick_store(project), 0
before = atomic.temporary_name

def counted(suffix=""):
    global written
    written += 1
    if written == last:
        path = root / "out" / before(suffix)
        path.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
    return before(suffix)

atomic.temporary_name = counted
exporting.export(store, "star", 0.5, str(root / "out"), overwrite=True)
print("complete")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path, picks=True)


@pytest.mark.parametrize("name", ["picks_0.31", "picks_0.31_best", "v1.0", "picks.old", "out.csv", "a.b/c.star"])
@pytest.mark.parametrize("format", [one.name for one in COMMON_FIRST if one.name in coordinates.TARGETS])
def test_a_folder_may_have_a_dot_in_its_name(tmp_path, project, name, format):
    store = pick_store(project)
    plain = exporting.export(store, format, 0.31, "plain")
    found = exporting.export(store, format, 0.31, name)
    assert found == plain | {"folder": name}
    folder, other = tmp_path / name, tmp_path / "plain"
    assert {path.relative_to(folder) for path in folder.glob("[!.]*")} == {
        path.relative_to(other) for path in other.glob("[!.]*")
    }
    assert record.read(folder).threshold == 0.31


def test_convert_takes_a_number_behind_a_dot_for_a_part_of_a_folders_name(tmp_path, project):
    store = pick_store(project)
    picks = [one.picks for one in map(store.one, range(3)) if one.picks is not None]
    for folder in ("picks_0.31", "old.csv"):
        (tmp_path / "old.csv").mkdir(exist_ok=True)
        files = coordinates.write_all(tmp_path / folder, picks, "csv")
        assert files == [tmp_path / folder / f"mic{number}.csv" for number in range(3)]
    assert coordinates.write_all(tmp_path / "all.csv", picks, "csv") == [tmp_path / "all.csv"]


@pytest.mark.parametrize("name", ["x" * 256, "new/" + "\u00e4" * 128, "y" * 5000, "\ud800", "z/" * 3000])
def test_folders_whose_names_are_too_long_or_no_names_are_refused_in_words(tmp_path, project, name):
    with client(project) as visitor:
        while "loading" in visitor.get("/api/picks/summary").json():
            pass
        body = {"format": "csv", "threshold": 0.3, "folder": name}
        sent = {"content": json.dumps(body), "headers": {"Content-Type": "application/json"}}
        found = visitor.post("/api/export", **sent)
        assert found.status_code == 400
        assert len(found.json()["error"]["found"]) < 300
        assert not (tmp_path / "new").exists()
        assert visitor.post("/api/export", json=body | {"folder": "x" * 255}).status_code == 200


def test_a_folder_that_cannot_be_made_is_named(tmp_path, project, monkeypatch):
    store = pick_store(project)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file.*cannot be written \(File exists\)"):
        exporting.export(store, "csv", 0.3, "file", overwrite=True)
    with pytest.raises(Refused, match="contains files"):
        exporting.export(store, "csv", 0.3, "file")


def without_diameter(folder: Path) -> Project:
    """Return a project in which neither the diameter nor the pixel size is known."""
    project = make_project(folder, labels=False, picks=True, pixel_size_A=None)
    for file in (folder / "picks").iterdir():
        coordinates.write(file, Particles.of(coordinates.read(file).xy), "csv")
    return inspecting(project.micrographs, Reading(), folder / "picks")


@pytest.mark.parametrize(("format", "what"), [("cs", "pixel size"), ("box", "diameter")])
def test_an_export_that_lacks_something_leaves_an_earlier_one_as_it_is(tmp_path, monkeypatch, format, what):
    monkeypatch.chdir(tmp_path)
    store = pick_store(without_diameter(tmp_path))
    exporting.export(store, "csv", 0.0, "out")
    before = files_below(tmp_path / "out")
    with pytest.raises(OutputError, match=what):
        exporting.export(store, format, 0.0, "out", overwrite=True)
    assert files_below(tmp_path / "out") == before


def test_an_unknown_diameter_is_left_out_of_the_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exporting.export(pick_store(without_diameter(tmp_path)), "csv", 0.0, "out")
    assert [entry.diameter_px for entry in record.read(tmp_path / "out").micrographs] == [None] * 3


def test_an_export_that_is_killed_loses_nothing_and_is_completed_by_another(tmp_path, project):
    store = pick_store(project)
    store.reject([(0, [1])], True)
    before = files_below(tmp_path)
    exporting.export(store, "star", 0.5, "whole")
    exporting.export(store, "star", 0.1, "out")
    for last in (2, 4):  # of one file for each of three micrographs, and run.toml
        command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path), str(last)]
        ended = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, ""), ended.stderr
        assert {path: content for path, content in files_below(tmp_path).items() if path in before} == before
        assert not (tmp_path / "out" / record.NAME).exists()  # it would tell of another threshold
        for number, file in enumerate(sorted((tmp_path / "out").glob("[!.]*.star"))):
            written = min(coordinates.read(file).score)
            assert written >= 0.5 if number < last - 1 else written < 0.5
    exporting.export(store, "star", 0.5, "out", overwrite=True)
    whole = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.star")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.star")} == whole
    assert record.read(tmp_path / "out").threshold == 0.5


def files_below(folder: Path) -> dict[Path, bytes]:
    names = ("picks", "labels", "micrographs")
    return {path: path.read_bytes() for name in names for path in (folder / name).rglob("*") if path.is_file()}
