"""Work in two steps, the first of which is done for the next files while the second is done for the present one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar, runtime_checkable

from upicker.image.prepare import Prepared
from upicker.particles import Micrograph

T = TypeVar("T")


@runtime_checkable
class TwoSteps(Protocol):
    """Work on a file that `upicker.run.batch.each` may do in two steps: ``work(path)`` is ``finish(load(path))``."""

    @property
    def readers(self) -> int:
        """How many threads load files ahead, each one; 0: none does, and ``work(path)`` is called."""
        ...

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs that several processes divide, as CUDA_VISIBLE_DEVICES names them."""
        ...

    def __call__(self, path: Path, /) -> Any:
        """Do both steps."""
        ...

    def load(self, path: Path, /) -> Any:
        """Do the first step; called in several threads at the same time."""
        ...

    def finish(self, loaded: Any, /) -> Any:
        """Do the second step with what the first one returned; called for one file after the other."""
        ...


@dataclass(frozen=True, eq=False)
class Ready:
    """A micrograph that was read and prepared.

    Attributes
    ----------
    micrograph : Micrograph
        As read; without its pixels unless they are drawn.
    prepared : Prepared
        At the working scale, masked.
    """

    micrograph: Micrograph
    prepared: Prepared


def loaded_ahead(paths: Iterable[Path], load: Callable[[Path], T], readers: int) -> Generator[T, None, None]:
    """Load files in threads.

    Parameters
    ----------
    paths : iterable of Path
        The files; each is asked for in a thread, which may have to wait for it.
    load : callable
        Takes a path.
    readers : int
        Number of threads. While the caller works on one file, no more than these are loaded, or wait for it.

    Yields
    ------
    object
        What `load` returns, in the order of the files.

    Raises
    ------
    Exception
        What `load` raises for a file, when that file's turn has come.
    """
    coming: SimpleQueue[Future[T] | None] = SimpleQueue()
    room, closed = threading.Semaphore(readers), threading.Event()

    def feed() -> None:
        # An executor that is shut down takes no more.
        with suppress(RuntimeError):
            for path in paths:
                room.acquire()
                if closed.is_set():
                    break
                coming.put(executor.submit(load, path))
        coming.put(None)

    with ThreadPoolExecutor(readers, "reader") as executor:
        # A daemon, as it may wait for a path that never comes.
        threading.Thread(target=feed, name="feeder", daemon=True).start()
        try:
            while (future := coming.get()) is not None:
                room.release()
                waiting = [future]
                del future
                yield waiting.pop().result()  # Nothing here keeps it while the caller works on it.
        finally:
            closed.set()
            room.release()
            executor.shutdown(cancel_futures=True)
