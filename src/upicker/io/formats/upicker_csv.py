"""UPicker's own table, ``x,y,diameter,score``: pixels of the micrograph in the contract's frame.

The micrograph, its size and pixel size, a flip, a scale and the kind of score stand in further columns where known, not
in comments, which the usual readers of CSV do not support. Labels made in the page have a ``label_key``, by which the
page identifies them.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from upicker.io.delimited import short
from upicker.io.formats import tables
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.picks import Picks, WriteOptions, from_contract
from upicker.io.records import record
from upicker.particles import EXTRA, Particles

_COLUMNS = ("x", "y", "diameter", "score")
_OWN = ",".join(_COLUMNS).encode()
_SAME_IN_ALL = {b"rows", b"columns", b"pixel_size_A", b"score_kind"}
_NUMBERS = b"0123456789.,-+eE"
_TABLE = _NUMBERS + b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_\n"
_NOTED = ("rows", "columns", "pixel_size_A", "flip", "scale", "score_kind")


def sniff(content: Content) -> bool:
    """Accept any text that no other format recognises."""
    return content.kind == "text"


def is_other(head: str) -> bool:
    """Tell whether the first 64 KiB are a table of something else, see `upicker.io.formats.tables.is_other`."""
    return not is_own(head[:64].encode("utf-8")) and tables.is_other(head)


def is_own(data: bytes) -> bool:
    """Tell by its first bytes whether a file is this format, whatever else it might be taken for."""
    return data.startswith(_OWN) and data[len(_OWN) : len(_OWN) + 1] in (b",", b"\n")


def read(content: Content) -> list[Picks]:
    """Read a table; `upicker.io.formats.tables.read` reads all that is not as we write it, see there for errors."""
    found = _quick(content)
    return tables.read(content) if found is None else [found]


def _quick(content: Content) -> Picks | None:
    """Read a table of plain numbers as we write it, several times as fast; None for any other.

    Columns behind the usual four must say the same in all rows.
    """
    if not is_own(content.data):
        return None
    header, _, body = content.data.partition(b"\n")
    lines = body.split(b"\n")
    columns = header.split(b",")
    if lines.pop() or not lines or not set(columns[4:]) <= _SAME_IN_ALL:
        return None
    commas = len(columns) - 1
    if any(line.count(b",") != commas for line in lines):
        return None
    tail = lines[0].split(b",", 4)[4:]
    end = b"".join([b",", *tail, b"\n"]) if tail else b"\n"
    if body.count(end) != len(lines) or body.translate(None, _TABLE):
        return None
    numbers = body.replace(end, b",")[:-1]
    if numbers.translate(None, _NUMBERS):
        return None
    try:
        values = np.fromiter(map(float, numbers.split(b",")), np.float64)
    except ValueError:
        return None
    if len(values) != 4 * len(lines) or not np.isfinite(values).all():
        return None
    xy, diameter, score = values.reshape(-1, 4)[:, :2].copy(), values[2::4], values[3::4]
    particles = Particles.of(xy, np.where(diameter > 0, diameter, math.nan), score)
    first = lines[0].decode("ascii").split(",")
    at = tables.columns(header.decode("ascii").split(","))
    return tables.described(content.path, [(2, first)], at, content.name, particles)


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield a table with commas."""
    yield path, table(path, all_picks, options, ",")


def table(path: Path, all_picks: list[Picks], options: WriteOptions, delimiter: str) -> str:
    """Return the table of one micrograph or of many; with `options.named` its first column names the micrograph."""
    all_picks = [from_contract(path, picks, options) for picks in all_picks]
    records = [record(picks, options) | _kind_of_score(picks) for picks in all_picks]
    notes = [word for word in _NOTED if any(word in r for r in records)]
    if all_picks and not any("rows" in r for r in records):
        notes = [word for word in notes if word != "pixel_size_A" or options.named]
    extras = [word for word in EXTRA if any(word in p.particles.extra for p in all_picks)]
    lines = [delimiter.join([*(["micrograph"] if options.named else []), *_COLUMNS, *extras, *notes])]
    for picks, noted in zip(all_picks, records):
        front = [_quoted(picks.micrograph, delimiter)] if options.named else []
        back = [str(noted.get(word, "")) for word in notes]
        particles = picks.particles
        # Python's numbers are written several times as fast as numpy's.
        blank = np.full(len(particles), math.nan)
        columns = [[_cell(value) for value in particles.extra.get(word, blank).tolist()] for word in extras]
        numbers = (particles.xy.tolist(), particles.diameter_px.tolist(), particles.score.tolist())
        for i, ((x, y), diameter, score) in enumerate(zip(*numbers)):
            values = [column[i] for column in columns]
            cells = [*front, f"{x:.4f}", f"{y:.4f}", short(diameter), f"{score:.8g}", *values, *back]
            lines.append(delimiter.join(cells))
    return "\n".join([*lines, ""])


def _kind_of_score(picks: Picks) -> dict[str, str | int | float]:
    declaration = picks.particles.score_kind.declaration
    return {"score_kind": declaration} if declaration else {}


def _cell(value: float | str) -> str:
    """Write a number with 8 digits, NaN as nothing, and the key of a label as it is."""
    if isinstance(value, str):
        return value
    return f"{value:.8g}" if math.isfinite(value) else ""


def _quoted(name: str, delimiter: str) -> str:
    if delimiter in name or '"' in name or name != name.strip() or name[:1] == "#":
        return '"' + name.replace('"', '""') + '"'
    return name


CARRIES = frozenset(
    {
        "diameter",
        "score",
        "score_kind",
        "class_number",
        "psi_deg",
        "label_key",
        "micrograph",
        "path",
        "shape",
        "pixel_size",
    }
)
NOTES = Notes(
    position="centre, first row = 0; px",
    columns="`x`, `y`, `diameter`, `score`; `class_number`, `psi_deg`, `label_key`, `micrograph`, `rows`, `columns`,"
    " `pixel_size_A`, `flip`, `scale`, `score_kind` where known",
    checked="pandas",
)
FORMAT = Format(
    name="csv",
    programs="UPicker, scripts and spreadsheets",
    files="NAME.csv for each micrograph: x, y, diameter, score",
    layout="either",
    ending=".csv",
    endings=(".csv",),
    sniff=sniff,
    read=read,
    write=write,
    is_other=is_other,
    carries=CARRIES,
    notes=NOTES,
)
