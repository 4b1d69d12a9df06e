"""A picking job's folder as RELION lays it out: a STAR file per micrograph, and a list that names them.

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

from upicker.errors import CoordinatesError, OutputError
from upicker.io import star
from upicker.io.formats import relion_star, relion_tables
from upicker.io.formats.content import Content, is_file
from upicker.io.formats.format import Files, Format, Listing, Notes
from upicker.io.formats.relion_tables import COORDINATES, MICROGRAPH, X
from upicker.io.picks import Picks, WriteOptions
from upicker.io.star import Table

_JOB = re.compile(r"^(?:.*/)?job\d+/(.+)$")
_SUFFIX_FILE = re.compile(r"coords_suffix(_\w+)\.star")
_ENDINGS = ("_autopick", "_manualpick", "_extract", "")


def sniff(content: Content) -> bool:
    """Recognise a list: a STAR file of micrographs without coordinates, or a ``coords_suffix_*.star``."""
    if _is_suffix_file(content):
        return True
    return X.encode() not in content.data and any(_names_micrographs(table) for table in content.tables)


def listed(content: Content) -> list[tuple[str, Path]]:
    """Return the micrographs and the coordinates files that a list names.

    Raises
    ------
    CoordinatesError
        If a listed file does not exist, or the end of their names fits none.
    """
    path = content.path
    if _is_suffix_file(content):
        return _by_suffix(path)
    return [entry for table in content.tables if _names_micrographs(table) for entry in _by_table(path, table)]


def _by_table(path: Path, table: Table) -> Iterator[tuple[str, Path]]:
    at = table.columns.index(MICROGRAPH)
    if COORDINATES not in table.columns:
        return _found(path, table, lambda row: _mirrored_file(path.parent, row[at]))
    at = table.columns.index(COORDINATES)
    return _found(path, table, lambda row: _in_project(path, row[at]))


def _is_suffix_file(content: Content) -> bool:
    named = _SUFFIX_FILE.fullmatch(content.path.name) is not None
    return named and content.kind == "text" and len(content.text.split()) == 1


def _names_micrographs(table: Table) -> bool:
    return MICROGRAPH in table.columns and (COORDINATES in table.columns or table.name != "optics")


def mirrored(micrograph: str) -> PurePosixPath:
    """Return a micrograph's path without the job that made it, without a root and without ``..``."""
    job = _JOB.match(micrograph)
    parts = [part for part in PurePosixPath(job[1] if job else micrograph).parts if part not in ("/", "..", ".")]
    return PurePosixPath(*parts) if parts else PurePosixPath("micrograph")


def _found(path: Path, table: Table, file_of: Callable[[list[str]], Path | None]) -> Iterator[tuple[str, Path]]:
    at = table.columns.index(MICROGRAPH)
    for line, row in zip(table.lines, table.rows):
        file = file_of(row)
        if file is None:
            raise CoordinatesError(
                path,
                f"line {line}: the coordinates of micrograph {row[at][:160]!r} do not exist",
                "Work in the project's folder, and check that the job has finished",
            )
        yield row[at], file


def _in_project(path: Path, name: str) -> Path | None:
    """Return a file whose name is relative to the project: the current folder, or one above the list."""
    for folder in (Path(), *path.absolute().parents):
        if is_file(folder / name):
            return folder / name
    return None


def _mirrored_file(folder: Path, micrograph: str) -> Path | None:
    inner = mirrored(micrograph)
    for parent in (inner.parent, PurePosixPath()):
        for ending in _ENDINGS:
            file = folder / parent / f"{inner.stem}{ending}.star"
            if is_file(file):
                return file
    return None


def _by_suffix(path: Path) -> list[tuple[str, Path]]:
    suffix = path.stem.removeprefix("coords_suffix")
    found: list[tuple[str, Path]] = []
    for file in sorted(path.parent.rglob(f"*{suffix}.star")):
        if file != path and is_file(file):
            inner = file.relative_to(path.parent).as_posix()
            found.append((inner.removesuffix(f"{suffix}.star"), file))
    if not found:
        raise CoordinatesError(
            path, f"there are no coordinates files *{suffix}.star beside it or below", "Check that the job has finished"
        )
    return found


def write(folder: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield a STAR file per micrograph, in folders that mirror their paths, and the list ``autopick.star``.

    Parameters
    ----------
    folder : Path
        Such as ``AutoPick/job012``, as seen from the project's folder: the list names it so.
    all_picks : list of Picks
        Named as in the micrographs' list, e.g. ``MotionCorr/job002/Movies/a.mrc``.
    options : WriteOptions
        Flip and scale.

    Returns
    -------
    iterable of (Path, str)
        The list comes last, so that it is there only when all of its files are.

    Raises
    ------
    OutputError
        If two micrographs would share one file.
    """
    files: dict[Path, Picks] = {}
    for picks in all_picks:
        inner = mirrored(picks.micrograph)
        file = folder / inner.parent / f"{inner.stem}_autopick.star"
        if file in files:
            raise OutputError(
                file,
                f"the micrographs {files[file].micrograph!r} and {picks.micrograph!r} would share it",
                "Convert the micrographs of each folder by themselves, into jobs of their own",
            )
        files[file] = picks
    for file, picks in files.items():
        yield file, relion_star.text(file, picks, options)
    table = star.format_table(
        "coordinate_files", (MICROGRAPH, COORDINATES), ((p.micrograph, f.as_posix()) for f, p in files.items())
    )
    yield folder / "autopick.star", f"# version 30001\n\n{table}"


FORMAT = Format(
    name="relion",
    programs="RELION 4 and 5",
    files="a picking job: autopick.star, and a STAR file for each micrograph",
    layout="folder",
    ending="_autopick.star",
    by_path=True,
    listing=Listing(("autopick.star", "manualpick.star", "summary.star", "coords_suffix_*.star"), listed),
    repeats=True,
    sniff=sniff,
    read=relion_tables.read,
    write=write,
    carries=relion_star.FORMAT.carries | {"micrograph", "path"},
    notes=Notes(
        position="as `star`",
        columns="`_rlnMicrographName`, `_rlnMicrographCoordinates`; 3.1's `summary.star` and `coords_suffix_*.star` are"
        " read, too",
        checked="the files it names: RELION 3.1.3, extraction; the list: RELION's documents",
    ),
)
