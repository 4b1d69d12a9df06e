"""Progress bars: for many micrographs, and for training."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column

from upicker.cli.console import err, is_quiet, record, tell

# Without a terminal, a line this often replaces the bar.
PLAIN_SECONDS = 30.0
# Decay per step of the running means of the losses.
KEEP = 0.9


def bar() -> Progress:
    """Return a bar with count, time left and a note, on the standard error; it disappears when done."""
    return Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True, min_width=9)),
        BarColumn(12),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=9)),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        # On a narrow screen the note is truncated.
        TextColumn("left  {task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
        console=err,
        transient=True,
        disable=not err.is_terminal or is_quiet(),
    )


class Plain:
    """Prints progress lines where no bar can be drawn (a log file, a cluster)."""

    def __init__(self, title: str, total: int, done: int = 0) -> None:
        self._title, self._total, self._done_before = title, total, done
        self._start = self._last = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        """Print a line, or only log it where there is a bar, unless the last line is recent."""
        now = time.monotonic()
        if now - self._last < PLAIN_SECONDS or done <= self._done_before:
            return
        self._last = now
        left = (now - self._start) / (done - self._done_before) * (self._total - done)
        text = f"{self._title} {done} of {self._total}, {datetime.timedelta(seconds=round(left))} left  {note}"
        (record if err.is_terminal else tell)(text.rstrip())


@contextmanager
def counted(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show how much is done, as a bar or as lines: what it yields is called with what is done, and with all."""
    plain: list[Plain] = []
    with bar() as progress:
        task = progress.add_task(title, total=None, note="")

        def tell(done: int, total: int) -> None:
            plain.extend([] if plain else [Plain(title, total)])
            progress.update(task, completed=done, total=total)
            plain[0].update(done)

        yield tell


class TrainingBar:
    """Training on the terminal: losses at every step, a line for each validation, the time left.

    Losses are running means, because those of single steps scatter with the content of their tiles.
    """

    def __init__(self) -> None:
        self._bar = bar()
        self._begin("", 0, 0)

    def start(self, total: int, stage: str, done: int) -> None:
        """Start a stage of `total` steps, `done` of which were completed before a resume."""
        self._begin(stage, total, done)
        self._bar = bar()
        self._task = self._bar.add_task(stage, total=total, completed=done, note="")
        self._bar.start()

    def step(self, row: Mapping[str, float]) -> None:
        """Show one step's losses; the keys are the columns of the log. An empty row is a step without losses."""
        if "step" not in row:
            self._bar.advance(self._task)
            return
        for key in _LOSSES:
            mean = self._means.get(key, row[key])
            self._means[key] = mean + (row[key] - mean) * (1 - KEEP)
        note = self._score + " ".join(f"{name} {self._means[key]:.2f}" for key, name in _LOSSES.items())
        self._bar.update(self._task, completed=row["step"], note=note)
        self._plain.update(int(row["step"]), note)

    def validated(self, row: Mapping[str, float]) -> None:
        """Print one validation."""
        self._score = f"F1 {row['f1']:.3f} "
        figures = ", ".join(f"{key} {row[key]:.3f}" for key in ("precision", "recall", "threshold"))
        tell(f"{self._stage}, step {row['step']:.0f} of {self._total}: F1 {row['f1']:.3f} ({figures})")

    def checked(self, name: str, figures: Mapping[str, float]) -> None:
        """Print the figures of a set that is only checked."""
        tell(
            f"check {name}, step {figures['step']:.0f}: best F1 {figures['f1']:.3f} at {figures['threshold']:.3f}, "
            f"{figures['f1_fixed']:.3f} at {figures['fixed']:g}"
        )

    def finish(self) -> None:
        """Remove the bar."""
        self._bar.stop()

    def _begin(self, stage: str, total: int, done: int) -> None:
        self._stage, self._total, self._score = stage, total, ""
        self._means: dict[str, float] = {}
        self._plain = Plain(stage, total, done)


_LOSSES = {"loss": "loss", "loss_class": "class", "loss_l1": "L1", "loss_giou": "GIoU", "loss_denoise": "noise"}
