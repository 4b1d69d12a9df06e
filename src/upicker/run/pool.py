"""Several processes that work on files, each on one at a time; one that dies is replaced, and its files are known.

Each process has a pipe of its own. `concurrent.futures` does not tell which files a dead process had, gives up all
processes at once, keeps all results, and leaves named semaphores behind when it is killed.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
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


def replies(
    paths: Sequence[Path], work: Callable[[Iterator[Path]], Generator[T]], jobs: int, ahead: int = 0
) -> Generator[Reply[T], None, None]:
    """Work on files in several processes.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    work : callable
        Takes paths, and yields a result for each in the same order; picklable. It is sent to each process once, as it
        may hold a table of all files.
    jobs : int
        Number of processes.
    ahead : int
        How many files a process is given beside the one at work, for it to begin with.

    Yields
    ------
    Reply
        One for each file, in the order of completion. Files whose process died are tried once more, after the others,
        and then without another one beside them: any of those that it had may have been the cause.

    Raises
    ------
    Exception
        What the work raises. Files at work are finished first, those not yet begun are dropped; so, too, if the caller
        stops.
    """
    line = _Line(deque(paths), ahead)
    packed = bytes(ForkingPickler.dumps(work))
    processes: list[_Process] = []
    try:
        for path in paths[:jobs]:  # All start at the same time: each takes seconds.
            processes.append(_Process(path, packed))
        while line.waiting or any(process.paths for process in processes):
            _hand_out(line, processes, jobs, packed)
            for process in _ready(processes):
                value = process.reply()
                if value is None:
                    processes.remove(process)
                    process.end()
                    for path in line.take_back(process.paths):
                        yield Reply(path, None, line.deaths[path])
                else:
                    path = process.paths.popleft()
                    _hand_out(line, [process], 0, packed)  # It works on while the caller deals with the result.
                    yield Reply(path, value, line.deaths.get(path, 0))
    finally:
        for process in processes:
            process.dismiss()
        for process in processes:
            process.end()


@dataclass
class _Line:
    """The files that wait, and how often processes died at them."""

    waiting: deque[Path]
    ahead: int
    deaths: dict[Path, int] = field(default_factory=dict)

    def next_for(self, given: Collection[Path]) -> Path | None:
        """Return the next file for a process that was given some already; None if it should have no more."""
        if not self.waiting or len(given) > self.ahead:
            return None
        alone = self.waiting[0] in self.deaths or any(path in self.deaths for path in given)
        return None if given and alone else self.waiting.popleft()

    def take_back(self, paths: Iterable[Path]) -> list[Path]:
        """Put files whose process died at the end, and return those that are given up."""
        given_up = []
        for path in paths:
            self.deaths[path] = self.deaths.get(path, 0) + 1
            (given_up if self.deaths[path] >= MOST_DEATHS else self.waiting).append(path)
        return given_up


def _hand_out(line: _Line, processes: list[_Process], jobs: int, packed: bytes) -> None:
    """Give files to processes, first to those that have fewest; up to `jobs` are started where all are busy."""
    while line.waiting:
        process = min((one for one in processes if one.lives), key=lambda one: len(one.paths), default=None)
        if (process is None or process.paths) and len(processes) < jobs:
            process = _Process(line.waiting[0], packed)
            processes.append(process)
        if process is None or (path := line.next_for(process.paths)) is None:
            return
        if not process.give(path):  # It has died before, as will be noticed.
            line.waiting.appendleft(path)


def _ready(processes: Sequence[_Process]) -> list[_Process]:
    """Wait, and return the processes that have a result, or have died."""
    ready = wait([one.pipe for one in processes] + [one.process.sentinel for one in processes])
    return [one for one in processes if one.pipe in ready or one.process.sentinel in ready]


class _Process:
    """One process, and the files that it was given, of which it works on the first.

    Attributes
    ----------
    paths : deque of Path
        The files.
    lives : bool
        Whether it has taken all that it was given so far.
    """

    def __init__(self, path: Path, packed: bytes) -> None:
        # Spawned, as the fork of a process with threads (OpenCV, torch) may hang.
        context = multiprocessing.get_context("spawn")
        self.paths: deque[Path] = deque()
        self.lives = True
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
        """Tell it to work on a file, too; return whether it lives."""
        try:
            if self._packed is not None:  # Large work is sent only as fast as the process reads, once it has started.
                self.pipe.send_bytes(self._packed)
                self._packed = None
            self.pipe.send(path)
        except OSError:
            self.lives = False
        else:
            self.paths.append(path)
        return self.lives

    def reply(self) -> Any:
        """Wait for its next result, and return it; None if it has died. Raises what the work raised."""
        received = self._received()
        if received is None:
            return None
        value, error = received
        if error is not None:
            raise error
        return value

    def dismiss(self) -> None:
        """Let it end after the file that it works on; others that it was given are dropped."""
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
    dismissed = threading.Event()
    with suppress(EOFError, OSError):
        try:
            if (work := pipe.recv()) is None:
                return
            _use_one_thread()
            with closing(work(_given(pipe, dismissed))) as results:
                for result in results:
                    pipe.send((result, None))
                    if dismissed.is_set():
                        return
        except Exception as error:  # Passed on: the main process raises it.
            pipe.send((None, error))


def _given(pipe: Connection, dismissed: threading.Event) -> Iterator[Path]:
    """Yield the paths that are received, perhaps in another thread, until the process is dismissed."""
    with suppress(EOFError, OSError):
        while (path := pipe.recv()) is not None:
            yield path
    dismissed.set()


def _use_one_thread() -> None:
    import cv2

    cv2.setNumThreads(0)
