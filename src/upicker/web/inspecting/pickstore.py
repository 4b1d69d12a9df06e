"""All picks of a project: read in the background, counted at any threshold, compared with labels, rejected by hand.

Rejected picks are kept beside the picks, in ``.upicker/rejected.json``, by micrograph and position (hundredths of a
pixel): so they stay rejected when the same picks are made again. They count nowhere: not in the numbers, not in
precision and recall, not in what is exported.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from upicker import scoring
from upicker.errors import InputError, UPickerError
from upicker.io.atomic import replacing
from upicker.io.picks import Picks
from upicker.particles import Particles
from upicker.web.answers import Refused
from upicker.web.inspecting import loading
from upicker.web.inspecting.tally import Group, Spread, Tally
from upicker.web.project import NotThere, Project

_NOTHING = Particles.of([])
_NO_LABEL = -1


@dataclass(eq=False)
class One:
    """What is known of one micrograph; all arrays in the order of its file.

    Attributes
    ----------
    picks : Picks or None
        None where there is no file.
    labels : Particles or None
        None where there are none to compare with.
    alive : np.ndarray
        `(n,)` bool: picks that nobody has rejected.
    label : np.ndarray
        `(n,)` int: which label each pick found; -1 for none.
    side_px : float or None
        Of the squares that are compared, see `upicker.scoring.match`.
    """

    picks: Picks | None
    labels: Particles | None
    alive: np.ndarray
    label: np.ndarray
    side_px: float | None = None

    @property
    def particles(self) -> Particles:
        """Its picks, perhaps none."""
        return self.picks.particles if self.picks is not None else _NOTHING

    def compare(self) -> None:
        """Match the picks that are left with the labels."""
        self.label = np.full(len(self.particles), _NO_LABEL)
        if self.labels is not None:
            left = self.particles.select(self.alive)
            self.label[self.alive] = scoring.match(left, self.labels, self.side_px).label

    def group(self) -> Group:
        """Return it as it is counted."""
        labels = _NO_LABEL if self.labels is None else len(self.labels)
        return Group(self.particles.score, self.label >= 0, self.alive, labels)

    def found_at(self) -> np.ndarray:
        """Return, for each label, the score of the pick that found it; -inf where none did."""
        found = np.full(0 if self.labels is None else len(self.labels), -np.inf)
        hit = self.label >= 0
        found[self.label[hit]] = self.particles.score[hit]
        return found


class PickStore:
    """All picks of a project.

    Parameters
    ----------
    project : Project
        Its `picks` are read by a thread that starts at once.

    Attributes
    ----------
    origin : upicker.web.inspecting.loading.Origin
        How the picks were made.
    loaded : float
        The share of the files that has been read, 0..1.
    revision : int
        Grows with every rejection.
    """

    def __init__(self, project: Project, parts: Mapping[str, object] | None = None) -> None:
        assert project.picks is not None
        self.project, self.picks, self.labels = project, project.picks, project.labels
        self.origin = loading.Origin()
        self.loaded, self.revision = 0.0, 0
        self.problems: list[str] = []
        self.strangers = 0
        name = "rejected.json" if self.picks.is_dir() else f"rejected-{self.picks.name}.json"
        self._file = project.state / name
        self._all: list[One] = []
        self._picked = np.zeros(0, bool)
        self._tally: Tally | None = None
        self._error: UPickerError | None = None
        self._spread: tuple[int, Spread] | None = None
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._reader = threading.Thread(target=self._read, name="picks", daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
        self._reader.join(timeout=5)

    def wait(self, seconds: float) -> None:
        """Wait until all is read.

        Raises
        ------
        TimeoutError
            If it takes longer.
        """
        self._reader.join(seconds)
        if self._reader.is_alive():
            raise TimeoutError

    @property
    def tally(self) -> Tally:
        """The counts.

        Raises
        ------
        Refused
            503 as long as picks are being read.
        UPickerError
            If they could not be read at all.
        """
        return self._need()

    @property
    def first_threshold(self) -> float:
        """The threshold to begin with: the stored one; all picks where there is none."""
        return self.tally.low if self.origin.stored is None else self.origin.stored

    def one(self, number: int) -> One:
        """Return a micrograph.

        Raises
        ------
        NotThere
            If there is no such number; otherwise as `tally`.
        """
        self._need()
        if not 0 <= number < len(self._all):
            raise NotThere(f"micrograph {number}", "there is no such micrograph", "Reload the page")
        return self._all[number]

    def counts(self) -> list[int | None]:
        """Return how many picks of each micrograph reach the first threshold; None where that is not known."""
        if self._tally is None:
            return [None] * len(self.project.micrographs)
        counts = self._tally.counts(self.first_threshold).tolist()
        return [count if one.picks is not None else None for count, one in zip(counts, self._all)]

    def picked(self) -> np.ndarray:
        """Return `(m,)` bool: micrographs that have picks, perhaps an empty file of them."""
        self._need()
        return self._picked

    def spread(self) -> Spread:
        """Return the histogram and the curves, made anew only after a rejection."""
        with self._lock:
            if self._spread is None or self._spread[0] != self.revision:
                self._spread = self.revision, self.tally.spread()
            return self._spread[1]

    def rejected(self) -> int:
        """Return how many picks are rejected."""
        return int(len(self.tally) - np.count_nonzero(self.tally.alive))

    def reject(self, changes: Sequence[tuple[int, Sequence[int] | None]], rejected: bool) -> None:
        """Reject picks, or take them back; on disk when this returns.

        Parameters
        ----------
        changes : sequence of (int, sequence of int or None)
            Micrographs, and which picks of their files; None means all.
        rejected : bool
            What they shall be.

        Raises
        ------
        NotThere
            If there is no such micrograph or pick; then nothing changes.
        OutputError
            If it cannot be kept; likewise.
        """
        with self._lock:
            marked: dict[int, np.ndarray] = {}
            for number, indices in changes:
                alive = marked.setdefault(number, self.one(number).alive.copy())
                which = np.arange(len(alive)) if indices is None else np.asarray(indices, np.int64)
                if len(which) and not (which.min() >= 0 and which.max() < len(alive)):
                    raise NotThere(f"a pick of micrograph {number}", "there is no such pick", "Reload the page")
                alive[which] = not rejected
            self._save(marked)
            for number, alive in marked.items():
                one = self._all[number]
                one.alive = alive
                one.compare()
                self.tally.update(number, one.label >= 0, alive)
            self.revision += 1

    def _need(self) -> Tally:
        if self._error is not None:
            raise self._error
        if self._tally is None:
            raise Refused(503, str(self.picks), f"still being read ({self.loaded:.0%})", "It goes on in a moment")
        return self._tally

    @property
    def reading(self) -> bool:
        """Whether picks are being read, and all else has to wait."""
        return self._tally is None and self._error is None

    def _save(self, marked: Mapping[int, np.ndarray]) -> None:
        content = _rejections(self._file)
        for number, alive in marked.items():
            content[self.project.name(number)] = self._all[number].particles.xy[~alive].round(2).tolist()
        kept = {name: positions for name, positions in sorted(content.items()) if positions}
        with replacing(self._file) as temporary:
            temporary.write_text(json.dumps({"rejected": kept}, ensure_ascii=False), encoding="utf-8")

    def _read(self) -> None:
        """Read everything; runs in a thread of its own."""
        try:
            self._gather()
        except _Stopped:
            pass
        except UPickerError as error:
            self._error = error
        except Exception as error:  # else the page would wait for ever
            self._error = InputError(self.picks, f"a mistake inside UPicker ({type(error).__name__}: {error})")

    def _gather(self) -> None:
        names = [self.project.name(number) for number in range(len(self.project.micrographs))]
        self.origin = loading.origin(self.picks)
        share = 1.0 if self.labels is None else 0.8
        found = loading.read_picks(self.picks, names, partial(self._tell, 0.0, share))
        labels = loading.Read[Particles]([None] * len(names))
        if self.labels is not None:
            labels = loading.read_labels(self.labels, names, partial(self._tell, share, 0.95))
        rejections = _rejections(self._file)
        alone: list[str] = []
        for number, (picks, truth) in enumerate(zip(found.values, labels.values)):
            particles = _NOTHING if picks is None else picks.particles
            one = One(picks, truth, _alive(particles, rejections.get(names[number])), np.empty(0, int))
            try:
                if truth is not None:
                    one.side_px = loading.side_px(truth, self._own_px(number, truth), particles)
                one.compare()
            except UPickerError as error:
                alone.append(f"{names[number]}: not compared with its labels. {error}")
                one.labels = None
                one.compare()
            self._all.append(one)
        self.problems = [*found.problems, *labels.problems, *alone]
        self.strangers = found.strangers
        self._picked = np.array([one.picks is not None for one in self._all], bool)
        self._tally = Tally([one.group() for one in self._all])
        self.loaded = 1.0

    def _own_px(self, number: int, labels: Particles) -> float | None:
        """Return the project's diameter where the labels have none of their own."""
        return None if np.isfinite(labels.diameter_px).all() else self.project.diameter_px(number)

    def _tell(self, low: float, high: float, done: int, files: int) -> None:
        if self._closed.is_set():
            raise _Stopped
        self.loaded = low + (high - low) * done / max(1, files)


class _Stopped(Exception):  # noqa: N818 - no error
    """The server ends while picks are being read."""


def _rejections(file: Path) -> dict[str, list[list[float]]]:
    """Return the positions of rejected picks by micrograph; none where there is no readable file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))["rejected"]
        return {str(name): [[float(x), float(y)] for x, y in positions] for name, positions in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _alive(particles: Particles, rejected: list[list[float]] | None) -> np.ndarray:
    if not rejected:
        return np.ones(len(particles), bool)
    gone = {(round(x, 2), round(y, 2)) for x, y in rejected}
    return np.array([(x, y) not in gone for x, y in particles.xy.round(2).tolist()], bool)
