"""The two streams: results on the standard output; progress, warnings and errors on the standard error."""

from __future__ import annotations

from rich.console import Console

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def hush(silent: bool) -> None:
    """Let this process say nothing, or speak again: of several that train together, one reports."""
    out.quiet = err.quiet = silent


def problem(message: str) -> None:
    """Print an error: one red message."""
    err.print(message, style="bold red", markup=False, soft_wrap=True)


def warning(message: str) -> None:
    """Print what a person should know, though the work goes on."""
    err.print(message, style="yellow", markup=False, soft_wrap=True)


def note(message: str) -> None:
    """Print a line of the result."""
    out.print(message, markup=False, soft_wrap=True)
