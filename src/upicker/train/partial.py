"""Training with labels that cover only some of the particles.

**Targets.** Positions of strong proposals are unsure, and later those of the teacher's confident picks
(`upicker.train.teacher`): there the class loss of background has little weight (`loss.unsure_weight`). Everything else
is background, as usual. Weight 0 at unsure positions leaves strong false positives strong, since no loss acts on them.
Full weight does not change the ranking of picks where labels are drawn evenly, as each particle is then labelled with
the same probability wherever it is (Elkan & Noto 2008; figures in docs/experiments.md), but it would suppress particles
that look unlike the labelled ones.

**Validation.** Let a fraction `c` of the particles be labelled, selected completely at random. Then recall on the
labels is the recall `R`, but only a fraction ``q = c P`` of the picks lies on labels, `P` being the precision. So
``q R`` is ``P R`` up to a constant factor, whatever `c` is; this is the criterion of Lee & Liu (2003), recall^2 over
the fraction of positives. The harmonic and the geometric mean of `P` and `R` peak at nearly the same threshold, so the
threshold with the highest ``q R`` is used, and early stopping follows it. F1 against the labels would be highest for
the few most confident picks; F1 against labels and the teacher's own picks would favour the teacher.

For reports `P` is estimated, too, as an upper bound: no threshold has a precision above 1, so `c` is at least the
largest `q`, and equals it if the most confident picks are all particles (Elkan & Noto 2008; Garg et al. 2021). The
lower end of its confidence interval is used, or three lucky picks would decide. Where only the easy particles are
labelled, recall is overestimated; labels should be drawn evenly, or be complete in a region.

Micrographs with complete labels, or a complete region, give both without an estimate; if some of them are validated on,
only they count. Otherwise the training labels are validated on, too: where a tenth is labelled, a fifth of the labels
would be a handful, whose threshold is worse than that of all (docs/experiments.md), since a network that is trained
with little weight on unlabelled particles finds them nearly as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from upicker.config import Config, TrainConfig
from upicker.geometry import Region
from upicker.particles import Particles
from upicker.propose.proposals import propose
from upicker.scoring import Curve, curve, steadied, steady
from upicker.train.checkpoint import State
from upicker.train.labels import LabelledMicrograph, without_known
from upicker.train.ranks import Ranks
from upicker.train.sample import Sample
from upicker.train.teacher import (
    Bounds,
    TrainingRegion,
    from_tensors,
    lowest,
    refuse_copies,
    teacher_picks,
    to_tensors,
)
from upicker.train.validation import Pair, ValidationMicrograph

# The fraction of labelled particles is read from picks that found at least this many labels, if any do.
FEWEST_HITS = 10
# Steps of fine-tuning on however few labels, see `steps_for`.
FEWEST_STEPS = 100


def steps_for(labels: int, config: TrainConfig) -> int:
    """Return the steps of fine-tuning weights that know particles already, on so many partial labels.

    The more often the same few are shown, the more their neighbours count as background (docs/experiments.md).
    """
    if config.steps_per_label is None:
        return config.finetune_steps
    return min(config.finetune_steps, max(FEWEST_STEPS, round(config.steps_per_label * labels)))


def training_region(micrograph: LabelledMicrograph, region: Region, config: Config) -> TrainingRegion:
    """Return a region of a labelled micrograph to train on; with partial labels, strong proposals are unsure."""
    unsure = Particles.of([])
    if micrograph.partial and config.teacher.proposals:
        proposing = replace(config.propose, top_k="auto")
        strong = propose(micrograph.prepared, proposing, config.image, micrograph.prepared.usable)
        unsure = without_known(strong, micrograph.particles, micrograph.diameter_px)
    return TrainingRegion(
        micrograph.prepared,
        micrograph.particles,
        unsure,
        region,
        micrograph.partial,
        rejected=micrograph.rejected,
    )


class PartialTeacher:
    """Updates where unlabelled particles may be, every `teacher.every_steps` steps.

    Its thresholds are set on the validation micrographs; without validation, on the training labels.

    Parameters
    ----------
    regions : sequence of TrainingRegion
        The micrographs, or regions, to train on. Those with complete labels are used as they are.
    validation : sequence of ValidationMicrograph
        What is validated on.
    config : Config
        The room ``teacher``, and how to pick.
    ranks : Ranks
        The processes that train together.

    Attributes
    ----------
    samples : list of Sample
        The training samples; changed in place.

    Raises
    ------
    ConfigError
        If offline augmentation is on.
    """

    def __init__(
        self,
        regions: Sequence[TrainingRegion],
        validation: Sequence[ValidationMicrograph],
        config: Config,
        ranks: Ranks,
    ) -> None:
        refuse_copies(config)
        self.samples: list[Sample] = [one.initial_sample() for one in regions]
        self._index = [i for i, one in enumerate(regions) if one.partial]
        self._partial = [regions[i] for i in self._index]
        self._validation = [TrainingRegion(one.prepared, one.labels, region=one.region) for one in validation]
        self._config, self._ranks, self._updated_at = config, ranks, -1

    def update(self, state: State) -> dict[str, float]:
        """See `upicker.train.teacher.Teacher`."""
        knobs = self._config.teacher
        if state.step < knobs.start_steps or not self._partial:
            return {}
        due = state.step - (state.step - knobs.start_steps) % knobs.every_steps
        if state.teacher.get("step") != due:
            assert due == state.step, "the checkpoint lacks the state of its teacher"
            state.teacher = self._pick(state)
        if self._updated_at != due:
            self._updated_at = due
            if state.teacher["targets"]:
                for i, one in zip(self._index, from_tensors(state.teacher["targets"], self._partial), strict=True):
                    self.samples[i] = one
        # A step that is repeated after Ctrl-C is logged as it would have been.
        return {name: state.teacher[name] for name in ("sure", "unsure")} if due == state.step else {}

    def final_metrics(self, state: State) -> dict[str, float]:
        """See `upicker.train.teacher.Teacher`: without validation there are none."""
        return {}

    def _pick(self, state: State) -> dict:
        """Return the teacher's new state: the step, and each region's targets; empty, they stay unchanged."""
        thresholds_on = self._validation or self._partial
        everything = [*self._partial, *self._validation]
        picks = teacher_picks(everything, state.average, self._config, self._ranks)
        own = picks[: len(self._partial)]
        known = picks[len(everything) - len(thresholds_on) :]
        pairs = [(found, one.labels) for found, one in zip(known, thresholds_on, strict=True)]
        scores = bounds(curve(pairs), sum(len(labels) for _, labels in pairs), self._config)
        if not np.isfinite(scores.unsure):
            return {"step": state.step, "targets": {}, "sure": 0, "unsure": 0}
        targets = []
        for found, one in zip(own, self._partial, strict=True):
            looked_at = Particles.concatenate([one.labels, one.rejected])
            others = without_known(found, looked_at, one.prepared.diameter_px)
            adopted = others.above(scores.sure)
            unsure = others.select((others.score >= scores.unsure) & (others.score < scores.sure))
            targets.append((Particles.concatenate([one.labels, adopted]), unsure))
        return {
            "step": state.step,
            "targets": to_tensors(targets),
            "sure": sum(len(sure) for sure, _ in targets),
            "unsure": sum(len(unsure) for _, unsure in targets),
        }


def bounds(points: Curve, labels: int, config: Config) -> Bounds:
    """Return from which scores on the teacher's picks become particles and unsure positions.

    Parameters
    ----------
    points : Curve
        Of its picks against partial labels; ``precision`` is the fraction of picks on labels.
    labels : int
        Number of labels.
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


