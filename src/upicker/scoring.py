"""Scoring picks against labels: one-to-one matching, precision, recall, F1, average precision, thresholds.

Figures are pooled: true and false positives of all micrographs are counted together.

There are two criteria for a pick to match a label; both use one length, the side of the squares (the diameter):

- ``"iou"``: the squares of that side around both centres have an IoU of at least 0.5, the paper's criterion (its
  section on data sets and metrics);
- ``"centre"``: the distance of the centres is at most half a side.

Ties: a threshold cannot separate picks of equal score, so the curve has one point for each *distinct* score, and the
best F1 and the average precision are taken over those points. A scorer that processes equal scores one by one, in the
order of the file, reports points that no threshold gives; without ties both agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from upicker.errors import ConfigError, InputError
from upicker.geometry import iou_squares
from upicker.particles import Particles

CRITERIA = ("iou", "centre")
MIN_IOU = 0.5

Pairs = Sequence[tuple[Particles, Particles]]


@dataclass(frozen=True, eq=False)
class Matches:
    """Which pick matches which label.

    Attributes
    ----------
    label : np.ndarray
        `(n,)` int, for each pick, in the order given: the index of its label, -1 for a false positive.
    labels : int
        Number of labels.
    """

    label: np.ndarray
    labels: int

    @property
    def hit(self) -> np.ndarray:
        """`(n,)` bool: true positives, picks that match a label."""
        return self.label >= 0

    @property
    def missed(self) -> np.ndarray:
        """`(m,)` bool: false negatives, labels that no pick matches."""
        missed = np.ones(self.labels, bool)
        missed[self.label[self.hit]] = False
        return missed


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision, recall and F1 at each threshold; one point per distinct score, by falling score.

    Attributes
    ----------
    thresholds : np.ndarray
        `(t,)` float64, strictly falling; picks with at least this score are kept.
    precision, recall, f1 : np.ndarray
        `(t,)` float64, 0..1.
    """

    thresholds: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    @property
    def best(self) -> int | None:
        """Index of the best F1, of several equal ones that of the highest threshold; None without picks."""
        return int(self.f1.argmax()) if len(self.f1) else None

    @property
    def average_precision(self) -> float:
        """Area under the precision-recall curve, as steps without interpolation; 0 without picks."""
        return float(np.sum(np.diff(self.recall, prepend=0.0) * self.precision))


@dataclass(frozen=True)
class Score:
    """The figures of a set of micrographs, pooled.

    Attributes
    ----------
    precision, recall, f1 : float
        Of all picks, or of those above a given threshold. Precision is 0 without picks, recall is 0 without labels,
        F1 is 0 without either.
    best_f1, best_threshold, best_precision, best_recall : float
        At the best of all thresholds (see `best_threshold`); 0, inf, 0, 0 without picks.
    average_precision : float
        Area under the precision-recall curve of all picks.
    picks, labels, micrographs : int
        Numbers of each; `picks` counts those above the threshold.
    by : str
        The matching criterion: ``"iou"`` or ``"centre"``.
    """

    precision: float
    recall: float
    f1: float
    best_f1: float
    best_threshold: float
    best_precision: float
    best_recall: float
    average_precision: float
    picks: int
    labels: int
    micrographs: int
    by: str


def match(picks: Particles, labels: Particles, side_px: float | None = None, by: str = "iou") -> Matches:
    """Match picks to labels one to one, greedily by falling score.

    Each pick in turn is assigned the best label (largest IoU, or smallest distance) among those that are still
    unassigned and fulfil the criterion; picks of equal score are processed in the order given.

    Parameters
    ----------
    picks, labels : Particles
        Of one micrograph, raw pixels.
    side_px : float, optional
        Side of the squares in raw pixels; by default each label's own diameter, for both squares.
    by : str
        ``"iou"`` or ``"centre"``.

    Raises
    ------
    ConfigError
        If the criterion is unknown, the side is not positive, or neither it nor the labels' diameters are given.
    """
    side = _sides(labels, side_px, by)
    found = np.full(len(picks), -1, np.int64)
    if len(picks) and len(labels):
        rank = np.empty(len(picks), np.int64)
        rank[np.argsort(-picks.score, kind="stable")] = np.arange(len(picks))
        taken = np.zeros(len(labels), bool)
        for pick, label in _candidates(picks.xy, labels.xy, side, rank, by).tolist():
            if found[pick] < 0 and not taken[label]:
                found[pick], taken[label] = label, True
    return Matches(found, len(labels))


