"""EMAN's .box files, which crYOLO and others write, too: ``x y width height [score]``, without a header.

Frame: x, y are the first pixel of the box, its lower left corner as EMAN shows it (EMAN wiki, "Other Miscellaneous
Files"); in an MRC file the lowest row is the first stored one, so that nothing is turned. For pictures whose first
stored row is shown at the top (TIFF, PNG, JPG) use the flip ``eman2``, and so for files that ``topaz convert``
wrote. The centre of a box of n pixels is its pixel n // 2 (EMAN's and RELION's convention), thus ``corner +
size / 2``; the size is the diameter. The fifth column is a score in crYOLO's files; EMAN 1 put a mode there, which is
negative and no score.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io import delimited
from upicker.io.formats.table import short
from upicker.io.picks import Picks, WriteOptions, boxed, from_contract
from upicker.particles import Particles

# EMAN 1: -3 is a particle, -1 and -2 the ends of a helix; written without a decimal point.
_MODES = {"-1", "-2", "-3"}


def read(path: Path, rows: list[tuple[int, list[str]]], name: str) -> list[Picks]:
    """Read a .box file from its numbered rows.

    Raises
    ------
    CoordinatesError
        For a cell that is not a number, or a box without a size; the line is named.
    """
    corner = np.stack([delimited.column(path, rows, at, None) for at in (0, 1)], 1)
    size = np.stack([delimited.column(path, rows, at, None) for at in (2, 3)], 1)
    if (size <= 0).any():
        line = rows[int(np.argmax((size <= 0).any(1)))][0]
        raise CoordinatesError(path, f"line {line} has a box without size", "Box files hold: x y width height")
    score: np.ndarray | float = 1.0
    if len(rows[0][1]) > 4:
        modes = all(len(cells) > 4 and cells[4] in _MODES for _, cells in rows)
        score = 1.0 if modes else delimited.column(path, rows, 4, 1.0)
    return [Picks(name, Particles.of(corner + size / 2, size.mean(1), score))]


def one(path: Path, picks: Picks, options: WriteOptions) -> str:
    """Return a .box file of one micrograph.

    Raises
    ------
    OutputError
        If neither a box size nor a diameter is known.
    """
    picks = from_contract(path, picks, options)
    side = boxed(path, picks, options)
    corners = picks.particles.xy - side[:, None] / 2
    return "".join(
        f"{short(x)}\t{short(y)}\t{short(size)}\t{short(size)}\t{_score(score)}\n"
        for (x, y), size, score in zip(corners, side, picks.particles.score)
    )


def _score(value: float) -> str:
    text = f"{value:.8g}"
    return f"{text}.0" if text in _MODES else text
