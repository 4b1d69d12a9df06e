"""All picks of a project: read in the background, counted at any threshold, compared with labels, rejected by hand.

Rejections are stored beside the picks, in ``.upicker/rejected.json``, by micrograph and position (hundredths of a
pixel): so they persist if the same picks are written again. Rejected picks are excluded everywhere: from counts, from
precision and recall, and from exports.
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
from upicker.io.labels import LabelFolder
from upicker.io.picks import Picks
from upicker.particles import Particles, ScoreKind, common_kind
from upicker.web.inspecting import loading
from upicker.web.inspecting.scores import MicrographScores, PickScores, ScoreCurves
from upicker.web.project import NotFound, Project
from upicker.web.responses import Refused

_NOTHING = Particles.of([])
_NO_LABEL = -1


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
    side_px : float or None
        Side of the boxes that are matched, see `upicker.scoring.match`.
    """

    picks: Picks | None
    labels: Particles | None
    accepted: np.ndarray
    label: np.ndarray
    side_px: float | None = None

    @property
    def particles(self) -> Particles:
        """The picks; empty without a file."""
        return self.picks.particles if self.picks is not None else _NOTHING

    def compare(self) -> None:
        """Match the accepted picks with the labels."""
        self.label = np.full(len(self.particles), _NO_LABEL)
        if self.labels is not None:
            accepted = self.particles.select(self.accepted)
            self.label[self.accepted] = scoring.match(accepted, self.labels, self.side_px).label

    def scores(self) -> MicrographScores:
        """Return the scores, for counting."""
        labels = _NO_LABEL if self.labels is None else len(self.labels)
        return MicrographScores(self.particles.score, self.label >= 0, self.accepted, labels)

    def found_at(self) -> np.ndarray:
        """Return, for each label, the score of the pick that matches it; -inf without one."""
        found = np.full(0 if self.labels is None else len(self.labels), -np.inf)
        hit = self.label >= 0
        found[self.label[hit]] = self.particles.score[hit]
        return found


