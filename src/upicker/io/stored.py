"""What all readers of pictures share: the value they return, and the refusal of sizes that cannot be true."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import numpy as np

from upicker.errors import MicrographError

FETCH_AGAIN = "The copy or the download is incomplete or damaged: fetch it again"
_GZIP_MAGIC, _BZIP2_MAGIC = b"\x1f\x8b", b"BZh"
# No deflate stream grows by more than 1032 times; noise, which micrographs are made of, hardly by 3.
_MOST_GROWTH, _SLACK_BYTES = 1100, 1 << 20


class Stored(NamedTuple):
    """A picture as a file holds it.

    Attributes
    ----------
    pixels : np.ndarray
        `(H, W)` in the file's own type, row 0 the first stored row; float32 for the sum of a movie.
    pixel_size_A : float or None
        As the file has it, unchecked.
    kind : str
        ``"mrc"``, ``"tiff"``, ``"eer"``, ``"png"`` or ``"jpg"``.
    frames : int
        Of how many frames it is the sum.
    """

    pixels: np.ndarray
    pixel_size_A: float | None
    kind: str
    frames: int = 1


def too_large(path: Path, shape: tuple[int, int], largest_side: int) -> MicrographError:
    """Make the error for a picture of `shape` (rows, columns) beyond the largest side."""
    return MicrographError(
        path,
        f"the picture has {shape[0]} rows x {shape[1]} columns",
        f"At most {largest_side} a side are taken: bin it, or check that it is a micrograph",
    )


def cut_short(path: Path, found: int, needed: int) -> MicrographError:
    """Make the error for a file of `found` bytes that must have `needed`."""
    return MicrographError(path, f"it is cut short: {found} bytes of {needed}", FETCH_AGAIN)


def check_growth(path: Path, unpacked_bytes: int) -> None:
    """Refuse a compressed file whose header promises more than its size can hold, before memory is taken for it.

    Raises
    ------
    MicrographError
        If the picture would be more than 1100 times the size of the file.
    """
    size = path.stat().st_size
    if unpacked_bytes > _MOST_GROWTH * size + _SLACK_BYTES:
        found = f"its {size} bytes cannot hold the {unpacked_bytes} bytes that its header promises"
        raise MicrographError(path, found, FETCH_AGAIN)


def packing(path: Path) -> Literal["", "gzip", "bzip2"]:
    """Return by what a file is packed, judged by its content; nothing if it is not."""
    with path.open("rb") as file:
        magic = file.read(3)
    return "gzip" if magic.startswith(_GZIP_MAGIC) else "bzip2" if magic == _BZIP2_MAGIC else ""


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, through gzip or bzip2 if its content says so; nothing is read ahead.

    Raises
    ------
    MicrographError
        While the block runs, if a packed file is damaged or cut short.
    """
    packed = packing(path)
    with path.open("rb") as file:
        if not packed:
            yield file
            return
        unpacked = gzip.GzipFile(fileobj=file) if packed == "gzip" else bz2.BZ2File(file)
        try:
            with unpacked:
                yield cast("IO[bytes]", unpacked)
        except (EOFError, OSError, zlib.error) as error:
            raise MicrographError(path, f"this {packed} archive cannot be unpacked ({error})", FETCH_AGAIN) from error


def fill(path: Path, file: IO[bytes], array: np.ndarray) -> None:
    """Read as many bytes as the array has into it.

    Raises
    ------
    MicrographError
        If the file ends before.
    """
    rest = memoryview(array.reshape(-1).view(np.uint8).data)
    needed = len(rest)
    while len(rest):
        count = file.readinto(rest)  # type: ignore[attr-defined]  # Packed and plain files have it, IO does not say so.
        if not count:
            raise cut_short(path, needed - len(rest), needed)
        rest = rest[count:]


def skip(path: Path, file: IO[bytes], count: int) -> None:
    """Read over some bytes, which a packed file cannot jump over.

    Raises
    ------
    MicrographError
        If the file ends before.
    """
    rest = count
    while rest:
        found = len(file.read(min(rest, _SLACK_BYTES)))
        if not found:
            raise cut_short(path, count - rest, count)
        rest -= found
