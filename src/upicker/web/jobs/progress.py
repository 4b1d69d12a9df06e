"""Progress of a training, read from the log that it writes."""

from __future__ import annotations

import csv
import functools
import math
from dataclasses import dataclass, field
from pathlib import Path

# More points would not be visible in a small chart.
MOST_POINTS = 400
# The remaining time is estimated from the latest steps: the first ones are slower.
RECENT_STEPS = 50


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training.

    Attributes
    ----------
    step : int
        Steps done; 0 before the first.
    loss : float or None
        Of the last step.
    curve : list of (float, float)
        Step and loss, averaged to a few hundred points.
    f1s : list of (int, float)
        Step and F1 of each validation.
    best : dict of str to float
        The validation with the best F1: ``f1``, ``precision``, ``recall``, ``threshold``; empty before the first.
    step_seconds : float or None
        Time per step, recently.
    """

    step: int = 0
    loss: float | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)
    f1s: list[tuple[int, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)
    step_seconds: float | None = None


def read(path: Path) -> TrainingProgress:
    """Read the log of a training that may be running, in `upicker.train.log.COLUMNS`.

    A missing log gives no steps, and an incomplete last line is ignored. The file is parsed only when it has changed,
    because the page polls.
    """
    try:
        status = path.stat()
    except OSError:
        return TrainingProgress()
    return _read(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=32)
def _read(path: Path, changed_ns: int, size: int) -> TrainingProgress:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]
    except (OSError, UnicodeDecodeError, csv.Error):
        return TrainingProgress()
    steps = [(int(row["step"]), row) for row in rows if row.get("step", "").isdecimal()]
    if not steps:
        return TrainingProgress()
    losses = [(step, loss) for step, row in steps if (loss := _number(row, "loss")) is not None]
    validations = [(step, row, f1) for step, row in steps if (f1 := _number(row, "f1")) is not None]
    best = max(validations, key=lambda item: item[2], default=None)
    figures = {} if best is None else {name: _number(best[1], name) for name in ("precision", "recall", "threshold")}
    return TrainingProgress(
        step=steps[-1][0],
        loss=losses[-1][1] if losses else None,
        curve=_averaged(losses),
        f1s=[(step, f1) for step, _, f1 in validations],
        best={} if best is None else {"f1": best[2], **{k: v for k, v in figures.items() if v is not None}},
        step_seconds=_step_seconds([(step, _number(row, "seconds")) for step, row in steps[-RECENT_STEPS:]]),
    )


def _step_seconds(recent: list[tuple[int, float | None]]) -> float | None:
    """Return the time per step; None before the second one."""
    (first, start), (last, now) = recent[0], recent[-1]
    if start is None or now is None or last <= first:
        return None
    return (now - start) / (last - first)


def _averaged(points: list[tuple[int, float]]) -> list[tuple[float, float]]:
    """Return means of equally many neighbours, at most `MOST_POINTS`."""
    size = max(1, math.ceil(len(points) / MOST_POINTS))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(round(sum(s for s, _ in one) / len(one), 1), sum(v for _, v in one) / len(one)) for one in groups]


def _number(row: dict[str, str], name: str) -> float | None:
    """Return a finite number of a row, or None."""
    try:
        value = float(row.get(name) or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
