"""Connections to the server: how many at most, and how long one may be open without a request.

Anybody who reaches the port can open connections before the gate sees a request. So one that has not sent a whole
header within some seconds is closed, and where too many are open, those that wait for a request are closed, beginning
with the oldest: the server stays reachable, and within its limit of open files.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

# Asyncio accepts as many at once, without looking at the limit in between.
BACKLOG = 32
_MOST, _LEAST, _OTHER_FILES = 256, 16, 64


@dataclass
class Limits:
    """What connections of one server share.

    Attributes
    ----------
    most : int
        Open connections.
    header_s : float
        Seconds until a connection must have sent the header of its next request.
    told : set of str
        What was logged; each is logged once.
    """

    most: int
    header_s: float = 10.0
    told: set[str] = field(default_factory=set)

    def tell_once(self, text: str) -> None:
        """Log one line, unless it was logged before."""
        if text not in self.told:
            self.told.add(text)
            logging.getLogger("uvicorn.error").error(text)


def most_connections() -> int:
    """Return how many connections may be open, from the process's limit of open files."""
    if os.name != "posix":
        return _MOST
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files == resource.RLIM_INFINITY:
        return _MOST
    return min(_MOST, max(_LEAST, (files - _OTHER_FILES) // 2))


class Connection(H11Protocol):
    """One connection, which is closed when no request comes.

    Parameters
    ----------
    limits : Limits
        Shared by all connections of the server.
    config, rest
        As uvicorn gives them.
    """

    def __init__(self, limits: Limits, config: Config, **rest: Any) -> None:
        super().__init__(config, **rest)
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._opened = self.loop.time()

    @property
    def waits(self) -> bool:
        """Whether no response is due: the header of the next request is still to come."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, perhaps in the place of another."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self._limits.most:
            self._limits.tell_once(
                f"More than {self._limits.most} connections are open: those without a request are closed."
            )
            self._close_one()

    def data_received(self, data: bytes) -> None:
        """Receive a part of a request."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Run the deadline as long as a header is to come; further bytes of it do not put it off."""
        if not self.waits or self.transport.is_closing():
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._limits.header_s, self.drop)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def drop(self) -> None:
        """Close the connection, after what is already written."""
        self._unwatch()
        self.connections.discard(self)
        self.transport.close()

    def _close_one(self) -> None:
        """Close the oldest of those that wait; first those that never sent a request."""
        others = [one for one in self.connections if isinstance(one, Connection) and one.waits]
        min(others, key=lambda one: (one.cycle is not None, one._opened), default=self).drop()


def quiet_accept(limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
    """Log once, without a traceback, that the process has no more file handles; asyncio would do so without end."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if str(context.get("message", "")).startswith("socket.accept() out of system resource"):
            limits.tell_once(
                f"No connection can be accepted: {context.get('exception')}. Close some, or raise ulimit -n."
            )
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)
