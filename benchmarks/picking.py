"""Seconds and memory of picking, from the file to the coordinate file, in a process of its own.

    python benchmarks/picking.py runs/empiar10017-all-random-0.safetensors ../shared/data/empiar10017/micrographs

The peak is the largest resident memory of the whole process, Python and torch included.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from upicker.io import coordinates, micrographs
from upicker.pick.picker import Picker
from upicker.units import parse_length


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("micrographs", nargs="+")
    parser.add_argument("--diameter", type=parse_length, help="e.g. 108px; by default that of the weights")
    options = parser.parse_args()
    paths = micrographs.find(options.micrographs)
    began = time.perf_counter()
    picker = Picker(options.model)
    diameter = options.diameter or picker.diameter
    print(f"loading the weights: {time.perf_counter() - began:.2f} s; {os.cpu_count()} cores")
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for path in paths:
            began = time.perf_counter()
            micrograph = micrographs.read(path)
            picks = picker.pick(micrograph, diameter.to_px(micrograph.pixel_size_A, str(path)))
            coordinates.write(coordinates.output_path(Path(folder), path.stem, "star"), picks, "star")
            seconds.append(time.perf_counter() - began)
    ordered = sorted(seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(
        f"{len(paths)} micrographs: median {ordered[len(ordered) // 2]:.2f} s, first {seconds[0]:.2f} s, "
        f"slowest {ordered[-1]:.2f} s; peak memory {peak:.2f} GB"
    )


if __name__ == "__main__":
    main()