def curve(pairs: Pairs, side_px: float | None = None, by: str = "iou") -> Curve:
    """Return precision, recall and F1 at every threshold, pooled over micrographs.

    Parameters
    ----------
    pairs : sequence of (Particles, Particles)
        Picks and labels of each micrograph; either may be empty.
    side_px, by
        See `match`; ConfigError is raised as there.
    """
    scores, hit = pooled(pairs, side_px, by)
    return _curve(scores, hit, sum(len(labels) for _, labels in pairs))


def score(pairs: Pairs, side_px: float | None = None, by: str = "iou", threshold: float = -np.inf) -> Score:
    """Score picks against labels, pooled over micrographs.

    Parameters
    ----------
    pairs : sequence of (Particles, Particles)
        Picks and labels of each micrograph; either may be empty.
    side_px, by
        See `match`; ConfigError is raised as there.
    threshold : float
        Precision, recall and F1 are those of the picks with at least this score; the best F1 and the average
        precision use all picks.
    """
    scores, hit = pooled(pairs, side_px, by)
    labels = sum(len(truth) for _, truth in pairs)
    kept = scores >= threshold
    precision, recall, f1 = figures(hit[kept].sum(), kept.sum(), labels)
    points = _curve(scores, hit, labels)
    at = points.best
    return Score(
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        best_f1=0.0 if at is None else float(points.f1[at]),
        best_threshold=best_threshold(points),
        best_precision=0.0 if at is None else float(points.precision[at]),
        best_recall=0.0 if at is None else float(points.recall[at]),
        average_precision=points.average_precision,
        picks=int(kept.sum()),
        labels=labels,
        micrographs=len(pairs),
        by=by,
    )


def evaluate(
    labels: Particles | Sequence[Particles],
    picks: Particles | Sequence[Particles],
    diameter_px: float | None = None,
    by: str = "iou",
    threshold: float = -np.inf,
) -> Score:
    """Score picks against labels, of one micrograph or of several together.

    Parameters
    ----------
    labels, picks : Particles or sequence of Particles
        Of one micrograph, or of several in the same order, in raw pixels.
    diameter_px : float, optional
        The particle diameter in raw pixels; by default each label's own.
    by : str
        When a pick may match a label: ``"iou"``, the squares around both overlap with an IoU of at least 0.5; or
        ``"centre"``, their centres are at most half a diameter apart.
    threshold : float
        Precision, recall and F1 are those of the picks with at least this score.

    Returns
    -------
    Score
        Precision, recall, F1, average precision, and the best threshold.

    Raises
    ------
    InputError
        If there are not as many sets of picks as of labels.
    ConfigError
        If the criterion is unknown, or the diameter is neither given nor known from the labels.
    """
    truth = [labels] if isinstance(labels, Particles) else list(labels)
    found = [picks] if isinstance(picks, Particles) else list(picks)
    if len(truth) != len(found):
        remedy = (
            "Give one set of picks for each set of labels, in the same order; an empty set where nothing was picked"
        )
        raise InputError("evaluate", f"labels of {len(truth)} micrographs, but picks of {len(found)}", remedy)
    return score(list(zip(found, truth)), diameter_px, by, threshold)


def best_threshold(points: Curve) -> float:
    """Return a threshold that gives the curve's best F1, midway between two scores.

    The lowest score to keep is itself a valid threshold, but the smallest change of that score (another processor,
    float32 written as text) would drop its pick. The midpoint between it and the next lower score gives the same picks
    and tolerates changes in both directions. Without a lower score it is the score itself; without picks it is inf,
    which keeps nothing.
    """
    at = points.best
    if at is None:
        return float("inf")
    lowest = float(points.thresholds[at])
    if at + 1 == len(points.thresholds):
        return lowest
    below = float(points.thresholds[at + 1])
    middle = below + (lowest - below) / 2
    return middle if below < middle else lowest


def steady(pairs: Pairs, side_px: float | None = None, by: str = "iou") -> tuple[float, Score]:
    """Choose the steady threshold, for use on other micrographs, and score these with it.

    With few labels the threshold of the best F1 is poorly determined: a single pick more or less moves the maximum far,
    and a flat curve leaves it open. The steady threshold is therefore a weighted mean over all thresholds, on the scale
    of the scores' log odds. Each has the weight ``exp(-2 (F1_best - F1) / e)``, where ``e`` is the standard error of
    the best F1, ``sqrt((1 - F1_best + 1/m) / m)`` for `m` labels: thresholds whose F1 cannot be distinguished from the
    best one count nearly fully, clearly worse ones hardly. With many labels it approaches the threshold of the best F1.

    Parameters
    ----------
    pairs, side_px, by
        See `score`, also for the errors raised.

    Returns
    -------
    threshold : float
        0..1 for scores of 0..1; inf without picks.
    score : Score
        At that threshold.
    """
    points = curve(pairs, side_px, by)
    at = points.best
    if at is None:
        return float("inf"), score(pairs, side_px, by)
    labels = max(1, sum(len(truth) for _, truth in pairs))
    error = np.sqrt((1 - points.f1[at] + 1 / labels) / labels)
    threshold = steadied(points, points.f1, error)
    return threshold, score(pairs, side_px, by, threshold)


