"""Atomic writing of files: to a temporary file in the same folder, which is then renamed.

The temporary name says which process writes it. What a process that was killed left behind is removed by the next one
that writes to the same folder, if this machine can prove that it has ended.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from upicker.errors import OutputError
from upicker.io.processes import Identity, token_has_ended

_PREFIX = ".upicker-"


@contextmanager
def replacing(path: Path, lasting: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; if the block succeeds, the file there is renamed to `path`.

    An exception in the block removes the temporary file and leaves a file at `path` as it was. Missing parent folders
    are made. The temporary name is hidden (it begins with a dot) and keeps the suffix, as some writers choose the
    format by it. Temporary files of processes that have ended are removed from the folder.

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
    temporary = path.parent / temporary_name(path.suffix)
    try:
        # Root could rename a file onto a device such as /dev/null, which would break the machine.
        if path.exists() and not path.is_file():
            raise OutputError(path, "it is a folder or a device", "Give the name of a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        _clean(path.parent, os.getpid())
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


def create(path: Path, text: str) -> bool:
    """Write a new file, whole; of several processes that do so at a time, on any machines, one succeeds.

    Parameters
    ----------
    path : Path
        The file.
    text : str
        What it holds, in UTF-8.

    Returns
    -------
    bool
        False if there is such a file already, which stays as it is.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    temporary = path.parent / temporary_name(path.suffix)
    try:
        temporary.write_text(text, encoding="utf-8")
        try:
            os.link(temporary, path)  # unlike renaming, never over another file; holds on NFS, too
        except FileExistsError:
            return False
        except OSError:  # a file system without links
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except FileExistsError:
        return False
    except OSError as error:
        remedy = "Check that the folder exists, may be written to and has room, or choose another output"
        raise OutputError(path, f"cannot be written ({error.strerror or error})", remedy) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return True


def temporary_name(suffix: str = "") -> str:
    """Return a hidden name for a temporary file or folder of this process, different at each call."""
    return f"{_PREFIX}{_token(os.getpid())}-{uuid.uuid4().hex[:12]}{suffix}"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a new folder where the system keeps temporary files; it is removed at the end."""
    parent = Path(tempfile.gettempdir())
    _clean(parent, os.getpid())
    folder = parent / temporary_name()
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(folder: Path) -> list[Path]:
    """Remove temporary files and folders of processes that have provably ended, from a folder but not from those in it.

    Returns
    -------
    list of Path
        What was removed.
    """
    removed = []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and token_has_ended(entry.name[len(_PREFIX) :].rpartition("-")[0]):
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        Path(entry.path).unlink()
                    removed.append(Path(entry.path))
    return removed


@lru_cache(maxsize=4096)
def _clean(folder: Path, pid: int) -> None:
    """Remove what is stale, once for each folder and process: folders may hold very many files."""
    remove_stale(folder)


@lru_cache(maxsize=2)
def _token(pid: int) -> str:
    """Return the token of this process, which has that number: another one after a fork."""
    return Identity.mine().token


def _sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
