"""Writing whole files or none: write beside, then rename."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from upicker.errors import OutputError


@contextmanager
def replacing(path: Path, lasting: bool = False) -> Iterator[Path]:
    """Give a temporary name in the folder of `path`; when the block ends well, the file there becomes `path`.

    An exception in the block removes the temporary file and leaves whatever was at `path` as it was. Missing
    parent folders are made. The temporary name is hidden (it begins with a dot) and keeps the suffix, because
    some writers choose the format by it.

    Parameters
    ----------
    path : Path
        The file to make or to replace.
    lasting : bool
        Whether to wait until it is on the disk, so that not even a power failure undoes it.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    OutputError
        If the folder cannot be made or written to, the disk is full, or `path` is a folder or a device.
    """
    path = Path(path)
    temporary = path.parent / f".{uuid.uuid4().hex}{path.suffix}"
    try:
        # Renaming onto a device such as /dev/null would succeed for root, and break the machine.
        if path.exists() and not path.is_file():
            raise OutputError(path, "there is a folder or a device of this name", "Give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if lasting:
            _settled(temporary)
        temporary.replace(path)
        if lasting:
            _settled(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "Check that the folder exists, may be written to and has room, or choose another output"
        raise OutputError(path, f"cannot be written ({reason})", remedy) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _settled(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
