"""EMAN's .box files, which crYOLO and others write, too: ``x y width height [score]``, without a header.

Frame: x, y are the first pixel of the box, its lower left corner as EMAN shows it (EMAN wiki, "Other Miscellaneous
Files"); in an MRC file the lowest row is the first stored one, so no flip is needed. For images whose first
stored row is shown at the top (TIFF, PNG, JPG) use the flip ``eman2``, and also for files that ``topaz convert``
wrote. The centre of a box of n pixels is its pixel n // 2 (EMAN's and RELION's convention), thus ``corner +
size / 2``; the size is the diameter. The fifth column is a score in crYOLO's files; EMAN 1 put a mode there, which is
negative and no score.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io import delimited
from upicker.io.delimited import short
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.picks import Picks, ReadOptions, WriteOptions, boxed, from_contract
from upicker.particles import Particles

# EMAN 1: -3 is a particle, -1 and -2 the ends of a helix; written without a decimal point.
_MODES = {"-1", "-2", "-3"}


def sniff(content: Content) -> bool:
    """Recognise rows of four or more numbers without a header; a file named ``.box`` may be empty."""
    if content.kind in ("empty", "text") and not content.text.strip():
        return content.path.suffix == ".box"
    first = content.rows[0][1] if content.rows else []
    return content.delimiter is None and len(first) >= 4 and delimited.is_numeric(first)


def read(content: Content, options: ReadOptions) -> list[Picks]:
    """Read a .box file of one micrograph.

    Raises
    ------
    CoordinatesError
        For a cell that is not a number, or a box without a size; the line is named.
    """
    path, rows = content.path, content.rows
    if not rows:
        return [Picks(content.name, Particles.of([]))]
    corner = np.stack([delimited.column(path, rows, at, None) for at in (0, 1)], 1)
    size = np.stack([delimited.column(path, rows, at, None) for at in (2, 3)], 1)
    if (size <= 0).any():
        line = rows[int(np.argmax((size <= 0).any(1)))][0]
        raise CoordinatesError(path, f"line {line} has a box without a size", "Box files hold: x y width height")
    score: np.ndarray | float = 1.0
    if len(rows[0][1]) > 4:
        modes = all(len(cells) > 4 and cells[4] in _MODES for _, cells in rows)
        score = 1.0 if modes else delimited.column(path, rows, 4, 1.0)
    return [Picks(content.name, Particles.of(corner + size / 2, size.mean(1), score))]


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
