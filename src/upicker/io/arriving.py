"""Micrographs that arrive: those that folders, patterns and lists name at one time, and looks at them."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

from upicker.errors import ConfigError, InputError, UPickerError
from upicker.io import lists, micrographs
from upicker.io.lists import Listed
from upicker.io.look import Look, glance, look
from upicker.io.names import is_micrograph_name, is_temporary


@dataclass
class _List:
    """A list as it was read last.

    Attributes
    ----------
    seen : tuple of int
        Its size and time.
    since : float
        When it was first seen with these, in seconds of a clock of our own.
    rows : list of Listed
        Those of this version, or of an earlier one while this one cannot be read.
    is_read : bool
        Whether `rows` are of this version.
    """

    seen: tuple[int, int] | None = None
    since: float = 0.0
    rows: list[Listed] = field(default_factory=list)
    is_read: bool = False


class Arriving:
    """What is named by folders, patterns and lists to which files are added.

    Parameters
    ----------
    patterns : sequence of str
        As given: folders, globs and lists.
    output : Path
        The output folder: what lies in it or below was written by the run itself, and is passed over.
    settle_s : float
        So long a list must stay as it is before a last line without an end counts, and an error of it is one.

    Attributes
    ----------
    entries : dict of Path to Listed
        All micrographs that were named so far, also if they are not there yet or any more.
    unread : dict of Path to UPickerError
        Lists that stay as they are, and cannot be read.

    Raises
    ------
    ConfigError
        If one of the patterns is a single micrograph, or the output folder itself is watched.
    InputError
        If a folder or a list does not exist.
    """

    def __init__(self, patterns: Sequence[str], output: Path, settle_s: float) -> None:
        if not patterns:
            raise ConfigError("MICS", "no micrographs were given", "Give folders, quoted patterns or lists")
        self._patterns, self._output, self._settle_s = tuple(patterns), output.resolve(), settle_s
        for pattern in patterns:
            _check(pattern, self._output)
        given = (Path(pattern).expanduser() for pattern in patterns)
        self._lists = {path: _List() for path in given if path.is_file()}
        self._is_inside: dict[Path, bool] = {}
        self._order: list[Path] = []
        self.entries: dict[Path, Listed] = {}
        self.unread: dict[Path, UPickerError] = {}

    def looks(self, known: Mapping[Path, Look], now: float) -> dict[Path, Look]:
        """Look at all micrographs that are there, in natural order.

        Parameters
        ----------
        known : mapping of Path to Look
            Those that were whole and at rest: they are not opened unless their size or time is another.
        now : float
            Seconds of a clock that nobody sets.
        """
        for entry in self._named(now):
            self.entries[entry.path] = entry
        found = {}
        if len(self._order) < len(self.entries):
            self._order = sorted(self.entries, key=micrographs.natural)
        for path in self._order:
            before = known.get(path)
            if before is not None and glance(path) == (before.size, before.modified_ns):
                found[path] = before
            elif (seen := look(path)) is not None:
                found[path] = seen
        return found

    def _named(self, now: float) -> Iterator[Listed]:
        """Yield what is named at this time; a folder that is not there for a while names nothing."""
        for pattern in self._patterns:
            try:
                files = micrographs.expand(pattern)
                yield from [entry for path in files for entry in self._rows(path, now)]
            except (InputError, OSError):
                continue

    def _rows(self, path: Path, now: float) -> Iterable[Listed]:
        if path in self._lists:
            return self._read(path, now)
        if path in self.entries:
            return [self.entries[path]]
        if is_temporary(path) or self._is_own(path.parent):
            return ()
        if is_micrograph_name(path):
            return [Listed(path, str(path))]
        if not path.stat().st_size:  # It may become a list.
            return ()
        return self._read(path, now) if micrographs.is_list(path) else [Listed(path, str(path))]

    def _is_own(self, folder: Path) -> bool:
        if folder not in self._is_inside:
            real = folder.resolve()
            self._is_inside[folder] = real == self._output or self._output in real.parents
        return self._is_inside[folder]

    def _read(self, path: Path, now: float) -> list[Listed]:
        """Return the rows of a list; while it is written, those that it had before."""
        known = self._lists.setdefault(path, _List())
        fresh = look(path)
        seen = fresh and (fresh.size, fresh.modified_ns)
        if seen != known.seen:
            known.seen, known.since, known.is_read = seen, now, False
            self.unread.pop(path, None)
        if seen is None or known.is_read:
            return known.rows
        rests = now - known.since >= self._settle_s
        try:
            if rests or not lists.ends_within_a_line(path):
                rows = lists.read(path)
                # If it is written while it is read, the next look has another time.
                known.rows, known.is_read = rows, True
                self.unread.pop(path, None)
        except (UPickerError, OSError) as error:
            if rests:
                told = error if isinstance(error, UPickerError) else InputError(path, f"cannot be read ({error})")
                self.unread[path] = told
        return known.rows


def _check(pattern: str, output: Path) -> None:
    """Refuse what no micrograph is added to, what is not there, and the output folder; raises as `Arriving`."""
    path = Path(pattern).expanduser()
    if path.is_file():
        if is_micrograph_name(path):
            found = "it is one micrograph, and no others will be added to it"
            remedy = "Give its folder, a pattern in quotes, or a list; or leave out --watch"
            raise ConfigError(pattern, found, remedy)
        return
    fixed = path if path.is_dir() else Path(*takewhile(lambda part: not glob.has_magic(part), path.parts[:-1]))
    if not path.is_dir() and (not glob.has_magic(str(path)) or not fixed.is_dir()):
        missing = fixed if glob.has_magic(str(path)) else path
        raise InputError(missing, "there is no such file or folder", "Make it first, or check the path")
    holds = path if path.is_dir() else path.parent
    if holds.resolve() == output:
        found = "it is the folder that is watched, and what is written there would be picked in turn"
        raise ConfigError(f"-o {output}", found, f"Choose another one, e.g. {holds / 'picks'}")
