"""Blanked pixels: the areas that the mask, or the end of a micrograph, leaves 0."""

from __future__ import annotations

import cv2
import numpy as np

_CORE, _GROWN = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)


def blank_mask(pixels: np.ndarray) -> np.ndarray | None:
    """Return `(h, w)` bool, True where pixels are blanked; None if none are.

    Areas that are exactly 0 are blanked; single such pixels are not, as they may be 0 by chance.
    """
    zero = pixels == 0
    if not zero.any():
        return None
    flags = zero.view(np.uint8)
    areas = cv2.dilate(cv2.morphologyEx(flags, cv2.MORPH_OPEN, _CORE, borderType=cv2.BORDER_REPLICATE), _GROWN)
    return (areas & flags).view(bool) if areas.any() else None


def with_blank(pixels: np.ndarray, blank: np.ndarray | None) -> np.ndarray:
    """Set pixels to 0 where `blank` is True, in place."""
    if blank is not None:
        pixels[blank] = 0
    return pixels


def moments(pixels: np.ndarray, blank: np.ndarray | None) -> tuple[float, float]:
    """Return mean and standard deviation of the pixels that are not blank; 0 and 0 if all are blank."""
    mask = None if blank is None else (~blank).view(np.uint8)
    mean, deviation = cv2.meanStdDev(pixels, mask=mask)
    return float(mean[0, 0]), float(deviation[0, 0])
