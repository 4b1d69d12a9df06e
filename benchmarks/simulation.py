"""How fast simulation is: tiles for training, and whole micrographs stage by stage.

Run from the checkout::

    OMP_NUM_THREADS=1 python benchmarks/simulation.py [--structures ../shared/structures] [--tiles 200] [--workers 2]

Tiles: 384 x 384 working pixels with everything that varies, at 32 px a particle diameter, one process and several.
Micrographs: 4096 x 4096 of 143 particles, one core, the second of a scene, when specimens are cached. Prints markdown.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from pathlib import Path

import cv2
import torch

from upicker.config import Config
from upicker.simulate import scene as scenes
from upicker.simulate.scene import Scene, make
from upicker.simulate.specimens.specimen import BUILT_IN
from upicker.simulate.tiles import TilePlan
from upicker.train.mixture import Mixture
from upicker.train.simulated import SimulatedTiles

FILES = "3j9i.pdb.gz", "4v7r.mrc.gz"
SHOWN = 7


def stages(profile: cProfile.Profile, inside: tuple[str, str]) -> list[tuple[str, float]]:
    """Return what a function (file's ending, name) spends its seconds on, by what it calls, the longest first."""
    rows = []
    counted = pstats.Stats(profile).stats  # pyright: ignore[reportAttributeAccessIssue]
    for (path, _, name), (*_, callers) in counted.items():
        for (above, _, caller), (*_, seconds) in callers.items():
            if above.endswith(inside[0]) and caller == inside[1]:
                rows.append((f"{Path(path).stem}.{name}".removeprefix("~."), seconds))
    return sorted(rows, key=lambda row: -row[1])


def tiles(count: int, workers: int) -> None:
    config, plan = Config(), TilePlan()
    drawn = SimulatedTiles(plan, config)
    began = time.perf_counter()
    met = 5 * plan.pool  # By then nearly every member of the pool has its bank.
    for index in range(met):
        drawn[index]
    print(f"\nThe first {met} tiles, making the banks included: {time.perf_counter() - began:.1f} s.\n")
    began, used = time.perf_counter(), time.process_time()
    for index in range(met, met + count):
        drawn[index]
    rate, cpu = count / (time.perf_counter() - began), (time.process_time() - used) / count
    print(f"| one process | {rate:.1f} tiles/s; {1e3 * cpu:.0f} ms of CPU time each |\n|---|---|")
    profile = cProfile.Profile()
    profile.enable()
    for index in range(count // 4):
        drawn[index]
    profile.disable()
    for ending, name in (("train/simulated.py", "__getitem__"), ("simulate/scene.py", "make")):
        for stage, spent in stages(profile, (ending, name))[:SHOWN]:
            print(f"| {name}: {stage} | {1e3 * spent / (count // 4):.1f} ms |")
    size = config.train.batch
    batches = Mixture(SimulatedTiles(plan, config), [], config, size, workers)
    first = met * workers // size
    for step in range(first):
        batches(step)
    began = time.perf_counter()
    for step in range(first, first + count // size):
        batches(step)
    rate = count // size * size / (time.perf_counter() - began)
    print(f"| {workers} processes | {rate:.1f} tiles/s |")


def micrographs(structures: Path) -> None:
    print("\n| 4096 x 4096, 143 particles | first, s | second, s | of which |\n|---|---|---|---|")
    for name in (*BUILT_IN, *(str(structures / file) for file in FILES if (structures / file).is_file())):
        scene = Scene(specimens=(name,), shape=(4096, 4096), pixel_size_A=1.34, particles=143, dose_e_A2=40.0)
        began = time.perf_counter()
        make(scene, 0)
        first = time.perf_counter() - began
        began = time.perf_counter()
        make(scene, 1)
        second = time.perf_counter() - began
        profile = cProfile.Profile()
        profile.runcall(make, scene, 1)
        spent = stages(profile, (Path(scenes.__file__).name, "make"))[:SHOWN]
        details = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in spent if seconds > 0.05)
        print(f"| {Path(name).name} | {first:.1f} | {second:.1f} | {details} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, default=Path("../shared/structures"))
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    tiles(options.tiles, options.workers)
    micrographs(options.structures)


if __name__ == "__main__":
    main()
