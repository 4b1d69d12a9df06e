"""The loop over many files, in one or several processes: a file that fails does not stop the others."""

from __future__ import annotations

import errno
import multiprocessing
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from upicker.errors import (
    ConfigError,
    DeviceError,
    MicrographError,
    OutputError,
    UPickerError,
    UPickerWarning,
    collected_warnings,
)
from upicker.run.ahead import TwoSteps, loaded_ahead
from upicker.run.pool import Crew, Reply, replies

A = TypeVar("A")
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
        The time spent on it; what was loaded ahead waits without being counted.
    warnings : tuple of UPickerWarning
        Warnings for the user, though it did not fail.
    """

    path: Path
    value: T | None
    error: UPickerError | None
    seconds: float
    warnings: tuple[UPickerWarning, ...] = ()


class Processes(Protocol):
    """Processes that are there already, and stay: of this machine (`upicker.run.pool.Crew`), or `Workers`."""

    def replies(
        self, paths: Sequence[Path], work: Callable[[Iterator[Path]], Generator[T]], /
    ) -> Generator[Reply[T], None, None]:
        """Work on files; as `upicker.run.pool.replies`."""
        ...


class Workers(Processes, Protocol):
    """Processes elsewhere, see `upicker.run.cluster.Cluster`."""

    @property
    def threads(self) -> int:
        """The cores that each of them has."""
        ...

    @property
    def bfloat16(self) -> bool:
        """Whether networks are computed in bfloat16 there."""
        ...


def each(
    paths: Sequence[Path], work: Callable[[Path], T], jobs: int | Processes = 1
) -> Generator[Outcome[T], None, None]:
    """Do the work for every file, and yield each outcome as soon as it is known.

    Parameters
    ----------
    paths : sequence of Path
        The files.
    work : callable
        Takes a path. With ``jobs > 1`` it is sent to other processes, so it must be picklable: an instance of a
        class at module level. If it is a `upicker.run.ahead.TwoSteps`, files are loaded ahead.
    jobs : int or Processes
        Number of processes; 1 works in this process, file after file in the given order. Or processes that are there.

    Yields
    ------
    Outcome
        One for each file; with several processes in the order of completion.

    Raises
    ------
    OutputError
        If an output cannot be written, as the following ones would fail, too; not if only its name is too long.
    ConfigError
        If a knob is wrong rather than a file.
    DeviceError
        If the GPU fails, again in another process, and there is no other one.
    """
    failure = None
    if not isinstance(jobs, int):
        with closing(jobs.replies(paths, partial(_outcomes, work))) as found:
            for reply in found:
                yield _outcome(reply)
        return
    if jobs <= 1 or len(paths) <= 1:
        done = 0
        try:
            for outcome in _outcomes(work, paths):
                done += 1
                yield outcome
        except DeviceError as error:  # Another process may do the rest, and at last the file at which this one failed.
            if multiprocessing.current_process().daemon:
                raise
            failure, paths = error.with_traceback(None), [*paths[done + 1 :], paths[done]]
            failure.__cause__ = None  # Its frames hold what was on the device.
        else:
            return
    two = _two_steps(work)
    readers, gpus = (two.readers, two.gpus) if two else (0, ())
    jobs = max(1, min(jobs, len(paths)))
    with closing(replies(paths, partial(_outcomes, work), jobs, readers, gpus, failure)) as found:
        for reply in found:
            yield _outcome(reply)


def staying(work: Callable[[Path], object], jobs: int) -> Crew:
    """Return a number of processes that do such work, to be given to `each` again and again, and closed at the end."""
    two = _two_steps(work)
    return Crew(jobs, two.readers, two.gpus) if two else Crew(jobs)


def _outcomes(work: Callable[[Path], T], paths: Iterable[Path]) -> Generator[Outcome[T], None, None]:
    """Work on files in the given order; if the work has two steps, the first is done ahead."""
    two = _two_steps(work)
    if two is None or not two.readers:
        for path in paths:
            yield _attempt(work, path, path)
        return
    with closing(loaded_ahead(paths, partial(_loaded, two), two.readers)) as loaded:
        for one in loaded:
            yield one if one.error is not None else _finished(two, one)


def _two_steps(work: object) -> TwoSteps | None:
    return work if isinstance(work, TwoSteps) else None


def _loaded(work: TwoSteps, path: Path) -> Outcome[Any]:
    return _attempt(work.load, path, path)


def _finished(work: TwoSteps, loaded: Outcome[Any]) -> Outcome[Any]:
    """Do the second step for a file; its time and warnings are those of both."""
    outcome = _attempt(work.finish, loaded.value, loaded.path)
    seconds, warnings = loaded.seconds + outcome.seconds, (*loaded.warnings, *outcome.warnings)
    return replace(outcome, seconds=seconds, warnings=warnings)


def _outcome(reply: Reply[Outcome[T]]) -> Outcome[T]:
    """Return the outcome of a file, and tell which processes died at it: most often for lack of memory."""
    if not reply.deaths:
        assert reply.value is not None
        return reply.value
    happened, remedy = "the process working on it was killed", "Perhaps there was not enough memory: use fewer --jobs"
    if reply.failure is not None:
        failure, remedy = reply.failure, reply.failure.remedy
        happened = f"{failure.where} failed while working on it ({failure.found})"
    if reply.value is None:
        error = MicrographError(reply.path, f"{happened}, {reply.deaths} times", remedy)
        return Outcome(reply.path, None, error, 0.0)
    found = f"{happened}; it was done once more, by another one"
    return replace(reply.value, warnings=(UPickerWarning(reply.path, found, remedy), *reply.value.warnings))


def _attempt(work: Callable[[A], T], argument: A, path: Path) -> Outcome[T]:
    """Work on one file, or do a step of it, and catch errors that concern this file only."""
    start = time.perf_counter()
    value, error = None, None
    noticed: list[UPickerWarning] = []
    try:
        with collected_warnings() as noticed:
            value = work(argument)
    except OutputError as failure:
        cause = failure.__cause__
        if not (isinstance(cause, OSError) and cause.errno == errno.ENAMETOOLONG):
            raise  # A full disk: the other files would fail likewise.
        error = failure
    except DeviceError:
        raise  # The other files would fail likewise, in this process.
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
