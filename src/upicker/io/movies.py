"""Movies: the plain sum of their frames, with a gain reference or without.

A sum without motion correction is good for a first look; the frames drift against each other, which blurs
particles and moves their positions by some pixels. Whoever reads one is warned.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from upicker.errors import MicrographError
from upicker.io.stored import Stored

# No camera for cryo-EM has fewer pixels; stacks of smaller pictures hold particles, or are volumes.
SMALLEST_FRAME = 1024
_ONE_PICTURE = "Of a small movie give the motion-corrected sum; of a stack or a volume, single pictures"


def check_movie(path: Path, frames: int, shape: tuple[int, int]) -> None:
    """Refuse what has several pictures and is no movie: particle stacks, maps, tomograms.

    A movie's frames are at least `SMALLEST_FRAME` pixels a side, and they are not as many as the rows and the
    columns, as the sections of a map are.

    Raises
    ------
    MicrographError
        If it is none.
    """
    rows, columns = shape
    if frames == rows == columns:
        raise MicrographError(path, f"it is a volume of {frames} sections of {columns} x {rows} pixels", _ONE_PICTURE)
    if min(shape) < SMALLEST_FRAME:
        raise MicrographError(
            path,
            f"it holds {frames} sections of {columns} x {rows} pixels, not one picture, and for a movie without"
            f" motion correction they are too small (less than {SMALLEST_FRAME} a side)",
            _ONE_PICTURE,
        )


def summed(frames: Iterable[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Add frames of `shape` (rows, columns) up, one after the other; return `(H, W)` float32."""
    total = np.zeros(shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for frame in frames:
            np.add(total, frame, out=total, casting="unsafe")
    return total


def with_gain(path: Path, movie: Stored, gain: Stored, gain_path: Path) -> np.ndarray:
    """Apply a gain reference to the sum of a movie.

    - The sum is multiplied by it, but for EER divided, unless its name ends in ``.gain``: such are RELION's rules.
    - A TIFF's first row is the last one of an MRC (RELION, IMOD and MotionCor2 read TIFF files upside down), so that
      an MRC reference for a TIFF movie is turned over, and a TIFF one for an MRC or EER movie, too. ``.gain`` files
      are as EER files are.
    - Where the reference is not a positive number, the camera is blind: these pixels become NaN.

    Parameters
    ----------
    path : Path
        The movie, for messages.
    movie : Stored
        Its sum.
    gain : Stored
        The reference, `(H, W)`.
    gain_path : Path
        Its file.

    Returns
    -------
    np.ndarray
        `(H, W)` float32.

    Raises
    ------
    MicrographError
        If the shapes differ.
    """
    if gain.pixels.shape != movie.pixels.shape:
        (rows, columns), (gain_rows, gain_columns) = movie.pixels.shape, gain.pixels.shape
        raise MicrographError(
            path,
            f"its frames are {rows} rows x {columns} columns, the gain reference {gain_path} {gain_rows} x"
            f" {gain_columns}",
            "Give the reference of this camera and mode, rotated as the movies are",
        )
    # `.gain` files are TIFF files.
    native = movie.kind == "eer" and gain_path.suffix.lower() == ".gain"
    factor = np.asarray(gain.pixels, np.float32)
    if not native and (gain.kind == "tiff") != (movie.kind == "tiff"):
        factor = factor[::-1]
    blind = ~(np.isfinite(factor) & (factor > 0))
    factor = np.where(blind, np.float32(np.nan), factor)
    return movie.pixels / factor if movie.kind == "eer" and not native else movie.pixels * factor
