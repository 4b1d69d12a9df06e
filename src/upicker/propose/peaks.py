"""Peaks of a map of filter responses."""

from __future__ import annotations

import cv2
import numpy as np


def local_maxima(values: np.ndarray) -> np.ndarray:
    """Return, as `(h, w)` bool, the pixels that are not exceeded by any of their eight neighbours.

    The outermost pixels are excluded: a height that rises up to the border belongs to something outside the image.
    """
    top = values >= cv2.dilate(values, np.ones((3, 3), np.uint8))
    top[[0, -1]] = False
    top[:, [0, -1]] = False
    return top


def greedy_peaks(values: np.ndarray, disc_px: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Take the highest remaining candidate and zero the disc around it, until none is left, as in the paper.

    Heights only ever change to zero, so sorting them once gives the same result as repeated searches for the highest.

    Parameters
    ----------
    values : np.ndarray
        `(h, w)` heights.
    disc_px : np.ndarray
        `(h, w)` diameter of the disc that is zeroed around a peak at each pixel, in pixels.
    candidates : np.ndarray
        `(h, w)` bool, the pixels that may be taken.

    Returns
    -------
    np.ndarray
        `(n, 2)` int64: row, column, by falling height (equal ones in raster order).
    """
    y, x = np.nonzero(candidates)
    order = np.argsort(-values[y, x], kind="stable")
    free = np.ones(values.shape, bool)
    discs: dict[float, np.ndarray] = {}
    peaks = []
    for row, column in zip(y[order].tolist(), x[order].tolist()):
        if not free[row, column]:
            continue
        peaks.append((row, column))
        diameter = float(disc_px[row, column])
        if diameter not in discs:
            discs[diameter] = _outside_disc(diameter)
        outside = discs[diameter]
        reach = len(outside) // 2
        top, left = max(row - reach, 0), max(column - reach, 0)
        part = free[top : row + reach + 1, left : column + reach + 1]
        dy, dx = top - row + reach, left - column + reach
        part &= outside[dy : dy + part.shape[0], dx : dx + part.shape[1]]
    return np.array(peaks, np.int64).reshape(-1, 2)


def _outside_disc(diameter: float) -> np.ndarray:
    """`(2 n + 1, 2 n + 1)` bool, True outside the disc; its centre is always inside."""
    reach = int(diameter / 2)
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return 4 * (y * y + x * x) > diameter * diameter


def refined(values: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Refine peaks to subpixel positions: the vertex of a parabola through each and its neighbours, along both axes.

    Parameters
    ----------
    values : np.ndarray
        `(h, w)` heights.
    peaks : np.ndarray
        `(n, 2)` row, column.

    Returns
    -------
    np.ndarray
        `(n, 2)` float64 row, column, at most half a pixel away; unchanged along an axis without a maximum.
    """
    moved = peaks.astype(np.float64)
    for axis, size in enumerate(values.shape):
        step = np.eye(2, dtype=np.int64)[axis]
        inside = (peaks[:, axis] > 0) & (peaks[:, axis] < size - 1)
        p = peaks[inside]
        before, here, after = (values[tuple((p + k * step).T)].astype(np.float64) for k in (-1, 0, 1))
        bend = 2 * here - before - after
        is_peak = (bend > 0) & (here >= before) & (here >= after)
        offset = np.where(is_peak, (after - before) / (2 * np.where(is_peak, bend, 1.0)), 0.0)
        moved[inside, axis] += offset
    return moved
