"""What a report is made from, as the user gives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from upicker.io.micrographs import Reading
from upicker.units import Length

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Inputs:
    """What a report is made from.

    Attributes
    ----------
    picks : Path
        Folder of coordinates, or a file with those of many micrographs.
    micrographs : tuple of Path
        The micrographs; empty: those listed in ``run.toml`` beside the picks that still exist.
    reading : Reading
        How micrographs are read.
    labels : Path or None
        Folder of labels to compare with.
    threshold : float or None
        Lowest score that counts; None: that of ``run.toml``, if it has one; else all count.
    diameter : Length or None
        Of the particles; None: as the files give it.
    by : str
        The matching criterion, see `upicker.scoring`.
    """

    picks: Path
    micrographs: tuple[Path, ...] = ()
    reading: Reading = field(default_factory=Reading)
    labels: Path | None = None
    threshold: float | None = None
    diameter: Length | None = None
    by: str = "iou"

    @property
    def folder(self) -> Path:
        """The folder of the picks, where their ``run.toml`` lies."""
        return self.picks if self.picks.is_dir() else self.picks.parent
