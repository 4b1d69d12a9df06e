"""Train, pick and score on real micrographs, through the same functions as the commands.

    python benchmarks/training.py labelled8            fine-tuned on 8 labelled micrographs, random start
    python benchmarks/training.py pretrain             pretrained on all micrographs without a label
    python benchmarks/training.py few --seeds 0,1,2    fine-tuned on 2 labelled, with and without pretraining
    python benchmarks/training.py apoferritin          apoferritin, 2 labelled
    python benchmarks/training.py develop --learn 0,1 --check 6,7      on training micrographs only, to compare knobs

The split: micrographs sorted by name; the last 4 are the test set, whose labels are read only to score; "develop" does
not touch it. Each seed of "few" takes another two of the training micrographs. Each line of the output is
a row for RESULTS.md; files go to --out (default runs/).
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import time
from pathlib import Path

from upicker.config import Config
from upicker.evaluate import score
from upicker.io import coordinates, micrographs
from upicker.particles import Particles
from upicker.pick.picker import Picker
from upicker.train.stages import Job, StageResult, finetune, pretrain
from upicker.units import Length

SETS = {
    "empiar10017": {"diameter": Length(108, "px"), "test": 4},
    "apoferritin": {"diameter": Length(72, "px"), "test": 4},
}
# Low enough for a whole precision-recall curve.
EVERYTHING = 0.0


class Data:
    """One set of micrographs and labels."""

    def __init__(self, folder: Path, name: str) -> None:
        self.labels = folder / name / "coords"
        self.paths = micrographs.find([folder / name / "micrographs"])
        self.diameter: Length = SETS[name]["diameter"]
        self.train, self.test = self.paths[: -SETS[name]["test"]], self.paths[-SETS[name]["test"] :]


def evaluate(model: Path, data: Data, views: int | None = None) -> str:
    """Pick the test micrographs from their files and return a row of figures."""
    changes = {} if views is None else {"pick.views": views}
    picker = Picker(model, {"pick.threshold": EVERYTHING, **changes})
    stored = Picker(model).threshold
    pairs: list[tuple[Particles, Particles]] = []
    began = time.perf_counter()
    for path in data.test:
        picks = picker.pick(micrographs.read(path), data.diameter.value)
        pairs.append((picks, coordinates.read(data.labels / f"{path.stem}.csv")))
    seconds = (time.perf_counter() - began) / len(data.test)
    iou, centre = score(pairs, data.diameter.value), score(pairs, data.diameter.value, by="centre")
    at = score(pairs, data.diameter.value, threshold=stored)
    return (
        f"F1 {at.f1:.3f} (P {at.precision:.3f} R {at.recall:.3f}) at the stored threshold {stored:.2f} | best F1 "
        f"{iou.best_f1:.3f} (P {iou.best_precision:.3f} R {iou.best_recall:.3f}) | AP {iou.average_precision:.3f} | "
        f"best F1 by centre {centre.best_f1:.3f} | {seconds:.2f} s a micrograph"
    )


def trained(result: StageResult, name: str, seed: int, data: Data) -> None:
    took = f"{result.steps} steps, {result.seconds / 60:.1f} min"
    print(f"| {name} | seed {seed} | {took} | {evaluate(result.path, data)} |", flush=True)


def config(options: argparse.Namespace, seed: int) -> Config:
    changes = dict(change.split("=", 1) for change in options.set)
    return Config().with_changes({**changes, "train.seed": seed})


def labelled8(options: argparse.Namespace, data: Data) -> None:
    for seed in options.seeds:
        job = Job(options.out / f"labelled8-{seed}.safetensors", config(options, seed))
        trained(finetune(data.train, data.labels, job, diameter=data.diameter), "8 labelled, random start", seed, data)


def pretraining(options: argparse.Namespace, data: Data) -> None:
    for seed in options.seeds:
        job = Job(options.out / f"pretrained-{seed}.safetensors", config(options, seed))
        result = pretrain(data.paths, data.diameter, job)
        trained(result, f"pretraining alone, {len(data.paths)} unlabelled", seed, data)


def few(options: argparse.Namespace, data: Data) -> None:
    for seed in options.seeds:
        two = data.train[2 * seed : 2 * seed + 2]
        for start in (None, options.out / f"pretrained-{seed}.safetensors"):
            name = f"2 labelled, {'random start' if start is None else 'pretrained'}"
            job = Job(
                options.out / f"few-{'random' if start is None else 'pretrained'}-{seed}.safetensors",
                config(options, seed),
            )
            trained(finetune(two, data.labels, job, initial=start, diameter=data.diameter), name, seed, data)


def develop(options: argparse.Namespace, data: Data) -> None:
    """Learn from some training micrographs and look at others of them, in one, two and four views."""
    learn, data.test = ([data.train[int(i)] for i in text.split(",")] for text in (options.learn, options.check))
    for seed in options.seeds:
        job = Job(options.out / f"develop-{seed}.safetensors", config(options, seed))
        initial = options.init
        result = finetune(
            learn, data.labels, job, initial=initial, diameter=data.diameter, validation=options.validation
        )
        for views in (1, 2, 4):
            took = f"{result.steps} steps, {result.seconds / 60:.1f} min"
            print(f"| {views} views | seed {seed} | {took} | {evaluate(result.path, data, views)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["labelled8", "pretrain", "few", "apoferritin", "develop"])
    parser.add_argument("--name", choices=sorted(SETS), default="empiar10017", help="develop: the data set")
    parser.add_argument("--learn", default="0,1", help="develop: numbers of training micrographs, by name from 0")
    parser.add_argument("--check", default="6,7", help="develop: numbers of other training micrographs")
    parser.add_argument("--init", type=Path, help="develop: weights to start from")
    parser.add_argument("--validation", type=float, default=0.2, help="develop: share of the rows; 0: none")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="ROOM.KNOB=VALUE")
    options = parser.parse_args()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    print(
        f"{options.what}; commit {commit.stdout.strip()}; {platform.processor() or platform.machine()}; {options.set}"
    )
    if options.what == "apoferritin":
        data = Data(options.data, "apoferritin")
        for seed in options.seeds:
            job = Job(options.out / f"apoferritin-{seed}.safetensors", config(options, seed))
            two = data.train[seed : seed + 2]
            trained(finetune(two, data.labels, job, diameter=data.diameter), "apoferritin, 2 labelled", seed, data)
        return
    work = {"labelled8": labelled8, "pretrain": pretraining, "few": few, "develop": develop}[options.what]
    work(options, Data(options.data, options.name if options.what == "develop" else "empiar10017"))


if __name__ == "__main__":
    main()
