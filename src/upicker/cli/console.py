"""The two streams: results on the standard output; progress, warnings and errors on the standard error; and a log file.

With ``--json`` the standard output is one JSON object, and all else that is printed goes to the standard error.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from upicker.errors import OutputError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
# For the log file only: without one, Python would print what is logged.
_log = logging.getLogger("upicker.log")
_log.addHandler(logging.NullHandler())
_log.setLevel(logging.INFO)
_log.propagate = False


class _State:
    """How this process prints."""

    quiet = False
    verbose = False
    json = False
    printed = False


def silence(silent: bool) -> None:
    """Silence this process, or end that: of several training processes only one prints."""
    out.quiet = err.quiet = _log.disabled = silent


@contextmanager
def printing(log_file: Path | None, quiet: bool, verbose: bool) -> Iterator[None]:
    """Print less or more, and also to a log file, with time and level.

    Raises
    ------
    OutputError
        If that file cannot be written.
    """
    _State.quiet, _State.verbose, _State.json, _State.printed = quiet, verbose, False, False
    handler = None if log_file is None else _handler(log_file)
    if handler is not None:
        _log.addHandler(handler)
    try:
        yield
    finally:
        if handler is not None:
            _log.removeHandler(handler)
            handler.close()


def _handler(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        remedy = "Choose another --log-file"
        raise OutputError(path, f"cannot be written ({error.strerror or error})", remedy) from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    return handler


def is_verbose() -> bool:
    """Return whether more is asked for (``-v``)."""
    return _State.verbose


def is_quiet() -> bool:
    """Return whether progress is not wanted (``-q``)."""
    return _State.quiet


def problem(message: str) -> None:
    """Print an error: one red message."""
    _log.error(message)
    err.print(message, style="bold red", markup=False, soft_wrap=True)


def warning(message: str) -> None:
    """Print a warning; the work continues."""
    _log.warning(message)
    err.print(message, style="yellow", markup=False, soft_wrap=True)


def note(message: str) -> None:
    """Print a line of results."""
    show(message)


def show(content: RenderableType) -> None:
    """Print results: a line, or a table."""
    with out.capture() as captured:
        out.print(content, markup=False, soft_wrap=isinstance(content, str))
    for line in captured.get().splitlines():
        _log.info(line.rstrip())
    (err if _State.json else out).print(content, markup=False, soft_wrap=isinstance(content, str))


def tell(message: str) -> None:
    """Print a line of progress, unless that is not wanted; it is always in the log file."""
    record(message)
    if not _State.quiet:
        err.print(message, markup=False, soft_wrap=True)


def record(message: str) -> None:
    """Write a line to the log file only."""
    _log.info(message)


def as_json(wanted: bool) -> None:
    """From now on, print one JSON object on the standard output, by `result`, and nothing else."""
    _State.json = wanted


def result(values: Mapping[str, object]) -> None:
    """Print the JSON object, if there is to be one; the first one counts. Numbers that are not finite become null."""
    if _State.json and not _State.printed and not out.quiet:
        _State.printed = True
        print(json.dumps(_plain(values), ensure_ascii=True, allow_nan=False), file=out.file, flush=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.item() if hasattr(value, "item") else str(value)
