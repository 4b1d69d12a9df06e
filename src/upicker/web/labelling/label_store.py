"""Labels on disk, edited from the page: each change is on disk before it is acknowledged.

The files hold everything. Each micrograph has one, LABELS/NAME.csv, which is rewritten with every change (a few
milliseconds for a thousand labels, so that no journal is needed) and holds a key for each label, by which browsers
refer to it: so the unsent changes of a browser still apply after the server was killed and restarted. Before a file
is written, it is checked for edits by other programs, which are merged first. Changes refer to one label each and are
independent of each other, so that the edits of two tabs are merged by applying both.

A file that the page has not written, of any format and name, is read through `upicker.io` and copied to
STATE/originals/NAME before NAME.csv replaces it. Scores and diameters are kept; classes and angles remain in the copy
only.

``coverage.csv`` says what the labels cover, as `upicker.io.coverage` reads it. Training takes a file without a row
there to be complete. So a micrograph whose labels were begun on the page is "partial" from its first label on, until
the user sets something else; a file that existed before keeps its meaning. A micrograph that is marked complete
without a label gets an empty file, from which training learns background.
"""

from __future__ import annotations

import shutil
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from upicker.errors import OutputError, UPickerError
from upicker.io import coverage
from upicker.io.atomic import replacing
from upicker.io.labels import LabelFolder
from upicker.io.sources import Part
from upicker.io.stamp import stamp
from upicker.web.labelling import changes as changes_
from upicker.web.labelling import label_set
from upicker.web.labelling.label_set import LabelSet
from upicker.web.project import Project
from upicker.web.responses import Refused

ORIGINALS = "originals"


