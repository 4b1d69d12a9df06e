"""The micrographs of a run: one line of JSON for each, appended to a file of each run in ``OUT/.upicker/``.

So several runs, on several machines, write to one folder without a lock, and none undoes what another wrote. They are
merged when they are read; of two entries of one output the one of the later run counts.
"""

from __future__ import annotations

import datetime
import json
import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from upicker.errors import OutputError
from upicker.io.processes import Identity, token_has_ended, token_is_here
from upicker.particles import Particles, ScoreKind

FOLDER = ".upicker"
_PREFIX, _SUFFIX = "run-", ".jsonl"
# Lines that are no entries: what a run does, a micrograph that failed, and that the run has ended.
_BEGUN, _FAILED, _ENDED = "begun", "failed", "ended"


@dataclass(frozen=True)
class Entry:
    """One micrograph of a run; None where a record does not give it.

    Attributes
    ----------
    name : str
        The micrograph's stem.
    path : str or None
        Where it was read from.
    rows, columns : int or None
        Its shape; coordinates lie in this frame, ``(0, 0)`` being the centre of the first stored pixel.
    pixel_size_A : float or None
        Angstrom per raw pixel, where known.
    diameter_px : float or None
        The particle diameter used, in raw pixels.
    particles : int or None
        How many were written.
    score : str or None
        What their scores are, of `upicker.particles.ScoreKind`.
    output : str or None
        The file of particles, relative to the folder, where the name does not tell it.
    median_score : float or None
        Of its particles.
    usable : float or None
        Share of its area that is usable ice, by the contamination mask; unknown without one, and where a run was killed
        right after it had written the particles.
    size_bytes, modified_ns : int or None
        Size and modification time of the micrograph's file before it was read; noted where files are still arriving.
    """

    name: str
    path: str | None = None
    rows: int | None = None
    columns: int | None = None
    pixel_size_A: float | None = None
    diameter_px: float | None = None
    particles: int | None = None
    score: str | None = None
    output: str | None = None
    median_score: float | None = None
    usable: float | None = None
    size_bytes: int | None = None
    modified_ns: int | None = None

    @property
    def key(self) -> str:
        """What tells it from the other entries of a folder."""
        return self.output or self.name

    def as_dict(self) -> dict[str, object]:
        """Return what is known of it."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def of(
        cls,
        path: Path | None,
        name: str,
        shape: tuple[int, int],
        pixel_size_A: float | None,
        particles: Particles,
        diameter_px: float,
        output: str | None = None,
    ) -> Entry:
        """Return the entry of a micrograph with its particles."""
        return cls(
            name=name,
            path=None if path is None else str(path),
            rows=shape[0],
            columns=shape[1],
            pixel_size_A=pixel_size_A,
            diameter_px=round(float(diameter_px), 3),
            particles=len(particles),
            score=particles.score_kind.declaration,
            output=output,
            median_score=_median_score(particles),
        )


def _median_score(particles: Particles) -> float | None:
    scores = particles.score[np.isfinite(particles.score)]
    return round(float(np.median(scores)), 3) if len(scores) and particles.score_kind is not ScoreKind.NONE else None


class Journal:
    """The file to which one run appends its entries; made at once, so that it is noticed if the folder is removed.

    Parameters
    ----------
    folder : Path
        The output folder, which exists.

    Attributes
    ----------
    since_ns : int
        When it was made, by the clock of the file system, in nanoseconds since 1970.

    Raises
    ------
    OutputError
        If the file cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S.%f")
        name = f"{_PREFIX}{now}-{Identity.mine().token}-{uuid.uuid4().hex[:6]}{_SUFFIX}"
        self._folder, self._file, self._is_empty = folder, folder / FOLDER / name, True
        try:
            self._file.parent.mkdir(exist_ok=True)
            self._file.touch()
            self.since_ns = self._file.stat().st_mtime_ns
            _remove_empty(self._file.parent)
        except OSError as error:
            raise self._error(error) from error

    def begin(self, command: str, total: int | None, todo: int | None) -> None:
        """Note what the run does: its command, of how many micrographs in all, and how many it has to do itself.

        None where more may come.

        Raises
        ------
        OutputError
            As `append`.
        """
        self._write([{_BEGUN: {"command": command, "total": total, "todo": todo, "host": socket.gethostname()}}])

    def append(self, entries: Iterable[Entry]) -> None:
        """Append entries.

        Raises
        ------
        OutputError
            If they cannot be written, or the folder was removed.
        """
        lines = [entry.as_dict() for entry in entries]
        self._write(lines)
        self._is_empty &= not lines

    def failed(self, path: Path, why: str) -> None:
        """Note that a micrograph failed; it counts until a later entry has the same path.

        Raises
        ------
        OutputError
            As `append`.
        """
        self._write([{_FAILED: {"path": str(path), "why": why}}])
        self._is_empty = False

    def _write(self, values: Iterable[Mapping[str, object]]) -> None:
        lines = "".join(f"{json.dumps(value)}\n" for value in values).encode("ascii")
        if not lines:
            return
        try:
            # Without O_CREAT: a folder that was removed, and made again by another process, is noticed.
            handle = os.open(self._file, os.O_WRONLY | os.O_APPEND)
            try:
                while lines:
                    lines = lines[os.write(handle, lines) :]
            finally:
                os.close(handle)
        except FileNotFoundError as error:
            found = "it was removed while results were written to it"
            raise OutputError(self._folder, found, "Run again: what was there before is lost") from error
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Note that the run has ended; remove the file if nothing was appended."""
        if self._is_empty:
            with suppress(OSError):
                self._file.unlink()
        else:
            with suppress(OutputError):  # What counts was written.
                self._write([{_ENDED: True}])

    def _error(self, error: OSError) -> OutputError:
        found = f"cannot be written ({error.strerror or error})"
        return OutputError(self._file, found, "Check that the folder may be written to and has room")


def _remove_empty(folder: Path) -> None:
    """Remove the files of runs that were killed at once."""
    for file in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        token = file.name.removeprefix(_PREFIX).partition("-")[2].rpartition("-")[0]
        with suppress(OSError):
            if not file.stat().st_size and token_has_ended(token):
                file.unlink()


def read(folder: Path) -> list[Entry]:
    """Return the entries of all runs into a folder, those of later runs last; lines that are not whole are left out."""
    lines = (line for file in files(folder) for line in _lines(file))
    return [entry for line in lines if (entry := parsed(line)) is not None]


@dataclass(frozen=True)
class Told:
    """What the file of one run tells.

    Attributes
    ----------
    began : datetime
        When the run began.
    command, host : str
        What it was, and where; empty if the file does not say so.
    total, todo : int or None
        How many micrographs there were in all, and for this run to do.
    entries : list of Entry
        Those done, in this order.
    failures : dict of str to str
        Path -> why, of those that failed, and were not done after that.
    last_ns : int
        When the file was last written, nanoseconds since 1970.
    has_ended : bool
        Whether it has provably ended.
    is_here : bool
        Whether it ran on this machine.
    """

    began: datetime.datetime
    command: str
    host: str
    total: int | None
    todo: int | None
    entries: list[Entry]
    failures: dict[str, str]
    last_ns: int
    has_ended: bool
    is_here: bool


def told(file: Path) -> Told:
    """Read the file of one run; what is malformed is left out."""
    stamp, _, rest = file.name.removeprefix(_PREFIX).partition("-")
    began = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%S.%f").replace(tzinfo=datetime.UTC)
    begun: dict = {}
    ended = False
    done: list[Entry] = []
    failures: dict[str, str] = {}
    for line in _lines(file):
        if (entry := parsed(line)) is not None:
            done.append(entry)
            failures.pop(entry.path or "", None)
        elif isinstance(line, dict) and isinstance(one := line.get(_FAILED), dict):
            failures[str(one.get("path"))] = str(one.get("why"))
        elif isinstance(line, dict) and isinstance(line.get(_BEGUN), dict):
            begun = line[_BEGUN]
        ended = isinstance(line, dict) and _ENDED in line
    total, todo = (value if isinstance(value := begun.get(key), int) else None for key in ("total", "todo"))
    token = rest.rpartition("-")[0]
    ended = ended or token_has_ended(token)
    command, host = str(begun.get("command", "")), str(begun.get("host", ""))
    return Told(began, command, host, total, todo, done, failures, file.stat().st_mtime_ns, ended, token_is_here(token))


def files(folder: Path) -> list[Path]:
    """Return the files of the runs into a folder, in the order in which they began."""
    return sorted((folder / FOLDER).glob(f"{_PREFIX}*{_SUFFIX}"))


def _lines(file: Path) -> Iterator[object]:
    """Yield the values of the lines of a file that are whole."""
    with suppress(OSError):
        for line in file.read_bytes().splitlines():
            with suppress(ValueError, RecursionError):
                yield json.loads(line)


def merged(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return the last entry of each output, sorted."""
    last = {entry.key: entry for entry in entries}
    return tuple(last[key] for key in sorted(last))


def in_order(folder: Path) -> list[Entry]:
    """Return the entries of a folder in the order in which they were done; those done again where they were last."""
    last: dict[str, Entry] = {}
    for entry in read(folder):
        last.pop(entry.key, None)
        last[entry.key] = entry
    return list(last.values())


_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(("name", "path", "score", "output"), (str,)),
    **dict.fromkeys(("rows", "columns", "particles", "size_bytes", "modified_ns"), (int,)),
    **dict.fromkeys(("pixel_size_A", "diameter_px", "median_score", "usable"), (int, float)),
}
assert set(_KINDS) == {field.name for field in fields(Entry)}


def parsed(values: object) -> Entry | None:
    """Return an entry from a file; values of another kind are left out; None without a name."""
    if not isinstance(values, dict):
        return None
    known: dict = {name: values[name] for name, kinds in _KINDS.items() if isinstance(values.get(name), kinds)}
    if "name" not in known and "path" in known:
        known["name"] = Path(known["path"]).stem
    return Entry(**known) if "name" in known else None
