"""Radially symmetric Fourier filters, fast on large images."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import fft

Curve = Callable[[np.ndarray], np.ndarray]
"""A filter: from frequencies (any shape) to factors of the same shape."""

# A block of rows stays in the processor's cache through all steps of a computation; a whole image does not.
ROWS_AT_ONCE = 32
_SAMPLES = 8192  # of a curve, from 0 to the corner: neighbours differ by at most 1e-3, the error is half of that


def row_blocks(rows: int) -> Iterator[slice]:
    """Divide `rows` rows into blocks that are processed one after the other."""
    return (slice(top, min(top + ROWS_AT_ONCE, rows)) for top in range(0, rows, ROWS_AT_ONCE))


def frequencies(shape: tuple[int, int], pixel_size_A: float, half: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the frequencies of a Fourier transform along rows and columns.

    Parameters
    ----------
    shape : tuple of int
        Rows, columns `(h, w)` of the image.
    pixel_size_A : float
        Angstrom per pixel; with 1, frequencies are in cycles per pixel.
    half : bool
        Those of the transform of a real image (`scipy.fft.rfft2`), `w // 2 + 1` columns.

    Returns
    -------
    tuple of np.ndarray
        `(h, 1)` and `(1, w)`, float32, 1 / A.
    """
    rows = np.fft.fftfreq(shape[0], pixel_size_A)
    columns = np.fft.rfftfreq(shape[1], pixel_size_A) if half else np.fft.fftfreq(shape[1], pixel_size_A)
    return rows.astype(np.float32)[:, None], columns.astype(np.float32)[None, :]


def multiply(spectrum: np.ndarray, columns: int, pixel_size_A: float, curve: Curve) -> np.ndarray:
    """Multiply the transform of a real image by a curve, in place.

    Parameters
    ----------
    spectrum : np.ndarray
        `(h, columns // 2 + 1)` complex, of `scipy.fft.rfft2`.
    columns : int
        Of the image, which does not follow from the transform.
    pixel_size_A : float
        Angstrom per pixel.
    curve : Curve
        Called once, with ascending frequencies in 1 / A, to make a lookup table.

    Returns
    -------
    np.ndarray
        `spectrum`.
    """
    ky, kx = frequencies((spectrum.shape[0], columns), pixel_size_A, half=True)
    last = float(np.hypot(np.abs(ky).max(), kx.max())) or 1.0
    table = np.asarray(curve(np.linspace(0, last, _SAMPLES)), np.float32)
    # Squared frequencies in units of the spacing of the table.
    y2, x2 = np.square(ky * np.float32((_SAMPLES - 1) / last)), np.square(kx * np.float32((_SAMPLES - 1) / last))
    for rows in row_blocks(len(spectrum)):
        index = np.sqrt(y2[rows] + x2)
        index += np.float32(0.5)
        spectrum[rows] *= table.take(index.astype(np.int32), mode="clip")
    return spectrum


def filtered(pixels: np.ndarray, pixel_size_A: float, curve: Curve) -> np.ndarray:
    """Return a periodic image filtered by a curve.

    Parameters
    ----------
    pixels : np.ndarray
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
    spectrum = np.asarray(fft.rfft2(np.asarray(pixels, np.float32)))
    multiply(spectrum, pixels.shape[1], pixel_size_A, curve)
    return np.asarray(fft.irfft2(spectrum, s=pixels.shape, overwrite_x=True))
