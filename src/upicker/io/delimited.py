"""Text files with values between commas, semicolons, tabs or blanks."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io.atomic import replacing

# Comments, quotes, and all ASCII that may be stripped from a cell or end a line, except for a plain line end.
_SPECIAL = '#;" \t\r\x0b\x0c\x1c\x1d\x1e\x1f'
_BLANK, _UNKNOWN = ("", "<na>"), ("nan", "na", "none")


def delimiter(text: str) -> str | None:
    """Return the delimiter of the first line with content; None means blanks.

    Tabs count as blanks between numbers, and as a delimiter below a header, so that names may hold blanks.
    """
    lines = (line for line in text.splitlines() if not _is_comment(line))
    first = next((content for line in lines if (content := line.split("#")[0].strip())), "")
    found = next((found for found in (",", ";") if found in first), None)
    if "\t" in first and first.count("\t") >= first.count(found or "\t") and not is_numeric(first.split()):
        return "\t"
    return found


def write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as CSV, whole or not at all; paths may have bytes that are no text.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as f:
        table = csv.writer(f, lineterminator="\n")
        table.writerow(columns)
        table.writerows(rows)


def rows(text: str, delimiter: str | None) -> Iterable[tuple[int, list[str]]]:
    """Yield line numbers, from 1, and stripped cells; blank lines and comments (``#``, SPIDER's ``;``) are left out."""
    if delimiter == "," and text.isascii() and not any(character in text for character in _SPECIAL):
        # As most files are: several times as fast.
        yield from ((number, line.split(",")) for number, line in enumerate(text.split("\n"), 1) if line)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or _is_comment(line):
            continue
        cells = line.split(delimiter) if delimiter is None or '"' not in line else _quoted(line, delimiter)
        cells = [cell.strip() for cell in cells]
        if cells:
            yield number, cells


def _is_comment(line: str) -> bool:
    """Tell whether a line is a comment; with several semicolons it is a row whose first cell is blank."""
    line = line.lstrip()
    return line[:1] == "#" or (line[:1] == ";" and line.count(";") == 1)


def _quoted(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a cell longer than the reader's limit
        return line.split(delimiter)


def is_numeric(cells: Sequence[str]) -> bool:
    """Tell whether all cells are numbers or blank: such a first line is not a header."""
    return all(_is_number(cell) or not cell for cell in cells)


def plain(header: Sequence[str]) -> list[str]:
    """Return the names of columns in lower case, letters and digits only, so that they can be compared."""
    return [_plain(cell) for cell in header]


@lru_cache(maxsize=1024)
def _plain(cell: str) -> str:
    """Return a cell in lower case, letters and digits only; the headers of very many files are mostly the same."""
    return re.sub(r"[^a-z0-9]", "", cell.lower())


def short(value: float) -> str:
    """Write a number with up to 4 decimals, and NaN as nothing."""
    if not math.isfinite(value):
        return ""
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _is_number(cell: str) -> bool:
    """Tell whether a cell is a number; 1_0 and the digits of other scripts, which Python reads, are none."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def refuse_uneven(path: Path, rows: list[tuple[int, list[str]]], first: list[str]) -> None:
    """Refuse rows with other numbers of cells than the `first`, blank ones at the end and comments not counted.

    Raises
    ------
    CoordinatesError
        For the first of them; names the line of `path`.
    """
    if all(len(cells) == len(first) for _, cells in rows):
        return
    needed = max((i for i, cell in enumerate(first, 1) if cell), default=0)
    for line, cells in rows:
        more = next((cell for cell in cells[len(first) :] if cell), "#")
        if len(cells) < needed or not more.startswith("#"):
            raise CoordinatesError(
                path,
                f"line {line} has {len(cells)} values, and the first line {len(first)}",
                "The file is damaged or cut short: write it again",
            )


def column(path: Path, rows: list[tuple[int, list[str]]], at: int, default: float | None) -> np.ndarray:
    """Return column `at` of numbered rows as `(n,)` float64.

    A blank cell is `default`, and so is NaN where that says "unknown", too.

    Raises
    ------
    CoordinatesError
        For a cell that is not a finite number, or blank where there is no default; names the line of `path`.
    """
    try:
        words = [cells[at] for _, cells in rows]
        values = np.fromiter(map(float, words), np.float64, len(rows))
    except (ValueError, IndexError):
        pass
    else:
        together = "".join(words)
        if np.isfinite(values).all() and together.isascii() and "_" not in together:
            return values
    values = np.empty(len(rows))
    for i, (line, cells) in enumerate(rows):
        cell = cells[at] if at < len(cells) else ""
        unknown = default is None or math.isnan(default)
        blank = cell.lower() in (_BLANK + _UNKNOWN if unknown else _BLANK)
        value = default if blank else float(cell) if _is_number(cell) else None
        if value is None or (not blank and not math.isfinite(value)):
            raise CoordinatesError(
                path, f"line {line} has {cell[:60]!r} where a number should be", "Correct or remove the line"
            )
        values[i] = value
    return values
