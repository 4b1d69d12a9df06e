"""EMAN's .box files, which crYOLO and others write, too: ``x y width height [score]``, without a header.

Frame: x, y are the first pixel of the box, its lower left corner as EMAN shows it (EMAN wiki, "Other Miscellaneous
Files"); in an MRC file the lowest row is the first stored one, so no flip is needed. For images whose first
stored row is shown at the top (TIFF, PNG, JPG) use the flip ``eman2``, and also for files that ``topaz convert``
wrote. The centre of a box of n pixels is its pixel n // 2 (EMAN's and RELION's convention), thus ``corner +
size / 2``; the size is the diameter. The fifth column is a score in crYOLO's files; EMAN 1 put a mode there, which is
negative and no score. The start and the end of a filament (modes -1 and -2) are no particles, and are refused.

Tables of other programs without a header have other columns in these places, such as IMOD's points (object, contour,
x, y, z). So columns 3 and 4 must be the sides of boxes: squares, or all of one size. In a file named ``.box`` they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io import delimited
from upicker.io.delimited import short
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.formats.headerless import is_spider
from upicker.io.picks import Picks, WriteOptions, boxed, from_contract
from upicker.particles import Particles

# EMAN 1: -3 is a particle, -1 and -2 the ends of a helix; written without a decimal point.
_START, _END = "-1", "-2"
_MODES = {_START, _END, "-3"}


def sniff(content: Content) -> bool:
    """Recognise rows of four or more numbers without a header; in a file named ``.box`` any numbers, or none."""
    named = content.path.suffix == ".box"
    if content.kind in ("empty", "text") and not content.text.strip():
        return named
    first = content.rows[0][1] if content.rows else []
    if not first or not delimited.is_numeric(first) or is_spider(content):
        return False
    return named or (content.delimiter is None and len(first) >= 4)


def read(content: Content) -> list[Picks]:
    """Read a .box file of one micrograph.

    Raises
    ------
    CoordinatesError
        For a cell that is not a number, or a box without a size; the line is named. Also for the ends of filaments,
        and for columns that are no boxes.
    """
    path, rows = content.path, content.rows
    if not rows:
        return [Picks(content.name, Particles.of([]))]
    modes = [cells[4] for _, cells in rows if len(cells) > 4 and cells[4] in _MODES]
    _check_no_ends(path, modes, len(rows))
    delimited.refuse_uneven(path, rows, rows[0][1])
    corner = np.stack([delimited.column(path, rows, at, None) for at in (0, 1)], 1)
    size = np.stack([delimited.column(path, rows, at, None) for at in (2, 3)], 1)
    if (size <= 0).any():
        line = rows[int(np.argmax((size <= 0).any(1)))][0]
        raise CoordinatesError(path, f"line {line} has a box without a size", "Box files hold: x y width height")
    _check_boxes(path, rows, size)
    score: np.ndarray | float = 1.0
    if len(rows[0][1]) > 4:
        score = 1.0 if len(modes) == len(rows) else delimited.column(path, rows, 4, 1.0)
    return [Picks(content.name, Particles.of(corner + size / 2, size.mean(1), score))]


def _check_no_ends(path: Path, modes: list[str], rows: int) -> None:
    """Refuse the starts and ends of filaments."""
    starts, ends = modes.count(_START), modes.count(_END)
    if len(modes) == rows and starts + ends:
        found = f"these are starts and ends of {max(starts, ends)} filaments (marks -1 and -2), not particles"
        remedy = "Save the segments along the filaments as particles, e.g. with e2helixboxer.py --ptcl-coords"
        raise CoordinatesError(path, found, remedy)


def _check_boxes(path: Path, rows: list[tuple[int, list[str]]], size: np.ndarray) -> None:
    """Refuse tables in which columns 3 and 4 are no sides of boxes."""
    count = len(rows[0][1])
    squares = bool((size[:, 0] == size[:, 1]).all())
    of_one_size = len(size) > 1 and bool((size == size[0]).all())
    if count > 5 or not (squares or of_one_size or path.suffix.lower() == ".box"):
        sides = ", ".join(f"{width:g} x {height:g}" for width, height in size[:2])
        found = (
            f"it has {count} columns without a header, and columns 3 and 4 ({sides}) do not seem to be sides of boxes"
        )
        remedy = "Box files hold x y width height; write points of other programs as CSV with the header x,y"
        raise CoordinatesError(path, found, remedy)


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield a .box file of one micrograph.

    Raises
    ------
    OutputError
        If neither a box size nor a diameter is known.
    """
    picks = from_contract(path, all_picks[0], options)
    side = boxed(path, picks, options)
    corners = picks.particles.xy - side[:, None] / 2
    yield (
        path,
        "".join(
            f"{short(x)}\t{short(y)}\t{short(size)}\t{short(size)}\t{_score(score)}\n"
            for (x, y), size, score in zip(corners, side, picks.particles.score)
        ),
    )


def _score(value: float) -> str:
    text = f"{value:.8g}"
    return f"{text}.0" if text in _MODES else text


FORMAT = Format(
    name="box",
    programs="EMAN 1 and crYOLO",
    files="NAME.box for each micrograph: boxes with scores",
    layout="each",
    ending=".box",
    endings=(".box",),
    sniff=sniff,
    read=read,
    write=write,
    carries=frozenset({"diameter", "score"}),
    needs=frozenset({"diameter"}),
    notes=Notes(
        position="corner of the box, first row of an MRC file = 0; px",
        columns="x, y, width, height, perhaps score; no header",
        checked="EMAN's documents",
    ),
)
