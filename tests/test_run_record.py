"""The record of a run: what is written is read, whatever else stands in the file."""

import tomllib

import pytest

from upicker.config import Config, read_changes
from upicker.run import record
from upicker.run.record import Entry, Record
from upicker.units import Length


def entry(name: str, particles: int = 3) -> record.Entry:
    return record.Entry(name, f"data/{name}.mrc", 20, 30, None, 12.5, particles)


def test_the_record_is_toml_that_gives_every_knob_back(tmp_path):
    config = Config().with_changes(
        {"pick.nms_iou": None, "model.widths": "16,8,8,8,8", "augment.noise": 0.1, "propose.threshold": 1e-7}
    )
    name = 'ein "Name" mit \\ und ü'
    path = record.write(tmp_path, "pick", config, {"model": "a\\b", "pixel_size_A": None}, [entry(name)])
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    assert Config().with_changes(read_changes(path)) == config
    assert content["run"]["model"] == "a\\b"
    assert "pixel_size_A" not in content["run"]
    assert content["run"]["micrographs"] == [
        {"name": name, "path": f"data/{name}.mrc", "rows": 20, "columns": 30, "diameter_px": 12.5, "particles": 3}
    ]


def test_the_record_keeps_micrographs_of_earlier_runs_and_renews_its_own(tmp_path):
    record.write(tmp_path, "pick", Config(), {}, [entry("a"), entry("b")])
    path = record.write(tmp_path, "pick", Config(), {}, [entry("c"), entry("b", 7)])
    listed = tomllib.loads(path.read_text())["run"]["micrographs"]
    assert [(e["name"], e["particles"]) for e in listed] == [("a", 3), ("b", 7), ("c", 3)]


def test_a_broken_record_is_replaced(tmp_path):
    (tmp_path / record.NAME).write_text("no = [toml")
    path = record.write(tmp_path, "pick", Config(), {}, [entry("a")])
    assert tomllib.loads(path.read_text())["run"]["command"] == "pick"


def test_what_is_written_is_read(tmp_path):
    weights = tmp_path / "model.safetensors"
    weights.touch()
    config = Config().with_changes({"pick.nms_iou": None, "pick.views": 2, "model.widths": "8,8,8,8,8"})
    about = {"model": str(weights), "diameter": "190A", "threshold": 0.25, "gain": None}
    entries = (entry("b"), Entry("a", "a.mrc", 20, 30, 1.5, 12.5, 0))
    record.write(tmp_path, "pick", config, about, entries)
    found = record.read(tmp_path)
    assert found.micrographs == (entries[1], entries[0])
    assert (found.command, found.threshold, found.diameter, found.model) == ("pick", 0.25, Length(190, "A"), weights)
    assert Config().with_changes(found.knobs) == config
    assert found.changed_knobs() == {"pick.nms_iou": "none", "pick.views": 2, "model.widths": [8, 8, 8, 8, 8]}
    assert {"version", "time"} <= found.about.keys()
    assert not {"gain", "micrographs"} & found.about.keys()


@pytest.mark.parametrize(
    "text", [None, "", "no = [toml", "run = 3", "[[run]]\nx = 1", "top = 1\n[run]\nmicrographs = 4"]
)
def test_what_cannot_be_read_is_left_empty(tmp_path, text):
    if text is not None:
        (tmp_path / record.NAME).write_text(text)
    found = record.read(tmp_path)
    assert found == Record()
    assert (found.command, found.threshold, found.diameter, found.model) == (None, None, None, None)
    assert found.changed_knobs() == {}


def test_values_of_another_kind_are_ignored(tmp_path):
    path = tmp_path / record.NAME
    path.write_text("[train]\nold_knob = 3\n[run]\ncommand = 1\nthreshold = nan\nmodel = 3\ndiameter = 'wide'\n")
    found = record.read(tmp_path)
    assert (found.command, found.threshold, found.diameter, found.model) == (None, None, None, None)
    assert found.changed_knobs() == {"train.old_knob": 3}
    listed = "[{path = 'a/b.mrc'}, {rows = 3}, 'c', {name = 'd'}]"
    path.write_text(f"[run]\nmodel = 'gone.safetensors'\nmicrographs = {listed}\n")
    found = record.read(tmp_path)
    assert found.model is None
    assert found.micrographs == (Entry("b", "a/b.mrc"), Entry("d"))


def test_names_that_are_no_text_can_be_written(tmp_path):
    name = b"m\xff".decode("utf-8", "surrogateescape")
    path = record.write(tmp_path, "pick", Config(), {"model": tmp_path / name}, [entry(name)])
    assert tomllib.loads(path.read_text(encoding="utf-8"))["run"]["micrographs"][0]["name"] == "m?"
