"""``upicker benchmark``: a whole experiment on small pictures, repeated without being done again."""

import csv
from pathlib import Path

import pytest
from command_line import CENTRES, TOY, micrograph, upicker
from test_io_cryoppp import UPSIDE_DOWN, table

from upicker import scoring
from upicker.benchmark.labelled import Data
from upicker.benchmark.trial import split
from upicker.errors import ConfigError
from upicker.io import coordinates, cryoppp
from upicker.particles import Particles
from upicker.units import Length


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "10017"
    (folder / "micrographs").mkdir(parents=True)
    for i in range(5):
        micrograph(folder / "micrographs" / f"mic_{i}.mrc", seed=i)
        table(folder / cryoppp.COORDINATES / f"mic_{i}.csv", UPSIDE_DOWN)
    return folder


def settings(**more):
    return [word for key, value in {**TOY, **more}.items() for word in ("--set", f"{key}={value}")]


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_whole_benchmark(data_set, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["benchmark", "--dataset", data_set, "-o", out, "--seeds", "2", "--labelled", "2", "--unlabelled", "3"]
    command += ["--scratch", *settings(**{"train.pretrain_steps": 2, "train.finetune_steps": 2})]
    code, printed, errors = upicker(capsys, *command)
    assert code == 0, errors
    assert "flipped top to bottom" in printed
    assert "paper: UPicker" in printed
    assert "Seed 1: two stages (step 7 of 8, about 0:" in errors
    table_ = rows(out / "benchmark.csv")
    assert [(row["method"], row["seed"]) for row in table_[:5]] == [
        ("A-LoG and template", "0"),
        ("pretrained", "0"),
        ("two stages", "0"),
        ("from scratch", "0"),
        ("A-LoG and template", "1"),
    ]
    assert [row["learned_from"] for row in table_[:4]] == ["-", "3 U", "3 U, 2 L", "2 L"]
    assert [row["seed"] for row in table_[8:]] == ["mean"] * 4
    # Drawn discs: the filter alone finds them, and nothing else above its threshold.
    assert float(table_[0]["f1"]) == 1.0
    means = [float(table_[i]["f1"]) for i in (2, 6)]
    assert float(table_[10]["f1"]) == pytest.approx(sum(means) / 2, abs=1e-5)
    again = _from_files(out, table_[6], 1)
    assert (again.precision, again.recall, again.f1) == pytest.approx(
        [float(table_[6][key]) for key in ("precision", "recall", "f1")], abs=1e-5
    )
    for name in ("precision-recall.png", "boxes.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    text = (out / "benchmark.md").read_text()
    assert "| paper: UPicker |  |  | 0.855 | 0.950 | 0.900 |" in text
    assert text.count("| mean |") == 4
    _repeat(capsys, command, out)


def _from_files(out, row, seed):
    """Score what the run left behind, micrograph by micrograph, pooled by hand."""
    folder = out / f"seed-{seed}" / "picked-finetune"
    pairs = [(coordinates.read(file), Particles.of(CENTRES, 24.0)) for file in sorted(folder.glob("*.csv"))]
    return scoring.score(pairs, threshold=float(row["threshold"]))


def _repeat(capsys, command, out):
    """Nothing is done again but what is missing; other numbers into the same folder are refused."""
    weights = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert len(weights) == 6
    table_ = (out / "benchmark.csv").read_text()
    (out / "seed-1" / "scratch.json").unlink()
    code, _, errors = upicker(capsys, *command)
    assert code == 0
    assert errors.count("Seed ") == 1
    assert {path: path.stat().st_mtime_ns for path in weights} == weights
    assert _without_times(table_) == _without_times((out / "benchmark.csv").read_text())
    code, _, errors = upicker(capsys, *["1" if word == "2" else word for word in command])
    assert code == 2
    assert "other settings: labelled" in errors


def _without_times(text):
    return [{k: v for k, v in row.items() if k not in ("took_s",)} for row in csv.DictReader(text.splitlines())]


def test_without_pretraining_from_folders(data_set, tmp_path, capsys):
    labels = tmp_path / "set" / "coords"
    labels.mkdir(parents=True)
    for i in range(3):
        coordinates.write(labels / f"mic_{i}.csv", Particles.of(CENTRES, 24.0), "csv")
    command = ["benchmark", "--micrographs", data_set / "micrographs", "--labels", labels, "-o", tmp_path / "out"]
    steps = settings(**{"train.finetune_steps": 1})
    code, printed, errors = upicker(capsys, *command, "--unlabelled", "0", "--seeds", "1", *steps)
    assert code == 0, errors
    assert "set: labels fit as they are" in printed
    assert [row["method"] for row in rows(tmp_path / "out" / "benchmark.csv")] == [
        "A-LoG and template",
        "from scratch",
    ]
    assert "no row for this data set" in (tmp_path / "out" / "benchmark.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no data set was given"),
        (["--dataset", "DATA", "--labels", "."], "were given, too"),
        (["--dataset", "DATA", "--labelled", "9"], "9 is out of range, there are 4 micrographs"),
        (["--dataset", "DATA", "--test", "1.5"], "1.5 is out of range"),
        (["--dataset", "DATA", "--test", "0.99"], "none is left"),
        (["--dataset", "DATA", "--seeds", "0"], "at least one seed"),
    ],
)
def test_refusals(data_set, tmp_path, capsys, words, message):
    given = [data_set if word == "DATA" else word for word in words]
    code, _, errors = upicker(capsys, "benchmark", "-o", tmp_path / "out", "--frame", "flipped", *given)
    assert code == 2
    assert message in " ".join(errors.split())


def named(count, start=0):
    return tuple(Path(f"m{i:03}.mrc") for i in range(start, start + count))


def test_divisions_are_nested_and_keep_the_test_set_apart():
    data = Data("set", named(30), named(10, 100), Path("labels"), Length(100.0, "px"))
    tests = []
    for seed in range(5):
        whole = split(data, seed)
        assert len(whole.test) == 6
        assert len(whole.labelled) == 24
        assert len(whole.unlabelled) == 34
        assert set(whole.labelled) | set(whole.test) == set(data.labelled)
        assert not set(whole.test) & set(whole.unlabelled)
        few, fewer = (split(data, seed, labelled=n, unlabelled=m) for n, m in ((10, 26), (2, 4)))
        assert few.test == fewer.test == whole.test
        assert set(fewer.labelled) < set(few.labelled) < set(whole.labelled)
        assert set(fewer.unlabelled) < set(few.unlabelled) < set(whole.unlabelled)
        assert set(fewer.labelled) <= set(fewer.unlabelled)
        assert len(few.unlabelled) == 26
        tests.append(whole.test)
    assert len(set(tests)) == 5
    fixed = split(data, 3, test=data.labelled[-4:], labelled=2)
    assert fixed.test == data.labelled[-4:]
    assert not set(fixed.unlabelled) & set(fixed.test)
    with pytest.raises(ConfigError, match="36 is out of range, there are 34"):
        split(data, 0, unlabelled=36)
