"""The two streams: results on the standard output; progress, warnings and errors on the standard error."""

from __future__ import annotations

from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def silence(silent: bool) -> None:
    """Silence this process, or end that: of several training processes only one prints."""
    out.quiet = err.quiet = silent


def problem(message: str) -> None:
    """Print an error: one red message."""
    err.print(message, style="bold red", markup=False, soft_wrap=True)


def warning(message: str) -> None:
    """Print a warning; the work continues."""
    err.print(message, style="yellow", markup=False, soft_wrap=True)


def note(message: str) -> None:
    """Print a line of results."""
    out.print(message, markup=False, soft_wrap=True)
