"""Procedural particles: a density made of Gaussian blobs, so that volumes and projections are exact.

A Gaussian stays a Gaussian in every projection. So a particle seen from any side, at any pixel size and any
fraction of a pixel beside the grid, is a sum of separable Gaussians, integrated over each pixel: no voxels
to interpolate, no loss at high frequencies, and the integral over a projection is that of the particle.

The frame of a specimen: `x`, `y`, `z` in Angstrom, origin in its middle, the beam along `z`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from upicker.errors import ConfigError

# Protein stands out of ice by 3.6 V (8.2 V against 4.6 V) if the scattering factors of isolated atoms are
# summed; bonds, flexible parts and radiation damage take some of it.
PROTEIN_CONTRAST_V = 3.0
# A ribosome's RNA stands out more, 4.2 V, but water fills more than half of its outline.
RIBOSOME_CONTRAST_V = 1.7


@dataclass(frozen=True, eq=False)
class Specimen:
    """A particle, as Gaussian blobs of electrostatic potential above that of the ice.

    Attributes
    ----------
    name : str
        What it is.
    centres_A : np.ndarray
        `(k, 3)` float64 x, y, z.
    sigma_A : float
        Standard deviation of the blobs; together with their distances it sets the resolution.
    weight_VA3 : np.ndarray
        `(k,)` float64, the integral of each blob, in volt times cubic Angstrom.
    """

    name: str
    centres_A: np.ndarray
    sigma_A: float
    weight_VA3: np.ndarray

    @property
    def radius_A(self) -> float:  # noqa: N802
        """Of a sphere around the origin that holds the particle, blobs' tails included."""
        return float(np.linalg.norm(self.centres_A, axis=1).max()) + 4 * self.sigma_A

    def volume(self, size: int, voxel_size_A: float) -> np.ndarray:
        """Return the density, `(size, size, size)` float32, volt; axes z, y, x, origin at size // 2."""
        z, y, x = (self._spread(self.centres_A[:, axis], size, voxel_size_A) for axis in (2, 1, 0))
        planes = (self.weight_VA3[:, None] * z)[:, :, None] * y[:, None, :]
        return np.tensordot(planes, x, (0, 0)).astype(np.float32)

    def projection(
        self, rotation: np.ndarray, size: int, pixel_size_A: float, shift_px: tuple[float, float] = (0.0, 0.0)
    ) -> np.ndarray:
        """Project the turned particle along the beam.

        Parameters
        ----------
        rotation : np.ndarray
            `(3, 3)`, turns the particle's frame into the microscope's: ``turned = rotation @ centre``.
        size : int
            Side of the picture in pixels.
        pixel_size_A : float
            Of the picture.
        shift_px : tuple of float
            Where the origin lies beside pixel size // 2: columns, rows.

        Returns
        -------
        np.ndarray
            `(size, size)` float32, rows y, columns x: the potential integrated along z and averaged over each
            pixel, in volt times Angstrom.
        """
        x, y, _ = rotation @ self.centres_A.T
        columns = self._spread(x + shift_px[0] * pixel_size_A, size, pixel_size_A)
        rows = self._spread(y + shift_px[1] * pixel_size_A, size, pixel_size_A)
        return ((self.weight_VA3[:, None] * rows).T @ columns).astype(np.float32)

    def _spread(self, position_A: np.ndarray, size: int, step_A: float) -> np.ndarray:
        """Return `(k, size)`, per Angstrom: each blob along one axis, averaged over every pixel."""
        edges = (np.arange(size + 1) - size // 2 - 0.5) * step_A
        below = erf((edges - position_A[:, None]) / (np.sqrt(2) * self.sigma_A))
        return np.diff(below, axis=1) / (2 * step_A)


def build(name: str, diameter_A: float, seed: int = 0) -> Specimen:
    """Return the specimen of a name: ``"barrel"`` or ``"globule"``.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    makers = {"barrel": barrel, "globule": globule}
    if name not in makers:
        raise ConfigError("specimen", f"there is no '{name}'", f"There are: {', '.join(makers)}")
    return makers[name](diameter_A, seed)


def barrel(diameter_A: float = 150.0, seed: int = 0) -> Specimen:
    """Build a hollow barrel of four rings of seven subunits with D7 symmetry, like the 20S proteasome.

    Parameters
    ----------
    diameter_A : float
        Its length; it is about three quarters as wide.
    seed : int
        Of the subunits' inner structure: two different ones, in the outer and the inner rings.
    """
    rng = np.random.default_rng((seed, 7))
    # At a length of 150 A, which scales everything: rings 37 A apart, subunits 37 A from the axis. With their
    # volume the whole weighs 700 kDa (1.21 cubic Angstrom per dalton), as the proteasome does.
    scale = diameter_A / 150
    axes = np.array([21.0, 18.0, 19.0]) * scale
    outer = _scatter(rng, 44, axes) + np.array([35.0, 4.0, 56.0]) * scale
    inner = _scatter(rng, 44, axes) + np.array([38.0, -4.0, 19.0]) * scale
    unit = np.concatenate([outer, inner])
    centres = np.concatenate([unit @ operator.T for operator in dihedral(7)])
    volume_A3 = 2 * 4 / 3 * np.pi * axes.prod()
    weight = np.tile(_weights(rng, len(unit), volume_A3 * PROTEIN_CONTRAST_V), 14)
    return Specimen("barrel", centres, 4.2 * scale, weight)


def globule(diameter_A: float = 260.0, seed: int = 0) -> Specimen:
    """Build a solid particle of two unequal parts with a cleft between, without symmetry, like a ribosome.

    Parameters
    ----------
    diameter_A : float
        About its longest extension.
    seed : int
        Of its inner structure.
    """
    rng = np.random.default_rng((seed, 80))
    large = _scatter(rng, 700, np.array([0.46, 0.40, 0.31]) * diameter_A)
    small = _scatter(rng, 340, np.array([0.42, 0.26, 0.19]) * diameter_A)
    # Random grooves: what lies near a few points of the surface is taken away.
    parts = [large + np.array([0, 0, -0.17]) * diameter_A, small + np.array([0.03, 0.06, 0.29]) * diameter_A]
    centres = np.concatenate(parts)
    grooves = rng.normal(size=(9, 3))
    grooves *= 0.42 * diameter_A / np.linalg.norm(grooves, axis=1, keepdims=True)
    distance = np.linalg.norm(centres[:, None] - grooves, axis=2).min(1)
    centres = centres[distance > 0.09 * diameter_A]
    volume_A3 = 4 / 3 * np.pi * (0.46 * 0.40 * 0.31 + 0.42 * 0.26 * 0.19) * diameter_A**3
    weight = _weights(rng, len(centres), volume_A3 * RIBOSOME_CONTRAST_V * len(centres) / 1040)
    return Specimen("globule", centres - centres.mean(0), 0.022 * diameter_A, weight)


def dihedral(fold: int) -> np.ndarray:
    """Return the dihedral group's `(2 fold, 3, 3)` rotations: `fold` about z, two-fold axes across it."""
    angles = 2 * np.pi * np.arange(fold) / fold
    cos, sin, zero, one = np.cos(angles), np.sin(angles), np.zeros(fold), np.ones(fold)
    turns = np.array([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]]).transpose(2, 0, 1)
    return np.concatenate([turns, turns @ np.diag([1.0, -1.0, -1.0])])


def _scatter(rng: np.random.Generator, count: int, axes_A: np.ndarray) -> np.ndarray:
    """Spread points evenly but irregularly over an ellipsoid: the loneliest of a few random ones is taken."""
    points = np.empty((0, 3))
    while len(points) < count:
        trial = rng.uniform(-1, 1, (24, 3))
        trial = trial[(trial**2).sum(1) <= 1] * axes_A
        if len(points):
            distance = np.linalg.norm(trial[:, None] - points, axis=2).min(1)
            trial = trial[[distance.argmax()]]
        points = np.concatenate([points, trial[:1]])
    return points


def _weights(rng: np.random.Generator, count: int, total: float) -> np.ndarray:
    """Unequal weights of a given sum: texture inside the particle."""
    weight = rng.lognormal(0, 0.5, count)
    return weight * (total / weight.sum())