class LabelStore:
    """The labels of a project. All methods may be called from any thread.

    Parameters
    ----------
    project : Project
        The project.
    folder : LabelFolder
        Its folder of labels.

    Attributes
    ----------
    epoch : str
        Differs for each start of the server; revisions are counted within it.
    """

    def __init__(self, project: Project, folder: LabelFolder) -> None:
        self.epoch = uuid.uuid4().hex
        self.project, self._folder = project, folder
        self._lock = threading.RLock()
        self._sets: dict[int, LabelSet] = {}

    def state(self, number: int) -> dict[str, Any]:
        """Return the labels of one micrograph as the page gets them.

        Raises
        ------
        NotFound
            If there is no such micrograph.
        CoordinatesError
            If its labels or ``coverage.csv`` cannot be read.
        """
        self.project.path(number)
        with self._lock:
            labels = self._with_diameter(number, self._current(number))
            file = labels.file or self._folder.csv(number)
            return {
                "epoch": self.epoch,
                "revision": labels.revision,
                "particles": [[key, label.x, label.y] for key, label in labels.labels.items()],
                "diameter_px": labels.diameter_px,
                "coverage": labels.coverage,
                "regions": labels.regions,
                "bad": labels.bad,
                "file": str(file),
                "format": file.suffix[1:],
            }

    def apply(self, number: int, epoch: str, revision: int, changes: object) -> dict[str, Any]:
        """Apply the changes of a browser; they are on disk when this returns.

        Parameters
        ----------
        number : int
            The micrograph.
        epoch, revision
            The latest state of the labels that the browser has received.
        changes : list
            As `upicker.web.labelling.changes.parse` takes them.

        Returns
        -------
        dict
            ``epoch``, ``revision``, and ``missed``: the changes that bring the browser up to date, which has applied
            its own.

        Raises
        ------
        NotFound
            If there is no such micrograph.
        Refused
            409 with the ``state`` if the server was restarted since; 409 if a file cannot be read at the moment;
            400 for invalid changes. Nothing is applied then.
        OutputError
            If something cannot be written, or another server has taken over; the files are then as they were, and the
            changes may be sent again.
        """
        self.project.path(number)
        with self._lock:
            self.project.refuse_if_lost()
            try:
                if epoch != self.epoch:
                    found = "the server was restarted after this page was loaded"
                    raise Refused(409, "labels", found, "Take the state and send again", {"state": self.state(number)})
                return self._applied(number, revision, changes)
            except (Refused, OutputError):
                raise
            except UPickerError as error:
                # The changes themselves may be valid: the browser should keep them.
                raise Refused(409, error.where, error.found, error.remedy) from error

    def _applied(self, number: int, revision: int, changes: object) -> dict[str, Any]:
        known = self._current(number)
        before = self._with_diameter(number, known)
        if isinstance(revision, bool) or not isinstance(revision, int) or not 0 <= revision <= before.revision:
            raise Refused(400, "revision", "there is no such revision", "Reload the page")
        parsed = changes_.parse(changes, lambda: self.project.size(number)[0])
        after = before.applied(parsed)
        if len(after.labels) > changes_.MOST:
            raise Refused(400, "changes", f"that would be more than {changes_.MOST} labels", "Remove some")
        after = self._saved(number, before, after)
        if after.stamp == known.stamp and after.diameter_px == before.diameter_px:
            # Nothing was written: the labels still follow the project's diameter.
            after = replace(after, diameter_px=known.diameter_px)
        self._sets[number] = after
        return {"epoch": self.epoch, "revision": after.revision, "missed": after.missed(revision, parsed)}

    def counts(self) -> list[dict[str, Any]]:
        """Return for each micrograph the number of labels, their coverage, and whether it is marked bad.

        A file that cannot be read counts as empty, with the reason as ``error``.

        Raises
        ------
        CoordinatesError
            If ``coverage.csv`` cannot be read.
        """
        bad = self.project.bad()
        return [self._count(number, bad) for number in range(len(self.project.micrographs))]

    def _count(self, number: int, bad: set[str]) -> dict[str, Any]:
        error: dict[str, str] = {}
        with self._lock:
            file, labels = self._file(number), self._sets.get(number, LabelSet())
            at, row = None if file is None else stamp(file), None if file is None else self._folder.coverage(file)
            if file is None or at in (None, labels.stamp):
                count, word = len(labels.labels), labels.with_coverage(row).coverage
            else:
                try:
                    content = self._folder.content(file)
                    own = self._is_own(number, file, label_set.KEY in content.columns)
                    count, begun = content.labels, bool(content.labels) and own
                except UPickerError as failure:
                    count, begun, error = 0, False, {"error": str(failure)}
                word = label_set.coverage_word(row, begun)
        return {"labels": count, "coverage": word, "bad": self.project.name(number) in bad, **error}

    def _file(self, number: int) -> Path | None:
        """Return the label file of a micrograph; the page's labels are always in a folder."""
        file = self._folder.file(number)
        assert not isinstance(file, Part), file
        return file

    def _current(self, number: int) -> LabelSet:
        """Return the labels as they are on disk now; edits by other programs are counted as a revision."""
        known = labels = self._sets.get(number, LabelSet())
        file = self._file(number)
        # Labels whose file was deleted are kept: the next change writes it again.
        if file is not None and (at := stamp(file)) is not None and (at, file) != (known.stamp, known.file):
            labels = label_set.read(file, known)
            labels = replace(labels, foreign=not self._is_own(number, file, labels.keyed))
        row = None if file is None else self._folder.coverage(file)
        labels = replace(labels.with_coverage(row), bad=self.project.name(number) in self.project.bad())
        labels = labels.revised(known) if number in self._sets else labels
        self._sets[number] = labels
        return labels

    def _is_own(self, number: int, file: Path, keyed: bool) -> bool:
        """Tell whether the labels in a file were begun on the page."""
        return keyed and file == self._folder.csv(number) and not self._originals(number).is_dir()

    def _with_diameter(self, number: int, labels: LabelSet) -> LabelSet:
        """Return the labels with the project's diameter if they have none."""
        return labels if labels.diameter_px else replace(labels, diameter_px=self.project.diameter_px(number))

    def _saved(self, number: int, before: LabelSet, after: LabelSet) -> LabelSet:
        """Write what differs from the files: first the labels, then their coverage."""
        name, target = self.project.name(number), self._folder.csv(number)
        missing = after.file is None or stamp(after.file) is None
        if after.labels or after.coverage != "unset" or (after.foreign and not missing):
            coverage.check_name(self._folder.folder / coverage.FILE, name)
            if missing or after.labels != before.labels or after.diameter_px != before.diameter_px:
                after = self._written(number, target, after)
            self._folder.record(after.file or target, after.coverage_row())
        elif not missing:
            # No labels, and no coverage set: then there is no file either.
            self._folder.record(target, None)
            _remove(target)
            self._folder.assign(number, None)
            after = replace(after, file=None, stamp=None)
        if after.bad != before.bad:
            self.project.mark_bad(number, after.bad)
        return after

    def _written(self, number: int, target: Path, labels: LabelSet) -> LabelSet:
        """Write the label file; keep a copy of one that the page has not written."""
        foreign = _foreign_file(labels, target)
        if foreign:
            _keep_copy(foreign, self._originals(number))
        try:
            shape, pixel_size_A = self.project.size(number)
        except UPickerError:
            shape, pixel_size_A = None, None
        written = label_set.write(target, labels, shape, pixel_size_A)
        self._folder.assign(number, target)
        if foreign and foreign != target:
            _remove(foreign)
        return written

    def _originals(self, number: int) -> Path:
        return self.project.state / ORIGINALS / self.project.name(number)


def _foreign_file(labels: LabelSet, target: Path) -> Path | None:
    """Return the file that holds the labels, if the page has not written it."""
    if labels.file is None or not labels.file.is_file() or (labels.keyed and labels.file == target):
        return None
    return labels.file


def _keep_copy(file: Path, folder: Path) -> None:
    """Copy a file into a folder, beside earlier copies with other content."""
    content, number = file.read_bytes(), 1
    copy = folder / file.name
    while copy.exists() and copy.read_bytes() != content:
        number += 1
        copy = folder / f"{file.stem}.{number}{file.suffix}"
    if not copy.exists():
        with replacing(copy, lasting=True) as temporary:
            shutil.copy2(file, temporary)


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(file, f"cannot be removed ({error.strerror})", "Remove it; its copy is kept") from error
