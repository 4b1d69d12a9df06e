"""How many picks are false by chance, without a label: picks of the negated micrograph are decoys.

Proteomics estimates the share of false matches by a search among sequences that cannot be there (Elias and Gygi 2007,
"Target-decoy search strategy for increased confidence in large-scale protein identifications by mass spectrometry",
Nat. Methods 4, 207). What is found there, a *decoy*, was found by chance, and as much is found by chance among the real
ones. Here the place where no particle can be is the prepared and masked micrograph with its contrast negated: it has
the same noise, spectrum, masked areas and borders, and is shown to the same network.

The assumption: chance looks like a particle as often as like the negative of one. It holds for noise, which is as often
bright as dark. It does not hold for what has a contrast of its own: dark contaminants, broken particles and aggregates
are no decoys, and so are not counted (the estimate covers chance, not contamination), while bright rings around
particles are (the estimate is then too high). benchmarks/fdr.py tests it against known particles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from upicker.image.prepare import Prepared

# Picks exceed decoys by more than chance where the difference is so many of its standard deviations.
SIGMA = 4.0
# Picks of a micrograph with a mean score below `DOUBTFUL` are all chance if there are decoys for this part of them.
DOUBTFUL, ALL_CHANCE = 0.7, 0.5


def negated(prepared: Prepared) -> Prepared:
    """Return a prepared micrograph with its contrast negated, in which all that is found is a decoy."""
    return replace(prepared, pixels=-prepared.pixels)


@dataclass(frozen=True, eq=False)
class Chance:
    """The picks and decoys of some micrographs.

    Attributes
    ----------
    picks : np.ndarray
        `(n,)` float64, scores of the picks, ascending.
    decoys : np.ndarray
        `(m,)` float64, scores of the decoys, ascending.
    """

    picks: np.ndarray
    decoys: np.ndarray

    @classmethod
    def of(cls, picks: np.ndarray, decoys: np.ndarray) -> Chance:
        """Return it from scores in any order, of all micrographs together."""
        return cls(np.sort(np.asarray(picks, np.float64)), np.sort(np.asarray(decoys, np.float64)))

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
        picks, decoys = self.counts(ascending)
        falling = np.minimum.accumulate(np.append(1.0, (decoys + 1) / picks))
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


def _above(ascending: np.ndarray, thresholds: np.ndarray | float) -> np.ndarray:
    return len(ascending) - np.searchsorted(ascending, np.asarray(thresholds, np.float64), side="left")
