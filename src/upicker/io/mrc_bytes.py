"""Whether the integers of MRC modes 0 and 1 are signed, as the standard says, or unsigned, as some programs write them.

Only IMOD's stamp tells it outright. Without it a histogram that the signed reading tears apart, with its halves at the
two ends of the range, tells that they are unsigned. Else the range in the header decides (dmin, dmax): a maximum above
127 cannot belong to signed bytes, nor a negative minimum to unsigned ones. Where the header gives no range, or one that
fits neither or both, bytes are read with the smaller spread, and 16-bit integers as signed.
"""

from __future__ import annotations

import numpy as np

# Enough for the histogram, and few enough to read them before every window.
_SAMPLED_ROWS = 64
# Halves whose means are this near each other, as a part of the range, belong together.
_NEAR = 1 / 3


def sampled(rows: int) -> np.ndarray:
    """Return the rows of an image by which its integers are judged, so that all readers judge alike."""
    return np.unique(np.linspace(0, rows - 1, _SAMPLED_ROWS).astype(int))


def other_type(dtype: np.dtype, kind: str) -> np.dtype:
    """Return the type of as many bytes and the same byte order: unsigned for ``u``, signed for ``i``."""
    return np.dtype(f"{dtype.str[0]}{kind}{dtype.itemsize}")


def are_unsigned(sample: np.ndarray, low: float, high: float) -> bool:
    """Tell whether integers are unsigned.

    Parameters
    ----------
    sample : np.ndarray
        Some of them, of 8 or 16 bits.
    low, high : float
        Smallest and largest value by the header; ignored if they are not finite or not in order.
    """
    unsigned, signed = (sample.view(other_type(sample.dtype, kind)) for kind in "ui")
    half = 2 ** (8 * sample.itemsize - 1)
    if _is_torn(unsigned, half):
        return True
    if low < high and np.isfinite([low, high]).all():
        if unsigned.max() < half:  # Both readings agree; only other rows can tell.
            return low > -1 and half <= high < 2 * half
        fits = [low - 1 <= values.min() and values.max() <= high + 1 for values in (unsigned, signed)]
        if fits[0] != fits[1]:
            return fits[0]
    return sample.itemsize == 1 and bool(unsigned.std() < signed.std())


def _is_torn(unsigned: np.ndarray, half: int) -> bool:
    """Tell whether the signed reading tears apart adjoining values; a single one above the middle is a fill value."""
    upper, lower = unsigned[unsigned >= half], unsigned[unsigned < half]
    if not len(upper) or not len(lower) or upper.min() == upper.max():
        return False
    return bool(upper.mean() - lower.mean() < _NEAR * 2 * half)
