"""What contrastive denoising is for: doubles without suppression, over the length of a training.

    python benchmarks/denoising.py --steps 100 200 400 --seeds 0

Two training micrographs of EMPIAR-10017 are learned from a random start, and two others picked in one view with
suppression off (`pick.nms_iou=none`). A double is a pick that is closer than a quarter of a diameter to a stronger one.
Variants: denoising as it is by default, lambda_n hardly more than lambda_p, as the paper has it, and none. Prints
markdown; F1 with suppression off and on are at the thresholds that are best for each.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree
from training import Data

from upicker.config import Config
from upicker.io import coordinates, micrographs
from upicker.particles import Particles
from upicker.pick.picker import Picker
from upicker.scoring import score
from upicker.train.job import Job
from upicker.train.stages import finetune

VARIANTS: dict[str, dict[str, object]] = {
    "lambda_n = 2 lambda_p (default)": {},
    "lambda_n = 1.05 lambda_p": {"denoise.negative_noise": 0.42},
    "no denoising": {"denoise.groups": 0},
}
NEAR = 0.25


def doubles(picks: Particles, diameter_px: float) -> int:
    """Return how many picks are closer than `NEAR` diameters to a stronger one."""
    order = np.argsort(-picks.score, kind="stable")
    pairs = KDTree(picks.xy[order]).query_pairs(NEAR * diameter_px, output_type="ndarray")
    return len(np.unique(pairs.max(1))) if len(pairs) else 0


def figures(model: Path, data: Data) -> str:
    """Return cells of a table: doubles and picks at the best threshold, and F1, without and with suppression."""
    cells = []
    for suppression in ("none", "0.5"):
        picker = Picker(model, {"pick.views": 1, "pick.nms_iou": suppression, "pick.threshold": 0.02})
        pairs = [
            (
                picker.pick(micrographs.read(path), data.diameter.value),
                coordinates.read(data.labels / f"{path.stem}.csv"),
            )
            for path in data.test
        ]
        found = score(pairs, data.diameter.value)
        kept = [picks.above(found.best_threshold) for picks, _ in pairs]
        double = sum(doubles(picks, data.diameter.value) for picks in kept)
        cells.append(f"{double} of {sum(map(len, kept))} | {found.best_f1:.3f}")
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--learn", default="0,1", help="numbers of training micrographs, by name from 0")
    parser.add_argument("--check", default="6,7", help="numbers of others")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/denoising"))
    parser.add_argument("--set", action="append", default=[], metavar="ROOM.KNOB=VALUE")
    options = parser.parse_args()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    print(f"commit {commit.stdout.strip()}; {options.set}\n")
    print("| steps | seed | denoising | doubles of picks, suppression off | F1 | doubles, suppression on | F1 |")
    print("|---|---|---|---|---|---|---|")
    data = Data(options.data, "empiar10017")
    learned, data.test = ([data.train[int(i)] for i in text.split(",")] for text in (options.learn, options.check))
    given = dict(change.split("=", 1) for change in options.set)
    for steps in options.steps:
        for seed in options.seeds:
            for number, (name, changes) in enumerate(VARIANTS.items()):
                own = {"train.seed": seed, "train.finetune_steps": steps, "train.validate_every": steps, **changes}
                job = Job(options.out / f"{number}-{steps}-{seed}.safetensors", Config().with_changes({**given, **own}))
                result = finetune(learned, data.labels, job, None, data.diameter)
                print(f"| {steps} | {seed} | {name} | {figures(result.path, data)} |", flush=True)


if __name__ == "__main__":
    main()
