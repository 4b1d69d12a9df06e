"""From scores to chances: how likely is it that a detection with this score is a particle?

Scores of a detection network order its detections well, but lie in a narrow range that depends on the training. Platt's
scaling (Platt 1999, "Probabilistic outputs for support vector machines") gives them their meaning back: a logistic
curve over the scores' log odds, fitted to detections of which labels tell whether they are right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

# Fewer right or wrong detections say nothing about a curve.
FEWEST = 10
# Without labels: half of the picks are taken to be at least this sure.
SURE = 0.9
_EDGE = 1e-6


@dataclass(frozen=True)
class Calibration:
    """A logistic curve over the log odds of scores.

    Attributes
    ----------
    slope : float
        Its steepness, > 0.
    offset : float
        Added to the log odds times the slope.
    """

    slope: float
    offset: float

    def chance(self, score: np.ndarray) -> np.ndarray:
        """Return `(n,)` chances 0..1 for `(n,)` scores 0..1."""
        return 1 / (1 + np.exp(-(self.slope * log_odds(score) + self.offset)))


def log_odds(score: np.ndarray) -> np.ndarray:
    """Return `(n,)` ln(s / (1 - s)), finite for scores of 0 and 1, too."""
    kept = np.clip(np.asarray(score, np.float64), _EDGE, 1 - _EDGE)
    return np.log(kept / (1 - kept))


def from_labels(score: np.ndarray, hit: np.ndarray) -> Calibration | None:
    """Fit the curve to detections in labelled micrographs.

    Parameters
    ----------
    score : np.ndarray
        `(n,)`, 0..1.
    hit : np.ndarray
        `(n,)` bool: those that found a label.

    Returns
    -------
    Calibration or None
        None if there are fewer than `FEWEST` right or wrong ones, or higher scores are not better.
    """
    right, wrong = int(hit.sum()), int((~hit).sum())
    if min(right, wrong) < FEWEST:
        return None
    x = log_odds(score)
    # Platt's targets: a little less than certain, so that the curve of what can be separated does not become a step.
    wanted = np.where(hit, (right + 1) / (right + 2), 1 / (wrong + 2))

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        z = values[0] * x + values[1]
        miss = 1 / (1 + np.exp(-z)) - wanted
        return float(np.sum(np.logaddexp(0, z) - wanted * z)), np.array([miss @ x, miss.sum()])

    slope, offset = minimize(loss, np.array([1.0, -float(np.median(x))]), jac=True, method="BFGS").x
    return Calibration(float(slope), float(offset)) if slope > 0 else None


def from_threshold(score: np.ndarray, threshold: float) -> Calibration:
    """Guess the curve without labels: one half at the threshold, and half of the picks at least `SURE`.

    Parameters
    ----------
    score : np.ndarray
        `(n,)` of all detections, 0..1.
    threshold : float
        The score that validation chose.
    """
    at = float(log_odds(np.array([threshold]))[0])
    above = log_odds(score[score >= threshold]) - at
    usual = float(np.median(above)) if len(above) else 0.0
    slope = np.log(SURE / (1 - SURE)) / usual if usual > _EDGE else 1.0
    return Calibration(float(slope), float(-slope * at))
