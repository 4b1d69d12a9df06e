"""How many proposals a micrograph deserves: a K that follows its own density."""

from __future__ import annotations

import numpy as np

STRONG_SHARE = 0.3
"""At most this share of the peaks counts as equally high when the two classes are sought."""

EMPTY_SHARE, EMPTY_SIGMA = 0.04, 1.1
"""Ice is empty if the excess is below this share of the `n` peaks, or below so many ``sqrt(n)``.

Simulated noise has an excess of 0.9 ``sqrt(n)`` on average; real empty ice stayed below 4 % of its peaks."""


def automatic_count(heights: np.ndarray, mirrored: np.ndarray) -> int:
    """Choose how many of the highest peaks to keep.

    Two questions to the heights alone. Is there anything? Noise has as many dark blobs as bright ones, so the
    peaks of the same picture with its contrast turned over tell how many to expect of noise. Where the
    excess is what noise has by chance, too, just the excess is kept. Otherwise: where is the border
    between particles and the rest? There where it parts the heights best into two classes (Otsu's criterion).
    The top is levelled first, because a few contaminants would else be a class of their own: as many as there
    are in excess, which are sure to be particles, but no more than `STRONG_SHARE`.

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
    if excess < max(EMPTY_SHARE * len(falling), EMPTY_SIGMA * np.sqrt(len(falling))):
        return max(excess, 0)
    strong = min(excess // 2, int(STRONG_SHARE * len(falling)))
    return two_classes(np.minimum(falling, falling[strong]))


def two_classes(falling: np.ndarray) -> int:
    """Return the size of the higher of two classes of falling values: the split of largest variance between."""
    n = len(falling)
    first = np.arange(1, n)
    total = np.cumsum(falling, dtype=np.float64)
    higher, lower = total[:-1] / first, (total[-1] - total[:-1]) / (n - first)
    return int(first[np.argmax(first * (n - first) * (higher - lower) ** 2)])
