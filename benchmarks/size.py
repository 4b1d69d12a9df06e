"""How well `upicker size` finds the diameter: its error, time and refusals, real and simulated, with given weights.

    python benchmarks/size.py general.safetensors --shared ../shared [--work DIR] [--only NAME...]

Real sets have the diameter of their labels. Simulated ones are of structures that were left out of training, at three
doses; their diameter is the longest extension. `micassess` has two classes with particles and four without.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from upicker.cli.app import run
from upicker.errors import InputError, collected_warnings
from upicker.io import micrographs
from upicker.io.micrographs import Reading
from upicker.pick.picker import Picker
from upicker.run.size import find

REAL = {"empiar10017": 108.0, "apoferritin": 72.0, "proteasome20s": 24.0}
# Structure, pixel size, particles per square micrometre: diameters of 38 to 240 pixels.
LEFT_OUT = {
    "3j9i": ("1.5A", 300), "6utj": ("2.5A", 800), "3ipm": ("1.2A", 300), "4v1w": ("3.5A", 800),
    "5gjv": ("1.0A", 300), "1bxn": ("1.8A", 800), "3cf3": ("2.2A", 300), "2cg9": ("1.4A", 800),
}  # fmt: skip
DOSES = (40, 13, 4)


def main() -> None:
    """Print a line for each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--work", type=Path, help="simulated micrographs are kept here")
    parser.add_argument("--only", nargs="*", default=[], help="sets whose names begin so")
    args = parser.parse_args()
    picker = Picker(args.weights, {"pick.views": 1})
    with tempfile.TemporaryDirectory() as temporary:
        for name, folder, true_px in sets(args.shared, args.work or Path(temporary), args.only):
            print(f"{name:28}", told(picker, folder, true_px), flush=True)


def sets(shared: Path, work: Path, only: Sequence[str]) -> Iterator[tuple[str, Path, float | None]]:
    """Yield the name, the micrographs and the true diameter (px; None: no particles, or not known) of each set."""

    def wanted(name: str) -> bool:
        return not only or name.startswith(tuple(only))

    for name, diameter_px in REAL.items():
        if wanted(name):
            yield name, shared / "data" / name / "micrographs", diameter_px
    for folder in sorted((shared / "data" / "micassess").iterdir()):
        if wanted(f"micassess {folder.name}"):
            yield f"micassess {folder.name}"[:28], folder, None
    for dose in DOSES:
        for name in LEFT_OUT:
            if wanted(f"{name}, {dose}"):
                yield f"{name}, {dose} e/A2", *simulated(shared / "structures", work, name, dose)


def simulated(structures: Path, work: Path, name: str, dose: float) -> tuple[Path, float]:
    """Simulate three micrographs unless they are there; return their folder and the diameter."""
    folder = work / f"{name}-{dose}"
    pixel_size, concentration = LEFT_OUT[name]
    structure = sorted(structures.glob(f"{name}.*"))[0]
    words = [structure, "-o", folder, "--pixel-size", pixel_size, "--concentration", f"{concentration}/um2"]
    words += ["--micrographs", 3, "--shape", "2048x2048", "--dose", dose, "--skip-existing"]
    if len([*(folder / "truth").glob("*.csv")]) < 3:
        assert run(["simulate", *map(str, words)]) == 0
    truth = np.genfromtxt(sorted((folder / "truth").glob("*.csv"))[0], delimiter=",", names=True)
    return folder / "micrographs", float(np.median(truth["diameter"]))


def told(picker: Picker, folder: Path, true_px: float | None) -> str:
    """Return the estimate and its error, or why there is none, and the seconds taken."""
    paths, start = micrographs.find([folder]), time.monotonic()
    try:
        with collected_warnings():
            found = find(picker, paths, Reading())
    except InputError as error:
        return f"refused: {error.found[:60]} ({time.monotonic() - start:.0f} s)"
    one = found.estimate
    error = "" if true_px is None else f"true {true_px:.0f} px, error {one.diameter_px / true_px - 1:+.0%}, "
    return f"{error}excess {one.excess:.2f}; {'; '.join(found.lines())} ({time.monotonic() - start:.0f} s)"


if __name__ == "__main__":
    main()
