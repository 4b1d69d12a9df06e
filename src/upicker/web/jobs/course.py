"""How far a training is, read from the log that it writes."""

from __future__ import annotations

import csv
import functools
import math
from dataclasses import dataclass, field
from pathlib import Path

# A curve of more points than a small picture has columns says no more.
MOST_POINTS = 400
# The time left follows from the latest steps: the first ones are slower.
RECENT_STEPS = 50


@dataclass(frozen=True)
class Course:
    """The course of a training.

    Attributes
    ----------
    step : int
        Steps done; 0 before the first.
    loss : float or None
        The last step's.
    curve : list of (float, float)
        Step and loss, thinned to a few hundred means.
    f1s : list of (int, float)
        Step and F1 of each validation.
    best : dict of str to float
        The row of the best F1: ``f1``, ``precision``, ``recall``, ``threshold``; empty without one.
    step_seconds : float or None
        What a step took of late.
    """

    step: int = 0
    loss: float | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)
    f1s: list[tuple[int, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    step_seconds: float | None = None


def read(path: Path) -> Course:
    """Read the log of a training that may be going on, in `upicker.train.log.COLUMNS`.

    A log that is not there, and a last line that is half written, give what there is. It is read again when it has
    changed only, since the page asks again and again.
    """
    try:
        status = path.stat()
    except OSError:
        return Course()
    return _read(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=32)
def _read(path: Path, changed_ns: int, size: int) -> Course:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
    except (OSError, UnicodeDecodeError, csv.Error):
        return Course()
    steps = [(int(row["step"]), row) for row in rows if row.get("step", "").isdecimal()]
    if not steps:
        return Course()
    losses = [(step, loss) for step, row in steps if (loss := _number(row, "loss")) is not None]
    scored = [(step, row, f1) for step, row in steps if (f1 := _number(row, "f1")) is not None]
    best = max(scored, key=lambda item: item[2], default=None)
    figures = {} if best is None else {name: _number(best[1], name) for name in ("precision", "recall", "threshold")}
    return Course(
        step=steps[-1][0],
        loss=losses[-1][1] if losses else None,
        curve=_thinned(losses),
        f1s=[(step, f1) for step, _, f1 in scored],
        best={} if best is None else {"f1": best[2], **{k: v for k, v in figures.items() if v is not None}},
        step_seconds=_pace([(step, _number(row, "seconds")) for step, row in steps[-RECENT_STEPS:]]),
    )


def _pace(recent: list[tuple[int, float | None]]) -> float | None:
    """Return the seconds a step takes; None before the second one."""
    (first, began), (last, now) = recent[0], recent[-1]
    if began is None or now is None or last <= first:
        return None
    return (now - began) / (last - first)


def _thinned(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """Return means of equally many neighbours, at most `MOST_POINTS`."""
    size = max(1, math.ceil(len(points) / MOST_POINTS))
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(round(sum(s for s, _ in part) / len(part), 1), sum(v for _, v in part) / len(part)) for part in parts]


def _number(row: dict[str, str], name: str) -> float | None:
    """Return a finite number of a row, or None."""
    try:
        value = float(row.get(name) or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
