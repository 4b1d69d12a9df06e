"""Opening a coordinates file and telling its format by what it holds; its name is asked last."""

from __future__ import annotations

import re
from pathlib import Path

from upicker.errors import CoordinatesError
from upicker.io import delimited
from upicker.io.formats import box, cbox, coco, cryosparc, eman2, jsons, npy, relion, table
from upicker.io.picks import Picks, ReadOptions
from upicker.particles import Particles

# Of several files for one micrograph the first is taken: labels by hand before automatic ones.
PREFERENCE = (".csv", ".tsv", ".star", "_manualpick.star", "_autopick.star", ".box", ".cbox", "_info.json")
_WRITE_AGAIN = "Write it as CSV with the header x,y,diameter,score"


def parsed(path: Path, content: bytes, options: ReadOptions) -> list[Picks]:
    """Read the content of a coordinates file, in its own pixels.

    Raises
    ------
    CoordinatesError
        If it is of no known format, or damaged.
    """
    name = name_of(path, *PREFERENCE)
    if content.startswith(npy.MAGIC):
        return cryosparc.read(path, content)
    text = decoded(path, content)
    if not text.strip() and path.suffix == ".box":
        return [Picks(name, Particles.of([]))]
    if text.lstrip()[:1] in ("{", "["):
        return _read_json(path, text, name)
    if is_star(text):
        return cbox.read(path, text, name) if cbox.is_cbox(text) else relion.read(path, text, name, options)
    if cryosparc.is_group(text):
        return cryosparc.read_group(path, text)
    mark = delimited.delimiter(text)
    rows = [(number, cells) for number, cells in delimited.rows(text, mark) if any(cells)]
    if not rows:
        raise CoordinatesError(path, "it holds no line with values", _WRITE_AGAIN)
    if mark is None and delimited.is_numeric(rows[0][1]) and len(rows[0][1]) >= 4:
        return box.read(path, rows, name)
    return table.read(path, rows, name)


def load(path: Path) -> bytes:
    """Return all of a file.

    Raises
    ------
    CoordinatesError
        If it is missing, empty, or no regular file. A file named ``.box`` may be empty: it has no header.
    """
    try:
        # Devices and pipes have no end.
        if path.exists() and not path.is_file():
            raise CoordinatesError(path, "it is no file", "Give a file of coordinates")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CoordinatesError(path, f"cannot be read ({reason})", "Check the name and that you may read it") from error
    if not content and path.suffix != ".box":
        raise CoordinatesError(path, "the file is empty", "For a micrograph without particles write the header x,y")
    return content


def decoded(path: Path, content: bytes) -> str:
    """Return a file's text.

    Raises
    ------
    CoordinatesError
        If it is no text in UTF-8.
    """
    try:
        if b"\0" in content:
            raise ValueError("it holds zero bytes")
        return content.decode("utf-8-sig")
    except ValueError as error:
        raise CoordinatesError(
            path, "it is not a text file in UTF-8", "Give coordinates in a known format; save texts as UTF-8"
        ) from error


def is_star(text: str) -> bool:
    """Tell a STAR file by its first words: ``data_``, ``loop_`` or a label, before any line of values."""
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    words = first.split()
    if words and (words[0].startswith("_") or re.fullmatch(r"data_[^,;]*", words[0])) and not re.search("[,;]", first):
        return len(words) == 1 or words[0].startswith("_") or words[1].startswith("#")
    return re.search(r"^[ \t]*loop_[ \t]*\r?$", text, re.M) is not None


def may_be_list(path: Path, content: bytes) -> bool:
    """Tell whether a file may be one of RELION's lists of coordinates files: it holds none itself."""
    if content.startswith(npy.MAGIC) or path.suffix == ".box" or relion.X.encode() in content:
        return False
    return path.name.startswith("coords_suffix_") or is_star(decoded(path, content))


def _read_json(path: Path, text: str, name: str) -> list[Picks]:
    content = jsons.parse(path, text)
    if isinstance(content, dict) and "images" in content:
        return coco.read(path, content)
    if isinstance(content, dict) and "boxes" in content:
        return eman2.read(path, content, name)
    raise CoordinatesError(
        path, "it is JSON, but neither COCO's nor EMAN2's", "It needs 'images' and 'annotations', or 'boxes'"
    )


def name_of(path: Path, *endings: str) -> str:
    """Return a file's name without the longest of `endings` that it has; else without its suffix."""
    fitting = [ending for ending in endings if path.name.endswith(ending) and path.name != ending]
    return path.name[: -len(max(fitting, key=len))] if fitting else path.stem
