"""Central slices: projections of a density on a cubic grid, at any pixel size.

The Fourier transform of a projection is a central slice of the transform of the density, rotated as the particle is.
The slice is sampled at just the frequencies of the image, so nothing is interpolated in real space, and the cost
depends on the resolution of the specimen, not on the pixels of the camera.

The frame of a specimen: `x`, `y`, `z` in Angstrom, origin at its centre, the beam along `z`. An image holds samples of
the band-limited projection, as Fourier cropping of a finer image would give. The integration over the area of a pixel
is left to the detector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import fft, ndimage

# The grid is padded to twice its size, so that its transform is smooth enough for interpolation by splines of this
# order. Linear ones would leave an error of 3 % near the border, cubic ones take twice the time without visible gain.
OVERSAMPLING, ORDER = 2, 2


@dataclass(frozen=True, eq=False)
class Volume:
    """A specimen given by its potential on a grid.

    Attributes
    ----------
    name : str
        Its name.
    density_V : np.ndarray
        `(n, n, n)` float32, n even, volt above the ice; axes z, y, x, the origin at voxel n // 2.
    voxel_size_A : float
        Of the grid, the same along all axes.
    diameter_A : float
        Its longest extension.
    radius_A : float
        Of a sphere around the origin that encloses it; at most half the grid.
    """

    name: str
    density_V: np.ndarray
    voxel_size_A: float
    diameter_A: float
    radius_A: float

    def projection(
        self, rotation: np.ndarray, size: int, pixel_size_A: float, shift_px: tuple[float, float] = (0.0, 0.0)
    ) -> np.ndarray:
        """Project the rotated particle along the beam.

        Parameters
        ----------
        rotation : np.ndarray
            `(3, 3)`, from the frame of the particle to that of the microscope: ``rotation @ point``.
        size : int
            Side of the image in pixels.
        pixel_size_A : float
            Of the image; may be finer or coarser than the grid.
        shift_px : tuple of float
            Offset of the origin from pixel size // 2: columns, rows.

        Returns
        -------
        np.ndarray
            `(size, size)` float32, rows y, columns x: the potential integrated along z, in volt times Angstrom.
        """

        def central_slice(ky: np.ndarray, kx: np.ndarray) -> np.ndarray:
            return self._slice(np.asarray(rotation, np.float32), ky, kx)

        limit = 0.5 / self.voxel_size_A
        return image_of_slice(central_slice, (2 * self.radius_A, limit), size, pixel_size_A, shift_px)

    def _slice(self, rotation: np.ndarray, ky: np.ndarray, kx: np.ndarray) -> np.ndarray:
        """Return a central slice of the transform, `(ky, kx)` complex64."""
        inside = ky[:, None] ** 2 + kx[None, :] ** 2 < (0.5 / self.voxel_size_A) ** 2
        row, column = np.nonzero(inside)
        # The slice at k is the transform at rotation^-1 k.
        along = rotation[:2].T @ np.stack([kx[column], ky[row]])
        # Half of the transform is stored; the other half follows by Hermitian symmetry.
        mirrored = along[0] < 0
        along[:, mirrored] *= -1
        side = OVERSAMPLING * len(self.density_V)
        position = along[::-1] * (side * self.voxel_size_A)
        position += np.array([[side // 2], [side // 2], [1]], np.float32)
        values = ndimage.map_coordinates(self._transform, position, order=ORDER, prefilter=False)
        values[mirrored] = values[mirrored].conj()
        plane = np.zeros(inside.shape, np.complex64)
        plane[inside] = values
        return plane

    @cached_property
    def _transform(self) -> np.ndarray:
        """The oversampled transform, `(2n, 2n, n + 2)` complex64, volt A^3: kz and ky from -n, kx from -1.

        Interpolation of the transform multiplies the density with a bell-shaped function, which is divided out
        beforehand ("gridding correction").
        """
        n = len(self.density_V)
        assert n % 2 == 0
        side = OVERSAMPLING * n
        position = np.arange(n) - n // 2
        correction = np.sinc(position / side) ** -(ORDER + 1)
        flip = (-1.0) ** np.arange(n)  # moves the origin of the transform to its centre
        values = self.density_V * np.float32(self.voxel_size_A**3)
        for axis in (2, 1, 0):
            weight = correction if axis == 2 else correction * flip
            values = values * _along(weight.astype(np.float32), axis)
            transform = fft.rfft if axis == 2 else fft.fft
            values = np.asarray(transform(values, side, axis=axis, overwrite_x=True))
            k = np.arange(values.shape[axis]) - (0 if axis == 2 else side // 2)
            values *= _along(np.exp(2j * np.pi * k * (n // 2) / side).astype(np.complex64), axis)
        before = np.roll(values[::-1, ::-1, 1], 1, (0, 1)).conj()
        return np.concatenate([before[:, :, None], values], axis=2)


def image_of_slice(
    central_slice: Callable[[np.ndarray, np.ndarray], np.ndarray],
    bounds: tuple[float, float],
    size: int,
    pixel_size_A: float,
    shift_px: tuple[float, float],
) -> np.ndarray:
    """Return the projection whose transform is a central slice.

    Parameters
    ----------
    central_slice : callable
        From frequencies along rows `(r,)` and columns `(c,)`, 1 / A, to the slice `(r, c)`, complex64, volt times cubic
        Angstrom. The frequencies along columns are not negative.
    bounds : tuple of float
        Diameter that encloses the particle, Angstrom, and its highest frequency, 1 / A.
    size : int
        Side of the image in pixels.
    pixel_size_A : float
        Of the image.
    shift_px : tuple of float
        Offset of the origin from pixel size // 2: columns, rows.

    Returns
    -------
    np.ndarray
        `(size, size)` float32, volt times Angstrom; 0 far from the particle.
    """
    extent_A, limit = bounds
    side = fft.next_fast_len(int(np.ceil(extent_A / pixel_size_A)) + 4, True) or 0
    reach = min(int(limit * side * pixel_size_A), (side - 1) // 2)
    rows = np.arange(-reach, reach + 1)
    columns = rows[reach:]
    step = np.float32(1 / (side * pixel_size_A))
    plane = central_slice(rows.astype(np.float32) * step, columns.astype(np.float32) * step)

    # Whole pixels of the shift are done when the image is placed, the rest and the shift to the centre by phases.
    whole = np.floor(np.asarray(shift_px) + 0.5).astype(int)
    to_x, to_y = np.asarray(shift_px) - whole + side // 2
    plane = plane * np.exp(-2j * np.pi / side * to_y * rows).astype(np.complex64)[:, None]
    plane *= np.exp(-2j * np.pi / side * to_x * columns).astype(np.complex64) / np.float32(pixel_size_A**2)
    spectrum = np.zeros((side, side // 2 + 1), np.complex64)
    spectrum[rows, : reach + 1] = plane
    projection = np.asarray(fft.irfft2(spectrum, (side, side), overwrite_x=True))

    result = np.zeros((size, size), np.float32)
    left, top = size // 2 + whole - side // 2
    target = tuple(slice(max(start, 0), max(start + side, 0)) for start in (top, left))
    inside = result[target]
    first = (max(-top, 0), max(-left, 0))
    inside[...] = projection[first[0] : first[0] + inside.shape[0], first[1] : first[1] + inside.shape[1]]
    return result


def _along(values: np.ndarray, axis: int) -> np.ndarray:
    """Reshape a vector so that it multiplies along one of three axes."""
    return values.reshape([-1 if axis == other else 1 for other in range(3)])
