"""All picks of a project: read in the background, again as they change, counted at any threshold, rejected by hand.

Rejections are stored beside the picks, in ``.upicker/rejected.json``, by micrograph and position (hundredths of a
pixel): so they persist if the same picks are written again. Rejected picks are excluded everywhere: from counts, from
precision and recall, and from exports.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from upicker.errors import InputError, UPickerError
from upicker.io.atomic import replacing
from upicker.io.labels import LabelFolder
from upicker.io.stamp import stamp
from upicker.web.inspecting.gathered import Gathered, Gatherer, MicrographPicks
from upicker.web.inspecting.scores import ScoreCurves
from upicker.web.project import NotFound, Project
from upicker.web.responses import Refused

# Between two looks at the files, at least so long, and this many times what a look and reading take.
POLL_S, _LEISURE = 5.0, 20.0


class PickStore:
    """All picks of a project, read again whenever a file of theirs or the list of micrographs changes.

    Parameters
    ----------
    project : Project
        Its `picks` are read by a thread that starts immediately.
    labels : LabelFolder or None
        Its folder of labels.
    poll_s : float
        Seconds between two looks at the files.

    Attributes
    ----------
    loaded : float
        Fraction of the files that has been read, 0..1, while they are first read.
    revision : int
        Incremented by every rejection.
    """

    def __init__(self, project: Project, labels: LabelFolder | None, poll_s: float = POLL_S) -> None:
        assert project.picks is not None
        self.project, self.picks, self.labels = project, project.picks, labels
        self.loaded, self.revision = 0.0, 0
        name = "rejected.json" if self.picks.is_dir() else f"rejected-{self.picks.name}.json"
        self._file = project.state / name
        self._gatherer = Gatherer(project, labels)
        self._found: Gathered | None = None
        self._error: UPickerError | None = None
        self._curves: tuple[tuple[int, int], ScoreCurves] | None = None
        self._lock, self._closed, self._read_once = threading.RLock(), threading.Event(), threading.Event()
        self._reader = threading.Thread(target=self._follow, args=(poll_s,), name="picks", daemon=True)
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
        if not self._read_once.wait(seconds):
            raise TimeoutError

    @property
    def found(self) -> Gathered:
        """All picks, as they were last read.

        Raises
        ------
        Refused
            503 while the picks are being read.
        UPickerError
            If they could not be read.
        """
        if self._error is not None:
            raise self._error
        if self._found is None:
            told = f"the picks are still being read ({self.loaded:.0%})"
            raise Refused(503, str(self.picks), told, "Try again in a moment")
        return self._found

    @property
    def reading(self) -> bool:
        """Whether the picks are still being read for the first time."""
        return self._found is None and self._error is None

    def one(self, number: int) -> MicrographPicks:
        """Return the picks of one micrograph.

        Raises
        ------
        NotFound
            If there is no such number; otherwise as `found`.
        """
        every = self.found.micrographs
        if not 0 <= number < len(every):
            raise NotFound(f"micrograph {number}", "there is no such micrograph", "Reload the page")
        return every[number]

    def counts(self) -> list[int | None]:
        """Return how many picks of each micrograph reach the initial threshold; None where that is unknown."""
        found = self._found
        return [None] * len(self.project.micrographs) if found is None else found.counts()

    def curves(self) -> ScoreCurves:
        """Return the histogram and the curves, computed again only after a rejection or a reading."""
        with self._lock:
            at = self.found.number, self.revision
            if self._curves is None or self._curves[0] != at:
                self._curves = at, self.found.scores.curves()
            return self._curves[1]

    def rejected(self) -> int:
        """Return the number of rejected picks."""
        scores = self.found.scores
        return int(len(scores) - np.count_nonzero(scores.accepted))

    def reject(
        self, changes: Sequence[tuple[int, Sequence[int] | None]], rejected: bool, seen: int | None = None
    ) -> None:
        """Reject picks, or accept them again; on disk when this returns.

        Parameters
        ----------
        changes : sequence of (int, sequence of int or None)
            Micrographs, and the indices of picks in their files; None means all.
        rejected : bool
            Whether to reject or accept them.
        seen : int, optional
            The number of the reading that the user has seen.

        Raises
        ------
        NotFound
            If there is no such micrograph or pick; nothing changes then.
        Refused
            409 if picks were read again since the user has seen them; likewise.
        OutputError
            If it cannot be saved, or another server has taken over; likewise.
        """
        with self._lock:
            marked: dict[int, np.ndarray] = {}
            for number, indices in changes:
                one = self.one(number)
                if seen is not None and one.since > seen:
                    told = "its picks have changed since they were shown"
                    raise Refused(409, self.project.name(number), told, "Look at the new ones")
                accepted = marked.setdefault(number, one.accepted.copy())
                which = np.arange(len(accepted)) if indices is None else np.asarray(indices, np.int64)
                if len(which) and not (which.min() >= 0 and which.max() < len(accepted)):
                    raise NotFound(f"a pick of micrograph {number}", "there is no such pick", "Reload the page")
                accepted[which] = not rejected
            self.project.refuse_if_lost()
            self._save(marked)
            for number, accepted in marked.items():
                one = self.one(number)
                one.accepted = accepted
                one.compare()
                self.found.scores.update(number, one.label >= 0, accepted)
            self.revision += 1

    def _save(self, marked: Mapping[int, np.ndarray]) -> None:
        content = _rejections(self._file)
        for number, accepted in marked.items():
            content[self.project.name(number)] = self.one(number).particles.xy[~accepted].round(2).tolist()
        kept = {name: positions for name, positions in sorted(content.items()) if positions}
        with replacing(self._file) as temporary:
            temporary.write_text(json.dumps({"rejected": kept}, ensure_ascii=False), encoding="utf-8")

    def _follow(self, poll_s: float) -> None:
        """Read all files, and again as they change; runs in its own thread."""
        seen, pause = None, 0.0
        while not self._closed.wait(pause):
            began = time.monotonic()
            if seen is not None:
                self.project.extend(self.labels)
            now = len(self.project.micrographs), _stamps(self.picks)
            if now != seen:
                seen = now
                self._read()
            self._read_once.set()
            pause = max(poll_s, _LEISURE * (time.monotonic() - began))

    def _read(self) -> None:
        """Read what has changed. What was read before stays if that fails."""
        try:
            content = self._gatherer.read(self._report)
            with self._lock:
                self._found = self._gatherer.compared(content, _rejections(self._file), self._found)
            self.loaded, self._error = 1.0, None
        except _Stopped:
            pass
        except UPickerError as error:
            self._failed(error)
        except Exception as error:  # Without this, the page would wait forever.
            told = f"an unexpected {type(error).__name__} ({error})"
            self._failed(InputError(self.picks, told, "This is a bug in UPicker: please report it"))

    def _failed(self, error: UPickerError) -> None:
        if self._found is None:
            self._error = error
        elif str(error) not in self._found.problems:
            self._found.problems.append(str(error))

    def _report(self, fraction: float) -> None:
        """Note how much is read; raise if the server is ending."""
        if self._closed.is_set():
            raise _Stopped
        self.loaded = fraction


class _Stopped(Exception):  # noqa: N818 - not an error
    """The server is ending while picks are being read."""


def _stamps(picks: Path) -> object:
    """Return what changes when a file of picks, or a list of such files, does; None where they cannot be seen."""
    if not picks.is_dir():
        return stamp(picks)
    try:
        with os.scandir(picks) as found:
            files = [(one.name, one.stat()) for one in found if not one.name.startswith(".") and one.is_file()]
    except OSError:
        return None
    return sorted((name, status.st_ino, status.st_mtime_ns, status.st_size) for name, status in files)


def _rejections(file: Path) -> dict[str, list[list[float]]]:
    """Return the positions of rejected picks by micrograph; empty without a readable file."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))["rejected"]
        return {str(name): [[float(x), float(y)] for x, y in positions] for name, positions in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
