"""What the page keeps in memory, bounded in bytes; and what is made ahead of time, in one thread."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

# Work ahead waits until nobody has asked for anything for so long, but not longer than that, in seconds.
_QUIET_S, _PATIENCE_S = 0.15, 2.0

Key = tuple[Hashable, ...]
Task = Callable[[Callable[[], bool]], None]


class Sized(Protocol):
    """What says how much memory it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        ...


T = TypeVar("T", bound=Sized)


@dataclass(eq=False)
class _Making:
    """What a thread is making; `generation` is that of its group when it began."""

    generation: int
    future: Future[Any] = field(default_factory=Future)


class Memory:
    """Keeps what was used last, up to a number of bytes; safe to use from many threads.

    What several threads ask for at once is made once: by the first, while the others wait.

    Parameters
    ----------
    limit_bytes : int
        Most that is kept. What is being made, or is held by callers, is not counted.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Any] = OrderedDict()
        self._making: dict[Key, _Making] = {}
        self._generation: Counter[Hashable] = Counter()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes that are kept now."""
        return self._bytes

    def get(self, key: Key, make: Callable[[], T], most_bytes: int | None = None) -> T:
        """Return what is kept under a key, or make it.

        Parameters
        ----------
        key : tuple
            Its name; the first item is the group that `drop` forgets.
        make : callable
            Makes it; may call `get` for other keys, as long as no circle comes of it. What it raises is raised for
            all who wait, and forgotten.
        most_bytes : int, optional
            Keep it only if it takes no more than this; by default, than the limit.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            making = self._making.get(key)
            mine = making is None
            if making is None:
                making = self._making[key] = _Making(self._generation[key[0]])
        if mine:
            try:
                making.future.set_result(make())
            except BaseException as error:
                making.future.set_exception(error)
        try:
            value = making.future.result()
        except BaseException:
            with self._lock:
                self._made(key, making)
            raise
        self._keep(key, value, making, self.limit_bytes if most_bytes is None else most_bytes)
        return value

    def peek(self, key: Key) -> Any | None:
        """Return what is kept under a key, if anything."""
        with self._lock:
            return self._kept.get(key)

    def drop(self, group: Hashable) -> None:
        """Forget all keys of a group, and what is being made for it, too."""
        with self._lock:
            self._generation[group] += 1
            for key in [key for key in self._kept if key[0] == group]:
                self._bytes -= self._kept.pop(key).nbytes
            for key in [key for key in self._making if key[0] == group]:
                del self._making[key]

    def _made(self, key: Key, making: _Making) -> None:
        if self._making.get(key) is making:
            del self._making[key]

    def _keep(self, key: Key, value: Sized, making: _Making, most_bytes: int) -> None:
        """Keep a value, if this caller wants it kept: those who waited for it may want so, where its maker did not."""
        with self._lock:
            self._made(key, making)
            outdated = making.generation != self._generation[key[0]]
            if outdated or key in self._kept or value.nbytes > min(most_bytes, self.limit_bytes):
                return
            self._kept[key] = value
            self._bytes += value.nbytes
            while self._bytes > self.limit_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes


class Ahead:
    """Does work that nobody has asked for yet, in one thread, while nobody asks for anything else.

    The thread lives only as long as there is work.
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
        """Whether anything is planned or going on."""
        return self._thread is not None

    def replace(self, tasks: Iterable[Task]) -> None:
        """Do these from now on, and nothing of what was planned before.

        Parameters
        ----------
        tasks : iterable of callable
            Each gets a function that says whether it is no longer wanted, and should ask it between its steps.
            What they raise is forgotten: who asks for the same himself will be told.
        """
        with self._lock:
            self._plan += 1
            self._tasks = deque(tasks)
            if self._tasks and self._thread is None:
                self._thread = threading.Thread(target=self._work, name="pictures ahead", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Plan nothing more, and wait a moment for what is going on."""
        self.replace(())
        thread = self._thread
        if thread is not None:
            thread.join(_PATIENCE_S)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """While the block runs, somebody waits for an answer: no new work ahead begins."""
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
            self._let_others_go()
            with self._lock:
                if not self._tasks:
                    self._thread = None
                    return
                task, plan = self._tasks.popleft(), self._plan
            with suppress(Exception):
                task(lambda plan=plan: plan != self._plan)

    def _let_others_go(self) -> None:
        patience = time.monotonic() + _PATIENCE_S
        while self._tasks and (now := time.monotonic()) < patience:
            quiet = 0.0 if self._busy else now - self._since
            if quiet >= _QUIET_S:
                return
            time.sleep(_QUIET_S - quiet)
