"""Reading of plain, gzip and bzip2 files alike, with checks of their length."""

from __future__ import annotations

import bz2
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, cast

import numpy as np

from upicker.errors import MicrographError
from upicker.io.stored_image import DAMAGED, truncated

_GZIP_MAGIC, _BZIP2_MAGIC = b"\x1f\x8b", b"BZh"
# A deflate stream expands by a factor of at most 1032; noise, which micrographs consist of, hardly by 3.
_MAX_EXPANSION, _SLACK_BYTES = 1100, 1 << 20


def compression(path: Path) -> Literal["", "gzip", "bzip2"]:
    """Return how a file is compressed, judged by its content; empty if it is not."""
    with path.open("rb") as file:
        magic = file.read(3)
    return "gzip" if magic.startswith(_GZIP_MAGIC) else "bzip2" if magic == _BZIP2_MAGIC else ""


def check_expansion(path: Path, uncompressed_bytes: int) -> None:
    """Refuse a compressed file whose header promises more than its size can hold, before memory is allocated for it.

    Raises
    ------
    MicrographError
        If the image would be more than 1100 times the size of the file.
    """
    size = path.stat().st_size
    if uncompressed_bytes > _MAX_EXPANSION * size + _SLACK_BYTES:
        found = f"its {size} bytes cannot hold the {uncompressed_bytes} bytes that its header promises"
        raise MicrographError(path, found, DAMAGED)


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading, through gzip or bzip2 if its content is so compressed; nothing is read ahead.

    Raises
    ------
    MicrographError
        While the block runs, if a compressed file is damaged or truncated.
    """
    kind = compression(path)
    with path.open("rb") as file:
        if not kind:
            yield file
            return
        uncompressed = gzip.GzipFile(fileobj=file) if kind == "gzip" else bz2.BZ2File(file)
        try:
            with uncompressed:
                yield cast("IO[bytes]", uncompressed)
        except (EOFError, OSError, zlib.error) as error:
            raise MicrographError(path, f"this {kind} file cannot be decompressed ({error})", DAMAGED) from error


def fill(path: Path, file: IO[bytes], array: np.ndarray) -> None:
    """Fill an array with bytes from the file.

    Raises
    ------
    MicrographError
        If the file ends before.
    """
    rest = memoryview(array.reshape(-1).view(np.uint8).data)
    needed = len(rest)
    while len(rest):
        count = file.readinto(rest)  # type: ignore[attr-defined]  # All three kinds of file have it, IO does not.
        if not count:
            raise truncated(path, needed - len(rest), needed)
        rest = rest[count:]


def skip(path: Path, file: IO[bytes], count: int) -> None:
    """Read past some bytes, as a compressed file cannot seek over them.

    Raises
    ------
    MicrographError
        If the file ends before.
    """
    rest = count
    while rest:
        found = len(file.read(min(rest, _SLACK_BYTES)))
        if not found:
            raise truncated(path, count - rest, count)
        rest -= found
