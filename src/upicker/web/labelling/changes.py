"""What a browser wants changed in the labels of one micrograph: checked, before anything is touched."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from upicker.web.answers import Refused

MOST = 100_000
MOST_REGIONS = 1000
LARGEST_DIAMETER_PX = 40_000.0
COVERAGES = ("unset", "complete", "partial", "regions")
# What is said of the micrograph as a whole; no key of a label begins with this sign.
DIAMETER, COVERAGE, REGIONS, BAD = "#diameter", "#coverage", "#regions", "#bad"
# A click on the rim may be as far outside as this; it is taken to the rim.
BESIDE_PX = 1.0
# Coordinates on disk have so many decimals; those of regions fewer.
DECIMALS, REGION_DECIMALS = 4, 2
_KEY = re.compile(r"[A-Za-z0-9_-]{1,24}")

Shape = tuple[int, int]
Rectangle = tuple[float, float, float, float]


@dataclass(frozen=True)
class Change:
    """One change.

    Attributes
    ----------
    target : str
        The key of a label, or one of `DIAMETER`, `COVERAGE`, `REGIONS`, `BAD`.
    value : tuple, float, str, bool or None
        What it shall be: the place `(x, y)` of a label in raw pixels, None where it shall go; else the new value.
    makes : bool
        Whether the label is made; one that is there stays as it is. Otherwise one that is not there stays away.
    """

    target: str
    value: Any
    makes: bool = False


def parse(items: object, shape_of: Callable[[], Shape]) -> list[Change]:
    """Check what a browser sent.

    Parameters
    ----------
    items : object
        A list of ``{"op": ..., ...}``, as JSON gives it.
    shape_of : callable
        Returns rows, columns of the micrograph; called only where there are places to check.

    Raises
    ------
    Refused
        400, if one of them is not understood or lies outside the picture: then none is to be done.
    """
    if not isinstance(items, list) or len(items) > MOST:
        raise Refused(400, "changes", f"this is no list of at most {MOST} changes", "Send fewer at a time")
    return [_one(f"changes[{i}]", item, shape_of) for i, item in enumerate(items)]


def _one(where: str, item: object, shape_of: Callable[[], Shape]) -> Change:
    if not isinstance(item, dict):
        raise Refused(400, where, "this is no JSON object", "Send op and what it needs")
    op = item.get("op")
    if op in ("add", "move", "remove"):
        key = item.get("key")
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise Refused(400, where, "its key is missing or not understood", "Use 1 to 24 letters, digits, - and _")
        return Change(key, None if op == "remove" else _place(where, item, shape_of()), op == "add")
    if op == "diameter":
        px = round(_number(where, item.get("px")), DECIMALS)
        if not 0 < px <= LARGEST_DIAMETER_PX:
            raise Refused(400, where, f"{px:g} is no diameter", "Give pixels of the micrograph")
        return Change(DIAMETER, px)
    value = item.get("value")
    if op == "coverage" and isinstance(value, str) and value in COVERAGES:
        return Change(COVERAGE, value)
    if op == "bad" and isinstance(value, bool):
        return Change(BAD, value)
    if op == "regions" and isinstance(value, list) and len(value) <= MOST_REGIONS:
        return Change(REGIONS, tuple(_rectangle(where, corners, shape_of()) for corners in value))
    known = "add, remove, move, diameter, coverage, regions, bad"
    raise Refused(400, where, f"op or value are not understood ({str(op)[:40]})", f"There are: {known}")


def _number(where: str, value: object) -> float:
    """Return a finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value):
        return float(value) + 0.0
    raise Refused(400, where, f"{str(value)[:40]!r} stands where a number should be", "Send finite numbers")


def _place(where: str, item: dict[str, object], shape: Shape) -> tuple[float, float]:
    """Return x, y, as they are written to disk."""
    last = shape[1] - 1, shape[0] - 1
    x, y = (_number(where, item.get(name)) for name in ("x", "y"))
    if not (-BESIDE_PX <= x <= last[0] + BESIDE_PX and -BESIDE_PX <= y <= last[1] + BESIDE_PX):
        found = f"({x:g}, {y:g}) lies outside the picture of {shape[1]} columns x {shape[0]} rows"
        raise Refused(400, where, found, "Reload the page")
    x, y = (round(min(max(value, -0.5), end + 0.5), DECIMALS) + 0.0 for value, end in zip((x, y), last))
    return x, y


def _rectangle(where: str, corners: object, shape: Shape) -> Rectangle:
    """Return x0, y0, x1, y1, in order and inside the picture."""
    if not isinstance(corners, list) or len(corners) != 4:
        raise Refused(400, where, "a region is no list of four numbers", "Send x0, y0, x1, y1")
    x0, y0, x1, y1 = (_number(where, value) for value in corners)
    x = [min(max(value, -0.5), shape[1] - 0.5) for value in sorted((x0, x1))]
    y = [min(max(value, -0.5), shape[0] - 0.5) for value in sorted((y0, y1))]
    if x[1] - x[0] < 1 or y[1] - y[0] < 1:
        raise Refused(400, where, "a region holds not one pixel of the picture", "Draw it larger")
    x0, y0, x1, y1 = (round(value, REGION_DECIMALS) + 0.0 for value in (x[0], y[0], x[1], y[1]))
    return x0, y0, x1, y1
