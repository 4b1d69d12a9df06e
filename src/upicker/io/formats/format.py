"""What a format of coordinates is: one value, which the module of each format makes and `upicker.io.formats` lists.

How to add a format: write one module beside this one that ends in ``FORMAT = Format(...)``, and add that to the tuple
in ``upicker/io/formats/__init__.py``. Reading, writing, ``upicker convert --to``, its help, the exports of the page and
the tests then know it; ``python docs/formats.py`` writes it into the documents.

- `Format.sniff` tells the format by the content, through the properties of `upicker.io.formats.content.Content`.
- `Format.read` returns centres in the pixels and the frame of the file, and
  `upicker.io.picks.to_contract` makes raw pixels of them.
- `Format.write` gets raw pixels in our frame, takes `upicker.io.picks.from_contract` of them, and yields the files.
- `Format.carries` lists what survives a round trip; `tests/test_io_formats_law.py` proves that it does, and that
  nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from upicker.io.formats.content import Content
from upicker.io.picks import Picks, ReadOptions, WriteOptions

# A file and what is to stand in it.
Files = Iterable[tuple[Path, str | bytes]]
# How the particles of many micrographs are laid out: each micrograph has its file; so it is in a folder, but one file
# may hold all; one file holds all; or the format has a folder with files of its own making.
Layout = Literal["each", "either", "together", "folder"]
# What a format can carry beside positions, in the order of the documents, and in words.
QUANTITIES = {
    "diameter": "diameter",
    "score": "score",
    "class_number": "class",
    "psi_deg": "psi",
    "label_key": "label key",
    "micrograph": "micrograph name",
    "path": "micrograph path",
    "shape": "micrograph size",
    "pixel_size": "pixel size",
}


def never(head: str) -> bool:
    """Tell that every file of a format's ending may hold coordinates."""
    return False


@dataclass(frozen=True)
class Listing:
    """A list that names files of coordinates, in place of coordinates.

    Attributes
    ----------
    patterns : tuple of str
        Names of such lists; one of them in a folder stands for all files of the folder.
    files : callable
        Content of a list -> the micrograph's name and the file of each entry.
    """

    patterns: tuple[str, ...]
    files: Callable[[Content], list[tuple[str, Path]]]


@dataclass(frozen=True)
class Notes:
    """What docs/formats.md says of a format.

    Attributes
    ----------
    position : str
        What is written for a particle, and where 0 is.
    columns : str
        Names of columns or fields, in Markdown.
    checked : str
        The other program or the document that reading and writing were compared with.
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
        The word for ``--to`` and ``--format``.
    programs : str
        Whose format it is, in words: "for ...".
    files : str
        What is written for many micrographs, in words.
    layout : str
        One of `Layout`.
    ending : str
        How the usual name of one micrograph's file ends, e.g. ``_autopick.star``.
    sniff : callable
        Tells by the content whether a file is of this format. The formats are asked in the order of
        `upicker.io.formats.FORMATS`, so a general one may take what the more special ones before it have left.
    read : callable
        Content, options -> one `Picks` per micrograph, in order of appearance, in the pixels and the frame of the file.
        Raises CoordinatesError, which names the line, row or box of a bad value.
    write : callable
        Target, picks in raw pixels, options -> files, one after the other. With `layout` "each" there is always one
        micrograph. The target is a file, or the folder if `layout` is "folder". Raises OutputError if something that
        is needed is not known.
    notes : Notes
        For the documents.
    carries : frozenset of str
        What is written and read again beside the positions, of `QUANTITIES`.
    needs : frozenset of str
        What has to be known to write it: "diameter" (or the side of boxes), "shape", "pixel_size".
    file_of_all : str
        The usual name of the one file, if `layout` is "together".
    endings : tuple of str
        Endings by which the files of single micrographs are found in a folder, the preferred one first; none for
        formats whose files are always named explicitly.
    is_other : callable
        Tells by the first 64 KiB whether a file that was found by `endings` certainly holds something else, such as a
        table of losses in CSV.
    by_path : bool
        Whether the other program looks micrographs up by the paths in the file.
    listing : Listing or None
        For formats in which one file lists others.
    repeats : bool
        Whether the last file that is written only names the others, or repeats what they hold.
    """

    name: str
    programs: str
    files: str
    layout: Layout
    ending: str
    sniff: Callable[[Content], bool]
    read: Callable[[Content, ReadOptions], list[Picks]]
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
