"""Drift: the last micrographs of a run differ from those before, in particles, scores or usable area.

The last `LAST` micrographs are compared with up to `BEFORE` before them, by the rank-sum test of Mann, Whitney and
Wilcoxon, which asks nothing of the distribution, and one odd micrograph cannot decide. Neighbouring micrographs, of
one hole or square, are alike, so that they count as fewer. A difference must be very improbable by chance (`CHANCE`;
each new micrograph is another test), and large enough to matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import mannwhitneyu, norm, rankdata

from upicker.run.entries import Entry

LAST, BEFORE = 20, 100
CHANCE = 1e-3
# So far apart micrographs may still be alike.
NEIGHBOURS = 10
# The least change of a median that matters: as a factor, or as a difference.
FACTOR, DIFFERENCE = 1.25, 0.05


@dataclass(frozen=True)
class Drift:
    """One quantity that has changed.

    Attributes
    ----------
    what : str
        ``"particles"``, ``"median score"`` or ``"usable area"``.
    since : str
        Name of the first micrograph of the last ones.
    before, after : float
        Medians.
    """

    what: str
    since: str
    before: float
    after: float

    def __str__(self) -> str:
        """Return what changed, since when, and what to look at."""
        digits = ".0f" if self.what == "particles" else ".2f"
        change = f"{self.before:{digits}} before, {self.after:{digits}} in the last {LAST}"
        return f"{self.what} of a micrograph: {change}, since about {self.since}. {_LOOK[self.what]}"


_LOOK = {
    "particles": "Look at ice, focus, and whether the grid square is another one",
    "median score": "Look at focus, ice thickness and drift of the stage",
    "usable area": "Look at contamination, carbon, and whether the beam is centred on the hole",
}


def drifts(done: Sequence[Entry]) -> list[Drift]:
    """Return what has changed lately, of micrographs in the order in which they were done.

    Parameters
    ----------
    done : sequence of Entry
        All of a run, or the last `LAST` + `BEFORE`.
    """
    some = list(done[-(LAST + BEFORE) :])
    found = []
    for what, of in _QUANTITIES.items():
        known = [(entry.name, value) for entry in some if (value := of(entry)) is not None]
        values = np.array([value for _, value in known], float)
        if len(values) >= 2 * LAST and has_changed(values, what == "particles"):
            before, after = np.median(values[:-LAST]), np.median(values[-LAST:])
            found.append(Drift(what, known[-LAST][0], float(before), float(after)))
    return found


def has_changed(values: np.ndarray, counts: bool) -> bool:
    """Return whether the last of some values differ from those before.

    Parameters
    ----------
    values : np.ndarray
        `(n,)`, at least two times `LAST`.
    counts : bool
        Whether they are numbers of particles, of which factors count, and not differences.
    """
    before, after = values[:-LAST], values[-LAST:]
    low, high = sorted((np.median(before), np.median(after)))
    if not (high > FACTOR * low if counts else high - low > DIFFERENCE):
        return False
    test = mannwhitneyu(before, after, method="asymptotic")
    return bool(2 * norm.sf(norm.isf(test.pvalue / 2) / np.sqrt(_alike(before))) < CHANCE)


def _alike(values: np.ndarray) -> float:
    """Return how many neighbours say as much as one independent value: 1 + 2 times the sum of autocorrelations.

    They are summed up to the first that is not positive.
    """
    ranks = rankdata(values) - (len(values) + 1) / 2
    power, total = float(ranks @ ranks), 1.0
    for lag in range(1, NEIGHBOURS + 1):
        together = float(ranks[lag:] @ ranks[:-lag]) / power if power else 0.0
        if together <= 0:
            break
        total += 2 * together
    return total


_QUANTITIES = {
    "particles": lambda entry: entry.particles,
    "median score": lambda entry: entry.median_score,
    "usable area": lambda entry: entry.usable,
}
