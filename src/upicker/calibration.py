"""From scores to probabilities: how likely is a detection with a given score a particle?

Scores of a detection network rank its detections well, but lie in a narrow range that depends on the training. Platt
scaling (Platt 1999, "Probabilistic outputs for support vector machines") turns them into probabilities: a logistic
curve over the log odds of the scores, fitted to detections that labels show to be right or wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

# With fewer right or wrong detections, the curve is not determined.
FEWEST = 10
# Without labels, half of the picks are assumed to have at least this probability.
SURE = 0.9
_EDGE = 1e-6


@dataclass(frozen=True)
class Calibration:
    """A logistic curve over the log odds of scores.

    Attributes
    ----------
    slope : float
        Its slope, > 0.
    offset : float
        Added to the slope times the log odds.
    """

    slope: float
    offset: float

    def probability(self, score: np.ndarray) -> np.ndarray:
        """Return `(n,)` probabilities 0..1 for `(n,)` scores 0..1."""
        return 1 / (1 + np.exp(-(self.slope * log_odds(score) + self.offset)))


def expected_error(probability: np.ndarray, hit: np.ndarray, bins: int = 10) -> float:
    """Return the expected calibration error: how far probabilities are from the frequencies of what they predict.

    Parameters
    ----------
    probability : np.ndarray
        `(n,)`, 0..1.
    hit : np.ndarray
        `(n,)` bool: whether it was so.
    bins : int
        Intervals of equal width; the difference between the mean probability and the frequency in each is weighted by
        the number of its members.
    """
    if not len(probability):
        return 0.0
    which = np.minimum((probability * bins).astype(int), bins - 1)
    difference = np.bincount(which, probability - hit, bins)
    return float(np.abs(difference).sum() / len(probability))


def log_odds(score: np.ndarray) -> np.ndarray:
    """Return `(n,)` ln(s / (1 - s)); finite also for scores of 0 and 1."""
    clipped = np.clip(np.asarray(score, np.float64), _EDGE, 1 - _EDGE)
    return np.log(clipped / (1 - clipped))


def from_labels(score: np.ndarray, hit: np.ndarray, weight: np.ndarray | None = None) -> Calibration | None:
    """Fit the curve to detections in labelled micrographs.

    Parameters
    ----------
    score : np.ndarray
        `(n,)`, 0..1.
    hit : np.ndarray
        `(n,)` bool: those that match a label.
    weight : np.ndarray, optional
        `(n,)` how much each counts; by default alike.

    Returns
    -------
    Calibration or None
        None if there are fewer than `FEWEST` right or wrong ones, or higher scores are not better.
    """
    right, wrong = int(hit.sum()), int((~hit).sum())
    if min(right, wrong) < FEWEST:
        return None
    weight = np.ones(len(score)) if weight is None else weight * len(score) / weight.sum()
    x = log_odds(score)
    # Platt's targets are slightly below certainty, so that separable scores do not give a step.
    target = np.where(hit, (right + 1) / (right + 2), 1 / (wrong + 2))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        z = values[0] * x + values[1]
        residual = 1 / (1 + np.exp(-z)) - target
        value = float(weight @ (np.logaddexp(0, z) - target * z))
        return value, np.array([(weight * residual) @ x, weight @ residual])

    slope, offset = minimize(loss, np.array([1.0, -float(np.median(x))]), jac=True, method="BFGS").x
    return Calibration(float(slope), float(offset)) if slope > 0 else None


def from_threshold(score: np.ndarray, threshold: float) -> Calibration:
    """Estimate the curve without labels: one half at the threshold, and at least `SURE` for half of the picks.

    Parameters
    ----------
    score : np.ndarray
        `(n,)` of all detections, 0..1.
    threshold : float
        The score that was chosen in validation.
    """
    at = float(log_odds(np.array([threshold]))[0])
    above = log_odds(score[score >= threshold]) - at
    median = float(np.median(above)) if len(above) else 0.0
    slope = np.log(SURE / (1 - SURE)) / median if median > _EDGE else 1.0
    return Calibration(float(slope), float(-slope * at))
