"""The built-in particles: random blobs within the outlines of well-known particles, so that nothing is downloaded.

Sizes, masses and symmetries are those of the particles named; the inner structure is random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from upicker.simulate.specimens.blobs import Blobs
from upicker.simulate.specimens.invented import MOST_BLOBS, Invented, assembly, membrane, nucleic
from upicker.simulate.specimens.structure import CONTRAST_VA3_DA, extension

_Point = tuple[float, float, float]


@dataclass(frozen=True)
class _Kind:
    """A built-in particle: the blobs of one asymmetric unit, at its natural size."""

    diameter_A: float  # its longest extension
    mass_kDa: float
    sigma_A: float
    symmetry: str  # Schoenflies symbol; main axis along z
    unit: Callable[[np.random.Generator], np.ndarray]


def build(name: str, diameter_A: float | None = None, seed: int = 0) -> Blobs:
    """Return a built-in particle.

    Parameters
    ----------
    name : str
        One of `BUILT_IN`.
    diameter_A : float, optional
        Its longest extension, to which it is scaled, its mass with the third power; by default the natural one.
    seed : int
        Of its random inner structure.
    """
    rng = np.random.default_rng((seed, BUILT_IN.index(name)))
    if name in _INVENTED:
        return _invented(name, _INVENTED[name](rng), rng, diameter_A)
    kind = _KINDS[name]
    scale = (diameter_A or kind.diameter_A) / kind.diameter_A
    unit = kind.unit(rng) * scale
    operators = Rotation.create_group(kind.symmetry).as_matrix()
    # Unequal weights: texture inside the particle.
    weight = np.tile(rng.lognormal(0, 0.5, len(unit)), len(operators))
    weight *= kind.mass_kDa * scale**3 * 1e3 * CONTRAST_VA3_DA / weight.sum()
    centres = np.concatenate([unit @ operator.T for operator in operators])
    centres -= np.average(centres, axis=0, weights=weight)
    return Blobs(name, kind.diameter_A * scale, centres, kind.sigma_A * scale, weight)


def _invented(name: str, found: Invented, rng: np.random.Generator, diameter_A: float | None) -> Blobs:
    """Return an invented particle, scaled to a longest extension."""
    centres, mass = found.centres_A, found.mass_kDa
    if len(centres) > MOST_BLOBS:  # fewer and heavier ones
        kept = rng.choice(len(centres), MOST_BLOBS, replace=False)
        centres, mass = centres[kept], mass[kept] * mass.sum() / mass[kept].sum()
    natural_A = extension(centres) + 2 * _INVENTED_SIGMA_A
    scale = (diameter_A or natural_A) / natural_A
    weight = mass * rng.lognormal(0, 0.4, len(mass))
    weight *= scale**3 * 1e3 * CONTRAST_VA3_DA * mass.sum() / weight.sum()
    centres = (centres - np.average(centres, axis=0, weights=weight)) * scale
    return Blobs(name, natural_A * scale, centres, _INVENTED_SIGMA_A * scale, weight)


def _barrel(rng: np.random.Generator) -> np.ndarray:
    """Two subunits of 14, like the 20S proteasome: four rings of seven, 37 A apart, around a channel."""
    axes = (21.0, 18.0, 19.0)
    outer = _points_in_ellipsoid(rng, 44, axes, (35.0, 4.0, 55.0))
    inner = _points_in_ellipsoid(rng, 44, axes, (38.0, -4.0, 18.0))
    return np.concatenate([outer, inner])


def _shell(rng: np.random.Generator) -> np.ndarray:
    """One subunit of 24, like apoferritin: on a sphere, at the corners of a snub cube, hollow."""
    corner = np.array([1.0, 0.5437, 1.8393])
    outward = corner / np.linalg.norm(corner)
    sideways = np.cross(outward, [0.3, 1.0, 0.1])
    sideways /= np.linalg.norm(sideways)
    frame = np.stack([sideways, np.cross(outward, sideways), outward])
    return _points_in_ellipsoid(rng, 36, (23.0, 15.0, 10.0), (0.0, 0.0, 52.0)) @ frame


def _globule(rng: np.random.Generator) -> np.ndarray:
    """Two unequal parts with a cleft between and grooves in the surface, like a bacterial ribosome."""
    large = _points_in_ellipsoid(rng, 700, (120.0, 104.0, 81.0), (0.0, 0.0, -44.0))
    small = _points_in_ellipsoid(rng, 340, (109.0, 68.0, 49.0), (8.0, 16.0, 75.0))
    centres = np.concatenate([large, small])
    # Blobs near a few points of the surface are removed.
    grooves = rng.normal(size=(9, 3))
    grooves *= 109 / np.linalg.norm(grooves, axis=1, keepdims=True)
    distance = np.linalg.norm(centres[:, None] - grooves, axis=2).min(1)
    return centres[distance > 23]


def _rod(rng: np.random.Generator) -> np.ndarray:
    """One subunit of 4, like beta-galactosidase: two unequal lobes on either side of a notch."""
    lobe = _points_in_ellipsoid(rng, 80, (21.0, 34.0, 29.0), (17.0, 16.0, 57.0))
    foot = _points_in_ellipsoid(rng, 50, (17.0, 26.0, 24.0), (13.0, 12.0, 18.0))
    return np.concatenate([lobe, foot])


def _small(rng: np.random.Generator) -> np.ndarray:
    """Four lobes of different sizes, in a bent arrangement."""
    lobes = (
        (34, (23.0, 19.0, 18.0), (-32.0, -8.0, 0.0)),
        (24, (21.0, 16.0, 15.0), (8.0, -15.0, 9.0)),
        (26, (24.0, 14.0, 14.0), (26.0, 13.0, -12.0)),
        (16, (12.0, 15.0, 13.0), (-4.0, 22.0, 14.0)),
    )
    return np.concatenate([_points_in_ellipsoid(rng, count, axes, centre) for count, axes, centre in lobes])


def _points_in_ellipsoid(rng: np.random.Generator, count: int, axes_A: _Point, centre_A: _Point) -> np.ndarray:
    """Return irregular but evenly distributed points: of a few random ones that furthest from the others is taken."""
    points = np.empty((count, 3))
    for index in range(count):
        trial = rng.uniform(-1, 1, (24, 3))
        trial = trial[(trial**2).sum(1) <= 1] * axes_A
        distance = np.linalg.norm(trial[:, None] - points[:index], axis=2).min(1, initial=np.inf)
        points[index] = trial[distance.argmax()]
    return points + centre_A


_KINDS = {
    "barrel": _Kind(150.0, 700.0, 4.2, "D7", _barrel),
    "shell": _Kind(125.0, 480.0, 3.6, "O", _shell),
    "globule": _Kind(260.0, 2300.0, 5.7, "C1", _globule),
    "rod": _Kind(180.0, 465.0, 4.2, "D2", _rod),
    "small": _Kind(110.0, 125.0, 4.0, "C1", _small),
}
_INVENTED = {"assembly": assembly, "membrane": membrane, "nucleic": nucleic}
_INVENTED_SIGMA_A = 4.5
BUILT_IN = (*_KINDS, *_INVENTED)
