"""Movies: the plain sum of their frames, with a gain reference or without.

A sum without motion correction serves for a first look only: the frames drift against each other, which blurs particles
and shifts them by some pixels. Reading one gives a warning.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from upicker.errors import MicrographError
from upicker.io.stored_image import StoredImage

# No camera for cryo-EM has fewer pixels; stacks of smaller images hold particles, or are volumes.
MIN_FRAME_SIDE = 1024
_ONE_IMAGE = "Give the motion-corrected sum of a small movie, or the single images of a stack"


def check_movie(path: Path, frames: int, shape: tuple[int, int]) -> None:
    """Refuse files of several sections that are not movies: particle stacks, maps, tomograms.

    A movie's frames are at least `MIN_FRAME_SIDE` pixels a side, and their number differs from that of rows and
    columns, unlike the sections of a map.

    Raises
    ------
    MicrographError
        If it is not a movie.
    """
    rows, columns = shape
    if frames == rows == columns:
        raise MicrographError(path, f"it is a volume of {frames} sections of {columns} x {rows} pixels", _ONE_IMAGE)
    if min(shape) < MIN_FRAME_SIDE:
        raise MicrographError(
            path,
            f"it holds {frames} sections of {columns} x {rows} pixels, not one image, and they are too small for the"
            f" frames of a movie (less than {MIN_FRAME_SIDE} a side)",
            _ONE_IMAGE,
        )


def summed(frames: Iterable[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Return the sum of frames of `shape` (rows, columns), `(H, W)` float32."""
    total = np.zeros(shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for frame in frames:
            np.add(total, frame, out=total, casting="unsafe")
    return total


def with_gain(path: Path, movie: StoredImage, gain: StoredImage, gain_path: Path) -> np.ndarray:
    """Apply a gain reference to the sum of a movie.

    - The sum is multiplied by it; the sum of an EER movie is divided by it, unless its name ends in ``.gain``
      (RELION's rules).
    - The first row of a TIFF is the last one of an MRC (RELION, IMOD and MotionCor2 read TIFF files upside down), so
      an MRC reference for a TIFF movie is flipped, and so is a TIFF reference for an MRC or EER movie. ``.gain``
      files have the orientation of EER files.
    - Where the reference is not a positive number, the pixel is dead and becomes NaN.

    Parameters
    ----------
    path : Path
        The movie, for error messages.
    movie : StoredImage
        Its sum.
    gain : StoredImage
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
    dead = ~(np.isfinite(factor) & (factor > 0))
    factor = np.where(dead, np.float32(np.nan), factor)
    return movie.pixels / factor if movie.kind == "eer" and not native else movie.pixels * factor
