"""STAR files: tables of words.

A small reader of our own, because the line of a bad value has to be named, words such as ``00123`` have to
stay words, and files of other programs (comments between rows, blank lines, no ``data_`` line) have to be
read whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from upicker.errors import CoordinatesError

_WORD = re.compile(r"'[^']*'(?=\s|$)|\"[^\"]*\"(?=\s|$)|\S+")
# Far more than any program writes; a limit, so that looking for duplicates stays quick.
_MOST_COLUMNS = 2000


@dataclass
class Table:
    """One block of a STAR file.

    Attributes
    ----------
    name : what follows ``data_``; may be empty.
    columns : their labels, each with its leading underscore.
    rows : words, one list per row; a block of ``_label value`` lines is a table of one row.
    lines : the row's line number in the file, from 1.
    """

    name: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)


def parse(text: str, where: str | Path) -> list[Table]:
    """Read all blocks of a STAR file's `text`.

    Raises
    ------
    CoordinatesError
        If a row has fewer or more words than there are columns or stands outside of a loop, or a table has a
        column twice; `where` names the file.
    """
    tables: list[Table] = []
    looped = False
    for number, line in enumerate(text.splitlines(), 1):
        words = _words(line)
        if not words:
            continue
        # Quoted words are values, whatever they begin with.
        first = "" if line.lstrip()[0] in "'\"" else words[0]
        if first.startswith("data_"):
            tables.append(Table(first[5:]))
            looped = False
        elif first == "loop_":
            if not tables or tables[-1].columns:
                tables.append(Table(tables[-1].name if tables else ""))
            looped = True
        elif not tables:
            continue
        elif first.startswith("_") and not (looped and tables[-1].rows):
            _add_label(tables[-1], words, number, looped, where)
        elif looped:
            _add_row(tables[-1], words, number, where)
        else:
            raise CoordinatesError(where, f"line {number} has values outside a loop_", "Write the file again")
    return tables


def format_table(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write one looped block; floats keep 1e-6, words with blanks are quoted."""
    head = [f"data_{name}", "", "loop_", *(f"{column} #{i}" for i, column in enumerate(columns, 1))]
    body = ("  ".join(_formatted(value) for value in row) for row in rows)
    return "\n".join([*head, *body, "", ""])


def _words(line: str) -> list[str]:
    """Split a line; a word that begins with ``#`` begins a comment."""
    if "#" not in line and "'" not in line and '"' not in line:
        return line.split()
    words = []
    for word in _WORD.findall(line):
        if word.startswith("#"):
            break
        quoted = len(word) > 1 and word[0] in "'\"" and word[-1] == word[0]
        words.append(word[1:-1] if quoted else word)
    return words


def _add_label(table: Table, words: list[str], number: int, looped: bool, where: str | Path) -> None:
    if len(table.columns) >= _MOST_COLUMNS:
        raise CoordinatesError(
            where, f"line {number} names column {_MOST_COLUMNS + 1}", "This is not a STAR file of particles"
        )
    if words[0] in table.columns:
        raise CoordinatesError(
            where, f"line {number} names the column {words[0][:60]} a second time", "Remove or rename one of them"
        )
    table.columns.append(words[0])
    if looped:
        return
    if not table.rows:
        table.rows.append([])
        table.lines.append(number)
    table.rows[0].append(words[1] if len(words) > 1 else "")


def _add_row(table: Table, words: list[str], number: int, where: str | Path) -> None:
    if len(words) != len(table.columns):
        raise CoordinatesError(
            where,
            f"line {number} has {len(words)} values for {len(table.columns)} columns",
            "The file is cut short or damaged: write it again",
        )
    table.rows.append(words)
    table.lines.append(number)


def _formatted(value: object) -> str:
    if isinstance(value, float):
        return f"{value:13.6f}"
    text = str(value)
    if text and not re.search(r"\s", text) and text[0] not in "#_'\"" and not text.startswith(("data_", "loop_")):
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'
