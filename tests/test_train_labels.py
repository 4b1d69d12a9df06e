"""Which labels belong to which micrograph, and what is held back for validation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from upicker.errors import CoordinatesError, InputError
from upicker.geometry import Frame, Region
from upicker.image.prepare import Prepared
from upicker.io import coordinates
from upicker.io.atomic import replacing
from upicker.io.micrographs import Reading
from upicker.io.picks import Picks
from upicker.io.sources import by_micrograph
from upicker.particles import Particles
from upicker.train.dataset import sample_from
from upicker.train.holdback import all_regions, regions
from upicker.train.labels import FEW, LabelledMicrograph, edge_margin, median_diameter, read_pair, split, spread
from upicker.units import Length


def label(folder: Path, *stems: str, diameter: float = 20.0, xy: object = ((30.0, 40.0), (50.0, 60.0))) -> Path:
    for stem in stems:
        coordinates.write(folder / f"{stem}.csv", Particles.of(xy, diameter), "csv")
    return folder


def mics(*stems: str) -> list[Path]:
    return [Path("mics") / f"{stem}.mrc" for stem in stems]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.34, 0.4, 0.5, 0.75, 0.9, 0.99])
@pytest.mark.parametrize("n", [FEW, FEW + 1, 21, 30])
def test_a_fraction_of_many_micrographs_is_held_back_whole(tmp_path, n, share):
    stems = [f"m{i:02d}" for i in range(n)]
    division = split(mics(*stems), label(tmp_path, *stems), share)
    assert division.band == 0
    assert set(division.training) | set(division.validation) == set(mics(*stems))
    assert not set(division.training) & set(division.validation)
    assert 1 <= len(division.validation) < n
    assert abs(len(division.validation) - share * n) <= 1
    assert all(file.stem == path.stem for path, file in {**division.training, **division.validation}.items())


def test_a_fraction_of_few_micrographs_is_a_band_of_each(tmp_path):
    stems = [f"m{i}" for i in range(FEW - 1)]
    division = split(mics(*stems), label(tmp_path, *stems), 0.2)
    assert (division.band, division.validation, len(division.training)) == (0.2, {}, FEW - 1)


@pytest.mark.parametrize("other", [0.2, "held"])
def test_endings_of_names_that_were_seen_through_are_told(tmp_path, other):
    held = label(tmp_path / "held", "b_bad") if other == "held" else other
    labels = label(tmp_path / "labels", "a" if other == "held" else "a_bad", "c")
    assert split(mics("a", "b", "c"), labels, held).differing.startswith("names differ by '_bad'")
    assert split(mics("a", "c"), label(tmp_path / "exact", "a", "c"), 0.2).differing == ""


@pytest.mark.parametrize("n", [1, FEW - 1, FEW + 3])
def test_without_validation_everything_is_trained_on(tmp_path, n):
    stems = [f"m{i}" for i in range(n)]
    division = split(mics(*stems), label(tmp_path, *stems), 0.0)
    assert (len(division.training), division.validation, division.band) == (n, {}, 0.0)


def test_a_folder_of_labels_names_what_is_validated_on(tmp_path):
    labels = label(tmp_path / "labels", "a", "b", "c", "y")
    held = label(tmp_path / "held", "c", "d", "z")
    division = split(mics("a", "b", "c", "d", "e"), labels, held)
    assert set(division.training) == set(mics("a", "b"))
    assert division.validation == {Path("mics/c.mrc"): held / "c.csv", Path("mics/d.mrc"): held / "d.csv"}
    assert division.band == 0
    assert set(division.unused) >= {Path("mics/e.mrc"), labels / "y.csv"}
    assert Path("mics/d.mrc") not in division.unused


def test_a_folder_that_holds_all_back_is_an_error(tmp_path):
    labels, held = label(tmp_path / "labels", "a"), label(tmp_path / "held", "a")
    with pytest.raises(InputError, match="all labelled micrographs are for validation"):
        split(mics("a"), labels, held)


def truth(
    xy: np.ndarray, shape: tuple[int, int] = (301, 277), diameter: float = 9.0, held: bool = False
) -> LabelledMicrograph:
    """A labelled micrograph at its own scale, each pixel of which tells where it is."""
    pixels = np.add.outer(1000.0 * np.arange(shape[0]), np.arange(shape[1])).astype(np.float32)
    return LabelledMicrograph(Prepared(pixels, Frame(shape, shape), diameter), Particles.of(xy, diameter), held)


def lattice(shape: tuple[int, int], margin: float) -> np.ndarray:
    """A particle at every tenth pixel, at least `margin` pixels from the pixels at the edge; half pixels included."""
    x = np.arange(margin, shape[1] - 0.99 - margin, 9.5)
    y = np.arange(margin, shape[0] - 0.99 - margin, 4.75)
    x, y = np.meshgrid(x, y)
    return np.stack([x.ravel(), y.ravel()], 1)


@pytest.mark.parametrize("band", [0.2, 0.33, 0.5, 0.61])
@pytest.mark.parametrize("margin", [0.0, 1.5])
def test_training_and_validation_regions_divide_the_labels(band, margin):
    whole = truth(lattice((301, 277), 9.0 * margin))
    learn, check = regions(whole, margin, band)
    assert learn is not None
    assert check is not None
    xy = whole.particles.xy
    assert (learn.contains(xy) ^ check.contains(xy)).all()
    share = (check.y1 - check.y0) / (check.y1 - learn.y0)
    assert share == pytest.approx(band)


@pytest.mark.parametrize("every", [2, 3, 4, 5, 10])
def test_one_in_a_few_is_spread_evenly(every):
    assert spread(4 * every, 1 / every) == set(range(every // 2, 4 * every, every))
    assert spread(1, 0.2) == {0}


def test_bands_without_labels_give_way_to_whole_micrographs():
    above, everywhere = lattice((301, 277), 0), lattice((301, 277), 0)
    above = above[above[:, 1] < 200]
    many = [truth(above) for _ in range(6)]
    whole = (regions(many[0], 0.0, 0.0)[0], None)
    assert all_regions(many, 0.0, 0.2) == [whole, whole, whole[::-1], whole, whole, whole]
    assert all_regions(many, 0.0, 0.0) == 6 * [whole]
    assert all_regions([*many, truth(everywhere)], 0.0, 0.2) == 7 * [regions(many[0], 0.0, 0.2)]


def held_back(micrographs: list[LabelledMicrograph], fraction: float) -> tuple[float, float]:
    """Divide micrographs, check that it is a division, and return the fractions of labels and rows to validate on."""
    parts = all_regions(micrographs, 0.0, fraction)
    total, labels, rows = 0, 0.0, 0.0
    for one, (learn, check) in zip(micrographs, parts, strict=True):
        inside = [
            np.zeros(len(one.particles), bool) if r is None else r.contains(one.particles.xy) for r in (learn, check)
        ]
        assert (inside[0] ^ inside[1]).all()
        for part in (learn, check):
            assert part is None or part.y1 - part.y0 >= 3 * one.diameter_px - 1e-6
        total, labels = total + len(one.particles), labels + inside[1].sum()
        rows += 0 if check is None else (check.y1 - check.y0) / 301 / len(micrographs)
    return labels / total, rows


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.4, 0.75, 0.9])
@pytest.mark.parametrize("number", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("diameters", [6.1, 8.0, 14.0, 40.0])
def test_of_a_few_micrographs_about_the_fraction_is_held_back_whatever_their_size(fraction, number, diameters):
    """A part is at least three diameters high, and a whole micrograph is one of few: nearer is not possible."""
    some = [truth(lattice((301, 277), 0), diameter=301 / diameters) for _ in range(number)]
    labels, rows = held_back(some, fraction)
    steps = [3 / diameters / number, 1 / number] if number > 1 else [3 / diameters]
    assert 0 < labels < 1
    assert abs(rows - fraction) < max(0.02, *steps)
    assert labels == pytest.approx(rows, abs=0.05)


def test_labels_that_lie_together_are_divided_too():
    """If the lowest fifth has none, a fifth of the labels is held back."""
    for low, high in ((0, 100), (0, 200), (40, 150)):
        xy = lattice((301, 277), 0)
        xy = xy[(xy[:, 1] >= low) & (xy[:, 1] < high)]
        for number in (1, 3):
            labels, _ = held_back([truth(xy)] * number, 0.2)
            assert labels == pytest.approx(0.2, abs=0.1)


def test_micrographs_that_are_too_low_to_divide_are_held_back_whole():
    low = [truth(lattice((301, 277), 0), diameter=301 / 4) for _ in range(3)]
    assert held_back(low, 0.2)[0] == pytest.approx(1 / 3)
    assert all_regions(low[:1], 0.0, 0.2) == [regions(low[0], 0.0, 0.0)]


def test_never_are_all_labels_held_back():
    one_label = truth(np.array([[100.0, 290.0]]))
    assert all_regions([one_label], 0.0, 0.2) == [regions(one_label, 0.0, 0.0)]
    empty = truth(np.zeros((0, 2)))
    [(_, first), (_, second)] = all_regions([one_label, truth(np.array([[100.0, 20.0], [50.0, 280.0]]))], 0.0, 0.2)
    assert first
    assert second
    assert all_regions([one_label, empty], 0.0, 0.2) == 2 * [regions(empty, 0.0, 0.0)]


def test_partial_labels_are_not_held_back():
    some = [replace(truth(lattice((301, 277), 0)), partial=place > 0) for place in range(7)]
    found = all_regions(some, 0.0, 0.2)
    assert found == [regions(some[0], 0.0, 0.2), *6 * [(regions(some[0], 0.0, 0.0)[0], None)]]
    assert {check for _, check in all_regions(some[1:], 0.0, 0.2)} == {None}


@pytest.mark.parametrize(("band", "diameter"), [(0.0, 9.0), (0.05, 9.0), (0.95, 9.0), (0.5, 60.0), (1.0, 9.0)])
def test_a_part_lower_than_three_diameters_is_not_split_off(band, diameter):
    learn, check = regions(truth(lattice((301, 277), 0), diameter=diameter), 0.0, band)
    assert learn == Region(-0.5, -0.5, 276.5, 300.5)
    assert check is None


def test_a_micrograph_held_back_is_validated_on_inside_the_margin():
    assert regions(truth(lattice((301, 277), 0), held=True), 2.0, 0.2) == (None, Region(17.5, 17.5, 258.5, 282.5))


def test_a_sample_of_a_region_holds_its_pixels_and_its_particles():
    whole = truth(lattice((301, 277), 14.0))
    region = Region(13.5, 20.5, 200.5, 100.5)
    part = sample_from(whole.prepared, whole.particles, region)
    assert part.pixels.shape == (80, 187)
    assert len(part.xy) == region.contains(whole.particles.xy).sum() > 0
    whole_numbers = part.xy[(part.xy % 1 == 0).all(1)].astype(int)
    assert len(whole_numbers)
    expected = 1000 * (whole_numbers[:, 1] + 21) + whole_numbers[:, 0] + 14
    np.testing.assert_array_equal(part.pixels[whole_numbers[:, 1], whole_numbers[:, 0]], expected)


@pytest.mark.parametrize("margin", [0.6, 1.2, 3.0])
def test_a_margin_that_all_labels_leave_is_found(margin):
    both = [truth(lattice(shape, margin * 9.0), shape) for shape in ((301, 277), (211, 390))]
    assert edge_margin(both) == pytest.approx(margin, abs=0.02)


def test_no_margin_is_seen_in_labels_that_lie_anywhere():
    rng = np.random.default_rng(5)
    for count in (1, 3, 10, 100, 1000):
        for _ in range(40):
            assert edge_margin([truth(rng.uniform(-0.5, (276.5, 300.5), (count, 2)))]) == 0
    assert edge_margin([truth(np.zeros((0, 2)))]) == 0


def test_the_median_diameter_is_that_of_all_labels_that_have_one(tmp_path):
    label(tmp_path, "a", diameter=20.0)
    label(tmp_path, "b", diameter=30.0, xy=np.ones((5, 2)))
    label(tmp_path, "c", diameter=float("nan"), xy=np.ones((50, 2)))
    assert median_diameter([tmp_path / f"{s}.csv" for s in "abc"]) == Length(30.0, "px")
    with pytest.raises(InputError, match=r"c\.csv.*no diameter.*--diameter"):
        median_diameter([tmp_path / "c.csv"])


def test_the_median_diameter_of_labels_in_angstrom_and_of_refined_particles(tmp_path):
    """cryoSPARC's diameters are in Angstrom; positions that need the micrograph's pixel size do not matter here."""
    picks = [Picks(f"{s}.mrc", Particles.of([(30.0, 40.0)], 25.0), (70, 90), 2.0) for s in "ab"]
    coordinates.write_all(tmp_path / "picks.cs", picks, "cs")
    sources = list(by_micrograph(tmp_path / "picks.cs").values())
    assert median_diameter(sources).value == pytest.approx(25.0)
    assert median_diameter(sources, pixel_size_A=1.0).value == pytest.approx(50.0)
    refined = tmp_path / "a.star"
    refined.write_text("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginXAngst\n30 40 6\n")
    with pytest.raises(InputError, match="no diameter"):
        median_diameter([refined])


def write_micrograph(path: Path, shape: tuple[int, int]) -> Path:
    import tifffile

    with replacing(path) as beside:
        tifffile.imwrite(beside, np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    return path


def test_a_pair_is_read_and_all_labels_get_the_one_diameter(tmp_path):
    path = write_micrograph(tmp_path / "a.tif", (70, 90))
    file = label(tmp_path, "a", diameter=33.0) / "a.csv"
    micrograph, particles = read_pair(path, file, Length(36.0, "A"), Reading(1.5))
    assert micrograph.shape == (70, 90)
    np.testing.assert_allclose(particles.xy, [[30, 40], [50, 60]])
    np.testing.assert_allclose(particles.diameter_px, 24.0)


def test_origins_of_labels_are_converted_with_the_micrographs_pixel_size(tmp_path):
    path = write_micrograph(tmp_path / "a.tif", (70, 90))
    file = tmp_path / "a.star"
    file.write_text("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginXAngst\n30 40 6\n")
    _, particles = read_pair(path, file, Length(36.0, "A"), Reading(1.5))
    np.testing.assert_allclose(particles.xy, [[26, 40]])


def test_labels_of_another_micrograph_are_refused(tmp_path):
    path = write_micrograph(tmp_path / "a.tif", (70, 90))
    file = label(tmp_path, "a", xy=np.random.default_rng(0).uniform(0, 500, (40, 2))) / "a.csv"
    with pytest.raises(CoordinatesError, match=r"a\.csv"):
        read_pair(path, file, Length(24.0, "px"), Reading())
