"""``upicker pick --fdr``: one threshold for a run, by decoys of a few of its micrographs."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import planted
import pytest
from command_line import upicker

from upicker.errors import ConfigError
from upicker.io import coordinates, mrc
from upicker.pick.decoys import Chance
from upicker.pick.network import LoadedNetwork
from upicker.pick.picker import Picker
from upicker.run import decoys, record
from upicker.run.decoys import Choice, choose, decided
from upicker.run.find import find_all
from upicker.run.outputs import Outputs
from upicker.run.pick import Picking
from upicker.units import Length

COUNT = 12
SHAPE = (203, 331)
STORED = 0.45


class Faint:
    """`planted.Dots` on a micrograph at sigma 1: the score of a pixel is a tenth of its height."""

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return planted.Dots()(tiles / 10)


def back_end(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
    config = planted.CONFIG.with_changes(changes)
    return LoadedNetwork(Faint(), config, Length(8, "px"), STORED, "cpu")


def micrograph(path: Path, seed: int, particles: int) -> Path:
    """Write noise with dark dots, 6.5 times as high as the noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(0, 1, SHAPE)
    xy = planted.scattered(SHAPE, seed)[0][:particles]
    pixels[xy[:, 1], xy[:, 0]] = -6.5
    mrc.write(path, pixels, 2.0)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for number in range(COUNT):
        micrograph(folder / "mics" / f"m{number:02d}.mrc", number, 40)
        micrograph(folder / "empty" / f"e{number:02d}.mrc", number, 0)
    return folder


