"""The CSV log of a training, and the interface of progress displays."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Protocol

from upicker.errors import OutputError

COLUMNS: tuple[str, ...] = (
    "step", "stage", "seconds", "learning_rate",
    "loss", "loss_class", "loss_l1", "loss_giou", "loss_denoise",
    "precision", "recall", "f1", "threshold", "round", "sure", "unsure", "skipped",
)  # fmt: skip


class Progress(Protocol):
    """A progress display. Rows have the log's columns."""

    def start(self, total: int, stage: str, done: int) -> None:
        """A stage of `total` steps (or files) begins, of which `done` are already done."""

    def step(self, row: dict) -> None:
        """A training step is done."""

    def validated(self, row: dict) -> None:
        """A validation is done."""

    def finish(self) -> None:
        """The stage is over."""


class Silent:
    """A progress display that shows nothing."""

    def start(self, total: int, stage: str, done: int) -> None:
        """See `Progress`."""

    def step(self, row: dict) -> None:
        """See `Progress`."""

    def validated(self, row: dict) -> None:
        """See `Progress`."""

    def finish(self) -> None:
        """See `Progress`."""


class CsvLog:
    """Appends rows to a CSV file, each written immediately, so that a killed training leaves them.

    Parameters
    ----------
    path : Path
        The file; it starts empty unless `keep_steps` is above 0.
    keep_steps : int
        Rows of later steps are dropped: a resumed training writes them again.
    """

    def __init__(self, path: Path, keep_steps: int = 0) -> None:
        self.path = path
        rows = []
        if keep_steps and path.is_file():
            with path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= keep_steps]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", newline="")
        except OSError as error:
            raise OutputError(
                path, f"the training log cannot be written ({error.strerror})", "Choose another -o"
            ) from error
        self._writer = csv.DictWriter(self._file, COLUMNS)
        self._writer.writeheader()
        self._writer.writerows(rows)
        self._file.flush()

    def write(self, row: dict) -> None:
        """Append a row; missing columns stay empty."""
        self._writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def totals(path: Path) -> tuple[int, float]:
    """Return the steps and seconds of a training, from the last row of its log; 0 without a log."""
    if not path.is_file():
        return 0, 0.0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return (int(rows[-1]["step"]), float(rows[-1]["seconds"])) if rows else (0, 0.0)
