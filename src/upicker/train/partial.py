"""Labels that cover only some of the particles.

**What is taught.** Places of strong proposals are unsure, and later, once the teacher (`upicker.train.teacher`) is
trusted, those of its confident picks: there background weighs little (`loss.unsure_weight`). All else is background,
as ever. To teach nothing there leaves strong false picks strong, since nobody says what they are. To teach that it is
background costs no order where labels are drawn evenly, as a particle is then labelled by the same chance wherever it
is (Elkan & Noto 2008; figures in docs/experiments.md), but would bury those that look unlike the labelled ones.

**How good is it?** Let a share `c` of the particles be labelled, those that are, by chance ("selected completely at
random"). Then recall on the labels is the recall `R`; but of the picks only ``q = c P`` lie on labels, `P` being the
precision. So ``q R`` is ``P R`` but for a constant, whatever `c` is: what Lee & Liu (2003) maximise, recall^2 over the
share of what is called positive. The harmonic and the geometric mean of `P` and `R` peak nearly at the same threshold,
so the threshold with the highest ``q R`` is taken, and training stops by it. F1 against the labels would be highest
for the few most confident picks, F1 against labels and the teacher's own picks would praise the teacher.

For people `P` is estimated, too, from above: no threshold has a precision above 1, so `c` is at least the largest `q`,
and it is that where the most confident picks are all particles (Elkan & Noto 2008; Garg et al. 2021). The lower end of
its confidence interval is taken, or three lucky picks would decide. Where labels are those of the easy particles,
recall is overestimated; labels should be drawn evenly, or be complete in a region.

Micrographs with complete labels, or a complete region, tell both without an estimate; if there are any to validate on,
they alone count. Else the labels that are learned from are validated on, too: where a tenth is labelled, a fifth of
them would be a handful, whose threshold is worse than that of all (docs/experiments.md), since a network that is
taught little about unlabelled particles finds them nearly as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from upicker.config import Config
from upicker.geometry import Region
from upicker.particles import Particles
from upicker.propose.proposals import propose
from upicker.scoring import Curve, curve, steadied, steady
from upicker.train.checkpoint import State
from upicker.train.labels import Truth
from upicker.train.loop import Check
from upicker.train.ranks import Ranks
from upicker.train.sample import Sample
from upicker.train.teacher import Bounds, Lesson, apart, looked, lowest, recalled, refuse_copies, remembered

# The share of labelled particles is read off picks that found at least so many labels, if any do.
FEWEST_HITS = 10

Pair = tuple[Particles, Particles]


def lesson(truth: Truth, region: Region, config: Config) -> Lesson:
    """Return what a labelled micrograph teaches; where labels are partial, strong proposals are unsure places."""
    unsure = Particles.of([])
    if truth.partial and config.teacher.proposals:
        proposing = replace(config.propose, top_k="auto")
        strong = propose(truth.prepared, proposing, config.image, truth.prepared.usable)
        unsure = apart(strong, truth.particles, truth.diameter_px)
    return Lesson(truth.prepared, truth.particles, unsure, region, truth.partial)


class PartialTeacher:
    """Says, every so many steps, where unlabelled particles may be.

    Thresholds are set on what is validated on; without validation, on the labels learned from.

    Parameters
    ----------
    lessons : sequence of Lesson
        The micrographs, or regions, that are learned from.
        Those with complete labels are taught as they are.
    checks : sequence of Check
        What is validated on.
    config : Config
        The room ``teacher``, and how to pick.
    ranks : Ranks
        Who trains together.

    Attributes
    ----------
    samples : list of Sample
        What is learned from; changed in place.

    Raises
    ------
    ConfigError
        If copies are to be made of the micrographs.
    """

    def __init__(self, lessons: Sequence[Lesson], checks: Sequence[Check], config: Config, ranks: Ranks) -> None:
        refuse_copies(config)
        self.samples: list[Sample] = [one.start() for one in lessons]
        self._places = [place for place, one in enumerate(lessons) if one.partial]
        self._lessons = [lessons[place] for place in self._places]
        self._checks = [Lesson(check.prepared, check.labels, region=check.region) for check in checks]
        self._config, self._ranks, self._taught = config, ranks, -1

    def attend(self, state: State) -> dict[str, float]:
        """See `upicker.train.teacher.Teacher`."""
        knobs = self._config.teacher
        if state.step < knobs.start_steps or not self._lessons:
            return {}
        due = state.step - (state.step - knobs.start_steps) % knobs.every_steps
        if state.memory.get("step") != due:
            assert due == state.step, "a checkpoint lacks what its teacher found"
            state.memory = self._look(state)
        if self._taught != due:
            self._taught = due
            if state.memory["found"]:
                for place, one in zip(self._places, recalled(state.memory["found"], self._lessons), strict=True):
                    self.samples[place] = one
        # A step that is repeated after Ctrl-C is logged as it would have been.
        return {name: state.memory[name] for name in ("sure", "unsure")} if due == state.step else {}

    def verdict(self, state: State) -> dict[str, float]:
        """See `upicker.train.teacher.Teacher`: without validation there is none."""
        return {}

    def _look(self, state: State) -> dict:
        """Return what to remember: the step, and what each lesson teaches; nothing found leaves it as it is."""
        asked = self._checks or self._lessons
        every = [*self._lessons, *self._checks]
        picks = looked(every, state.average, self._config, self._ranks)
        own = picks[: len(self._lessons)]
        pairs = [(found, one.labels) for found, one in zip(picks[len(every) - len(asked) :], asked, strict=True)]
        between = bounds(curve(pairs), sum(len(labels) for _, labels in pairs), self._config)
        if not np.isfinite(between.unsure):
            return {"step": state.step, "found": {}, "sure": 0, "unsure": 0}
        taught = []
        for found, one in zip(own, self._lessons, strict=True):
            others = apart(found, one.labels, one.prepared.diameter_px)
            adopted = others.above(between.sure)
            maybe = others.select((others.score >= between.unsure) & (others.score < between.sure))
            taught.append((Particles.concatenate([one.labels, adopted]), maybe))
        return {
            "step": state.step,
            "found": remembered(taught),
            "sure": sum(len(sure) for sure, _ in taught),
            "unsure": sum(len(maybe) for _, maybe in taught),
        }


def bounds(points: Curve, labels: int, config: Config) -> Bounds:
    """Return from which scores on the teacher's picks are labels and unsure places.

    Parameters
    ----------
    points : Curve
        Of its picks against partial labels; ``precision`` is the share that lies on labels.
    labels : int
        How many there are.
    config : Config
        `teacher.doubt` and `teacher.adopt`.
    """
    merit = points.precision * points.recall
    if not len(merit) or not merit.max():
        return Bounds(float("inf"), float("inf"))
    unsure = lowest(points, merit >= config.teacher.doubt * merit.max())
    if config.teacher.adopt is None:
        return Bounds(float("inf"), unsure)
    precision = estimated(points, labels).precision
    return Bounds(max(lowest(points, precision >= config.teacher.adopt), unsure), unsure)


def labelled_share(points: Curve, labels: int) -> float:
    """Estimate the share of the particles that is labelled, from picks against partial labels.

    Returns
    -------
    float
        0..1; 0 if no pick found a label.
    """
    hits = points.recall * labels
    q = points.precision[hits > 0]
    if not len(q):
        return 0.0
    hits = hits[hits > 0]
    low = q - np.sqrt(q * (1 - q) / (hits / q))
    enough = hits >= min(FEWEST_HITS, hits.max()) - 0.5  # hits are whole numbers, but for rounding
    return float(max(low[enough].max(), q[enough].min()))


def estimated(points: Curve, labels: int) -> Curve:
    """Return the curve with precision and F1 as they are estimated to be if all particles were labelled."""
    share = labelled_share(points, labels)
    precision = np.minimum(points.precision / share, 1.0) if share else points.precision
    f1 = 2 * precision * points.recall / np.maximum(precision + points.recall, np.finfo(float).tiny)
    return Curve(points.thresholds, precision, points.recall, f1)


def judge_of(checks: Sequence[Check]) -> Callable[[Sequence[Pair]], dict[str, float]] | None:
    """Return how the pairs of these checks are judged; None if all labels are complete."""
    partial = [check.partial for check in checks]
    return (lambda pairs: judged(pairs, partial)) if any(partial) else None


def judged(pairs: Sequence[Pair], partial: Sequence[bool]) -> dict[str, float]:
    """Judge picks of the validation micrographs.

    Parameters
    ----------
    pairs : sequence of (Particles, Particles)
        Picks and labels of each.
    partial : sequence of bool
        Whose labels are partial.

    Returns
    -------
    dict
        ``precision``, ``recall``, ``f1``, ``threshold``, the first and third perhaps estimates; and ``merit``, by which
        validations of one training can be compared: F1, or the square root of recall x share of picks on labels.
    """
    exact = [pair for pair, some in zip(pairs, partial, strict=True) if not some]
    if any(len(labels) for _, labels in exact):
        threshold, best = steady(exact)
        row = {"precision": best.precision, "recall": best.recall, "f1": best.f1}
        return row | {"threshold": min(threshold, 1.0), "merit": best.f1}
    points, labels = curve(pairs), sum(len(one) for _, one in pairs)
    merit = replace(points, f1=np.sqrt(points.precision * points.recall))
    at = merit.best
    if at is None or not merit.f1[at]:
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0, "threshold": 1.0, "merit": 0.0}
    # Of what merit is made of, only the labels found are few: its relative error is recall's.
    recall = merit.recall[at]
    error = merit.f1[at] * np.sqrt((1 - recall + 1 / labels) / (recall * labels))
    threshold = steadied(points, merit.f1, float(error))
    real = estimated(points, labels)
    chosen = max(0, int(np.searchsorted(-points.thresholds, -threshold, side="right")) - 1)
    return {
        "precision": float(real.precision[chosen]),
        "recall": float(real.recall[chosen]),
        "f1": float(real.f1[chosen]),
        "threshold": min(threshold, 1.0),
        "merit": float(merit.f1[at]),
    }
