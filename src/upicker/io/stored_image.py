"""What all readers of micrographs share: the value they return, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from upicker.errors import MicrographError

DAMAGED = "The copy or the download is incomplete or damaged: fetch it again"


class StoredImage(NamedTuple):
    """An image as stored in a file.

    Attributes
    ----------
    pixels : np.ndarray
        `(H, W)` in the file's own type, row 0 the first stored row; float32 for the sum of a movie.
    pixel_size_A : float or None
        As in the file, unchecked.
    kind : str
        ``"mrc"``, ``"tiff"``, ``"eer"``, ``"png"`` or ``"jpg"``.
    frames : int
        Number of frames summed up.
    """

    pixels: np.ndarray
    pixel_size_A: float | None
    kind: str
    frames: int = 1


def too_large(path: Path, shape: tuple[int, int], max_side: int) -> MicrographError:
    """Return the error for an image of `shape` (rows, columns) with more than `max_side` pixels a side."""
    return MicrographError(
        path,
        f"the image has {shape[0]} rows x {shape[1]} columns",
        f"At most {max_side} pixels a side are supported: bin it, or check that it is a micrograph",
    )


def truncated(path: Path, found: int, needed: int) -> MicrographError:
    """Return the error for a file of `found` bytes that must have `needed`."""
    return MicrographError(path, f"it is truncated: {found} bytes of {needed}", DAMAGED)
