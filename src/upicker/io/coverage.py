"""Which label files are complete, which label only some of the particles, and which only a part of the micrograph.

Beside the labels may lie ``coverage.csv``, with a row per file, or several for one with several regions::

    name,coverage,x0,y0,x1,y1
    mic001,partial,,,,
    mic002,complete,,,,
    mic003,complete,500,1200,2500,3100

`name` is that of the label file or micrograph. ``partial``: there are more particles than labels. The labels are valid
in the rectangle, in raw pixels of the coordinate contract (x along columns, y along rows, the first pixel's centre is
0); training ignores the rest. Empty cells: complete, and the whole micrograph.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from upicker.errors import CoordinatesError, OutputError
from upicker.geometry import Region
from upicker.io import delimited
from upicker.io.atomic import replacing
from upicker.io.pairing import EXACT, pair
from upicker.io.sources import Source, by_micrograph

FILE = "coverage.csv"
COLUMNS = ("name", "coverage", "x0", "y0", "x1", "y1")
WORDS = {"complete": False, "partial": True, "": False}


@dataclass(frozen=True)
class Coverage:
    """Which particles, and which part of a micrograph, its labels cover.

    Attributes
    ----------
    partial : bool
        Whether there are particles without a label.
    regions : tuple of Region
        Where the labels are valid, raw pixels; empty: everywhere.
    """

    partial: bool = False
    regions: tuple[Region, ...] = ()


def coverages(folders: Sequence[Path], partial: bool) -> dict[Source, Coverage]:
    """Return the coverage of the labels in some folders or files; see `read_coverage`."""
    return {file: coverage for folder in folders for file, coverage in read_coverage(folder, partial).items()}


def read_coverage(folder: Path, partial: bool) -> dict[Source, Coverage]:
    """Return the coverage of the labels of each micrograph in a folder, or in a file of many.

    Parameters
    ----------
    folder : Path
        The folder of label files, where ``coverage.csv`` may lie; or the file.
    partial : bool
        Whether files without a row in ``coverage.csv`` are partial.

    Raises
    ------
    CoordinatesError
        If ``coverage.csv`` cannot be read, is not valid, or has a row without a label file.
    """
    found = {file: Coverage(partial) for file in by_micrograph(folder).values()}
    path = folder / FILE
    if not path.is_file():
        return found
    known, unmatched = rows_by_file(path, list(found))
    if unmatched:
        refuse_unmatched(path, unmatched)
    return found | {file: coverage for file, (_, coverage) in known.items()}


def rows_by_file(path: Path, files: Sequence[Source]) -> tuple[dict[Source, tuple[str, Coverage]], list[str]]:
    """Read a ``coverage.csv``, and match its names with label files.

    Parameters
    ----------
    path : Path
        The ``coverage.csv``.
    files : sequence of Path or Part
        Where labels are.

    Returns
    -------
    by_file : dict
        Label file -> its name in ``coverage.csv``, and its coverage.
    unmatched : list of str
        Names that match no label file.

    Raises
    ------
    CoordinatesError
        As `rows_of`.
    InputError
        If names are ambiguous.
    """
    found = rows_of(path)
    pairing = pair(found, {str(file): file for file in files}, path, required=False, endings=EXACT)
    by_file = {file: (name, found[name]) for name, file in pairing.pairs.items()}
    return by_file, pairing.unmatched_micrographs


def refuse_unmatched(path: Path, names: Sequence[str]) -> NoReturn:
    """Refuse a ``coverage.csv`` with names that match no label file.

    Raises
    ------
    CoordinatesError
        Always.
    """
    remedy = "Name the rows after the label files, without suffix"
    raise CoordinatesError(path, f"there are no labels for '{names[0]}'", remedy)


def rows_of(path: Path) -> dict[str, Coverage]:
    """Read a ``coverage.csv``; return coverages by the names in it.

    Raises
    ------
    CoordinatesError
        If it cannot be read, or is not valid.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CoordinatesError(path, f"cannot be read ({error})", f"Give a CSV of {','.join(COLUMNS)}") from error
    lines = list(delimited.rows(text, delimited.delimiter(text)))
    header = [cell.lower() for cell in lines[0][1]] if lines else []
    if "name" not in header or set(header) - set(COLUMNS):
        raise CoordinatesError(path, "its header is not valid", f"Write: {','.join(COLUMNS)}")
    found: dict[str, Coverage] = {}
    for number, cells in lines[1:]:
        row = dict(zip(header, cells, strict=False))
        word, name = row.get("coverage", "").lower(), row.get("name", "")
        if not name:
            raise CoordinatesError(path, f"line {number} has no name", "Write the name of the label file")
        if word not in WORDS:
            raise CoordinatesError(path, f"line {number}: unknown coverage '{word}'", "Write complete or partial")
        before, region = found.get(name), _region(path, number, [row.get(c, "") for c in COLUMNS[2:]])
        if before is not None and (region is None or not before.regions or before.partial != WORDS[word]):
            remedy = "Several rows per file must give several regions, all complete or all partial"
            raise CoordinatesError(path, f"line {number}: '{name}' has an earlier row", remedy)
        regions = () if before is None else before.regions
        found[name] = Coverage(WORDS[word], regions if region is None else (*regions, region))
    return found


