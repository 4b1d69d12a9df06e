"""Seconds and memory of picking, from the file to the coordinate files, as `upicker pick` does it.

    python benchmarks/picking.py runs/empiar10017-all-random-0.safetensors ../shared/data/empiar10017/micrographs

Prints a row for each number of processes (`--jobs`; by default 1, and what `upicker pick` takes by itself) and of views
(`--views`). Seconds a micrograph are those of the whole run, less the start of the processes: from the first outcome
to the last, over the outcomes between. Memory is the largest process's, Python and torch included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from upicker.io import micrographs
from upicker.pick.picker import Picker
from upicker.run.find import find_all
from upicker.run.machine import cores
from upicker.run.outputs import Outputs
from upicker.run.pick import Picking, processes
from upicker.units import Length, parse_length


def measured(model: Path, paths: list[Path], diameter: Length | None, jobs: int, views: int | None) -> str:
    """Pick all, and return a row of figures."""
    picker = Picker(model, {} if views is None else {"pick.views": views})
    ended = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        work = Picking(picker, Outputs(Path(folder) / "picks", ("csv", "star")), diameter)
        for outcome in find_all(paths, work, jobs):
            if outcome.error is not None:
                raise outcome.error
            ended.append(time.perf_counter())
    first = min(jobs, len(paths) - 1)  # the first outcomes of several processes come together
    seconds = (ended[-1] - ended[first]) / (len(paths) - first)
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (
        f"| {jobs} processes | {picker.config.pick.views or 'default'} views | {seconds:.2f} s a micrograph | "
        f"whole run {ended[-1] - ended[0]:.1f} s | {peak / 1024**2:.2f} GB |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("micrographs", nargs="+")
    parser.add_argument("--diameter", type=parse_length, help="e.g. 108px; by default that of the weights")
    parser.add_argument("--jobs", type=int, nargs="*", help="by default 1, and what upicker pick takes by itself")
    parser.add_argument("--views", type=int, nargs="*", default=[None], help="default: from the weights' config")
    options = parser.parse_args()
    paths = micrographs.find(options.micrographs)
    print(f"{len(paths)} micrographs, {cores()} cores", flush=True)
    jobs = options.jobs or sorted({1, processes(len(paths), Picker(options.model))})
    for views in options.views:
        for number in jobs:
            # In a process of its own, or the memory would be that of the rows before, too.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:
                print(own.submit(measured, options.model, paths, options.diameter, number, views).result(), flush=True)


if __name__ == "__main__":
    main()
