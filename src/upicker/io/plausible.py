"""Whether an image in a file can be a micrograph, and the pixel size beside it that of one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from upicker.errors import MicrographError
from upicker.io.stored_image import too_large

MIN_SIDE, MAX_SIDE = 16, 40_000
_PIXEL_SIZES_A = (0.05, 200.0)
_REPEAT = "The previous processing step failed: repeat it"


def checked(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return an image's pixels as `(H, W)` float32, C-contiguous.

    Raises
    ------
    MicrographError
        If they cannot be a micrograph: also if they are constant, or mostly not finite.
    """
    check_kind(path, pixels)
    check_sides(path, pixels.shape)
    with np.errstate(over="ignore"):
        pixels = np.ascontiguousarray(pixels, np.float32)
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = pixels[np.isfinite(pixels)]
        if 2 * finite.size < pixels.size:
            fraction = 1 - finite.size / pixels.size
            raise MicrographError(
                path,
                f"{fraction:.0%} of its pixels are not finite numbers",
                _REPEAT,
            )
        low, high = finite.min(), finite.max()
    if low == high:
        raise MicrographError(path, f"all pixels have one value, {low:g}", _REPEAT)
    return pixels


def check_kind(path: Path, pixels: np.ndarray) -> None:
    """Refuse pixels that are no single image of real numbers; raises MicrographError."""
    if pixels.ndim != 2 or pixels.dtype.kind not in "buif":
        found = f"it holds an array of {pixels.shape}, {pixels.dtype}"
        raise MicrographError(path, found, "Give one image of real numbers")


def check_sides(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse an image of `shape` (rows, columns) that is too small or too large; raises MicrographError."""
    if min(shape) < MIN_SIDE:
        raise MicrographError(
            path,
            f"the image has {shape[0]} rows x {shape[1]} columns",
            f"A micrograph needs at least {MIN_SIDE} pixels a side: check that this is one",
        )
    if max(shape) > MAX_SIDE:
        raise too_large(path, (shape[0], shape[1]), MAX_SIDE)


def pixel_size(pixel_size_A: float | None) -> float | None:
    """Return a file's pixel size if it is plausible."""
    if pixel_size_A is None or not math.isfinite(pixel_size_A):
        return None
    # Headers hold single precision: 1.77 comes back as 1.7699999.
    rounded = float(f"{pixel_size_A:.6g}")
    return rounded if _PIXEL_SIZES_A[0] <= rounded <= _PIXEL_SIZES_A[1] and rounded != 1.0 else None
