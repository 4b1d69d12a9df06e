"""The server's life: a port, an address, a browser where there is one, and a clean end."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import uvicorn

from upicker.errors import ConfigError
from upicker.web.app import assemble
from upicker.web.project import Project
from upicker.web.security import ANY_ADDRESS, LOOPBACK, Gate, new_token

PORT = 8765
# Requests that are still being answered get so long when the server stops.
_PATIENCE_S = 5
_EVERYWHERE = ("", "0.0.0.0", "::")
_LARGEST_HEADERS = 32_768


@dataclass(frozen=True)
class Address:
    """Where the page is found.

    Attributes
    ----------
    host : str
        The address that is listened on.
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
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK

    @property
    def place(self) -> str:
        """The host as an address says it, by which a browser finds it."""
        if self.host in _EVERYWHERE:
            return socket.gethostname()
        return f"[{self.host}]" if ":" in self.host else self.host

    def url(self, secret: str | None = None) -> str:
        """Return the address to open, with the token or another secret."""
        return f"http://{self.place}:{self.port}/?token={self.token if secret is None else secret}"

    def tunnel(self, environ: Mapping[str, str]) -> str:
        """Return what to type on a laptop to reach a local server by ssh; on a cluster's node, by its login node."""
        user = next((environ[name] for name in ("USER", "LOGNAME", "USERNAME") if environ.get(name)), "you")
        here, login = socket.gethostname(), environ.get("SLURM_SUBMIT_HOST", "")
        jump = f"-J {user}@{login} " if login not in ("", here) else ""
        return f"ssh -N -L {self.port}:{self.place}:{self.port} {jump}{user}@{here}"


def serve(project: Project, host: str, port: int | None, open_browser: bool, tell: Callable[[Address], None]) -> None:
    """Serve a project until Ctrl-C or a termination signal.

    Parameters
    ----------
    project : Project
        What to show.
    host : str
        The address to listen on.
    port : int or None
        The port; 0 takes any that is free, None takes 8765 or, where that is taken, any that is free.
    open_browser : bool
        Whether to open a browser where there is a screen.
    tell : callable
        Told the address as soon as the server answers there.

    Raises
    ------
    ConfigError
        If host or port cannot be listened on.
    """
    token = new_token()
    gate = Gate(token, _names(host))
    app = assemble(project, gate)
    listening = _listen(host, port)
    address = Address(host, listening.getsockname()[1], token)

    def ready() -> None:
        tell(address)
        if open_browser and has_screen(os.environ, sys.platform):
            # Looking for a browser takes a moment, and some never return.
            threading.Thread(target=_open, args=(address.url(gate.ticket()),), daemon=True).start()

    config = uvicorn.Config(
        app,
        http="h11",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=_PATIENCE_S,
        h11_max_incomplete_event_size=_LARGEST_HEADERS,
    )
    server = _Server(config, ready)
    with contextlib.suppress(KeyboardInterrupt), listening:
        server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """Says when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if not self.should_exit:
            self._ready()


def has_screen(environ: Mapping[str, str], platform: str) -> bool:
    """Tell whether the user sits before this machine: a browser that ssh carries to a laptop is of no use."""
    if any(environ.get(name) for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")):
        return False
    return platform in ("darwin", "win32") or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def _open(url: str) -> None:
    """Open a browser; the address is printed, so that nothing is lost where none starts."""
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(url)


def _names(host: str) -> frozenset[str]:
    """Return the names by which browsers may ask for the server."""
    if host in LOOPBACK:
        return LOOPBACK
    return LOOPBACK | {host, socket.gethostname(), socket.getfqdn(), ANY_ADDRESS} - {""}


def _listen(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens."""
    if port is not None:
        return _bound(host, port)
    try:
        return _bound(host, PORT)
    except ConfigError as error:
        if error.where != "--port":
            raise
        return _bound(host, 0)


def _bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens on one port.

    Raises
    ------
    ConfigError
        About ``--port`` or ``--host``, whichever is at fault.
    """
    if not 0 <= port < 65_536:
        raise ConfigError("--port", f"{port} is no port", "Give one of 1024 to 65535, or 0 for any that is free")
    try:
        family, kind, _, _, place = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM)[0]
        # Named, the protocol lets asyncio send small answers at once; else each waits some 40 ms.
        listening = socket.socket(family, kind, socket.IPPROTO_TCP)
    except OSError as error:
        remedy = "Give an address of this machine, e.g. 127.0.0.1"
        raise ConfigError("--host", f"'{host}' is no address ({error.strerror or error})", remedy) from error
    try:
        if os.name == "posix":
            # A port stays blocked for a minute after a server's end without this.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen()
    except OSError as error:
        listening.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
            taken = "another program listens there" if error.errno == errno.EADDRINUSE else "you may not use it"
            remedy = "Give another port, or --port 0 for any that is free"
            raise ConfigError("--port", f"{port} cannot be used: {taken}", remedy) from error
        remedy = "Give an address of this machine, e.g. 127.0.0.1"
        raise ConfigError("--host", f"'{host}' cannot be listened on ({error.strerror or error})", remedy) from error
    return listening
