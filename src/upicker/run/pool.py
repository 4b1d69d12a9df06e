"""Several processes that work on files, each on one at a time; one that dies is replaced, and its files are known.

Each process has a pipe of its own. `concurrent.futures` does not tell which files a dead process had, gives up all
processes at once, keeps all results, and leaves named semaphores behind when it is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, Generic, TypeVar

from upicker.errors import DeviceError, InputError
from upicker.run.allocator import keep_freed_memory
from upicker.run.orphan import end_with_parent

T = TypeVar("T")

# A file whose process dies this often is given up.
MOST_DEATHS = 2
# What a process is sent in front of other work.
_OTHER_WORK = True


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
    failure : DeviceError or None
        Why the last of them ended, if it was not killed.
    """

    path: Path
    value: T | None
    deaths: int
    failure: DeviceError | None = None


def replies(
    paths: Sequence[Path],
    work: Callable[[Iterator[Path]], Generator[T]],
    jobs: int,
    ahead: int = 0,
    gpus: Sequence[str] = (),
    failure: DeviceError | None = None,
    kept: Crew | None = None,
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
    gpus : sequence of str
        The processes divide these: each sees one of them, and so does the one that replaces it.
    failure : DeviceError, optional
        How another process failed at the last file: as if it had been of these.
    kept : Crew, optional
        Processes of earlier calls, which stay for later ones, until whoever made it closes it.

    Yields
    ------
    Reply
        One for each file, in the order of completion. Files whose process died are tried once more, after the others,
        and then without another one beside them: any of those that it had may have been the cause.

    Raises
    ------
    DeviceError
        If the last GPU fails for the second time without a result in between.
    Exception
        What the work raises. Files at work are finished first, those not yet begun are dropped; so, too, if the caller
        stops.
    """
    line = _Line(deque(paths), ahead)
    crew = Crew(jobs, ahead, gpus) if kept is None else kept
    crew.begin(bytes(ForkingPickler.dumps(work)))
    if failure is not None:
        line.deaths[paths[-1]], line.failures[paths[-1]], crew.failures[0] = 1, failure, 1
        line.failed_on[paths[-1]] = {0}
    try:
        for path in paths[len(crew.processes) : len(crew.numbers)]:  # All at the same time: each takes seconds.
            crew.start(path)
        while line.waiting or any(process.paths for process in crew.processes):
            crew.hand_out(line)
            for process in crew.ready():
                value, failure = process.reply()
                if value is None:
                    crew.remove(process, failure)
                    for path in line.take_back(process.paths, process.number, failure):
                        yield Reply(path, None, line.deaths[path], line.failures.get(path))
                else:
                    path = process.paths.popleft()
                    crew.failures.pop(process.number, None)
                    if process.number in crew.meant_for(line):
                        line.fill(process)  # It works on while the caller deals with the result.
                    yield Reply(path, value, line.deaths.get(path, 0), line.failures.get(path))
    finally:
        if kept is None:
            crew.close()


@dataclass
class _Line:
    """The files that wait, how often processes died at them, of which device failures, and of which numbers."""

    waiting: deque[Path]
    ahead: int
    deaths: dict[Path, int] = field(default_factory=dict)
    failures: dict[Path, DeviceError] = field(default_factory=dict)
    failed_on: dict[Path, set[int]] = field(default_factory=dict)

    def next_for(self, given: Collection[Path]) -> Path | None:
        """Return the next file for a process that was given some already; None if it should have no more."""
        if not self.waiting or len(given) > self.ahead:
            return None
        alone = self.waiting[0] in self.deaths or any(path in self.deaths for path in given)
        return None if given and alone else self.waiting.popleft()

    def fill(self, process: _Process) -> None:
        """Give a process as many files as it should have."""
        while process.lives and (path := self.next_for(process.paths)) is not None:
            if not process.give(path):  # It has died before, as will be noticed.
                self.waiting.appendleft(path)

    def take_back(self, paths: Sequence[Path], number: int, failure: DeviceError | None = None) -> list[Path]:
        """Put files whose process died at the end, and return those that are given up.

        A device fails at the first one; the others, which waited, are put in front.
        """
        count = len(paths) if failure is None else 1
        given_up, suspects = [], list(paths)[:count]
        self.waiting.extendleft(reversed(list(paths)[count:]))
        for path in suspects:
            self.deaths[path] = self.deaths.get(path, 0) + 1
            if failure is not None:
                self.failures[path] = failure
                self.failed_on.setdefault(path, set()).add(number)
            (given_up if self.deaths[path] >= MOST_DEATHS else self.waiting).append(path)
        return given_up


class Crew:
    """The processes.

    Parameters
    ----------
    jobs : int
        How many there may be.
    ahead : int
        How many files one is given beside the one at work.
    gpus : sequence of str
        Process number n sees the n-th one.

    Attributes
    ----------
    packed : bytes
        The work.
    numbers : list of int
        Of processes that live, or may be started.
    processes : list of _Process
        Those that were started.
    failures : dict of int to int
        How often the device of a process, and of those that it replaced, failed since the last result.
    """

    def __init__(self, jobs: int, ahead: int = 0, gpus: Sequence[str] = ()) -> None:
        self.packed, self.numbers, self.ahead, self.gpus = b"", list(range(jobs)), ahead, tuple(gpus)
        self.processes: list[_Process] = []
        self.failures: dict[int, int] = {}

    def begin(self, packed: bytes) -> None:
        """Take other work; processes that are there go over to it when they have files to do."""
        self.packed = packed
        for process in self.processes:
            process.begin(packed)

    def replies(
        self, paths: Sequence[Path], work: Callable[[Iterator[Path]], Generator[T]]
    ) -> Generator[Reply[T], None, None]:
        """Work on files; as `replies` of this module, but the processes stay, until `close`."""
        return replies(paths, work, len(self.numbers), self.ahead, self.gpus, kept=self)

    def close(self) -> None:
        """End all processes; files at work are finished first, others are dropped."""
        for process in self.processes:
            process.dismiss()
        for process in self.processes:
            process.end()
        self.processes.clear()

    def start(self, path: Path, among: Collection[int] = ()) -> None:
        """Start a process, with the lowest free number, or that of some; `path` is named if that fails."""
        number = min(set(among or self.numbers) - {process.number for process in self.processes})
        visible = {"CUDA_VISIBLE_DEVICES": self.gpus[number % len(self.gpus)]} if self.gpus else {}
        self.processes.append(_Process(path, self.packed, number, visible))

    def meant_for(self, line: _Line) -> Collection[int]:
        """Return the numbers of the processes that may take the next file: where a device failed at it, another one."""
        failed = line.failed_on.get(line.waiting[0], set()) if line.waiting else set()
        return [number for number in self.numbers if number not in failed] or self.numbers

    def hand_out(self, line: _Line) -> None:
        """Give files to processes, first to those that have fewest; where all are busy, more are started."""
        while line.waiting:
            meant = self.meant_for(line)
            able = [one for one in self.processes if one.lives and one.number in meant]
            process = min(able, key=lambda one: len(one.paths), default=None)
            if (process is None or process.paths) and set(meant) - {one.number for one in self.processes}:
                self.start(line.waiting[0], meant)
                process = self.processes[-1]
            if process is None or (path := line.next_for(process.paths)) is None:
                return
            if not process.give(path):
                line.waiting.appendleft(path)

    def ready(self) -> list[_Process]:
        """Wait, and return the processes that have a result, or have died."""
        there = wait([one.pipe for one in self.processes] + [one.process.sentinel for one in self.processes])
        return [one for one in self.processes if one.pipe in there or one.process.sentinel in there]

    def remove(self, process: _Process, failure: DeviceError | None) -> None:
        """Remove a process that has died; its number, too, if its device failed twice: raised if that was the last."""
        self.processes.remove(process)
        if failure is not None:
            process.process.kill()  # What it cleans up on the device might hang.
        process.end()
        if failure is not None:
            self.failures[process.number] = self.failures.get(process.number, 0) + 1
            if self.failures[process.number] >= MOST_DEATHS:
                self.numbers.remove(process.number)
                if not self.numbers:
                    raise failure


class _Process:
    """One process, and the files that it was given, of which it works on the first.

    Attributes
    ----------
    number : int
        Of its place among the processes.
    paths : deque of Path
        The files.
    lives : bool
        Whether it has taken all that it was given so far.
    """

    def __init__(self, path: Path, packed: bytes, number: int, environment: dict[str, str]) -> None:
        # Spawned, as the fork of a process with threads (OpenCV, torch) may hang.
        context = multiprocessing.get_context("spawn")
        self.number, self.lives, self._has_begun = number, True, False
        self.paths: deque[Path] = deque()
        try:
            self.pipe, other_end = context.Pipe()
            with other_end:
                self.process = context.Process(target=_serve, args=(other_end, environment), daemon=True)
                self.process.start()
        except OSError as error:
            found = f"no process can be started for it ({error.strerror or error})"
            raise InputError(path, found, "Use fewer --jobs, or a larger machine") from error
        self._packed: bytes | None = packed

    def begin(self, packed: bytes) -> None:
        """Let it do other work with the files that it is given from now on; it has none at this time."""
        assert not self.paths
        self._packed = packed

    def give(self, path: Path) -> bool:
        """Tell it to work on a file, too; return whether it was taken: the first always is, even if it died meanwhile.

        Otherwise no file would be blamed for processes that die while they start, and there would be no end of them.
        """
        try:
            if self._packed is not None:  # Large work is sent only as fast as the process reads, once it has started.
                if self._has_begun:
                    self.pipe.send(_OTHER_WORK)
                self.pipe.send_bytes(self._packed)
                self._packed = None
            self.pipe.send(path)
        except OSError:
            self.lives = False
            if self._has_begun:
                return False
        self._has_begun = True
        self.paths.append(path)
        return True

    def reply(self) -> tuple[Any, DeviceError | None]:
        """Wait for its next result, and return it; None if it has died, with the failure of its device.

        Raises what else the work raised.
        """
        value, error = self._received() or (None, None)
        if error is not None and not isinstance(error, DeviceError):
            raise error
        return value, error

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


def _serve(pipe: Connection, environment: dict[str, str]) -> None:
    """Do the work received through a pipe, for one path after another, until None is received, or other work."""
    os.environ.update(environment)  # Before the work, which may import torch.
    end_with_parent()
    keep_freed_memory()
    # Ctrl-C is handled by the main process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        try:
            while (work := pipe.recv()) is not None:
                _use_one_thread()
                dismissed = threading.Event()
                with closing(work(_given(pipe, dismissed))) as results:
                    for result in results:
                        pipe.send((result, None))
                        if dismissed.is_set():
                            return
                if dismissed.is_set():
                    return
        except Exception as error:  # Passed on: the main process raises it.
            pipe.send((None, error))


def _given(pipe: Connection, dismissed: threading.Event) -> Iterator[Path]:
    """Yield the paths that are received, perhaps in another thread, until other work follows, or none (dismissed)."""
    received: Path | bool | None = None
    with suppress(EOFError, OSError):
        while isinstance(received := pipe.recv(), Path):
            yield received
    if received is not _OTHER_WORK:
        dismissed.set()


def _use_one_thread() -> None:
    import cv2

    cv2.setNumThreads(0)
