"""Order statistics: the robust scale of a sample, and members of a sequence at even distances."""

from __future__ import annotations

import numpy as np

# Values of the sample that tells between which ones the median lies.
_SAMPLE = 8192

MAD_TO_SIGMA = 1.4826
"""Standard deviations of a Gaussian per median absolute deviation (MAD): 1 / 0.67449, rounded."""


def robust(values: np.ndarray) -> tuple[float, float]:
    """Return the median, and the standard deviation estimated from the median absolute deviation.

    Up to half of the values may be outliers without much effect on either. Where more than half of them are equal,
    the deviation is 0; what that means is up to the caller.

    Parameters
    ----------
    values : np.ndarray
        Of any shape, not empty, finite. Floats are computed with in their own precision.

    Returns
    -------
    float, float
        The median, and 1.4826 times the MAD: for a Gaussian, its standard deviation.
    """
    centre = median(values)
    return centre, MAD_TO_SIGMA * median(np.abs(values - centre))


def median(values: np.ndarray) -> float:
    """Return the median of finite values, as `numpy.median` does, of many values in less than half its time.

    A sample tells between which values the median lies; only those in between are then partly sorted.
    """
    flat = values.ravel()
    step, count = flat.size // _SAMPLE, flat.size
    if step < 8:
        return float(np.median(flat))
    sample = np.sort(flat[::step])
    low, high = sample[int(0.47 * len(sample))], sample[int(0.53 * len(sample))]
    between = np.compress((flat >= low) & (flat <= high), flat)
    first = (count - 1) // 2 - np.count_nonzero(flat < low)
    last = first + 1 - count % 2
    if first < 0 or last >= len(between):  # The sample was not like the rest.
        return float(np.median(flat))
    return float(np.partition(between, (first, last))[first : last + 1].mean())


def evenly_spaced(total: int, count: int, ends: bool = True) -> np.ndarray:
    """Return the indices of `count` of `total` members at even distances; all of them if there are fewer.

    Parameters
    ----------
    total, count : int
        How many there are, and how many to take; not negative.
    ends : bool
        True includes the first and the last one (of a single one: the first). False takes the middles of `count`
        equal parts, so that no end is favoured.

    Returns
    -------
    np.ndarray
        `(min(count, total),)` int, distinct and ascending.
    """
    count = min(count, total)
    if ends:
        return np.linspace(0, max(total - 1, 0), count).astype(int)
    return ((np.arange(count) + 0.5) * total / max(count, 1)).astype(int)
