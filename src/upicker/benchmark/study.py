"""The benchmark of a data set: for each seed split it, propose, train, pick and score; then tables and plots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from upicker.benchmark import tables
from upicker.benchmark.labelled import Data
from upicker.benchmark.tables import Row
from upicker.benchmark.trial import Figures, Split, Trial, remember, remembered, split
from upicker.config import Config
from upicker.errors import ConfigError
from upicker.io.names import plain
from upicker.run.outputs import writable

if TYPE_CHECKING:
    from upicker.run.demo import Stages

TITLES = {
    "pretrain": "pretrained",
    "finetune": "two stages",
    "scratch": "from scratch",
}


@dataclass(frozen=True)
class Plan:
    """The experiments on one data set.

    Attributes
    ----------
    data : Data
        The data set.
    output : Path
        The folder for all output.
    config : Config
        All knobs; the seed is replaced.
    seeds : tuple of int
        One run for each, with its own split and random start.
    labelled, unlabelled : int or None
        Micrographs to fine-tune and to pretrain on; None: all but the test set; 0: skip that stage.
    test : float
        Fraction of the labelled micrographs to test on.
    scratch : bool
        Also fine-tune from a random start.
    backbone : str or None
        ImageNet weights for random starts, see `upicker.train.job.Job`.
    jobs : int
        Processes for proposals.
    """

    data: Data
    output: Path
    config: Config
    seeds: tuple[int, ...] = (0, 1, 2)
    labelled: int | None = None
    unlabelled: int | None = None
    test: float = 0.2
    scratch: bool = False
    backbone: str | None = None
    jobs: int = 1

    def split(self, seed: int) -> Split:
        """Return a seed's split."""
        return split(self.data, seed, self.test, self.labelled, self.unlabelled)

    def trial(self, seed: int, watch: Stages) -> Trial:
        """Return a seed's experiment."""
        config = self.config.with_changes({"train.seed": seed})
        folder = self.output / f"seed-{seed}"
        return Trial(self.data, self.split(seed), folder, config, watch, backbone=self.backbone, jobs=self.jobs)

    def steps(self) -> list[str]:
        """Return the steps for each seed."""
        steps = ["alog"]
        if self.unlabelled != 0:
            steps.append("pretrain")
        if self.labelled != 0:
            steps += ["finetune"] if self.unlabelled != 0 else []
            steps += ["scratch"] if self.scratch or self.unlabelled == 0 else []
        return steps

    def titles(self) -> dict[str, str]:
        """Return the names of the steps for people; that of the proposals says which method made them."""
        proposals = "A-LoG and template" if self.config.propose.template else "A-LoG alone"
        return {"alog": proposals, **TITLES}

    def fingerprint(self) -> dict[str, object]:
        """Return what must be equal in an earlier run whose results are used again."""
        return {
            "micrographs": [plain(path) for path in (*self.data.labelled, *self.data.unlabelled)],
            "diameter": str(self.data.diameter),
            "labelled": self.labelled,
            "unlabelled": self.unlabelled,
            "test": self.test,
            "backbone": self.backbone,
            "config": {room: {k: str(v) for k, v in knobs.items()} for room, knobs in self.config.to_tables().items()},
        }


@dataclass(frozen=True)
class Report:
    """The results of a study.

    Attributes
    ----------
    rows : tuple of Row
        One per seed and method, then the means.
    files : dict of str to Path
        Description -> path of each output.
    """

    rows: tuple[Row, ...]
    files: dict[str, Path]


def run(plan: Plan, watch: Stages) -> Report:
    """Run the steps that are not done yet, and write tables and plots of all results.

    Parameters
    ----------
    plan : Plan
        The experiments.
    watch : Stages
        Receives progress.

    Raises
    ------
    ConfigError
        If the output holds results of another data set or of other knobs, or there are too few micrographs.
    UPickerError
        If a training fails, or something cannot be written.
    """
    if not plan.seeds:
        raise ConfigError("--seeds", "there must be at least one seed", "Give 1 or more")
    titles = plan.titles()
    trials = {seed: plan.trial(seed, watch) for seed in plan.seeds}
    writable(plan.output)
    _refuse_other(plan)
    for seed, step, left in _to_do(plan, trials):
        watch.stage(f"Seed {seed}: {titles[step]}{left}")
        _do(trials[seed], step, plan)
    rows = [_row(trials[seed], seed, step, titles[step]) for seed in plan.seeds for step in plan.steps()]
    rows += [_mean([row for row in rows if row.step == step]) for step in plan.steps() if len(plan.seeds) > 1]
    files = tables.write(plan.output, plan.data, rows, trials, titles)
    return Report(tuple(rows), files)


def _do(trial: Trial, step: str, plan: Plan) -> Figures:
    if step == "alog":
        return trial.alog()
    if step == "pretrain":
        return trial.pretrain()
    return trial.finetune(step, trial.weights("pretrain") if step == "finetune" else None)


def _to_do(plan: Plan, trials: dict[int, Trial]) -> Iterator[tuple[int, str, str]]:
    """Yield each step that is not done, with its number and an estimate of the remaining time."""
    every = [(seed, step) for seed in plan.seeds for step in plan.steps()]
    for seed, step in every:
        known = {(s, t): trials[s].done(t) for s, t in every}
        if known[seed, step] is not None:
            continue
        waiting = [t for (_, t), figures in known.items() if figures is None]
        took = {t: [f["took_s"] for (_, u), f in known.items() if u == t and f is not None] for t in waiting}
        progress = f" (step {len(every) - len(waiting) + 1} of {len(every)}"
        if all(took.values()):
            progress += f", about {_clock(sum(float(np.mean(took[t])) for t in waiting))} left in total"
        yield seed, step, progress + ")"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _refuse_other(plan: Plan) -> None:
    """Refuse to mix results of different experiments in one folder."""
    file, fingerprint = plan.output / "plan.json", plan.fingerprint()
    before = remembered(file)
    if before is None:
        remember(file, fingerprint)
        return
    if before != fingerprint:
        changed = [key for key in fingerprint if before.get(key) != fingerprint[key]]
        found = f"it holds a benchmark with other settings: {', '.join(changed)}"
        raise ConfigError(plan.output, found, "Choose another -o, or repeat the command as it was")


def _row(trial: Trial, seed: int, step: str, title: str) -> Row:
    figures = trial.done(step)
    assert figures is not None, "a step was skipped"
    split_ = trial.split
    numbers = {"pretrain": len(split_.unlabelled), "finetune": len(split_.labelled), "scratch": len(split_.labelled)}
    learned = {"alog": "-", "pretrain": f"{numbers['pretrain']} U"}.get(step, f"{len(split_.labelled)} L")
    if step == "finetune":
        learned = f"{numbers['pretrain']} U, {learned}"
    return Row(step, title, learned, seed, figures)


def _mean(rows: list[Row]) -> Row:
    keys = [key for key in rows[0].figures if all(key in row.figures for row in rows)]
    mean = {key: float(np.mean([row.figures[key] for row in rows])) for key in keys}
    spread = float(np.std([row.figures["f1"] for row in rows], ddof=1))
    return Row(rows[0].step, rows[0].title, rows[0].learned, None, mean, spread)
