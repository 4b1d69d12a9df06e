"""Labels on disk, changed from the page: each change is on disk before it is answered.

The files are the truth. Each micrograph has one, LABELS/NAME.csv, which is written anew with every change (for a
thousand labels that takes a few milliseconds, so that there is no journal) and holds each label's key, by which
browsers speak of it: so a browser's unsent changes still fit after the server has died and was started anew. Before
a file is written, it is looked at: what another program has done to it since is taken over first. Changes speak of
one label each and do not depend on each other, so that what two tabs do is merged by doing both.

A file that the page has not written, of any format and name, is read through `upicker.io` and copied to
STATE/originals/NAME before NAME.csv takes its place. Scores and diameters stay; classes and angles are in the copy
only.

``coverage.csv`` says what the labels cover, as `upicker.io.coverage` reads it. For training, a file without a row
there is complete. So a micrograph whose labels were begun on the page is "partial" from its first label on, until
somebody says otherwise; a file that was there before keeps what it meant. A micrograph that is said to be complete
without a label gets a file without labels, from which training learns what is background.
"""

from __future__ import annotations

import shutil
import threading
import uuid
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker.errors import OutputError, UPickerError
from upicker.io import coverage
from upicker.io.atomic import replacing
from upicker.io.coverage import Coverage
from upicker.io.pairing import pair, pair_folder
from upicker.web.answers import Refused, answer, body
from upicker.web.labelling import changes as asked
from upicker.web.labelling import sheet as sheets
from upicker.web.labelling.sheet import Sheet, Stamp, stamp
from upicker.web.project import Project

BAD, ORIGINALS = "bad.txt", "originals"


class _Covered(NamedTuple):
    """What ``coverage.csv`` says, and what that was told from."""

    at: Stamp | None
    files: dict[int, Path]
    rows: dict[Path, tuple[str, Coverage]]


