"""Shares of a list, each done by a process of its own, and folders that are merged: the same as one run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import DIAMETER, environment, micrograph, upicker
from hypothesis import given
from hypothesis import strategies as st

from upicker.cli.shares import Share, parse_share
from upicker.errors import ConfigError
from upicker.io import coordinates
from upicker.run import record

PROPOSE = ("--diameter", f"{DIAMETER}px", "--set", "propose.mask=false", "--set", "image.mask=false")
COUNT = 7


@given(st.integers(0, 40), st.integers(1, 12))
def test_shares_are_all_of_a_list_once(count, of):
    paths = [Path(str(number)) for number in range(count)]
    parts = [Share(number, of).select(paths) for number in range(1, of + 1)]
    assert sorted(path for part in parts for path in part) == sorted(paths)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["0/8", "9/8", "0/0", "3", "3/", "/8", "-1/8", "3/8/1", "a/b", "", "1.5/3"])
def test_what_is_no_share_is_refused(text):
    with pytest.raises(ConfigError, match="--share: "):
        parse_share(text)


def test_shares_are_counted_from_one():
    assert parse_share(" 3/8 ") == Share(3, 8)
    assert str(Share(3, 8)) == "3/8"


@pytest.fixture(scope="module")
def mics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "mics"
    for number in range(COUNT):
        micrograph(folder / f"m{number}.mrc", number)
    return folder


@pytest.fixture(scope="module")
def whole(mics: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run over all micrographs."""
    out = tmp_path_factory.mktemp("whole") / "out"
    command = [sys.executable, "-m", "upicker", "propose", str(mics), "-o", str(out), *PROPOSE]
    subprocess.run(command, env=environment(), check=True, capture_output=True)
    return out


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob("*.csv")}


def same(one: Path, other: Path) -> None:
    """The same picks, settings and entries."""
    assert files(one) == files(other)
    assert len(files(one)) == COUNT
    first, second = record.read(one), record.read(other)
    assert first.knobs == second.knobs
    assert first.micrographs == second.micrographs
    unlike = {"time", record.SINCE}
    assert {k: v for k, v in first.about.items() if k not in unlike} == {
        k: v for k, v in second.about.items() if k not in unlike
    }


def test_shares_are_the_same_as_one_run_whichever_is_first(mics, whole, tmp_path, capsys):
    out = tmp_path / "out"
    for number, there in ((2, 2), (3, 4), (1, COUNT)):
        code, text, err = upicker(capsys, "propose", mics, "-o", out, *PROPOSE, "--share", f"{number}/3")
        assert code == 0, err
        assert f"{there} of all {COUNT} micrographs are done" in text + err
    same(out, whole)


def test_shares_that_begin_together_have_the_settings_of_one(mics, whole, tmp_path):
    """None of them sees the others' record when it begins; the first one that is written holds for all."""
    out = tmp_path / "out"
    command = [sys.executable, "-m", "upicker", "propose", str(mics), "-o", str(out), *PROPOSE, "--share"]
    running = [subprocess.Popen([*command, f"{number}/2"], env=environment()) for number in (1, 2)]
    assert [process.wait() for process in running] == [0, 0]
    same(out, whole)


def test_who_loses_the_race_takes_over_what_the_winner_determined(mics, tmp_path, capsys, monkeypatch):
    out, rival = tmp_path / "out", tmp_path / "rival"
    assert upicker(capsys, "propose", mics / "m0.mrc", "-o", rival, *PROPOSE)[0] == 0
    original = record.write_first

    def second(folder: Path, *about: object) -> bool:
        shutil.copy(rival / "run.toml", folder)
        return original(folder, *about)  # type: ignore[arg-type]

    monkeypatch.setattr(record, "write_first", second)
    code, _, err = upicker(capsys, "propose", mics, "-o", out, *PROPOSE, "--share", "1/2")
    assert code == 0, err
    assert record.read(out).knobs["propose.profile"] == record.read(rival).knobs["propose.profile"]


