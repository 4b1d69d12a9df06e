"""Self-training: rounds in which the teacher's picks take the place of the proposals, all without a label.

Pretraining believes the proposals. Errors of theirs that depend on nothing a network can see cannot be learned, so at
the start of each round the picks of the averaged weights (`upicker.train.teacher`) become what is learned: those above
a threshold are particles, all else is background, and training goes on from the weights, with longer steps again.

**Nothing is unsure.** What lies just below the threshold is what the network has to learn to tell from particles. Where
such places were left out of the class loss, it took more and more of them for particles (docs/experiments.md).

**Thresholds** have to be found without a label. Some micrographs are not learned from, and on those the proposals play
the part of labels: a network cannot know them by heart there. What a round teaches shall be right rather than complete,
so it is cut where recall^2 over the number of picks is highest, recall being that of the stronger half of the
proposals: the weaker half holds most of what both the proposals and the network take for particles. The threshold that
is stored for users shall find all: it is where F1 against all proposals is best, as after pretraining.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from upicker.config import Config
from upicker.particles import Particles
from upicker.statistics import evenly_spaced
from upicker.train.checkpoint import State
from upicker.train.loop import scored
from upicker.train.partial import judged
from upicker.train.ranks import Ranks
from upicker.train.teacher import Lesson, looked, recalled, refuse_copies, remembered

# With fewer micrographs than this none is held back.
FEWEST = 4
# Share of the proposals, the strongest, by which a round's picks are cut.
STRONGEST = 0.5


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
        held = set(evenly_spaced(len(lessons), count, ends=False).tolist())
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
        picks = looked(self._held, state.average, self._config, self._ranks, views=None)  # as users will pick
        return scored([(found, one.known) for found, one in zip(picks, self._held, strict=True)])

    def _look(self, state: State, number: int) -> dict:
        """Return what to remember of a round: its number, what each micrograph teaches, and the row for the log."""
        every = list({id(one): one for one in [*self._lessons, *self._held]}.values())
        picks = dict(zip(map(id, every), looked(every, state.average, self._config, self._ranks), strict=True))
        row = judged([(picks[id(one)], strongest(one.known)) for one in self._held], [True] * len(self._held))
        del row["merit"]
        nothing = Particles.of([])
        taught = [(picks[id(one)].above(row["threshold"]), nothing) for one in self._lessons]
        sure = sum(len(found) for found, _ in taught)
        # A teacher that finds nothing has nothing to say: the round goes on with what was taught before.
        before = state.memory.get("found", {})
        row |= {"round": number, "sure": sure}
        return {"round": number, "found": remembered(taught) if sure else before, "row": row}


def strongest(proposals: Particles) -> Particles:
    """Return the stronger half of a micrograph's proposals."""
    count = int(np.ceil(STRONGEST * len(proposals)))
    return proposals.by_score().select(np.arange(count))
