"""How a knob is declared: its default, what it takes and one line of help, together in one field of a dataclass.

::

    @dataclass(frozen=True)
    class ImageConfig(Room):
        '''Preparation of a micrograph.'''

        clip_sigma: float = knob(5.0, "Clip grey values beyond this many robust standard deviations.", above=0)

Everything else about knobs is derived from these fields: conversion and checks of values (`upicker.config.checking`),
``upicker config`` and docs/config.md (`upicker.config.printing`).
"""

from __future__ import annotations

import math
import re
import types
import typing
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import Any

_RULE = "rule"
T = typing.TypeVar("T")


@dataclass(frozen=True)
class Pattern:
    """Values of a text knob that cannot be listed.

    Attributes
    ----------
    expression : str
        A regular expression that matches the whole value.
    meaning : str
        The same for people, e.g. ``"a whole number of at least 1"``.
    """

    expression: str
    meaning: str


@dataclass(frozen=True)
class Rule:
    """What a knob takes, beyond its type, and its help; the attributes are the parameters of `knob`."""

    help: str
    low: float
    high: float
    above: float
    multiple_of: int
    choices: tuple[str | Pattern, ...]
    none: str


def knob(
    default: T,
    help: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    multiple_of: int = 1,
    choices: tuple[str | Pattern, ...] = (),
    none: str = "",
) -> T:
    """Declare a knob: a field of a room's dataclass.

    Parameters
    ----------
    default : object
        Its default.
    help : str
        One line for users, with the unit.
    low, high : float
        Smallest and largest value; of a tuple, of each of its elements.
    above : float
        Values must be larger than this.
    multiple_of : int
        Values must be multiples of this.
    choices : tuple of str or Pattern
        All values of a text knob; without them it takes any text.
    none : str
        What None means; needed for knobs that take it, e.g. ``"the threshold stored with the weights"``.

    Returns
    -------
    object
        A dataclass field; typed as the default, so that type checkers see an ordinary attribute.
    """
    rule = Rule(help, low, high, above, multiple_of, choices, none)
    return typing.cast("T", field(default=default, metadata={_RULE: rule}))


@dataclass(frozen=True)
class Knob:
    """A declared knob.

    Attributes
    ----------
    room, name : str
        ``train`` and ``batch`` of ``train.batch``.
    kind : type
        ``bool``, ``int``, ``float``, ``str``, or ``tuple[int, int]``, ``tuple[float, ...]``.
    optional : bool
        Whether it takes None.
    default : object
        Its default.
    rule : Rule
        Help and limits.
    """

    room: str
    name: str
    kind: Any
    optional: bool
    default: object
    rule: Rule

    @property
    def key(self) -> str:
        """``room.name``; without a room, the name."""
        return f"{self.room}.{self.name}" if self.room else self.name

    @property
    def takes(self) -> str:
        """What it takes, for people: ``"a number above 0, or none"``."""
        words = self._choices() if self.rule.choices else self._numbers()
        return f"{words}, or none" if self.optional else words

    def _choices(self) -> str:
        each = [one if isinstance(one, str) else one.meaning for one in self.rule.choices]
        return f"{', '.join(each[:-1])} or {each[-1]}"

    def _numbers(self) -> str:
        rule, of = self.rule, typing.get_args(self.kind)
        words = _KINDS[of[0] if of else self.kind] if rule.multiple_of == 1 else f"a multiple of {rule.multiple_of}"
        if of:
            words = words.replace("a multiple", "multiples") if "multiple" in words else f"{words.removeprefix('a ')}s"
            words = f"a list of {words}" if Ellipsis in of else f"{len(of)} {words}"
        if math.isfinite(rule.low) and math.isfinite(rule.high):
            return f"{words} from {rule.low:g} to {rule.high:g}"
        limits = {"above": rule.above, "of at least": rule.low, "of at most": rule.high}
        bounds = [f"{how} {limit:g}" for how, limit in limits.items() if math.isfinite(limit)]
        return " ".join([words, *(bounds if rule.multiple_of == 1 else [])])

    def refuses(self, value: Any) -> bool:
        """Tell whether a value of the right kind breaks the rule; None breaks none where the knob takes it."""
        if value is None:
            return not self.optional
        rule = self.rule
        if rule.choices:
            return not any(
                value == one if isinstance(one, str) else re.fullmatch(one.expression, str(value))
                for one in rule.choices
            )
        parts = value if isinstance(value, tuple | list) else (value,)
        numbers = [part for part in parts if not isinstance(part, str)]
        return any(
            not rule.low <= number <= rule.high
            or number <= rule.above
            or (rule.multiple_of > 1 and number % rule.multiple_of)
            for number in numbers
        )


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@cache
def knobs_of(room: type[Any]) -> dict[str, Knob]:
    """Return the knobs of a room's dataclass by name, in their order."""
    hints = typing.get_type_hints(room)
    return {declared.name: _knob(room_name(room), declared, hints[declared.name]) for declared in fields(room)}


def room_name(room: type) -> str:
    """Return ``train`` for ``TrainConfig``."""
    return room.__name__.removesuffix("Config").lower()


def _knob(room: str, declared: Field, annotation: Any) -> Knob:
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    kind = next(one for one in options if one is not types.NoneType)
    optional = types.NoneType in options
    return Knob(room, declared.name, kind, optional, declared.default, declared.metadata[_RULE])
