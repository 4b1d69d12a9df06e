"""Atomic writing of files: to a temporary file in the same folder, which is then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from upicker.errors import OutputError


@contextmanager
def replacing(path: Path, lasting: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; if the block succeeds, the file there is renamed to `path`.

    An exception in the block removes the temporary file and leaves a file at `path` as it was. Missing parent folders
    are made. The temporary name is hidden (it begins with a dot) and keeps the suffix, as some writers choose the
    format by it.

    Parameters
    ----------
    path : Path
        The file to write or to replace.
    lasting : bool
        Whether to wait until it is on the disk (fsync), so that it survives a power failure.

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
        # Root could rename a file onto a device such as /dev/null, which would break the machine.
        if path.exists() and not path.is_file():
            raise OutputError(path, "it is a folder or a device", "Give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if lasting:
            _sync(temporary)
        temporary.replace(path)
        if lasting:
            _sync(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "Check that the folder exists, may be written to and has room, or choose another output"
        raise OutputError(path, f"cannot be written ({reason})", remedy) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
