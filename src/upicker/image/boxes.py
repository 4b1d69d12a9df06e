"""Rectangles cut out of an image, also where they reach beyond it."""

from __future__ import annotations

from typing import Literal

import numpy as np

Beyond = Literal["edge", "zero"]


def cut(pixels: np.ndarray, corners: np.ndarray, shape: tuple[int, int], beyond: Beyond = "edge") -> np.ndarray:
    """Cut rectangles of one shape out of an image; nothing is interpolated.

    Parameters
    ----------
    pixels : np.ndarray
        `(H, W)` of any type.
    corners : np.ndarray
        `(n, 2)` int, column and row of the first pixel of each rectangle; may be negative.
    shape : tuple of int
        Rows and columns `(h, w)` of each.
    beyond : {"edge", "zero"}
        What a pixel outside the image becomes: the nearest pixel inside, as when RELION extracts, or 0.

    Returns
    -------
    np.ndarray
        `(n, h, w)` of the image's type, a copy.
    """
    (height, width), (rows, columns) = pixels.shape, shape
    boxes = np.zeros((len(corners), rows, columns), pixels.dtype)
    for box, (x, y) in zip(boxes, np.asarray(corners).tolist()):
        if 0 <= x <= width - columns and 0 <= y <= height - rows:
            box[...] = pixels[y : y + rows, x : x + columns]
        elif beyond == "zero":
            top, left, bottom, right = max(y, 0), max(x, 0), min(y + rows, height), min(x + columns, width)
            if top < bottom and left < right:
                box[top - y : bottom - y, left - x : right - x] = pixels[top:bottom, left:right]
        else:
            at = np.arange(y, y + rows).clip(0, height - 1), np.arange(x, x + columns).clip(0, width - 1)
            box[...] = pixels[np.ix_(*at)]
    return boxes
