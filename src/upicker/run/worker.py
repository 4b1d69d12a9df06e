"""One process beside this one that does work when it is asked to, and dies with this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from upicker.errors import InputError, UPickerError
from upicker.run.batch import Outcome, each

T = TypeVar("T")

# A person waits for it, but the page that they look at comes first.
_NICE = 5


class Worker:
    """A process that is started when it is first needed. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._process: BaseProcess | None = None
        self._line: Connection | None = None
        self._closed = False

    def do(self, work: Callable[[Path], T], path: Path) -> T:
        """Do one piece of work there, after all that was asked for before, and wait for it.

        Parameters
        ----------
        work : callable
            Takes a path; picklable, as for `upicker.run.batch.each`.
        path : Path
            The file it is about.

        Raises
        ------
        UPickerError
            What the work raised; also if the process was killed, or this object is closed.
        """
        with self._turn:
            line, process = self._started(path)
            try:
                line.send((work, path))
                # A killed process leaves its end of the line open where another one has inherited it.
                while line not in wait([line, process.sentinel]):
                    if not process.is_alive():
                        raise EOFError
                answer: Outcome[T] | UPickerError = line.recv()
            except (EOFError, OSError) as error:
                self._forget()
                remedy = "Perhaps there was not enough memory for it: try again"
                raise InputError(path, "the process working on it was stopped", remedy) from error
        if isinstance(answer, UPickerError):
            raise answer
        if answer.error is not None:
            raise answer.error
        return answer.value  # type: ignore[return-value]  # Without an error there is a value.

    def close(self) -> None:
        """Stop the process, whatever it is doing; nothing can be done afterwards."""
        with self._lock:
            self._closed, process = True, self._process
        if process is not None:
            process.terminate()
            process.join()

    def _started(self, path: Path) -> tuple[Connection, BaseProcess]:
        with self._lock:
            if self._closed:
                raise InputError(path, "the server is being stopped", "Start it again")
            if self._line is None or self._process is None or not self._process.is_alive():
                # Not forked: a fork of a process with threads (OpenCV, torch) may hang.
                context = multiprocessing.get_context("spawn")
                self._line, theirs = context.Pipe()
                self._process = context.Process(target=_serve, args=(theirs,), name="upicker worker", daemon=True)
                self._process.start()
                theirs.close()
            return self._line, self._process

    def _forget(self) -> None:
        """Let go of a process that is dead, so that the next work gets a new one."""
        with self._lock:
            line, process, self._line, self._process = self._line, self._process, None, None
        if line is not None:
            line.close()
        if process is not None:
            process.terminate()
            process.join()


def _serve(line: Connection) -> None:
    """Do what comes along the line, until it is closed at the other end."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICE)
    cv2.setNumThreads(1)
    while True:
        try:
            work, path = line.recv()
        except (EOFError, OSError):
            return
        answer: Any
        try:
            [answer] = each([path], work)
        except UPickerError as error:
            answer = error
        try:
            line.send(answer)
        except OSError:
            return
