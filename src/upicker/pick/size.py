"""The particles' diameter, found by showing micrographs to the network at many given diameters.

A network that knows particles of any size likes them at many given diameters, but not at far too small ones: from small
given diameters to large ones, the scores of the best picks rise to a plateau, whose begin tells the diameter. A coarse
ladder spans all diameters that fit; a fine one around the begin compares the same particles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from upicker.pick.scales import Judged

# Ratio of neighbouring diameters of the coarse ladder; the fine one has `STEPS` steps to either side, of this ratio.
COARSE, FINE, STEPS = 2.0**0.5, 2.0**0.25, 3
# Least excess of particles over chance: less is nothing. Empty ice, crystalline ice and no ice stay below.
LEAST = 0.15
# A rung is another candidate if its excess is so much of the best one's, and that between them falls so far.
SECOND, VALLEY = 0.6, 0.7
# What is compared of different diameters is the score minus this part of chance: chance gives less at large ones, where
# fewer places are looked at, which all of it would overrate.
CHANCE = 0.65
# The plateau begins at this part of its height, and there the given diameter is so many true ones: the median of eight
# simulated structures and three real sets (benchmarks/size.py).
BEGIN, THERE = 0.85, 0.80
# The error of that, as a factor: most of these sets lie within.
ERROR = 1.15

# Given diameter, and that at which the window is the usual one -> what the network says; None where it cannot.
At = Callable[[float, float], Judged | None]


@dataclass(frozen=True)
class Estimate:
    """A diameter that was found.

    Attributes
    ----------
    diameter_px : float
        The estimate, raw pixels.
    low_px, high_px : float
        Diameters between which it probably is.
    excess : float
        How far the scores are above chance there.
    second_px : float or None
        Another diameter at which particles seem to be, less precisely.
    """

    diameter_px: float
    low_px: float
    high_px: float
    excess: float
    second_px: float | None = None


@dataclass(frozen=True)
class Nothing:
    """No diameter was found.

    Attributes
    ----------
    excess : float
        The highest excess over chance at any diameter.
    opposite : bool
        Whether the negated contrast shows particles: they are bright where they should be dark, or the reverse.
    """

    excess: float
    opposite: bool = False


def ladder(low_px: float, high_px: float) -> list[float]:
    """Return diameters at the ratio `COARSE`, from the lowest one to the highest one or just below."""
    rungs = 1 + int(np.floor(np.log(high_px / low_px) / np.log(COARSE) + 1e-9))
    return [low_px * COARSE**rung for rung in range(rungs)]


def estimated(at: At, diameters_px: Sequence[float], step: Callable[[int, int], None]) -> Estimate | Nothing:
    """Estimate the particles' diameter.

    Parameters
    ----------
    at : callable
        Shows the micrographs at a given diameter.
    diameters_px : sequence of float
        Those of the coarse ladder, ascending by about `COARSE`.
    step : callable
        Called after each diameter with how many are done, and how many there are.

    Returns
    -------
    Estimate or Nothing
        Nothing where the scores are those of chance at all diameters.
    """
    total = len(diameters_px) + 2 * STEPS + 1
    coarse = [one for one in _judged(at, [(d, d) for d in diameters_px], step, 0, total) if one is not None]
    if not coarse:
        return Nothing(0.0)
    excess = np.array([one.excess for one in coarse])
    best = int(np.argmax(excess))
    if excess[best] < LEAST:
        return Nothing(float(excess[best]), bool(excess.min() < -LEAST))
    middle = _begin(coarse, best) / THERE
    rungs = [(middle * FINE**step, middle) for step in range(-STEPS, STEPS + 1)]
    fine = [one for one in _judged(at, rungs, step, len(diameters_px), total) if one is not None]
    found = _begin(fine, int(np.argmax(_levels(fine)))) / THERE if len(fine) > STEPS else middle
    second = _second(excess, best)
    second_px = None if second is None else coarse[second].diameter_px
    return Estimate(found, found / ERROR, found * ERROR, float(excess[best]), second_px)


def _judged(
    at: At, pairs: Sequence[tuple[float, float]], step: Callable[[int, int], None], done: int, total: int
) -> Iterator[Judged | None]:
    for number, (diameter, around) in enumerate(pairs, done + 1):
        yield at(diameter, around)
        step(number, total)


def _second(excess: np.ndarray, best: int) -> int | None:
    """Return the highest rung beyond a valley on either side of the best one; None without one that is high enough."""
    rungs = [
        rung
        for rung in range(len(excess))
        if abs(rung - best) > 1
        and excess[rung] >= max(LEAST, SECOND * excess[best])
        and excess[min(rung, best) + 1 : max(rung, best)].min() < VALLEY * excess[rung]
    ]
    return max(rungs, key=lambda rung: float(excess[rung]), default=None)


def _levels(judged: Sequence[Judged]) -> np.ndarray:
    return np.array([one.score - CHANCE * one.chance for one in judged])


def _begin(judged: Sequence[Judged], best: int) -> float:
    """Return the diameter at which the plateau that holds the best rung begins, interpolated; it is not left of all."""
    levels = _levels(judged)
    smooth = np.convolve(np.pad(levels, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    wanted = BEGIN * smooth[best]
    octaves = np.log2([one.diameter_px for one in judged])
    start = best
    while start > 0 and smooth[start] >= wanted:
        start -= 1
    if smooth[start] >= wanted or start == best:
        return float(2 ** octaves[start])
    part = (wanted - smooth[start]) / (smooth[start + 1] - smooth[start])
    return float(2 ** (octaves[start] + part * (octaves[start + 1] - octaves[start])))
