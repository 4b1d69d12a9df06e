"""Boxes hold the right pixels, and their backgrounds have mean 0 and deviation 1."""

import numpy as np
import pytest

from upicker.errors import ConfigError
from upicker.particles import Micrograph, Particles
from upicker.pick.extract import Boxing, extract

SHAPE = (150, 211)
ROW, COLUMN = np.mgrid[: SHAPE[0], : SHAPE[1]]


def ice(offset: float = 1000.0, slope: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    noise = np.random.default_rng(1).normal(offset, 20, SHAPE)
    return (noise + slope[0] * COLUMN + slope[1] * ROW).astype(np.float32)


def background(box_px: int, diameter: float) -> np.ndarray:
    row, column = np.mgrid[:box_px, :box_px] - box_px // 2
    return row**2 + column**2 > (diameter / 2) ** 2


def test_raw_boxes_are_the_stored_pixels_with_the_centre_at_half_the_box() -> None:
    picture = Micrograph(ice(), "mic")
    boxes = extract(picture, Particles.of([(60, 40), (100.4, 80.5)]), Boxing(32, invert=False, normalise=False))
    np.testing.assert_array_equal(boxes.stack[0], picture.pixels[24:56, 44:76])
    np.testing.assert_array_equal(boxes.stack[1], picture.pixels[65:97, 84:116])
    assert boxes.stack.dtype == np.float32
    assert boxes.stack[0, 16, 16] == picture.pixels[40, 60]


def test_a_dark_disc_lies_bright_at_the_centre_of_its_box() -> None:
    pixels, x, y = ice(), 83.3, 61.6
    pixels -= 400 * ((COLUMN - x) ** 2 + (ROW - y) ** 2 < 8**2)
    box = extract(Micrograph(pixels, "mic"), Particles.of([(x, y)], 16), Boxing(40)).stack[0]
    weight = np.clip(box - 8, 0, None)
    row, column = np.mgrid[:40, :40]
    assert weight.sum() > 0
    # Cut at whole pixels: at most half a pixel off.
    assert (weight * column).sum() / weight.sum() == pytest.approx(20 + (x - 83), abs=0.15)
    assert (weight * row).sum() / weight.sum() == pytest.approx(20 + (y - 62), abs=0.15)


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_the_background_has_mean_0_and_deviation_1_and_no_slope(offset: float) -> None:
    pixels = ice(offset, slope=(1.3, -0.8))
    particles = Particles.of(np.random.default_rng(2).uniform(40, (170, 110), (37, 2)))
    boxes = extract(Micrograph(pixels, "mic"), particles, Boxing(48))
    assert boxes.stack.shape == (37, 48, 48)
    outside = boxes.stack[:, background(48, 36)].astype(np.float64)
    np.testing.assert_allclose(outside.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(outside.std(1), 1, atol=1e-5)
    place = np.argwhere(background(48, 36)) - 24
    slopes = np.linalg.lstsq(np.c_[place, np.ones(len(place))], outside.T, rcond=None)[0][:2]
    np.testing.assert_allclose(slopes, 0, atol=1e-5)


def test_normalisation_agrees_with_a_plain_double_precision_one() -> None:
    pixels = ice(3e4, slope=(0.5, 0.25))
    particles = Particles.of([(50, 60), (120, 71)])
    found = extract(Micrograph(pixels, "mic"), particles, Boxing(50, background_diameter_px=30)).stack
    row, column = np.mgrid[:50, :50]
    outside = background(50, 30)
    design = np.stack([np.ones_like(row), row, column], -1).astype(float)
    for (x, y), box in zip(particles.xy.astype(int), found, strict=True):
        raw = pixels[y - 25 : y + 25, x - 25 : x + 25].astype(float)
        flat = raw - design @ np.linalg.lstsq(design[outside], raw[outside], rcond=None)[0]
        np.testing.assert_allclose(box, -(flat - flat[outside].mean()) / flat[outside].std(), atol=2e-4)


def test_without_ramp_the_slope_stays_and_inverting_is_a_sign() -> None:
    picture, particles = Micrograph(ice(slope=(3, 0)), "mic"), Particles.of([(100, 70)])
    plain = extract(picture, particles, Boxing(48, ramp=False, invert=False)).stack[0]
    assert plain[:, -6:].mean() - plain[:, :6].mean() > 2
    np.testing.assert_array_equal(extract(picture, particles, Boxing(48, ramp=False)).stack[0], -plain)


def test_boxes_beyond_the_rim_are_dropped_and_counted() -> None:
    at_rim = [(16, 16), (211 - 16, 150 - 16), (15.4, 60), (60, 15.4), (211 - 15.4, 60), (60, 150 - 15.4)]
    particles = Particles.of(at_rim, 20, np.linspace(1, 0.5, 6))
    boxes = extract(Micrograph(ice(), "mic"), particles, Boxing(32))
    assert (len(boxes.stack), boxes.dropped) == (2, 4)
    np.testing.assert_array_equal(boxes.particles.xy, at_rim[:2])
    np.testing.assert_array_equal(boxes.particles.score, particles.score[:2])
    none = extract(Micrograph(ice(), "mic"), Particles.of([]), Boxing(32))
    assert none.stack.shape == (0, 32, 32)


def test_the_circle_follows_a_particle_larger_than_three_quarters_of_the_box() -> None:
    picture = Micrograph(ice(), "mic")
    for diameter, circle in ((20, 36), (44, 44), (90, 48)):
        box = extract(picture, Particles.of([(100, 70)], diameter), Boxing(48)).stack[0]
        assert box[background(48, circle)].std() == pytest.approx(1, abs=1e-5)


def test_non_finite_pixels_and_a_flat_background_give_finite_boxes() -> None:
    pixels = ice()
    pixels[60:64, 90:95] = np.nan, np.inf, -np.inf, np.nan, np.nan
    boxes = extract(Micrograph(pixels, "mic"), Particles.of([(95, 65)]), Boxing(40))
    assert np.isfinite(boxes.stack).all()
    assert np.isnan(pixels[60, 90])
    blank = extract(Micrograph(np.full(SHAPE, 7, np.float32), "mic"), Particles.of([(95, 65)]), Boxing(40))
    np.testing.assert_array_equal(blank.stack, np.zeros((1, 40, 40)))


@pytest.mark.parametrize(
    ("boxing", "found"),
    [
        (Boxing(31), "even"),
        (Boxing(2), "even"),
        (Boxing(152), "mic.*150 rows"),
        (Boxing(32, background_diameter_px=40), "circle"),
        (Boxing(32, 34), "--scale.*34 px"),
        (Boxing(32, 15), "--scale.*15 px"),
    ],
)
def test_impossible_boxes_are_refused(boxing: Boxing, found: str) -> None:
    with pytest.raises(ConfigError, match=found):
        extract(Micrograph(ice(), "mic"), Particles.of([(100, 70)]), boxing)


def test_many_boxes_are_the_boxes_one_by_one() -> None:
    picture = Micrograph(ice(), "mic")
    particles = Particles.of(np.random.default_rng(4).uniform(30, (180, 120), (40, 2)))
    together = extract(picture, particles, Boxing(40)).stack
    single = [extract(picture, particles.select(np.array([i])), Boxing(40)).stack[0] for i in range(40)]
    np.testing.assert_allclose(together, single, atol=1e-5)


def test_padded_boxes_repeat_the_rim_and_none_is_dropped() -> None:
    picture = Micrograph(ice(), "mic")
    at_rim = [(3, 4), (205.2, 146.6), (100, 70)]
    boxes = extract(picture, Particles.of(at_rim), Boxing(32, invert=False, normalise=False, pad=True))
    padded = np.pad(picture.pixels, 32, mode="edge")
    for (x, y), box in zip(np.rint(at_rim).astype(int), boxes.stack, strict=True):
        np.testing.assert_array_equal(box, padded[y + 16 : y + 48, x + 16 : x + 48])
    assert boxes.dropped == 0


def test_scaling_keeps_low_frequencies_and_their_amplitude() -> None:
    wave = 5 + 3 * np.cos(2 * np.pi * (2 * COLUMN / 48 + ROW / 24)) + np.cos(2 * np.pi * 20 * COLUMN / 48)
    boxing = Boxing(48, 24, invert=False, normalise=False)
    (box,) = extract(Micrograph(wave.astype(np.float32), "mic"), Particles.of([(96, 72)]), boxing).stack
    row, column = np.mgrid[:24, :24] * 2 + np.array([72 - 24, 96 - 24])[:, None, None]
    np.testing.assert_allclose(box, 5 + 3 * np.cos(2 * np.pi * (2 * column / 48 + row / 24)), atol=1e-4)


def test_the_background_circle_is_scaled_with_the_box() -> None:
    boxing = Boxing(48, 32, background_diameter_px=30)
    boxes = extract(Micrograph(ice(slope=(2, 1)), "mic"), Particles.of([(100, 70), (60, 60)]), boxing)
    outside = boxes.stack[:, background(32, 20)]
    np.testing.assert_allclose(outside.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose(outside.std(1), 1, atol=1e-5)
