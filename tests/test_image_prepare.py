"""What preparing a micrograph must not depend on, and what it must do."""

import numpy as np
import pytest

from upicker.config import ImageConfig
from upicker.errors import ConfigError, InputError, MicrographError, UPickerError
from upicker.image import repair
from upicker.image.filters import background, clahe, equalized, filled, robust
from upicker.image.fourier import resample
from upicker.image.prepare import prepare
from upicker.image.repair import finite_fraction, repaired, sampled
from upicker.particles import Micrograph

SHAPE = (310, 237)
EVERYTHING = [
    ImageConfig(),
    ImageConfig(flatten=False),
    ImageConfig(bilateral=True),
    ImageConfig(equalize="histogram"),
    ImageConfig(equalize="clahe"),
    ImageConfig(bilateral=True, equalize="clahe", particles="bright"),
    ImageConfig(repair=False, clip_sigma=3.0, working_diameter_px=11.0),
]


def noise(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def with_blobs(at, sigma=6.0, depth=4.0, shape=SHAPE):
    y, x = np.mgrid[: shape[0], : shape[1]]
    dark = sum(np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2)) for cx, cy in at)
    return (0.3 * noise(shape=shape) - depth * dark).astype(np.float32)


def prepared(pixels, diameter_px=24.0, config=None):
    return prepare(Micrograph(pixels, "m"), diameter_px, config or ImageConfig())


def whole_repaired(pixels, hot=True):
    micrograph = Micrograph(pixels, "m")
    return np.concatenate([*repaired(micrograph, sampled(micrograph), hot)])


def fraction_of_finite(pixels):
    micrograph = Micrograph(pixels, "m")
    return finite_fraction(micrograph, sampled(micrograph))


@pytest.mark.parametrize("config", EVERYTHING)
def test_offset_and_factor_of_the_raw_pixels_change_nothing(config):
    pixels = with_blobs([(60, 200)])
    a, b = prepared(pixels, config=config), prepared(pixels * 37 + 1000, config=config)
    np.testing.assert_allclose(a.pixels, b.pixels, atol=0.02)


@pytest.mark.parametrize("config", EVERYTHING)
def test_the_background_is_zero_with_sigma_one_and_the_input_stays(config):
    pixels = noise() + np.linspace(0, 5, SHAPE[1], dtype=np.float32)
    before = pixels.copy()
    out = prepared(pixels, config=config)
    np.testing.assert_array_equal(pixels, before)
    assert out.pixels.dtype == np.float32
    assert out.pixels.shape == out.frame.working_shape
    centre, sigma = robust(out.pixels)
    assert abs(centre) < 0.02
    assert sigma == pytest.approx(1, abs=0.05)


def test_one_diameter_has_the_working_size_and_the_frame_leads_there():
    at = np.array([[60.0, 200.0], [170.0, 90.0]])
    out = prepared(with_blobs(at), 24.0, ImageConfig(clip_sigma=100.0))
    assert out.working_diameter == pytest.approx(ImageConfig().working_diameter_px, rel=0.01)
    assert out.frame.raw_shape == SHAPE
    for x, y in out.frame.to_working(at):
        window = out.pixels[round(y) - 4 : round(y) + 5, round(x) - 4 : round(x) + 5].astype(np.float64) ** 4
        rows, columns = np.mgrid[-4:5, -4:5]
        assert abs((rows * window).sum() / window.sum() + round(y) - y) < 0.3
        assert abs((columns * window).sum() / window.sum() + round(x) - x) < 0.3


def test_particles_come_out_bright_whatever_they_were():
    pixels = with_blobs([(100, 150)])
    dark = prepared(pixels)
    bright = prepared(-pixels, config=ImageConfig(particles="bright"))
    np.testing.assert_allclose(dark.pixels, bright.pixels, atol=1e-4)
    x, y = dark.frame.to_working(np.array([100, 150])).round().astype(int)
    assert dark.pixels[y, x] == pytest.approx(ImageConfig().clip_sigma)


def test_bad_pixels_do_not_spread():
    pixels = noise()
    broken = pixels.copy()
    broken[50, 60] = np.nan
    broken[80:82, 90:93] = np.inf
    broken[200, 100] = 5000
    broken[0, 0] = -np.inf
    a, b = prepared(pixels).pixels, prepared(broken).pixels
    assert np.isfinite(b).all()
    assert np.quantile(np.abs(a - b), 0.99) < 0.1
    assert np.abs(a - b).max() < 5


def test_non_finite_pixels_are_repaired_even_without_the_switch():
    pixels = noise()
    pixels[10, 20] = np.nan
    assert np.isfinite(prepared(pixels, config=ImageConfig(repair=False)).pixels).all()


def test_only_hot_pixels_are_repaired_by_the_median_around_them():
    pixels = noise(shape=(40, 33))
    pixels[20:, :] -= 30  # a dark contaminant: out of the ordinary, but not of its neighbours
    pixels[10, 11] = 400
    out = whole_repaired(pixels)
    changed = np.argwhere(out != pixels).tolist()
    assert changed == [[10, 11]]
    around = np.delete(pixels[8:13, 9:14].ravel(), 12)
    assert around.min() < out[10, 11] < around.max()


