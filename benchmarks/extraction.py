"""Particles a second that `upicker extract` cuts, scales and writes, from a warm cache; and the memory it takes.

    python benchmarks/extraction.py                    boxes of 256 px, normalised, 2 processes
    python benchmarks/extraction.py --scale 64         scaled down to 64 px

Micrographs are noise of 4096 x 4096 px in MRC files, picks lie anywhere. Writing goes to --out (a temporary folder by
default) and is counted. Starting the processes is not: the time is that between the first and the last outcome, less
what came first.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from upicker.io import coordinates, mrc
from upicker.io.pairing import pair_folder
from upicker.particles import Particles
from upicker.run.extract import Extracting, extract_all
from upicker.units import Length


def main() -> None:
    """Make the micrographs, extract, and print the speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micrographs", type=int, default=12)
    parser.add_argument("--particles", type=int, default=500, help="of each")
    parser.add_argument("--box", type=int, default=256)
    parser.add_argument("--scale", type=int)
    parser.add_argument("--float16", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        paths = _micrographs(folder, options)
        picks = pair_folder(paths, folder / "picks").pairs
        work = Extracting(
            picks, folder / "particles.star", Length(options.box, "px"),
            scale_px=options.scale, float16=options.float16,
        )  # fmt: skip
        counts, times = [], []
        for outcome in extract_all(list(picks), work, options.jobs):
            if outcome.value is None:
                raise SystemExit(str(outcome.error))
            counts.append(outcome.value.particles)
            times.append(time.perf_counter())
    # The first outcomes, one of each process, hold the start of the processes.
    speed = sum(counts[options.jobs :]) / (times[-1] - times[options.jobs - 1])
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        f"{options.box} px{f' to {options.scale} px' if options.scale else ''}, {options.jobs} processes: "
        f"{speed:.0f} particles a second, {memory / 1e6:.2f} GB at most in a process"
    )


def _micrographs(folder: Path, options: argparse.Namespace) -> list[Path]:
    """Write noise and picks; return the micrographs."""
    rng = np.random.default_rng(0)
    pixels = rng.normal(100, 10, (4096, 4096)).astype(np.float32)
    paths = [folder / "micrographs" / f"mic{i:03d}.mrc" for i in range(options.micrographs)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        mrc.write(path, np.roll(pixels, int(rng.integers(4096)), 0), 1.0)
        picks = Particles.of(rng.uniform(options.box, 4096 - options.box, (options.particles, 2)), options.box / 2)
        coordinates.write(folder / "picks" / f"{path.stem}.csv", picks, "csv")
    return paths


if __name__ == "__main__":
    main()
