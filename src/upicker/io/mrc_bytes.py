"""Whether the bytes of MRC mode 0 are signed, as the standard says, or unsigned, as older programs wrote them.

Only IMOD's stamp tells it outright. Without it the range in the header decides (dmin, dmax): a maximum above 127 cannot
belong to signed bytes, nor a negative minimum to unsigned ones. Where the header gives no range, or one that fits
neither or both, the reading with the smaller spread is taken: the wrong one splits grey values into two groups at the
ends of its range.
"""

from __future__ import annotations

import numpy as np

# Enough for the histogram, and few enough to read them before every window.
_SAMPLED_ROWS = 64


def sampled(rows: int) -> np.ndarray:
    """Return the rows of an image by which its bytes are judged, so that all readers judge alike."""
    return np.unique(np.linspace(0, rows - 1, _SAMPLED_ROWS).astype(int))


def are_unsigned(sample: np.ndarray, low: float, high: float) -> bool:
    """Tell whether bytes are unsigned.

    Parameters
    ----------
    sample : np.ndarray
        Some of them, as uint8 or int8.
    low, high : float
        Smallest and largest value by the header; ignored if they are not finite or not in order.
    """
    unsigned, signed = sample.view(np.uint8), sample.view(np.int8)
    if low < high and np.isfinite([low, high]).all():
        if unsigned.max() < 128:  # Both readings agree; only other rows can tell.
            return high > 127
        fits = [low - 1 <= values.min() and values.max() <= high + 1 for values in (unsigned, signed)]
        if fits[0] != fits[1]:
            return fits[0]
    return bool(unsigned.std() < signed.std())
