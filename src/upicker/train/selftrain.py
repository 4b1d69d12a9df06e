"""Self-training: rounds in which the teacher's picks take the place of the proposals, all without a label.

Pretraining believes the A-LoG filter. The network that comes of it is better than what it learned from, because errors
of the filter that depend on nothing a network can see cannot be learned. So at the start of each round its picks become
what is learned: those above a threshold are particles, some below it are unsure places (`upicker.train.teacher`), all
else is background, and training goes on from the weights with the schedule of a fine-tuning.

Before the first round, too, proposals that the filter finds but does not believe are unsure, and no background: where
it sees few of the particles (hollow ones, crowded ones) the network would else be taught to miss the others.

**The threshold** has to be found without a label. Some micrographs are not learned from, and on those the proposals
play the part of labels: a network cannot know them by heart there. As with partial labels (`upicker.train.partial`),
it is the threshold that is best for recall^2 over the number of picks, where F1 against the proposals would punish the
network for each particle that the filter missed. Only the stronger half of the proposals counts: the weaker one holds
most of what both the filter and the network take for particles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from upicker.config import Config
from upicker.evaluate import curve
from upicker.image.prepare import Prepared
from upicker.particles import Particles
from upicker.propose.proposals import propose
from upicker.train.checkpoint import State
from upicker.train.partial import bounds, judged
from upicker.train.ranks import Ranks
from upicker.train.teacher import Lesson, apart, looked, recalled, refuse_copies, remembered

# With fewer micrographs than this none is held back.
FEWEST = 4
# Share of the proposals, the strongest, that the threshold is found with.
STRONGEST = 0.5


def lesson(prepared: Prepared, proposals: Particles, config: Config) -> Lesson:
    """Return what an unlabelled micrograph teaches: proposals; before self-training, as many weaker ones are unsure."""
    unsure = Particles.of([])
    if config.teacher.rounds and config.teacher.proposals:
        proposing = replace(config.propose, top_k=str(2 * max(len(proposals), 1)))
        every = propose(prepared, proposing, config.image, prepared.usable)
        unsure = apart(every, proposals, prepared.diameter_px)
    return Lesson(prepared, proposals, unsure)


def starts(config: Config) -> tuple[int, ...]:
    """Return the steps at which rounds start."""
    train, knobs = config.train, config.teacher
    return tuple(train.pretrain_steps + i * knobs.round_steps for i in range(knobs.rounds))


class SelfTeacher:
    """Looks at the micrographs at the start of each round, and says what is learned in it.

    Parameters
    ----------
    lessons : sequence of Lesson
        All micrographs; some of them, evenly spread, are held back, unless there are fewer than `FEWEST`.
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

    def __init__(self, lessons: Sequence[Lesson], config: Config, ranks: Ranks) -> None:
        refuse_copies(config)
        count = max(1, round(config.teacher.held * len(lessons))) if config.teacher.held else 0
        if len(lessons) < FEWEST:
            count = 0
        held = {int((i + 0.5) * len(lessons) / count) for i in range(count)}
        self._lessons = [one for i, one in enumerate(lessons) if i not in held]
        self._held = [one for i, one in enumerate(lessons) if i in held] or self._lessons
        self._starts, self._config, self._ranks, self._taught = starts(config), config, ranks, 0
        self.samples = [one.start() for one in self._lessons]

    def attend(self, state: State) -> dict[str, float]:
        """See `upicker.train.teacher.Teacher`."""
        number = sum(state.step >= start for start in self._starts)
        if number == 0:
            return {}
        if state.memory.get("round") != number:
            state.memory = self._look(state, number)
        if self._taught != number:
            self._taught = number
            if state.memory["found"]:
                self.samples[:] = recalled(state.memory["found"], self._lessons)
        # A step that is repeated after Ctrl-C is logged as it would have been.
        return state.memory["row"] if state.step in self._starts else {}

    def verdict(self, state: State) -> dict[str, float]:
        """See `upicker.train.teacher.Teacher`: the threshold of the last weights, and the figures against proposals."""
        views = self._config.pick.views  # as users will pick
        return self._judged(looked(self._held, state.average, self._config, self._ranks, views))

    def _judged(self, picks: Sequence[Particles]) -> dict[str, float]:
        row = judged(self._pairs(picks), [True] * len(self._held))
        del row["merit"]
        return row

    def _pairs(self, picks: Sequence[Particles]) -> list[tuple[Particles, Particles]]:
        """Return picks and the strongest proposals of the micrographs held back."""
        return [(found, strongest(one.known)) for found, one in zip(picks, self._held, strict=True)]

    def _look(self, state: State, number: int) -> dict:
        """Return what to remember of a round: its number, what each micrograph teaches, and the row for the log."""
        every = list({id(one): one for one in [*self._lessons, *self._held]}.values())
        picks = dict(zip(map(id, every), looked(every, state.average, self._config, self._ranks), strict=True))
        held = [picks[id(one)] for one in self._held]
        row = self._judged(held)
        pairs = self._pairs(held)
        between = bounds(curve(pairs), sum(len(strong) for _, strong in pairs), self._config)
        own = [picks[id(one)] for one in self._lessons]
        low, high = min(between.unsure, row["threshold"]), row["threshold"]
        taught = [(found.above(high), found.select((found.score >= low) & (found.score < high))) for found in own]
        sure, unsure = (sum(len(pair[i]) for pair in taught) for i in (0, 1))
        # A teacher that finds nothing has nothing to say: the round goes on with what was taught before.
        before = state.memory.get("found", {})
        row |= {"round": number, "sure": sure, "unsure": unsure}
        return {"round": number, "found": remembered(taught) if sure else before, "row": row}


def strongest(proposals: Particles) -> Particles:
    """Return the stronger half of a micrograph's proposals."""
    count = int(np.ceil(STRONGEST * len(proposals)))
    return proposals.by_score().select(np.arange(count))
