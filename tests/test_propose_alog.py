"""A-LoG against drawn discs."""

from dataclasses import replace

import numpy as np
import pytest

from upicker.config import ImageConfig, ProposeConfig
from upicker.errors import ConfigError
from upicker.geometry import Frame
from upicker.image.prepare import Prepared, prepare
from upicker.particles import Micrograph
from upicker.propose.alog import filter_diameters, log_filter, propose, responses

ALL = ProposeConfig(top_k="all")


def discs(shape, at, diameters, contrast=1.0):
    """Draw antialiased discs: each pixel's share of covered 5 x 5 sub-pixels."""
    picture = np.zeros(shape, np.float32)
    sub = (np.arange(5) - 2) / 5
    for (cx, cy), diameter in zip(at, np.broadcast_to(diameters, len(at))):
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
        distance = np.hypot(x[..., None, None] + sub - cx, y[..., None, None] + sub[:, None] - cy)
        picture += contrast * (distance <= diameter / 2).mean((-1, -2)).astype(np.float32)
    return picture


def as_prepared(pixels, diameter_px=32.0):
    return Prepared(pixels.astype(np.float32), Frame(pixels.shape, pixels.shape), diameter_px)


@pytest.mark.parametrize("diameter", [6.0, 9.5, 16.0, 24.0, 33.0])
def test_a_disc_answers_best_at_the_filter_for_its_diameter(diameter):
    picture = discs((121, 133), [(64.3, 59.6)], diameter)
    tuned = diameter * np.geomspace(0.5, 2, 41)
    spectrum = np.fft.rfft2(picture)
    ky, kx = 2 * np.pi * np.fft.fftfreq(121), 2 * np.pi * np.fft.rfftfreq(133)
    heights = [np.fft.irfft2(spectrum * log_filter(ky, kx, d), s=picture.shape)[60, 64] for d in tuned]
    assert tuned[int(np.argmax(heights))] == pytest.approx(diameter, rel=0.06)
    assert max(heights) == pytest.approx(2 / np.e, rel=0.06)


def test_eleven_filters_four_below_three_inside_four_above():
    d = filter_diameters(19.0, 42.0)
    assert d.shape == (11,)
    assert ((d < 19).sum(), ((d > 19) & (d < 42)).sum(), (d > 42).sum()) == (4, 3, 4)
    np.testing.assert_allclose(d[1:] / d[:-1], d[1] / d[0])
    np.testing.assert_allclose([np.sqrt(d[3] * d[4]), np.sqrt(d[6] * d[7])], [19, 42])


@pytest.mark.parametrize(
    ("diameter", "inside"), [(13, False), (17, False), (22, True), (30, True), (40, True), (48, False)]
)
def test_with_the_hard_rule_only_discs_in_the_range_are_proposed(diameter, inside):
    picture = discs((160, 150), [(70.0, 80.0)], diameter)
    config = replace(ALL, min_ratio=0.6, max_ratio=1.35, range_penalty=float("inf"), threshold=0.4)
    found = propose(as_prepared(picture), config, ImageConfig())
    near = np.hypot(*(found.xy - (70, 80)).T) < 3
    assert near.any() == inside


def test_discs_are_found_where_they_are_and_by_their_contrast():
    at = np.array([[40.2, 35.7], [110.6, 48.1], [76.0, 120.4]])
    picture = discs((170, 140), at[:1], 28) + 2 * discs((170, 140), at[1:2], 28) + 3 * discs((170, 140), at[2:], 28)
    found = propose(as_prepared(picture), replace(ALL, threshold=0.3), ImageConfig())
    assert len(found) == 3
    np.testing.assert_allclose(found.xy, at[::-1], atol=0.25)
    assert (np.diff(found.score) < 0).all()
    np.testing.assert_allclose(found.score, np.array([3, 2, 1]) * 2 / np.e, rtol=0.08)
    np.testing.assert_array_equal(found.diameter_px, 32.0)


def test_the_default_theta_is_the_mean_of_log_best():
    pixels = np.random.default_rng(0).normal(size=(150, 130)).astype(np.float32)
    best = responses(pixels, filter_diameters(0.6 * 32, 1.3 * 32))[0].best
    every = propose(as_prepared(pixels), replace(ALL, threshold=-100.0), ImageConfig())
    usual = propose(as_prepared(pixels), ALL, ImageConfig())
    assert len(usual) == (every.score > best.mean()).sum()


def test_the_mirrored_answers_are_those_of_the_negative():
    pixels = np.random.default_rng(1).normal(size=(90, 110)).astype(np.float32)
    diameters = filter_diameters(10, 20)
    twin, alone = responses(pixels, diameters, negative=True)[1], responses(-pixels, diameters)[0]
    for name in ("best", "inside", "inside_index"):
        np.testing.assert_allclose(getattr(twin, name), getattr(alone, name), atol=1e-5)


