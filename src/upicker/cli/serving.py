"""What the commands that serve a page share: options, the printed address, the exit code."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from upicker.cli.console import note, warning
from upicker.errors import ConfigError

if TYPE_CHECKING:
    from upicker.web.project import Project
    from upicker.web.serve import Address

Host = Annotated[
    str,
    Parameter(help="Address to listen on. Any other than 127.0.0.1 makes the page reachable from the network."),
]
Port = Annotated[
    int | None,
    Parameter(
        negative="",
        show_default=False,
        allow_leading_hyphen=True,
        help="Port to listen on; 0 for a free one. By default 8765 or, if that is in use, a free one.",
    ),
]
Force = Annotated[
    bool,
    Parameter(
        negative="",
        show_default=False,
        help="Take over from another server of the same folder, which then saves nothing more.",
    ),
]


def check_host(host: str) -> None:
    """Refuse an empty ``--host``, which would mean every address of the machine.

    Raises
    ------
    ConfigError
        If it is empty.
    """
    if not host.strip():
        raise ConfigError("--host", "it is empty", "Leave it out, or give 0.0.0.0 for all addresses of this machine")


def counted(micrographs: Sequence[Path]) -> str:
    """Return the number of micrographs, with the noun."""
    return f"{len(micrographs)} micrograph{'' if len(micrographs) == 1 else 's'}"


def show(project: Project, host: str, port: int | None, browser: bool, title: str, force: bool = False) -> int:
    """Serve a page until Ctrl-C; return the exit code.

    Parameters
    ----------
    project : Project
        The project.
    host, port
        Where to listen; see `upicker.web.serve.serve`.
    browser : bool
        Whether to open a browser if there is a screen.
    title : str
        Printed above the address.
    force : bool
        Whether to take over from another server.
    """
    from upicker.web.serve import serve

    def tell(address: Address) -> None:
        note(title)
        note(f"\n  {address.url()}\n")
        if address.is_local:
            note("From another computer, run this there, and then open the same address there:")
            note(f"  {address.tunnel(os.environ)}\n")
        else:
            warning(
                "Anyone on the network who learns this address can see the micrographs and change the labels; it is "
                "sent over unencrypted http. Safer is --host 127.0.0.1 with an ssh tunnel.\n"
            )
        note("Ctrl-C stops the server.")

    serve(project, host, port, browser, tell, force)
    note("Stopped. Everything is saved.")
    return 0
