"""Where particles lie, how high in the ice, and how they are turned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from upicker.errors import ConfigError
from upicker.simulate import knobs

# Discs thrown at random, that never move, cover at most 0.547 of a plane; pushed apart about 0.84 (random close
# packing in two dimensions), which takes ever longer. Beyond this share nothing is tried.
DENSEST = 0.80
ROUNDS, PUSHES = 120, 1500
AGGREGATE = 5  # mean number of particles in an aggregate
SURFACE_A = 25.0  # particles at a surface keep within about so far of it


@dataclass(frozen=True)
class Placement:
    """How particles are spread over a picture.

    Attributes
    ----------
    min_distance : of two centres, in diameters; below about 0.8 particles overlap in projection.
    clustered : share of the particles that belong to aggregates, where they touch and overlap.
    broken : share of the particles of which a part is missing.
    decoys : other structures, which are drawn but are not in the truth.
    decoy_share : how many decoys there are for each particle.
    preferred : 0: every orientation is as likely; positive: views on the sides are, where the particle's z lies in
        the plane; negative: views along z. It is the concentration of a Watson distribution.
    surfaces : share of the particles that lie at the surfaces of the ice; the others are anywhere in it.
    whole : whether all lie wholly in the picture; otherwise its rim cuts through some, and others reach in.
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
        knobs.share(self, "clustered", "broken", "surfaces")


@dataclass(frozen=True, eq=False)
class Field:
    """Where `n` structures may lie: those inside the picture, and those around it that reach in.

    Attributes
    ----------
    shape : tuple of int
        Rows, columns of the picture.
    margin_px : float
        Width of the rim around it where structures lie, too.
    diameter_px : np.ndarray
        `(n,)` their diameters.
    inside : np.ndarray
        `(n,)` bool: to lie in the picture, not in the rim.
    """

    shape: tuple[int, int]
    margin_px: float
    diameter_px: np.ndarray
    inside: np.ndarray

    def contains(self, xy: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Tell, as `(m,)` bool, which of `(m, 2)` positions are in the picture, or in the rim if not `inside`."""
        low, high = np.array([-0.5, -0.5]), np.array([self.shape[1], self.shape[0]]) - 0.5
        picture = ((xy >= low) & (xy < high)).all(1)
        canvas = ((xy >= low - self.margin_px) & (xy < high + self.margin_px)).all(1)
        return canvas & (picture == inside)

    def draw(self, rng: np.random.Generator, index: np.ndarray) -> np.ndarray:
        """Return `(len(index), 2)` random positions for some of the structures."""
        xy = np.full((len(index), 2), np.inf)
        margin = np.where(self.inside[index], 0.0, self.margin_px)[:, None]
        size = np.array([self.shape[1], self.shape[0]])
        while (wrong := ~self.contains(xy, self.inside[index])).any():
            part = margin[wrong]
            xy[wrong] = rng.uniform(-0.5 - part, size - 0.5 + part)
        return xy


def spread(rng: np.random.Generator, field: Field, placement: Placement) -> np.ndarray:
    """Find a place for every structure.

    They are thrown at random, one that falls too near to another again. Where too few fit like that, the rest is
    put anywhere and all are pushed apart, so that some may leave the picture for the rim, or enter it.

    Parameters
    ----------
    rng : np.random.Generator
        Source of chance.
    field : Field
        What is to be placed where.
    placement : Placement
        How.

    Returns
    -------
    np.ndarray
        `(n, 2)` float64 column, row in the frame of the picture.

    Raises
    ------
    ConfigError
        If there are more than fit at their distance.
    """
    n = len(field.inside)
    stuck = _followers(rng, field, placement)
    first = np.setdiff1d(np.arange(n), np.concatenate([np.empty(0, int), *stuck.values()]))
    xy = np.full((n, 2), np.inf)
    xy[first] = _throw(rng, field, first, placement.min_distance)
    for leader, followers in stuck.items():
        members = [leader]
        for one in followers:
            xy[one] = _beside(rng, field, xy, members, one)
            members.append(one)
    return xy


def orientations(rng: np.random.Generator, n: int, preferred: float = 0.0) -> np.ndarray:
    """Return `(n, 3, 3)` random rotations.

    The cosine c of the angle between a particle's z and the beam has the density exp(-preferred c^2) (Watson's
    distribution); the turns about both axes are uniform. With 0 that is uniform on all rotations.
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
    """Return `(n,)` heights in Angstrom above the middle of the ice, such that the ice holds each particle.

    Parameters
    ----------
    rng : np.random.Generator
        Source of chance.
    placement : Placement
        How many lie at the two surfaces, where most particles are found (Noble et al. 2018).
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


def _throw(rng: np.random.Generator, field: Field, index: np.ndarray, min_distance: float) -> np.ndarray:
    """Return `(len(index), 2)` places that keep their distance."""
    gap = min_distance * field.diameter_px[index]
    rows, columns = field.shape
    area = (rows + 2 * field.margin_px) * (columns + 2 * field.margin_px)
    filled = (np.pi / 4 * gap**2).sum() / area
    if filled > DENSEST:
        raise _too_many(field, index, DENSEST / filled)
    xy = field.draw(rng, index)
    waiting = np.arange(len(index))
    for _ in range(ROUNDS):
        a, b, _ = _too_near(xy, gap)
        # The later of two is thrown again, and those that have their place stay.
        order = np.zeros(len(index), int)
        order[waiting] = 1 + np.arange(len(waiting))
        waiting = np.unique(np.where(order[a] > order[b], a, b))
        if not len(waiting):
            return xy
        xy[waiting] = field.draw(rng, index[waiting])
    return _push_apart(field, index, xy, gap)


def _push_apart(field: Field, index: np.ndarray, xy: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Move every two that are too near to each other half the way, until none are."""
    rows, columns = field.shape
    low, high = -field.margin_px, np.array([columns, rows]) - 1 + field.margin_px
    for _ in range(PUSHES):
        # A little further than needed, so that it ends.
        a, b, distance = _too_near(xy, 1.003 * gap)
        wanted = (gap[a] + gap[b]) / 2
        if (distance >= wanted).all():
            return xy
        away = (xy[a] - xy[b]) / np.maximum(distance, 1e-9)[:, None]
        push = 0.5 * np.clip(1.004 * wanted - distance, 0, None)[:, None] * away
        np.add.at(xy, a, push)
        np.add.at(xy, b, -push)
        np.clip(xy, low, high, out=xy)
    kept = len(xy) - len(np.unique(_too_near(xy, gap)[1]))
    raise _too_many(field, index, kept / len(xy))


