"""Several processes that work on files, each on one at a time; one that dies is replaced, and its file is known.

Each process has a pipe of its own. `concurrent.futures` does not tell which file a dead process had, gives up all
processes at once, keeps all results, and leaves named semaphores behind when it is killed.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Generic, TypeVar

from upicker.errors import InputError
from upicker.run.allocator import keep_freed_memory
from upicker.run.orphan import end_with_parent

T = TypeVar("T")

# A file whose process dies this often is given up.
MOST_DEATHS = 2


@dataclass(frozen=True)
class Reply(Generic[T]):
    """What came of one file.

    Attributes
    ----------
    path : Path
        The file.
    value : T or None
        The result; None if every process that worked on the file died.
    deaths : int
        How many processes died while they worked on it.
    """

    path: Path
    value: T | None
    deaths: int


def replies(paths: Sequence[Path], work: Callable[[Path], T], jobs: int) -> Generator[Reply[T], None, None]:
    """Work on files in several processes.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    work : callable
        Takes a path; picklable. It is sent to each process once, as it may hold a table of all files.
    jobs : int
        Number of processes.

    Yields
    ------
    Reply
        One for each file, in the order of completion. A file whose process died is tried once more, after the others.

    Raises
    ------
    Exception
        What the work raises. Files at work are finished first, those not yet begun are dropped; so, too, if the caller
        stops.
    """
    waiting, deaths = deque(paths), dict[Path, int]()
    packed = bytes(ForkingPickler.dumps(work))
    idle: list[_Process] = []
    busy: list[_Process] = []
    try:
        for path in paths[:jobs]:  # All start at the same time: each takes seconds.
            idle.append(_Process(path, packed))
        while waiting or busy:
            while waiting and len(busy) < jobs:
                busy.append(_given(waiting.popleft(), idle, packed))
            for process in _ready(busy):
                busy.remove(process)
                idle.append(process)
                path, value = process.path, process.reply()
                if value is None:
                    idle.remove(process)
                    process.end()
                    deaths[path] = deaths.get(path, 0) + 1
                    if deaths[path] < MOST_DEATHS:
                        waiting.append(path)
                        continue
                elif waiting:  # It works on while the caller deals with the result.
                    busy.append(_given(waiting.popleft(), idle, packed))
                yield Reply(path, value, deaths.get(path, 0))
    finally:
        for process in [*idle, *busy]:
            process.dismiss()
        for process in [*idle, *busy]:
            process.end()


def _ready(busy: Sequence[_Process]) -> list[_Process]:
    """Wait, and return the processes that have a result, or have died."""
    ready = wait([one.pipe for one in busy] + [one.process.sentinel for one in busy])
    return [one for one in busy if one.pipe in ready or one.process.sentinel in ready]


def _given(path: Path, idle: list[_Process], packed: bytes) -> _Process:
    """Return a process that was given a file: one of those that have nothing to do, or a new one."""
    while idle:
        process = idle.pop()
        if process.give(path):
            return process
        process.end()
    process = _Process(path, packed)
    process.give(path)  # If it has died already, that is noticed by those who wait for it.
    return process


class _Process:
    """One process, and the file that it was given last."""

    def __init__(self, path: Path, packed: bytes) -> None:
        # Spawned, as the fork of a process with threads (OpenCV, torch) may hang.
        context = multiprocessing.get_context("spawn")
        self.path = path
        try:
            self.pipe, other_end = context.Pipe()
            with other_end:
                self.process = context.Process(target=_serve, args=(other_end,), daemon=True)
                self.process.start()
        except OSError as error:
            found = f"no process can be started for it ({error.strerror or error})"
            raise InputError(path, found, "Use fewer --jobs, or a larger machine") from error
        self._packed: bytes | None = packed

    def give(self, path: Path) -> bool:
        """Tell it to work on a file; return whether it lives."""
        self.path = path
        try:
            if self._packed is not None:  # Large work is sent only as fast as the process reads, once it has started.
                self.pipe.send_bytes(self._packed)
                self._packed = None
            self.pipe.send(path)
        except OSError:
            return False
        return True

    def reply(self) -> Any:
        """Wait for its result, and return it; None if it has died. Raises what the work raised."""
        received = self._received()
        if received is None:
            return None
        value, error = received
        if error is not None:
            raise error
        return value

    def dismiss(self) -> None:
        """Let it end after the file that it works on."""
        with suppress(OSError):
            self.pipe.send(None)

    def end(self) -> None:
        """Wait for its end; a result that nobody waits for is dropped."""
        while self._received() is not None:
            pass
        self.process.join()
        self.pipe.close()
        self.process.close()

    def _received(self) -> Any:
        """Return what it sends next; None if it has ended."""
        try:
            # The pipe stays open after the end of a process if another one has inherited the other side.
            while not self.pipe.poll():
                if self.process.sentinel in wait([self.pipe, self.process.sentinel]) and not self.pipe.poll():
                    return None
            return self.pipe.recv()
        except (EOFError, OSError):
            return None


def _serve(pipe: Connection) -> None:
    """Do the work received through a pipe, for one path after another, until None is received."""
    end_with_parent()
    keep_freed_memory()
    # Ctrl-C is handled by the main process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        try:
            if (work := pipe.recv()) is None:
                return
            _use_one_thread()
        except Exception as error:
            pipe.recv()
            pipe.send((None, error))
            return
        while (path := pipe.recv()) is not None:
            try:
                pipe.send((work(path), None))
            except Exception as error:  # Passed on: the main process raises it.
                pipe.send((None, error))


def _use_one_thread() -> None:
    import cv2

    cv2.setNumThreads(0)
