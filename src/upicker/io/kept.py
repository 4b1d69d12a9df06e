"""Lists of some micrographs, for other programs: STAR for RELION, a ``.cs`` table of exposures, CSV, or plain text.

What was given as RELION's list or as cryoSPARC's exposures is written as it was, without the rows of the others: with
its optics groups, CTF and all other columns. From files alone a STAR list is made anew, with pixel sizes where they are
known; a ``.cs`` table cannot be, as cryoSPARC knows exposures by their uid.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from upicker.errors import ConfigError, OutputError, UPickerWarning, warn
from upicker.io import lists, npy, star
from upicker.io.atomic import replacing
from upicker.io.lists import Listed

SUFFIXES = (".star", ".cs", ".csv", ".txt")
_GROUP, _GROUP_NAME, _NAME = "_rlnOpticsGroup", "_rlnOpticsGroupName", "_rlnMicrographName"
_SIZE = "_rlnMicrographPixelSize"


def check(path: Path, given: Sequence[str]) -> None:
    """Refuse an output of an unknown kind, or one that cannot be made of what was given.

    Parameters
    ----------
    path : Path
        The file to write.
    given : sequence of str
        Files, folders, patterns and lists of micrographs, as the user gave them.

    Raises
    ------
    ConfigError
        If it is one.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError("--output", f"{path} ends in none of {', '.join(SUFFIXES)}", "Name it e.g. good.star")
    if suffix == ".cs" and _source(given, suffix) is None:
        found = "a .cs table can only be made of cryoSPARC's own, which knows the uid of each exposure"
        raise ConfigError("--output", found, "Give one .cs file of exposures as MICS, or name the output good.txt")


def write(
    path: Path, kept: Sequence[Listed], given: Sequence[str], pixel_sizes: Mapping[Path, float | None] | None = None
) -> None:
    """Write a list of some micrographs, in the format of its suffix, whole or not at all.

    Parameters
    ----------
    path : Path
        The file to write: ``.star``, ``.cs`` (and ``.csg``), ``.csv`` or ``.txt``.
    kept : sequence of Listed
        The micrographs, as `upicker.io.micrographs.entries` returns them.
    given : sequence of str
        What the user gave.
    pixel_sizes : mapping of Path to float, optional
        Angstrom per pixel, for micrographs that no list gives one.

    Raises
    ------
    ConfigError
        As `check`.
    OutputError
        If it cannot be written.
    """
    check(path, given)
    source = _source(given, path.suffix.lower())
    match path.suffix.lower():
        case ".star" if source is not None:
            text = _rows_of_star(source, {entry.name for entry in kept})
        case ".star":
            text = _new_star(path, kept, pixel_sizes or {})
        case ".cs":
            assert source is not None, "it was checked"
            _write_exposures(path, source, {entry.uid for entry in kept}, {entry.name for entry in kept})
            return
        case ".csv":
            table = io.StringIO()
            csv.writer(table, lineterminator="\n").writerows([["micrograph"], *([_named(one)] for one in kept)])
            text = table.getvalue()
        case _:
            text = "".join(f"{_named(one)}\n" for one in kept)
    _write(path, text)


def _source(given: Sequence[str], suffix: str) -> Path | None:
    """Return the one list that was given, if it is of that kind."""
    path = Path(given[0]).expanduser() if len(given) == 1 else Path()
    if not path.is_file() or not lists.is_list(path):
        return None
    with path.open("rb") as file:
        is_table = file.read(len(npy.MAGIC)) == npy.MAGIC
    if is_table or suffix != ".star":
        return path if is_table and suffix == ".cs" else None
    return path if star.is_star(os.fsdecode(path.read_bytes())) else None


def _rows_of_star(source: Path, names: set[str]) -> str:
    """Return a STAR file with those rows of its tables of micrographs that name one of some; all else is kept."""
    text = "# version 30001\n\n"
    for table in star.parse(os.fsdecode(source.read_bytes()), source):
        label = next((label for label in lists.NAMES if label in table.columns), None)
        rows = table.rows if label is None else [row for row in table.rows if row[table.columns.index(label)] in names]
        text += star.format_table(table.name, table.columns, rows)
    return text


