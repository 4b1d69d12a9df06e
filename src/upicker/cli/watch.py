"""What long work of several stages, like the demo and the benchmark, tells as it goes on."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from upicker.cli.batches import follow
from upicker.cli.console import err
from upicker.cli.progress import TrainingBar

if TYPE_CHECKING:
    from upicker.run.batch import Outcome


class Watch:
    """Prints titles, and shows batches and trainings with their bars."""

    def stage(self, title: str) -> None:
        """Print a stage's title."""
        err.rule(title, align="left")

    def training(self) -> TrainingBar:
        """Return a new bar."""
        return TrainingBar()

    def follow(self, title: str, outcomes: Generator[Outcome, None, None], total: int, target: Path) -> int:
        """Show a batch."""
        return follow(title, outcomes, total, target)