@pytest.mark.parametrize("hot", [True, False])
def test_each_bad_pixel_is_repaired_wherever_it_lies_and_no_other(hot):
    pixels = noise(shape=(300, 200))
    at = np.random.default_rng(1).permutation(pixels.size)[:90]
    values = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 500.0], np.float32)[np.arange(90) % 6]
    pixels.ravel()[at] = values
    pixels[:, [0, -1]] = np.nan
    out = whole_repaired(pixels, hot)
    assert np.isfinite(out).all()
    wrong = ~np.isfinite(pixels) | (np.abs(pixels) > 400 if hot else False)
    assert np.array_equal(out != pixels, wrong)


def test_the_fraction_of_finite_pixels_is_counted_where_a_sample_finds_others():
    pixels = np.zeros((2100, 2100), np.float32)
    assert fraction_of_finite(pixels) == 1
    pixels[::2, ::2] = np.nan  # all that a sample of every other pixel sees
    assert fraction_of_finite(pixels) == pytest.approx(0.75)


def test_the_background_follows_a_slope_but_not_a_contaminant():
    y, x = np.mgrid[:150, :200].astype(np.float32)
    slope = 0.02 * x
    np.testing.assert_allclose(background(slope, 30.0)[60:90, 80:120], slope[60:90, 80:120], atol=0.05)
    blob = np.where((x - 100) ** 2 + (y - 70) ** 2 < 100, np.float32(-50), np.float32(0))
    pulled = background(blob + noise(shape=(150, 200)), 30.0)
    assert np.abs(pulled).max() < 1.8  # a plain Gaussian would be pulled by 2.8


def test_equalisation_keeps_the_order_of_grey_levels():
    pixels = noise()
    ranks = equalized(pixels)
    order = np.argsort(pixels.ravel())
    assert (np.diff(ranks.ravel()[order]) >= 0).all()
    np.testing.assert_allclose(ranks.ravel()[order], np.linspace(0, 1, pixels.size), atol=2e-3)
    assert clahe(pixels, 24.0, 5.0).shape == SHAPE


@pytest.mark.parametrize(
    ("pixels", "diameter", "config", "error", "says"),
    [
        (noise(), 238.0, {}, InputError, "larger than the micrograph"),
        (noise(), 3.0, {}, InputError, "too small"),
        (noise(), float("nan"), {}, InputError, "too small"),
        (noise(shape=(9000, 40)), 4.0, {"working_diameter_px": 512.0}, InputError, "at the working scale"),
        (noise(shape=(15, 300)), 8.0, {}, MicrographError, "not a micrograph"),
        (noise(shape=(3, 40, 50)), 8.0, {}, MicrographError, "not a micrograph"),
        (np.full(SHAPE, 7.0, np.float32), 24.0, {}, MicrographError, "the same"),
        (np.zeros(SHAPE, np.float32), 24.0, {}, MicrographError, "the same"),
        (np.full(SHAPE, np.nan, np.float32), 24.0, {}, MicrographError, "not finite"),
        (noise(), 24.0, {"particles": "grey"}, ConfigError, "grey"),
        (noise(), 24.0, {"equalize": "yes"}, ConfigError, "yes"),
        (noise(), 24.0, {"clip_sigma": 0.0}, ConfigError, "clip_sigma"),
    ],
)
def test_what_cannot_be_prepared_says_why(pixels, diameter, config, error, says):
    with pytest.raises(error, match=says) as raised:
        prepared(pixels, diameter, ImageConfig(**config))
    assert isinstance(raised.value, UPickerError)
    assert raised.value.remedy


def test_non_finite_pixels_are_filled_with_the_median_of_the_others():
    pixels = np.array([[1, 2, np.nan], [9, np.inf, 3]], np.float32)
    np.testing.assert_array_equal(filled(pixels), [[1, 2, 2.5], [9, 2.5, 3]])
    assert np.isnan(pixels[0, 2])
    np.testing.assert_array_equal(filled(np.full((2, 3), np.nan, np.float32)), 0)
    whole = np.ones((2, 3), np.float32)
    assert filled(whole) is whole


def test_bands_are_the_whole_picture_with_bad_pixels_at_their_edges(monkeypatch):
    pixels = noise(shape=(301, 207))
    pixels[[7, 8, 9, 99, 100, 101, 300], [3, 3, 4, 50, 51, 206, 0]] = np.nan, 900, np.inf, np.nan, -900, 900, np.nan
    whole = whole_repaired(pixels)
    sides = {}
    for rows in (1, 2, 10, 100, 301):
        monkeypatch.setattr(repair, "BAND_ROWS", rows)
        np.testing.assert_array_equal(whole_repaired(pixels), whole)
        sides[rows] = prepared(pixels).pixels
        np.testing.assert_allclose(sides[rows], sides[1], atol=1e-4)
    assert (whole != pixels).sum() == 7


def test_a_slope_is_taken_out_of_bands_as_of_the_whole():
    y, x = np.mgrid[:301, :207]
    sloped = noise(shape=(301, 207)) + (3000 + 0.5 * x - 2 * y).astype(np.float32)
    whole = resample([sloped], sloped.shape, (80, 61))
    bands = resample(np.split(sloped, [1, 64, 200]), sloped.shape, (80, 61))
    np.testing.assert_allclose(bands, whole, atol=1e-3)
    flat = resample([sloped - (0.5 * x - 2 * y)], sloped.shape, (80, 61))
    at = np.s_[5:-5, 5:-5]
    yy, xx = np.mgrid[:80, :61]
    np.testing.assert_allclose(whole[at], (flat + 0.5 * xx * 207 / 61 - 2 * yy * 301 / 80)[at], atol=0.02)
