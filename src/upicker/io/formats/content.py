"""The content of a coordinates file, parsed once and on demand; formats are recognised by it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from upicker.errors import CoordinatesError
from upicker.io import delimited, jsons, npy, star
from upicker.io.star import Table

Kind = Literal["empty", "numpy", "binary", "json", "star", "text"]


@dataclass(frozen=True, eq=False)
class Content:
    """The content of a coordinates file.

    Attributes
    ----------
    path : Path
        The file, for messages and for files beside it.
    data : bytes
        All of it.
    name : str
        The micrograph's name, from the file's name.
    """

    path: Path
    data: bytes
    name: str

    @cached_property
    def kind(self) -> Kind:
        """The kind of content; "binary" is anything that is neither UTF-8 nor a NumPy file."""
        if not self.data:
            return "empty"
        if self.data.startswith(npy.MAGIC):
            return "numpy"
        try:
            text = self.text
        except CoordinatesError:
            return "binary"
        if text.lstrip()[:1] in ("{", "["):
            return "json"
        return "star" if star.is_star(text) else "text"

    @cached_property
    def text(self) -> str:
        """The text.

        Raises
        ------
        CoordinatesError
            If it is not text in UTF-8.
        """
        try:
            if b"\0" in self.data:
                raise ValueError("it holds zero bytes")
            return self.data.decode("utf-8-sig")
        except ValueError as error:
            raise CoordinatesError(
                self.path, "it is not a text file in UTF-8", "Give coordinates in a known format; save texts as UTF-8"
            ) from error

    @cached_property
    def json(self) -> Any:
        """The parsed JSON; None for other kinds.

        Raises
        ------
        CoordinatesError
            If it is not valid JSON.
        """
        return jsons.parse(self.path, self.text) if self.kind == "json" else None

    @cached_property
    def tables(self) -> list[Table]:
        """The tables of a STAR file; empty for other kinds.

        Raises
        ------
        CoordinatesError
            If it is not a valid STAR file; the line is named.
        """
        return star.parse(self.text, self.path) if self.kind == "star" else []

    @cached_property
    def delimiter(self) -> str | None:
        """The delimiter of a text's cells; None means blanks."""
        return delimited.delimiter(self.text) if self.kind == "text" else None

    @cached_property
    def rows(self) -> list[tuple[int, list[str]]]:
        """Line numbers, from 1, and the cells of lines with values; empty for other kinds than text."""
        if self.kind != "text":
            return []
        return [(number, cells) for number, cells in delimited.rows(self.text, self.delimiter) if any(cells)]

    @cached_property
    def header(self) -> list[str]:
        """The column names in lower case, letters and digits only; empty if the first row holds numbers."""
        first = self.rows[0][1] if self.rows else []
        return [] if delimited.is_numeric(first) else delimited.plain(first)


def is_file(path: Path) -> bool:
    """Tell whether a regular file of this name exists; false for names that cannot be a file's."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def load(path: Path, name: str) -> Content:
    """Return the content of a file.

    Raises
    ------
    CoordinatesError
        If it is missing, or not a regular file.
    """
    try:
        # Devices and pipes have no end.
        if path.exists() and not path.is_file():
            raise CoordinatesError(path, "it is not a file", "Give a file of coordinates")
        return Content(path, path.read_bytes(), name)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CoordinatesError(path, f"cannot be read ({reason})", "Check the name and the permissions") from error


def unknown(content: Content) -> CoordinatesError:
    """Return the error for a content that no format recognises."""
    if content.kind == "empty":
        remedy = "For a micrograph without particles write the header x,y"
        return CoordinatesError(content.path, "the file is empty", remedy)
    if content.kind == "json":
        found = "it is JSON, but neither COCO's nor EMAN2's"
        return CoordinatesError(content.path, found, "It needs 'images' and 'annotations', or 'boxes'")
    remedy = "Give coordinates in a known format; save texts as UTF-8"
    return CoordinatesError(content.path, "it is not a text file in UTF-8", remedy)
