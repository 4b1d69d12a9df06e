"""Cutting particles out of micrographs, normalised as RELION does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upicker.errors import ConfigError
from upicker.particles import Micrograph, Particles

# RELION's own default: the background begins outside a circle of three quarters of the box.
_BACKGROUND_SHARE = 0.75
# Boxes normalised together: few enough to stay in the processor's cache.
_CHUNK = 16


@dataclass(frozen=True, eq=False)
class Boxes:
    """Particle images of one micrograph.

    Attributes
    ----------
    stack : np.ndarray
        `(n, b, b)` float32; the particle's centre is at pixel ``[b // 2, b // 2]``.
    particles : Particles
        The n particles, in the stack's order; positions as picked, not rounded.
    dropped : int
        Particles left out because their box reaches beyond the micrograph.
    """

    stack: np.ndarray
    particles: Particles
    dropped: int


def extract(
    micrograph: Micrograph,
    particles: Particles,
    box_px: int,
    *,
    invert: bool = True,
    normalise: bool = True,
    ramp: bool = True,
    background_diameter_px: float | None = None,
) -> Boxes:
    """Cut a square box around each particle.

    The box of b pixels begins at ``round(x) - b / 2`` (halves round up), so that the pixel nearest to the
    centre becomes pixel b / 2 of the box, as RELION counts; nothing is interpolated. RELION drops the
    fraction of ``x`` instead of rounding it, which moves its boxes by half a pixel on average; on whole
    coordinates both cut the same pixels. Boxes that reach beyond the micrograph are left out and counted.

    Normalisation is RELION's: the background is what lies outside a circle around the box's centre; a plane
    fitted to it is subtracted from the whole box (`ramp`), then its mean, and the box is divided by the
    background's standard deviation.

    Parameters
    ----------
    micrograph : Micrograph
        Raw pixels; non-finite ones count as the median of the others.
    particles : Particles
        Centres in raw pixels.
    box_px : int
        Side b of the boxes, in raw pixels; even.
    invert : bool
        Change the sign of the contrast: right where particles are dark, as in pictures that come from a
        camera, because RELION wants them bright.
    normalise, ramp : bool
        Normalise as above; fit and subtract a plane, too (only with `normalise`).
    background_diameter_px : float, optional
        The circle's diameter, at most the box. By default three quarters of the box as in RELION, or the
        particles' median diameter where that is larger, but never more than the box.

    Raises
    ------
    ConfigError
        If the box is odd, smaller than 4 pixels or larger than the micrograph, or the circle is larger than
        it.
    """
    _check_box(micrograph, box_px)
    corner = np.floor(particles.xy + 0.5).astype(np.int64) - box_px // 2
    rows, columns = micrograph.shape
    whole = np.all((corner >= 0) & (corner + box_px <= (columns, rows)), axis=1)
    kept, corner = particles.select(whole), corner[whole]
    windows = np.lib.stride_tricks.sliding_window_view(_repaired(micrograph.pixels), (box_px, box_px))
    stack = windows[corner[:, 1], corner[:, 0]].astype(np.float32, copy=False)
    if normalise and len(stack):
        circle = background_diameter_px or _background_diameter(kept, box_px)
        if circle > box_px:
            raise ConfigError(
                "the background circle",
                f"{circle:g} px is more than the box of {box_px} px",
                "Make it smaller",
            )
        _normalise(stack, circle, ramp)
    if invert:
        np.negative(stack, out=stack)
    return Boxes(stack, kept, int((~whole).sum()))


def _check_box(micrograph: Micrograph, box_px: int) -> None:
    if box_px % 2 or box_px < 4:
        raise ConfigError("--box", f"{box_px} px cannot be a box", "Give an even number of pixels, at least 4")
    if box_px > min(micrograph.shape):
        rows, columns = micrograph.shape
        raise ConfigError(
            "--box",
            f"{box_px} px exceeds {micrograph.path or micrograph.name} has: {columns} columns x {rows} rows",
            "Give a smaller box",
        )


def _repaired(pixels: np.ndarray) -> np.ndarray:
    finite = np.isfinite(pixels)
    if finite.all():
        return pixels
    return np.where(finite, pixels, np.median(pixels[finite]) if finite.any() else 0).astype(np.float32)


def _background_diameter(particles: Particles, box_px: int) -> float:
    known = particles.diameter_px[np.isfinite(particles.diameter_px)]
    wanted = float(np.median(known)) if len(known) else 0.0
    return min(max(_BACKGROUND_SHARE * box_px, wanted), float(box_px))


def _normalise(stack: np.ndarray, circle_px: float, ramp: bool) -> None:
    """Normalise `(n, b, b)` in place: background mean 0, standard deviation 1."""
    n, box_px, _ = stack.shape
    place = np.arange(box_px) - box_px // 2
    y, x = np.meshgrid(place, place, indexing="ij")
    background = (x**2 + y**2 > (circle_px / 2) ** 2).ravel()
    surface = np.stack([np.ones(box_px**2), x.ravel(), y.ravel()][: 3 if ramp else 1], 1)
    # The least-squares plane is linear in the pixels: one product for many boxes.
    solve = np.zeros((box_px**2, surface.shape[1]), np.float32)
    solve[background] = np.linalg.pinv(surface[background]).T
    surface = np.ascontiguousarray(surface.T, np.float32)
    weights = (background / background.sum()).astype(np.float32)
    for start in range(0, n, _CHUNK):
        flat = stack[start : start + _CHUNK].reshape(-1, box_px**2)
        # Off with the large common offset of raw counts, so that single precision is enough for the rest.
        flat -= flat.mean(1, dtype=np.float64, keepdims=True).astype(np.float32)
        flat -= (flat @ solve) @ surface
        flat -= (flat @ weights)[:, None]
        deviation = np.sqrt(np.square(flat) @ weights)
        # A background of one value (a blank border) has nothing to scale by.
        flat /= np.where(deviation > 0, deviation, 1)[:, None]
