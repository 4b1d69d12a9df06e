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

from upicker.errors import CoordinatesError, OutputError
from upicker.io.names import SUFFIXES

_WORD = re.compile(r"'[^']*'(?=\s|$)|\"[^\"]*\"(?=\s|$)|\S+")
# What a line may begin with that is no row; and the words that readers of STAR files keep for themselves.
_RESERVED = ("data_", "loop_", "_")
_LOOP = re.compile(r"^[ \t]*loop_[ \t]*\r?$", re.MULTILINE)
_LABEL = re.compile(r"_[A-Za-z]\w*")
_QUOTED = re.compile(r"[#_'\"]|(?:data|loop|save|global|stop)_", re.IGNORECASE)
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
    start : the number of the line with which it begins.
    """

    name: str
    columns: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    start: int = 0


def is_star(text: str) -> bool:
    """Recognise a STAR file: by a loop, or by a block or a label before any line of values."""
    if "loop_" in text and _LOOP.search(text):
        return True
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    if not first or "," in first or ";" in first:
        return False
    word, *more = first.split()
    if _LABEL.fullmatch(word):
        return True
    # Names such as data_1/a.mrc make a list of names, unless labels follow.
    named = re.fullmatch(r"data_\w*", word) or (word.startswith("data_") and re.search(r"^[ \t]*_[A-Za-z]", text, re.M))
    return bool(named) and (not more or more[0].startswith("#"))


def parse(text: str, where: str | Path) -> list[Table]:
    """Read all blocks of a STAR file's `text`.

    Other programs do not quote names such as ``data_1/a.mrc``, ``loop_`` or ``_a.mrc``: within a loop, a line with the
    values of a row is a row, whatever it begins with.

    Raises
    ------
    CoordinatesError
        If a row has fewer or more words than there are columns or stands outside of a loop, a table has a column
        twice or before the first block, or the last loop has none; `where` names the file.
    """
    tables: list[Table] = []
    looped = False
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        words = _words(line)
        if not words:
            continue
        # Quoted words are values, whatever they begin with.
        first = "" if line.lstrip()[0] in "'\"" else words[0]
        in_loop = looped and bool(tables[-1].columns)
        if in_loop and (not first.startswith(_RESERVED) or _is_row(words, tables[-1], lines, number)):
            _add_row(tables[-1], words, number, where)
        elif first.startswith("data_"):
            tables.append(Table(first[5:], start=number))
            looped = False
        elif first == "loop_":
            if not tables or tables[-1].columns:
                tables.append(Table(tables[-1].name if tables else "", start=number))
            looped = True
        elif not tables:
            _refuse_label(first, number, where)
        elif first.startswith("_"):
            _add_label(tables[-1], words, number, looped, where)
        elif looped:
            _add_row(tables[-1], words, number, where)
        else:
            raise CoordinatesError(where, f"line {number} has values outside a loop_", "Write the file again")
    _refuse_cut(tables, looped, where)
    return tables


def _refuse_label(word: str, number: int, where: str | Path) -> None:
    """Refuse a label before the first block: its table has lost its beginning, and its rows would be passed over."""
    if word.startswith("_"):
        found = f"line {number} names the column {word[:60]} before the first data_ line"
        raise CoordinatesError(where, found, "The file is cut short or damaged: write it again")


def _refuse_cut(tables: list[Table], looped: bool, where: str | Path) -> None:
    if looped and not tables[-1].columns:
        found = f"its last loop_, in the table from line {tables[-1].start}, has no columns"
        raise CoordinatesError(where, found, "The file is cut short: write it again")


def _is_row(words: list[str], table: Table, lines: Sequence[str], number: int) -> bool:
    """Tell whether line `number`, which is in a loop but begins like a block, a loop or a label, is one of its rows."""
    if words[0].startswith("_"):
        # A label stands alone, or with its number, and does not end as the name of an image.
        is_image = words[0].lower().endswith(SUFFIXES)
        return bool(table.rows) or is_image or words[1:] not in ([], [str(len(table.columns) + 1)])
    if len(words) > 1 or words[0] == "loop_":
        return len(words) > 1
    # A block has a loop or labels; a name alone is a row, in a table of several columns one that is cut short.
    after = next((words for i in range(number, len(lines)) if (words := _words(lines[i]))), [])
    return not (after == ["loop_"] or (len(after) > 1 and after[0].startswith("_")))


def optics_of(table: Table, tables: Sequence[Table]) -> Table | None:
    """Return the table of optics groups that holds for one of `tables`: the last before it, else the first behind."""
    at = next(i for i, other in enumerate(tables) if other is table)
    order = (*reversed(tables[:at]), *tables[at + 1 :])
    return next((other for other in order if other.name == "optics" and "_rlnOpticsGroup" in other.columns), None)


def format_table(name: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write one looped block; floats keep 1e-6, words with blanks are quoted.

    Raises
    ------
    OutputError
        If a word needs quotes, and holds both kinds of them.
    """
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
    if text and not re.search(r"\s", text) and not _QUOTED.match(text):
        return text
    if '"' in text and "'" in text:
        raise OutputError(text, "a STAR file cannot hold a name with both kinds of quotes", "Rename the micrograph")
    return f"'{text}'" if '"' in text else f'"{text}"'
