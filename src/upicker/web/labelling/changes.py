"""Changes that a browser requests to the labels of one micrograph, validated before any is applied."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from upicker.web.responses import Refused

MOST = 100_000
MOST_REGIONS = 1000
LARGEST_DIAMETER_PX = 40_000.0
COVERAGES = ("unset", "complete", "partial", "regions")
# Targets that concern the micrograph as a whole; no key of a label begins with this sign.
DIAMETER, COVERAGE, REGIONS, BAD = "#diameter", "#coverage", "#regions", "#bad"
# A click at the edge may be this far outside; it is moved to the edge.
BESIDE_PX = 1.0
# Decimals of coordinates on disk; regions need fewer.
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
        The new value: the position `(x, y)` of a label in raw pixels, None to remove it; else that of the setting.
    makes : bool
        Whether the label is added: then an existing one stays as it is. Otherwise a missing one stays missing.
    """

    target: str
    value: Any
    makes: bool = False


def parse(items: object, shape_of: Callable[[], Shape]) -> list[Change]:
    """Validate the changes that a browser sent.

    Parameters
    ----------
    items : object
        A list of ``{"op": ..., ...}``, as parsed from JSON.
    shape_of : callable
        Returns rows, columns of the micrograph; called only if there are positions to check.

    Raises
    ------
    Refused
        400, if one of them is invalid or lies outside the micrograph: then none must be applied.
    """
    if not isinstance(items, list) or len(items) > MOST:
        raise Refused(400, "changes", f"expected a list of at most {MOST} changes", "Send fewer at a time")
    return [_one(f"changes[{i}]", item, shape_of) for i, item in enumerate(items)]


def _one(where: str, item: object, shape_of: Callable[[], Shape]) -> Change:
    if not isinstance(item, dict):
        raise Refused(400, where, "expected a JSON object", "Send op and its values")
    op = item.get("op")
    if op in ("add", "move", "remove"):
        key = item.get("key")
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise Refused(400, where, "its key is missing or invalid", "Use 1 to 24 letters, digits, - and _")
        return Change(key, None if op == "remove" else _position(where, item, shape_of()), op == "add")
    if op == "diameter":
        px = round(_number(where, item.get("px")), DECIMALS)
        if not 0 < px <= LARGEST_DIAMETER_PX:
            found = f"a diameter must be above 0 and at most {LARGEST_DIAMETER_PX:g} px, not {px:g}"
            raise Refused(400, where, found, "Send it in raw pixels")
        return Change(DIAMETER, px)
    value = item.get("value")
    if op == "coverage" and isinstance(value, str) and value in COVERAGES:
        return Change(COVERAGE, value)
    if op == "bad" and isinstance(value, bool):
        return Change(BAD, value)
    if op == "regions" and isinstance(value, list) and len(value) <= MOST_REGIONS:
        return Change(REGIONS, tuple(_rectangle(where, corners, shape_of()) for corners in value))
    known = "add, remove, move, diameter, coverage, regions, bad"
    raise Refused(400, where, f"unknown op or invalid value ({str(op)[:40]})", f"Use one of: {known}")


def _number(where: str, value: object) -> float:
    """Return a finite number."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9 and math.isfinite(value):
        return float(value) + 0.0
    raise Refused(400, where, f"{str(value)[:40]!r} is not a finite number", "Send finite numbers")


def _position(where: str, item: dict[str, object], shape: Shape) -> tuple[float, float]:
    """Return x, y, as they are written to disk."""
    last = shape[1] - 1, shape[0] - 1
    x, y = (_number(where, item.get(name)) for name in ("x", "y"))
    if not (-BESIDE_PX <= x <= last[0] + BESIDE_PX and -BESIDE_PX <= y <= last[1] + BESIDE_PX):
        found = f"({x:g}, {y:g}) lies outside the micrograph of {shape[1]} columns x {shape[0]} rows"
        raise Refused(400, where, found, "Reload the page")
    x, y = (round(min(max(value, -0.5), end + 0.5), DECIMALS) + 0.0 for value, end in zip((x, y), last))
    return x, y


def _rectangle(where: str, corners: object, shape: Shape) -> Rectangle:
    """Return x0, y0, x1, y1, in order and inside the micrograph."""
    if not isinstance(corners, list) or len(corners) != 4:
        raise Refused(400, where, "a region must be a list of four numbers", "Send x0, y0, x1, y1")
    x0, y0, x1, y1 = (_number(where, value) for value in corners)
    x = [min(max(value, -0.5), shape[1] - 0.5) for value in sorted((x0, x1))]
    y = [min(max(value, -0.5), shape[0] - 0.5) for value in sorted((y0, y1))]
    if x[1] - x[0] < 1 or y[1] - y[0] < 1:
        raise Refused(400, where, "a region must cover at least one pixel of the micrograph", "Draw it larger")
    x0, y0, x1, y1 = (round(value, REGION_DECIMALS) + 0.0 for value in (x[0], y[0], x[1], y[1]))
    return x0, y0, x1, y1
