"""Long work in a process that outlives the one that started it, and that a later process can find again.

The command runs in a session of its own, so that neither Ctrl-C nor a closed terminal reaches it, and at a lower
priority (nice). A folder holds its output (``out.log``) and, at the end, its exit code (``exit``), which a small shell
around the command writes, because a later process could not wait for the command. That shell begins only when it is
told to, after its process number was recorded: so nothing runs that nobody could find again.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from upicker.errors import OutputError
from upicker.io.processes import boot_id, start_ticks

LOG, EXIT = "out.log", "exit"
# The trap keeps the shell alive at the signals that stop the command; handlers are not inherited, so the command itself
# reacts to them as usual.
_SHELL = 'read -r go || exit; trap : INT TERM; nice -n 5 "$@" </dev/null; echo $? >"$0"'
_TAIL_BYTES = 16_384


@dataclass(frozen=True)
class Process:
    """A process that was started here, or by an earlier process.

    Attributes
    ----------
    pid : int
        Its number, which is also that of its process group.
    start_time : str
        When it started, as text: process numbers are used again, but not with the same start.
    """

    pid: int
    start_time: str

    @property
    def alive(self) -> bool:
        """Whether it is still running."""
        return bool(self.start_time) and start_time(self.pid) == self.start_time

    def send(self, signal: int) -> None:
        """Send a signal to its process group; without effect if it has ended."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal)


def start(command: Sequence[str], folder: Path, record: Callable[[Process], object]) -> Process:
    """Start a command that outlives this process.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    folder : Path
        For ``out.log`` and ``exit``; made if it does not exist.
    record : callable
        Called with the process before the command begins, which it does not if this raises or this process is killed.

    Raises
    ------
    OutputError
        If the folder cannot be written, or the command cannot be started.
    """
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
    environment.pop("FORCE_COLOR", None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOG).open("ab") as log:
            # A thread waits for it, so that it does not become a zombie.
            process = subprocess.Popen(
                ["sh", "-c", _SHELL, str(folder / EXIT), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            folder, f"no process can be started there ({reason})", "Check the folder and the disk"
        ) from error
    found = Process(process.pid, start_time(process.pid))
    assert process.stdin is not None
    try:
        with process.stdin as go:
            record(found)
            go.write(b"go\n")
    finally:
        threading.Thread(target=process.wait, name=f"waits for {process.pid}", daemon=True).start()
    return found


def start_time(pid: int) -> str:
    """Return when a process started, as text to compare; empty if there is none, or it is a zombie."""
    if ticks := start_ticks(pid):
        return f"{boot_id()} {ticks}"
    if sys.platform.startswith("linux"):
        return ""
    asked = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, began = asked.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else began.strip()


def exit_code(folder: Path) -> int | None:
    """Return the exit code of a command; None if it has not ended, or was killed together with its shell."""
    try:
        return int((folder / EXIT).read_text())
    except (OSError, ValueError):
        return None


def end_time(folder: Path) -> float:
    """Return when a command ended, in seconds since 1970; without an exit code, when it last wrote its log."""
    for name in (EXIT, LOG):
        with suppress(OSError):
            return (folder / name).stat().st_mtime
    return time.time()


def tail(folder: Path, lines: int) -> list[str]:
    """Return the last lines of a command's log, without empty ones."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()][-lines:]
