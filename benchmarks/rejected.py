"""Labels from what was kept after 2-D classification: what the rejected are worth, and what wrong rejections cost.

    python benchmarks/rejected.py --learn 0,1 --check 6,7 --seeds 0          to choose, on training micrographs
    python benchmarks/rejected.py --learn 2,3 --check test --seeds 0,1,2     the test set

Of some micrographs of EMPIAR-10017 what was extracted is taken to be the labels, and the general model's picks that are
none of them; what was kept, the labels less a share that is rejected by mistake. The general model is fine-tuned on
what was kept (partial labels), without and with what was rejected (`finetune --extracted`), at each weight
(`loss.rejected_weight`); and with no label rejected by mistake. Scores are those of benchmarks/training.py.
"""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

import numpy as np
from training import Data, evaluate

from upicker.config import Config
from upicker.io import coordinates, micrographs
from upicker.particles import Particles
from upicker.pick.picker import Picker
from upicker.pick.shipped import located
from upicker.train.job import Job
from upicker.train.labels import without_known
from upicker.train.stages import finetune

WRONG = 0.2


def selection(data: Data, learned: list[Path], wrong: float, seed: int, folder: Path) -> tuple[Path, Path]:
    """Write what is kept and what was extracted, and return both folders."""
    kept, extracted = folder / f"kept-{wrong:g}-{seed}", folder / "extracted"
    picker, side = Picker(), data.diameter.value
    for index, path in enumerate(learned):
        labels = coordinates.read(data.labels / f"{path.stem}.csv").with_diameter(side)
        false = without_known(picker.pick(micrographs.read(path), side), labels, side)
        rng = np.random.default_rng((seed, index, 7))
        coordinates.write(kept / f"{path.stem}.csv", labels.select(rng.random(len(labels)) >= wrong), "csv")
        both = Particles.of(np.concatenate([labels.xy, false.xy]), side)
        coordinates.write(extracted / f"{path.stem}.csv", both, "csv")
        print(f"{path.stem}: {len(labels)} labels, {len(false)} other picks", flush=True)
    return kept, extracted


def main() -> None:
    """Parse the command line, and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--learn", default="0,1", help="numbers of training micrographs, by name from 0")
    parser.add_argument("--check", default="6,7", help="numbers of others, or test")
    parser.add_argument("--weights", default="0.25,0.5,1")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs/rejected"))
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="ROOM.KNOB=VALUE")
    options = parser.parse_args()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    print(f"commit {commit.stdout.strip()}; {options.set}")
    data = Data(options.data, "empiar10017")
    learned = [data.train[int(number)] for number in options.learn.split(",")]
    if options.check != "test":
        data.test = [data.train[int(number)] for number in options.check.split(",")]
    changes = dict(change.split("=", 1) for change in options.set)
    for seed in options.seeds:
        kept, extracted = selection(data, learned, WRONG, seed, options.out)
        right, _ = selection(data, learned, 0.0, seed, options.out)
        tasks: list[tuple[str, Path, Path | None, float]] = [
            ("all kept, nothing rejected", right, None, 0.25),
            (f"{WRONG:.0%} rejected, not told", kept, None, 0.25),
        ]
        for weight in map(float, options.weights.split(",")):
            tasks.append((f"{WRONG:.0%} wrongly rejected, weight {weight:g}", kept, extracted, weight))
            tasks.append((f"none wrongly rejected, weight {weight:g}", right, extracted, weight))
        for number, (name, labels, others, weight) in enumerate(tasks):
            config = Config().with_changes({**changes, "train.seed": seed, "loss.rejected_weight": weight})
            job = Job(options.out / f"{number}-{seed}.safetensors", config)
            result = finetune(learned, labels, job, located(None), data.diameter, partial=True, extracted=others)
            print(f"| {name} | seed {seed} | {result.steps} steps | {evaluate(result.path, data)} |", flush=True)


if __name__ == "__main__":
    main()
