"""What is blanked in a picture, and keeping it so."""

from __future__ import annotations

import cv2
import numpy as np

_CORE, _RIM = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)


def blanked(pixels: np.ndarray) -> np.ndarray | None:
    """Return, as `(h, w)` bool, where there is nothing to see; None if that is nowhere.

    Areas that are exactly 0 count, single pixels do not: those may have the background's value by chance.
    """
    zero = pixels == 0
    if not zero.any():
        return None
    flags = zero.view(np.uint8)
    areas = cv2.dilate(cv2.morphologyEx(flags, cv2.MORPH_OPEN, _CORE, borderType=cv2.BORDER_REPLICATE), _RIM)
    return (areas & flags).view(bool) if areas.any() else None


def restored(pixels: np.ndarray, blank: np.ndarray | None) -> np.ndarray:
    """Set 0 where `blank` says so, in place."""
    if blank is not None:
        pixels[blank] = 0
    return pixels


def spread(pixels: np.ndarray, blank: np.ndarray | None) -> tuple[float, float]:
    """Return mean and standard deviation of what is not blank; 0 and 0 where all is."""
    mask = None if blank is None else (~blank).view(np.uint8)
    mean, deviation = cv2.meanStdDev(pixels, mask=mask)
    return float(mean[0, 0]), float(deviation[0, 0])
