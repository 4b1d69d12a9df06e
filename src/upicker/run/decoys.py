"""The one threshold of a run for a wanted share of false picks, from the decoys of a few of its micrographs."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from upicker.errors import UPickerError, collected_warnings
from upicker.pick.decoys import SIGMA, Chance, negated
from upicker.pick.detection import FLOOR
from upicker.run import record
from upicker.statistics import evenly_spaced

if TYPE_CHECKING:
    from upicker.run.pick import Picking

# The micrographs that decoys are picked on.
MICROGRAPHS = 8
# Of so many at most it is tried, where some cannot be used.
_TRIED = 4 * MICROGRAPHS
# How a threshold was found: at it the estimate is as low as wanted; it is so at none, and the lowest one was taken;
# there are too few picks to tell, and it is that of the weights; picks are not more than decoys, and none is taken.
WANTED, LOWEST, TOO_FEW, NOTHING = "decoys", "lowest estimate", "too few picks", "nothing found"
# With it no pick is left: the scores of a network are below.
NO_PICKS = 1.0


@dataclass(frozen=True)
class Choice:
    """A threshold, and what it was chosen by.

    Attributes
    ----------
    fdr : float
        The share of false picks that was asked for.
    threshold : float
        Lowest score of a pick.
    by : str
        How it was found: `WANTED`, `LOWEST`, `TOO_FEW` or `NOTHING`.
    estimate : float
        The estimated share of picks that are false by chance, at this threshold.
    picks, decoys : int
        With at least this score, or with any score where `by` is `NOTHING`.
    micrographs : int
        Those on which they were counted.
    """

    fdr: float
    threshold: float
    by: str
    estimate: float
    picks: int
    decoys: int
    micrographs: int = 0

    def about(self) -> dict[str, object]:
        """Return it for ``run.toml``."""
        return {
            "threshold": self.threshold,
            "fdr": self.fdr,
            "fdr_estimate": round(self.estimate, 4),
            "threshold_by": self.by,
            "decoys": self.decoys,
            "decoy_picks": self.picks,
            "decoy_micrographs": self.micrographs,
        }

    def false(self, picks: int) -> str:
        """Return in words how many of some picks at this threshold are false by chance."""
        return (
            f"{self.estimate * picks:,.0f} of {picks:,} picks ({self.estimate:.1%}) are false by chance, as estimated "
            f"by {self.decoys:,} decoys on {self.micrographs} micrographs; contamination is not counted"
        )

    @classmethod
    def read(cls, about: Mapping[str, object]) -> Choice | None:
        """Return what `about` returned, from a record; None where there is none, or none that can be read."""
        keys = ("fdr", "threshold", "threshold_by", "fdr_estimate", "decoy_picks", "decoys", "decoy_micrographs")
        values = [about.get(key) for key in keys]
        numbers = [value for value in values if isinstance(value, int | float)]
        if len(numbers) < len(keys) - 1 or not isinstance(about.get("threshold_by"), str):
            return None
        fdr, threshold, estimate, *counts = numbers
        return cls(fdr, threshold, str(about["threshold_by"]), estimate, *(int(count) for count in counts))

    @classmethod
    def pending(cls, fdr: float, stored: float) -> Choice:
        """Return what stands for a choice that is still to be made."""
        return cls(fdr, stored, "", 1.0, 0, 0)


def earlier(folder: Path, fdr: float) -> Choice | None:
    """Return the choice of an earlier run into the same folder for the same share of false picks, if there was one."""
    choice = Choice.read(record.read(folder, micrographs=False).about)
    return choice if choice is not None and choice.fdr == fdr else None


def decided(chance: Chance, fdr: float, stored: float, micrographs: int = 0) -> Choice:
    """Choose a threshold.

    Parameters
    ----------
    chance : Chance
        Picks and decoys of any score.
    fdr : float
        The wanted share of false picks, 0..1.
    stored : float
        The threshold that comes with the weights, for where there are too few picks to tell.
    micrographs : int
        Those of `chance`, for the record.

    Returns
    -------
    Choice
        The lowest threshold at which the estimated share is as wanted, or else the one where it is lowest. Where picks
        do not exceed decoys at any threshold, no pick is left, unless the few ones at the stored threshold do.
    """
    if chance.is_more:
        threshold, by = chance.threshold(fdr), WANTED
        if threshold is None:
            threshold, by = chance.threshold(float(chance.fdr(chance.picks).min())), LOWEST
        assert threshold is not None, "there are picks"
    else:
        picks, decoys = chance.counts(stored)
        too_few = 2 * (decoys + 1) <= picks <= SIGMA**2 or not len(chance.picks) + len(chance.decoys)
        threshold, by = (stored, TOO_FEW) if too_few else (NO_PICKS, NOTHING)
    picks, decoys = chance.counts(0.0 if by == NOTHING else threshold)
    return Choice(fdr, threshold, by, float(chance.fdr(threshold)), int(picks), int(decoys), micrographs)


def choose(
    work: Picking, paths: Sequence[Path], fdr: float, tell: Callable[[int, int], object] = lambda done, total: None
) -> Choice:
    """Choose the threshold of a run by the decoys of `MICROGRAPHS` of its micrographs.

    These are evenly spread; in place of those that cannot be used, others are taken.

    Parameters
    ----------
    work : Picking
        The work on each micrograph.
    paths : sequence of Path
        All micrographs of the run.
    fdr : float
        The wanted share of false picks, 0..1.
    tell : callable
        Called with the number of micrographs done, and of all.

    Raises
    ------
    ConfigError
        If there is no diameter.
    """
    picker = work.picker
    picker.diameter_or(work.diameter)  # told once, not of each micrograph
    before, picker.threshold = picker.threshold, FLOOR
    wanted = min(MICROGRAPHS, len(paths))
    picks, decoys = [np.empty(0)], [np.empty(0)]
    try:
        for path in itertools.islice(_evenly_first(paths), _TRIED):
            tell(len(picks) - 1, wanted)
            # An error is reported when the micrograph itself is processed.
            with contextlib.suppress(UPickerError, MemoryError), collected_warnings():
                prepared = work.load(path).prepared
                both = picker.picks(prepared, path).score, picker.picks(negated(prepared), path).score
                picks.append(both[0])
                decoys.append(both[1])
            if len(picks) > wanted:
                break
    finally:
        picker.threshold = before
    chance = Chance.of(np.concatenate(picks), np.concatenate(decoys))
    return decided(chance, fdr, picker.stored_threshold, len(picks) - 1)


def _evenly_first(paths: Sequence[Path]) -> Iterator[Path]:
    ordered = sorted(paths)
    first = evenly_spaced(len(ordered), MICROGRAPHS, ends=False).tolist()
    yield from (ordered[at] for at in first)
    yield from (path for at, path in enumerate(ordered) if at not in set(first))
