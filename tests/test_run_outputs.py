"""Outputs of a run, the masks' frame, the matching of names."""

from pathlib import Path

import pytest

from upicker.errors import CoordinatesError, InputError, OutputError
from upicker.io import coordinates
from upicker.particles import Particles
from upicker.run import compare, extract
from upicker.run.outputs import Outputs
from upicker.run.propose import ratios
from upicker.units import Length, parse_length


def test_the_range_of_diameters_becomes_ratios_in_any_unit():
    args = (parse_length("16nm"), parse_length("100px"))
    found = ratios(Length(90, "px"), *args, pixel_size_A=2.0)
    assert found == pytest.approx({"propose.min_ratio": 8 / 9, "propose.max_ratio": 10 / 9})
    assert ratios(Length(90, "px"), None, None, None) == {}


def test_labels_and_picks_meet_by_name(tmp_path):
    for folder, stems in (("labels", "abc"), ("picks", "bcd")):
        for stem in stems:
            coordinates.write(tmp_path / folder / f"{stem}.csv", Particles.of([[5, 6]], 4), "csv")
    found = compare.load(tmp_path / "labels", tmp_path / "picks")
    assert list(found.pairs) == ["a", "b", "c"]
    assert [len(picks) for picks, _ in found.pairs.values()] == [0, 1, 1]
    assert (found.without_picks, found.without_labels) == (["a"], ["d"])
    each, pooled = compare.scores(found)
    assert (each["a"].recall, each["b"].recall, pooled.recall) == (0, 1, pytest.approx(2 / 3))
    (tmp_path / "picks" / "b.csv").rename(tmp_path / "picks" / "x.csv")
    (tmp_path / "picks" / "c.csv").unlink()
    with pytest.raises(InputError, match=r"'d'.*'a'"):
        compare.load(tmp_path / "labels", tmp_path / "picks")


def test_picks_and_labels_of_images_of_other_sizes_are_not_compared(tmp_path):
    """Labels on a picture that was binned by 2 would all be misses."""
    coordinates.write(tmp_path / "labels" / "a.csv", Particles.of([[50, 60]], 40), "csv", shape=(200, 300))
    for shape in ((200, 300), (201, 299), None):
        coordinates.write(tmp_path / "picks" / "a.csv", Particles.of([[50, 60]], 40), "csv", shape=shape)
        assert compare.scores(compare.load(tmp_path / "labels", tmp_path / "picks"))[1].recall == 1
    coordinates.write(tmp_path / "picks" / "a.csv", Particles.of([[25, 30]], 20), "csv", shape=(100, 150))
    with pytest.raises(CoordinatesError, match=r"picks/a.csv: it was made on an image of 150 columns x 100 rows"):
        compare.load(tmp_path / "labels", tmp_path / "picks")


def test_boxes_become_even():
    assert [extract.even(size) for size in (31.0, 32.9, 33.1, 160)] == [32, 32, 34, 160]


@pytest.mark.parametrize("name", ["file/out", "file"])
def test_an_output_that_cannot_be_made_is_named_before_the_work(tmp_path, name):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=str(Path(name).name)):
        Outputs(tmp_path / name).prepare()
