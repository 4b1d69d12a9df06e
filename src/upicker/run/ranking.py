"""Which micrographs are worth labelling next: those where the model is least certain.

The uncertainty of a micrograph is a sum over the model's detections: one that is a particle with probability `p`
contributes ``4 p (1 - p)``, which is 1 where p is one half, and 0 where the model is certain. Scores become
probabilities by Platt scaling on completely labelled micrographs, see `upicker.calibration`; without such, the
threshold stored with the weights stands for one half. Detections below `FAINT` or above ``1 - FAINT`` contribute
nothing, or the many hopeless ones would outweigh the rest. Users are shown how many are uncertain, with a probability
between `UNCERTAIN` and ``1 - UNCERTAIN``.

A crowded micrograph has more of everything, and takes longer to label, so the uncertainty is divided by the number of
candidates (all detections above `FAINT`), plus their median over the micrographs: otherwise one with two faint
candidates would come first.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from upicker.calibration import Calibration, from_labels, from_threshold
from upicker.io import delimited
from upicker.io.labels import Labelled

FAINT, UNCERTAIN = 0.1, 0.25
# Labelled micrographs to calibrate on.
MOST_CALIBRATING = 4
COLUMNS = ("rank", "micrograph", "score", "uncertain", "expected", "candidates", "uncertainty")


@dataclass(frozen=True)
class Suggestion:
    """How uncertain the model is about one micrograph.

    Attributes
    ----------
    micrograph : Path
        Its file.
    uncertain : int
        Detections with a probability from `UNCERTAIN` to ``1 - UNCERTAIN``.
    candidates : int
        Detections with a probability of at least `FAINT`.
    expected : float
        Expected number of particles: the sum of these probabilities.
    uncertainty : float
        Sum of 4 p (1 - p) over the detections from `FAINT` to ``1 - FAINT``.
    score : float
        By which micrographs are ranked, see `ranked`; NaN before.
    """

    micrograph: Path
    uncertain: int
    candidates: int
    expected: float
    uncertainty: float
    score: float = math.nan


@dataclass(frozen=True, eq=False)
class Detected:
    """The scores of all detections in one micrograph.

    Attributes
    ----------
    micrograph : Path
        Its file.
    score : np.ndarray
        `(n,)` 0..1, down to a very low score.
    hit : np.ndarray or None
        `(n,)` bool: those that match a label; None for a micrograph to rank.
    """

    micrograph: Path
    score: np.ndarray
    hit: np.ndarray | None = None

    @property
    def particles(self) -> int:
        """Number of detections."""
        return len(self.score)


def calibrating_on(labelled: Sequence[Labelled], most: int = MOST_CALIBRATING) -> list[Labelled]:
    """Return the completely labelled micrographs to calibrate on: those with most labels."""
    complete = [one for one in labelled if one.particles and not one.partial]
    return sorted(complete, key=lambda one: (-one.particles, one.path))[:most]


class Ranking:
    """Ranks micrographs while their detections arrive.

    Parameters
    ----------
    threshold : float
        The threshold stored with the weights, 0..1.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._labelled: list[Detected] = []
        self._unlabelled: list[Detected] = []

    def add(self, detected: Detected) -> None:
        """Add a micrograph: to calibrate on if its detections were matched with labels, else to rank."""
        (self._unlabelled if detected.hit is None else self._labelled).append(detected)

    @property
    def fitted(self) -> Calibration | None:
        """The calibration fitted to labelled micrographs; None if they are too few."""
        score = np.concatenate([np.empty(0), *(one.score for one in self._labelled)])
        hits = [one.hit for one in self._labelled if one.hit is not None]
        return from_labels(score, np.concatenate([np.empty(0, bool), *hits]))

    def suggestions(self) -> list[Suggestion]:
        """Return the micrographs added so far, the most uncertain first."""
        score = np.concatenate([np.empty(0), *(one.score for one in self._unlabelled)])
        calibration = self.fitted or from_threshold(score, self._threshold)
        return ranked([assess(one.micrograph, one.score, calibration) for one in self._unlabelled])


def assess(micrograph: Path, score: np.ndarray, calibration: Calibration) -> Suggestion:
    """Return the uncertainty about one micrograph.

    Parameters
    ----------
    micrograph : Path
        Its file.
    score : np.ndarray
        `(n,)` 0..1 of all detections, down to a very low score.
    calibration : Calibration
        From scores to probabilities.
    """
    p = calibration.probability(score)
    candidates = p >= FAINT
    open_ = candidates & (p <= 1 - FAINT)
    uncertain = int(((p >= UNCERTAIN) & (p <= 1 - UNCERTAIN)).sum())
    uncertainty = float((4 * p * (1 - p))[open_].sum())
    return Suggestion(micrograph, uncertain, int(candidates.sum()), float(p[candidates].sum()), uncertainty)


def ranked(found: Sequence[Suggestion]) -> list[Suggestion]:
    """Return suggestions by decreasing score: uncertainty over candidates plus their median; then by name."""
    median = float(np.median([one.candidates for one in found])) if found else 0.0
    scored = [replace(one, score=one.uncertainty / max(one.candidates + median, 1.0)) for one in found]
    return sorted(scored, key=lambda one: (-one.score, one.micrograph.name, one.micrograph))


def write(path: Path, suggestions: Sequence[Suggestion]) -> None:
    """Write a ranking as CSV, in `COLUMNS`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    rows = [
        (
            *(rank, one.micrograph, f"{one.score:.4f}", one.uncertain, f"{one.expected:.1f}", one.candidates),
            f"{one.uncertainty:.4f}",
        )
        for rank, one in enumerate(suggestions, 1)
    ]
    delimited.write(path, COLUMNS, rows)


def read(path: Path) -> list[Suggestion]:
    """Read a ranking; empty if there is none yet, or it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return [_suggestion(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return []


def _suggestion(row: Mapping[str, str]) -> Suggestion:
    counts = int(row["uncertain"]), int(row["candidates"])
    return Suggestion(Path(row["micrograph"]), *counts, *(float(row[n]) for n in ("expected", "uncertainty", "score")))
