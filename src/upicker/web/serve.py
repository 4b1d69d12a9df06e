"""Running the server: its port, its address, the browser that is opened, and a clean shutdown."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from upicker.errors import ConfigError
from upicker.web.app import assemble
from upicker.web.connections import BACKLOG, Connection, Limits, most_connections, quiet_accept
from upicker.web.launching import has_screen, launch_file, open_browser, remove
from upicker.web.project import Project
from upicker.web.security import ANY_ADDRESS, LOOPBACK, Gate, new_token

PORT = 8765
# Time for running requests to finish when the server stops.
_PATIENCE_S = 5
_EVERYWHERE = ("", "0.0.0.0", "::")
_LARGEST_HEADERS = 32_768


@dataclass(frozen=True)
class Address:
    """The address of the page.

    Attributes
    ----------
    host : str
        The host that the server listens on.
    port : int
        The port.
    token : str
        The secret.
    """

    host: str
    port: int
    token: str

    @property
    def is_local(self) -> bool:
        """Whether it can be reached from this machine only."""
        return self.host in LOOPBACK

    @property
    def name(self) -> str:
        """The host as written in a URL that a browser can open."""
        if self.host in _EVERYWHERE:
            return socket.gethostname()
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def origin(self) -> str:
        """The URL without a secret, which opens nothing."""
        return f"http://{self.name}:{self.port}"

    def url(self) -> str:
        """Return the URL to open, with the token."""
        return f"{self.origin}/?token={self.token}"

    def tunnel(self, environ: Mapping[str, str]) -> str:
        """Return the ssh command that makes a local server reachable from a laptop, through a login node if any."""
        user = next((environ[name] for name in ("USER", "LOGNAME", "USERNAME") if environ.get(name)), "you")
        here, login = socket.gethostname(), environ.get("SLURM_SUBMIT_HOST", "")
        jump = f"-J {user}@{login} " if login not in ("", here) else ""
        return f"ssh -N -L {self.port}:{self.name}:{self.port} {jump}{user}@{here}"


def serve(
    project: Project,
    host: str,
    port: int | None,
    browser: bool,
    tell: Callable[[Address], None],
    force: bool = False,
) -> None:
    """Serve a project until Ctrl-C or a termination signal.

    Parameters
    ----------
    project : Project
        The project.
    host : str
        The address to listen on.
    port : int or None
        The port; 0 chooses a free one, None chooses 8765 or, if that is in use, a free one.
    browser : bool
        Whether to open a browser if there is a screen.
    tell : callable
        Called with the address as soon as the server is ready.
    force : bool
        Whether to take over from another server of the same labels or picks.

    Raises
    ------
    ConfigError
        If the server cannot listen on this host or port.
    Held
        If another server has the same labels or picks.
    """
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listen(host, port))
        address = Address(host, listening.getsockname()[1], new_token())
        project.claim(address.origin, force)
        stack.callback(project.release)
        gate = Gate(address.token, _names(host))
        app = assemble(project, gate)

        def ready() -> None:
            tell(address)
            if browser and has_screen(os.environ, sys.platform):
                # Without the file, the address in the terminal works all the same.
                with contextlib.suppress(OSError):
                    _launch(address, gate, stack)

        with contextlib.suppress(KeyboardInterrupt):
            _server(app, ready).run(sockets=[listening])


def _launch(address: Address, gate: Gate, stack: contextlib.ExitStack) -> None:
    """Open a browser by a file that is removed once it was used, at the latest when the stack is left."""
    used: list[Path] = []
    ticket = gate.ticket(lambda: [remove(path) for path in used])
    used.append(stack.enter_context(launch_file(f"{address.origin}/?ticket={ticket}")))
    open_browser(used[0])


def _server(app: ASGIApp, ready: Callable[[], None], limits: Limits | None = None) -> uvicorn.Server:
    """Return the server of an application."""
    limits = limits or Limits(most_connections())
    config = uvicorn.Config(
        app,
        http=partial(Connection, limits),  # type: ignore[arg-type]  # called as a class would be
        loop="asyncio",
        backlog=BACKLOG,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=_PATIENCE_S,
        h11_max_incomplete_event_size=_LARGEST_HEADERS,
    )
    return _Server(config, limits, ready)


class _Server(uvicorn.Server):
    """Calls a function when it is ready."""

    def __init__(self, config: uvicorn.Config, limits: Limits, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._limits, self._ready = limits, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve."""
        quiet_accept(self._limits, asyncio.get_running_loop())
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()


def _names(host: str) -> frozenset[str]:
    """Return the host names by which browsers may address the server."""
    if host in LOOPBACK:
        return LOOPBACK
    return LOOPBACK | {host, socket.gethostname(), socket.getfqdn(), ANY_ADDRESS} - {""}


def _listen(host: str, port: int | None) -> socket.socket:
    """Return a listening socket."""
    if port is not None:
        return _bound(host, port)
    try:
        return _bound(host, PORT)
    except ConfigError as error:
        if error.where != "--port":
            raise
        return _bound(host, 0)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the given port.

    Raises
    ------
    ConfigError
        About ``--port`` or ``--host``, whichever cannot be used.
    """
    if not 0 <= port < 65_536:
        raise ConfigError("--port", f"{port} is not a port", "Give 1024 to 65535, or 0 for a free one")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)[0]
        # With the protocol given, asyncio sends small responses immediately; otherwise each is delayed by some 40 ms.
        listening = socket.socket(family, kind, socket.IPPROTO_TCP)
    except OSError as error:
        remedy = "Give an address of this machine, e.g. 127.0.0.1"
        raise ConfigError("--host", f"'{host}' is not an address ({error.strerror or error})", remedy) from error
    try:
        if os.name == "posix":
            # Otherwise a port stays blocked for a minute after a server has ended.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
            reason = "another program uses it" if error.errno == errno.EADDRINUSE else "permission denied"
            remedy = "Give another port, or --port 0 for a free one"
            raise ConfigError("--port", f"{port} cannot be used: {reason}", remedy) from error
        remedy = "Give an address of this machine, e.g. 127.0.0.1"
        raise ConfigError("--host", f"cannot listen on '{host}' ({error.strerror or error})", remedy) from error
    return listening
