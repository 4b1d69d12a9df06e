"""How many picks are false by chance, without a label: picks of the negated micrograph are decoys.

Proteomics estimates the share of false matches by a search among sequences that cannot be there (Elias and Gygi 2007,
"Target-decoy search strategy for increased confidence in large-scale protein identifications by mass spectrometry",
Nat. Methods 4, 207). What is found there, a *decoy*, was found by chance, and as much is found by chance among the real
ones. Here the place where no particle can be is the prepared and masked micrograph with its contrast negated: it has
the same noise, spectrum, masked areas and borders, and is shown to the same network.

The assumption: chance looks like a particle as often as like the negative of one. It holds for noise, which is as often
bright as dark. It does not hold near particles, whose rings and gaps are bright, so picks and decoys compete, as for
each spectrum in proteomics: of those that are closer than one diameter, the weaker does not count. What is lost by that
is made up for: decoys are only found in what is left of the area, while false picks may lie anywhere outside of
particles, so that decoys count in proportion of these areas. Nor does it hold for what is dark by itself, contaminants,
broken particles and aggregates: these are no decoys, and the estimate covers chance, not contamination.
benchmarks/fdr.py tests it against known particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import KDTree

from upicker.image.prepare import Prepared
from upicker.particles import Particles

# Picks exceed decoys by more than chance where the difference is so many of its standard deviations.
SIGMA = 4.0
# A particle takes the area within the first of these distances of its centre, in diameters, and rings and gaps within
# the second.
OWN, AROUND = 0.5, 1.0
# Points at which areas are measured: distance in diameters, and how many there are about at most.
_SPACING, _POINTS = 0.25, 10_000


def negated(prepared: Prepared) -> Prepared:
    """Return a prepared micrograph with its contrast negated, in which all that is found is a decoy."""
    return replace(prepared, pixels=-prepared.pixels)


@dataclass(frozen=True, eq=False)
class Searched:
    """The picks and decoys of one micrograph that won against each other.

    Attributes
    ----------
    picks, decoys : np.ndarray
        `(n,)` and `(m,)`, their scores.
    own, around : np.ndarray
        `(p,)`, for points that are evenly spread over the micrograph: the highest score of the picks within `OWN`, and
        within `AROUND` diameters; 0 without one.
    """

    picks: np.ndarray
    decoys: np.ndarray
    own: np.ndarray
    around: np.ndarray


def searched(picks: Particles, decoys: Particles, shape: tuple[int, int], diameter_px: float) -> Searched:
    """Let picks and decoys of one micrograph compete.

    Parameters
    ----------
    picks, decoys : Particles
        All of any score, raw pixels.
    shape : tuple of int
        Rows and columns of the micrograph.
    diameter_px : float
        One particle diameter, raw pixels.
    """
    near = AROUND * diameter_px
    spacing = max(_SPACING * diameter_px, float(np.sqrt(shape[0] * shape[1] / _POINTS)))
    rows, columns = (np.arange(spacing / 2, side, spacing) for side in shape)
    points = np.stack(np.meshgrid(columns, rows), -1).reshape(-1, 2)
    return Searched(
        picks.score[picks.score >= _highest(picks.xy, decoys, near)],
        decoys.score[decoys.score >= _highest(decoys.xy, picks, near)],
        _highest(points, picks, OWN * diameter_px),
        _highest(points, picks, near),
    )


def _highest(points: np.ndarray, particles: Particles, radius_px: float) -> np.ndarray:
    """Return the highest score of the particles around each of some points; 0 without one."""
    found = np.zeros(len(points))
    if len(particles) and len(points):
        for at, near in enumerate(KDTree(particles.xy).query_ball_point(points, radius_px)):
            if near:
                found[at] = particles.score[near].max()
    return found


@dataclass(frozen=True, eq=False)
class Chance:
    """The picks and decoys of some micrographs.

    Attributes
    ----------
    picks, decoys : np.ndarray
        `(n,)` and `(m,)` float64, scores, ascending.
    own, around : np.ndarray
        `(p,)` float64, see `Searched`, ascending; empty where decoys count as they are.
    """

    picks: np.ndarray
    decoys: np.ndarray
    own: np.ndarray
    around: np.ndarray

    @classmethod
    def of(cls, searches: Sequence[Searched]) -> Chance:
        """Return it of several micrographs together."""
        names = ("picks", "decoys", "own", "around")
        parts = ([np.empty(0), *(getattr(one, name) for one in searches)] for name in names)
        return cls(*(np.sort(np.concatenate(part).astype(np.float64)) for part in parts))

    def counts(self, thresholds: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Return how many picks, and how many decoys, have at least each of some scores."""
        return _above(self.picks, thresholds), _above(self.decoys, thresholds)

    def fdr(self, thresholds: np.ndarray | float) -> np.ndarray:
        """Return the estimated share of false picks (false discovery rate) at each of some thresholds, 0..1.

        It is decoys by picks, with one decoy more than there are, so that a few picks without a decoy are not taken for
        certain (Levitsky et al. 2017, "Unbiased false discovery rate estimation for shotgun proteomics", J. Proteome
        Res. 16, 393); and never higher than at a lower threshold (a q-value): a higher threshold that happens to let
        more decoys through by picks says nothing against the picks that are left. 1 where there is no pick.
        """
        ascending = np.unique(self.picks)
        falling = np.minimum.accumulate(np.append(1.0, self._false(ascending) / _above(self.picks, ascending)))
        # Between two scores of picks a threshold keeps those of the upper one.
        at = np.searchsorted(ascending, np.asarray(thresholds, np.float64), side="left")
        return np.where(at < len(ascending), falling[np.minimum(at + 1, len(ascending))], 1.0)

    def threshold(self, fdr: float) -> float | None:
        """Return the lowest threshold at which the estimate is at most `fdr`, the score of a pick; None without one."""
        ascending = np.unique(self.picks)
        kept = ascending[self.fdr(ascending) <= fdr]
        return float(kept[0]) if len(kept) else None

    @property
    def is_more(self) -> bool:
        """Whether at any threshold picks exceed decoys by more than chance.

        Picks that are all false exceed decoys by n - m of n + m, with the standard deviation of ``sqrt(n + m)``.
        """
        picks, decoys = self.counts(np.unique(self.picks))
        return bool(np.any(picks - decoys > SIGMA * np.sqrt(picks + decoys)))

    def _false(self, thresholds: np.ndarray) -> np.ndarray:
        """Return the decoys with at least each of some scores, and one more, in proportion of areas."""
        weight = self._areas(self.decoys)
        sums = np.append(np.cumsum(weight[::-1])[::-1], 0.0)
        return sums[np.searchsorted(self.decoys, thresholds, side="left")] + self._areas(thresholds)

    def _areas(self, scores: np.ndarray) -> np.ndarray:
        """Return, by that in which a decoy of each score wins, the area outside of stronger picks."""
        own, around = (np.searchsorted(one, scores, side="right") + 1 for one in (self.own, self.around))
        return own / around


def _above(ascending: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
    return len(ascending) - np.searchsorted(ascending, np.asarray(thresholds, np.float64), side="left")
