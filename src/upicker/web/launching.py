"""Opening the user's browser on the page, without showing anybody else the way in.

A browser's command line can be read by every user of the machine. So the browser is given a file that only this user
can read, which leads to the page with a ticket. Browsers in a sandbox (snap) or on another system (WSL) cannot read the
file; there the address in the terminal is to be used.
"""

from __future__ import annotations

import contextlib
import html
import os
import tempfile
import threading
import webbrowser
from collections.abc import Iterator, Mapping
from pathlib import Path

from upicker.io.atomic import remove_stale, temporary_name

_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><meta name=referrer content=no-referrer>"
    '<meta http-equiv=refresh content="0;url={url}"><title>UPicker</title><p><a href="{url}">Open UPicker</a>'
)


@contextlib.contextmanager
def launch_file(url: str) -> Iterator[Path]:
    """Yield a file, for this user only, that leads a browser to an address; it is removed at the end.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    folder = Path(tempfile.gettempdir())
    remove_stale(folder)  # what a killed server left holds its ticket
    path = folder / temporary_name(".html")
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(_PAGE.format(url=html.escape(url)))
        yield path
    finally:
        remove(path)


def remove(path: Path) -> None:
    """Remove a file, if it is still there."""
    with contextlib.suppress(OSError):
        path.unlink()


def open_browser(path: Path) -> None:
    """Open a file in a browser, if there is one, without waiting: starting takes a moment, and some do not return."""
    threading.Thread(target=_open, args=(path.as_uri(),), daemon=True).start()


def has_screen(environ: Mapping[str, str], platform: str) -> bool:
    """Tell whether the user works at this machine: a browser forwarded through ssh is of no use."""
    if any(environ.get(name) for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")):
        return False
    return platform in ("darwin", "win32") or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def _open(url: str) -> None:
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(url)
