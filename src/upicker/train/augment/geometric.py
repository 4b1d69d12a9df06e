"""Moving pixels, and the particles with them. Boxes stay upright squares: particles have a diameter, no extent."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from upicker.config import AugmentConfig
from upicker.image.boxes import cut
from upicker.train.augment.blank import blanked, restored
from upicker.train.sample import Sample

# Pixels around a place that its cubic interpolation looks at, and one for rounding.
_SUPPORT = 3


@dataclass(frozen=True)
class Pose:
    """How a view lies in its micrograph.

    Attributes
    ----------
    centre_xy : tuple of float
        Where the middle of the view is taken from: column and row of the micrograph.
    angle_deg : float
        Turns what is seen clockwise on a screen, rows running down.
    scale : float
        > 1: things look larger.
    """

    centre_xy: tuple[float, float]
    angle_deg: float = 0.0
    scale: float = 1.0

    def matrix(self, shape: tuple[int, int]) -> np.ndarray:
        """Return `(2, 3)`: micrograph (column, row, 1) -> view of `shape` (rows, columns), column and row."""
        angle = np.deg2rad(self.angle_deg)
        turn = self.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.array([shape[1] - 1, shape[0] - 1]) / 2
        return np.concatenate([turn, (middle - turn @ self.centre_xy)[:, None]], 1)


def view(sample: Sample, shape: tuple[int, int], pose: Pose) -> Sample:
    """See a micrograph through a turned and scaled window.

    Parameters
    ----------
    sample : Sample
        What is looked at.
    shape : tuple of int
        Rows, columns of the view.
    pose : Pose
        Where it is taken from.

    Returns
    -------
    Sample
        `shape`; 0 beyond the picture and where it is blanked. Particles whose centres lie in the view, their sides
        scaled.
    """
    matrix = pose.matrix(shape)
    back = cv2.invertAffineTransform(matrix)
    corners = np.array([[-0.5, -0.5], [shape[1] - 0.5, -0.5], [-0.5, shape[0] - 0.5], [shape[1] - 0.5, shape[0] - 0.5]])
    seen = corners @ back[:, :2].T + back[:, 2]
    limit = sample.pixels.shape[::-1]
    x0, y0 = (np.floor(seen.min(0)).astype(int) - _SUPPORT).clip(0, limit)
    x1, y1 = (np.ceil(seen.max(0)).astype(int) + _SUPPORT + 1).clip(0, limit)
    xy = sample.xy @ matrix[:, :2].T + matrix[:, 2]
    if x1 <= x0 or y1 <= y0:
        nothing = np.zeros(shape, np.float32)
        return replace(sample, pixels=nothing, xy=xy, side=sample.side * pose.scale).select(np.zeros(len(xy), bool))
    window = np.ascontiguousarray(sample.pixels[y0:y1, x0:x1], np.float32)
    blank = blanked(window)
    flags = np.zeros(window.shape, np.uint8) if blank is None else blank.view(np.uint8)
    matrix[:, 2] += matrix[:, :2] @ (x0, y0)
    size = (shape[1], shape[0])
    pixels = cv2.warpAffine(window, matrix, size, flags=cv2.INTER_CUBIC)
    nothing = cv2.warpAffine(flags, matrix, size, flags=cv2.INTER_NEAREST, borderValue=(1,))
    pixels = restored(pixels, nothing.view(bool))
    return replace(sample, pixels=pixels, xy=xy, side=sample.side * pose.scale).inside()


def placed(sample: Sample, shape: tuple[int, int], config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """Return the view of a random place, turned and scaled at random as far as `config` says.

    Parameters
    ----------
    sample : Sample
        Smaller than the view is allowed: the rest is 0.
    shape : tuple of int
        Rows, columns of the view.
    config : AugmentConfig
        `rotate_deg` and `scale`.
    rng : np.random.Generator
        The only source of randomness.
    """
    y, x = (int(rng.integers(max(n - s, 0) + 1)) for n, s in zip(sample.pixels.shape, shape, strict=True))
    rows, columns = (min(n, s) for n, s in zip(sample.pixels.shape, shape, strict=True))
    if config.rotate_deg or config.scale:
        # A picture smaller than the view turns about its own middle, or it would turn out of sight.
        return view(sample, shape, drawn((x + (columns - 1) / 2, y + (rows - 1) / 2), config, rng))
    # A copy: a memory-mapped image cannot be written to, and tensors share only memory that can.
    pixels = cut(sample.pixels, np.array([[x, y]]), shape, "zero")[0].astype(np.float32, copy=False)
    return replace(sample, pixels=pixels, xy=sample.xy - (x, y)).inside()


def drawn(centre_xy: tuple[float, float], config: AugmentConfig, rng: np.random.Generator) -> Pose:
    """Draw a pose: angles evenly up to `rotate_deg` either way, scales evenly in their logarithm."""
    angle = config.rotate_deg * rng.uniform(-1, 1)
    return Pose(centre_xy, float(angle), float((1 + config.scale) ** rng.uniform(-1, 1)))


def turned(pixels: np.ndarray, xy: np.ndarray, which: int) -> tuple[np.ndarray, np.ndarray]:
    """Apply one of the eight symmetries of a square: `which` % 4 quarter turns, mirrored from 4 on.

    Parameters
    ----------
    pixels, xy : np.ndarray
        `(h, w)` and `(n, 2)`; odd quarter turns make `(w, h)` of `(h, w)`.
    which : int
        0..7; 0 changes nothing.
    """
    if which >= 4:
        pixels, xy = pixels[:, ::-1], np.stack([pixels.shape[1] - 1 - xy[:, 0], xy[:, 1]], 1)
    for _ in range(which % 4):
        # A quarter turn as np.rot90 does it: the last column becomes the first row.
        xy = np.stack([xy[:, 1], pixels.shape[1] - 1 - xy[:, 0]], 1)
        pixels = np.rot90(pixels)
    return np.ascontiguousarray(pixels), xy
