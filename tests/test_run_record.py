"""The record of a run: what is written is read, whatever else stands in the file."""

import shutil
import tomllib
from dataclasses import replace

import pytest
from work import calls

from upicker.config import Config, read_changes
from upicker.errors import OutputError
from upicker.run import entries, record
from upicker.run.entries import Entry, Journal
from upicker.run.record import Record
from upicker.units import Length


def entry(name: str, particles: int = 3) -> Entry:
    return Entry(name, f"data/{name}.mrc", 20, 30, None, 12.5, particles)


def test_the_record_is_toml_that_gives_every_knob_back(tmp_path):
    config = Config().with_changes(
        {"pick.nms_iou": None, "model.widths": "16,8,8,8,8", "augment.noise": 0.1, "propose.threshold": 1e-7}
    )
    path = record.write(tmp_path, "pick", config, {"model": "a\\b", "pixel_size_A": None}, [entry("a")])
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    assert Config().with_changes(read_changes(path)) == config
    assert content["run"]["model"] == "a\\b"
    assert not {"pixel_size_A", "micrographs"} & content["run"].keys()


def test_the_record_keeps_micrographs_of_earlier_runs_and_renews_its_own(tmp_path):
    record.write(tmp_path, "pick", Config(), {}, [entry("a"), entry("b")])
    record.write(tmp_path, "pick", Config(), {}, [entry("c"), entry("b", 7)])
    listed = record.read(tmp_path).micrographs
    assert [(e.name, e.particles) for e in listed] == [("a", 3), ("b", 7), ("c", 3)]


def test_micrographs_that_an_earlier_version_listed_stay_listed(tmp_path):
    (tmp_path / record.NAME).write_text(
        "[run]\nmicrographs = [{name = 'a', particles = 1}, {name = 'b', particles = 2}]\n"
    )
    record.write(tmp_path, "pick", Config(), {}, [entry("b", 7)])
    record.write(tmp_path, "pick", Config(), {}, [entry("c")])
    assert [(e.name, e.particles) for e in record.read(tmp_path).micrographs] == [("a", 1), ("b", 7), ("c", 3)]


def test_two_runs_at_once_lose_no_entry(tmp_path):
    journals = [Journal(tmp_path) for _ in range(2)]
    for number in range(80):
        for who, journal in enumerate(journals):
            journal.append([entry(f"{who}-{number:02}")])
        record.write(tmp_path, "pick", Config(), {})
    assert len(record.read(tmp_path).micrographs) == 160


def test_entries_at_the_end_of_a_torn_file_are_left_out_and_the_rest_is_read(tmp_path):
    """A kill, or a full disk, ends a line anywhere; the next run writes to a file of its own."""
    record.write(tmp_path, "pick", Config(), {}, [entry("a"), entry("b")])
    [file] = (tmp_path / entries.FOLDER).iterdir()
    content = b"".join(file.read_bytes().splitlines(keepends=True)[:2])  # killed, it does not say that it has ended
    for length in range(content.index(b"\n") + 1, len(content) - 2):
        file.write_bytes(content[:length])
        assert record.read(tmp_path).micrographs == (entry("a"),)
    file.write_bytes(b"\xff\xfe{\n[3]\n" + content)
    assert record.read(tmp_path).micrographs == (entry("a"), entry("b"))


def test_a_run_without_entries_leaves_no_file(tmp_path):
    record.write(tmp_path, "pick", Config(), {})
    assert list((tmp_path / entries.FOLDER).iterdir()) == []


def test_a_folder_that_is_removed_and_made_again_meanwhile_is_an_error(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    journal = Journal(folder)
    journal.append([entry("a")])
    shutil.rmtree(folder)
    (folder / entries.FOLDER).mkdir(parents=True)
    with pytest.raises(OutputError, match="removed while results were written"):
        journal.append([entry("b")])


def test_micrographs_of_one_name_in_several_folders_have_an_entry_each(tmp_path):
    both = [replace(entry("a"), output=f"{day}/a_autopick.star") for day in ("day1", "day2")]
    record.write(tmp_path, "relion-job", Config(), {}, both)
    assert record.read(tmp_path).micrographs == tuple(both)


def test_reading_many_entries_does_little_for_each(tmp_path):
    def read(count: int) -> int:
        (folder := tmp_path / str(count)).mkdir()
        record.write(folder, "pick", Config(), {}, [entry(f"m{number:05}") for number in range(count)])
        return calls(lambda: record.read(folder))

    few, many = read(100), read(1100)
    assert (many - few) / 1000 < 60


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
    "text",
    [None, "", "no = [toml", "run = 3", "[[run]]\nx = 1", "top = 1\n[run]\nmicrographs = 4", f"x = {'[' * 9999}"],
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
    assert tomllib.loads(path.read_text(encoding="utf-8"))["run"]["model"] == f"{tmp_path}/m?"
    assert record.read(tmp_path).micrographs == (entry(name),)
