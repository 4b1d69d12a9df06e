"""Work in the background on what will probably be requested next."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

# A task begins once no request was active for the first of these times, at the latest after the second; in seconds.
_QUIET_S, _PATIENCE_S = 0.15, 2.0

Task = Callable[[Callable[[], bool]], None]


class Prefetcher:
    """Runs tasks one after the other in one thread, while no request is being served.

    The thread lives only as long as there are tasks.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: deque[Task] = deque()
        self._thread: threading.Thread | None = None
        self._plan = 0
        self._busy = 0
        self._since = time.monotonic()

    @property
    def working(self) -> bool:
        """Whether a task is waiting or running."""
        return self._thread is not None

    def replace(self, tasks: Iterable[Task]) -> None:
        """Run these tasks from now on, in place of those that have not begun.

        Parameters
        ----------
        tasks : iterable of callable
            Each gets a function that returns True once the task is superseded, and should call it between its steps.
            Exceptions are dropped: a request for the same will raise them again.
        """
        with self._lock:
            self._plan += 1
            self._tasks = deque(tasks)
            if self._tasks and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="prefetch", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Drop the tasks that have not begun, and wait up to two seconds for the running one."""
        self.replace(())
        thread = self._thread
        if thread is not None:
            thread.join(_PATIENCE_S)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Begin no task while the block runs: a request is being served."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._since = time.monotonic()

    def _work(self) -> None:
        while True:
            self._give_way()
            with self._lock:
                if not self._tasks:
                    self._thread = None
                    return
                task, plan = self._tasks.popleft(), self._plan
            with suppress(Exception):
                task(lambda plan=plan: plan != self._plan)

    def _give_way(self) -> None:
        """Wait until no request has been active for a moment."""
        patience = time.monotonic() + _PATIENCE_S
        while self._tasks and (now := time.monotonic()) < patience:
            quiet = 0.0 if self._busy else now - self._since
            if quiet >= _QUIET_S:
                return
            time.sleep(_QUIET_S - quiet)
