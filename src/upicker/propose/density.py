"""The number of proposals of a micrograph: a K that follows its own density of particles."""

from __future__ import annotations

import numpy as np

STRONG_SHARE = 0.3
"""At most this fraction of the peaks is clipped to equal height before the two classes are separated."""

EMPTY_SHARE, EMPTY_SIGMA = 0.04, 1.1
"""Ice is empty if the excess is below this fraction of the `n` peaks, or below this multiple of ``sqrt(n)``.

Simulated noise has an excess of 0.9 ``sqrt(n)`` on average; real empty ice stayed below 4 % of its peaks."""


def automatic_count(heights: np.ndarray, negative: np.ndarray) -> int:
    """Return how many of the highest peaks to keep.

    Two questions are answered from the heights alone. First, are there particles at all? Noise has as many dark blobs
    as bright ones, so the peaks of the image with inverted contrast give the number expected from noise. If the excess
    is within what noise has by chance, only the excess is kept. Second, where is the boundary between particles and the
    rest? At the split into two classes of largest variance between them (Otsu's criterion). The highest peaks are
    clipped first, or a few contaminants would form a class of their own: half as many as are in excess, which are
    certainly particles, but at most `STRONG_SHARE` of all.

    Parameters
    ----------
    heights : np.ndarray
        `(n,)` heights of the peaks.
    negative : np.ndarray
        `(m,)` heights of the peaks of the image with inverted contrast.

    Returns
    -------
    int
        K, at most `n`.
    """
    if len(heights) < 4:
        return len(heights)
    falling = np.sort(heights)[::-1]
    above = len(negative) - np.searchsorted(np.sort(negative), falling, side="left")
    excess = int((np.arange(1, len(falling) + 1) - above).max())
    if excess < max(EMPTY_SHARE * len(falling), EMPTY_SIGMA * np.sqrt(len(falling))):
        return max(excess, 0)
    strong = min(excess // 2, int(STRONG_SHARE * len(falling)))
    return two_classes(np.minimum(falling, falling[strong]))


def two_classes(falling: np.ndarray) -> int:
    """Return the size of the higher of two classes of falling values, split by Otsu's criterion."""
    n = len(falling)
    first = np.arange(1, n)
    total = np.cumsum(falling, dtype=np.float64)
    higher, lower = total[:-1] / first, (total[-1] - total[:-1]) / (n - first)
    return int(first[np.argmax(first * (n - first) * (higher - lower) ** 2)])
