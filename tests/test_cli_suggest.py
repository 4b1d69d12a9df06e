"""``upicker suggest`` through the command line, with a network of toy size."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import CENTRES, DIAMETER, TOY, micrograph, upicker

from upicker.cli.app import run
from upicker.io import coordinates
from upicker.model import weights as weights_file
from upicker.particles import Particles

SETTINGS = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Weights of a few steps, and six micrographs beside them, of which one is completely labelled."""
    folder = tmp_path_factory.mktemp("suggest")
    (folder / "mics").mkdir()
    (folder / "labels").mkdir()
    for number in range(6):
        micrograph(folder / "mics" / f"m{number}.mrc", number)
    coordinates.write(folder / "labels" / "m2.csv", Particles.of(CENTRES, DIAMETER), "csv")
    coordinates.write(folder / "labels" / "m4.csv", Particles.of(CENTRES[:2], DIAMETER), "csv")
    (folder / "labels" / "coverage.csv").write_text("name,coverage\nm4,partial\n")
    output = folder / "m.safetensors"
    assert run(["pretrain", str(folder / "mics"), "-o", str(output), "--diameter", "24px", *SETTINGS]) == 0
    return output


@pytest.fixture
def here(weights, monkeypatch, tmp_path) -> Path:
    """The current folder, with links to the weights and what lies beside them."""
    monkeypatch.chdir(tmp_path)
    for name in ("m.safetensors", "mics", "labels"):
        Path(name).symlink_to(weights.with_name(name))
    return tmp_path


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_labels_may_be_one_file(here, capsys):
    listed = "".join(f"m2,{x},{y},{DIAMETER}\n" for x, y in CENTRES)
    Path("all.csv").write_text(f"micrograph,x,y,diameter\n{listed}other,1,2,3\n")
    args = ("suggest", "mics", "--model", "m.safetensors", "-o", "r.csv", "--labels", "all.csv")
    code, out, err = upicker(capsys, *args)
    assert (code, err) == (0, "")
    assert "5 of 5 micrographs ranked" in out
    assert "m2.mrc" not in {Path(row["micrograph"]).name for row in rows("r.csv")}


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (None, "they were not validated: doubt is measured from 0.3"),
        (1.0, "found no particle in validation"),
        (0.4, ""),
    ],
)
def test_weights_without_a_threshold_that_means_something(here, capsys, threshold, words):
    model, header, _ = weights_file.load(Path("m.safetensors"))
    weights_file.save(Path("other.safetensors"), model, replace(header, threshold=threshold, thresholds={}))
    code, out, err = upicker(capsys, "suggest", "mics", "--model", "other.safetensors")
    assert code == 0
    assert "6 of 6 micrographs ranked" in out
    assert words in err if words else not err


def test_a_ranking_is_printed_and_written(here, capsys):
    args = ("suggest", "mics", "--model", "m.safetensors", "-o", "r.csv", "--top", 2)
    code, out, err = upicker(capsys, *args)
    assert (code, err) == (0, "")
    found = rows("r.csv")
    assert [row["rank"] for row in found] == ["1", "2", "3", "4", "5", "6"]
    assert {Path(row["micrograph"]).name for row in found} == {f"m{number}.mrc" for number in range(6)}
    scores = [float(row["score"]) for row in found]
    assert scores == sorted(scores, reverse=True)
    lines = [line.split() for line in out.splitlines()]
    shown = [words for words in lines if words and words[0] in {"1", "2", "3"}]
    assert [words[1] for words in shown] == [Path(row["micrograph"]).name for row in found[:2]]
    assert "6 of 6 micrographs ranked; 4 more are not shown -> r.csv" in out


def test_completely_labelled_micrographs_are_left_out(here, capsys):
    code, out, _ = upicker(capsys, "suggest", "mics", "--model", "m.safetensors", "--labels", "labels", "-o", "r.csv")
    assert code == 0
    assert {Path(row["micrograph"]).name for row in rows("r.csv")} == {f"m{n}.mrc" for n in (0, 1, 3, 4, 5)}
    assert "5 of 5 micrographs ranked" in out


def test_several_processes_rank_alike(here, capsys):
    for jobs in (1, 2):
        args = ("--model", "m.safetensors", "-o", f"r{jobs}.csv", "--jobs", jobs)
        assert upicker(capsys, "suggest", "mics", *args)[0] == 0
    assert Path("r1.csv").read_bytes() == Path("r2.csv").read_bytes()


def test_a_broken_micrograph_is_named_and_the_others_are_ranked(here, capsys):
    Path("bad.mrc").write_bytes(b"not an image")
    code, out, err = upicker(capsys, "suggest", "mics", "bad.mrc", "--model", "m.safetensors", "-o", "r.csv")
    assert code == 3
    assert "Skipped bad.mrc" in err
    assert "6 of 7 micrographs ranked" in out
    assert len(rows("r.csv")) == 6
    code, _, err = upicker(capsys, "suggest", "bad.mrc", "--model", "m.safetensors")
    assert code == 1
    assert "No micrograph could be ranked" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("mics", "--model", "no.safetensors"), 1, "no.safetensors"),
        (("--model", "m.safetensors"), 2, "no micrographs were given"),
        (("mics", "--model", "m.safetensors", "--top", "0"), 2, "--top"),
        (("mics", "--model", "m.safetensors", "--labels", "nowhere"), 1, "nowhere"),
        (("mics/m2.mrc", "--model", "m.safetensors", "--labels", "labels"), 1, "completely labelled"),
        (("mics", "--model", "m.safetensors", "-o", "m.safetensors/r.csv"), 1, "r.csv"),
        (("mics", "--model", "m.safetensors", "--set", "pick.nothing=1"), 2, "pick.nothing"),
    ],
)
def test_what_is_wrong_is_said(here, capsys, arguments, code, words):
    found, _, err = upicker(capsys, "suggest", *arguments)
    assert (found, words in err) == (code, True), err
    assert sorted(path.name for path in here.iterdir()) == ["labels", "m.safetensors", "mics"]
