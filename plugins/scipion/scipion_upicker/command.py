"""What passes between Scipion and the program: command lines, and tables of positions. Imports nothing of Scipion's.

A position is the centre of a particle in pixels of the micrograph, column and row, 0 being the first stored ones; so it
is on both sides, and nothing is turned.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

COMMAND_VAR = "UPICKER_COMMAND"
# The program's exit code when some micrographs could not be done, and all others were.
SOME_FAILED = 3


def train(
    listed: Path, labels: Path, weights: Path, diameter_A: float, pixel_size_A: float, init: str | None = None
) -> list[str]:
    """Return the arguments that train on labelled micrographs.

    Parameters
    ----------
    listed : Path
        A text file with a micrograph's path in each line.
    labels : Path
        The folder of labels, see `write_labels`.
    weights : Path
        The file of weights to write.
    diameter_A, pixel_size_A : float
        The particle's diameter, and the size of a pixel.
    init : str or None
        Weights to begin with.
    """
    words = ["finetune", str(listed), "--labels", str(labels), "-o", str(weights)]
    words += ["--diameter", f"{diameter_A:g}A", "--pixel-size", f"{pixel_size_A:g}A"]
    return words + (["--init", init] if init else [])


def pick(
    listed: Path,
    weights: str | None,
    folder: Path,
    pixel_size_A: float,
    diameter_A: float | None = None,
    threshold: float | None = None,
) -> list[str]:
    """Return the arguments that pick particles, one table for each micrograph into `folder`.

    Parameters
    ----------
    listed : Path
        A text file with a micrograph's path in each line.
    weights : str or None
        The file of weights; None: the general model.
    folder : Path
        For the tables.
    pixel_size_A : float
        The size of a pixel.
    diameter_A, threshold : float or None
        None: those stored with the weights.
    """
    words = ["pick", str(listed), "-o", str(folder), "--format", "csv", "--skip-existing"]
    words += [] if weights is None else ["--model", weights]
    words += ["--pixel-size", f"{pixel_size_A:g}A"]
    words += [] if diameter_A is None else ["--diameter", f"{diameter_A:g}A"]
    return words + ([] if threshold is None else ["--threshold", f"{threshold:g}"])


def table(folder: Path, micrograph: str) -> Path:
    """Return the file of a micrograph's positions in a folder."""
    return folder / f"{Path(micrograph).stem}.csv"


def write_list(path: Path, micrographs: Iterable[str]) -> None:
    """Write a list of micrographs."""
    path.write_text("".join(f"{Path(name).absolute()}\n" for name in micrographs), encoding="utf-8")


def write_labels(path: Path, positions: Iterable[tuple[float, float]], diameter_px: float) -> None:
    """Write a table of labels."""
    rows = "".join(f"{x},{y},{diameter_px:.3f}\n" for x, y in positions)
    path.write_text(f"x,y,diameter\n{rows}", encoding="utf-8")


def read_picks(path: Path) -> list[tuple[float, float, float]]:
    """Return column, row and score of each particle; none where there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [(float(row["x"]), float(row["y"]), float(row["score"])) for row in csv.DictReader(file)]