def test_a_requeued_task_does_what_is_missing(mics, whole, tmp_path, capsys):
    out = tmp_path / "out"
    for number in (1, 2):
        assert upicker(capsys, "propose", mics, "-o", out, *PROPOSE, "--share", f"{number}/2")[0] == 0
    (out / "m2.csv").unlink()
    code, text, err = upicker(capsys, "propose", mics, "-o", out, *PROPOSE, "--share", "1/2", "--skip-existing")
    assert code == 0
    assert "in 1 of 1 micrographs" in text + err
    same(out, whole)


def test_an_empty_share_says_so_and_is_no_failure(mics, tmp_path, capsys):
    code, text, err = upicker(capsys, "propose", mics, "-o", tmp_path / "out", *PROPOSE, "--share", "8/8")
    assert code == 0
    assert "share 8/8: there are only 7 micrographs, none for this share" in text + err


def test_a_share_with_other_settings_is_refused_even_before_there_are_results(mics, tmp_path, capsys):
    out = tmp_path / "out"
    assert upicker(capsys, "propose", mics, "-o", out, *PROPOSE, "--share", "1/3")[0] == 0
    for file in files(out):
        (out / file).unlink()
    shutil.rmtree(out / ".upicker")
    code, _, err = upicker(capsys, "propose", mics, "-o", out, *PROPOSE, "--top-k", "3", "--share", "2/3")
    assert code == 2
    assert f"--share: {out} was begun with another propose.top_k" in err
    assert not files(out)


def test_a_share_of_a_list_that_grows_is_refused(mics, tmp_path, capsys):
    code, _, err = upicker(capsys, "propose", mics, "-o", tmp_path / "out", *PROPOSE, "--share", "1/2", "--watch")
    assert code == 2
    assert "--share: it cannot be combined with --watch" in err


def test_shares_of_picks_have_one_precision(mics, tmp_path, capsys, monkeypatch):
    """That of the machine on which the first one runs, whatever the others would take."""
    from upicker.pick import torch_network

    out, words = tmp_path / "out", ("--diameter", f"{DIAMETER}px", "--set", "pick.views=1")
    for number, fast in ((1, True), (2, False)):
        monkeypatch.setattr(torch_network, "_cpu_is_fast_at_bfloat16", lambda fast=fast: fast)
        code, _, err = upicker(capsys, "pick", mics, "-o", out, *words, "--share", f"{number}/{COUNT}")
        assert code == 0, err
        assert record.read(out).knobs["train.bfloat16"] is True


# Merging.


@pytest.fixture
def parts(mics: Path, whole: Path, tmp_path: Path) -> list[Path]:
    """Two folders with the settings of the whole."""
    folders = []
    for number in (1, 2):
        folder = tmp_path / f"part{number}"
        command = ["propose", str(mics), "-o", str(folder), *PROPOSE, "--share", f"{number}/2"]
        subprocess.run([sys.executable, "-m", "upicker", *command], env=environment(), check=True, capture_output=True)
        folders.append(folder)
    return folders


def test_merged_folders_are_one_run_and_merging_may_be_repeated(parts, whole, tmp_path, capsys):
    out = tmp_path / "out"
    for _ in range(2):
        code, text, err = upicker(capsys, "merge", *parts, "-o", out)
        assert code == 0, err
        assert f"in {COUNT} micrographs of 2 folders" in text + err
        same(out, whole)
    assert upicker(capsys, "merge", parts[1], "-o", out)[0] == 0
    same(out, whole)


def test_folders_that_do_not_fit_are_refused_before_anything_is_written(parts, mics, tmp_path, capsys):
    out, other = tmp_path / "out", tmp_path / "other"
    assert upicker(capsys, "propose", mics / "m0.mrc", "-o", other, *PROPOSE, "--top-k", "3")[0] == 0
    code, _, err = upicker(capsys, "merge", parts[0], other, "-o", out)
    assert code == 1
    assert "propose.top_k" in err
    assert "Merge folders of runs with the same settings" in err
    picks = coordinates.read(parts[0] / "m0.csv")
    coordinates.write(parts[1] / "m0.csv", picks.above(float(picks.score[0])), "csv")
    code, _, err = upicker(capsys, "merge", *parts, "-o", out)
    assert code == 1
    assert "1 files differ from those of the same name in another folder: m0.csv" in err
    code, _, err = upicker(capsys, "merge", parts[0], mics, "-o", out)
    assert code == 1
    assert f"{mics}: it has no run.toml" in err
    assert not out.exists()
