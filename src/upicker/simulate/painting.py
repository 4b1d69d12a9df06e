"""Particles on a canvas: their scattered waves, each with its own height, and what of them can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from upicker.simulate.canvas import Canvas, fast_length
from upicker.simulate.ice import Ice
from upicker.simulate.microscope.filters import Curve, frequencies
from upicker.simulate.specimens.specimen import Specimen

OUTLINE = 0.1  # a particle's outline is where its projection passes this share of its maximum
CUT_A = 8.0  # a broken particle's edge is that soft


@dataclass(frozen=True, eq=False)
class Placed:
    """Structures on a canvas.

    Attributes
    ----------
    xy : np.ndarray
        `(n, 2)` column, row in the frame of the picture; outside it, too.
    kind : np.ndarray
        `(n,)` int, which of the structures each is.
    rotations : np.ndarray
        `(n, 3, 3)` see `Specimen.projection`.
    height_A : np.ndarray
        `(n,)` above the middle of the ice, towards the source.
    cut : np.ndarray
        `(n, 2)` direction in radian, and place in Angstrom, of the line beyond which a broken one is missing; a
        whole one's place is infinite.
    """

    xy: np.ndarray
    kind: np.ndarray
    rotations: np.ndarray
    height_A: np.ndarray
    cut: np.ndarray

    @property
    def broken(self) -> np.ndarray:
        """`(n,)` bool."""
        return np.isfinite(self.cut[:, 1])


@dataclass(frozen=True, eq=False)
class Painted:
    """A canvas with particles.

    Attributes
    ----------
    layers_VA : np.ndarray
        `(slices, h, w)` complex64, volt times Angstrom, the highest slice first: each particle's projection as it
        has spread on its way to the middle of its slice; the imaginary part is what its height makes.
    cover : np.ndarray
        `(h, w)` uint8, how many particles lie over a pixel.
    outlines : list
        For each particle its window on the canvas (two slices) and its outline there, bool; and its full area.
    """

    layers_VA: np.ndarray
    cover: np.ndarray
    outlines: list[tuple[tuple[slice, slice], np.ndarray, int]]

    def visible(self, usable: np.ndarray) -> np.ndarray:
        """Return `(n,)` each particle's share of its outline on `(h, w)` bool usable ground and under no other."""
        clear = usable & (self.cover == 1)
        return np.array([float(clear[window][shape].sum() / max(area, 1)) for window, shape, area in self.outlines])


@dataclass(frozen=True)
class Brush:
    """How particles are painted.

    Attributes
    ----------
    canvas : Canvas
        On what.
    wavelength_A : float
        Of the electrons.
    fading : Curve
        What radiation damage leaves.
    ice : Ice
        How thick it is, and how many layers it has.
    """

    canvas: Canvas
    wavelength_A: float
    fading: Curve
    ice: Ice


def paint(brush: Brush, cast: list[Specimen], placed: Placed) -> Painted:
    """Paint particles.

    In Fourier space a particle at height z above the middle of its layer is multiplied by exp(-i pi lambda z k^2): the
    lens, which is set to the middle, adds the rest of its own defocus. The phase that it gives to the beam becomes
    complex by that (the Rytov approximation), which is exact for a weak particle.
    """
    canvas = brush.canvas
    painted = Painted(np.zeros((brush.ice.slices, *canvas.shape), np.complex64), np.zeros(canvas.shape, np.uint8), [])
    halves = [int(np.ceil(one.radius_A / canvas.pixel_size_A)) + 1 for one in cast]
    sides = [fast_length(2 * half + 1) for half in halves]
    faded = {side: _faded(brush, side) for side in sides}
    top_A, step_A = brush.ice.thickness_A / 2, brush.ice.thickness_A / brush.ice.slices
    for i, (x, y) in enumerate(placed.xy + canvas.margin_px):
        kind = placed.kind[i]
        side = sides[kind]
        column, row = int(np.rint(x)), int(np.rint(y))
        picture = cast[kind].projection(placed.rotations[i], side, canvas.pixel_size_A, (x - column, y - row))
        if placed.broken[i]:
            picture = _broken(picture, canvas.pixel_size_A, *placed.cut[i])
        layer = int(np.clip((top_A - placed.height_A[i]) // step_A, 0, brush.ice.slices - 1))
        above = placed.height_A[i] - (top_A - (layer + 0.5) * step_A)
        window, part = _overlap(canvas.shape, row - side // 2, column - side // 2, side)
        spread = _spread(brush, picture, faded[side], above)
        painted.layers_VA[layer][window] += spread[part]
        outline = picture > OUTLINE * picture.max()
        painted.cover[window] += outline[part]
        painted.outlines.append((window, outline[part], int(outline.sum())))
    return painted


def _faded(brush: Brush, side: int) -> np.ndarray:
    """Return `(side, side)` float32, the filter of radiation damage."""
    ky, kx = frequencies((side, side), brush.canvas.pixel_size_A)
    return np.asarray(brush.fading(np.sqrt(ky**2 + kx**2)), np.float32)


def _spread(brush: Brush, picture: np.ndarray, faded: np.ndarray, above_A: float) -> np.ndarray:
    """Return `(side, side)` complex64: a projection as its wave is at a distance below, less what damage takes."""
    k = np.fft.fftfreq(len(picture), brush.canvas.pixel_size_A)
    turn = np.exp(-1j * np.pi * brush.wavelength_A * above_A * k**2).astype(np.complex64)
    spectrum = np.asarray(fft.fft2(picture))
    spectrum *= faded
    spectrum *= turn[:, None]
    spectrum *= turn
    return np.asarray(fft.ifft2(spectrum, overwrite_x=True))


def _broken(picture: np.ndarray, pixel_size_A: float, angle: float, place_A: float) -> np.ndarray:
    """Take away what lies beyond a line."""
    position = ((np.arange(len(picture)) - len(picture) // 2) * pixel_size_A).astype(np.float32)
    beyond = np.float32(np.sin(angle)) * position[:, None] + np.float32(np.cos(angle)) * position - np.float32(place_A)
    return picture * (0.5 - 0.5 * np.tanh(beyond / np.float32(CUT_A)))


def _overlap(shape: tuple[int, int], top: int, left: int, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return where a square lies on the canvas, and which part of it that is."""
    rows, columns = (
        slice(min(max(start, 0), n), min(max(start + side, 0), n)) for start, n in zip((top, left), shape, strict=True)
    )
    part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    return (rows, columns), part
