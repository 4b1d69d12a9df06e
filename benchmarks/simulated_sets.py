"""The paper's two simulated data sets: simulate, propose, train with and without pretraining, score.

    python benchmarks/simulated_sets.py                                         everything, part after part
    python benchmarks/simulated_sets.py --set sim-10025 --dose full --stage simulate --stage propose
    python benchmarks/simulated_sets.py --dose hard --stage finetune-random --change train.finetune_steps=400

Each set (20 micrographs to train on, 10 to test on) is made at the preset's dose and, "hard", at a third of it.

simulate              the micrographs, their truth and masks, as `upicker simulate --preset` does
propose               A-LoG and template; its threshold is that of the best F1 on the 5 labelled micrographs
pretrain              on the 20 micrographs without labels
finetune-random       on 5 labelled micrographs, from a random start
finetune-pretrained   the same, from the pretrained weights

A trained model's threshold is the one stored with its weights (found on validation micrographs; after pretraining:
on proposals). The test micrographs' truth is read to score only. What is finished is not made again: figures are
kept in OUT/NAME-DOSE/STAGE.json (delete it to repeat a stage), weights beside; an interrupted training goes on.
Prints markdown.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import sets

from upicker.config import Config
from upicker.run import truth
from upicker.run.find import find_all
from upicker.run.outputs import Outputs
from upicker.run.pick import Picking
from upicker.run.propose import Proposing
from upicker.run.simulate import DataSet, simulate_all
from upicker.simulate.presets import PRESETS, preset
from upicker.units import Length

if TYPE_CHECKING:  # torch is imported by those stages that train
    from upicker.train.job import StageResult

STAGES = ("simulate", "propose", "pretrain", "finetune-random", "finetune-pretrained")
# For a few minutes of training on two cores; --change has the last word.
CHANGES: dict[str, object] = {
    "train.pretrain_steps": 300,
    "train.finetune_steps": 500,
    "train.validate_every": 50,
    "train.patience": 4,
}
# Low enough for a whole precision-recall curve.
EVERYTHING = {"pick.threshold": 0.0}


@dataclass(frozen=True)
class Work:
    """One set at one dose, and what was asked for.

    Attributes
    ----------
    name, dose : of `PRESETS` and `sets.DOSES`.
    options : of the command line.
    """

    name: str
    dose: str
    options: argparse.Namespace

    @property
    def root(self) -> Path:
        """The set's folder."""
        return self.options.out / f"{self.name}-{self.dose}"

    @property
    def config(self) -> Config:
        """All knobs."""
        changes = dict(change.split("=", 1) for change in self.options.change)
        return Config().with_changes({**CHANGES, "train.seed": self.options.seed, **changes})

    def folder(self) -> sets.SetFolder:
        """Return the simulated set."""
        return sets.open_set(self.root, self.options.training, self.options.test, self.options.labelled)

    def diameter(self) -> Length:
        """Return the particles' diameter in Angstrom, as a user would give it."""
        folder = self.folder()
        return Length(round(folder.diameter_px() * folder.pixel_size_A(), 2), "A")


def simulate(work: Work) -> None:
    """Simulate what is not there yet, and say what it took and what came of it."""
    options, found = work.options, preset(work.name)
    structure = options.structures / found.structure
    if not structure.is_file():
        raise SystemExit(f"{structure}: is not there; name the folder that holds it with --structures")
    rows, columns = (round(n * options.small) for n in found.scene.shape)
    scene = replace(
        found.scene,
        specimens=(str(structure),),
        shape=(rows, columns),
        particles=max(1, round(found.scene.particles * options.small**2)),
        dose_e_A2=found.scene.dose_e_A2 * sets.DOSES[work.dose],
        seed=options.seed,
    )
    data = DataSet(scene, work.root, options.training + options.test)
    paths = data.missing(data.paths)
    if not paths:
        return
    began, seconds = time.perf_counter(), []
    for outcome in simulate_all(paths, data, options.jobs, resume=True):
        if outcome.error:
            raise SystemExit(str(outcome.error))
        seconds.append(outcome.seconds)
    snr = [truth.read_star(data.truth(path.stem))[1].snr for path in data.paths]
    print(
        f"{work.root}: {len(paths)} micrographs of {columns} x {rows} in {time.perf_counter() - began:.0f} s with "
        f"{options.jobs} processes (median {np.median(seconds):.1f} s each); dose {scene.dose_e_A2:.1f} e/A^2, "
        f"SNR {np.median(snr):.3f}",
        flush=True,
    )


