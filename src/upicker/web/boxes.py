"""Small pictures of particles for people to look at: cut, reduced, and grey."""

from __future__ import annotations

import math

import cv2
import numpy as np

from upicker.errors import ConfigError
from upicker.web.views import Levels, grey, narrowed


def cut(pixels: np.ndarray, xy: np.ndarray, levels: Levels, side_px: float, out_px: int) -> np.ndarray:
    """Cut squares around positions; each pixel is the mean of the area that it covers.

    Parameters
    ----------
    pixels : np.ndarray
        `(H, W)` raw pixels, perhaps with non-finite values.
    xy : np.ndarray
        `(n, 2)` float64 centres, column and row, raw pixels; need not be whole.
    levels : Levels
        Of the same picture, as it is: the contrast comes from the level of the scale that is asked for.
    side_px : float
        Side of the squares, raw pixels.
    out_px : int
        Side of the pictures.

    Returns
    -------
    np.ndarray
        `(n, out_px, out_px)` uint8; the median of the picture where a box reaches beyond it.

    Raises
    ------
    ConfigError
        If the sides are not positive.
    """
    if not (math.isfinite(side_px) and side_px > 0 and out_px >= 1):
        raise ConfigError("box", f"{side_px:g} px cannot be a box", "Give a positive number of pixels")
    out = np.empty((len(xy), out_px, out_px), np.uint8)
    limits = narrowed(levels.ranges[levels.nearest(side_px / out_px)])
    median = np.float32(sum(levels.ranges[0]) / 2)
    share = np.arange(out_px + 1) / out_px - 0.5
    for target, (x, y) in zip(out, xy):
        # In the frame in which pixel i covers i to i + 1; beyond the picture there is nothing.
        down = np.clip(y + 0.5 + side_px * share, 0, pixels.shape[0])
        across = np.clip(x + 0.5 + side_px * share, 0, pixels.shape[1])
        top, left = int(down[0]), int(across[0])
        window = pixels[top : math.ceil(down[-1]), left : math.ceil(across[-1])]
        # Less the median, so that what lies outside counts as the median without being there.
        window = np.where(np.isfinite(window), window, median) - median
        sums = _sums(window, down - top, across - left)
        target[...] = grey((sums * (out_px / side_px) ** 2).astype(np.float32) + median, limits)
    return out


def _sums(window: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Integrate `(h, w)` over the cells between edges `(m + 1,)` and `(n + 1,)`: `(m, n)` float64.

    The integral from the corner is linear between the edges of pixels, along rows and columns.
    """
    integral = cv2.integral(window, sdepth=cv2.CV_64F) if window.size else np.zeros((window.shape[0] + 1, 1))
    for edges in (down, across):
        whole = np.minimum(edges.astype(np.intp), len(integral) - 2).clip(0)
        part = (edges - whole)[:, None]
        following = np.minimum(whole + 1, len(integral) - 1)
        integral = ((1 - part) * integral[whole] + part * integral[following]).T
    return np.diff(np.diff(integral, axis=0), axis=1)
