"""Laws of the robust scale, and of members at even distances."""

import numpy as np
import pytest

from upicker.statistics import evenly_spaced, median, robust


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_robust_scale_of_a_gaussian_is_its_sigma(dtype):
    values = np.random.default_rng(0).normal(5.0, 3.0, (400, 500)).astype(dtype)
    centre, sigma = robust(values)
    assert centre == pytest.approx(5.0, abs=0.03)
    assert sigma == pytest.approx(3.0, rel=0.01)


def test_it_follows_shift_and_scale_and_hardly_an_outlier():
    values = np.random.default_rng(1).normal(size=2001)
    centre, sigma = robust(values)
    assert robust(7 - 2 * values) == pytest.approx((7 - 2 * centre, 2 * sigma))
    spoiled = values.copy()
    spoiled[:400] = 1e9
    assert robust(spoiled) == pytest.approx((0.3, 1.3), abs=0.2)


def test_counts_may_be_whole_numbers_and_equal():
    assert robust(np.array([1, 2, 3, 4, 100])) == pytest.approx((3.0, 1.4826))
    assert robust(np.array([4, 4, 4, 9])) == (4.0, 0.0)


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("total", [0, 1, 2, 7, 100, 4096])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 48, 5000])
def test_members_are_distinct_ascending_and_as_many_as_asked_for(total, count, ends):
    at = evenly_spaced(total, count, ends)
    assert len(at) == min(total, count)
    assert (np.diff(at) > 0).all()
    assert not len(at) or (at[0] >= 0 and at[-1] < total)
    # Even: distances differ by one at most.
    assert len(at) < 3 or np.ptp(np.diff(at)) <= 1


def test_both_ends_are_included_or_equally_far_away():
    assert evenly_spaced(10, 4).tolist() == [0, 3, 6, 9]
    assert evenly_spaced(100, 3).tolist() == [0, 49, 99]
    assert evenly_spaced(9, 3, ends=False).tolist() == [1, 4, 7]
    assert evenly_spaced(10, 1, ends=False).tolist() == [5]


@pytest.mark.parametrize("size", [1, 2, 8191, 65536, 65537, 200_001])
@pytest.mark.parametrize("kind", ["noise", "rising", "few", "equal", "periodic"])
def test_the_median_is_numpys(size, kind):
    rng = np.random.default_rng(size)
    values = {
        "noise": rng.normal(size=size).astype(np.float32),
        "rising": np.sort(rng.normal(size=size)),
        "few": rng.integers(0, 4, size),
        "equal": np.full(size, 2.5),
        # All that a regular sample sees is far above the median.
        "periodic": np.where(np.arange(size) % max(1, size // 8192) == 0, 100.0, rng.normal(size=size)),
    }[kind]
    assert median(values) == np.median(values)
