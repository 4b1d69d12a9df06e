"""How time and memory of `upicker pick` and `propose` grow with the micrograph, the diameter and the number.

    python benchmarks/growth.py MODEL

Micrographs are a test micrograph of EMPIAR-10017, cropped, or continued by its mirror images, as MRC of 32-bit floats;
pixels, and so the particles' 108, are as there. Each line is one whole process on one thread: its CPU seconds, those
less the seconds of a micrograph of 256 x 256 px (the start), and its peak memory, to which the start contributes the
libraries and the network. With several micrographs, seconds are those of each. `pick` shows four views.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from speed import DATA, DIAMETER_PX, PIXEL_SIZE_A, ROOT, TEST, Cost, measured, ours

from upicker.io import micrographs, mrc

SIZES = ((2048, 2048), (4096, 4096), (4092, 5760), (8192, 8192), (8184, 11520))
USUAL, TINY = (4096, 4096), (256, 256)
DIAMETERS_PX, NUMBERS = (54.0, 108.0, 216.0), (1, 4, 16)
KINDS = ("size", "diameter", "number")


class Programs:
    """The two commands, run on micrographs that are made when they are first needed."""

    def __init__(self, model: Path, work: Path) -> None:
        self._work = work
        self._made: dict[tuple[int, int], Path] = {}
        self._runs = 0
        pick = ["pick", "--model", str(model.resolve()), "--set", "train.threads=1", "--set", "pick.views=4"]
        self._arguments = {"pick": pick, "propose": ["propose"]}
        self._starts = {name: self.cost(name, TINY) for name in self._arguments}

    def cost(self, name: str, shape: tuple[int, int], diameter_px: float = DIAMETER_PX, number: int = 1) -> Cost:
        """Return what a process takes for some micrographs of a shape."""
        self._runs += 1
        folder = self._work / f"run{self._runs}"
        folder.mkdir()
        paths = [folder / f"m{i}.mrc" for i in range(number)]
        for path in paths:
            path.symlink_to(self._micrograph(shape))
        arguments = [*self._arguments[name], "--diameter", f"{diameter_px:g}px", "--jobs", "1"]
        program = ours(name, ROOT / "src", arguments, 0.0)
        return measured(program.commands(paths, folder), program.environment, folder)

    def lines(self, label: str, shape: tuple[int, int], diameter_px: float = DIAMETER_PX, number: int = 1) -> None:
        """Print a row for each command."""
        for name, start in self._starts.items():
            cost = self.cost(name, shape, diameter_px, number)
            each = (cost.cpu_s - start.cpu_s) / number
            print(f"| {label} | {name} | {cost.cpu_s:.2f} | {each:.2f} | {1024 * cost.peak_GB:.0f} |", flush=True)

    def _micrograph(self, shape: tuple[int, int]) -> Path:
        if shape not in self._made:
            self._made[shape] = self._work / f"{shape[1]}x{shape[0]}.mrc"
            # By another process: the peak memory of a process that this one starts includes what this one holds.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:
                own.submit(_write, self._made[shape], shape).result()
        return self._made[shape]


def _write(path: Path, shape: tuple[int, int]) -> None:
    """Write a micrograph of some shape."""
    source = micrographs.read(micrographs.find([DATA / "micrographs"])[-TEST]).pixels
    rows, columns = (_mirrored(n, length) for n, length in zip(shape, source.shape, strict=True))
    mrc.write(path, source[np.ix_(rows, columns)], PIXEL_SIZE_A)


def _mirrored(count: int, length: int) -> np.ndarray:
    """Return `(count,)` indices that run to and fro over `length` pixels."""
    at = np.arange(count) % (2 * length)
    return np.minimum(at, 2 * length - 1 - at)


def tables(programs: Programs, kinds: Sequence[str]) -> None:
    """Print a table of each kind."""
    for kind in kinds:
        print(f"\n| {kind} | command | CPU-s | less the start, each | peak MB |\n|" + "---|" * 5)
        if kind == "size":
            for rows, columns in SIZES:
                programs.lines(f"{columns} x {rows}", (rows, columns))
        elif kind == "diameter":
            for diameter_px in DIAMETERS_PX:
                programs.lines(f"{diameter_px:g} px", USUAL, diameter_px)
        else:
            for number in NUMBERS:
                programs.lines(str(number), USUAL, number=number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="weights of upicker finetune")
    parser.add_argument("--with", dest="kinds", choices=KINDS, nargs="+", default=KINDS, help="growth with what")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    commit = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    print(f"commit {subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip()}")
    with tempfile.TemporaryDirectory() as folder:
        tables(Programs(options.model, Path(folder)), options.kinds)


if __name__ == "__main__":
    main()
