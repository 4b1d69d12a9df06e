"""Changing the scale of an image in Fourier space, without aliasing and without a shift."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from scipy import fft

ROWS_AT_ONCE = 64


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
    if pixels.shape == tuple(shape):
        return pixels.astype(np.float32)
    half, _ = _transformed_rows([pixels], pixels.shape, shape[1])
    return _inverse(_transformed_columns(half, shape), pixels.shape, shape)


def resample(bands: Iterable[np.ndarray], raw_shape: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Resample an image that is not periodic: `crop`, with the plane through it taken out and put back.

    Fourier cropping treats the left border as the neighbour of the right one. A thickness gradient makes a step
    there, and the step rings. The best plane carries most of that step, and is known exactly on both grids.

    Parameters
    ----------
    bands : iterable of np.ndarray
        The image, real and finite, as bands of its rows `(n, W)`, from the first to the last. No more than one of them
        is needed at a time: the whole of a large image need not be in memory.
    raw_shape : tuple of int
        Its rows and columns `(H, W)`.
    shape : tuple of int
        Rows, columns `(h, w)` wanted.

    Returns
    -------
    np.ndarray
        `(h, w)` float32; position ``p`` is found at ``p * scale`` as with `crop`.
    """
    rows, columns = raw_shape
    if (rows, columns) == tuple(shape):
        return _joined(bands, raw_shape)
    half, column_sums = _transformed_rows(bands, raw_shape, shape[1])
    slopes = _slope(np.real(half[:, 0]) / columns), _slope(column_sums / rows)
    kept = half.shape[1]
    spectrum = _transformed_columns(half, shape)
    del half  # As large as the result, or larger.
    # The plane's own spectrum: one ramp is the same in all columns, the other in all rows.
    down, across = np.arange(rows) * slopes[0], np.arange(columns) * slopes[1]
    spectrum[:, 0] -= _transformed_columns(columns * down[:, None].astype(np.complex128), (shape[0], 1))[:, 0]
    spectrum[0, :kept] -= rows * np.asarray(fft.rfft(across))[:kept]
    out = _inverse(spectrum, raw_shape, shape)
    out += (np.arange(shape[0]) * (rows / shape[0] * slopes[0])).astype(np.float32)[:, None]
    out += (np.arange(shape[1]) * (columns / shape[1] * slopes[1])).astype(np.float32)
    return out


def _joined(bands: Iterable[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    whole, top = np.empty(shape, np.float32), 0
    for band in bands:
        whole[top : top + len(band)] = band
        top += len(band)
    return whole


def _transformed_rows(
    bands: Iterable[np.ndarray], raw_shape: tuple[int, int], new_columns: int
) -> tuple[np.ndarray, np.ndarray]:
    """Transform along rows, and drop the frequencies that are not wanted.

    One axis after the other, dropping what is not wanted before the second: far less than a whole 2-D transform.

    Returns
    -------
    half : np.ndarray
        `(H, kept + 1)` complex64.
    column_sums : np.ndarray
        `(W,)` float64.
    """
    rows, columns = raw_shape
    kept = _kept(columns, new_columns)
    half, column_sums, top = np.empty((rows, kept + 1), np.complex64), np.zeros(columns), 0
    for block in _blocks(bands):
        # A product with ones adds up rows three times as fast as a sum.
        column_sums += np.ones(len(block), np.float32) @ block
        half[top : top + len(block)] = np.asarray(fft.rfft(block, axis=1))[:, : kept + 1]
        top += len(block)
    assert top == rows
    return half, column_sums


def _blocks(bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Divide bands into blocks of a few rows, float32, that fit into a processor's cache."""
    for band in bands:
        for top in range(0, len(band), ROWS_AT_ONCE):
            yield band[top : top + ROWS_AT_ONCE].astype(np.float32, copy=False)


def _transformed_columns(half: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Transform along columns, in place, and return the spectrum of an image of another shape."""
    rows, width = half.shape
    half = np.asarray(fft.fft(half, axis=0, overwrite_x=True))
    kept = _kept(rows, shape[0])
    spectrum = np.zeros((shape[0], shape[1] // 2 + 1), half.dtype)
    spectrum[: kept + 1, :width] = half[: kept + 1]
    if kept:
        spectrum[-kept:, :width] = half[-kept:]
    return spectrum


def _inverse(spectrum: np.ndarray, raw_shape: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    spectrum *= np.float32(shape[0] * shape[1] / (raw_shape[0] * raw_shape[1]))
    return np.asarray(fft.irfft2(spectrum, s=shape, overwrite_x=True), np.float32)


def _kept(old: int, new: int) -> int:
    """Highest frequency (cycles per image) that lies below Nyquist in both samplings."""
    return (min(old, new) - 1) // 2 if old != new else old // 2


def _slope(line: np.ndarray) -> float:
    """Least-squares slope of a line of means; that of each axis is the plane's."""
    position = np.arange(len(line)) - (len(line) - 1) / 2
    return float(position @ line / max(float(position @ position), 1.0))
