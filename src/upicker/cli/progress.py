"""Progress bars: for many micrographs, and for training."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from upicker.cli.console import err

# Without a terminal there is no bar, but a line now and then.
PLAIN_SECONDS = 30.0


def bar() -> Progress:
    """Return a bar with a count, the time left, and a note; on the standard error, gone when it is done."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )


class TrainingBar:
    """Shows a training: losses at every step, a line for each validation, the time left."""

    def __init__(self) -> None:
        self._bar = bar()
        self._last = 0.0
        self._stage, self._total, self._best = "", 0, ""

    def start(self, total: int, stage: str, done: int) -> None:
        """Begin a stage of `total` steps, of which `done` were made before a resume."""
        self._stage, self._total, self._last, self._best = stage, total, time.monotonic(), ""
        self._bar = bar()
        self._task = self._bar.add_task(stage, total=total, completed=done, note="")
        self._bar.start()

    def step(self, row: Mapping[str, float]) -> None:
        """Show one step's losses; the keys are the columns of the log. An empty row is a step without any."""
        if "step" not in row:
            self._bar.advance(self._task)
            return
        losses = " ".join(f"{name} {row[key]:.3f}" for name, key in _LOSSES if key in row)
        self._bar.update(self._task, completed=row["step"], note=f"{losses}{self._best}")
        if not err.is_terminal and time.monotonic() - self._last > PLAIN_SECONDS:
            self._last = time.monotonic()
            self._line(f"step {row['step']:.0f} of {self._total}: {losses}")

    def validated(self, row: Mapping[str, float]) -> None:
        """Print one validation."""
        self._best = f" F1 {row['f1']:.3f}"
        figures = ", ".join(f"{key} {row[key]:.3f}" for key in ("precision", "recall", "threshold") if key in row)
        self._line(f"step {row['step']:.0f} of {self._total}: F1 {row['f1']:.3f} ({figures})")

    def finish(self) -> None:
        """Take the bar away."""
        self._bar.stop()

    def _line(self, text: str) -> None:
        self._bar.console.print(f"{self._stage}, {text}", markup=False, soft_wrap=True)


_LOSSES = (
    ("loss", "loss"),
    ("class", "loss_class"),
    ("L1", "loss_l1"),
    ("GIoU", "loss_giou"),
    ("noise", "loss_denoise"),
)
