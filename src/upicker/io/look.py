"""A look at a file that may still be written: its size, its time, and what it lacks to be a whole micrograph."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from upicker.errors import UPickerError
from upicker.io import mrc, rasters
from upicker.io.compression import compression, opened
from upicker.io.micrographs import is_mrc, no_micrograph
from upicker.io.stored_image import truncated

# Writers that reserve a file's space first fill it from the front: it is not finished while its end is empty.
_END_BYTES = 4096


@dataclass(frozen=True)
class Look:
    """What a file is like at one time. Two looks that are equal saw the same file.

    Attributes
    ----------
    size : int
        Bytes.
    modified_ns : int
        Modification time, nanoseconds since 1970, by whichever clock.
    lacks : str or None
        What shows that it is not whole; None if nothing does.
    """

    size: int
    modified_ns: int
    lacks: str | None = None


def look(path: Path) -> Look | None:
    """Look at a file; None if there is none.

    It is opened for that: network file systems (NFS) give the size of a file that is not from memory, which may be a
    minute old, but ask for it when a file is opened.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            return Look(status.st_size, status.st_mtime_ns, _lacks(path, file, status.st_size))
    except OSError as error:
        return _unreadable(path, error)


def glance(path: Path) -> tuple[int, int] | None:
    """Return size and time of a file without opening it, perhaps not the latest ones; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _unreadable(path: Path, error: OSError) -> Look | None:
    """Return a look at a file that is there and may not be read: perhaps its writer allows that at the end."""
    known = glance(path)
    return known and Look(*known, f"cannot be read ({error.strerror or error})")


def _lacks(path: Path, file: IO[bytes], size: int) -> str | None:
    if not size:
        return "the file is empty"
    file.seek(max(0, size - _END_BYTES))
    if not any(file.read(_END_BYTES)):
        return "its end is empty: zeros, as in a file whose space is reserved and not filled yet"
    try:
        _check(path, size)
    except UPickerError as error:
        return error.found
    return None


def _check(path: Path, size: int) -> None:
    """Raise MicrographError if the file is certainly not whole, as far as that can be told without decoding it."""
    packed = compression(path)
    with opened(path) as file:
        head = file.read(mrc.HEADER_BYTES)
    if is_mrc(head):
        # Of a compressed file only reading it all tells.
        if not packed and size < (needed := mrc.needed(path, head)):
            raise truncated(path, size, needed)
    elif head.startswith(rasters.TIFF_MAGICS):
        rasters.check_tiff(path)
    elif head.startswith(rasters.PNG_MAGIC):
        rasters.check_png(path)
    elif head.startswith(rasters.JPG_MAGIC):
        rasters.check_jpg(path)
    else:
        raise no_micrograph(path, head)
