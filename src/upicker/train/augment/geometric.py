"""Geometric augmentation of pixels and particles. Boxes stay upright squares, as particles have only a diameter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from upicker.config import AugmentConfig
from upicker.image.boxes import cut
from upicker.train.augment.blank import blank_mask, with_blank
from upicker.train.sample import Sample

# Pixels around a position that cubic interpolation uses, and one for rounding.
_SUPPORT = 3


@dataclass(frozen=True)
class Pose:
    """Position, rotation and scale of a view in its micrograph.

    Attributes
    ----------
    centre_xy : tuple of float
        Middle of the view: column and row of the micrograph.
    angle_deg : float
        Rotates the view's content clockwise on a screen, with rows running down.
    scale : float
        > 1: particles become larger.
    """

    centre_xy: tuple[float, float]
    angle_deg: float = 0.0
    scale: float = 1.0

    def matrix(self, shape: tuple[int, int]) -> np.ndarray:
        """Return `(2, 3)`: micrograph (column, row, 1) -> view of `shape` (rows, columns), column and row."""
        angle = np.deg2rad(self.angle_deg)
        rotation = self.scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = np.array([shape[1] - 1, shape[0] - 1]) / 2
        return np.concatenate([rotation, (middle - rotation @ self.centre_xy)[:, None]], 1)


def view(sample: Sample, shape: tuple[int, int], pose: Pose) -> Sample:
    """Return a rotated and scaled view of a micrograph.

    Parameters
    ----------
    sample : Sample
        The micrograph.
    shape : tuple of int
        Rows, columns of the view.
    pose : Pose
        Position, rotation and scale of the view.

    Returns
    -------
    Sample
        `shape`; 0 beyond the micrograph and where it is blanked. Particles whose centres lie in the view, their sides
        scaled.
    """
    matrix = pose.matrix(shape)
    inverse = cv2.invertAffineTransform(matrix)
    corners = np.array([[-0.5, -0.5], [shape[1] - 0.5, -0.5], [-0.5, shape[0] - 0.5], [shape[1] - 0.5, shape[0] - 0.5]])
    source = corners @ inverse[:, :2].T + inverse[:, 2]
    limit = sample.pixels.shape[::-1]
    x0, y0 = (np.floor(source.min(0)).astype(int) - _SUPPORT).clip(0, limit)
    x1, y1 = (np.ceil(source.max(0)).astype(int) + _SUPPORT + 1).clip(0, limit)
    xy = sample.xy @ matrix[:, :2].T + matrix[:, 2]
    if x1 <= x0 or y1 <= y0:
        empty = np.zeros(shape, np.float32)
        return replace(sample, pixels=empty, xy=xy, side=sample.side * pose.scale).select(np.zeros(len(xy), bool))
    window = np.ascontiguousarray(sample.pixels[y0:y1, x0:x1], np.float32)
    blank = blank_mask(window)
    flags = np.zeros(window.shape, np.uint8) if blank is None else blank.view(np.uint8)
    matrix[:, 2] += matrix[:, :2] @ (x0, y0)
    size = (shape[1], shape[0])
    pixels = cv2.warpAffine(window, matrix, size, flags=cv2.INTER_CUBIC)
    beyond = cv2.warpAffine(flags, matrix, size, flags=cv2.INTER_NEAREST, borderValue=(1,))
    pixels = with_blank(pixels, beyond.view(bool))
    return replace(sample, pixels=pixels, xy=xy, side=sample.side * pose.scale).inside()


def random_view(sample: Sample, shape: tuple[int, int], config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """Return a view at a random position, rotated and scaled at random within the limits of `config`.

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
        # A micrograph smaller than the view is rotated about its own middle, or it would leave the view.
        return view(sample, shape, random_pose((x + (columns - 1) / 2, y + (rows - 1) / 2), config, rng))
    # A copy: a memory-mapped image cannot be written to, and tensors share only memory that can.
    pixels = cut(sample.pixels, np.array([[x, y]]), shape, "zero")[0].astype(np.float32, copy=False)
    return replace(sample, pixels=pixels, xy=sample.xy - (x, y)).inside()


def random_pose(centre_xy: tuple[float, float], config: AugmentConfig, rng: np.random.Generator) -> Pose:
    """Draw a pose: angles uniform up to `rotate_deg` either way, the logarithm of the scale uniform."""
    angle = config.rotate_deg * rng.uniform(-1, 1)
    return Pose(centre_xy, float(angle), float((1 + config.scale) ** rng.uniform(-1, 1)))


def apply_symmetry(pixels: np.ndarray, xy: np.ndarray, which: int) -> tuple[np.ndarray, np.ndarray]:
    """Apply one of the eight symmetries of a square: `which` % 4 rotations by 90 degrees, mirrored from 4 on.

    Parameters
    ----------
    pixels, xy : np.ndarray
        `(h, w)` and `(n, 2)`; rotations by 90 and 270 degrees turn `(h, w)` into `(w, h)`.
    which : int
        0..7; 0 changes nothing.
    """
    if which >= 4:
        pixels, xy = pixels[:, ::-1], np.stack([pixels.shape[1] - 1 - xy[:, 0], xy[:, 1]], 1)
    for _ in range(which % 4):
        # As np.rot90 does it: the last column becomes the first row.
        xy = np.stack([xy[:, 1], pixels.shape[1] - 1 - xy[:, 0]], 1)
        pixels = np.rot90(pixels)
    return np.ascontiguousarray(pixels), xy
