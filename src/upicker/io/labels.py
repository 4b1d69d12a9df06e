"""Labels in a folder or a file: where those of which micrograph are, how many there are, and what they cover."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from upicker.errors import UPickerError
from upicker.io import coverage, sources
from upicker.io.coverage import Coverage
from upicker.io.names import plain
from upicker.io.pairing import EXACT, Pairing, pair_folder
from upicker.io.sources import Source, file_of
from upicker.io.stamp import Stamp, stamp


@dataclass(frozen=True)
class LabelFile:
    """The content of a label file, in short.

    Attributes
    ----------
    labels : int
        Number of labels.
    columns : frozenset of str
        Columns besides position, diameter and score.
    """

    labels: int
    columns: frozenset[str]


@dataclass(frozen=True)
class Labelled:
    """A labelled micrograph, as training uses it.

    Attributes
    ----------
    path : Path
        The micrograph.
    file : Path or Part
        Where its labels are.
    particles : int
        Number of labels; 0 only if ``coverage.csv`` says that the micrograph is completely labelled.
    partial : bool
        Whether ``coverage.csv`` says that particles are unlabelled, in all of the micrograph or outside of regions.
    """

    path: Path
    file: Source
    particles: int
    partial: bool


@dataclass(frozen=True)
class _Table:
    """``coverage.csv`` as last read: its stamp, its rows by label file, and names that match no label file."""

    at: Stamp | None
    rows: dict[Source, tuple[str, Coverage]]
    unmatched: list[str]


class LabelFolder:
    """The label files of some micrographs, and ``coverage.csv`` beside them; read again when they change.

    Files named ``NAME.csv`` after a micrograph are found at any time, files with other names by `rescan`. All methods
    may be called from any thread. Labels may also be in one file of many micrographs, which is not written.

    Parameters
    ----------
    folder : Path
        The folder, which need not exist yet, or the file.
    micrographs : sequence of Path
        The micrographs; methods refer to them by their index.

    Raises
    ------
    InputError
        If it is ambiguous which label file belongs to which micrograph.
    """

    def __init__(self, folder: Path, micrographs: Sequence[Path]) -> None:
        self.folder, self.micrographs = folder, tuple(micrographs)
        self._lock = threading.RLock()
        self._read: dict[Source, tuple[Stamp | None, LabelFile]] = {}
        self._files: dict[int, Source] = {}
        self._others: list[Source] = []
        self._table: _Table | None = None
        self.rescan()

    def rescan(self) -> None:
        """List the folder again.

        Raises
        ------
        InputError
            If names have become ambiguous; nothing changes then.
        """
        # The page replaces label files, so none may belong to a micrograph by a guess.
        found = pair_folder(self.micrographs, self.folder, False, EXACT) if self.folder.exists() else None
        pairing = found or Pairing[Path, Source]()
        numbers = {path: number for number, path in enumerate(self.micrographs)}
        with self._lock:
            self._files = {numbers[path]: file for path, file in pairing.pairs.items()}
            self._others = pairing.unmatched_files
            self._table = None

    def extend(self, micrographs: Sequence[Path]) -> None:
        """Take more micrographs, which follow those known already; raises as `rescan`."""
        with self._lock:
            self.micrographs = tuple(micrographs)
            self.rescan()

    def csv(self, number: int) -> Path:
        """Return the file in the package's own format that a micrograph has, or would have."""
        return self.folder / f"{plain(self.micrographs[number])}.csv"

    def file(self, number: int) -> Source | None:
        """Return where the labels of a micrograph are; None if it has none."""
        with self._lock:
            target = self.csv(number)
            if self._files.get(number) != target and target.is_file() and target.name != coverage.FILE:
                self.assign(number, target)
            return self._files.get(number)

    def assign(self, number: int, file: Path | None) -> None:
        """Note that a micrograph has got another label file, or none any more."""
        with self._lock:
            self._files.pop(number, None)
            if file is not None:
                self._files[number] = file
            self._table = None

    def content(self, file: Source) -> LabelFile:
        """Return what a label file, or its part, holds; it is read only when it has changed.

        Raises
        ------
        CoordinatesError
            If it cannot be read.
        """
        at, known = stamp(file_of(file)), self._read.get(file)
        if known is None or known[0] != at:
            particles = sources.stored(file).particles
            known = self._read[file] = at, LabelFile(len(particles), frozenset(particles.extra))
        return known[1]

    def coverage(self, file: Source) -> Coverage | None:
        """Return what ``coverage.csv`` says of a label file; None if it does not name it.

        Raises
        ------
        CoordinatesError
            If ``coverage.csv`` cannot be read.
        """
        found = self._rows().rows.get(file)
        return None if found is None else found[1]

    def partial_files(self) -> int:
        """Return how many label files ``coverage.csv`` calls partial; raises as `coverage`."""
        return sum(row.partial for _, row in self._rows().rows.values())

    def record(self, file: Path, row: Coverage | None) -> None:
        """Write what a label file covers to ``coverage.csv``, unless it says so already; None removes its rows.

        Raises
        ------
        CoordinatesError
            If the existing ``coverage.csv`` cannot be read.
        OutputError
            If it cannot be written.
        """
        with self._lock:
            name, known = self._rows().rows.get(file, (file.stem, None))
            if known != row:
                coverage.record(self.folder / coverage.FILE, file.stem, row, [name])

    def labelled(self) -> list[Labelled]:
        """Return the micrographs that training can use: with labels, or said to be completely labelled without any.

        The folder is listed again before. An empty label file alone does not mean that there are no particles. Files
        that cannot be read count as empty.

        Raises
        ------
        CoordinatesError
            If ``coverage.csv`` cannot be read, or names a label file that does not exist.
        InputError
            As `rescan`.
        """
        found = self._labelled()
        table = self._rows()
        if table.unmatched and self._files:
            coverage.refuse_unmatched(self.folder / coverage.FILE, table.unmatched)
        return found

    def unlabelled(self) -> list[Path]:
        """Return the micrographs without labels, except those that are said to be completely labelled without any.

        Raises
        ------
        CoordinatesError
            If ``coverage.csv`` cannot be read.
        InputError
            As `rescan`.
        """
        labelled = {one.path for one in self._labelled()}
        return [path for path in self.micrographs if path not in labelled]

    def _labelled(self) -> list[Labelled]:
        self.rescan()
        with self._lock:
            found = []
            for number, path in enumerate(self.micrographs):
                file = self._files.get(number)
                if file is None:
                    continue
                particles, row = self._count(file), self.coverage(file)
                partial = row is not None and (row.partial or bool(row.regions))
                if particles or (row is not None and not partial):
                    found.append(Labelled(path, file, particles, partial))
            return found

    def _count(self, file: Source) -> int:
        try:
            return self.content(file).labels
        except UPickerError:
            return 0

    def _rows(self) -> _Table:
        """Return ``coverage.csv``, read again if it or the list of files has changed."""
        path = self.folder / coverage.FILE
        with self._lock:
            at = stamp(path)
            if self._table is None or self._table.at != at:
                files = [*self._files.values(), *self._others]
                rows, unmatched = coverage.rows_by_file(path, files) if at else ({}, [])
                self._table = _Table(at, rows, unmatched)
            return self._table
