"""Tables of numbers without a header: which columns hold the positions, if that is certain.

Known are ``x y [diameter [score]]`` with one diameter for all, and SPIDER's documents, ``key count value ...``, whose
values are the particle's number, x and y (as Scipion and Appion write them), or x and y. Other programs have other
columns in the same places: IMOD's points end in z, IMAGIC's lists (``.plt``) begin with y, boxes have a width and a
height. Nothing of these is guessed.
"""

from __future__ import annotations

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io import delimited
from upicker.io.formats.content import Content

_ORDER = ("x", "y", "diameter", "score")
_WITH_HEADER = "Write it as CSV with the header x,y,diameter,score"
_MIN_DIAMETER_PX = 4


def is_spider(content: Content) -> bool:
    """Recognise a SPIDER document: keys 1, 2, 3 ..., and the number of values that follow in the row."""
    rows = [cells for _, cells in content.rows]
    if content.delimiter is not None or not rows or len(rows[0]) < (4 if len(rows) > 1 else 5):
        return False
    values = len(rows[0]) - 2
    return all(
        len(cells) == values + 2 and cells[0] == str(key) and cells[1] == str(values) and delimited.is_numeric(cells)
        for key, cells in enumerate(rows, 1)
    )


def columns(content: Content) -> dict[str, int]:
    """Return the index of each known column.

    Raises
    ------
    CoordinatesError
        If it is not certain what a column holds.
    """
    path, rows = content.path, content.rows
    count = len(rows[0][1])
    if path.suffix.lower() == ".plt":
        found = "it is a list of IMAGIC (.plt), whose first column is y, the second x"
        raise CoordinatesError(path, found, "Write it as CSV with the header y,x")
    if is_spider(content):
        return _spider(content)
    if not 2 <= count <= 4:
        raise CoordinatesError(path, f"it has {count} columns and no header naming them", _WITH_HEADER)
    if count > 2:
        _check_not_numbered(content)
        _check_diameters(content)
    if count > 3:
        _check_scores(content)
    return dict(zip(_ORDER, range(count)))


def _spider(content: Content) -> dict[str, int]:
    count = len(content.rows[0][1])
    if count == 4:
        return {"x": 2, "y": 3}
    numbers = delimited.column(content.path, content.rows, 2, None)
    if not np.array_equal(numbers, np.arange(1, len(numbers) + 1)) or count > 6:
        found = f"it is a SPIDER document of {count - 2} values, not of number, x and y"
        raise CoordinatesError(content.path, found, "Write the positions as CSV with the header x,y")
    return {"x": 3, "y": 4} | ({"score": 5} if count == 6 else {})


def _check_not_numbered(content: Content) -> None:
    """Refuse a first column that counts the rows."""
    words = [cells[0] for _, cells in content.rows]
    if any(words == [str(i) for i in range(first, first + len(words))] for first in (0, 1)):
        found = "it has no header, and its first column counts the rows"
        raise CoordinatesError(content.path, found, "Name the columns in a first line, e.g. number,x,y")


def _check_scores(content: Content) -> None:
    """Refuse a fourth column that is the side of boxes rather than a score."""
    values = delimited.column(content.path, content.rows, 3, 1.0)
    if (values == values[0]).all() and values[0] > 1 and values[0] % 1 == 0:
        found = f"it has no header, and its fourth column ({values[0]:g}) does not seem to be a score"
        remedy = "Name the columns in a first line, e.g. x,y,diameter,score; boxes are read from files named .box"
        raise CoordinatesError(content.path, found, remedy)


def _check_diameters(content: Content) -> None:
    """Refuse a third column that is no diameter: z, a score or a class."""
    values = delimited.column(content.path, content.rows, 2, 0.0)
    low, high = float(values.min()), float(values.max())
    if low != high or (values[0] and low < _MIN_DIAMETER_PX):
        what = f"{low:g} to {high:g}" if low != high else f"{low:g}"
        found = f"it has no header, and its third column ({what}) does not seem to be one diameter for all"
        raise CoordinatesError(content.path, found, "Name the columns in a first line, e.g. x,y,score or x,y,z")
