"""Greedy peaks against the literal search; refinement against a parabola; the automatic count."""

import numpy as np
import pytest

from upicker.propose.density import automatic_count, two_classes
from upicker.propose.peaks import greedy_peaks, local_maxima, refined


def literal(values, disc_px, candidates):
    """The paper's sentence, word for word and slowly."""
    left = np.where(candidates, values, -np.inf)
    y, x = np.mgrid[: values.shape[0], : values.shape[1]]
    peaks = []
    while np.isfinite(left.max()):
        row, column = np.unravel_index(left.argmax(), left.shape)
        peaks.append((row, column))
        left[np.hypot(y - row, x - column) <= disc_px[row, column] / 2] = -np.inf
    return np.array(peaks).reshape(-1, 2)


@pytest.mark.parametrize("seed", range(6))
def test_greedy_is_the_literal_greedy(seed):
    random = np.random.default_rng(seed)
    values = random.normal(size=(23, 31)).round(1)  # rounded: ties must be settled alike
    discs = random.choice([0.0, 1.0, 3.0, 5.5, 8.2], size=values.shape)
    candidates = values > 0.3
    np.testing.assert_array_equal(greedy_peaks(values, discs, candidates), literal(values, discs, candidates))


def test_no_candidate_no_peak():
    nothing = greedy_peaks(np.ones((4, 5)), np.ones((4, 5)), np.zeros((4, 5), bool))
    assert nothing.shape == (0, 2)
    assert refined(np.ones((4, 5)), nothing).shape == (0, 2)


def test_maxima_are_exceeded_by_no_neighbour_and_never_on_the_rim():
    values = np.random.default_rng(1).normal(size=(17, 22)).astype(np.float32)
    top = local_maxima(values)
    for row, column in np.argwhere(top):
        assert values[row, column] == values[row - 1 : row + 2, column - 1 : column + 2].max()
    inner = values[1:-1, 1:-1]
    blocks = np.lib.stride_tricks.sliding_window_view(values, (3, 3)).max((2, 3))
    assert top.sum() == (inner == blocks).sum()


def test_refinement_finds_the_top_of_a_paraboloid_and_stays_within_half_a_pixel():
    y, x = np.mgrid[:15, :21]
    values = -2 * (y - 7.3) ** 2 - 0.5 * (x - 11.8) ** 2
    np.testing.assert_allclose(refined(values, np.array([[7, 12]])), [[7.3, 11.8]])
    at_rim = refined(values, np.array([[0, 12], [7, 20]]))
    np.testing.assert_allclose(at_rim, [[0, 11.8], [7.3, 20]])


def test_the_split_of_two_classes_is_the_brute_force_one():
    random = np.random.default_rng(2)
    falling = np.sort(np.r_[random.normal(5, 1, 40), random.normal(0, 1, 70)])[::-1]
    within = [k * falling[:k].var() + (110 - k) * falling[k:].var() for k in range(1, 110)]
    assert two_classes(falling) == 1 + int(np.argmin(within))
    assert abs(two_classes(falling) - 40) <= 3


@pytest.mark.parametrize("particles", [30, 120, 400])
def test_the_automatic_count_follows_the_density(particles):
    random = np.random.default_rng(particles)
    background = np.abs(random.normal(0, 1, 300))
    heights = np.r_[random.normal(6, 0.7, particles), background, [60.0, 70.0]]  # and two contaminants
    mirrored = np.abs(random.normal(0, 1, 300))
    assert automatic_count(heights, mirrored) == pytest.approx(particles + 2, rel=0.12)


def test_the_automatic_count_of_noise_is_small():
    random = np.random.default_rng(5)
    heights, mirrored = np.abs(random.normal(size=(2, 500)))
    assert automatic_count(heights, mirrored) < 20
    assert automatic_count(heights[:0], mirrored) == 0
    assert automatic_count(heights[:2], mirrored) == 2
