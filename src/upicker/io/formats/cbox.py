"""crYOLO's CBOX: a STAR file with the blocks ``global``, ``cryolo`` and ``cryolo_include`` (crYOLO 1.8 and later).

Frame: ``_CoordinateX/Y`` are the first pixel of the box, ``_Width/_Height`` its size, as in EMAN's .box files, and y
grows from the lowest row. crYOLO flips MRC files when it reads them (its imagereader: rows reversed for MRC, not
for TIFF, PNG and JPG) and counts from the bottom of the result, which is the first stored row of an MRC file: no
flip is needed. For TIFF, PNG and JPG use the flip ``eman2``, as Scipion's crYOLO plugin does for these and for MRC
files whose header calls them a volume (space group 1).

``_EstWidth/_EstHeight`` are crYOLO's estimate of the particle's own size, and become its diameter; ``<NA>`` stands
for "unknown". A CBOX file also holds the boxes below crYOLO's threshold: give a threshold (0.3 is crYOLO's own).

Picks of filaments have a block of their ends, ``filament_vertices``, of the same columns (crYOLO's issue 19), and
``_filamentid`` and ``_Angle`` in ``cryolo``, which are not read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io import delimited, star
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.picks import Picks, WriteOptions, boxed, from_contract
from upicker.io.records import comment, noted
from upicker.io.star import Table
from upicker.particles import Particles

_X, _Y, _Z = "_CoordinateX", "_CoordinateY", "_CoordinateZ"
_NEEDED = (_X, _Y, "_Width", "_Height")
_COLUMNS = (_X, _Y, _Z, "_Width", "_Height", "_Depth", "_EstWidth", "_EstHeight", "_Confidence", "_NumBoxes", "_Angle")


def sniff(content: Content) -> bool:
    """Recognise a STAR file with crYOLO's column names."""
    if content.kind != "star":
        return False
    return _X in content.text and "_Width" in content.text and "_rlnCoordinateX" not in content.text


def read(content: Content) -> list[Picks]:
    """Read a CBOX file of one micrograph.

    Raises
    ------
    CoordinatesError
        If columns are missing, a value is not a number (the line is named), or it is a tomogram's.
    """
    path = content.path
    table = _table(content)
    x, y, width, height = (_column(path, table, label, None) for label in _NEEDED)
    if (np.minimum(width, height) <= 0).any():
        line = table.lines[int(np.argmax(np.minimum(width, height) <= 0))]
        raise CoordinatesError(path, f"line {line} has a box without a size", "Write it again with crYOLO")
    slices = _column(path, table, _Z, np.nan)
    if np.nan_to_num(slices).any():
        raise CoordinatesError(path, f"it holds positions in a tomogram (column {_Z})", "Give picks of micrographs")
    box = (width + height) / 2
    own = (_column(path, table, "_EstWidth", np.nan) + _column(path, table, "_EstHeight", np.nan)) / 2
    diameter = np.where(own > 0, own, box)
    centre = np.stack([x + width / 2, y + height / 2], 1)
    particles = Particles.of(centre, diameter, _column(path, table, "_Confidence", 1.0))
    words = {"filament numbers": "_filamentid", "angles": "_Angle"}
    unread = [word for word, label in words.items() if np.isfinite(_column(path, table, label, np.nan)).any()]
    return [Picks(content.name, particles, *noted(content.text), tuple(unread))]


def _table(content: Content) -> Table:
    """Return the table of the picks: the only one of boxes besides the ends of filaments."""
    path = content.path
    boxes = [t for t in content.tables if set(_NEEDED) <= set(t.columns)]
    found = [t for t in boxes if t.name != "filament_vertices"]
    found = [t for t in found if t.rows] or found[:1]
    if boxes and not found:
        raise CoordinatesError(path, "it holds ends of filaments and no picks", "Write it again with crYOLO")
    if not found:
        raise CoordinatesError(path, f"it has no columns {', '.join(_NEEDED)}", "Write it with crYOLO 1.8 or later")
    if len(found) > 1:
        lines = " and ".join(str(t.start) for t in found[:9])
        raise CoordinatesError(
            path, f"it holds {len(found)} tables of boxes (from lines {lines})", "Give a file for each micrograph"
        )
    return found[0]


def _column(path: Path, table: Table, label: str, default: float | None) -> np.ndarray:
    if label not in table.columns:
        return np.full(len(table.rows), default)
    return delimited.column(path, list(zip(table.lines, table.rows)), table.columns.index(label), default)


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield a CBOX file of one micrograph.

    Raises
    ------
    OutputError
        If neither a box size nor a diameter is known.
    """
    picks = from_contract(path, all_picks[0], options)
    particles, side = picks.particles, boxed(path, picks, options)
    own = np.where(np.isfinite(particles.diameter_px), particles.diameter_px, side)
    rows = (
        (
            float(x),
            float(y),
            "<NA>",
            float(box),
            float(box),
            "<NA>",
            float(size),
            float(size),
            f"{score:.8g}",
            "<NA>",
            "<NA>",
        )
        for (x, y), box, size, score in zip(particles.xy - side[:, None] / 2, side, own, particles.score)
    )
    table = star.format_table("cryolo", _COLUMNS, rows)
    include = star.format_table("cryolo_include", ("_slice_index",), ())
    yield path, f"{comment(picks, options)}\ndata_global\n\n_cbox_format_version 1.0\n\n{table}{include}"


FORMAT = Format(
    name="cbox",
    programs="crYOLO 1.8 and later",
    files="NAME.cbox for each micrograph: boxes with confidences",
    layout="each",
    ending=".cbox",
    endings=(".cbox",),
    sniff=sniff,
    read=read,
    write=write,
    carries=frozenset({"diameter", "score", "shape", "pixel_size"}),
    needs=frozenset({"diameter"}),
    notes=Notes(
        position="corner of the box, first row of an MRC file = 0; px",
        columns="block `cryolo`: `_CoordinateX/Y`, `_Width`, `_Height`, `_EstWidth`, `_EstHeight`, `_Confidence`",
        checked="crYOLO's documents and source",
    ),
)
