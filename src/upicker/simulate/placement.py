"""Positions of the particles, their heights in the ice, and their orientations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from upicker.errors import ConfigError
from upicker.simulate import knobs

# Discs placed at random that never move cover at most 0.547 of a plane (random sequential addition); pushed apart,
# about 0.84 (random close packing in two dimensions), which takes ever longer. More than this is refused.
MAX_COVERAGE = 0.80
MAX_REDRAWS, MAX_PUSHES = 120, 1500
AGGREGATE = 5  # mean number of particles in an aggregate
SURFACE_A = 25.0  # standard deviation of the distance between particles at a surface and that surface


@dataclass(frozen=True)
class Placement:
    """How particles are distributed over an image.

    Attributes
    ----------
    min_distance : of two centres, in diameters; below about 0.8 particles overlap in projection.
    clustered : fraction of the particles that belong to aggregates, where they touch and overlap.
    broken : fraction of the particles of which a part is missing.
    decoys : other structures, which are simulated but not part of the truth.
    decoy_share : number of decoys per particle.
    preferred : 0: uniform orientations; positive: side views are preferred, with the particle's z axis in the plane of
        the image; negative: views along z. It is the concentration of a Watson distribution.
    surfaces : fraction of the particles at the surfaces of the ice; the others are anywhere in it.
    whole : whether all particles lie wholly in the image; otherwise its border cuts through some, and others reach in.
    """

    min_distance: float = 0.9
    clustered: float = 0.0
    broken: float = 0.0
    decoys: tuple[str, ...] = ()
    decoy_share: float = 0.0
    preferred: float = 0.0
    surfaces: float = 0.7
    whole: bool = False

    def __post_init__(self) -> None:
        knobs.not_negative(self, "min_distance", "decoy_share")
        knobs.fraction(self, "clustered", "broken", "surfaces")


@dataclass(frozen=True, eq=False)
class Area:
    """Where `n` structures may lie: in the image, or around it so that they reach in.

    Attributes
    ----------
    shape : tuple of int
        Rows, columns of the image.
    margin_px : float
        Width of the margin around it.
    diameter_px : np.ndarray
        `(n,)` diameters of the structures.
    inside : np.ndarray
        `(n,)` bool: in the image, not in the margin.
    """

    shape: tuple[int, int]
    margin_px: float
    diameter_px: np.ndarray
    inside: np.ndarray

    def contains(self, xy: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Return `(m,)` bool: which of `(m, 2)` positions are in the image, or in the margin where not `inside`."""
        low, high = np.array([-0.5, -0.5]), np.array([self.shape[1], self.shape[0]]) - 0.5
        in_image = ((xy >= low) & (xy < high)).all(1)
        in_area = ((xy >= low - self.margin_px) & (xy < high + self.margin_px)).all(1)
        return in_area & (in_image == inside)

    def draw(self, rng: np.random.Generator, index: np.ndarray) -> np.ndarray:
        """Return `(len(index), 2)` random positions of some of the structures."""
        xy = np.full((len(index), 2), np.inf)
        margin = np.where(self.inside[index], 0.0, self.margin_px)[:, None]
        size = np.array([self.shape[1], self.shape[0]])
        while (wrong := ~self.contains(xy, self.inside[index])).any():
            part = margin[wrong]
            xy[wrong] = rng.uniform(-0.5 - part, size - 0.5 + part)
        return xy


def positions(rng: np.random.Generator, area: Area, placement: Placement) -> np.ndarray:
    """Return random positions of all structures that keep the smallest distance.

    Positions are drawn at random, and drawn again where they are too close to another. Where that fails, as in crowded
    images, the remaining overlaps are resolved by pushing structures apart, so that some may move from the image to the
    margin, or into the image. Members of aggregates are then placed beside each other.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator.
    area : Area
        The structures, and where they may lie.
    placement : Placement
        Distance and aggregates.

    Returns
    -------
    np.ndarray
        `(n, 2)` float64 column, row in pixels of the image.

    Raises
    ------
    ConfigError
        If there are more than fit at their distance.
    """
    n = len(area.inside)
    aggregates = _aggregates(rng, area, placement)
    first = np.setdiff1d(np.arange(n), np.concatenate([np.empty(0, int), *aggregates.values()]))
    xy = np.full((n, 2), np.inf)
    xy[first] = _random_positions(rng, area, first, placement.min_distance)
    for centre, others in aggregates.items():
        members = [centre]
        for one in others:
            xy[one] = _touching(rng, area, xy, members, one)
            members.append(one)
    return xy


def orientations(rng: np.random.Generator, n: int, preferred: float = 0.0) -> np.ndarray:
    """Return `(n, 3, 3)` random rotations.

    The cosine c of the angle between a particle's z axis and the beam has the density exp(-preferred c^2) (Watson's
    distribution); the rotations about both axes are uniform. 0 gives the uniform distribution of rotations.
    """
    c = np.linspace(-1, 1, 4001)
    density = np.exp(-preferred * c**2 - max(-preferred, 0))
    cumulative = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    tilt = np.arccos(np.interp(rng.random(n) * cumulative[-1], cumulative, c))
    turns = rng.uniform(0, 2 * np.pi, (2, n))
    return Rotation.from_euler("zyz", np.stack([turns[0], tilt, turns[1]], 1)).as_matrix().reshape(n, 3, 3)


