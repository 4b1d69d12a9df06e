"""What was read of picks and labels at one time, micrograph by micrograph; read again only where files have changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from upicker import scoring
from upicker.errors import UPickerError
from upicker.io.labels import LabelFolder
from upicker.io.picks import Picks
from upicker.io.sources import DistinctReader, Repeated, Source, repeats
from upicker.particles import Particles, ScoreKind, common_kind
from upicker.web.inspecting import loading
from upicker.web.inspecting.loading import Origin, Progress, Remembered
from upicker.web.inspecting.scores import MicrographScores, PickScores
from upicker.web.project import Project

NO_LABEL = -1
_NOTHING = Particles.of([])
# Of the time to read picks, how much belongs to them where there are labels, and to both.
_PICKS, _BOTH = 0.8, 0.95


@dataclass(eq=False)
class MicrographPicks:
    """The picks of one micrograph, matched with its labels; all arrays in the order of its file.

    Attributes
    ----------
    picks : Picks or None
        None without a file of picks.
    labels : Particles or None
        None without a label file.
    accepted : np.ndarray
        `(n,)` bool: picks that the user has not rejected.
    label : np.ndarray
        `(n,)` int: index of the label that each pick matches; -1 for none.
    since : int
        When its picks or labels were read: a number that grows.
    side_px : float or None
        Side of the boxes that are matched, see `upicker.scoring.match`.
    """

    picks: Picks | None
    labels: Particles | None
    accepted: np.ndarray
    label: np.ndarray
    since: int = 0
    side_px: float | None = None

    @property
    def particles(self) -> Particles:
        """The picks; empty without a file."""
        return self.picks.particles if self.picks is not None else _NOTHING

    def compare(self) -> None:
        """Match the accepted picks with the labels."""
        self.label = np.full(len(self.particles), NO_LABEL)
        if self.labels is not None:
            accepted = self.particles.select(self.accepted)
            self.label[self.accepted] = scoring.match(accepted, self.labels, self.side_px).label

    def scores(self) -> MicrographScores:
        """Return the scores, for counting."""
        labels = NO_LABEL if self.labels is None else len(self.labels)
        return MicrographScores(self.particles.score, self.label >= 0, self.accepted, labels)

    def found_at(self) -> np.ndarray:
        """Return, for each label, the score of the pick that matches it; -inf without one."""
        found = np.full(0 if self.labels is None else len(self.labels), -np.inf)
        hit = self.label >= 0
        found[self.label[hit]] = self.particles.score[hit]
        return found


@dataclass(frozen=True, eq=False)
class Gathered:
    """All picks, as they were read at one time.

    Attributes
    ----------
    number : int
        Of this reading: 1, 2, ...
    micrographs : list of MicrographPicks
        One for each micrograph of the project, in its order.
    scores : PickScores
        Their scores.
    picked : np.ndarray
        `(m,)` bool: micrographs that have a file of picks, perhaps an empty one.
    origin : Origin
        How the picks were made.
    problems : list of str
        What could not be read or compared, and what has changed lately in a run.
    unmatched : int
        Number of names that belong to no micrograph.
    replaced : int
        Number of the reading that last met other picks or labels of a micrograph that had some before.
    """

    number: int
    micrographs: list[MicrographPicks]
    scores: PickScores
    picked: np.ndarray
    origin: Origin
    problems: list[str] = field(default_factory=list)
    unmatched: int = 0
    replaced: int = 0

    @property
    def score_kind(self) -> ScoreKind:
        """What the scores of the picks are."""
        return common_kind([one.particles for one in self.micrographs])

    @property
    def initial_threshold(self) -> float:
        """The threshold to start with: the stored one; without one, that which keeps all picks."""
        return self.scores.low if self.origin.stored is None else self.origin.stored

    def counts(self) -> list[int | None]:
        """Return how many picks of each micrograph reach the initial threshold; None without a file."""
        counts = self.scores.counts(self.initial_threshold).tolist()
        return [count if one.picks is not None else None for count, one in zip(counts, self.micrographs)]


@dataclass(frozen=True, eq=False)
class Content:
    """What the files hold, before it is compared.

    Attributes
    ----------
    origin : Origin
        How the picks were made.
    picks, labels : Read
        By micrograph.
    """

    origin: Origin
    picks: loading.Read[Picks]
    labels: loading.Read[Particles]


class Gatherer:
    """Reads picks and labels, each file again only when it has changed.

    Parameters
    ----------
    project : Project
        Its `picks` are read.
    labels : LabelFolder or None
        Its folder of labels.
    """

    def __init__(self, project: Project, labels: LabelFolder | None) -> None:
        assert project.picks is not None
        self.project, self.picks, self.labels = project, project.picks, labels
        self._read_picks = Remembered(loading.one_micrograph)
        self._read_labels = Remembered(self._distinct)
        self._repeated: dict[Source, list[Repeated]] = {}

    def read(self, progress: Callable[[float], None]) -> Content:
        """Read the files.

        Parameters
        ----------
        progress : callable
            Called with the fraction that is read, 0..1.

        Raises
        ------
        UPickerError
            If none can be read, see `loading.read_picks`.
        """
        names = [self.project.name(number) for number in range(len(self.project.micrographs))]
        origin = loading.origin(self.picks)
        end = 1.0 if self.labels is None else _PICKS
        picks = loading.read_picks(self.picks, names, _within(progress, 0.0, end), self._read_picks)
        labels = loading.Read[Particles]([None] * len(names))
        if self.labels is not None:
            labels = loading.read_labels(self.labels, _within(progress, end, _BOTH), self._read_labels)
            if told := repeats(chain.from_iterable(self._repeated.values()), "counted once"):
                labels.problems.append(told)
        return Content(origin, picks, labels)

    def _distinct(self, source: Source) -> Particles:
        """Read labels, each position once, and note what stands more than once in this file now."""
        reader = DistinctReader(self.project.reading.pixel_size_A)
        particles = reader(source)
        self._repeated[source] = reader.repeated
        return particles

    def compared(
        self, content: Content, rejected: Mapping[str, list[list[float]]], before: Gathered | None
    ) -> Gathered:
        """Compare picks and labels; micrographs whose files are as before stay the same objects.

        Parameters
        ----------
        content : Content
            What the files hold.
        rejected : mapping
            Positions of rejected picks, by the name of the micrograph.
        before : Gathered or None
            The last one.
        """
        known = [] if before is None else before.micrographs
        number = 1 if before is None else before.number + 1
        replaced = 0 if before is None else before.replaced
        every: list[MicrographPicks] = []
        problems = [*content.picks.problems, *content.labels.problems]
        for index, (picks, truth) in enumerate(zip(content.picks.values, content.labels.values)):
            old = known[index] if index < len(known) else None
            if old is not None and old.picks is picks and old.labels is truth:
                every.append(old)
                continue
            if old is not None and old.picks is not None:
                replaced = number
            one, problem = self._one(index, picks, truth, rejected.get(self.project.name(index)))
            one.since = number
            problems += problem
            every.append(one)
        scores = PickScores([one.scores() for one in every])
        picked = np.array([one.picks is not None for one in every], bool)
        problems += content.origin.drifts
        return Gathered(number, every, scores, picked, content.origin, problems, content.picks.unmatched, replaced)

    def _one(
        self, number: int, picks: Picks | None, labels: Particles | None, rejected: list[list[float]] | None
    ) -> tuple[MicrographPicks, list[str]]:
        """Match picks of a micrograph with its labels; and say if that cannot be done."""
        particles = _NOTHING if picks is None else picks.particles
        one = MicrographPicks(picks, labels, _accepted(particles, rejected), np.empty(0, int))
        try:
            if labels is not None:
                one.side_px = loading.side_px(labels, self._diameter_px(number, labels), particles)
            one.compare()
        except UPickerError as error:
            one.labels = None
            one.compare()
            return one, [f"{self.project.name(number)}: not compared with its labels. {error}"]
        return one, []

    def _diameter_px(self, number: int, labels: Particles) -> float | None:
        """Return the project's diameter if the labels have none of their own."""
        return None if np.isfinite(labels.diameter_px).all() else self.project.diameter_px(number)


def _within(progress: Callable[[float], None], low: float, high: float) -> Progress:
    """Return progress by files as progress between two fractions."""
    return lambda done, files: progress(low + (high - low) * done / max(1, files))


def _accepted(particles: Particles, rejected: Sequence[Sequence[float]] | None) -> np.ndarray:
    if not rejected:
        return np.ones(len(particles), bool)
    positions = {(round(x, 2), round(y, 2)) for x, y in rejected}
    return np.array([(x, y) not in positions for x, y in particles.xy.round(2).tolist()], bool)
