"""Micrographs shown to the network at a given diameter, and how much it then likes what it sees.

The scores of the best picks are high where the given diameter is about that of the particles. But chance gives high
scores, too, and more so at small diameters. What chance gives is measured on the same pixels with their contrast
negated, where no particle can be: what counts is the *excess* of the best scores over those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from upicker.errors import UPickerError, collected_warnings
from upicker.particles import Micrograph, Particles
from upicker.pick.decoys import negated

if TYPE_CHECKING:
    from upicker.pick.picker import Picker

# Of more picks none are judged.
MOST = 40
# Large diameters are binned to at least so many pixels first, about twice what the network is shown: preparing whole
# micrographs would take most of the time.
BINNED_PX = 48
# Boxes are of one size with the median one if they differ from it by less than this factor.
SAME = 1.2


@dataclass(frozen=True)
class Look:
    """How much of micrographs is shown at a diameter, and how many picks are judged.

    Attributes
    ----------
    window : float
        Side of the central square that is shown, in given diameters: the same area, and time, at each diameter.
    density : float
        The best picks of all micrographs that are judged, per squared diameter. Sparse micrographs have about as many
        particles; more would judge the weaker ones of dense micrographs, to no use.
    fewest : int
        At least so many.
    """

    window: float = 16.0
    density: float = 0.04
    fewest: int = 8


LOOK = Look()


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
    box_px : float
        Median size of the boxes of the best picks, raw pixels of the first micrograph.
    excess : float
        The former above the latter, the median of all micrographs: a contaminant in one of three does not count.
    alike : float
        The share of these boxes that have about the median size, 0..1: less where there are particles of two sizes.
    """

    diameter_px: float
    score: float
    chance: float
    box_px: float
    excess: float
    alike: float = 1.0


def judge(
    picker: Picker,
    micrographs: Sequence[Micrograph],
    diameter_px: float,
    limits_px: tuple[float, float] = (0.0, math.inf),
    look: Look = LOOK,
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
    limits_px : tuple of float
        Boxes that are smaller or larger do not count; in the same pixels.
    look : Look
        How much is shown, and how many picks are judged.

    Returns
    -------
    Judged or None
        None if no micrograph can be shown at this diameter.
    """
    first, area = micrographs[0].pixel_size_A, 0.0
    found: list[tuple[Particles, Particles]] = []
    for whole in micrographs:
        there_px = diameter_px * first / whole.pixel_size_A if first and whole.pixel_size_A else diameter_px
        part = central(whole, look.window * there_px)
        factor = max(1, int(there_px / BINNED_PX))
        with collected_warnings():
            try:
                prepared = picker.shown(binned(part, factor), there_px / factor)
            except UPickerError:
                continue  # it is smaller than that, or its centre is empty
            area += part.pixels.size / there_px**2
            both = [picker.detections(one, part.path or part.name) for one in (prepared, negated(prepared))]
        # In pixels of the first micrograph.
        both = [replace(one, diameter_px=one.diameter_px * factor * diameter_px / there_px) for one in both]
        picks, decoys = (one.select(_between(one.diameter_px, limits_px)) for one in both)
        found.append((picks, decoys))
    if not found:
        return None
    best = round(min(max(look.density * area, look.fewest), MOST))
    each = max(1, round(best / len(found)))
    excess = [_mean_of_best(picks.score, each) - _mean_of_best(decoys.score, each) for picks, decoys in found]
    picks, decoys = (Particles.concatenate(list(ones)) for ones in zip(*found, strict=True))
    score, chance = (_mean_of_best(one.score, best) for one in (picks, decoys))
    sizes = picks.by_score().diameter_px[:best]
    box_px = float(np.median(sizes)) if len(sizes) else diameter_px
    alike = float(np.mean(_between(sizes, (box_px / SAME, box_px * SAME)))) if len(sizes) else 0.0
    return Judged(diameter_px, score, chance, box_px, float(np.median(excess)), alike)


def central(micrograph: Micrograph, side_px: float) -> Micrograph:
    """Return the central part of a micrograph, of at most so many rows and columns."""
    middle = [_middle(length, max(1, round(side_px))) for length in micrograph.shape]
    return replace(micrograph, pixels=micrograph.pixels[tuple(middle)])


def binned(micrograph: Micrograph, factor: int) -> Micrograph:
    """Return the means of squares of pixels; what is left over at the ends is dropped."""
    rows, columns = (length // factor for length in micrograph.shape)
    if factor == 1:
        return micrograph
    squares = micrograph.pixels[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor)
    size = micrograph.pixel_size_A and micrograph.pixel_size_A * factor
    return replace(micrograph, pixels=squares.mean((1, 3), dtype=np.float32), pixel_size_A=size)


def _between(sizes: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (sizes >= limits[0]) & (sizes <= limits[1])


def _middle(length: int, most: int) -> slice:
    start = max(0, (length - most) // 2)
    return slice(start, min(length, start + most))


def _mean_of_best(scores: np.ndarray, best: int) -> float:
    """Return the mean of the best scores; those that are missing count as 0."""
    return float(np.sort(scores)[::-1][:best].sum() / best)