def labelled_fraction(points: Curve, labels: int) -> float:
    """Estimate which fraction of the particles is labelled, from picks against partial labels.

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
    enough = hits >= min(FEWEST_HITS, hits.max()) - 0.5  # hits are whole numbers, up to rounding
    return float(max(low[enough].max(), q[enough].min()))


def estimated(points: Curve, labels: int) -> Curve:
    """Return the curve with the precision and F1 that are estimated for complete labels."""
    fraction = labelled_fraction(points, labels)
    precision = np.minimum(points.precision / fraction, 1.0) if fraction else points.precision
    f1 = 2 * precision * points.recall / np.maximum(precision + points.recall, np.finfo(float).tiny)
    return Curve(points.thresholds, precision, points.recall, f1)


def metrics_for(
    validation: Sequence[ValidationMicrograph],
) -> Callable[[Sequence[Pair]], dict[str, float]] | None:
    """Return the function that computes metrics on these micrographs; None if all labels are complete."""
    partial = [one.partial for one in validation]
    return (lambda pairs: partial_metrics(pairs, partial)) if any(partial) else None


def partial_metrics(pairs: Sequence[Pair], partial: Sequence[bool]) -> dict[str, float]:
    """Compute metrics on validation micrographs of which some have partial labels.

    Parameters
    ----------
    pairs : sequence of (Particles, Particles)
        Picks and labels of each.
    partial : sequence of bool
        Which labels are partial.

    Returns
    -------
    dict
        ``precision``, ``recall``, ``f1``, ``threshold``, the first and third perhaps estimates; and ``merit``, by which
        validations of one training can be compared: F1, or the square root of recall x fraction of picks on labels.
    """
    complete = [pair for pair, some in zip(pairs, partial, strict=True) if not some]
    if any(len(labels) for _, labels in complete):
        threshold, best = steady(complete)
        row = {"precision": best.precision, "recall": best.recall, "f1": best.f1}
        return row | {"threshold": min(threshold, 1.0), "merit": best.f1}
    # Complete labels without a particle know precision, but no recall.
    pairs = [pair for pair, some in zip(pairs, partial, strict=True) if some]
    points, labels = curve(pairs), sum(len(one) for _, one in pairs)
    merit = replace(points, f1=np.sqrt(points.precision * points.recall))
    at = merit.best
    if at is None or not merit.f1[at]:
        return {"precision": 0.0, "recall": 0.0, "f1": 0.0, "threshold": 1.0, "merit": 0.0}
    # Of the numbers in the merit, only that of the labels found is small: its relative error is that of recall.
    recall = merit.recall[at]
    error = merit.f1[at] * np.sqrt((1 - recall + 1 / labels) / (recall * labels))
    threshold = steadied(points, merit.f1, float(error))
    estimate = estimated(points, labels)
    chosen = max(0, int(np.searchsorted(-points.thresholds, -threshold, side="right")) - 1)
    return {
        "precision": float(estimate.precision[chosen]),
        "recall": float(estimate.recall[chosen]),
        "f1": float(estimate.f1[chosen]),
        "threshold": min(threshold, 1.0),
        "merit": float(merit.f1[at]),
    }
