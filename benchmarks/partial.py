"""Few labels in each micrograph, and none: what partial labels and self-training are worth.

    python benchmarks/partial.py partial --seeds 0,1,2     a tenth of the labels of 8 micrographs of EMPIAR-10017
    python benchmarks/partial.py none --seeds 0,1,2        EMPIAR-10017 without a label
    python benchmarks/partial.py none --name apoferritin   apoferritin without a label

"partial" draws a share of each training micrograph's labels at random (by the seed) and fine-tunes three times: taking
them for complete, with --partial, and with all labels. "none" pretrains on all micrographs, with 0 and with --rounds
rounds of self-training; the steps of the rounds are also given to pretraining alone, so that longer training is not
taken for better. The split, the figures and the row printed are those of `benchmarks/training.py`; thresholds are the
stored ones.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
from pathlib import Path

from training import SETS, Data, some_labels, trained

from upicker.config import Config
from upicker.train.job import Job
from upicker.train.stages import finetune, pretrain


def config(options: argparse.Namespace, seed: int, **more: object) -> Config:
    """Return the defaults, what was asked for, and `more` (``room__knob=value``)."""
    changes = dict(change.split("=", 1) for change in options.set)
    own = {key.replace("__", "."): value for key, value in more.items()}
    return Config().with_changes(changes | own | {"train.seed": seed})


def partial(options: argparse.Namespace, data: Data) -> None:
    """Treat few labels as complete, as partial, and use all."""
    for seed in options.seeds:
        few = some_labels(data, data.train, options.share, seed, options.out)
        text = f"{len(data.train)} x {options.share:.0%} labels"
        for name, labels, some in (
            (f"{text}, taken for complete", few, False),
            (f"{text}, partial", few, True),
            (f"{len(data.train)} x all labels", data.labels, False),
        ):
            if options.only and options.only not in name:
                continue
            output = options.out / f"{options.name}-{'partial' if some else labels.name}-{seed}.safetensors"
            job = Job(output, config(options, seed), resume=options.resume)
            initial = options.init and Path(str(options.init).format(seed=seed))
            result = finetune(data.train, labels, job, initial, data.diameter, partial=some)
            trained(result, name, seed, data)


def none(options: argparse.Namespace, data: Data) -> None:
    """Train without a label, with and without self-training."""
    knobs = config(options, 0)
    more = options.rounds * knobs.teacher.round_steps
    for seed in options.seeds:
        for name, rounds, steps in (
            ("no labels, proposals alone", 0, knobs.train.pretrain_steps),
            ("no labels, proposals alone, as many steps", 0, knobs.train.pretrain_steps + more),
            (f"no labels, {options.rounds} rounds of self-training", options.rounds, knobs.train.pretrain_steps),
        ):
            if options.only and options.only not in name:
                continue
            output = options.out / f"{options.name}-none-{rounds}-{steps}-{seed}.safetensors"
            changed = config(options, seed, teacher__rounds=rounds, train__pretrain_steps=steps)
            result = pretrain(data.paths, data.diameter, Job(output, changed, resume=options.resume))
            trained(result, f"{options.name}, {name}", seed, data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["partial", "none"])
    parser.add_argument("--name", choices=sorted(SETS), default="empiar10017")
    parser.add_argument("--share", type=float, default=0.1, help="of the labels that are kept")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check", help="look at these training micrographs, by name from 0, not at the test ones")
    parser.add_argument("--init", type=Path, help="weights to fine-tune from; {seed} stands for the seed")
    parser.add_argument("--only", default="", help="only the rows whose name holds this")
    parser.add_argument("--resume", action="store_true", help="go on with interrupted trainings")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")], default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="ROOM.KNOB=VALUE")
    options = parser.parse_args()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    machine = platform.processor() or platform.machine()
    print(f"{options.what} {options.name}; commit {commit.stdout.strip()}; {machine}; {options.set}")
    data = Data(options.data, options.name)
    if options.check:
        data.test = [data.train[int(number)] for number in options.check.split(",")]
    {"partial": partial, "none": none}[options.what](options, data)


if __name__ == "__main__":
    main()
