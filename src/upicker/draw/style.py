"""Common to all drawings: colours, resolution, writing."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from upicker.errors import OutputError
from upicker.io.atomic import replacing

DPI = 100
# Okabe and Ito's colours, which colour-blind eyes can tell apart.
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILION, PURPLE, BLACK = "#0072B2", "#D55E00", "#CC79A7", "#000000"


def save(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all; the suffix chooses the format.

    Raises
    ------
    OutputError
        If it cannot be written, or the suffix is not that of an image format.
    """
    with replacing(Path(path)) as temporary:
        try:
            figure.savefig(temporary, dpi=DPI)
        except ValueError as error:
            raise OutputError(path, f"unknown image format ({error})", "Give it the suffix .png") from error