def _region(path: Path, number: int, cells: list[str]) -> Region | None:
    """Return the rectangle of a row; None if its cells are empty."""
    if not any(cells):
        return None
    try:
        x0, y0, x1, y1 = (float(cell) for cell in cells)
    except ValueError:
        x0 = y0 = x1 = y1 = float("nan")
    if not (np.isfinite([x0, y0, x1, y1]).all() and x0 < x1 and y0 < y1):
        remedy = "Write numbers x0 < x1 and y0 < y1, in raw pixels"
        raise CoordinatesError(path, f"line {number}: {','.join(cells)} is not a rectangle", remedy)
    return Region(x0, y0, x1, y1)


def record(path: Path, name: str, coverage: Coverage | None, instead: Sequence[str] = ()) -> None:
    """Write the coverage of one label file; rows of other files, and comments, are kept.

    Parameters
    ----------
    path : Path
        ``coverage.csv``, made if there is none.
    name : str
        Of the label file, without suffix.
    coverage : Coverage or None
        None: remove its rows.
    instead : sequence of str
        Other names for the same file; their rows are removed.

    Raises
    ------
    CoordinatesError
        If the present file cannot be read.
    OutputError
        If it cannot be written, or the name is not valid there; see `check_name`.
    """
    check_name(path, name)
    found, comments = {}, []
    if path.is_file():
        found = rows_of(path)
        comments = [line for line in path.read_text("utf-8-sig").splitlines() if line.lstrip()[:1] == "#"]
    for other in {*instead} - {name}:
        found.pop(other, None)
    if coverage is None:
        found.pop(name, None)
    else:
        found[name] = coverage
    with replacing(path, lasting=True) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        file.writelines(f"{line}\n" for line in comments)
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for stem, one in found.items():
            word = "partial" if one.partial else "complete"
            rectangles = [(region.x0, region.y0, region.x1, region.y1) for region in one.regions] or [("",) * 4]
            rows.writerows((stem, word, *rectangle) for rectangle in rectangles)


def check_name(path: Path, name: str) -> None:
    """Refuse a name that cannot stand in a ``coverage.csv``.

    Raises
    ------
    OutputError
        For names with control characters (line breaks), with spaces at the ends or ``#`` in front, and for the name
        whose label file would be the table itself.
    """
    if not name or name != name.strip() or name[0] == "#" or not name.isprintable() or f"{name}.csv" == path.name:
        raise OutputError(path, f"it cannot hold the name {name!r}", "Rename the micrograph")