def propose(work: Work) -> dict:
    """Propose on labelled and test micrographs; the threshold is chosen on the former."""
    folder, outputs = work.folder(), Outputs(work.root / "proposed")
    every = work.config.with_changes({"propose.top_k": "all"})
    began = time.perf_counter()
    proposing = Proposing(work.diameter(), outputs, every)
    for outcome in find_all([*folder.with_labels, *folder.test], proposing, work.options.jobs):
        if outcome.error:
            raise SystemExit(str(outcome.error))
    each = (time.perf_counter() - began) / (len(folder.with_labels) + len(folder.test))
    threshold = sets.scored(folder, folder.with_labels, outputs.folder).best_threshold
    score = sets.scored(folder, folder.test, outputs.folder, threshold)
    return {**sets.figures(score), "threshold": threshold, "took": f"{each:.1f} a micrograph"}


def pretrain(work: Work) -> dict:
    """Pretrain on all training micrographs without labels."""
    from upicker.train import stages
    from upicker.train.job import Job

    model = work.root / "pretrain.safetensors"
    job = Job(model, work.config, resume=True)
    return _trained(work, stages.pretrain(work.folder().training, work.diameter(), job))


def finetune_random(work: Work) -> dict:
    """Fine-tune on the labelled micrographs, from a random start."""
    return _finetune(work, "finetune-random", None)


def finetune_pretrained(work: Work) -> dict:
    """Fine-tune on the labelled micrographs, from the pretrained weights."""
    initial = work.root / "pretrain.safetensors"
    if not initial.exists() or sets.remembered(work.root / "pretrain.json") is None:
        raise SystemExit(f"{initial}: there are no pretrained weights; run --stage pretrain first")
    return _finetune(work, "finetune-pretrained", initial)


def _finetune(work: Work, stage: str, initial: Path | None) -> dict:
    from upicker.train import stages
    from upicker.train.job import Job

    folder = work.folder()
    job = Job(work.root / f"{stage}.safetensors", work.config, resume=True)
    return _trained(work, stages.finetune(folder.with_labels, folder.truth, job, initial, work.diameter()))


def _trained(work: Work, result: StageResult) -> dict:
    """Pick the test micrographs with new weights, and score at the stored threshold."""
    from upicker.pick.picker import Picker

    folder, outputs = work.folder(), Outputs(work.root / f"picked-{result.path.stem}")
    began = time.perf_counter()
    for outcome in find_all(folder.test, Picking(Picker(result.path, EVERYTHING), outputs)):
        if outcome.error:
            raise SystemExit(str(outcome.error))
    each = (time.perf_counter() - began) / len(folder.test)
    threshold = Picker(result.path).threshold
    took = f"{result.steps} steps, {result.seconds / 60:.1f} min; picking {each:.1f} a micrograph"
    score = sets.scored(folder, folder.test, outputs.folder, threshold)
    return {**sets.figures(score), "threshold": threshold, "took": took}


WHAT: dict[str, tuple[str, Callable[[Work], dict]]] = {
    "propose": ("A-LoG and template", propose),
    "pretrain": ("pretrained, no label", pretrain),
    "finetune-random": ("{} labelled, random start", finetune_random),
    "finetune-pretrained": ("{} labelled, pretrained", finetune_pretrained),
}


def do(work: Work, stage: str) -> None:
    """Do one stage, unless its figures are there, and print its row."""
    if stage == "simulate":
        simulate(work)
        return
    title, action = WHAT[stage]
    file = work.root / f"{stage}.json"
    numbers = sets.remembered(file) or sets.remember(file, action(work))
    print(sets.row((work.name, work.dose), title.format(work.options.labelled), numbers), flush=True)


def main() -> None:
    """Parse the options and do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, default=Path("../shared/structures"))
    parser.add_argument("--out", type=Path, default=Path("runs/simulated"))
    parser.add_argument("--set", action="append", choices=list(PRESETS), help="default: both")
    parser.add_argument("--dose", action="append", choices=list(sets.DOSES), help="default: both")
    parser.add_argument("--stage", action="append", choices=STAGES, help="default: all")
    parser.add_argument("--change", action="append", default=[], metavar="ROOM.KNOB=VALUE")
    parser.add_argument("--seed", type=int, default=7, help="of the simulation and the training")
    parser.add_argument("--jobs", type=int, default=2, help="processes of simulating and proposing")
    parser.add_argument("--small", type=float, default=1.0, help="side of the micrographs, in those of the preset")
    sets.add_sizes(parser)
    options = parser.parse_args()
    print(sets.HEAD)
    for name in options.set or PRESETS:
        for dose in options.dose or sets.DOSES:
            for stage in options.stage or STAGES:
                do(Work(name, dose, options), stage)


if __name__ == "__main__":
    main()