def test_top_k_keeps_the_best():
    pixels = np.random.default_rng(2).normal(size=(200, 170)).astype(np.float32)
    every = propose(as_prepared(pixels), ALL, ImageConfig())
    seven = propose(as_prepared(pixels), replace(ALL, top_k="7"), ImageConfig())
    assert len(every) > 20
    np.testing.assert_array_equal(seven.xy, every.xy[:7])


@pytest.mark.parametrize("count", [12, 40])
def test_the_automatic_k_follows_the_density(count):
    random = np.random.default_rng(count)
    grid = np.array([(30 + 52 * i, 30 + 52 * j) for i in range(8) for j in range(6)], float)
    at = random.permutation(grid)[:count] + random.uniform(-5, 5, (count, 2))
    picture = 2.0 * sum(_disc_at((330, 430), xy) for xy in at) + random.normal(size=(330, 430))
    found = propose(as_prepared(picture), replace(ALL, top_k="auto"), ImageConfig())
    assert len(found) == pytest.approx(count, rel=0.15)


def _disc_at(shape, xy, diameter=28):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(x - xy[0], y - xy[1]) <= diameter / 2


def test_the_automatic_k_of_empty_ice_is_near_zero():
    noise = np.random.default_rng(9).normal(size=(800, 900))
    every = propose(as_prepared(noise), replace(ALL, threshold=0.0), ImageConfig())
    automatic = propose(as_prepared(noise), replace(ALL, top_k="auto"), ImageConfig())
    assert len(every) > 100
    assert len(automatic) < 0.05 * len(every)


def test_unusable_ice_holds_no_proposal_and_does_not_count_for_theta():
    pixels = np.random.default_rng(3).normal(size=(270, 210)).astype(np.float32)
    pixels[:, :60] *= 30
    usable = np.ones(pixels.shape, bool)
    usable[:, :80] = False
    found = propose(as_prepared(pixels), ALL, ImageConfig(), usable)
    assert len(found) > 3
    assert (found.xy[:, 0] >= 79.5).all()
    nowhere = propose(as_prepared(pixels), ALL, ImageConfig(), np.zeros(pixels.shape, bool))
    assert len(nowhere) == 0


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_turning_the_picture_turns_the_proposals(turns):
    pixels = np.random.default_rng(6).normal(size=(150, 187)).astype(np.float32)
    found = propose(as_prepared(pixels), ALL, ImageConfig())
    turned = propose(as_prepared(np.rot90(pixels, turns)), ALL, ImageConfig())
    xy, (rows, columns) = found.xy, pixels.shape
    for _ in range(turns):
        xy, (rows, columns) = np.c_[xy[:, 1], columns - 1 - xy[:, 0]], (columns, rows)
    np.testing.assert_allclose(turned.score, found.score, rtol=1e-4)
    np.testing.assert_allclose(turned.xy, xy, atol=0.02)


def test_proposals_are_in_raw_pixels_of_a_picture_with_two_scales():
    at = np.array([[55.0, 210.0], [160.0, 80.0]])
    raw = 0.2 * np.random.default_rng(7).normal(size=(301, 223)).astype(np.float32) - discs((301, 223), at, 18, 3.0)
    ready = prepare(Micrograph(raw, "m"), 21.0, ImageConfig(working_diameter_px=16.0))
    assert ready.frame.scale_xy[0] != ready.frame.scale_xy[1]
    found = propose(ready, replace(ALL, top_k="2"), ImageConfig())
    np.testing.assert_allclose(found.xy[np.argsort(found.xy[:, 0])], at, atol=0.8)
    np.testing.assert_array_equal(found.diameter_px, 21.0)


def test_a_particle_near_the_rim_is_found_and_an_even_picture_holds_none():
    found = propose(as_prepared(discs((120, 100), [(9.0, 60.0)], 28)), replace(ALL, threshold=0.3), ImageConfig())
    assert len(found) == 1
    assert np.hypot(*(found.xy[0] - (9, 60))) < 5
    even = np.full((120, 100), 3.0)
    assert len(propose(as_prepared(even), replace(ALL, threshold=0.05), ImageConfig())) == 0


@pytest.mark.parametrize(
    "knobs",
    [
        {"top_k": "0"},
        {"top_k": "many"},
        {"min_ratio": 1.5},
        {"min_ratio": 0.0},
        {"disc_diameters": 0.0},
        {"range_penalty": -1.0},
    ],
)
def test_senseless_knobs_are_refused(knobs):
    with pytest.raises(ConfigError):
        propose(as_prepared(np.zeros((80, 80))), replace(ProposeConfig(), **knobs), ImageConfig())


def test_real_micrographs_score_well(shared):
    from upicker import scoring
    from upicker.image.mask import usable
    from upicker.io import coordinates, micrographs

    folder = shared / "data" / "empiar10017"
    path = micrographs.find([folder / "micrographs"])[0]
    ready = prepare(micrographs.read(path), 108.0, ImageConfig())
    found = propose(ready, replace(ALL, top_k="auto"), ImageConfig(), usable(ready, ImageConfig()))
    labels = coordinates.read(folder / "coords" / f"{path.stem}.csv")
    assert scoring.score([(found, labels)], 108.0).f1 > 0.75
