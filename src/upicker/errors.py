"""The error family: every error that a user can cause or meet.

::

    UPickerError
     ├── InputError              something the user gave cannot be used
     │    ├── MicrographError    an image that cannot be read, or is not a micrograph
     │    ├── CoordinatesError   a file of labels or picks
     │    └── WeightsError       a file of weights
     ├── ConfigError             an unknown knob, or a value outside its range
     ├── DeviceError             a GPU that failed
     └── OutputError             something cannot be written

`UPickerWarning` is not an error: the work continues, but the user should know. `collected_warnings` collects them.

Each gives the file (or option), what was found there, and what to do. Our own mistakes are
``assert`` statements, not members of this family.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class UPickerError(Exception):
    """An error to show to the user as one sentence or two, without a traceback.

    Parameters
    ----------
    where : str or Path
        The file, folder or option that the error is about.
    found : str
        What was found there.
    remedy : str
        What the user can do about it.
    """

    def __init__(self, where: str | Path, found: str, remedy: str = "") -> None:
        self.where, self.found, self.remedy = str(where), found, remedy
        super().__init__(f"{where}: {found}." + (f" {remedy}." if remedy else ""))

    def __reduce__(self) -> tuple:
        return type(self), (self.where, self.found, self.remedy)


class InputError(UPickerError):
    """Something the user gave cannot be used."""


class MicrographError(InputError):
    """An image that cannot be read, or is not a micrograph."""


class CoordinatesError(InputError):
    """A file of labels or picks that cannot be read or does not fit."""


class WeightsError(InputError):
    """A file of weights that cannot be read or does not fit."""


class ConfigError(UPickerError):
    """An unknown knob, or a value outside its range."""


class DeviceError(UPickerError):
    """A GPU that failed: this process cannot use it any more, but another one perhaps can."""


class OutputError(UPickerError):
    """Something cannot be written."""


class UPickerWarning(UserWarning):
    """Something about a file that the user should know though the work continues; issued with `warn`.

    Parameters
    ----------
    where, found, remedy
        As those of `UPickerError`.
    """

    def __init__(self, where: str | Path, found: str, remedy: str = "") -> None:
        self.where, self.found, self.remedy = str(where), found, remedy
        super().__init__(f"{where}: {found}." + (f" {remedy}." if remedy else ""))

    def __reduce__(self) -> tuple:
        return type(self), (self.where, self.found, self.remedy)


class _Collecting(threading.local):
    """Who collects the warnings of a thread: the lists of the blocks that it is in, the innermost one last."""

    def __init__(self) -> None:
        self.lists: list[list[UPickerWarning]] = []


_collecting = _Collecting()


def warn(warning: UPickerWarning) -> None:
    """Issue a warning: to the `collected_warnings` of this thread, or else as Python's `warnings.warn`."""
    if _collecting.lists:
        _collecting.lists[-1].append(warning)
    else:
        warnings.warn(warning, stacklevel=3)


@contextmanager
def collected_warnings() -> Iterator[list[UPickerWarning]]:
    """Collect what this thread issues with `warn` while a block runs.

    Those of other threads are theirs; Python's own filters and `warnings.catch_warnings` are the whole process's.
    """
    found: list[UPickerWarning] = []
    _collecting.lists.append(found)
    try:
        yield found
    finally:
        _collecting.lists.pop()


def listed(paths: Sequence[Path | str], most: int = 10) -> str:
    """Return the names of files for a message; of many, the first `most` and the number of the rest."""
    some = ", ".join(Path(path).name for path in paths[:most])
    return some if len(paths) <= most else f"{some} and {len(paths) - most} more"
