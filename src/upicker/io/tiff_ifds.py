"""The chain of image file directories (IFDs) of a TIFF file, checked before a library follows it."""

from __future__ import annotations

import struct
from pathlib import Path

from upicker.errors import MicrographError
from upicker.io.stored_image import DAMAGED, truncated


def check_ifds(path: Path) -> None:
    """Make sure that the chain of IFDs ends, and is whole.

    Each IFD of a TIFF, one per page, holds the offset of the next one (TIFF 6.0, section 2; BigTIFF with wider
    integers). In a damaged file the chain may lead back to an earlier IFD, and a reader would follow it for ever; in
    one that is cut short it leads beyond the end, and a reader would take the pages before for all.

    Raises
    ------
    MicrographError
        If an IFD occurs twice, or is not all there.
    """
    with path.open("rb") as file:
        head = file.read(16).ljust(16, b"\0")
        order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack_from(order + "H", head, 2)[0] == 43
        number, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
        (at,) = struct.unpack_from(order + number, head, 8 if big else 4)
        size, wide = path.stat().st_size, struct.calcsize(order + count)
        seen: set[int] = set()
        while at:
            if at in seen:
                found = f"the chain of its pages leads back to an earlier one after {len(seen)} pages"
                raise MicrographError(path, found, DAMAGED)
            file.seek(min(at, size))
            tags = file.read(wide).ljust(wide, b"\0")
            # A damaged file may claim any number of tags; a seek to an offset too large for a file is an error.
            end = at + wide + struct.unpack(order + count, tags)[0] * entry
            file.seek(min(end, size))
            following = file.read(struct.calcsize(order + number))
            if len(following) < struct.calcsize(order + number):
                if not seen:
                    return  # Without a first page it is no movie that is cut short: the library tells what it is.
                raise truncated(path, size, end + struct.calcsize(order + number))
            seen.add(at)
            (at,) = struct.unpack(order + number, following)
