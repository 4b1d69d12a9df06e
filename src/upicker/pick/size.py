"""The particles' diameter, found by showing micrographs to the network at many given diameters.

A network that knows particles of any size gives its best picks scores above those of chance over a range of given
diameters, and boxes of about the same size at all of them: a coarse ladder of given diameters says where particles
stand out most, and the boxes there how large they are. They are looked at once more at this diameter, because boxes are
truest where the given diameter is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from upicker.pick.scales import Judged

# Ratio of neighbouring diameters of the ladder.
COARSE = 2.0**0.5
# So often they are looked at once more.
AGAIN = 2
# Least excess of particles over chance: less is nothing. Empty ice, crystalline ice and no ice stay below.
LEAST = 0.28
# A rung is another candidate if its excess is so much of the best one's, and that between them falls so far.
SECOND, VALLEY = 0.6, 0.7
# What is printed as the range, as a factor.
ERROR = 1.15
# Particles near a given diameter: boxes between these parts of it, of which so many are of one size.
NEAR, ALIKE = (0.6, 1.6), 0.75
# They are looked at so often at most, until their boxes are as large as they were given, up to this factor.
LOOKS, SETTLED = 3, 1.07
# Their size is another one than the given diameter if it differs by this factor.
CLEAR = 1.1

# Given diameter -> what the network says; None where it cannot.
At = Callable[[float], Judged | None]


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
    total, coarse = len(diameters_px) + AGAIN, []
    for number, diameter in enumerate(diameters_px, 1):
        judged = at(diameter)
        step(number, total)
        coarse += [] if judged is None else [judged]
    if not coarse:
        return Nothing(0.0)
    excess = np.array([one.excess for one in coarse])
    best = int(np.argmax(excess))
    if excess[best] < LEAST:
        return Nothing(float(excess[best]), bool(excess.min() < -LEAST))
    found = coarse[best].box_px
    for number in range(len(diameters_px) + 1, total + 1):
        judged = at(found)
        step(number, total)
        found = found if judged is None else judged.box_px
    second = _second(excess, best)
    second_px = None if second is None else coarse[second].box_px
    return Estimate(found, found / ERROR, found * ERROR, float(excess[best]), second_px)


def own(at: At, given_px: float) -> float:
    """Return the size of the particles near a given diameter, as their boxes have it.

    Boxes follow the given diameter a little, so that particles are looked at again at the size that these had.

    Parameters
    ----------
    at : callable
        Shows the micrographs at a given diameter, and counts the boxes that are near `given_px`.
    given_px : float
        The given diameter.

    Returns
    -------
    float
        In given diameters. 1 where particles are not clearly of another size, of two sizes, or where scores are those
        of chance.
    """
    shown = given_px
    for _ in range(LOOKS):
        judged = at(shown)
        if judged is None:
            return 1.0
        settled = 1 / SETTLED < judged.box_px / shown < SETTLED
        shown = judged.box_px
        if settled:
            break
    ratio = shown / given_px
    there = judged.excess >= LEAST and judged.alike >= ALIKE
    return 1.0 if not there or 1 / CLEAR < ratio < CLEAR else ratio


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
