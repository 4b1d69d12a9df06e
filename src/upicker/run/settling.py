"""Processes that know nothing of each other, and that fill one folder with their shares of the micrographs.

What holds for all micrographs (the diameter, the working scale, the threshold, a template, the precision) is
determined by the whole list, and by one of the processes: the first to write ``run.toml``. All others take it over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from upicker.errors import ConfigError
from upicker.run import record
from upicker.run.find import Finding, changed_settings, continued

F = TypeVar("F", bound=Finding)


def settled(paths: Sequence[Path], work: F, again: Callable[[], F], option: str) -> F:
    """Determine what holds for all micrographs, or take it over from the process that did so first.

    Parameters
    ----------
    paths : sequence of Path
        All micrographs, of all shares.
    work : Finding
        The work, with what the command line determines; from an existing ``run.toml`` it has been taken over.
    again : callable
        Returns the work anew, for when another process has written ``run.toml`` meanwhile.
    option : str
        What the user gave to share a folder, for messages.

    Returns
    -------
    Finding
        The work whose settings stand in ``run.toml``.

    Raises
    ------
    ConfigError
        If these are other settings.
    OutputError
        If it cannot be written.
    """
    folder = work.outputs.folder
    if not record.read(folder, micrographs=False).about:
        work.outputs.prepare()
        work = work.recorded().adapted(paths)
        if record.write_first(folder, work.command, work.config, work.about()):
            return work
        work = again()
    _require_settings(work, option)
    return continued(work, record.read(folder))


def _require_settings(work: Finding, option: str) -> None:
    """Refuse a share whose settings are not those of the folder's ``run.toml``, even if nothing has been done yet.

    Raises
    ------
    ConfigError
        Naming what differs.
    """
    folder = work.outputs.folder
    if changed := changed_settings(work):
        file = folder / record.NAME
        remedy = (
            f"Give all shares the settings of {file}, or choose another folder with -o; if {file} is old, remove it"
        )
        raise ConfigError(option, f"{folder} was begun with another {' and '.join(changed)}", remedy)
