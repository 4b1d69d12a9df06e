"""Particles whose centres lie outside their micrograph: a few are dropped, many are in a wrong frame."""

from __future__ import annotations

import numpy as np

from upicker.errors import CoordinatesError
from upicker.particles import Particles

# Fractions of the particles that may lie outside their micrograph: anywhere, and near its border.
_FEW_OUTSIDE, _NEAR_OUTSIDE = 0.05, 0.25


def check_inside(particles: Particles, shape: tuple[int, int], where: object) -> tuple[Particles, int]:
    """Drop particles whose centres lie outside a micrograph; refuse them all if they seem to be in a wrong frame.

    A few may be outside: up to a twentieth, wherever they are; and, as refinement shifts particles, up to a quarter (or
    one) within a diameter of the edge, or without diameters within a twentieth of the shorter side.

    Parameters
    ----------
    particles : Particles
        In raw pixels.
    shape : tuple of int
        Rows, columns of the raw micrograph.
    where : object
        The coordinates file, for the message.

    Returns
    -------
    inside : Particles
        Those whose centres lie in the micrograph.
    dropped : int
        The number of the others.

    Raises
    ------
    CoordinatesError
        If more lie outside, or farther.
    """
    inside = particles.inside(shape)
    dropped = int((~inside).sum())
    if dropped > _FEW_OUTSIDE * len(particles) and (
        dropped > max(1, _NEAR_OUTSIDE * len(particles)) or _farthest(particles, shape) > _near(particles, shape)
    ):
        largest = particles.xy.max(0)
        raise CoordinatesError(
            str(where),
            f"{dropped} of {len(particles)} centres lie outside the micrograph of {shape[1]} columns"
            f" x {shape[0]} rows (largest x {largest[0]:g}, y {largest[1]:g})",
            "Check that they belong to this micrograph, and are not binned, flipped or in Angstrom",
        )
    return particles.select(inside), dropped


def _farthest(particles: Particles, shape: tuple[int, int]) -> float:
    """Return how far the farthest particle lies beyond the border, in raw pixels."""
    last = np.array([shape[1] - 0.5, shape[0] - 0.5])
    return float(np.maximum(-0.5 - particles.xy, particles.xy - last).max())


def _near(particles: Particles, shape: tuple[int, int]) -> float:
    return particles.median_diameter_px or _FEW_OUTSIDE * min(shape)
