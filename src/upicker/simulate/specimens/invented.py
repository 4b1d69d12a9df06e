"""Particles that nobody has seen: random assemblies, proteins in membranes, nucleic acids.

Each seed makes another one, of another symmetry, shape and size, so that a general model learns particles at large and
not a few of them by heart. Densities are those of proteins, of nucleic acids, and of lipids and detergents, above that
of ice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

# Protein: 0.81 Da per cubic Angstrom. Nucleic acid scatters more, and in lipids and detergents the tails hardly differ
# from ice, so that only the head groups show.
PROTEIN_KDA_A3 = 0.81e-3
NUCLEIC, BELT = 1.6, (0.2, 0.7)
SPACING_A = 9.0  # between the blobs of a lobe
MOST_BLOBS = 900  # of a whole particle: more take long to project
# Symmetries, and how often: half of all particles have none or a twofold axis.
_SYMMETRIES = ("C1", "C2", "D2", "C3", "C4", "C5", "C6", "C7", "D3", "D4", "D5", "D6", "D7", "T", "O")
_OFTEN = (6, 4, 3, 2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1)


@dataclass(frozen=True, eq=False)
class Invented:
    """A particle as it was invented, at its natural size.

    Attributes
    ----------
    centres_A : np.ndarray
        `(k, 3)` float64 x, y, z of its blobs; main axis along z.
    mass_kDa : np.ndarray
        `(k,)` float64 of each: that of the protein which would scatter as much.
    """

    centres_A: np.ndarray
    mass_kDa: np.ndarray

    def __add__(self, other: Invented) -> Invented:
        return Invented(
            np.concatenate([self.centres_A, other.centres_A]), np.concatenate([self.mass_kDa, other.mass_kDa])
        )

    def repeated(self, symmetry: str) -> Invented:
        """Return it with all copies of a symmetry (Schoenflies symbol)."""
        operators = Rotation.create_group(symmetry).as_matrix()
        centres = np.concatenate([self.centres_A @ operator.T for operator in operators])
        return Invented(centres, np.tile(self.mass_kDa, len(operators)))


def assembly(rng: np.random.Generator) -> Invented:
    """Return a protein of a few lobes a subunit, in any symmetry: discs, rings, rods, cages, or of no shape at all."""
    symmetry = str(rng.choice(_SYMMETRIES, p=np.array(_OFTEN) / sum(_OFTEN)))
    order = len(Rotation.create_group(symmetry))
    unit = _chain(rng, int(rng.integers(2, 7)) if order == 1 else int(rng.integers(1, 4)))
    return _moved(rng, unit, symmetry, order).repeated(symmetry)


def membrane(rng: np.random.Generator) -> Invented:
    """Return a protein in a micelle or a nanodisc, with domains on one side of it or on both."""
    symmetry = str(rng.choice(["C1", "C2", "C3", "C4", "C5"]))
    half, inner = rng.uniform(15, 20), rng.uniform(14, 34)
    belt = inner + rng.uniform(16, 34)
    within = _filled(rng, lambda at: np.hypot(at[:, 0], at[:, 1]) < inner, (inner, inner, half + 4))
    lipids = _filled(
        rng,
        lambda at: (np.hypot(at[:, 0], at[:, 1]) > inner) & (np.hypot(at[:, 0] / belt, at[:, 2] / half / 1.3) < 1),
        (belt, belt, half),
    )
    # Head groups are at the surface of the belt.
    depth = np.abs(lipids.centres_A[:, 2]) / half
    lipids = Invented(lipids.centres_A, lipids.mass_kDa * np.interp(depth, (0.4, 1.0), BELT))
    whole = within + lipids
    for side in (1.0, -1.0):
        if side > 0 or rng.random() < 0.5:
            domain = _chain(rng, int(rng.integers(1, 4)))
            order = int(symmetry[1:])
            turned = domain.centres_A - domain.centres_A.mean(0)
            away = rng.uniform(0.5, 0.9) * inner if order > 1 else rng.uniform(0, 0.5) * inner
            lift = half + 0.8 * np.ptp(turned[:, 2]) / 2
            whole += Invented(turned + np.array([away, 0.0, side * lift]), domain.mass_kDa).repeated(symmetry)
    return whole


def nucleic(rng: np.random.Generator) -> Invented:
    """Return bent and branched double helices, perhaps with some protein."""
    found, ends = Invented(np.empty((0, 3)), np.empty(0)), [np.zeros(3)]
    for _ in range(int(rng.integers(3, 9))):
        start, along = ends[rng.integers(len(ends))], _direction(rng)
        length = rng.uniform(25, 90)
        steps = np.arange(0, length, SPACING_A)
        # Two strands, 20 A across, a turn in 28 A.
        turn = 2 * np.pi * steps / 28 + rng.uniform(0, 2 * np.pi)
        side = _across(along)
        strands = [
            start
            + steps[:, None] * along
            + 7 * sign * (np.cos(turn)[:, None] * side[0] + np.sin(turn)[:, None] * side[1])
            for sign in (1, -1)
        ]
        mass = np.full(2 * len(steps), NUCLEIC * PROTEIN_KDA_A3 * np.pi * 100 * SPACING_A / 2)
        found += Invented(np.concatenate(strands), mass)
        ends.append(start + length * along)
    if rng.random() < 0.4:
        found += _chain(rng, int(rng.integers(1, 4)))
    return found


def _chain(rng: np.random.Generator, lobes: int) -> Invented:
    """Return lobes of a protein, each touching one before it."""
    slender = rng.random() < 0.3
    centres, sizes = [np.zeros(3)], [_axes(rng, slender)]
    for _ in range(lobes - 1):
        on = int(rng.integers(len(centres)))
        axes = _axes(rng, slender)
        reach = rng.uniform(0.6, 0.95) * (sizes[on].mean() + axes.mean())
        centres.append(centres[on] + reach * _direction(rng))
        sizes.append(axes)
    found = Invented(np.empty((0, 3)), np.empty(0))
    for centre, axes in zip(centres, sizes, strict=True):
        turned = Rotation.from_quat(rng.normal(size=4)).as_matrix()
        lobe = _filled(rng, lambda at, axes=axes: ((at / axes) ** 2).sum(1) < 1, tuple(axes))
        found += Invented(lobe.centres_A @ turned.T + centre, lobe.mass_kDa)
    return found


def _axes(rng: np.random.Generator, slender: bool) -> np.ndarray:
    """Return the semi-axes of a lobe."""
    axes = np.exp(rng.uniform(np.log(13), np.log(30), 3))
    if slender:
        axes[rng.integers(3)] *= rng.uniform(1.4, 2.2)
    return axes


def _moved(rng: np.random.Generator, unit: Invented, symmetry: str, order: int) -> Invented:
    """Move a subunit to where its copies touch."""
    if order == 1:
        return unit
    centred = unit.centres_A - unit.centres_A.mean(0)
    radius = np.sqrt((centred**2).sum(1).mean() * 5 / 3)  # of a ball of the same extent
    if symmetry[0] in "TO":
        return Invented(
            centred + rng.uniform(0.75, 1.0) * np.sqrt(order) / 2 * 1.15 * radius * _direction(rng), unit.mass_kDa
        )
    fold = int(symmetry[1:])
    away = rng.uniform(0.7, 1.1) * radius / np.sin(np.pi / fold)
    up = rng.uniform(0.4, 1.0) * radius if symmetry[0] == "D" else 0.0
    return Invented(centred + np.array([away, 0.0, up]), unit.mass_kDa)


def _filled(
    rng: np.random.Generator, within: Callable[[np.ndarray], np.ndarray], half_A: tuple[float, ...]
) -> Invented:
    """Return blobs at a jittered lattice inside an outline, given as a predicate in a box of half sides."""
    sides = [np.arange(-h, h + SPACING_A, SPACING_A) for h in half_A]
    at = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3)
    at = at + rng.uniform(-0.45, 0.45, at.shape) * SPACING_A
    at = at[within(at)] if within(at).any() else np.zeros((1, 3))
    return Invented(at, np.full(len(at), PROTEIN_KDA_A3 * SPACING_A**3))


def _direction(rng: np.random.Generator) -> np.ndarray:
    """Return a random unit vector."""
    vector = rng.normal(size=3)
    return vector / np.linalg.norm(vector)


def _across(along: np.ndarray) -> np.ndarray:
    """Return two unit vectors `(2, 3)` that are perpendicular to one and to each other."""
    first = np.cross(along, np.eye(3)[np.abs(along).argmin()])
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(along, first)])
