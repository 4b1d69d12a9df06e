"""``upicker report --live``: a page that follows a run."""

from __future__ import annotations

import time
from pathlib import Path

from upicker.cli.console import note, tell, warning
from upicker.errors import InputError


def follow(folder: Path, output: Path, every_s: float) -> int:
    """Write the page again and again, until nothing runs in the folder any more, or Ctrl-C; return the exit code.

    Raises
    ------
    InputError
        If the folder is no output folder, or vanishes.
    OutputError
        If the page cannot be written.
    """
    try:
        _follow(folder, output, every_s)
    except KeyboardInterrupt as stop:
        if type(stop) is not KeyboardInterrupt:  # A termination signal.
            raise
    if output.exists():
        note(f"report: {folder} -> {output}")
    return 0


def _follow(folder: Path, output: Path, every_s: float) -> None:
    from upicker.report import live

    if not has_begun(folder):
        tell(f"waiting for a run in {folder}")
    while not has_begun(folder):
        time.sleep(min(every_s, 1.0))
    told: set[tuple[str, str]] = set()
    while (found := live.follow(folder, output, every_s)).is_running:
        for drift in found.drifts:
            if (drift.what, drift.since) not in told:
                warning(f"{drift}.")
            told.add((drift.what, drift.since))
        time.sleep(every_s)
        if not folder.exists():
            raise InputError(folder, "it was removed", f"{output} shows it as it was before")


def has_begun(folder: Path) -> bool:
    """Return whether a run has begun there; what cannot become an output folder is refused by what reads it."""
    from upicker.run import record

    return folder.is_file() or bool(record.read(folder, micrographs=False).about)
