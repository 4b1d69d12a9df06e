"""Particles as small images for display: boxes whose pixels are means over areas of the micrograph."""

from __future__ import annotations

import math

import cv2
import numpy as np

from upicker.errors import ConfigError
from upicker.io.mrc import Windows
from upicker.statistics import evenly_spaced
from upicker.web.tiles.views import span

# Rows of a micrograph from which its median is taken.
_ROWS = 48


def cut(pixels: np.ndarray | Windows, xy: np.ndarray, side_px: float, out_px: int) -> np.ndarray:
    """Cut square boxes around positions; each pixel is the mean of the area that it covers.

    Parameters
    ----------
    pixels : np.ndarray or Windows
        `(H, W)` raw pixels, perhaps with non-finite values.
    xy : np.ndarray
        `(n, 2)` float64 centres x, y, raw pixels.
    side_px : float
        Side of the boxes, raw pixels.
    out_px : int
        Side of the images returned.

    Returns
    -------
    np.ndarray
        `(n, out_px, out_px)` float32; the median of the micrograph where a box extends beyond it. Outliers such as
        hot pixels are clipped.

    Raises
    ------
    ConfigError
        If the sides are not positive.
    MicrographError
        If the pixels come from a file, and it cannot be read.
    """
    if not (math.isfinite(side_px) and side_px > 0 and out_px >= 1):
        raise ConfigError("box", f"{side_px:g} px cannot be a box", "Give a positive number of pixels")
    out = np.empty((len(xy), out_px, out_px), np.float32)
    median = _median(pixels)
    fraction = np.arange(out_px + 1) / out_px - 0.5
    for target, (x, y) in zip(out, xy):
        # In the frame in which pixel i covers i to i + 1, clipped to the micrograph.
        down = np.clip(y + 0.5 + side_px * fraction, 0, pixels.shape[0])
        across = np.clip(x + 0.5 + side_px * fraction, 0, pixels.shape[1])
        top, left = int(down[0]), int(across[0])
        window = pixels[top : math.ceil(down[-1]), left : math.ceil(across[-1])].astype(np.float32, copy=False)
        # Relative to the median, so that what lies outside counts as the median.
        window = np.where(np.isfinite(window), window, median) - median
        sums = _sums(window, down - top, across - left)
        target[...] = sums * (out_px / side_px) ** 2 + median
    return out.clip(*span(out.reshape(-1, out_px)))


def _median(pixels: np.ndarray | Windows) -> np.float32:
    rows, columns = pixels.shape
    at = evenly_spaced(rows, _ROWS)
    sample = np.concatenate([pixels[row : row + 1, 0:columns] for row in at.tolist()]).astype(np.float32, copy=False)
    sample = sample[np.isfinite(sample)]
    return np.float32(np.median(sample) if len(sample) else 0)


def _sums(window: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Integrate `(h, w)` over the cells between edges `(m + 1,)` and `(n + 1,)`: `(m, n)` float64.

    The integral image is linear between the edges of pixels, along rows and columns.
    """
    integral = cv2.integral(window, sdepth=cv2.CV_64F) if window.size else np.zeros((window.shape[0] + 1, 1))
    for edges in (down, across):
        whole = np.minimum(edges.astype(np.intp), len(integral) - 2).clip(0)
        part = (edges - whole)[:, None]
        following = np.minimum(whole + 1, len(integral) - 1)
        integral = ((1 - part) * integral[whole] + part * integral[following]).T
    return np.diff(np.diff(integral, axis=0), axis=1)
