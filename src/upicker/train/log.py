"""The CSV log of a training, and the interface of progress displays."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from upicker.errors import OutputError
from upicker.io.atomic import replacing

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

    def checked(self, name: str, figures: dict) -> None:
        """A set that is only checked was picked; see `upicker.train.checks.Checks` for the figures."""

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

    def checked(self, name: str, figures: dict) -> None:
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
    more : sequence of str
        Columns beside `COLUMNS`.
    """

    def __init__(self, path: Path, keep_steps: int = 0, more: Sequence[str] = ()) -> None:
        self.path, columns = path, [*COLUMNS, *more]
        rows = [row for row in _rows(path) if int(row["step"]) <= keep_steps] if keep_steps else []
        # Replaced, not emptied and written again: a kill in between would lose the rows that are kept.
        with replacing(path) as beside, beside.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        with self._writing():
            self._file = path.open("a", newline="")
            self._writer = csv.DictWriter(self._file, columns)

    def write(self, row: dict) -> None:
        """Append a row; missing columns stay empty.

        Raises
        ------
        OutputError
            If it cannot be written, e.g. because the disk is full.
        """
        with self._writing():
            self._writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
            self._file.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            found = f"the training log cannot be written ({error.strerror})"
            raise OutputError(self.path, found, "Choose another -o, or make room and use --resume") from error

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # what could not be written has been reported
            self._file.close()


def totals(path: Path) -> tuple[int, float]:
    """Return the steps and seconds of a training, from the last row of its log; 0 without a log."""
    rows = _rows(path)
    return (int(rows[-1]["step"]), float(rows[-1]["seconds"] or 0)) if rows else (0, 0.0)


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a log; a power failure may leave a torn one."""
    if not path.is_file():
        return []
    with path.open(newline="", errors="replace") as file:
        return [row for row in csv.DictReader(file) if _is_whole(row)]


def _is_whole(row: dict) -> bool:
    """Return whether no column is missing, none is too many, and the step is a number."""
    return None not in row and None not in row.values() and str(row.get("step")).isdecimal()
