"""Cutting particles out of micrographs, scaled and normalised as RELION does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft

from upicker.errors import ConfigError
from upicker.image.boxes import cut
from upicker.image.filters import filled
from upicker.particles import Micrograph, Particles

# RELION's own default: the background begins outside a circle of three quarters of the box.
_BACKGROUND_FRACTION = 0.75
# Boxes scaled and normalised together: few enough to stay in the processor's cache.
_CHUNK = 16


@dataclass(frozen=True)
class Boxing:
    """How boxes are cut.

    Attributes
    ----------
    box_px : int
        Side b of the boxes in raw pixels; even.
    scaled_px : int or None
        Side s after scaling down by Fourier cropping; even, at most b. None: not scaled.
    invert : bool
        Invert the contrast: for micrographs with dark particles, as a camera records them, because RELION expects
        bright ones.
    normalise, ramp : bool
        Give the background mean 0 and standard deviation 1; fit a plane to it and subtract it first.
    background_diameter_px : float or None
        Diameter, in raw pixels, of the circle outside which is background; at most b. None: three quarters of the
        box as in RELION, or the particles' median diameter if that is larger, but at most b.
    pad : bool
        Boxes that reach beyond the micrograph: True pads them by repeating its border pixels, as RELION does; False
        leaves them out.
    """

    box_px: int
    scaled_px: int | None = None
    invert: bool = True
    normalise: bool = True
    ramp: bool = True
    background_diameter_px: float | None = None
    pad: bool = False

    @property
    def side_px(self) -> int:
        """Side of the extracted images, after scaling."""
        return self.scaled_px or self.box_px


@dataclass(frozen=True, eq=False)
class Boxes:
    """Particle images of one micrograph.

    Attributes
    ----------
    stack : np.ndarray
        `(n, s, s)` float32; the particle's centre is at pixel ``[s // 2, s // 2]``.
    particles : Particles
        The n particles, in the order of the stack; positions as picked, not rounded.
    dropped : int
        Particles left out because their box reaches beyond the micrograph.
    """

    stack: np.ndarray
    particles: Particles
    dropped: int


def extract(micrograph: Micrograph, particles: Particles, boxing: Boxing) -> Boxes:
    """Cut a square box around each particle.

    The box of b pixels begins at ``round(x) - b / 2`` (halves round up), so that the pixel nearest to the
    centre becomes pixel b / 2 of the box, as RELION counts; nothing is interpolated. RELION drops the
    fraction of ``x`` instead of rounding it, which moves its boxes by half a pixel on average; on whole
    coordinates both cut the same pixels, and what follows is equal to rounding errors (RELION 3.1.3).

    Scaling keeps the low frequencies of the box's Fourier transform. Normalisation is RELION's: the background
    is what lies outside a circle around the box's centre; a plane fitted to it is subtracted from the whole box,
    then its mean, and the box is divided by the background's standard deviation.

    Parameters
    ----------
    micrograph : Micrograph
        Raw pixels; non-finite ones are replaced by the median of the others.
    particles : Particles
        Centres in raw pixels.
    boxing : Boxing
        How to cut.

    Raises
    ------
    ConfigError
        If the box is odd, smaller than 4 pixels or larger than the micrograph, the scaled one is odd or larger
        than the box, or the circle is larger than the box.
    """
    found = list(portions(micrograph, particles, boxing, max(1, len(particles))))
    if not found:
        none = np.empty((0, boxing.side_px, boxing.side_px), np.float32)
        return Boxes(none, particles.select(np.arange(0)), len(particles))
    [boxes] = found
    return replace(boxes, dropped=len(particles) - len(boxes.particles))


def portions(micrograph: Micrograph, particles: Particles, boxing: Boxing, size: int) -> Iterator[Boxes]:
    """Yield boxes as `extract` does, `size` at a time; `dropped` is not counted.

    Raises
    ------
    ConfigError
        As `extract`.
    """
    _check(micrograph, boxing)
    particles = particles.select(fitting(particles, micrograph.shape, boxing))
    pixels, finish = filled(micrograph.pixels), _Finish(boxing, particles)
    corner = _corners(particles, boxing.box_px)
    for first in range(0, len(particles), size):
        last = min(first + size, len(particles))
        stack = np.empty((last - first, boxing.side_px, boxing.side_px), np.float32)
        for start in range(first, last, _CHUNK):
            end = min(start + _CHUNK, last)
            stack[start - first : end - first] = finish(cut(pixels, corner[start:end], (boxing.box_px, boxing.box_px)))
        yield Boxes(stack, particles.select(np.arange(first, last)), 0)


def fitting(particles: Particles, shape: tuple[int, int], boxing: Boxing) -> np.ndarray:
    """Return `(n,)` bool: which particles `extract` cuts out of a micrograph of `shape` (rows, columns)."""
    if boxing.pad:
        return np.ones(len(particles), bool)
    corner = _corners(particles, boxing.box_px)
    return np.all((corner >= 0) & (corner + boxing.box_px <= (shape[1], shape[0])), axis=1)


def _corners(particles: Particles, box_px: int) -> np.ndarray:
    """Return `(n, 2)`, column and row of the first pixel of each box."""
    return np.floor(particles.xy + 0.5).astype(np.int64) - box_px // 2


def _check(micrograph: Micrograph, boxing: Boxing) -> None:
    box_px, scaled_px = boxing.box_px, boxing.side_px
    if box_px % 2 or box_px < 4:
        raise ConfigError("--box", f"{box_px} px is odd or less than 4 px", "Give an even number of pixels, at least 4")
    if box_px > min(micrograph.shape):
        rows, columns = micrograph.shape
        raise ConfigError(
            "--box",
            f"{box_px} px exceeds {micrograph.path or micrograph.name} has: {columns} columns x {rows} rows",
            "Give a smaller box",
        )
    if scaled_px % 2 or not 4 <= scaled_px <= box_px:
        found = f"{scaled_px} px is not a valid scaled side of a box of {box_px} px"
        raise ConfigError("--scale", found, "Give an even number of pixels, at least 4 and at most the box")
    circle = boxing.background_diameter_px
    if circle is not None and circle > box_px:
        found = f"{circle:g} px is more than the box of {box_px} px"
        raise ConfigError("the background circle", found, "Make it smaller")


class _Finish:
    """Scales, normalises and inverts boxes `(n, b, b)`; what is common to all is computed once."""

    def __init__(self, boxing: Boxing, particles: Particles) -> None:
        self._boxing = boxing
        if not boxing.normalise:
            return
        side_px = boxing.side_px
        circle_px = boxing.background_diameter_px or _background_diameter(particles, boxing.box_px)
        offset = np.arange(side_px) - side_px // 2
        y, x = np.meshgrid(offset, offset, indexing="ij")
        background = (x**2 + y**2 > (circle_px * side_px / boxing.box_px / 2) ** 2).ravel()
        surface = np.stack([np.ones(side_px**2), x.ravel(), y.ravel()][: 3 if boxing.ramp else 1], 1)
        # The least-squares plane is linear in the pixels: one product for many boxes.
        solve = np.zeros((side_px**2, surface.shape[1]), np.float32)
        solve[background] = np.linalg.pinv(surface[background]).T
        self._solve, self._surface = solve, np.ascontiguousarray(surface.T, np.float32)
        self._weights = (background / background.sum()).astype(np.float32)

    def __call__(self, boxes: np.ndarray) -> np.ndarray:
        """Return `(n, s, s)`; `boxes` may be overwritten."""
        if self._boxing.side_px != self._boxing.box_px:
            boxes = _scaled(boxes, self._boxing.side_px)
        if self._boxing.normalise:
            self._normalise(boxes.reshape(len(boxes), -1))
        return np.negative(boxes, out=boxes) if self._boxing.invert else boxes

    def _normalise(self, flat: np.ndarray) -> None:
        # Subtract the large common offset of raw counts first, so that single precision suffices for the rest.
        flat -= flat.mean(1, dtype=np.float64, keepdims=True).astype(np.float32)
        flat -= (flat @ self._solve) @ self._surface
        flat -= (flat @ self._weights)[:, None]
        deviation = np.sqrt(np.square(flat) @ self._weights)
        # A constant background (a blank border) has no standard deviation to divide by.
        flat /= np.where(deviation > 0, deviation, 1)[:, None]


def _scaled(boxes: np.ndarray, side_px: int) -> np.ndarray:
    """Fourier-crop `(n, b, b)` to `(n, s, s)`, keeping the frequency s / 2 along both axes as RELION does."""
    half = side_px // 2
    along = np.asarray(fft.rfft(boxes, axis=2))[:, :, : half + 1]
    both = np.asarray(fft.fft(along, axis=1, overwrite_x=True))
    kept = np.concatenate([both[:, : half + 1], both[:, both.shape[1] - half + 1 :]], axis=1)
    kept *= np.float32((side_px / boxes.shape[1]) ** 2)
    return np.asarray(fft.irfft2(kept, s=(side_px, side_px), overwrite_x=True), np.float32)


def _background_diameter(particles: Particles, box_px: int) -> float:
    return min(max(_BACKGROUND_FRACTION * box_px, particles.median_diameter_px or 0.0), float(box_px))
