"""Changing the scale of an image in Fourier space, without aliasing and without a shift."""

from __future__ import annotations

import numpy as np
from scipy import fft

ROWS_AT_ONCE = 256


def crop(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resample a periodic image to another number of rows and columns.

    The first sample stays the first sample, so position ``p`` of the input is found at ``p * n / N`` along an
    axis of `N` samples that becomes `n`: no half-pixel shift. Amplitudes are kept, so a constant stays that
    constant. All frequencies that both grids hold below their Nyquist frequency survive unchanged; the others
    are dropped (a smaller image) or are zero (a larger one). Factors of rows and columns may differ.

    Parameters
    ----------
    pixels : np.ndarray
        `(H, W)`, real and finite.
    shape : tuple of int
        Rows, columns `(h, w)` wanted; each at least 1.

    Returns
    -------
    np.ndarray
        `(h, w)` float32.

    See Also
    --------
    resample : for images that are not periodic, as all real ones.
    """
    return _crop(pixels, shape, (0.0, 0.0))


def _crop(pixels: np.ndarray, shape: tuple[int, int], slopes: tuple[float, float]) -> np.ndarray:
    """`crop` of an image less a plane with the given slopes (along rows' and columns' index)."""
    rows, columns = pixels.shape
    if (rows, columns) == tuple(shape):
        return pixels.astype(np.float32)
    # One axis after the other, dropping what is not wanted before the second: far less than a whole 2-D
    # transform. In blocks of rows, so that nothing of the raw size is ever copied.
    kept = _kept(columns, shape[1])
    half = np.empty((rows, kept + 1), np.complex64)
    across = (np.arange(columns) * slopes[1]).astype(np.float32)
    for top in range(0, rows, ROWS_AT_ONCE):
        block = pixels[top : top + ROWS_AT_ONCE].astype(np.float32)
        if slopes != (0.0, 0.0):
            block -= across + (np.arange(top, top + len(block)) * slopes[0]).astype(np.float32)[:, None]
        half[top : top + ROWS_AT_ONCE] = np.asarray(fft.rfft(block, axis=1, overwrite_x=True))[:, : kept + 1]
    half = np.asarray(fft.fft(half, axis=0, overwrite_x=True))
    kept_rows = _kept(rows, shape[0])
    spectrum = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)
    spectrum[: kept_rows + 1, : kept + 1] = half[: kept_rows + 1]
    if kept_rows:
        spectrum[-kept_rows:, : kept + 1] = half[-kept_rows:]
    spectrum *= np.float32(shape[0] * shape[1] / (rows * columns))
    return np.asarray(fft.irfft2(spectrum, s=shape, overwrite_x=True), np.float32)


def _kept(old: int, new: int) -> int:
    """Highest frequency (cycles per image) that lies below Nyquist in both samplings."""
    return (min(old, new) - 1) // 2 if old != new else old // 2


def resample(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resample an image that is not periodic: `crop`, with the plane through it taken out and put back.

    Fourier cropping treats the left border as the neighbour of the right one. A thickness gradient makes a step
    there, and the step rings. The best plane carries most of that step, and is known exactly on both grids.

    Parameters
    ----------
    pixels : np.ndarray
        `(H, W)`, real and finite.
    shape : tuple of int
        Rows, columns `(h, w)` wanted.

    Returns
    -------
    np.ndarray
        `(h, w)` float32; position ``p`` is found at ``p * scale`` as with `crop`.
    """
    rows, columns = pixels.shape
    if (rows, columns) == tuple(shape):
        return pixels.astype(np.float32)
    slopes = _slope(pixels.mean(axis=1, dtype=np.float64)), _slope(pixels.mean(axis=0, dtype=np.float64))
    out = _crop(pixels, shape, slopes)
    out += (np.arange(shape[0]) * (rows / shape[0] * slopes[0])).astype(np.float32)[:, None]
    out += (np.arange(shape[1]) * (columns / shape[1] * slopes[1])).astype(np.float32)
    return out


def _slope(line: np.ndarray) -> float:
    """Least-squares slope of a line of means; that of each axis is the plane's."""
    position = np.arange(len(line)) - (len(line) - 1) / 2
    return float(position @ line / max(float(position @ position), 1.0))
