"""Progress of work in several stages, such as the demo and the benchmark."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from upicker.cli.batches import follow
from upicker.cli.console import err
from upicker.cli.progress import TrainingBar

if TYPE_CHECKING:
    from upicker.run.batch import Outcome


class Stages:
    """Prints stage titles, and shows the progress of batches and trainings."""

    def stage(self, title: str) -> None:
        """Print a stage's title."""
        err.rule(title, align="left")

    def training(self) -> TrainingBar:
        """Return a new training bar."""
        return TrainingBar()

    def follow(self, title: str, outcomes: Generator[Outcome, None, None], total: int, target: Path) -> int:
        """Run a batch with a progress bar."""
        return follow(title, outcomes, total, target)
