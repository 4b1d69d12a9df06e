"""Self-training: rounds in which the teacher's picks replace the proposals as pseudo-labels; no label is needed.

Pretraining takes proposals for particles. Their errors that do not depend on the image cannot be learned, so at the
start of each round the picks of the averaged weights (`upicker.train.teacher`) become the targets: those above a
threshold are particles, everything else is background, and training continues from the weights, with a higher learning
rate again.

**Nothing is unsure.** What lies just below the threshold is what the network has to learn to distinguish from
particles. Where such positions were left out of the class loss, it took more and more of them for particles
(docs/experiments.md).

**Thresholds** have to be found without a label. Some micrographs are held back from training, and on those the
proposals serve as labels: the network cannot have memorised them there. The targets of a round should be right rather
than complete, so the threshold is the one with the highest recall^2 over the number of picks, recall being that of the
stronger half of the proposals: the weaker half holds most of what both the proposals and the network mistake for
particles. The threshold that is stored for users should find all particles: it has the best F1 against all proposals,
as after pretraining.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from upicker.config import Config
from upicker.particles import Particles
from upicker.statistics import evenly_spaced
from upicker.train.checkpoint import State
from upicker.train.partial import partial_metrics
from upicker.train.ranks import Ranks
from upicker.train.teacher import TrainingRegion, from_tensors, refuse_copies, teacher_picks, to_tensors
from upicker.train.validation import metrics_of

# With fewer micrographs than this none is held back.
FEWEST = 4
# Fraction of the proposals, the strongest, on which the threshold of a round is chosen.
STRONGEST = 0.5


def round_starts(config: Config) -> tuple[int, ...]:
    """Return the steps at which rounds start."""
    train, knobs = config.train, config.teacher
    return tuple(train.pretrain_steps + i * knobs.round_steps for i in range(knobs.rounds))


class SelfTeacher:
    """Picks the micrographs at the start of each round, and makes its picks the targets of that round.

    Parameters
    ----------
    regions : sequence of TrainingRegion
        All micrographs; some of them, evenly spread, are held back, unless there are fewer than `FEWEST`.
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

    def __init__(self, regions: Sequence[TrainingRegion], config: Config, ranks: Ranks) -> None:
        refuse_copies(config)
        count = max(1, round(config.teacher.held * len(regions))) if config.teacher.held else 0
        if len(regions) < FEWEST:
            count = 0
        held = set(evenly_spaced(len(regions), count, ends=False).tolist())
        self._regions = [one for i, one in enumerate(regions) if i not in held]
        self._held = [one for i, one in enumerate(regions) if i in held] or self._regions
        self._starts, self._config, self._ranks, self._round = round_starts(config), config, ranks, 0
        self.samples = [one.initial_sample() for one in self._regions]

    def update(self, state: State) -> dict[str, float]:
        """See `upicker.train.teacher.Teacher`."""
        number = sum(state.step >= start for start in self._starts)
        if number == 0:
            return {}
        if state.teacher.get("round") != number:
            state.teacher = self._pick(state, number)
        if self._round != number:
            self._round = number
            if state.teacher["targets"]:
                self.samples[:] = from_tensors(state.teacher["targets"], self._regions)
        # A step that is repeated after Ctrl-C is logged as it would have been.
        return state.teacher["row"] if state.step in self._starts else {}

    def final_metrics(self, state: State) -> dict[str, float]:
        """See `upicker.train.teacher.Teacher`: threshold and metrics of the last weights, against proposals."""
        picks = teacher_picks(self._held, state.average, self._config, self._ranks, views=None)  # as users will pick
        return metrics_of([(found, one.known) for found, one in zip(picks, self._held, strict=True)])

    def _pick(self, state: State, number: int) -> dict:
        """Return the teacher's state for a round: its number, each micrograph's targets, and the row for the log."""
        everything = list({id(one): one for one in [*self._regions, *self._held]}.values())
        found = teacher_picks(everything, state.average, self._config, self._ranks)
        picks = dict(zip(map(id, everything), found, strict=True))
        pairs = [(picks[id(one)], strongest(one.known)) for one in self._held]
        row = partial_metrics(pairs, [True] * len(self._held))
        del row["merit"]
        nothing = Particles.of([])
        targets = [(picks[id(one)].above(row["threshold"]), nothing) for one in self._regions]
        sure = sum(len(particles) for particles, _ in targets)
        # If the teacher finds nothing, the round continues with the targets of the one before.
        before = state.teacher.get("targets", {})
        row |= {"round": number, "sure": sure}
        return {"round": number, "targets": to_tensors(targets) if sure else before, "row": row}


def strongest(proposals: Particles) -> Particles:
    """Return the stronger half of a micrograph's proposals."""
    count = int(np.ceil(STRONGEST * len(proposals)))
    return proposals.by_score().select(np.arange(count))
