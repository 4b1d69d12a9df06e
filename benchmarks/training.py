"""Train, pick and score on real micrographs, through the same functions as the commands.

    python benchmarks/training.py pretrain --seeds 0,1,2     on all micrographs without a label
    python benchmarks/training.py few --seeds 0,1,2          fine-tuned on 2 labelled, with and without that pretraining
    python benchmarks/training.py all --seeds 0,1,2          the same on all labelled ones outside the test set
    python benchmarks/training.py few --count 1 --init src/upicker/model/general-1.safetensors     from another start
    python benchmarks/training.py few --count 1 --particles 50 --init ...      50 labels of one micrograph, as partial
    python benchmarks/training.py develop --learn 0,1 --check 6,7      on training micrographs only, to compare knobs

The data set is EMPIAR-10017 or, with `--name apoferritin`, apoferritin. The split: micrographs sorted by name; the last
4 are the test set, whose labels are read only to score; "develop" does not touch it. Each seed of "few" takes another
two of the training micrographs. `--only pretrained` leaves out the random start. Each line of the output is a row for
RESULTS.md; files go to --out (default runs/).
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from upicker.config import Config
from upicker.io import coordinates, micrographs
from upicker.particles import Particles
from upicker.pick.picker import Picker
from upicker.scoring import score
from upicker.train.job import Job, StageResult
from upicker.train.stages import finetune, pretrain
from upicker.units import Length

SETS = {
    "empiar10017": {"diameter": Length(108, "px"), "test": 4},
    "apoferritin": {"diameter": Length(72, "px"), "test": 4},
    "proteasome20s": {"diameter": Length(24, "px"), "test": 6},
}
# Low enough for a whole precision-recall curve.
EVERYTHING = 0.0
_LABELS = 31  # random numbers of this use


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


def pretraining(options: argparse.Namespace, data: Data) -> None:
    for seed in options.seeds:
        job = Job(pretrained(options, seed), config(options, seed))
        result = pretrain(data.paths, data.diameter, job, options.init)
        trained(result, f"{options.name}, pretraining alone, {len(data.paths)} unlabelled", seed, data)


def pretrained(options: argparse.Namespace, seed: int) -> Path:
    return options.out / f"{options.name}-pretrained-{seed}.safetensors"


def labelled(options: argparse.Namespace, data: Data) -> None:
    """Fine-tune on labelled micrographs, from both starts."""
    for seed in options.seeds:
        few = options.what == "few"
        learned = data.train[options.count * seed : options.count * (seed + 1)] if few else data.train
        starts = (("random start", None), ("pretrained", pretrained(options, seed)))
        for name, start in starts if options.init is None else ((options.init.stem, options.init),):
            if options.only not in name:
                continue
            what = f"{options.what}{options.count}" if few and options.count != 2 else options.what
            labels, partial = data.labels, few and options.particles > 0
            if partial:
                number = sum(len(coordinates.read(data.labels / f"{path.stem}.csv")) for path in learned)
                labels = some_labels(data, learned, options.particles / number, seed, options.out)
                what += f"-{options.particles}"
            file = f"{options.name}-{what}-{name.split()[0]}-{seed}.safetensors"
            job = Job(options.out / file, config(options, seed))
            result = finetune(learned, labels, job, initial=start, diameter=data.diameter, partial=partial)
            some = f", {options.particles} particles" if partial else ""
            trained(result, f"{options.name}, {len(learned)} labelled{some}, {name}", seed, data)


def some_labels(data: Data, paths: Sequence[Path], share: float, seed: int, folder: Path) -> Path:
    """Write a share of the labels of some micrographs, drawn by chance, and return where."""
    target = folder / f"labels-{share:g}-{seed}"
    for index, path in enumerate(paths):
        labels = coordinates.read(data.labels / f"{path.stem}.csv")
        rng = np.random.default_rng((seed, index, _LABELS))
        kept = np.sort(rng.permutation(len(labels))[: max(1, round(share * len(labels)))])
        coordinates.write(target / f"{path.stem}.csv", labels.select(kept), "csv")
    return target


def develop(options: argparse.Namespace, data: Data) -> None:
    """Learn from some training micrographs and look at others of them, in one, two, four and eight views."""
    learn, data.test = ([data.train[int(i)] for i in text.split(",")] for text in (options.learn, options.check))
    for seed in options.seeds:
        job, partial = Job(options.out / f"develop-{seed}.safetensors", config(options, seed)), options.share < 1
        labels = some_labels(data, learn, options.share, seed, options.out) if partial else data.labels
        result = finetune(learn, labels, job, options.init, data.diameter, options.validation, partial)
        for views in (1, 2, 4, 8):
            took = f"{result.steps} steps, {result.seconds / 60:.1f} min"
            print(f"| {views} views | seed {seed} | {took} | {evaluate(result.path, data, views)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["pretrain", "few", "all", "develop"])
    parser.add_argument("--name", choices=sorted(SETS), default="empiar10017")
    parser.add_argument("--only", default="", help="few, all: only the start whose name holds this")
    parser.add_argument("--learn", default="0,1", help="develop: numbers of training micrographs, by name from 0")
    parser.add_argument("--check", default="6,7", help="develop: numbers of other training micrographs")
    parser.add_argument("--init", type=Path, help="weights to start from")
    parser.add_argument("--count", type=int, default=2, help="few: number of labelled micrographs")
    parser.add_argument("--particles", type=int, default=0, help="few: number of labels, drawn by chance; 0: all")
    parser.add_argument("--validation", type=float, default=0.2, help="develop: share of the rows; 0: none")
    parser.add_argument("--share", type=float, default=1.0, help="develop: of the labels; below 1 they are partial")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="ROOM.KNOB=VALUE")
    options = parser.parse_args()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    print(
        f"{options.what}; commit {commit.stdout.strip()}; {platform.processor() or platform.machine()}; {options.set}"
    )
    work = {"pretrain": pretraining, "few": labelled, "all": labelled, "develop": develop}[options.what]
    work(options, Data(options.data, options.name))


if __name__ == "__main__":
    main()