def _too_near(xy: np.ndarray, gap: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs nearer than the mean of their gaps: first, second, distance."""
    if len(xy) < 2:
        return np.empty(0, int), np.empty(0, int), np.empty(0)
    a, b = KDTree(xy).query_pairs(gap.max(), output_type="ndarray").T
    distance = np.linalg.norm(xy[a] - xy[b], axis=1)
    near = distance < (gap[a] + gap[b]) / 2
    return a[near], b[near], distance[near]


def _too_many(field: Field, index: np.ndarray, share: float) -> ConfigError:
    wanted = int(field.inside[index].sum())
    return ConfigError(
        "particles",
        f"{wanted} do not fit; there is room for about {int(share * wanted)} at that distance",
        "Ask for fewer, a larger picture, or a smaller min_distance",
    )


def _followers(rng: np.random.Generator, field: Field, placement: Placement) -> dict[int, np.ndarray]:
    """Return who sticks to whom: the first of each aggregate -> its other members."""
    stuck = {}
    for side in (True, False):
        here = rng.permutation(np.flatnonzero(field.inside == side))
        here = here[: round(placement.clustered * len(here))]
        if len(here) < 2:
            continue
        aggregates = max(1, round(len(here) / AGGREGATE))
        leaders, rest = here[:aggregates], here[aggregates:]
        owner = rng.integers(0, aggregates, len(rest))
        stuck |= {int(leader): rest[owner == i] for i, leader in enumerate(leaders)}
    return stuck


def _beside(rng: np.random.Generator, field: Field, xy: np.ndarray, members: list[int], one: int) -> np.ndarray:
    """Return a place where one touches a member of its aggregate; that with most room of a few."""
    best, most = xy[members[0]], -np.inf
    for _ in range(12):
        other = members[rng.integers(len(members))]
        reach = rng.uniform(0.6, 0.95) * (field.diameter_px[one] + field.diameter_px[other]) / 2
        angle = rng.uniform(0, 2 * np.pi)
        place = xy[other] + reach * np.array([np.cos(angle), np.sin(angle)])
        room = float(np.linalg.norm(xy - place, axis=1).min() / field.diameter_px[one])
        if not field.contains(place[None], field.inside[[one]])[0]:
            room -= 1
        if room > most:
            best, most = place, room
        if most >= 0.55:
            break
    return best
