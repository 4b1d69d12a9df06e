"""RELION's lists of coordinates files: which file belongs to which micrograph.

- Since RELION 4: a block ``data_coordinate_files`` with ``_rlnMicrographName`` and ``_rlnMicrographCoordinates``
  (``autopick.star``, ``manualpick.star``); both paths are relative to the project's folder.
- RELION 3.1's ``summary.star`` names micrographs only; their files lie beside it, in folders that mirror the
  micrographs' paths without the job that made them (``MotionCorr/job002/Movies/a.mrc`` ->
  ``AutoPick/job004/Movies/a_autopick.star``).
- Up to RELION 3.1: ``coords_suffix_autopick.star`` holds one line, the name of the micrographs' list; the end of
  its own name is the end of the coordinates files' names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from upicker.errors import CoordinatesError
from upicker.io import star
from upicker.io.formats.relion import COORDINATES, MICROGRAPH
from upicker.io.star import Table

_JOB = re.compile(r"^(?:.*/)?job\d+/(.+)$")
_SUFFIX_FILE = re.compile(r"coords_suffix(_\w+)\.star")
_ENDINGS = ("_autopick", "_manualpick", "_extract", "")


def listed(path: Path, text: str) -> list[tuple[str, Path]] | None:
    """Return the micrographs and coordinates files that a list names; None if the file is no such list.

    Raises
    ------
    CoordinatesError
        If it is a list, but a file that it names is not there.
    """
    suffix = _SUFFIX_FILE.fullmatch(path.name)
    if suffix and len(text.split()) == 1:
        return _by_suffix(path, suffix[1])
    tables = star.parse(text, path)
    table = next((t for t in tables if MICROGRAPH in t.columns and COORDINATES in t.columns), None)
    if table is not None:
        return list(_found(path, table, lambda row: _in_project(path, row[table.columns.index(COORDINATES)])))
    table = next((t for t in tables if MICROGRAPH in t.columns and t.name != "optics"), None)
    if table is None:
        return None
    at = table.columns.index(MICROGRAPH)
    return list(_found(path, table, lambda row: _mirrored_file(path.parent, row[at])))


def mirrored(micrograph: str) -> PurePosixPath:
    """Return a micrograph's path without the job that made it, without a root and without ``..``."""
    job = _JOB.match(micrograph)
    parts = [part for part in PurePosixPath(job[1] if job else micrograph).parts if part not in ("/", "..", ".")]
    return PurePosixPath(*parts) if parts else PurePosixPath("micrograph")


def is_file(path: Path) -> bool:
    """Tell whether there is a regular file of this name; a name that cannot be one is not there."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _found(path: Path, table: Table, file_of: Callable[[list[str]], Path | None]) -> Iterator[tuple[str, Path]]:
    at = table.columns.index(MICROGRAPH)
    for line, row in zip(table.lines, table.rows):
        file = file_of(row)
        if file is None:
            raise CoordinatesError(
                path,
                f"line {line}: the coordinates of micrograph {row[at][:160]!r} are not there",
                "Work in the project's folder, and check that the job has finished",
            )
        yield row[at], file


def _in_project(path: Path, name: str) -> Path | None:
    """Return a file that is named relative to the project: from here, or from a folder above the list."""
    for folder in (Path(), *path.absolute().parents):
        if is_file(folder / name):
            return folder / name
    return None


def _mirrored_file(folder: Path, micrograph: str) -> Path | None:
    inner = mirrored(micrograph)
    for place in (inner.parent, PurePosixPath()):
        for ending in _ENDINGS:
            file = folder / place / f"{inner.stem}{ending}.star"
            if is_file(file):
                return file
    return None


def _by_suffix(path: Path, suffix: str) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for file in sorted(path.parent.rglob(f"*{suffix}.star")):
        if file != path and is_file(file):
            inner = file.relative_to(path.parent).as_posix()
            found.append((inner.removesuffix(f"{suffix}.star"), file))
    return found