def heights(
    rng: np.random.Generator, placement: Placement, thickness_A: np.ndarray, radius_A: np.ndarray
) -> np.ndarray:
    """Return `(n,)` heights in Angstrom above the middle of the ice, such that the ice encloses each particle.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator.
    placement : Placement
        What fraction lies at the two surfaces, where most particles are found (Noble et al. 2018).
    thickness_A : np.ndarray
        `(n,)` of the ice at each particle.
    radius_A : np.ndarray
        `(n,)` of the particles.
    """
    n = len(thickness_A)
    room = np.clip(thickness_A / 2 - radius_A, 0, None)
    side = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    depth = np.minimum(np.abs(rng.normal(0, SURFACE_A, n)), room)
    at_surface = rng.random(n) < placement.surfaces
    return np.where(at_surface, side * (room - depth), rng.uniform(-1, 1, n) * room)


def _random_positions(rng: np.random.Generator, area: Area, index: np.ndarray, min_distance: float) -> np.ndarray:
    """Return `(len(index), 2)` random positions that keep their distance."""
    gap = min_distance * area.diameter_px[index]
    rows, columns = area.shape
    pixels = (rows + 2 * area.margin_px) * (columns + 2 * area.margin_px)
    coverage = (np.pi / 4 * gap**2).sum() / pixels
    if coverage > MAX_COVERAGE:
        raise _too_many(area, index, MAX_COVERAGE / coverage)
    xy = area.draw(rng, index)
    pending = np.arange(len(index))
    for _ in range(MAX_REDRAWS):
        a, b, _ = _too_close(xy, gap)
        # Of two that are too close the one that was drawn later is drawn again; accepted ones stay.
        order = np.zeros(len(index), int)
        order[pending] = 1 + np.arange(len(pending))
        pending = np.unique(np.where(order[a] > order[b], a, b))
        if not len(pending):
            return xy
        xy[pending] = area.draw(rng, index[pending])
    return _push_apart(area, index, xy, gap)


def _push_apart(area: Area, index: np.ndarray, xy: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Move every two that are too close by half of what is missing, until all keep their distance."""
    rows, columns = area.shape
    low, high = -area.margin_px, np.array([columns, rows]) - 1 + area.margin_px
    for _ in range(MAX_PUSHES):
        # A little further than needed, so that it converges.
        a, b, distance = _too_close(xy, 1.003 * gap)
        wanted = (gap[a] + gap[b]) / 2
        if (distance >= wanted).all():
            return xy
        direction = (xy[a] - xy[b]) / np.maximum(distance, 1e-9)[:, None]
        push = 0.5 * np.clip(1.004 * wanted - distance, 0, None)[:, None] * direction
        np.add.at(xy, a, push)
        np.add.at(xy, b, -push)
        np.clip(xy, low, high, out=xy)
    kept = len(xy) - len(np.unique(_too_close(xy, gap)[1]))
    raise _too_many(area, index, kept / len(xy))


def _too_close(xy: np.ndarray, gap: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs closer than the mean of their gaps: first, second, distance."""
    if len(xy) < 2:
        return np.empty(0, int), np.empty(0, int), np.empty(0)
    a, b = KDTree(xy).query_pairs(gap.max(), output_type="ndarray").T
    distance = np.linalg.norm(xy[a] - xy[b], axis=1)
    close = distance < (gap[a] + gap[b]) / 2
    return a[close], b[close], distance[close]


def _too_many(area: Area, index: np.ndarray, fraction: float) -> ConfigError:
    wanted = int(area.inside[index].sum())
    return ConfigError(
        "particles",
        f"{wanted} do not fit; there is room for about {int(fraction * wanted)} at that distance",
        "Ask for fewer, a larger image, or a smaller min_distance",
    )


def _aggregates(rng: np.random.Generator, area: Area, placement: Placement) -> dict[int, np.ndarray]:
    """Return the aggregates: first member -> other members."""
    aggregates = {}
    for side in (True, False):
        here = rng.permutation(np.flatnonzero(area.inside == side))
        here = here[: round(placement.clustered * len(here))]
        if len(here) < 2:
            continue
        count = max(1, round(len(here) / AGGREGATE))
        first, others = here[:count], here[count:]
        owner = rng.integers(0, count, len(others))
        aggregates |= {int(one): others[owner == i] for i, one in enumerate(first)}
    return aggregates


def _touching(rng: np.random.Generator, area: Area, xy: np.ndarray, members: list[int], one: int) -> np.ndarray:
    """Return a position where a particle touches a member of its aggregate: of a few tries that with most room."""
    best, most = xy[members[0]], -np.inf
    for _ in range(12):
        other = members[rng.integers(len(members))]
        reach = rng.uniform(0.6, 0.95) * (area.diameter_px[one] + area.diameter_px[other]) / 2
        angle = rng.uniform(0, 2 * np.pi)
        position = xy[other] + reach * np.array([np.cos(angle), np.sin(angle)])
        room = float(np.linalg.norm(xy - position, axis=1).min() / area.diameter_px[one])
        if not area.contains(position[None], area.inside[[one]])[0]:
            room -= 1
        if room > most:
            best, most = position, room
        if most >= 0.55:
            break
    return best
