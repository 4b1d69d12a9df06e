"""Particles made of Gaussian blobs, whose volumes and projections are exact.

Projections and Fourier transforms of a Gaussian are Gaussians. So a central slice of a particle's transform is a sum of
separable Gaussians with phases: there are no voxels to interpolate, and the integral of a projection is exactly that of
the particle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upicker.simulate.specimens.volume import image_of_slice

# A blob's transform is cut off where it has fallen to this fraction of its value at the origin.
CUTOFF = 1e-4


@dataclass(frozen=True, eq=False)
class Blobs:
    """A particle, as Gaussian blobs of electrostatic potential above that of the ice.

    Attributes
    ----------
    name : str
        Its name.
    diameter_A : float
        Its longest extension.
    centres_A : np.ndarray
        `(k, 3)` float64 x, y, z.
    sigma_A : float
        Standard deviation of the blobs; with their distances it determines the resolution.
    weight_VA3 : np.ndarray
        `(k,)` float64, the integral of each blob, in volt times cubic Angstrom.
    """

    name: str
    diameter_A: float
    centres_A: np.ndarray
    sigma_A: float
    weight_VA3: np.ndarray

    @property
    def radius_A(self) -> float:  # noqa: N802
        """Radius of a sphere around the origin that encloses the particle, up to 4 sigma of its blobs."""
        return float(np.linalg.norm(self.centres_A, axis=1).max()) + 4 * self.sigma_A

    def volume(self, size: int, voxel_size_A: float) -> np.ndarray:
        """Return samples of the density, `(size, size, size)` float32, volt; axes z, y, x, origin at size // 2."""
        grid = (np.arange(size) - size // 2) * voxel_size_A
        z, y, x = (self._bell(grid - self.centres_A[:, [axis]]) for axis in (2, 1, 0))
        planes = (self.weight_VA3[:, None] * z)[:, :, None] * y[:, None, :]
        return np.tensordot(planes, x, (0, 0)).astype(np.float32)

    def projection(
        self, rotation: np.ndarray, size: int, pixel_size_A: float, shift_px: tuple[float, float] = (0.0, 0.0)
    ) -> np.ndarray:
        """Project the rotated particle along the beam; see `upicker.simulate.specimens.volume.Volume.projection`.

        Parameters
        ----------
        rotation : np.ndarray
            `(3, 3)`, turns the particle's frame into the microscope's: ``turned = rotation @ centre``.
        size : int
            Side of the image in pixels.
        pixel_size_A : float
            Of the image.
        shift_px : tuple of float
            Offset of the origin from pixel size // 2: columns, rows.

        Returns
        -------
        np.ndarray
            `(size, size)` float32, rows y, columns x: the potential integrated along z, in volt times Angstrom.
        """
        x, y, _ = rotation @ self.centres_A.T

        def central_slice(ky: np.ndarray, kx: np.ndarray) -> np.ndarray:
            rows = self._wave(y, ky) * self.weight_VA3.astype(np.float32)[:, None]
            return rows.T @ self._wave(x, kx)

        limit = np.sqrt(-np.log(CUTOFF) / 2) / (np.pi * self.sigma_A)
        return image_of_slice(central_slice, (2 * self.radius_A, limit), size, pixel_size_A, shift_px)

    def _bell(self, distance_A: np.ndarray) -> np.ndarray:
        """Return a Gaussian of integral 1, per Angstrom."""
        return np.exp(-0.5 * (distance_A / self.sigma_A) ** 2) / (np.sqrt(2 * np.pi) * self.sigma_A)

    def _wave(self, position_A: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Return `(blobs, k)` complex64: each blob's transform along one axis."""
        fall = np.exp(-2 * (np.pi * self.sigma_A * k) ** 2)
        phase = position_A.astype(np.float32)[:, None] * (np.float32(-2 * np.pi) * k)
        wave = np.empty(phase.shape, np.complex64)  # several times faster than exp of a complex number
        wave.real, wave.imag = fall * np.cos(phase), fall * np.sin(phase)
        return wave
