"""Tables with a header: CSV, TSV, CryoPPP's CSV and Topaz' text files.

- Ours, ``x,y[,diameter][,score]``: raw pixels in the contract's frame. What is known beside (the micrograph, the size
  of the picture, its pixel size, a flip or a scale) stands in further columns, not in comments, which the usual
  readers of CSV do not know. Labels that were made in the page have a ``label_key``, by which it knows them again.
- CryoPPP, ``X-Coordinate,Y-Coordinate,Diameter``: the same frame, of the JPG that CryoPPP publishes with them. Its
  first row is the last of the MRC: for use with MRC files read it with the flip ``upside-down``.
- Topaz, ``image_name x_coord y_coord [score]`` between tabs: pixels of the picture that Topaz picked on, counted from
  the first stored pixel (topaz/utils: arrays as stored; only its .box and json files are turned over). Down-sampled
  pictures (``topaz preprocess -s 8``) need the scale 8, unless ``topaz extract -x 8`` has applied it already.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io import delimited
from upicker.io.picks import Picks, WriteOptions, from_contract, grouped, record, stem
from upicker.particles import EXTRA, Particles

_COLUMNS = {
    "x": ("x", "xcoordinate", "xpx", "xcoord"),
    "y": ("y", "ycoordinate", "ypx", "ycoord"),
    "diameter": ("diameter", "diameterpx"),
    "score": ("score", "confidence"),
    "class_number": ("classnumber",),
    "psi_deg": ("psideg",),
    "label_key": ("labelkey",),
    "micrograph": ("micrograph", "micrographname", "imagename", "filename"),
    "rows": ("rows",),
    "columns": ("columns",),
    "pixel_size_A": ("pixelsizea",),
}
_ORDER = ("x", "y", "diameter", "score")
_LABEL_KEY = re.compile(r"[A-Za-z0-9_-]{1,24}")
_WRITE_AGAIN = "Write it as CSV with the header x,y,diameter,score"


def places(header: Sequence[str]) -> dict[str, int]:
    """Return which column holds what, by name, whatever the case and the punctuation."""
    plain = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in header]
    return {name: plain.index(word) for name, words in _COLUMNS.items() for word in reversed(words) if word in plain}


def read(path: Path, rows: list[tuple[int, list[str]]], name: str) -> list[Picks]:
    """Read a table from its numbered rows.

    Parameters
    ----------
    path : Path
        The file, for messages.
    rows : list of (int, list of str)
        Line numbers and cells, at least one; the first may be the header. Without one, the columns are x, y,
        diameter, score.
    name : str
        The micrograph's name, where the file does not give it.

    Returns
    -------
    list of Picks
        One per micrograph, in the file's pixels.

    Raises
    ------
    CoordinatesError
        For missing or doubled columns, and cells that are not numbers.
    """
    first = rows[0][1]
    if delimited.is_numeric(first):
        if not 2 <= len(first) <= 4:
            raise CoordinatesError(path, f"it has {len(first)} columns and no header naming them", _WRITE_AGAIN)
        at: dict[str, int] = dict(zip(_ORDER, range(len(first))))
    else:
        at = _named(path, first)
        rows = rows[1:]
    particles = _particles(path, rows, at)
    if "micrograph" not in at:
        return [_picks(path, rows, at, name, particles)]
    names = [(cells[at["micrograph"]] if at["micrograph"] < len(cells) else "") or name for _, cells in rows]
    by_name: dict[str, list[tuple[int, list[str]]]] = {}
    for word, row in zip(names, rows):
        by_name.setdefault(word, []).append(row)
    return [_picks(path, by_name[word], at, word, group) for word, group in grouped(names, particles).items()]


def _named(path: Path, header: list[str]) -> dict[str, int]:
    at = places(header)
    missing = [name for name in ("x", "y") if name not in at]
    if missing:
        raise CoordinatesError(
            path, f"it has no column {' and '.join(missing)}, but: {', '.join(header)[:120]}", _WRITE_AGAIN
        )
    for name, place in at.items():
        if sum(cell.lower() == header[place].lower() for cell in header) > 1:
            raise CoordinatesError(
                path, f"it has two columns {header[place][:60]!r}, and one {name} is wanted", "Remove or rename one"
            )
    return at


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
    return Particles(particles.xy, particles.diameter_px, particles.score, extra)


def _picks(path: Path, rows: list[tuple[int, list[str]]], at: dict[str, int], name: str, particles: Particles) -> Picks:
    """Add what the first row says of the picture."""
    known: dict[str, float] = {}
    for word in ("rows", "columns", "pixel_size_A"):
        if word in at and rows:
            value = float(delimited.column(path, rows[:1], at[word], 0.0)[0])
            if 0 < value < 1e7:
                known[word] = value
    shape = (int(known["rows"]), int(known["columns"])) if {"rows", "columns"} <= known.keys() else None
    return Picks(name, particles, shape if shape and min(shape) else None, known.get("pixel_size_A"))


def ours(path: Path, all_picks: list[Picks], options: WriteOptions, mark: str = ",", named: bool = True) -> str:
    """Return our own table.

    Parameters
    ----------
    path : Path
        The file, for messages.
    all_picks : list of Picks
        Of one micrograph or of many.
    options : WriteOptions
        Flip and scale.
    mark : str
        The delimiter.
    named : bool
        Whether the first column names the micrograph.
    """
    all_picks = [from_contract(path, picks, options) for picks in all_picks]
    records = [record(picks, options) for picks in all_picks]
    notes = [word for word in ("rows", "columns", "pixel_size_A", "flip", "scale") if any(word in r for r in records)]
    if all_picks and not any("rows" in r for r in records):
        notes = [word for word in notes if word != "pixel_size_A" or named]
    extras = [word for word in EXTRA if all(word in p.particles.extra for p in all_picks)]
    extras = extras if all_picks else []
    lines = [mark.join([*(["micrograph"] if named else []), *_ORDER, *extras, *notes])]
    for picks, noted in zip(all_picks, records):
        front = [_quoted(picks.micrograph, mark)] if named else []
        back = [str(noted.get(word, "")) for word in notes]
        particles = picks.particles
        # Python's numbers are written several times as fast as numpy's.
        columns = [[_cell(value) for value in particles.extra[word].tolist()] for word in extras]
        numbers = (particles.xy.tolist(), particles.diameter_px.tolist(), particles.score.tolist())
        for i, ((x, y), diameter, score) in enumerate(zip(*numbers)):
            values = [column[i] for column in columns]
            lines.append(mark.join([*front, f"{x:.4f}", f"{y:.4f}", short(diameter), f"{score:.8g}", *values, *back]))
    return "\n".join([*lines, ""])


def cryoppp(path: Path, picks: Picks, options: WriteOptions) -> str:
    """Return a table as CryoPPP publishes them."""
    particles = from_contract(path, picks, options).particles
    rows = zip(particles.xy, particles.diameter_px)
    lines = (f"{short(x)},{short(y)},{short(diameter)}\n" for (x, y), diameter in rows)
    return "X-Coordinate,Y-Coordinate,Diameter\n" + "".join(lines)


def topaz(path: Path, all_picks: list[Picks], options: WriteOptions) -> str:
    """Return a table as Topaz reads and writes them; images are named without folder and ending."""
    lines = ["image_name\tx_coord\ty_coord\tscore\n"]
    for picks in (from_contract(path, p, options) for p in all_picks):
        name = stem(picks.micrograph)
        lines += [
            f"{name}\t{short(x)}\t{short(y)}\t{score:.8g}\n"
            for (x, y), score in zip(picks.particles.xy, picks.particles.score)
        ]
    return "".join(lines)


def short(value: float) -> str:
    """Write a number with up to 4 decimals, and NaN as nothing."""
    if not math.isfinite(value):
        return ""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _cell(value: float | str) -> str:
    """Write a number with 8 digits, NaN as nothing, and a label's key as it is."""
    if isinstance(value, str):
        return value
    return f"{value:.8g}" if math.isfinite(value) else ""


def _quoted(name: str, mark: str) -> str:
    if mark in name or '"' in name or name != name.strip() or name[:1] == "#":
        return '"' + name.replace('"', '""') + '"'
    return name
