"""Reading tables with a header: CSV and TSV, CryoPPP's CSV, Topaz' text files, and tables like them.

Columns are identified by name, in any order, case and punctuation; see `_COLUMNS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io import delimited
from upicker.io.formats import headerless
from upicker.io.formats.content import Content
from upicker.io.picks import Picks, grouped
from upicker.io.records import declared
from upicker.particles import Particles

_COLUMNS = {
    "x": ("x", "xcoordinate", "xpx", "xcoord"),
    "y": ("y", "ycoordinate", "ypx", "ycoord"),
    "diameter": ("diameter", "diameterpx"),
    "score": ("score", "confidence", "probability", "fom"),
    "class_number": ("classnumber",),
    "psi_deg": ("psideg",),
    "label_key": ("labelkey",),
    "micrograph": (
        *("micrograph", "micrographname", "imagename", "filename", "micrographfilename", "micname", "mic", "mrc"),
        *("image", "micrographid", "imageid", "slice"),
    ),
    "rows": ("rows",),
    "columns": ("columns",),
    "pixel_size_A": ("pixelsizea",),
    "score_kind": ("scorekind",),
}
# Written by us for people.
_FOR_PEOPLE = {"flip", "scale"}
_Z = {"z", "zcoordinate", "coordinatez", "zpx", "zcoord"}
# Of boxes; whether x and y are then their corners or their centres, nobody knows.
_WIDTH, _HEIGHT = {"w", "width", "boxwidth"}, {"h", "height", "boxheight"}
_LABEL_KEY = re.compile(r"[A-Za-z0-9_-]{1,24}")
_WRITE_AGAIN = "Write it as CSV with the header x,y,diameter,score"


def columns(header: Sequence[str]) -> dict[str, int]:
    """Return the index of each known column of a header."""
    plain = delimited.plain(header)
    return {name: plain.index(word) for name, words in _COLUMNS.items() for word in reversed(words) if word in plain}


def read(content: Content) -> list[Picks]:
    """Read a table.

    Parameters
    ----------
    content : Content
        A text. Its first row may be the header; without one, see `upicker.io.formats.headerless`.

    Returns
    -------
    list of Picks
        One per micrograph, in the file's pixels.

    Raises
    ------
    CoordinatesError
        If there is no row, for missing, duplicate or doubtful columns, cells that are not numbers, and positions in
        tomograms.
    """
    path, rows, name = content.path, content.rows, content.name
    if not rows:
        raise CoordinatesError(path, "it has no line with values", _WRITE_AGAIN)
    first, unread = rows[0][1], ()
    if delimited.is_numeric(first):
        at = headerless.columns(content)
    else:
        at = _named(path, first)
        rows = rows[1:]
        _refuse_tomogram(path, first, rows)
        unread = _unread(first, rows, at)
    delimited.refuse_uneven(path, rows, first)
    particles = _particles(path, rows, at)
    if "micrograph" not in at:
        return [described(path, rows, at, name, particles, unread)]
    names = _micrographs(path, rows, at["micrograph"]) or [name] * len(rows)
    return [
        described(path, [rows[i] for i in index], at, word, particles.select(index), unread)
        for word, index in grouped(names).items()
    ]


def _micrographs(path: Path, rows: list[tuple[int, list[str]]], at: int) -> list[str]:
    """Return the micrograph of each row; nothing if no row names one."""
    names = [cells[at] for _, cells in rows]
    if any(names) and not all(names):
        line = rows[names.index("")][0]
        raise CoordinatesError(path, f"line {line} names no micrograph, unlike others", "Name it, or remove the line")
    return names if any(names) else []


def _named(path: Path, header: list[str]) -> dict[str, int]:
    at = columns(header)
    missing = [name for name in ("x", "y") if name not in at]
    if missing:
        raise CoordinatesError(
            path, f"it has no column {' and '.join(missing)}, but: {', '.join(header)[:120]}", _WRITE_AGAIN
        )
    plain = set(delimited.plain(header))
    if plain & _WIDTH and plain & _HEIGHT:
        raise CoordinatesError(
            path,
            "it has widths and heights: these are boxes, and it is not certain whether x and y are corners or centres",
            "For corners, write x y width height without a header as a .box file; for centres, x,y,diameter",
        )
    lower = [cell.lower() for cell in header]
    for name, place in at.items():
        if lower.count(lower[place]) > 1:
            raise CoordinatesError(
                path, f"it has two columns {header[place][:60]!r}, but needs one {name}", "Remove or rename one"
            )
    return at


def _refuse_tomogram(path: Path, header: list[str], rows: list[tuple[int, list[str]]]) -> None:
    for at, word in enumerate(delimited.plain(header)):
        if word in _Z and np.nan_to_num(delimited.column(path, rows, at, math.nan)).any():
            found = f"it holds positions in tomograms (column {header[at]})"
            raise CoordinatesError(path, found, "Give picks of micrographs")


def _unread(header: list[str], rows: list[tuple[int, list[str]]], at: dict[str, int]) -> tuple[str, ...]:
    """Return in words which columns with a name and values are not read."""
    known = {*at.values()} | {i for i, word in enumerate(delimited.plain(header)) if word in _FOR_PEOPLE | _Z}
    others = [i for i, cell in enumerate(header) if cell and i not in known]
    names = [header[i] for i in others if any(i < len(cells) and cells[i] for _, cells in rows)]
    return (f"column{'s' * (len(names) > 1)} {', '.join(names)[:160]}",) if names else ()


def _particles(path: Path, rows: list[tuple[int, list[str]]], at: dict[str, int]) -> Particles:
    xy = [delimited.column(path, rows, at[name], None) for name in ("x", "y")]
    diameter = delimited.column(path, rows, at["diameter"], math.nan) if "diameter" in at else np.float64(math.nan)
    score = delimited.column(path, rows, at["score"], 1.0) if "score" in at else 1.0
    particles = Particles.of(np.stack(xy, 1), np.where(diameter > 0, diameter, math.nan), score)
    extra: dict[str, np.ndarray] = {}
    if "class_number" in at:
        extra["class_number"] = delimited.column(path, rows, at["class_number"], 0).clip(-(2**31), 2**31).astype(int)
    if "psi_deg" in at:
        extra["psi_deg"] = delimited.column(path, rows, at["psi_deg"], math.nan)
    if "label_key" in at:
        words = (cells[at["label_key"]] if at["label_key"] < len(cells) else "" for _, cells in rows)
        extra["label_key"] = np.array([word if _LABEL_KEY.fullmatch(word) else "" for word in words], "U24")
    return replace(particles, extra=extra)


def described(
    path: Path,
    rows: list[tuple[int, list[str]]],
    at: dict[str, int],
    name: str,
    particles: Particles,
    unread: tuple[str, ...] = (),
) -> Picks:
    """Return particles with the size and pixel size of the micrograph, and the kind of score, from the first row."""
    known: dict[str, float] = {}
    for word in ("rows", "columns", "pixel_size_A"):
        if word in at and rows:
            value = float(delimited.column(path, rows[:1], at[word], math.nan)[0])
            if 0 < value < 1e7:
                known[word] = value
    if {"score", "score_kind"} <= at.keys() and rows and at["score_kind"] < len(rows[0][1]):
        particles = declared(particles, rows[0][1][at["score_kind"]])
    shape = (int(known["rows"]), int(known["columns"])) if {"rows", "columns"} <= known.keys() else None
    return Picks(name, particles, shape if shape and min(shape) else None, known.get("pixel_size_A"), unread)


def is_other(head: str) -> bool:
    """Tell whether the first 64 KiB are a table of something else: a header without x and y."""
    if "\0" in head or not head.strip():
        return False
    first = next((cells for _, cells in delimited.rows(head, delimited.delimiter(head)) if any(cells)), [])
    return not delimited.is_numeric(first) and not {"x", "y"} <= columns(first).keys()
