"""Which labels are partial, where labels hold, and what follows for what is learned from."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import CENTRES, DIAMETER, TOY, micrograph, upicker
from test_train_loop import CONFIG, SHAPE, discs

from upicker.errors import CoordinatesError
from upicker.geometry import Frame, Region
from upicker.image.prepare import Prepared
from upicker.io import coordinates
from upicker.io.coverage import FILE, Coverage, read_coverage
from upicker.particles import Particles
from upicker.train.holdback import regions
from upicker.train.labels import LabelledMicrograph, by_region, edge_margin
from upicker.train.partial import training_region


def truth_of(seed: int = 0, **changes) -> LabelledMicrograph:
    pixels, xy = discs(seed)
    return LabelledMicrograph(Prepared(pixels, Frame(SHAPE, SHAPE), 16.0), Particles.of(xy, 16.0), **changes)


def write_coverage(folder: Path, text: str) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(text)
    files = [folder / f"{stem}.csv" for stem in ("a", "b_autopick", "c")]
    for file in files:
        file.write_text("x,y\n")
    return files


def test_coverage_is_read_by_name(tmp_path):
    files = write_coverage(
        tmp_path, "name,coverage,x0,y0,x1,y1\na,partial,,,,\n# a remark\nb,,10,20,30.5,40\nb,,50,20,70,40\n"
    )
    found = read_coverage(tmp_path, partial=True)
    assert found[files[0]] == Coverage(True)
    assert found[files[1]] == Coverage(False, (Region(10, 20, 30.5, 40), Region(50, 20, 70, 40)))
    assert found[files[2]] == Coverage(True)  # not named: what the command line says
    (tmp_path / FILE).unlink()
    assert read_coverage(tmp_path, partial=False) == dict.fromkeys(files, Coverage())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,coverage\nz,partial\n", "no labels for 'z'"),
        ("name,coverage\na,some\n", "line 2: unknown coverage 'some'"),
        ("name,coverage\n,partial\n", "line 2 has no name"),
        ("name,cover\na,partial\n", "header"),
        ("", "header"),
        ("name,coverage,x0,y0,x1,y1\na,partial,1,2,3\n", "not a rectangle"),
        ("name,coverage,x0,y0,x1,y1\na,,10,2,3,4\n", "not a rectangle"),
        ("name,coverage\na,partial\na,complete\n", "has an earlier row"),
    ],
)
def test_coverage_that_cannot_be_is_refused(tmp_path, text, message):
    with pytest.raises(CoordinatesError, match=message):
        read_coverage(write_coverage(tmp_path, text)[0].parent, partial=False)


def test_a_region_is_all_that_is_learned_from_and_validated_on():
    truth = truth_of()
    region = Region(20.2, 15.2, 99.2, 80.2)
    (part,) = by_region(truth, Coverage(False, (region,)))
    assert regions(part, 0.0, 0.0) == (region, None)
    learned = training_region(part, region, CONFIG).initial_sample()
    assert learned.pixels.shape == (65, 79)
    assert len(learned.xy) == region.contains(truth.particles.xy).sum() > 3
    low, high = regions(replace(part, prepared=replace(part.prepared, diameter_px=10.0)), 0.0, 0.5)
    assert low is not None
    assert high is not None
    assert (low.y0, low.y1, high.y1) == (15.2, high.y0, 80.2)
    assert regions(replace(part, region=Region(500, 500, 600, 600)), 0.0, 0.0) == (None, None)


def test_neither_a_region_nor_labels_in_the_middle_pass_for_a_margin():
    middle = np.random.default_rng(0).uniform(300, 700, (200, 2))
    truth = LabelledMicrograph(
        Prepared(np.zeros((250, 250), np.float32), Frame((1000, 1000), (250, 250)), 64.0), Particles.of(middle, 64.0)
    )
    assert edge_margin([truth]) > 4
    assert edge_margin([replace(truth, region=Region(300, 300, 700, 700))]) == 0
    assert edge_margin([replace(truth, partial=True)]) == 0
    rim = Particles.of(np.random.default_rng(0).uniform(64, 936, (900, 2)), 64.0)
    assert edge_margin([replace(truth, particles=rim, partial=True)]) == pytest.approx(1.0, abs=0.05)


def test_a_file_says_which_labels_are_partial_and_where_they_hold(tmp_path, monkeypatch, capsys):
    for seed in range(3):
        micrograph(tmp_path / "mics" / f"m{seed}.mrc", seed)
        coordinates.write(tmp_path / "labels" / f"m{seed}.csv", Particles.of(CENTRES[[0, 3]], DIAMETER), "csv")
    monkeypatch.setattr("upicker.train.stage._draw", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    settings = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]
    settings += ["--set", "teacher.start_steps=1"]
    write_coverage(Path("labels"), "name,coverage,x0,y0,x1,y1\nm0,partial,,,,\nm1,,20,20,160,200\nm1,,170,20,300,200\n")
    args = ("finetune", "mics", "--labels", "labels", "-o", "m.safetensors", *settings)
    code, out, err = upicker(capsys, *args, "--validation", 0)
    assert code == 0, err
    assert "on 3 of 3 micrographs" in out
    with Path("m.log.csv").open(newline="") as file:
        assert [row["step"] for row in csv.DictReader(file) if row["unsure"]] == ["2"]
    Path("labels", FILE).write_text("name,coverage\nm7,partial\n")
    assert upicker(capsys, *args)[0] == 1
