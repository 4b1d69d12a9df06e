"""One process kept ready for work on request; it ends with the process that started it."""

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

from upicker.errors import DeviceError, InputError, UPickerError
from upicker.run.allocator import keep_freed_memory
from upicker.run.batch import Outcome, each
from upicker.run.orphan import end_with_parent

T = TypeVar("T")

# The user waits for it, but the page must stay responsive.
_NICE = 5


class Worker:
    """A process, started when it is first needed. All methods may be called from any thread."""

    def __init__(self) -> None:
        self._request_lock, self._lock = threading.Lock(), threading.Lock()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._closed = False

    def do(self, work: Callable[[Path], T], path: Path) -> T:
        """Do one piece of work there, after all earlier requests, and wait for it.

        Parameters
        ----------
        work : callable
            Takes a path; picklable, as for `upicker.run.batch.each`.
        path : Path
            The file it is about.

        Raises
        ------
        UPickerError
            As raised by the work; also if the process was killed, or this object is closed.
        """
        with self._request_lock:
            pipe, process = self._started(path)
            try:
                pipe.send((work, path))
                # The other end of the pipe stays open after a kill if another process has inherited it.
                while pipe not in wait([pipe, process.sentinel]):
                    if not process.is_alive():
                        raise EOFError
                reply: Outcome[T] | UPickerError = pipe.recv()
                if isinstance(reply, DeviceError):  # Another process may be able to use the device.
                    self._discard()
            except (EOFError, OSError) as error:
                self._discard()
                remedy = "Perhaps there was not enough memory: try again"
                raise InputError(path, "the process working on it was stopped", remedy) from error
        if isinstance(reply, UPickerError):
            raise reply
        if reply.error is not None:
            raise reply.error
        return reply.value  # type: ignore[return-value]  # Without an error there is a value.

    def close(self) -> None:
        """Stop the process, even at work; later requests are errors."""
        with self._lock:
            self._closed, process = True, self._process
        if process is not None:
            process.terminate()
            process.join()

    def _started(self, path: Path) -> tuple[Connection, BaseProcess]:
        with self._lock:
            if self._closed:
                raise InputError(path, "the server is stopping", "Start it again")
            if self._pipe is None or self._process is None or not self._process.is_alive():
                # Spawned, as the fork of a process with threads (OpenCV, torch) may hang.
                context = multiprocessing.get_context("spawn")
                self._pipe, other_end = context.Pipe()
                self._process = context.Process(target=_serve, args=(other_end,), name="upicker worker", daemon=True)
                self._process.start()
                other_end.close()
            return self._pipe, self._process

    def _discard(self) -> None:
        """Discard a dead process, so that the next request starts a new one."""
        with self._lock:
            pipe, process, self._pipe, self._process = self._pipe, self._process, None, None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.terminate()
            process.join()


def _serve(pipe: Connection) -> None:
    """Do the work received through the pipe, until it is closed at the other end."""
    end_with_parent()
    keep_freed_memory()
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICE)
    cv2.setNumThreads(1)
    while True:
        try:
            work, path = pipe.recv()
        except (EOFError, OSError):
            return
        reply: Any
        try:
            [reply] = each([path], work)
        except UPickerError as error:
            reply = error
        try:
            pipe.send(reply)
        except OSError:
            return
