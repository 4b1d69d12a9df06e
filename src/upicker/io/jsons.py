"""Reading JSON files of other programs: values are checked before they are used."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from upicker.errors import CoordinatesError

_WRITE_AGAIN = "Write the file again, or give the coordinates as CSV"


def parse(path: Path, text: str) -> Any:
    """Return a parsed JSON text.

    Raises
    ------
    CoordinatesError
        If it is not valid JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise CoordinatesError(path, f"line {error.lineno} is not valid JSON ({error.msg})", _WRITE_AGAIN) from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits; a thousand brackets
        raise CoordinatesError(path, "it is not JSON of coordinates", _WRITE_AGAIN) from error


def number(path: Path, value: object, what: str) -> float:
    """Return a finite number.

    Raises
    ------
    CoordinatesError
        If `value` is something else; `what` names its position in the file.
    """
    try:
        found = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        found = math.nan
    if not math.isfinite(found):
        raise CoordinatesError(path, f"{what} has {str(value)[:60]!r} where a number should be", "Correct or remove it")
    return found


def items(path: Path, value: object, what: str) -> list[Any]:
    """Return a list.

    Raises
    ------
    CoordinatesError
        If `value` is something else.
    """
    if not isinstance(value, list):
        raise CoordinatesError(path, f"{what} is not a list", _WRITE_AGAIN)
    return value


def length(value: object) -> int | None:
    """Return a whole positive number of pixels, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value < 1e7:
        return None
    return int(value)
