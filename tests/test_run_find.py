"""Runs over many micrographs: what a kill, a bad file or the order of a list must not change."""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import planted
import pytest
from command_line import upicker

from upicker.config import Config
from upicker.errors import ConfigError, InputError, OutputError
from upicker.io import coordinates, mrc
from upicker.io.micrographs import Reading
from upicker.particles import Micrograph
from upicker.pick.network import LoadedNetwork
from upicker.pick.picker import Picker
from upicker.run import entries, record
from upicker.run import propose as run_propose
from upicker.run.find import changed_settings, find_all, require_same_settings
from upicker.run.outputs import Outputs
from upicker.run.pick import Picking
from upicker.run.propose import Proposing
from upicker.simulate.scene import Scene, make
from upicker.units import Length

SCENE = Scene(shape=(330, 410), pixel_size_A=4.0, specimens=("globule",), particles=14, seed=5)
CONFIG = Config().with_changes({"image.mask": False, "propose.mask": False})
COUNT = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of simulated micrographs."""
    folder = tmp_path_factory.mktemp("made") / "mics"
    for number in range(COUNT):
        mrc.write(folder / f"m{number}.mrc", make(SCENE, number).micrograph.pixels, SCENE.pixel_size_A)
    return folder


@pytest.fixture
def mics(made: Path, tmp_path: Path) -> list[Path]:
    folder = tmp_path / "mics"
    shutil.copytree(made, folder)
    return sorted(folder.iterdir())


def proposing(out: Path, **changes: object) -> Proposing:
    config = CONFIG.with_changes({f"propose.{key}": value for key, value in changes.items()})
    return Proposing(Length(260, "A"), Outputs(out), config)


def done(paths: Sequence[Path], work: Proposing | Picking, todo: Sequence[Path] | None = None) -> list[str]:
    """Run, and return the names of those that succeeded."""
    return [o.path.stem for o in find_all(paths, work, todo=todo) if o.error is None]


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.csv")}


@pytest.fixture(scope="module")
def whole(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an uninterrupted run over all micrographs writes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert len(done(sorted(made.iterdir()), proposing(out))) == COUNT
    profile = record.read(out).knobs["propose.profile"]
    assert isinstance(profile, list)
    assert len(profile) == 25, "a template was learned"
    return files(out)


def test_the_order_of_the_list_changes_nothing(mics, tmp_path, whole):
    done(mics[::-1], proposing(tmp_path / "out"))
    assert files(tmp_path / "out") == whole


@pytest.mark.parametrize("first", [1, 4, 7])
def test_what_is_left_after_a_kill_is_done_with_the_same_template(mics, tmp_path, whole, first):
    out = tmp_path / "out"
    outcomes = find_all(mics, proposing(out))
    for _ in range(first):
        next(outcomes)
    outcomes.close()
    # Killed after some outputs were written, and before their entries were.
    for file in (out / entries.FOLDER).iterdir():
        file.unlink()
    (out / f"{mics[0].stem}.csv").unlink()
    work = proposing(out)
    todo = work.outputs.missing(mics)
    assert len(todo) == COUNT - first + 1
    done(mics, work, todo)
    assert files(out) == whole
    assert [entry.name for entry in record.read(out).micrographs] == [path.stem for path in mics]


def test_a_list_that_grows_keeps_its_template(mics, tmp_path):
    out, first, grown = tmp_path / "out", mics[:3], mics
    done(first, proposing(out))
    profile = record.read(out).knobs["propose.profile"]
    done(grown, proposing(out), todo=grown[3:])
    assert record.read(out).knobs["propose.profile"] == profile
    assert len(files(out)) == COUNT


def test_a_bad_file_takes_no_place_in_the_sample(mics, tmp_path, whole):
    bad = []
    for name in ("aa", "m00", "mm", "zz"):
        bad.append(mics[0].with_name(f"{name}.mrc"))
        bad[-1].write_bytes(b"no micrograph")
    done(sorted([*mics, *bad]), proposing(tmp_path / "out"))
    assert files(tmp_path / "out") == whole


def test_entries_that_a_kill_lost_are_rebuilt_also_when_nothing_is_left_to_do(mics, tmp_path):
    out = tmp_path / "out"
    done(mics, proposing(out))
    before = record.read(out)
    for file in (out / entries.FOLDER).iterdir():
        file.unlink()
    assert record.read(out).micrographs == ()
    assert done(mics, proposing(out), todo=[]) == []
    assert record.read(out) == before
    assert len(before.micrographs) == COUNT
    assert before.micrographs[0].particles == len(coordinates.read(out / "m0.csv")) > 0


def test_a_folder_that_vanishes_midway_is_an_error(mics, tmp_path):
    out = tmp_path / "out"
    outcomes = find_all(mics, proposing(out))
    next(outcomes)
    shutil.rmtree(out)
    with pytest.raises(OutputError, match=f"{out}: it was removed"):
        list(outcomes)


def back_end(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
    config = planted.CONFIG.with_changes(changes)
    return LoadedNetwork(planted.Dots(), config, Length(8, "px"), 0.3, "cpu")


def picking(out: Path, model: Path, **changes: object) -> Picking:
    knobs = {f"pick.{key}": value for key, value in changes.items()}
    return Picking(Picker(model, knobs, back_end), Outputs(out))


def test_only_the_same_model_threshold_and_knobs_add_to_a_folder(mics, tmp_path):
    out, model, other, moved = (tmp_path / name for name in ("out", "m.dat", "other.dat", "moved.dat"))
    model.write_bytes(b"weights")
    shutil.copy(model, moved)
    other.write_bytes(b"weightS")
    assert len(done(mics[:2], picking(out, model))) == 2
    for same in (
        picking(out, model),
        picking(out, moved),
        picking(out, model, threshold=0.3),
        picking(out, model, batch=1),
    ):
        require_same_settings(same)
    for different, what in (
        (picking(out, other), ["model"]),
        (picking(out, model, threshold=0.4), ["threshold"]),
        (picking(out, model, nms_iou=None), ["pick.nms_iou"]),
        (replace(picking(out, model), diameter=Length(9, "px")), ["diameter"]),
        (picking(out, other, views=2, threshold=0.1), ["model", "threshold", "pick.views"]),
    ):
        assert changed_settings(different) == what
        with pytest.raises(ConfigError, match=f"another {' and '.join(what)}.*leave out --skip-existing"):
            require_same_settings(different)
    assert changed_settings(proposing(out))[:3] == ["model", "command", "diameter"]
    require_same_settings(picking(tmp_path / "empty", other))


def test_what_a_run_with_other_settings_has_not_done_again_does_not_count_as_done(mics, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    done(mics, proposing(out, top_k="3"))
    for file in out.glob("*.csv"):
        os.utime(file, (1, 1))  # long ago
    outcomes = find_all(mics, proposing(out, top_k="5"))
    next(outcomes)
    outcomes.close()
    again = proposing(out, top_k="5")
    todo = again.outputs.missing(mics)
    assert todo == mics[1:]
    done(mics, again, todo)
    assert again.outputs.missing(mics) == []
    done(mics, proposing(other, top_k="5"))
    assert files(out) == files(other)
    # Done anew with the same settings, it is as it was.
    outcomes = find_all(mics, proposing(out, top_k="5"))
    next(outcomes)
    outcomes.close()
    assert again.outputs.missing(mics) == []


def test_what_another_template_found_does_not_count_as_done(mics, tmp_path, whole):
    out = tmp_path / "out"
    done(mics[:3], proposing(out))
    for file in out.glob("*.csv"):
        os.utime(file, (1, 1))
    outcomes = find_all(mics, proposing(out))  # of a longer list
    next(outcomes)
    outcomes.close()
    work = proposing(out)
    done(mics, work, work.outputs.missing(mics))
    assert files(out) == whole


def test_a_folder_without_results_takes_other_settings(mics, tmp_path):
    out = tmp_path / "out"
    outcomes = find_all(mics, proposing(out, top_k="3"))
    next(outcomes)
    outcomes.close()
    for file in [*out.glob("*.csv"), *(out / entries.FOLDER).iterdir()]:
        file.unlink()
    require_same_settings(proposing(out, top_k="5"))


def test_knobs_of_proposals_are_compared_but_for_a_template_that_is_learned(mics, tmp_path):
    out = tmp_path / "out"
    done(mics[:2], proposing(out))
    require_same_settings(proposing(out))
    require_same_settings(proposing(out, profile=record.read(out).knobs["propose.profile"]))
    assert changed_settings(proposing(out, profile=[1.0] * 25)) == ["propose.profile"]
    assert changed_settings(proposing(out, top_k="9")) == ["propose.top_k"]
    assert changed_settings(replace(proposing(out), diameter=Length(250, "A"))) == ["diameter"]


@pytest.mark.parametrize("first", [None, 4.0, 4.8])
@pytest.mark.parametrize("second", [None, 4.0, 4.8])
def test_pixel_sizes_of_headers_and_given_ones_are_compared(mics, tmp_path, first, second):
    out = tmp_path / "out"
    done(mics[:1], replace(proposing(out, template=False), reading=Reading(first)))
    work = replace(proposing(out, template=False), reading=Reading(second))
    same = (first or SCENE.pixel_size_A) == (second or SCENE.pixel_size_A)
    assert changed_settings(work) == ([] if same else ["pixel size"])


def test_weights_are_hashed_once(mics, tmp_path, monkeypatch):
    model, hashed = tmp_path / "m.dat", []
    model.write_bytes(b"weights")
    monkeypatch.setattr("upicker.run.pick._sha256", lambda path: hashed.append(path) or "hash")
    work = picking(tmp_path / "out", model)
    done(mics[:1], work)
    require_same_settings(work)
    done(mics[:2], work, mics[1:2])
    assert hashed == [model]


def test_the_command_line_refuses_to_mix_and_says_how_to_go_on(capsys, mics, tmp_path):
    arguments = ("-o", tmp_path / "out", "--diameter", "260A", "--no-mask")
    assert upicker(capsys, "propose", *mics[:2], *arguments)[0] == 0
    before = files(tmp_path / "out")
    code, _, err = upicker(capsys, "propose", *mics[:3], *arguments, "--top-k", 3, "--skip-existing")
    assert code == 2
    assert "holds results with another propose.top_k" in err
    assert "run.toml" in err
    assert files(tmp_path / "out") == before
    assert upicker(capsys, "propose", *mics[:3], *arguments, "--skip-existing")[0] == 0
    assert len(files(tmp_path / "out")) == 3
    assert upicker(capsys, "propose", *mics[:2], *arguments, "--top-k", 3)[0] == 0
    assert len(coordinates.read(tmp_path / "out/m0.csv")) == 3


def test_a_name_that_is_too_long_for_an_output_fails_only_its_micrograph(capsys, mics, tmp_path):
    long = mics[0].rename(mics[0].with_name(f"{'m' * 250}.mrc"))
    arguments = ("--diameter", "260A", "--no-mask", "--format", "csv,star", "-o", tmp_path / "out")
    for more in ((), ("--skip-existing",)):
        code, _, err = upicker(capsys, "propose", long, *mics[1:3], *arguments, *more)
        assert code == 3
        assert "File name too long" in err
        assert len(list((tmp_path / "out").glob("m?_autopick.star"))) == 2


def test_too_little_memory_for_the_template_is_told(mics, tmp_path, monkeypatch):
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(run_propose, "with_template", no_memory)
    with pytest.raises(InputError, match=r"not enough memory to learn it.*propose\.template=false"):
        list(find_all(mics, proposing(tmp_path / "out")))


def test_a_micrograph_that_needs_too_much_memory_fails_alone_also_in_the_sample(mics, tmp_path, monkeypatch, whole):
    huge = mics[0].with_name("huge.mrc")
    shutil.copy(mics[0], huge)
    by_rows = Reading.by_rows

    def opening(self: Reading, path: Path) -> Micrograph:
        if path == huge:
            raise MemoryError
        return by_rows(self, path)

    monkeypatch.setattr(Reading, "by_rows", opening)
    outcomes = {o.path: o.error for o in find_all([huge, *mics], proposing(tmp_path / "out"))}
    assert [path for path, error in outcomes.items() if error] == [huge]
    assert "not enough memory" in str(outcomes[huge])
    assert files(tmp_path / "out") == whole
