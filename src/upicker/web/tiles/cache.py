"""A cache bounded in bytes, for many threads."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

Key = tuple[Hashable, ...]


class Sized(Protocol):
    """A value that reports how much memory it takes."""

    @property
    def nbytes(self) -> int:
        """Bytes."""
        ...


T = TypeVar("T", bound=Sized)


@dataclass(eq=False)
class _Pending:
    """A value that a thread is computing; `generation` is that of its group when it began."""

    generation: int
    future: Future[Any] = field(default_factory=Future)


class Cache:
    """Keeps the most recently used values, up to a number of bytes; safe to use from many threads.

    A value that several threads request at the same time is computed once: by the first, while the others wait.

    Parameters
    ----------
    limit_bytes : int
        Upper limit of the cached values. Those being computed, or held by callers, are not counted.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._values: OrderedDict[Key, Any] = OrderedDict()
        self._pending: dict[Key, _Pending] = {}
        self._generation: Counter[Hashable] = Counter()
        self._bytes = 0

    @property
    def nbytes(self) -> int:
        """Bytes of all cached values."""
        return self._bytes

    def get(self, key: Key, compute: Callable[[], T], most_bytes: int | None = None) -> T:
        """Return the cached value of a key, or compute it.

        Parameters
        ----------
        key : tuple
            Its first item is the group that `drop` removes.
        compute : callable
            Computes the value; may call `get` for other keys, as long as there is no cycle. What it raises is raised
            for all threads that wait, and not cached.
        most_bytes : int, optional
            Cache the value only if it takes at most this; by default, the limit.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
            pending = self._pending.get(key)
            is_ours = pending is None
            if pending is None:
                pending = self._pending[key] = _Pending(self._generation[key[0]])
        if is_ours:
            try:
                pending.future.set_result(compute())
            except BaseException as error:
                pending.future.set_exception(error)
        try:
            value = pending.future.result()
        except BaseException:
            with self._lock:
                self._finish(key, pending)
            raise
        self._keep(key, value, pending, self.limit_bytes if most_bytes is None else most_bytes)
        return value

    def peek(self, key: Key) -> Any | None:
        """Return the cached value of a key; None if there is none."""
        with self._lock:
            return self._values.get(key)

    def drop(self, group: Hashable) -> None:
        """Remove all values of a group; those being computed for it will not be cached."""
        with self._lock:
            self._generation[group] += 1
            for key in [key for key in self._values if key[0] == group]:
                self._bytes -= self._values.pop(key).nbytes
            for key in [key for key in self._pending if key[0] == group]:
                del self._pending[key]

    def _finish(self, key: Key, pending: _Pending) -> None:
        if self._pending.get(key) is pending:
            del self._pending[key]

    def _keep(self, key: Key, value: Sized, pending: _Pending, most_bytes: int) -> None:
        """Cache a value if this caller allows it; a waiting thread may, even if the one that computed it does not."""
        with self._lock:
            self._finish(key, pending)
            outdated = pending.generation != self._generation[key[0]]
            if outdated or key in self._values or value.nbytes > min(most_bytes, self.limit_bytes):
                return
            self._values[key] = value
            self._bytes += value.nbytes
            while self._bytes > self.limit_bytes:
                self._bytes -= self._values.popitem(last=False)[1].nbytes