@pytest.fixture
def mics(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Micrographs in a fresh working folder; weights are read by `back_end`."""
    shutil.copytree(made, tmp_path / "made")
    monkeypatch.chdir(tmp_path)
    Path("model.dat").write_bytes(b"weights")
    monkeypatch.setattr(Picker.__init__, "__defaults__", (None, back_end))
    return Path("made/mics")


def picking(out: str = "out") -> Picking:
    return Picking(Picker(Path("model.dat"), {}, back_end), Outputs(Path(out)))


def pick(capsys: pytest.CaptureFixture[str], folder: Path, *more: object) -> tuple[int, str, str]:
    return upicker(capsys, "pick", folder, "--model", "model.dat", "-o", "out", "--jobs", 1, *more)


def kept() -> list[float]:
    return [score for file in sorted(Path("out").glob("*.csv")) for score in coordinates.read(file).score.tolist()]


def test_the_threshold_keeps_particles_and_little_else(capsys, mics):
    code, out, err = pick(capsys, mics, "--fdr", "5%")
    assert code == 0, err
    about = record.read(Path("out")).about
    threshold = about["threshold"]
    assert f"threshold {threshold:.3f}: " in out
    assert "false by chance" in out
    assert threshold != STORED
    assert about["fdr"] == 0.05
    assert 0 < about["fdr_estimate"] <= 0.05
    assert about["decoy_micrographs"] == decoys.MICROGRAPHS
    assert (about["decoys"] + 1) / about["decoy_picks"] == pytest.approx(about["fdr_estimate"], abs=1e-4)
    scores = kept()
    assert min(scores) >= threshold
    assert 0.95 < len(scores) / (40 * COUNT) < 1.1


def test_a_run_that_goes_on_has_the_threshold_it_had(capsys, mics, monkeypatch):
    assert pick(capsys, mics, "--fdr", 0.05)[0] == 0
    whole, before = kept(), record.read(Path("out")).about
    for name in ("m03", "m07", "m11"):
        Path(f"out/{name}.csv").unlink()

    def never(*_: object) -> None:
        pytest.fail("chosen anew")

    monkeypatch.setattr(decoys, "choose", never)
    code, out, err = pick(capsys, mics, "--fdr", 0.05, "--skip-existing")
    assert code == 0, err
    assert f"threshold {before['threshold']:.3f}, as chosen before" in out
    assert kept() == whole
    after = record.read(Path("out")).about
    assert {key: value for key, value in after.items() if key != "time"} == {
        key: value for key, value in before.items() if key != "time"
    }
    # Nothing is left to do.
    assert pick(capsys, mics, "--fdr", 0.05, "--skip-existing")[0] == 0
    assert kept() == whole


@pytest.mark.parametrize(
    ("more", "what"), [(("--fdr", 0.1), "fdr"), ((), "fdr"), (("--fdr", 0.05, "--set", "pick.views=2"), "pick.views")]
)
def test_a_run_does_not_go_on_with_another_share(capsys, mics, more, what):
    assert pick(capsys, mics, "--fdr", 0.05)[0] == 0
    whole = kept()
    Path("out/m03.csv").unlink()
    code, _, err = pick(capsys, mics, "--skip-existing", *more)
    assert code == 2
    assert what in err
    assert len(kept()) < len(whole)


def test_a_run_by_the_stored_threshold_does_not_go_on_by_decoys(capsys, mics):
    assert pick(capsys, mics)[0] == 0
    Path("out/m03.csv").unlink()
    code, _, err = pick(capsys, mics, "--skip-existing", "--fdr", 0.05)
    assert code == 2
    assert "another fdr" in err
    # Without results the folder takes any settings, and chooses by these.
    shutil.rmtree("out/.upicker")
    for file in Path("out").glob("m*"):
        file.unlink()
    assert pick(capsys, mics, "--skip-existing", "--fdr", 0.05)[0] == 0
    assert record.read(Path("out")).threshold != STORED


def test_nothing_is_picked_where_picks_are_no_more_than_decoys(capsys, mics):
    code, out, err = pick(capsys, mics.with_name("empty"), "--fdr", 0.05)
    assert code == 0
    assert "nothing is there by this measure" in err
    assert "threshold stored" not in err
    assert "0 particles in 12 of 12" in out
    assert record.read(Path("out")).about["threshold_by"] == decoys.NOTHING


def test_too_few_picks_take_the_stored_threshold(capsys, mics, tmp_path):
    micrograph(tmp_path / "few/m.mrc", 3, 9)
    code, _, err = pick(capsys, Path("few"), "--fdr", 0.05)
    assert code == 0
    assert "too few picks to tell" in err
    assert record.read(Path("out")).threshold == STORED
    assert len(kept()) > 5


def test_weights_without_a_threshold_are_told_where_there_are_too_few_picks(capsys, mics, tmp_path, monkeypatch):
    def unvalidated(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
        return replace(back_end(path, changes), threshold=None)

    monkeypatch.setattr(Picker.__init__, "__defaults__", (None, unvalidated))
    micrograph(tmp_path / "few/m.mrc", 3, 9)
    monkeypatch.setattr("upicker.run.decoys.decided", lambda *_: Choice(0.05, 0.3, decoys.TOO_FEW, 0.2, 9, 1, 1))
    _, _, err = pick(capsys, Path("few"), "--fdr", 0.05)
    assert "no threshold is stored with these weights" in err


@pytest.mark.parametrize("more", [("--threshold", 0.4), ("--set", "pick.threshold=0.4")])
def test_a_threshold_and_a_share_are_not_given_together(capsys, mics, more):
    code, _, err = pick(capsys, mics, "--fdr", 0.05, *more)
    assert code == 2
    assert "--fdr: a threshold was given, too" in err
    assert not Path("out").exists()


@pytest.mark.parametrize("share", [0, 1])
def test_a_share_of_none_or_all_is_refused(capsys, mics, share):
    code, _, err = pick(capsys, mics, "--fdr", share)
    assert code == 2
    assert "--fdr" in err


def test_neither_the_order_of_the_list_nor_a_bad_file_changes_the_number_of_micrographs(mics):
    paths = sorted(mics.iterdir())
    found = choose(picking(), paths, 0.05)
    assert choose(picking(), paths[::-1], 0.05) == found
    for path in paths[:3]:
        path.write_bytes(b"no micrograph")
    told: list[tuple[int, int]] = []
    work = picking()
    assert choose(work, paths, 0.05, lambda done, total: told.append((done, total))).micrographs == decoys.MICROGRAPHS
    assert work.picker.threshold == STORED, "it is as it was"
    assert told[0] == (0, decoys.MICROGRAPHS)
    assert max(done for done, _ in told) < decoys.MICROGRAPHS


def test_without_a_micrograph_that_can_be_read_the_stored_threshold_holds(mics):
    for path in mics.iterdir():
        path.write_bytes(b"no micrograph")
    found = choose(picking(), sorted(mics.iterdir()), 0.05)
    assert (found.by, found.threshold, found.micrographs) == (decoys.TOO_FEW, STORED, 0)


def test_a_share_that_no_threshold_reaches_takes_the_lowest_there_is():
    rng = np.random.default_rng(0)
    chance = Chance.of(rng.random(900), rng.random(300))
    found = decided(chance, 0.05, 0.3)
    assert found.by == decoys.LOWEST
    assert found.estimate == chance.fdr(found.threshold) == chance.fdr(chance.picks).min() > 0.05
    assert found.picks == np.sum(chance.picks >= found.threshold)


def test_a_choice_is_read_as_it_was_recorded(tmp_path):
    choice = Choice(0.05, 0.3125, decoys.WANTED, 0.0475, 800, 37, 8)
    record.write(tmp_path, "pick", planted.CONFIG, choice.about())
    assert Choice.read(record.read(tmp_path).about) == choice
    assert decoys.earlier(tmp_path, 0.05) == choice
    assert decoys.earlier(tmp_path, 0.1) is None
    assert Choice.read({}) is None
    assert Choice.read({**choice.about(), "threshold": "high"}) is None


def test_worker_processes_take_the_chosen_threshold(mics):
    work = picking().choosing(Choice(0.05, 0.48, decoys.WANTED, 0.05, 100, 4, 8))
    outcomes = list(find_all(sorted(mics.iterdir())[:2], work, 2))
    assert all(outcome.error is None for outcome in outcomes)
    assert min(kept()) >= 0.48
    with pytest.raises(ConfigError):
        choose(Picking(Picker(Path("model.dat"), {}, any_size), Outputs(Path("out"))), [mics / "m00.mrc"], 0.05)


def any_size(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
    return LoadedNetwork(Faint(), planted.CONFIG.with_changes(changes), None, STORED, "cpu")
