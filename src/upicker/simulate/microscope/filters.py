"""Filters that depend on the length of the frequency only: fast on large pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import fft

Curve = Callable[[np.ndarray], np.ndarray]
"""A filter: from frequencies (any shape) to factors of the same shape."""

# A block of rows stays in the processor's cache through all steps of an evaluation; whole pictures do not.
ROWS_AT_ONCE = 32
_SAMPLES = 8192  # of a curve, from 0 to the corner: neighbours differ by 1e-3 at most, the error by half of that


def row_blocks(rows: int) -> Iterator[slice]:
    """Cut `rows` rows into slices that are worked on one after the other."""
    return (slice(top, min(top + ROWS_AT_ONCE, rows)) for top in range(0, rows, ROWS_AT_ONCE))


def frequencies(shape: tuple[int, int], pixel_size_A: float, half: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return a transform's frequencies along rows and columns.

    Parameters
    ----------
    shape : tuple of int
        Rows, columns `(h, w)` of the picture.
    pixel_size_A : float
        Angstrom per pixel; 1 makes the frequencies cycles per pixel.
    half : bool
        Those of a real picture's transform (`scipy.fft.rfft2`), `w // 2 + 1` columns.

    Returns
    -------
    tuple of np.ndarray
        `(h, 1)` and `(1, w)`, float32, 1 / A.
    """
    rows = np.fft.fftfreq(shape[0], pixel_size_A)
    columns = np.fft.rfftfreq(shape[1], pixel_size_A) if half else np.fft.fftfreq(shape[1], pixel_size_A)
    return rows.astype(np.float32)[:, None], columns.astype(np.float32)[None, :]


def multiply(spectrum: np.ndarray, columns: int, pixel_size_A: float, curve: Curve) -> np.ndarray:
    """Multiply a real picture's transform by a curve of the frequency, in place.

    Parameters
    ----------
    spectrum : np.ndarray
        `(h, columns // 2 + 1)` complex, of `scipy.fft.rfft2`.
    columns : int
        Of the picture itself, which the transform does not tell.
    pixel_size_A : float
        Angstrom per pixel.
    curve : Curve
        Called once, with ascending frequencies in 1 / A; looked up from there.

    Returns
    -------
    np.ndarray
        `spectrum`.
    """
    ky, kx = frequencies((spectrum.shape[0], columns), pixel_size_A, half=True)
    last = float(np.hypot(np.abs(ky).max(), kx.max())) or 1.0
    table = np.asarray(curve(np.linspace(0, last, _SAMPLES)), np.float32)
    # Frequencies in samples of the table: the square root of their square is the place to look up.
    y2, x2 = np.square(ky * np.float32((_SAMPLES - 1) / last)), np.square(kx * np.float32((_SAMPLES - 1) / last))
    for rows in row_blocks(len(spectrum)):
        place = np.sqrt(y2[rows] + x2)
        place += np.float32(0.5)
        spectrum[rows] *= table.take(place.astype(np.int32), mode="clip")
    return spectrum


def filtered(picture: np.ndarray, pixel_size_A: float, curve: Curve) -> np.ndarray:
    """Filter a periodic picture by a curve of the frequency.

    Parameters
    ----------
    picture : np.ndarray
        `(h, w)` real.
    pixel_size_A : float
        Angstrom per pixel.
    curve : Curve
        See `multiply`.

    Returns
    -------
    np.ndarray
        `(h, w)` float32.
    """
    spectrum = np.asarray(fft.rfft2(np.asarray(picture, np.float32)))
    multiply(spectrum, picture.shape[1], pixel_size_A, curve)
    return np.asarray(fft.irfft2(spectrum, s=picture.shape, overwrite_x=True))
