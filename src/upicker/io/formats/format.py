"""`Format`: all that the package knows of one coordinate format, as plain data.

How to add a format: write one module beside this one that ends in ``FORMAT = Format(...)``, and add that to the tuple
in ``upicker/io/formats/__init__.py``. Reading, writing, ``upicker convert --to``, its help, the exports of the page and
the tests take it from there; ``python docs/formats.py`` writes it into the documents.

- `Format.sniff` recognises the content, by the properties of `upicker.io.formats.content.Content`.
- `Format.read` returns centres in the pixels and the frame of the file, and lengths in Angstrom as such;
  `upicker.io.picks.to_contract` converts them to raw pixels. What it does not read it names in `Picks.unread`.
- `Format.write` gets raw pixels in our frame, converts them with `upicker.io.picks.from_contract`, and yields files.
- `Format.carries` lists what survives a round trip; `tests/test_io_formats_law.py` checks that it does, and that
  nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from upicker.io.formats.content import Content
from upicker.io.picks import Picks, WriteOptions

# Files and their contents.
Files = Iterable[tuple[Path, str | bytes]]
# How many micrographs are written: a file for each; a file for each in a folder, or all in one file if the target is a
# file; all in one file; or a folder of the format's own structure.
Layout = Literal["each", "either", "together", "folder"]
# What a format may carry besides positions, and how the documents call it.
QUANTITIES = {
    "diameter": "diameter",
    "score": "score",
    "score_kind": "its kind",
    "class_number": "class",
    "psi_deg": "psi",
    "label_key": "label key",
    "micrograph": "micrograph name",
    "path": "micrograph path",
    "shape": "micrograph size",
    "pixel_size": "pixel size",
}


def never(head: str) -> bool:
    """Return False: any file with the format's endings may hold coordinates."""
    return False


@dataclass(frozen=True)
class Listing:
    """A file that lists coordinates files.

    Attributes
    ----------
    patterns : tuple of str
        File names of such lists; one in a folder stands for all coordinates files of the folder.
    files : callable
        Content of a list -> the micrograph's name and the file of each entry.
    """

    patterns: tuple[str, ...]
    files: Callable[[Content], list[tuple[str, Path]]]


@dataclass(frozen=True)
class Notes:
    """The text of docs/formats.md about a format.

    Attributes
    ----------
    position : str
        Whether centres or corners are written, where 0 is, and the unit.
    columns : str
        Columns or fields, in Markdown.
    checked : str
        The program or document that reading and writing were checked with.
    """

    position: str
    columns: str
    checked: str


@dataclass(frozen=True)
class Format:
    """A format of coordinates files.

    Attributes
    ----------
    name : str
        As in ``--to`` and ``--format``.
    programs : str
        The programs that use it, in words: "for ...".
    files : str
        The files written for many micrographs, in words.
    layout : str
        One of `Layout`.
    ending : str
        Ending of the usual name of one micrograph's file, e.g. ``_autopick.star``.
    sniff : callable
        Content -> whether it is of this format. The first of `upicker.io.formats.FORMATS` that returns True reads the
        file, so a general format may accept what the special ones before it do not recognise.
    read : callable
        Content -> one `Picks` per micrograph, in order of appearance, in the pixels and the frame of the file. Raises
        CoordinatesError with the line, row or box of a bad value.
    write : callable
        Target, picks in raw pixels, options -> files and their contents. With `layout` "each" it gets one micrograph at
        a time. The target is a file, or the folder if `layout` is "folder". Raises OutputError if something that it
        needs is unknown.
    notes : Notes
        For the documents.
    carries : frozenset of str
        What survives writing and reading besides the positions, of `QUANTITIES`.
    needs : frozenset of str
        What must be known for writing: "diameter" (or the side of boxes), "shape", "pixel_size".
    file_of_all : str
        The usual file name if `layout` is "together".
    endings : tuple of str
        Endings by which the files of single micrographs are found in a folder, the preferred one first; empty for
        formats whose files are always named explicitly.
    is_other : callable
        First 64 KiB of a file with one of `endings` -> whether it certainly holds something else than coordinates, such
        as a table of losses in CSV.
    by_path : bool
        Whether the other program finds micrographs by the paths in the file.
    listing : Listing or None
        For formats in which one file lists others.
    repeats : bool
        Whether the last written file only refers to the others.
    """

    name: str
    programs: str
    files: str
    layout: Layout
    ending: str
    sniff: Callable[[Content], bool]
    read: Callable[[Content], list[Picks]]
    write: Callable[[Path, list[Picks], WriteOptions], Files]
    notes: Notes
    carries: frozenset[str] = field(default_factory=frozenset)
    needs: frozenset[str] = field(default_factory=frozenset)
    file_of_all: str = ""
    endings: tuple[str, ...] = ()
    is_other: Callable[[str], bool] = never
    by_path: bool = False
    listing: Listing | None = None
    repeats: bool = False
