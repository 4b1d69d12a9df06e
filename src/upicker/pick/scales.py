"""Micrographs shown to the network at a given diameter, and how much it then likes what it sees.

The scores of the best picks are high where the given diameter is about that of the particles. But chance gives high
scores, too, and more so at small diameters. What chance gives is measured on the same pixels with their contrast
negated, where no particle can be: what counts is the *excess* of the best scores over those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from upicker.errors import UPickerError, collected_warnings
from upicker.particles import Micrograph
from upicker.pick.picker import Picker

# Side of the central square that is shown, in given diameters: the same area, and time, at each diameter.
WINDOW = 16.0
# The best picks of all micrographs that are judged: so many per squared diameter, within these limits. Sparse
# micrographs have about as many particles; more would judge the weaker ones of dense micrographs, to no use.
DENSITY, FEWEST, MOST = 0.04, 8, 40


@dataclass(frozen=True)
class Judged:
    """What the network says of some micrographs at one given diameter.

    Attributes
    ----------
    diameter_px : float
        The given diameter, raw pixels of the first micrograph.
    score : float
        Mean score of the best picks.
    chance : float
        The same with the contrast negated.
    excess : float
        The former above the latter, the median of all micrographs: a contaminant in one of three does not count.
    """

    diameter_px: float
    score: float
    chance: float
    excess: float


def judge(
    picker: Picker, micrographs: Sequence[Micrograph], diameter_px: float, around_px: float | None = None
) -> Judged | None:
    """Show the central parts of some micrographs at a given diameter.

    Parameters
    ----------
    picker : Picker
        The weights; with one view it is fastest.
    micrographs : sequence of Micrograph
        With their pixels.
    diameter_px : float
        In pixels of the first one; where the pixel size of another one differs, the same length there.
    around_px : float, optional
        Show what is shown at this diameter, and judge as many picks: diameters that are not far from each other are
        compared on the same particles. By default the diameter itself.

    Returns
    -------
    Judged or None
        None if no micrograph can be shown at this diameter.
    """
    first, around, area = micrographs[0].pixel_size_A, (around_px or diameter_px) / diameter_px, 0.0
    bright: list[np.ndarray] = []
    dark: list[np.ndarray] = []
    for whole in micrographs:
        there_px = diameter_px * first / whole.pixel_size_A if first and whole.pixel_size_A else diameter_px
        part = central(whole, WINDOW * around * there_px)
        with collected_warnings():
            try:
                prepared = picker.prepared(part, there_px)
            except UPickerError:
                continue  # it is smaller than that, or its centre is empty
            area += part.pixels.size / (around * there_px) ** 2
            for found, sign in ((bright, 1), (dark, -1)):
                shown = replace(prepared, pixels=prepared.pixels * np.float32(sign))
                found.append(picker.detections(shown, part.path or part.name).score)
    if not bright:
        return None
    best = round(min(max(DENSITY * area, FEWEST), MOST))
    each = max(1, round(best / len(bright)))
    excess = [_mean_of_best(one, each) - _mean_of_best(other, each) for one, other in zip(bright, dark, strict=True)]
    score, chance = (_mean_of_best(np.concatenate(found), best) for found in (bright, dark))
    return Judged(diameter_px, score, chance, float(np.median(excess)))


def central(micrograph: Micrograph, side_px: float) -> Micrograph:
    """Return the central part of a micrograph, of at most so many rows and columns."""
    middle = [_middle(length, max(1, round(side_px))) for length in micrograph.shape]
    return replace(micrograph, pixels=micrograph.pixels[tuple(middle)])


def _middle(length: int, most: int) -> slice:
    start = max(0, (length - most) // 2)
    return slice(start, min(length, start + most))


def _mean_of_best(scores: np.ndarray, best: int) -> float:
    """Return the mean of the best scores; those that are missing count as 0."""
    return float(np.sort(scores)[::-1][:best].sum() / best)
