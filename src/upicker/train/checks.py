"""Sets of labelled micrographs that are scored at intervals while a training goes on, and never learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from upicker import scoring
from upicker.config import Config
from upicker.pick.torch_network import TorchNetwork
from upicker.train.checkpoint import State
from upicker.train.log import Progress
from upicker.train.ranks import Ranks
from upicker.train.validation import ValidationMicrograph


@dataclass(frozen=True, eq=False)
class CheckSet:
    """One set to check on.

    Attributes
    ----------
    name : str
        As the user calls it.
    micrographs : list of ValidationMicrograph
        Labels complete.
    config : Config
        How to pick them: with the margin that their labels leave.
    """

    name: str
    micrographs: list[ValidationMicrograph]
    config: Config


@dataclass(frozen=True, eq=False)
class Checks:
    """What is scored, and when; see `upicker.train.loop.Plan.report`.

    Attributes
    ----------
    sets : sequence of CheckSet
        May be empty.
    every : int
        Steps between checks.
    steps : int
        Those of the training: the last one is checked, too.
    threshold : float
        One for all sets: F1 is reported at the best threshold of each set, and at this one.
    ranks : Ranks
        The processes that train together.
    progress : Progress
        Where the figures are shown.
    """

    sets: Sequence[CheckSet]
    every: int
    steps: int
    threshold: float
    ranks: Ranks
    progress: Progress

    @property
    def columns(self) -> list[str]:
        """The columns of the log."""
        return [column for one in self.sets for column in (self._best(one.name), self._fixed(one.name))]

    def __call__(self, state: State) -> dict[str, float]:
        """Return the figures of all sets if a check is due, for the averaged weights."""
        if not self.sets or (state.step % self.every and state.step != self.steps):
            return {}
        row = {}
        network = TorchNetwork(state.average, self.sets[0].config)
        for one in self.sets:
            pairs = self.ranks.map(lambda mic, config=one.config: mic.pick(network, config), one.micrographs)
            points = scoring.curve(pairs)
            best = 0.0 if points.best is None else float(points.f1[points.best])
            fixed = scoring.score(pairs, threshold=self.threshold).f1
            row |= {self._best(one.name): best, self._fixed(one.name): fixed}
            figures = {"step": state.step, "f1": best, "threshold": scoring.best_threshold(points)}
            self.progress.checked(one.name, figures | {"f1_fixed": fixed, "fixed": self.threshold})
        return row

    def _best(self, name: str) -> str:
        return f"check {name}"

    def _fixed(self, name: str) -> str:
        return f"check {name} at {self.threshold:g}"
