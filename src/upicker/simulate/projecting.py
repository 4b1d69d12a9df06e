"""Projected potentials of particles on the grid, each at its own height, and how much of each particle is visible."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from upicker.simulate.grid import Grid, fast_length
from upicker.simulate.ice import Ice
from upicker.simulate.microscope.filters import Curve, frequencies
from upicker.simulate.specimens.specimen import Specimen

OUTLINE = 0.1  # a particle's outline is where its projection exceeds this fraction of its maximum
BREAK_A = 8.0  # width over which the projection of a broken particle falls at the break


@dataclass(frozen=True, eq=False)
class Placed:
    """Particles and decoys with their positions.

    Attributes
    ----------
    xy : np.ndarray
        `(n, 2)` column, row in pixels of the image; also outside it.
    kind : np.ndarray
        `(n,)` int, index of the structure of each.
    rotations : np.ndarray
        `(n, 3, 3)` see `Specimen.projection`.
    height_A : np.ndarray
        `(n,)` above the middle of the ice, towards the electron source.
    cut : np.ndarray
        `(n, 2)` direction in radian and offset in Angstrom of the line beyond which a broken particle is missing;
        infinite offset: not broken.
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
class Projected:
    """The particles on the grid.

    Attributes
    ----------
    slices_VA : np.ndarray
        `(slices, h, w)` complex64, volt times Angstrom, the highest slice of the ice first: each particle's projected
        potential, propagated to the middle of its slice; the imaginary part comes from the propagation.
    coverage : np.ndarray
        `(h, w)` uint8, number of particles over each pixel.
    outlines : list
        For each particle its window of the grid (two slices), its outline there, bool, and its full area.
    """

    slices_VA: np.ndarray
    coverage: np.ndarray
    outlines: list[tuple[tuple[slice, slice], np.ndarray, int]]

    def visible(self, usable: np.ndarray) -> np.ndarray:
        """Return `(n,)` the fraction of each particle's outline in the `(h, w)` bool usable area and under no other."""
        clear = usable & (self.coverage == 1)
        return np.array([float(clear[window][shape].sum() / max(area, 1)) for window, shape, area in self.outlines])


@dataclass(frozen=True)
class ProjectionSettings:
    """How particles are projected.

    Attributes
    ----------
    grid : Grid
        The pixels.
    wavelength_A : float
        Of the electrons.
    damage : Curve
        The amplitude that radiation damage leaves at each frequency.
    ice : Ice
        Its thickness and number of slices.
    """

    grid: Grid
    wavelength_A: float
    damage: Curve
    ice: Ice


def project(settings: ProjectionSettings, structures: list[Specimen], placed: Placed) -> Projected:
    """Add up the projected potentials of particles.

    In Fourier space the potential of a particle at height z above the middle of its slice is multiplied by
    exp(-i pi lambda z k^2): the lens is focused relative to the middle, and this adds the particle's own defocus. The
    phase shift of the beam thereby becomes complex (the Rytov approximation), which is exact for a weak particle.
    """
    grid = settings.grid
    projected = Projected(
        np.zeros((settings.ice.slices, *grid.shape), np.complex64), np.zeros(grid.shape, np.uint8), []
    )
    halves = [int(np.ceil(one.radius_A / grid.pixel_size_A)) + 1 for one in structures]
    sides = [fast_length(2 * half + 1) for half in halves]
    damage = {side: _damage_filter(settings, side) for side in sides}
    top_A, step_A = settings.ice.thickness_A / 2, settings.ice.thickness_A / settings.ice.slices
    for i, (x, y) in enumerate(placed.xy + grid.margin_px):
        kind = placed.kind[i]
        side = sides[kind]
        column, row = int(np.rint(x)), int(np.rint(y))
        image = structures[kind].projection(placed.rotations[i], side, grid.pixel_size_A, (x - column, y - row))
        if placed.broken[i]:
            image = _broken(image, grid.pixel_size_A, *placed.cut[i])
        number = int(np.clip((top_A - placed.height_A[i]) // step_A, 0, settings.ice.slices - 1))
        above = placed.height_A[i] - (top_A - (number + 0.5) * step_A)
        window, part = _overlap(grid.shape, row - side // 2, column - side // 2, side)
        propagated = _propagated(settings, image, damage[side], above)
        projected.slices_VA[number][window] += propagated[part]
        outline = image > OUTLINE * image.max()
        projected.coverage[window] += outline[part]
        projected.outlines.append((window, outline[part], int(outline.sum())))
    return projected


def _damage_filter(settings: ProjectionSettings, side: int) -> np.ndarray:
    """Return `(side, side)` float32, the Fourier filter of radiation damage."""
    ky, kx = frequencies((side, side), settings.grid.pixel_size_A)
    return np.asarray(settings.damage(np.sqrt(ky**2 + kx**2)), np.float32)


def _propagated(settings: ProjectionSettings, image: np.ndarray, damage: np.ndarray, above_A: float) -> np.ndarray:
    """Return `(side, side)` complex64: a projection, damped by damage and propagated downwards by `above_A`."""
    k = np.fft.fftfreq(len(image), settings.grid.pixel_size_A)
    propagator = np.exp(-1j * np.pi * settings.wavelength_A * above_A * k**2).astype(np.complex64)
    spectrum = np.asarray(fft.fft2(image))
    spectrum *= damage
    spectrum *= propagator[:, None]
    spectrum *= propagator
    return np.asarray(fft.ifft2(spectrum, overwrite_x=True))


def _broken(image: np.ndarray, pixel_size_A: float, angle: float, offset_A: float) -> np.ndarray:
    """Return a projection without what lies beyond a line."""
    position = ((np.arange(len(image)) - len(image) // 2) * pixel_size_A).astype(np.float32)
    beyond = np.float32(np.sin(angle)) * position[:, None] + np.float32(np.cos(angle)) * position - np.float32(offset_A)
    return image * (0.5 - 0.5 * np.tanh(beyond / np.float32(BREAK_A)))


def _overlap(shape: tuple[int, int], top: int, left: int, side: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the window of the grid that a square covers, and which part of the square that is."""
    rows, columns = (
        slice(min(max(start, 0), n), min(max(start + side, 0), n)) for start, n in zip((top, left), shape, strict=True)
    )
    part = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
    return (rows, columns), part
