"""How many proposals a micrograph deserves: a K that follows its own density."""

from __future__ import annotations

import numpy as np

STRONG_SHARE = 0.3
"""This share of the highest peaks counts as equally high when the two classes are sought."""

EMPTY_SHARE = 0.04
"""If no more than this share of the peaks is in excess of the mirrored ones, the ice is empty."""


def automatic_count(heights: np.ndarray, mirrored: np.ndarray) -> int:
    """Choose how many of the highest peaks to keep.

    Two questions to the heights alone. Is there anything? Noise has as many dark blobs as bright ones, so the
    peaks of the same picture with its contrast turned over tell how many to expect of noise. Where the
    excess stays below `EMPTY_SHARE` of all peaks, just the excess is kept. Otherwise: where is the border
    between particles and the rest? There where it parts the heights best into two classes (Otsu's criterion).
    The top `STRONG_SHARE` is levelled first, because a few contaminants would else be a class of their own.

    Parameters
    ----------
    heights : np.ndarray
        `(n,)` heights of the peaks.
    mirrored : np.ndarray
        `(m,)` heights of the peaks of the picture with its contrast turned over.

    Returns
    -------
    int
        K, at most `n`.
    """
    if len(heights) < 4:
        return len(heights)
    falling = np.sort(heights)[::-1]
    above = len(mirrored) - np.searchsorted(np.sort(mirrored), falling, side="left")
    excess = int((np.arange(1, len(falling) + 1) - above).max())
    if excess < EMPTY_SHARE * len(falling):
        return max(excess, 0)
    return two_classes(np.minimum(falling, np.quantile(falling, 1 - STRONG_SHARE)))


def two_classes(falling: np.ndarray) -> int:
    """Return the size of the higher of the two classes of falling values with the largest variance between them."""
    n = len(falling)
    first = np.arange(1, n)
    total = np.cumsum(falling, dtype=np.float64)
    higher, lower = total[:-1] / first, (total[-1] - total[:-1]) / (n - first)
    return int(first[np.argmax(first * (n - first) * (higher - lower) ** 2)])
