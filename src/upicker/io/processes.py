"""Who a process is, in words that a file can hold: so that another process can tell whether it has ended."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

_PROC = Path("/proc")
_BOOT = _PROC / "sys/kernel/random/boot_id"
_MACHINE = Path("/etc/machine-id")


@dataclass(frozen=True)
class Identity:
    """A process on some machine; texts that this machine does not know are empty.

    Attributes
    ----------
    host : str
        Name of the machine.
    machine : str
        Its machine id, because several may have the same name.
    boot : str
        Boot id, which is new after each start of the machine.
    namespace : str
        Namespace of process numbers: a container has its own.
    pid : int
        Process number.
    started : str
        When it started, in ticks since the boot: process numbers are used again.
    """

    host: str
    machine: str
    boot: str
    namespace: str
    pid: int
    started: str

    @classmethod
    def mine(cls) -> Identity:
        """Return this process."""
        pid = os.getpid()
        return cls(socket.gethostname(), _text(_MACHINE), boot_id(), _namespace(), pid, start_ticks(pid) or "")

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Identity:
        """Return the process that `as_dict` described.

        Raises
        ------
        KeyError, TypeError, ValueError, OverflowError
            If a field is missing or malformed.
        """
        texts = {name: content[name] for name in ("host", "machine", "boot", "namespace", "started")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError(content)
        return cls(pid=int(content["pid"]), **texts)

    @property
    def token(self) -> str:
        """A short name of it, for names of files; see `token_has_ended`."""
        words = (_digest(self.host, self.machine), _digest(self.boot), _digest(self.namespace), self.pid, self.started)
        return "-".join(map(str, words))

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, for JSON or TOML."""
        return asdict(self)

    @property
    def is_here(self) -> bool:
        """Whether it is or was a process of this machine."""
        return (self.host, self.machine) == (socket.gethostname(), _text(_MACHINE))

    @property
    def has_ended(self) -> bool:
        """Whether it has provably ended; False as well where this machine cannot tell.

        Machines of the same name are taken for one if they have the same machine id, as clones may. A container often
        has none: there another boot id may be that of another machine, and proves nothing.
        """
        if not self.is_here:
            return False
        if self.boot != (boot := boot_id()):
            return bool(self.machine and self.boot and boot)
        if self.namespace != _namespace():
            return False
        ticks = start_ticks(self.pid)
        if ticks is None:
            # A machine may hide other users' processes in /proc.
            return not _exists(self.pid)
        return not ticks or bool(self.started and ticks != self.started)


def token_has_ended(token: str) -> bool:
    """Return whether the process with a `Identity.token` has provably ended; False for any other text."""
    try:
        machine, boot, namespace, pid, started = token.split("-")
        number = int(pid)
    except ValueError:
        return False
    mine = Identity.mine()
    if machine != _digest(mine.host, mine.machine):
        return False
    its_boot = mine.boot if boot == _digest(mine.boot) else f"not {mine.boot}"
    its_namespace = mine.namespace if namespace == _digest(mine.namespace) else f"not {mine.namespace}"
    return replace(mine, boot=its_boot, namespace=its_namespace, pid=number, started=started).has_ended


def token_is_here(token: str) -> bool:
    """Return whether a `Identity.token` is of a process of this machine, that has ended or not."""
    mine = Identity.mine()
    return token.partition("-")[0] == _digest(mine.host, mine.machine)


def boot_id() -> str:
    """Return the id of this start of the machine; empty if unknown."""
    return _text(_BOOT)


def start_ticks(pid: int) -> str | None:
    """Return when a process started, in ticks since the boot; empty for one that has ended and is not waited for yet.

    None where ``/proc`` does not show it.
    """
    with suppress(OSError, IndexError):
        # The name, in brackets, may hold any character; the state follows, and the start time as the 20th word.
        words = (_PROC / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
        return "" if words[0] in b"ZX" else words[19].decode("ascii")
    return None


def _exists(pid: int) -> bool:
    """Tell whether a process number is in use; True where that cannot be told."""
    if os.name != "posix" or pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]


def _namespace() -> str:
    with suppress(OSError):
        return str((_PROC / "self/ns/pid").readlink())
    return ""


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8").strip()
    return ""
