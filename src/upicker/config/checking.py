"""Checks of knobs: unknown names, values of the wrong kind, values out of range.

All messages come from the declaration of the knob (`upicker.config.knob`).
"""

from __future__ import annotations

import difflib
import reprlib
import typing
from collections.abc import Iterable

from upicker.config.knob import Knob, Pattern, knobs_of
from upicker.errors import ConfigError

# Of a value, so much is quoted in an error: of any length and depth.
_QUOTED = reprlib.Repr()
_QUOTED.maxstring = _QUOTED.maxother = _QUOTED.maxlong = 200
_QUOTED.maxlist = _QUOTED.maxtuple = 30


class Room:
    """Base of the dataclasses of knobs: values that break a knob's rule are refused when one is made.

    Raises
    ------
    ConfigError
        Naming the knob and what it takes.
    """

    def __post_init__(self) -> None:
        for knob in knobs_of(type(self)).values():
            require(getattr(self, knob.name), knob, "config")


def require(value: object, knob: Knob, where: str) -> None:
    """Refuse a value that breaks the knob's rule.

    Raises
    ------
    ConfigError
        Naming the knob and what it takes.
    """
    if knob.refuses(value):
        raise _refused(value, knob, where)


def require_known(name: str, names: Iterable[str], where: str, key: str, prefix: str = "") -> None:
    """Refuse a name that is not among `names`.

    Parameters
    ----------
    name : str
        A room, a knob or a preset.
    names : iterable of str
        Those that exist.
    where, key : str
        File or option, and the whole key, for the message.
    prefix : str
        What stands before the name in a key.

    Raises
    ------
    ConfigError
        Naming the nearest.
    """
    names = list(names)
    if name in names:
        return
    near = difflib.get_close_matches(name[:100], names, 1, 0.0)
    remedy = f"The nearest is '{prefix}{near[0]}'; known are: {', '.join(names)}"
    raise ConfigError(where, f"unknown '{key}'", remedy)


def converted(value: object, knob: Knob, where: str) -> object:
    """Turn a value, perhaps text of the command line, into the knob's kind.

    Raises
    ------
    ConfigError
        If it is of another kind, or breaks the knob's rule.
    """
    try:
        result = _converted(value, knob)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise _refused(value, knob, where) from error
    if knob.refuses(result):
        raise _refused(value, knob, where)
    return result


def _refused(value: object, knob: Knob, where: str) -> ConfigError:
    return ConfigError(where, f"'{knob.key}' cannot be {_QUOTED.repr(value)}", f"It takes {knob.takes}")


def _converted(value: object, knob: Knob) -> object:
    text = str(value).strip().lower()
    if knob.optional and (value is None or text == "none"):
        return None
    # Choices are compared without regard to case.
    known = [one for one in knob.rule.choices if not isinstance(one, Pattern)]
    if text in known:
        return text
    of = typing.get_args(knob.kind)
    return _to_tuple(value, of) if of else _CONVERT[knob.kind](value)


def _to_bool(value: object) -> bool:
    return {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}[str(value).lower()]


def _to_int(value: object) -> int:
    if float(str(value)) != int(float(str(value))):
        raise ValueError(value)
    return int(float(str(value)))


def _to_float(value: object) -> float:
    number = float(str(value))
    if number != number:
        raise ValueError(value)
    return number


def _to_tuple(value: object, of: tuple) -> tuple:
    parts = value.split(",") if isinstance(value, str) else list(value)  # type: ignore[call-overload]
    if Ellipsis not in of and len(parts) != len(of):
        raise ValueError(value)
    return tuple(of[0](part) for part in parts)


_CONVERT = {bool: _to_bool, int: _to_int, float: _to_float, str: str}