class LabelStore:
    """The labels of a project. All methods may be called from any thread.

    Parameters
    ----------
    project : Project
        Its `labels` must be given.

    Attributes
    ----------
    epoch : str
        Another one for each start of the server; revisions count within it.

    Raises
    ------
    InputError
        If names do not tell which label file belongs to which micrograph.
    """

    def __init__(self, project: Project) -> None:
        assert project.labels is not None
        self.epoch = uuid.uuid4().hex
        self._project, self._folder = project, project.labels
        self._lock = threading.RLock()
        self._sheets: dict[int, Sheet] = {}
        self._counts: dict[int, tuple[Stamp | None, int, bool]] = {}
        self._files = _files(project, self._folder)
        self._covered = _Covered(None, {}, {})

    def state(self, number: int) -> dict[str, Any]:
        """Return the labels of one micrograph as the page gets them.

        Raises
        ------
        NotThere
            If there is no such micrograph.
        CoordinatesError
            If its labels or ``coverage.csv`` cannot be read.
        """
        with self._lock:
            sheet = self._with_diameter(number, self._current(number))
            file = sheet.file or self._target(number)
            return {
                "epoch": self.epoch,
                "revision": sheet.revision,
                "particles": [[key, label.x, label.y] for key, label in sheet.labels.items()],
                "diameter_px": sheet.diameter_px,
                "coverage": sheet.coverage,
                "regions": sheet.regions,
                "bad": sheet.bad,
                "file": str(file),
                "format": file.suffix[1:],
            }

    def apply(self, number: int, epoch: str, revision: int, changes: object) -> dict[str, Any]:
        """Do what a browser asks for; when this returns, it is on disk.

        Parameters
        ----------
        number : int
            The micrograph.
        epoch, revision
            Up to where the browser knows the labels.
        changes : list
            As `upicker.web.labelling.changes.parse` takes them.

        Returns
        -------
        dict
            ``epoch``, ``revision``, and ``missed``: changes that bring the browser, which has done its own, up to date.

        Raises
        ------
        NotThere
            If there is no such micrograph.
        Refused
            409 with the ``state`` if the server was started anew in between; 409 if a file cannot be read just now;
            400 for changes that cannot be. Nothing is done then.
        OutputError
            If something cannot be written; what is on disk then holds, and the changes may be sent again.
        """
        self._project.path(number)
        with self._lock:
            try:
                if epoch != self.epoch:
                    found = "the server was started anew since this page was loaded"
                    raise Refused(409, "labels", found, "Take the state and send again", {"state": self.state(number)})
                return self._applied(number, revision, changes)
            except (Refused, OutputError):
                raise
            except UPickerError as error:
                # No fault of the changes: the browser shall keep them.
                raise Refused(409, error.where, error.found, error.remedy) from error

    def _applied(self, number: int, revision: int, changes: object) -> dict[str, Any]:
        known = self._current(number)
        before = self._with_diameter(number, known)
        if isinstance(revision, bool) or not isinstance(revision, int) or not 0 <= revision <= before.revision:
            raise Refused(400, "revision", "there is no such revision", "Reload the page")
        wanted = asked.parse(changes, lambda: self._project.size(number)[0])
        after = before.played(wanted)
        if len(after.labels) > asked.MOST:
            raise Refused(400, "changes", f"that would be more than {asked.MOST} labels", "Remove some")
        after = self._saved(number, before, after)
        if after.stamp == known.stamp and after.diameter_px == before.diameter_px:
            # Nothing was written: the labels still follow the project's diameter.
            after = replace(after, diameter_px=known.diameter_px)
        self._sheets[number] = after
        return {"epoch": self.epoch, "revision": after.revision, "missed": after.missed(revision, wanted)}

    def counts(self) -> list[dict[str, Any]]:
        """Return for each micrograph how many labels it has, its coverage, and whether it is marked bad.

        A file that cannot be read counts as none; ``error`` then says why.

        Raises
        ------
        CoordinatesError
            If ``coverage.csv`` cannot be read.
        """
        bad = self._bad()
        return [self._count(number, bad) for number in range(len(self._project.micrographs))]

    def _count(self, number: int, bad: set[str]) -> dict[str, Any]:
        error: dict[str, str] = {}
        with self._lock:
            file, sheet = self._file(number), self._sheets.get(number, Sheet())
            at, row = None if file is None else stamp(file), self._row(file)
            if file is None or at in (None, sheet.stamp):
                count, word = len(sheet.labels), sheet.covering(row).coverage
            else:
                try:
                    count, begun = self._counted(number, file, at)
                except UPickerError as failure:
                    count, begun, error = 0, False, {"error": str(failure)}
                word = sheets.said(row, begun)
        return {"labels": count, "coverage": word, "bad": self._project.name(number) in bad, **error}

    def _counted(self, number: int, file: Path, at: Stamp | None) -> tuple[int, bool]:
        """Return how many labels a file holds, and whether the page began them; read only when it changed."""
        if number not in self._counts or self._counts[number][0] != at:
            read = self._read(number, file, Sheet())
            self._counts[number] = at, len(read.labels), bool(read.labels) and not read.theirs
        return self._counts[number][1:]

    def _target(self, number: int) -> Path:
        """Return the file that the page writes."""
        return self._folder / f"{self._project.name(number)}.csv"

    def _file(self, number: int) -> Path | None:
        """Return the label file of a micrograph, which may have appeared since the start."""
        target = self._target(number)
        if self._files.get(number) != target and target.is_file() and target.name != coverage.FILE:
            self._place(number, target)
        return self._files.get(number)

    def _place(self, number: int, file: Path | None) -> None:
        """Note where a micrograph's labels are."""
        self._files = {**self._files, number: file} if file else {n: f for n, f in self._files.items() if n != number}

    def _current(self, number: int) -> Sheet:
        """Return the labels as they are on disk now; what others did to them is noted as a change."""
        known = sheet = self._sheets.get(number, Sheet())
        file = self._file(number)
        # A file that somebody took away is no reason to forget the labels: the next change makes it again.
        if file is not None and (at := stamp(file)) is not None and (at, file) != (known.stamp, known.file):
            sheet = self._read(number, file, known)
        sheet = replace(sheet.covering(self._row(file)), bad=self._project.name(number) in self._bad())
        sheet = sheet.noted(known) if number in self._sheets else sheet
        self._sheets[number] = sheet
        return sheet

    def _read(self, number: int, file: Path, known: Sheet) -> Sheet:
        read = sheets.read(file, known)
        own = read.keyed and file == self._target(number) and not self._originals(number).is_dir()
        return replace(read, theirs=not own)

    def _with_diameter(self, number: int, sheet: Sheet) -> Sheet:
        """Return the sheet with the project's diameter where the labels say none."""
        return sheet if sheet.diameter_px else replace(sheet, diameter_px=self._project.diameter_px(number))

    def _saved(self, number: int, before: Sheet, after: Sheet) -> Sheet:
        """Write what differs from what is on disk: the labels first, then what they cover."""
        name, target = self._project.name(number), self._target(number)
        missing = after.file is None or stamp(after.file) is None
        if after.labels or after.coverage != "unset" or (after.theirs and not missing):
            coverage.check_name(self._folder / coverage.FILE, name)
            if missing or after.labels != before.labels or after.diameter_px != before.diameter_px:
                after = self._written(number, target, after)
            self._cover(after.file or target, after.row())
        elif not missing:
            # Nothing is labelled, and nothing said: then there is no file either.
            self._cover(target, None)
            _remove(target)
            self._place(number, None)
            after = replace(after, file=None, stamp=None)
        if after.bad != before.bad:
            self._mark(name, after.bad)
        return after

    def _written(self, number: int, target: Path, sheet: Sheet) -> Sheet:
        """Write the label file; keep a copy of one that the page has not written."""
        foreign = _foreign(sheet, target)
        if foreign:
            _keep(foreign, self._originals(number))
        try:
            shape, size = self._project.size(number)
        except UPickerError:
            shape, size = None, None
        written = sheets.write(target, sheet, shape, size)
        self._place(number, target)
        if foreign and foreign != target:
            _remove(foreign)
        return written

    def _originals(self, number: int) -> Path:
        return self._project.state / ORIGINALS / self._project.name(number)

    def _rows(self) -> dict[Path, tuple[str, Coverage]]:
        """Return label file -> its name in ``coverage.csv`` and what is said there."""
        path, files = self._folder / coverage.FILE, self._files
        at = stamp(path)
        if at != self._covered.at or files is not self._covered.files:
            rows = coverage.named(path) if at else {}
            pairs = pair(rows, {str(file): file for file in files.values()}, path, required=False).pairs
            found = {file: (name, rows[name]) for name, file in pairs.items()}
            self._covered = _Covered(at, files, found)
        return self._covered.rows

    def _row(self, file: Path | None) -> Coverage | None:
        found = None if file is None else self._rows().get(file)
        return None if found is None else found[1]

    def _cover(self, file: Path, row: Coverage | None) -> None:
        """Bring ``coverage.csv`` up to date for one label file, if it is not."""
        name, said = self._rows().get(file, (file.stem, None))
        if said != row:
            coverage.record(self._folder / coverage.FILE, file.stem, row, [name])

    def _bad(self) -> set[str]:
        """Return the names of the micrographs that are marked bad."""
        try:
            return set((self._project.state / BAD).read_text("utf-8", "surrogateescape").splitlines())
        except OSError:
            return set()

    def _mark(self, name: str, bad: bool) -> None:
        if len(name.splitlines()) != 1:
            raise OutputError(self._project.state / BAD, f"it cannot hold the name {name!r}", "Rename the micrograph")
        names = self._bad() | {name} if bad else self._bad() - {name}
        with replacing(self._project.state / BAD, lasting=True) as beside:
            beside.write_text("".join(f"{one}\n" for one in sorted(names)), "utf-8", "surrogateescape")


