"""The loop over many files, in one or several processes: a file that fails does not stop the others."""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from upicker.errors import ConfigError, MicrographError, OutputError, UPickerError, UPickerWarning, collected_warnings

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """The result for one file.

    Attributes
    ----------
    path : Path
        The file.
    value : T or None
        The result; None if it failed.
    error : UPickerError or None
        Why it failed; None if it did not.
    seconds : float
        The time spent on it.
    warnings : tuple of UPickerWarning
        Warnings for the user, though it did not fail.
    """

    path: Path
    value: T | None
    error: UPickerError | None
    seconds: float
    warnings: tuple[UPickerWarning, ...] = ()


def each(paths: Sequence[Path], work: Callable[[Path], T], jobs: int = 1) -> Generator[Outcome[T], None, None]:
    """Do the work for every file, and yield each outcome as soon as it is known.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    work : callable
        Takes a path. With ``jobs > 1`` it is sent to other processes, so it must be picklable: an instance of a
        class at module level.
    jobs : int
        Number of processes; 1 works in this process, file after file in the given order.

    Yields
    ------
    Outcome
        One for each file; with several processes in the order of completion.

    Raises
    ------
    OutputError
        If an output cannot be written, as the following ones would fail, too.
    ConfigError
        If a knob is wrong rather than a file.
    """
    if jobs <= 1 or len(paths) <= 1:
        for path in paths:
            yield _attempt(work, path)
        return
    finished: set[Path] = set()
    try:
        for outcome in _in_pool(paths, work, min(jobs, len(paths))):
            finished.add(outcome.path)
            yield outcome
    except BrokenExecutor:  # A process was killed, most often for lack of memory; which file it had is not known.
        for path in (path for path in paths if path not in finished):
            yield _alone(path, work)


def _attempt(work: Callable[[Path], T], path: Path) -> Outcome[T]:
    """Work on one file, and catch errors that concern this file only."""
    start = time.perf_counter()
    value, error = None, None
    noticed: list[UPickerWarning] = []
    try:
        with collected_warnings() as noticed:
            value = work(path)
    except OutputError:
        raise
    except UPickerError as failure:
        if isinstance(failure, ConfigError) and failure.where != str(path):
            raise  # A knob, not this file: the other files would fail likewise.
        error = failure
    except MemoryError:
        error = MicrographError(path, "there was not enough memory for it", "Use fewer --jobs, or a larger machine")
    except Exception as bug:  # A bug must not end a long run either; it is reported, and counted as a failure.
        frame = traceback.extract_tb(bug.__traceback__)[-1]
        found = f"an unexpected {type(bug).__name__} in {Path(frame.filename).name}:{frame.lineno} ({bug})"
        error = MicrographError(path, found, "This is a bug of UPicker: please report it")
    return Outcome(path, value, error, time.perf_counter() - start, tuple(noticed))


def _in_pool(paths: Sequence[Path], work: Callable[[Path], T], jobs: int) -> Generator[Outcome[T], None, None]:
    """Work in `jobs` processes; files not yet begun are dropped when the caller stops."""
    # Spawned, as the fork of a process with threads (OpenCV, torch) may hang.
    context = multiprocessing.get_context("spawn")
    # The work is sent to each process once, as it may hold a table of all micrographs.
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker, initargs=(work,))
    futures: list[Future[Outcome[T]]] = [pool.submit(_attempt_here, path) for path in paths]
    try:
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _alone(path: Path, work: Callable[[Path], T]) -> Outcome[T]:
    """Work on one file in a process of its own, so that its death is attributed to that file."""
    start = time.perf_counter()
    try:
        [outcome] = _in_pool([path], work, 1)
        return outcome
    except BrokenExecutor:
        error = MicrographError(path, "the process working on it was killed", "Perhaps there was not enough memory")
        return Outcome(path, None, error, time.perf_counter() - start)


# In a worker process: its work.
_work_here: Callable[[Path], Any] | None = None


def _attempt_here(path: Path) -> Outcome:
    """Do this process's work for one file."""
    assert _work_here is not None
    return _attempt(_work_here, path)


def _start_worker(work: Callable[[Path], Any]) -> None:
    """Keep the work; ignore Ctrl-C, which the main process handles, and use one thread of OpenCV."""
    import cv2

    global _work_here
    _work_here = work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
