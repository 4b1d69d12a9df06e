"""Of each micrograph, without a diameter: is it usable, and if not, what is it?

Particles are there where the network's best scores are above those of chance, as the negated micrograph gives them
(`upicker.pick.scales`), at any of some given diameters. What else there is, `upicker.image.texture` measures. Each
condition of a usable micrograph has a score of its own, one half at its cut; that of the micrograph is the lowest.

The cuts lie in the middle between simulated micrographs with particles and such without (benchmarks/triage.py), not of
real ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from upicker.image.texture import Texture, texture
from upicker.particles import Micrograph
from upicker.pick.picker import Picker
from upicker.pick.scales import Look, judge
from upicker.pick.size import ladder

Kind = Literal["usable", "empty", "contaminated", "carbon", "crystalline", "no ice"]
KINDS: tuple[Kind, ...] = ("usable", "empty", "contaminated", "carbon", "crystalline", "no ice")
# Given diameters: from at least so many pixels or this part of the shorter side to that one; particles a factor of 1.4
# beyond are found, too.
SMALLEST_PX, SMALLEST, LARGEST = 8.0, 1 / 48, 1 / 12
# What is shown of a micrograph at each, and how many picks are judged, see `judge`: more than for a diameter, since a
# few specks are no particles, and since what few picks say is chance.
LOOK = Look(window=24.0, density=0.07, fewest=16)
# The least score of a usable micrograph.
LEAST_SCORE = 0.5
# Where the score of a condition is one half, and the width of its rise from there.
EXCESS, EXCESS_WIDTH = 0.28, 0.04
USABLE, USABLE_WIDTH = 0.2, 0.05
COARSE_CUT, COARSE_WIDTH = 0.5, 0.15  # the latter of its logarithm
SPOTS, SPOTS_WIDTH = 0.5, 0.1
# Structure that is larger than the particles is only told from them where these are at most this part of the side.
LARGER_THAN = 1 / 11
# Where there are no particles: a single area without ice of this share, darkness of this share, what crystalline ice
# has, and the spectrum of a hole.
FILM, DARK, GRAIN, MOTTLED, RINGING = 0.15, 0.1, 0.3, 0.33, 0.05


@dataclass(frozen=True)
class Signs:
    """What was measured of one micrograph.

    Attributes
    ----------
    excess : float
        How far the best scores are above chance, at the given diameter where that is most.
    diameter_px : float
        The size of the boxes there, raw pixels; NaN if nothing could be shown.
    side_px : int
        Shorter side of the micrograph.
    texture : Texture
        What it looks like from afar.
    opposite : float
        How far chance is above the best scores, where that is most: as far as there are particles of the opposite
        contrast.
    """

    excess: float
    diameter_px: float
    side_px: int
    texture: Texture
    opposite: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """What a micrograph is.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    score : float
        0..1, how surely it is usable.
    reason : str
        One, in words.
    """

    kind: Kind
    score: float
    reason: str


def signs(picker: Picker, micrograph: Micrograph) -> Signs:
    """Measure one micrograph.

    Parameters
    ----------
    picker : Picker
        Weights for particles of any size; with one view it is fastest.
    micrograph : Micrograph
        With its pixels.

    Raises
    ------
    UPickerError
        If it is no micrograph.
    """
    return seen(picker, micrograph, texture(micrograph, picker.config.image))


def seen(picker: Picker, micrograph: Micrograph, looks: Texture) -> Signs:
    """Do the second step of `signs`, for which the network is needed."""
    side = min(micrograph.shape)
    smallest = max(SMALLEST_PX, SMALLEST * side)
    rungs = ladder(smallest, max(smallest, LARGEST * side))
    judged = [one for rung in rungs if (one := judge(picker, [micrograph], rung, look=LOOK)) is not None]
    if not judged:
        return Signs(0.0, math.nan, side, looks)
    best = max(judged, key=lambda one: one.excess)
    return Signs(best.excess, best.box_px, side, looks, -min(one.excess for one in judged))


def verdict(found: Signs, least_score: float = LEAST_SCORE) -> Verdict:
    """Say what a micrograph is.

    Parameters
    ----------
    found : Signs
        What was measured of it.
    least_score : float
        The lowest score of a usable one, 0..1.
    """
    scores = _scores(found)
    worst = min(scores, key=lambda name: scores[name])
    score = scores[worst]
    if score >= least_score:
        size = f"{found.diameter_px:.0f} px" if math.isfinite(found.diameter_px) else "unknown size"
        return Verdict("usable", score, f"particles of about {size}, {found.excess:.2f} above chance")
    kind, reason = _without(found) if worst == "particles" else _with(found, worst)
    return Verdict(kind, score, reason)


def _scores(found: Signs) -> dict[str, float]:
    """Return the score of each condition of a usable micrograph."""
    looks = found.texture
    scores = {
        "particles": _rise((found.excess - EXCESS) / EXCESS_WIDTH),
        "area": _rise((looks.usable - USABLE) / USABLE_WIDTH),
    }
    if not found.diameter_px > LARGER_THAN * found.side_px:
        scores["coarse"] = _rise(math.log(COARSE_CUT / max(looks.coarse, 1e-6)) / COARSE_WIDTH)
    if math.isfinite(looks.spots):
        scores["spots"] = _rise((SPOTS - looks.spots) / SPOTS_WIDTH)
    return scores


def _rise(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -50.0), 50.0)))


def _with(found: Signs, worst: str) -> tuple[Kind, str]:
    """Return what a micrograph is in which there may be particles, and why it is not usable."""
    looks = found.texture
    if worst == "spots":
        return "crystalline", f"spots of an ice lattice in {looks.spots:.0%} of it"
    if worst == "area" and looks.film > (1 - looks.usable) / 2:
        return "carbon", f"only {looks.usable:.0%} of it is ice"
    if worst == "area":
        return "contaminated", f"only {looks.usable:.0%} of it is not contaminated"
    if _is_mottled(looks):
        return "crystalline", "it is mottled all over, as crystalline ice is"
    return "contaminated", f"structure far larger than particles, {looks.coarse:.1f} times the noise"


def _without(found: Signs) -> tuple[Kind, str]:
    """Return what a micrograph without particles is, and how that shows."""
    looks = found.texture
    nothing = f"nothing like particles ({found.excess:.2f} above chance)"
    if found.opposite >= EXCESS:
        return "empty", f"{nothing}, but much with the opposite contrast: is --set image.particles right?"
    if math.isfinite(looks.spots) and looks.spots > SPOTS:
        return "crystalline", f"{nothing}, and spots of an ice lattice in {looks.spots:.0%} of it"
    if looks.film >= FILM:
        return "carbon", f"{nothing}, and {looks.film:.0%} of it is one area that is no ice"
    if looks.dark >= DARK and _is_mottled(looks):
        return "crystalline", f"{nothing}, and mottled all over, as crystalline ice is"
    if looks.dark >= DARK:
        return "contaminated", f"{nothing}, and {looks.dark:.0%} of it darker than ice"
    if looks.ringing < RINGING:
        return "no ice", f"{nothing}, and no Thon rings"
    return "empty", f"{nothing}, in ice"


def _is_mottled(looks: Texture) -> bool:
    return looks.grain >= GRAIN and looks.mottled >= MOTTLED
