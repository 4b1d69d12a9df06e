"""Text files with values between commas, semicolons or blanks."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError


def delimiter(text: str) -> str | None:
    """Return the first of the usual delimiters in the first line with content; None means blanks."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    first = next((line for line in lines if line), "")
    return next((mark for mark in (",", ";") if mark in first), None)


def rows(text: str, delimiter: str | None) -> Iterable[tuple[int, list[str]]]:
    """Yield line numbers, from 1, and stripped cells; blank lines and comments (``#``) are left out."""
    lines = text.splitlines()
    if delimiter is None:
        split: Iterable[list[str]] = (line.split() for line in lines)
    else:
        split = (row for line in lines for row in (list(csv.reader([line], delimiter=delimiter)) or [[]]))
    for number, cells in enumerate(split, 1):
        if cells and not cells[0].lstrip().startswith("#"):
            yield number, [cell.strip() for cell in cells]


def is_numeric(cells: Sequence[str]) -> bool:
    """Tell whether all cells are numbers or blank: then a first line is no header."""
    return all(_is_number(cell) or not cell for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def column(path: Path, rows: list[tuple[int, list[str]]], at: int, default: float | None) -> np.ndarray:
    """Return column `at` of numbered rows as `(n,)` float64.

    A blank or missing cell is `default`.

    Raises
    ------
    CoordinatesError
        For a cell that is not a finite number, or blank where there is no default; names the line of `path`.
    """
    values = np.empty(len(rows))
    for i, (line, cells) in enumerate(rows):
        cell = cells[at] if at < len(cells) else ""
        blank = not cell or cell.lower() in ("nan", "na", "none", "<na>")
        value = default if blank else float(cell) if _is_number(cell) else None
        if value is None or (not blank and not math.isfinite(value)):
            raise CoordinatesError(
                path, f"line {line} has {cell!r} where a number should be", "Correct or remove the line"
            )
        values[i] = value
    return values