def _new_star(path: Path, kept: Sequence[Listed], pixel_sizes: Mapping[Path, float | None]) -> str:
    """Return a list of micrographs as RELION 3.1 and later have it; columns that only some have are left out."""
    optics = [_optics(entry, pixel_sizes.get(entry.path)) for entry in kept]
    groups = list(dict.fromkeys(optics))
    labels, some = _common([dict(group) for group in groups])
    ctf, others = _common([entry.ctf or {} for entry in kept])
    if left_out := [*some, *others]:
        found = f"{', '.join(left_out)} are known of some of the micrographs only, and left out"
        warn(UPickerWarning(path, found, "Give one list, or lists with the same columns"))
    rows = [
        [_named(entry), groups.index(group) + 1, *((entry.ctf or {})[label] for label in ctf)]
        for entry, group in zip(kept, optics, strict=True)
    ]
    text = "# version 30001\n\n"
    if not labels:
        return text + star.format_table("micrographs", [_NAME, *ctf], ([name, *more] for name, _, *more in rows))
    columns = [_GROUP, _GROUP_NAME, *(label for label in labels if label != _GROUP_NAME)]
    known = [{_GROUP_NAME: f"opticsGroup{number}", **dict(group)} for number, group in enumerate(groups, 1)]
    numbered = ([number, *(one[label] for label in columns[1:])] for number, one in enumerate(known, 1))
    text += star.format_table("optics", columns, numbered) + "\n# version 30001\n\n"
    return text + star.format_table("micrographs", [_NAME, _GROUP, *ctf], rows)


def _common(rows: Sequence[Mapping[str, str]]) -> tuple[list[str], list[str]]:
    """Return the labels that all rows have, and those that only some have."""
    labels = list(dict.fromkeys(label for row in rows for label in row))
    common = [label for label in labels if all(label in row for row in rows)]
    return common, [label for label in labels if label not in common]


def _optics(entry: Listed, pixel_size_A: float | None) -> tuple[tuple[str, str], ...]:
    """Return the columns of an optics group, without its number; empty if nothing is known."""
    known = {label: word for label, word in (entry.optics or {}).items() if label != _GROUP}
    size_A = entry.pixel_size_A or pixel_size_A
    return tuple((known | ({_SIZE: f"{size_A:.6f}"} if size_A and _SIZE not in known else {})).items())


def _named(entry: Listed) -> str:
    """Return the name of a micrograph in a list: as it was listed; relative to the current folder if it lies there."""
    here = os.path.relpath(entry.path) if not entry.path.is_absolute() else entry.name
    return entry.name if entry.name != str(entry.path) else here


def _write_exposures(path: Path, source: Path, uids: set[int | None], names: set[str]) -> None:
    """Write those rows of cryoSPARC's table that have one of some uids, or paths, and a group that imports them."""
    table = npy.table(source, source.read_bytes())
    if "uid" in (table.dtype.names or ()):
        rows = table[np.isin(table["uid"], np.array([uid for uid in uids if uid is not None], np.uint64))]
    else:
        label = next(label for label in (f"{blob}/path" for blob in lists.BLOBS) if label in (table.dtype.names or ()))
        rows = table[[os.fsdecode(value).lstrip(">") in names for value in table[label].tolist()]]
    stream = io.BytesIO()
    np.lib.format.write_array(stream, rows, version=(1, 0), allow_pickle=False)
    with replacing(path) as temporary:
        temporary.write_bytes(stream.getvalue())
    _write(path.with_suffix(".csg"), _group(path.name, rows))


def _group(name: str, rows: np.ndarray) -> str:
    """Return the .csg file that makes cryoSPARC take exposures of the .cs file `name` as a result group."""
    slots = dict.fromkeys(field.partition("/")[0] for field in rows.dtype.names or () if "/" in field)
    results = "".join(
        f"  {slot}:\n    metafile: '>{name}'\n    num_items: {len(rows)}\n    type: exposure.{slot}\n" for slot in slots
    )
    head = "group:\n  description: Micrographs kept by UPicker\n  name: exposures\n  title: Exposures kept\n"
    head += "  type: exposure\n"
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"created: {created}\n{head}results:\n{results}version: v4.0.0\n"


def _write(path: Path, text: str) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, "utf-8", "surrogateescape")
    except UnicodeError as error:
        raise OutputError(path, f"a name cannot be written ({error})", "Rename the micrograph") from error