class PickStore:
    """All picks of a project.

    Parameters
    ----------
    project : Project
        Its `picks` are read by a thread that starts immediately.
    labels : LabelFolder or None
        Its folder of labels.

    Attributes
    ----------
    origin : upicker.web.inspecting.loading.Origin
        How the picks were made.
    loaded : float
        Fraction of the files that has been read, 0..1.
    revision : int
        Incremented by every rejection.
    """

    def __init__(self, project: Project, labels: LabelFolder | None) -> None:
        assert project.picks is not None
        self.project, self.picks, self.labels = project, project.picks, labels
        self.origin = loading.Origin()
        self.loaded, self.revision = 0.0, 0
        self.problems: list[str] = []
        self.unmatched = 0
        name = "rejected.json" if self.picks.is_dir() else f"rejected-{self.picks.name}.json"
        self._file = project.state / name
        self._all: list[MicrographPicks] = []
        self._picked = np.zeros(0, bool)
        self._scores: PickScores | None = None
        self._error: UPickerError | None = None
        self._curves: tuple[int, ScoreCurves] | None = None
        self._lock, self._closed = threading.RLock(), threading.Event()
        self._reader = threading.Thread(target=self._read, name="picks", daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Stop reading."""
        self._closed.set()
        self._reader.join(timeout=5)

    def wait(self, seconds: float) -> None:
        """Wait until all files are read.

        Raises
        ------
        TimeoutError
            If that takes longer.
        """
        self._reader.join(seconds)
        if self._reader.is_alive():
            raise TimeoutError

    @property
    def scores(self) -> PickScores:
        """The scores of all picks.

        Raises
        ------
        Refused
            503 while the picks are being read.
        UPickerError
            If they could not be read.
        """
        if self._error is not None:
            raise self._error
        if self._scores is None:
            found = f"the picks are still being read ({self.loaded:.0%})"
            raise Refused(503, str(self.picks), found, "Try again in a moment")
        return self._scores

    @property
    def score_kind(self) -> ScoreKind:
        """What the scores of the picks are."""
        return common_kind([one.particles for one in self._all])

    @property
    def initial_threshold(self) -> float:
        """The threshold to start with: the stored one; without one, that which keeps all picks."""
        return self.scores.low if self.origin.stored is None else self.origin.stored

    def one(self, number: int) -> MicrographPicks:
        """Return the picks of one micrograph.

        Raises
        ------
        NotFound
            If there is no such number; otherwise as `scores`.
        """
        _ = self.scores
        if not 0 <= number < len(self._all):
            raise NotFound(f"micrograph {number}", "there is no such micrograph", "Reload the page")
        return self._all[number]

    def counts(self) -> list[int | None]:
        """Return how many picks of each micrograph reach the initial threshold; None where that is unknown."""
        if self._scores is None:
            return [None] * len(self.project.micrographs)
        counts = self._scores.counts(self.initial_threshold).tolist()
        return [count if one.picks is not None else None for count, one in zip(counts, self._all)]

    def picked(self) -> np.ndarray:
        """Return `(m,)` bool: micrographs that have a file of picks, perhaps an empty one."""
        _ = self.scores
        return self._picked

    def curves(self) -> ScoreCurves:
        """Return the histogram and the curves, computed again only after a rejection."""
        with self._lock:
            if self._curves is None or self._curves[0] != self.revision:
                self._curves = self.revision, self.scores.curves()
            return self._curves[1]

    def rejected(self) -> int:
        """Return the number of rejected picks."""
        return int(len(self.scores) - np.count_nonzero(self.scores.accepted))

    def reject(self, changes: Sequence[tuple[int, Sequence[int] | None]], rejected: bool) -> None:
        """Reject picks, or accept them again; on disk when this returns.

        Parameters
        ----------
        changes : sequence of (int, sequence of int or None)
            Micrographs, and the indices of picks in their files; None means all.
        rejected : bool
            Whether to reject or accept them.

        Raises
        ------
        NotFound
            If there is no such micrograph or pick; nothing changes then.
        OutputError
            If it cannot be saved, or another server has taken over; likewise.
        """
        with self._lock:
            marked: dict[int, np.ndarray] = {}
            for number, indices in changes:
                accepted = marked.setdefault(number, self.one(number).accepted.copy())
                which = np.arange(len(accepted)) if indices is None else np.asarray(indices, np.int64)
                if len(which) and not (which.min() >= 0 and which.max() < len(accepted)):
                    raise NotFound(f"a pick of micrograph {number}", "there is no such pick", "Reload the page")
                accepted[which] = not rejected
            self.project.refuse_if_lost()
            self._save(marked)
            for number, accepted in marked.items():
                one = self._all[number]
                one.accepted = accepted
                one.compare()
                self.scores.update(number, one.label >= 0, accepted)
            self.revision += 1

    @property
    def reading(self) -> bool:
        """Whether the picks are still being read."""
        return self._scores is None and self._error is None

    def _save(self, marked: Mapping[int, np.ndarray]) -> None:
        content = _rejections(self._file)
        for number, accepted in marked.items():
            content[self.project.name(number)] = self._all[number].particles.xy[~accepted].round(2).tolist()
        kept = {name: positions for name, positions in sorted(content.items()) if positions}
        with replacing(self._file) as temporary:
            temporary.write_text(json.dumps({"rejected": kept}, ensure_ascii=False), encoding="utf-8")

    def _read(self) -> None:
        """Read all files; runs in its own thread."""
        try:
            self._gather()
        except _Stopped:
            pass
        except UPickerError as error:
            self._error = error
        except Exception as error:  # Without this, the page would wait forever.
            found = f"an unexpected {type(error).__name__} ({error})"
            self._error = InputError(self.picks, found, "This is a bug in UPicker: please report it")

    def _gather(self) -> None:
        names = [self.project.name(number) for number in range(len(self.project.micrographs))]
        self.origin = loading.origin(self.picks)
        end_of_picks = 1.0 if self.labels is None else 0.8
        found = loading.read_picks(self.picks, names, partial(self._report, 0.0, end_of_picks))
        labels = loading.Read[Particles]([None] * len(names))
        if self.labels is not None:
            progress = partial(self._report, end_of_picks, 0.95)
            labels = loading.read_labels(self.labels, progress, self.project.reading.pixel_size_A)
        rejections = _rejections(self._file)
        unmatchable: list[str] = []
        for number, (picks, truth) in enumerate(zip(found.values, labels.values)):
            particles = _NOTHING if picks is None else picks.particles
            one = MicrographPicks(picks, truth, _accepted(particles, rejections.get(names[number])), np.empty(0, int))
            try:
                if truth is not None:
                    one.side_px = loading.side_px(truth, self._diameter_px(number, truth), particles)
                one.compare()
            except UPickerError as error:
                unmatchable.append(f"{names[number]}: not compared with its labels. {error}")
                one.labels = None
                one.compare()
            self._all.append(one)
        self.problems = [*found.problems, *labels.problems, *unmatchable]
        self.unmatched = found.unmatched
        self._picked = np.array([one.picks is not None for one in self._all], bool)
        self._scores = PickScores([one.scores() for one in self._all])
        self.loaded = 1.0

    def _diameter_px(self, number: int, labels: Particles) -> float | None:
        """Return the project's diameter if the labels have none of their own."""
        return None if np.isfinite(labels.diameter_px).all() else self.project.diameter_px(number)

    def _report(self, low: float, high: float, done: int, files: int) -> None:
        """Set `loaded` between two fractions; raise if the server is ending."""
        if self._closed.is_set():
            raise _Stopped
        self.loaded = low + (high - low) * done / max(1, files)


class _Stopped(Exception):  # noqa: N818 - not an error
    """The server is ending while picks are being read."""


def _rejections(file: Path) -> dict[str, list[list[float]]]:
    """Return the positions of rejected picks by micrograph; empty without a readable file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))["rejected"]
        return {str(name): [[float(x), float(y)] for x, y in positions] for name, positions in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _accepted(particles: Particles, rejected: list[list[float]] | None) -> np.ndarray:
    if not rejected:
        return np.ones(len(particles), bool)
    positions = {(round(x, 2), round(y, 2)) for x, y in rejected}
    return np.array([(x, y) not in positions for x, y in particles.xy.round(2).tolist()], bool)