def steadied(points: Curve, merit: np.ndarray, error: float) -> float:
    """Return the mean of a curve's thresholds, weighted by merit, as in `steady`.

    Parameters
    ----------
    points : Curve
        Not empty.
    merit : np.ndarray
        `(t,)` figure of merit of each threshold, e.g. its F1.
    error : float
        Standard error of the highest merit.
    """
    at = int(np.argmax(merit))
    kept = np.clip(points.thresholds, 1e-6, 1 - 1e-6)
    odds = np.log(kept / (1 - kept))
    # Point i holds for thresholds between its own score and the next lower one; below the last, nothing is known.
    weight = np.exp(-2 * (merit[at] - merit[:-1]) / error) * -np.diff(odds)
    mean = np.average((odds[:-1] + odds[1:]) / 2, weights=weight) if weight.sum() > 0 else odds[at]
    return float(1 / (1 + np.exp(-mean)))


def _sides(labels: Particles, side_px: float | None, by: str) -> np.ndarray:
    """Return `(m,)` the side of each label's square, raw pixels."""
    if by not in CRITERIA:
        raise ConfigError("--by", f"unknown criterion '{by}'", f"It takes {' or '.join(CRITERIA)}")
    if side_px is not None and not (0 < side_px < np.inf):
        raise ConfigError("--diameter", f"must be positive, found {side_px:g}px", "Give e.g. --diameter 108px")
    side = labels.diameter_px if side_px is None else np.full(len(labels), float(side_px))
    if not (np.isfinite(side) & (side > 0)).all():
        raise ConfigError("--diameter", "the labels have no diameters", "Give it, e.g. --diameter 108px")
    return side


def _candidates(picks: np.ndarray, labels: np.ndarray, side: np.ndarray, rank: np.ndarray, by: str) -> np.ndarray:
    """Return `(k, 2)` pairs (pick, label) that fulfil the criterion, in the order of matching."""
    # Both criteria imply centres within half a side: squares with an IoU of 0.5 have them within a third.
    reach = float(side.max()) / 2 * (1 + 1e-9)
    near = KDTree(picks).sparse_distance_matrix(KDTree(labels), reach, output_type="ndarray")
    pick, label = near["i"], near["j"]
    difference, sides = picks[pick] - labels[label], side[label]
    if by == "iou":
        quality = iou_squares(difference, sides, sides)
        allowed = quality >= MIN_IOU
    else:
        quality = -np.hypot(*difference.T)
        allowed = quality >= -sides / 2
    pick, label, quality = pick[allowed], label[allowed], quality[allowed]
    order = np.lexsort((label, -quality, rank[pick]))
    return np.stack([pick[order], label[order]], 1)


def pooled(pairs: Pairs, side_px: float | None = None, by: str = "iou") -> tuple[np.ndarray, np.ndarray]:
    """Return `(n,)` scores and `(n,)` bool true positives of all picks; see `score`, also for the errors raised."""
    hits = [match(picks, labels, side_px, by).hit for picks, labels in pairs]
    scores = [picks.score for picks, _ in pairs]
    return np.concatenate([np.empty(0), *scores]), np.concatenate([np.empty(0, bool), *hits])


def _curve(scores: np.ndarray, hit: np.ndarray, labels: int) -> Curve:
    order = np.argsort(-scores, kind="stable")
    scores, true = scores[order], np.cumsum(hit[order])
    last = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)[: len(scores)])
    return Curve(scores[last], *figures(true[last], last + 1, labels))


def figures(true: np.ndarray, picks: np.ndarray, labels: np.ndarray | int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return precision, recall and F1 = 2 PR / (P + R), 0 where the denominator is 0.

    Parameters
    ----------
    true, picks, labels : np.ndarray or int
        Numbers of true positives, picks and labels; shapes that broadcast.
    """
    return true / np.maximum(picks, 1), true / np.maximum(labels, 1), 2 * true / np.maximum(picks + labels, 1)
