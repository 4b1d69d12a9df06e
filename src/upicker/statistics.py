"""Order statistics: the robust scale of a sample, and members of a sequence at even distances."""

from __future__ import annotations

import numpy as np

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
    median = float(np.median(values))
    return median, MAD_TO_SIGMA * float(np.median(np.abs(values - median)))


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
