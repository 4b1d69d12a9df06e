"""A lock file that says who holds it: one process at a time, also where several machines share a disk.

The file holds JSON: the process (`upicker.io.processes.Identity`), what it does, since when, and its address. It is
kept locked by ``flock``, which ends with the process. Where the file system does not support that, a second file,
created exclusively, keeps apart those who take the lock at the same moment.

A lock whose holder was killed is taken over only if this machine can prove that the holder has ended. Of a holder on
another machine that cannot be known from here: the error names it, and the user decides (`force`).
"""

from __future__ import annotations

import datetime
import errno
import json
import os
import uuid
import weakref
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from upicker.errors import OutputError, UPickerWarning, warn
from upicker.io.atomic import replacing
from upicker.io.processes import Identity

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

# What flock answers on file systems that do not support it: Lustre without -o flock, some NFS, some FUSE.
_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


class Held(OutputError):  # noqa: N818 - named after the state
    """Another process holds the lock, or has taken it over."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes
    ----------
    process : Identity
        The process.
    what : str
        What it does, e.g. ``upicker label``.
    address : str
        Where its page is; empty if it has none. Without a token: others may read the file.
    since : str
        When it took the lock.
    key : str
        Random; different each time that a lock is taken.
    inode : int
        Number of the lock file in its file system; a copy of it locks nothing. 0 if unknown.
    """

    process: Identity
    what: str
    address: str
    since: str
    key: str
    inode: int = 0

    def __str__(self) -> str:
        where = "on this machine" if self.process.is_here else f"on {self.process.host}"
        at = f", at {self.address}" if self.address else ""
        return f"{self.what} (process {self.process.pid} {where}, since {self.since}{at})"


class Lock:
    """A lock that this process holds until it is released, or the process ends; made by `lock`."""

    def __init__(self, path: Path, holder: Holder, handle: int | None) -> None:
        self.path, self.holder, self._handle = path, holder, handle
        _HELD.add(self)

    def check(self) -> None:
        """Check that nobody else took the lock by force meanwhile.

        Raises
        ------
        Held
            If somebody did.
        """
        found = holder_of(self.path)
        if found is not None and found.key != self.holder.key:
            remedy = "Go on there, or start this one again"
            raise Held(self.path.parent, f"{found} has taken it over", remedy)

    def release(self) -> None:
        """Remove the lock file, unless somebody else took it; the lock is free then."""
        if self._forget():
            with suppress(OSError):
                found = holder_of(self.path)
                if found is not None and found.key == self.holder.key:
                    self.path.unlink()
            self._close()

    def close_in_child(self) -> None:
        """Close the file in a forked process, which would otherwise keep it locked after its parent was killed."""
        if self._forget():
            self._close()

    def _forget(self) -> bool:
        """Return whether this object held the lock until now."""
        held = self in _HELD
        _HELD.discard(self)
        return held

    def _close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


_HELD: weakref.WeakSet[Lock] = weakref.WeakSet()


def _close_in_child() -> None:
    for held in list(_HELD):
        held.close_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def lock(path: Path, what: str, address: str = "", force: bool = False) -> Lock:
    """Take a lock, or refuse.

    Parameters
    ----------
    path : Path
        The lock file; missing parent folders are made.
    what : str
        What it is for, e.g. ``upicker label``; named to those who come second.
    address : str
        Where the page of this process is, without a token.
    force : bool
        Whether to take it from whoever holds it.

    Returns
    -------
    Lock
        To use as a context manager, or to release.

    Raises
    ------
    Held
        If another process holds it.
    OutputError
        If the file cannot be written.
    """
    since = datetime.datetime.now().astimezone().isoformat(" ", "minutes")
    holder = Holder(Identity.mine(), what, address, since, uuid.uuid4().hex)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if force:
            for one in (path, _taking(path)):
                one.unlink(missing_ok=True)
        return _by_flock(path, holder) or _by_exclusive_file(path, holder)
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = "Check that you may write there; if nobody uses the folder any more, remove that file"
        raise OutputError(path, f"the lock cannot be taken ({reason})", remedy) from error


def holder_of(path: Path) -> Holder | None:
    """Return who holds a lock, as its file says; None if there is no such file, or it says nothing."""
    try:
        content = json.loads(path.read_bytes())
        what, address, since, key = (str(content[name]) for name in ("what", "address", "since", "key"))
        return Holder(Identity.read(content["process"]), what, address, since, key, int(content.get("inode", 0)))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _by_flock(path: Path, holder: Holder) -> Lock | None:
    """Take a lock by ``flock``; return None where that is not supported."""
    if fcntl is None:
        return None
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        kept = False
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _refusal(path) from None
            except OSError as error:
                if error.errno in _UNSUPPORTED:
                    return None
                raise
            if not _is_at(path, handle):
                continue  # Its holder has just removed it.
            _refuse_if_held(path)
            holder = replace(holder, inode=os.fstat(handle).st_ino)
            os.ftruncate(handle, 0)
            os.pwrite(handle, _encoded(holder), 0)
            os.fsync(handle)
            kept = True
            return Lock(path, holder, handle)
        finally:
            if not kept:
                os.close(handle)


def _by_exclusive_file(path: Path, holder: Holder) -> Lock:
    """Take a lock where there is no ``flock``."""
    taking = _taking(path)
    try:
        os.close(os.open(taking, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        raise _refusal(path, f"another process is taking it, or was killed while it did ({taking.name})") from None
    try:
        _refuse_if_held(path)
        with replacing(path) as temporary:
            temporary.touch()
            holder = replace(holder, inode=temporary.stat().st_ino)
            temporary.write_bytes(_encoded(holder))
    finally:
        taking.unlink(missing_ok=True)
    found = f"this {'system' if fcntl is None else 'file system'} does not support locks (flock)"
    remedy = "The lock file is kept all the same. After a crash of another machine, --force takes it"
    warn(UPickerWarning(path.parent, found, remedy))
    return Lock(path, holder, None)


def _refuse_if_held(path: Path) -> None:
    found = holder_of(path)
    if found is None or found.process.has_ended or found.inode not in (0, path.stat().st_ino):
        return
    raise _refusal(path)


def _refusal(path: Path, unknown: str = "another process is using it") -> Held:
    """Return the error that names the holder."""
    found = holder_of(path)
    if found is None:
        return Held(path.parent, unknown, "Try again; --force takes it over")
    if found.process.is_here:
        remedy = "Go on there, or stop it first; --force takes it over"
    else:
        remedy = f"Whether it still runs can only be seen on {found.process.host}; if not, --force takes it over"
    return Held(path.parent, f"{found} uses it", remedy)


def _is_at(path: Path, handle: int) -> bool:
    """Tell whether an open file is the one that a path names."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _encoded(holder: Holder) -> bytes:
    content = {"process": holder.process.as_dict(), **{k: v for k, v in vars(holder).items() if k != "process"}}
    return json.dumps(content, indent=1).encode("ascii")


def _taking(path: Path) -> Path:
    return path.with_name(f"{path.name}.taking")
