"""An independent scorer: precision, recall, F1 and average precision from their definitions, with NumPy alone.

It shares no code and no method with `upicker.scoring`: squares are given by their edges, all pairs are compared, and
each threshold is scored by matching anew what it keeps. Slow and short, so that it can be believed.

Picks are `(n, 3)` arrays of x, y, score; labels are `(m, 3)` of x, y, diameter; both in pixels, of one micrograph.
Scenes are lists of (picks, labels).
"""

from typing import NamedTuple

import numpy as np

Scenes = list[tuple[np.ndarray, np.ndarray]]


class Figures(NamedTuple):
    """Precision, recall and F1 as given; the same where F1 is best; average precision."""

    precision: float
    recall: float
    f1: float
    best_precision: float
    best_recall: float
    best_f1: float
    average_precision: float


def overlaps(picks: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return `(n, m)` the IoU of the squares around picks and labels; the label's diameter is the side of both."""
    sides = labels[:, 2]
    shared = np.ones((len(picks), len(labels)))
    for axis in (0, 1):
        pick, label = picks[:, axis, None], labels[None, :, axis]
        first = np.maximum(pick - sides / 2, label - sides / 2)
        last = np.minimum(pick + sides / 2, label + sides / 2)
        shared *= np.maximum(last - first, 0)
    return shared / (2 * sides**2 - shared)


def match(picks: np.ndarray, labels: np.ndarray, by: str) -> list[int]:
    """Return for each pick the index of its label, or -1.

    The picks choose one after the other, the highest score first, and of equal ones the first; each takes the best
    label that is left and good enough, and of equal ones the first.
    """
    if by == "iou":
        quality = overlaps(picks, labels)
        enough = quality >= 0.5
    else:
        quality = -np.sqrt(((picks[:, None, :2] - labels[None, :, :2]) ** 2).sum(2))
        enough = -quality <= labels[:, 2] / 2
    chosen = [-1] * len(picks)
    left = set(range(len(labels)))
    for pick in sorted(range(len(picks)), key=lambda i: (-picks[i, 2], i)):
        good = [label for label in sorted(left) if enough[pick, label]]
        if good:
            chosen[pick] = max(good, key=lambda label: quality[pick, label])
            left.remove(chosen[pick])
    return chosen


def at_threshold(scenes: Scenes, threshold: float, by: str) -> tuple[float, float, float]:
    """Return precision, recall and F1 of the picks with at least this score, over all scenes; 0 for 0/0."""
    right = wrong = missed = 0
    for picks, labels in scenes:
        chosen = match(picks[picks[:, 2] >= threshold], labels, by)
        hits = sum(label >= 0 for label in chosen)
        right, wrong, missed = right + hits, wrong + len(chosen) - hits, missed + len(labels) - hits
    if right == 0:
        return 0.0, 0.0, 0.0
    precision, recall = right / (right + wrong), right / (right + missed)
    return precision, recall, 2 / (1 / precision + 1 / recall)


def evaluate(scenes: Scenes, threshold: float = -np.inf, by: str = "iou") -> Figures:
    """Return all figures; the best F1 is that of the highest threshold of equal ones."""
    thresholds = sorted({score for picks, _ in scenes for score in picks[:, 2]}, reverse=True)
    points = [at_threshold(scenes, each, by) for each in thresholds]
    best = max(points, key=lambda point: point[2], default=(0.0, 0.0, 0.0))
    # Precision over recall is a staircase: each gain of recall counts with the precision that it was bought at.
    area, before = 0.0, 0.0
    for precision, recall, _ in points:
        area, before = area + (recall - before) * precision, recall
    return Figures(*at_threshold(scenes, threshold, by), *best, area)