def _files(project: Project, folder: Path) -> dict[int, Path]:
    """Return micrograph's number -> its label file."""
    pairs = pair_folder(project.micrographs, folder, required=False).pairs if folder.is_dir() else {}
    return {number: pairs[path] for number, path in enumerate(project.micrographs) if path in pairs}


def _foreign(sheet: Sheet, target: Path) -> Path | None:
    """Return the file that the labels are in, if the page has not written it."""
    if sheet.file is None or not sheet.file.is_file() or (sheet.keyed and sheet.file == target):
        return None
    return sheet.file


def _keep(file: Path, folder: Path) -> None:
    """Copy a file into a folder, beside earlier copies of other content."""
    content, number = file.read_bytes(), 1
    copy = folder / file.name
    while copy.exists() and copy.read_bytes() != content:
        number += 1
        copy = folder / f"{file.stem}.{number}{file.suffix}"
    if not copy.exists():
        with replacing(copy, lasting=True) as beside:
            shutil.copy2(file, beside)


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(file, f"cannot be removed ({error.strerror})", "Remove it, its copy is kept") from error


def routes(project: Project, parts: Mapping[str, Any]) -> list[Route]:
    """Return the routes of labels; they can be changed in the mode ``"label"`` only."""
    store: LabelStore = parts["labels"]

    async def state(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(store.state, request.path_params["number"]))

    async def change(request: Request) -> Response:
        sent = await body(request)
        wanted = sent.get("epoch"), sent.get("revision"), sent.get("changes")
        return answer(await anyio.to_thread.run_sync(partial(store.apply, request.path_params["number"], *wanted)))

    path = "/api/micrographs/{number:int}/labels"
    changing = [Route(path, change, methods=["POST"])] if project.mode == "label" else []
    return [Route(path, state, methods=["GET"]), *changing]
