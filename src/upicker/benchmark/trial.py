"""One experiment on a split data set: propose, pretrain, fine-tune, pick the test micrographs, score.

Each step writes its results to ``STEP.json`` in the trial's folder, beside weights and picks, and is not repeated where
that file exists; an interrupted training is resumed. The labels of test micrographs are used for scoring only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from upicker import scoring
from upicker.benchmark.labelled import Data
from upicker.config import Config
from upicker.errors import ConfigError, InputError
from upicker.io import coordinates
from upicker.io.atomic import replacing
from upicker.io.names import plain
from upicker.particles import Particles
from upicker.run.find import find_all
from upicker.run.outputs import Outputs
from upicker.run.propose import Proposing

if TYPE_CHECKING:  # torch is imported only by the steps that need it
    from upicker.run.demo import Stages
    from upicker.train.job import Job, StageResult

T = TypeVar("T", bound=dict[str, Any])
Figures = dict[str, float]
# This many labelled micrographs determine the threshold of the filter as well as hundreds.
CALIBRATION = 10
# Low enough for a whole precision-recall curve.
EVERYTHING = {"pick.threshold": 0.0}


@dataclass(frozen=True)
class Split:
    """Which micrographs serve for training and testing.

    Attributes
    ----------
    unlabelled : tuple of Path
        For pretraining.
    labelled : tuple of Path
        For fine-tuning.
    test : tuple of Path
        For scoring only.
    """

    unlabelled: tuple[Path, ...]
    labelled: tuple[Path, ...]
    test: tuple[Path, ...]


def split(
    data: Data,
    seed: int,
    test: float | Sequence[Path] = 0.2,
    labelled: int | None = None,
    unlabelled: int | None = None,
) -> Split:
    """Split a data set at random.

    The test set of a seed does not depend on the other numbers, and a smaller training set is a subset of a larger one.
    For pretraining, labelled micrographs come first.

    Parameters
    ----------
    data : Data
        The data set.
    seed : int
        Of the split.
    test : float or sequence of Path
        Fraction of the labelled micrographs to test on, or the test micrographs themselves.
    labelled, unlabelled : int or None
        Number of micrographs to fine-tune and to pretrain on; None: all but the test set.

    Raises
    ------
    ConfigError
        If there are too few, or nothing is left for testing or training.
    """
    rng = np.random.default_rng((seed, 0))
    order = [data.labelled[i] for i in rng.permutation(len(data.labelled))]
    if isinstance(test, float | int):
        if not 0 < test < 1:
            raise ConfigError("--test", f"{test:g} is out of range", "Give a fraction between 0 and 1, e.g. 0.2")
        count = max(1, round(test * len(order)))
        chosen, rest = order[:count], order[count:]
    else:
        chosen, rest = list(test), [path for path in order if path not in set(test)]
    if not rest:
        found = f"{len(chosen)} of {len(order)} labelled micrographs are for testing, none is left"
        raise ConfigError("--test", found, "Give a smaller fraction, or more labelled micrographs")
    pool = rest + [data.unlabelled[i] for i in rng.permutation(len(data.unlabelled))]
    for option, number, most in (("--labelled", labelled, len(rest)), ("--unlabelled", unlabelled, len(pool))):
        if number is not None and not 0 <= number <= most:
            raise ConfigError(option, f"{number} is out of range, there are {most} micrographs", f"Give 0 to {most}")
    return Split(tuple(pool[:unlabelled]), tuple(rest[:labelled]), tuple(sorted(chosen)))


@dataclass(frozen=True)
class Trial:
    """The experiment on a split data set.

    Attributes
    ----------
    data : Data
        The data set.
    split : Split
        Its split.
    folder : Path
        For weights, picks and results.
    config : Config
        All knobs, the seed among them.
    watch : Stages
        Receives progress.
    labels : Path or None
        Labels to fine-tune on instead of those of `data`, e.g. a part of them.
    partial : bool
        Whether labels cover only some of the particles.
    backbone : str or None
        ImageNet weights for a random start, see `upicker.train.job.Job`.
    jobs : int
        Processes for proposals.
    """

    data: Data
    split: Split
    folder: Path
    config: Config
    watch: Stages
    labels: Path | None = None
    partial: bool = False
    backbone: str | None = None
    jobs: int = 1

    def alog(self) -> Figures:
        """Propose on the test micrographs: A-LoG and the template, or with ``propose.template=false`` A-LoG alone.

        The threshold is that of the best F1 on the labelled micrographs; without labels it is the default.
        """
        return self._once("alog", self._alog)

    def pretrain(self) -> Figures:
        """Pretrain without labels, and pick."""
        from upicker.train import stages

        def train(job: Job) -> StageResult:
            return stages.pretrain(self.split.unlabelled, self.data.diameter, job)

        return self._once("pretrain", lambda: self._trained("pretrain", train, self.backbone))

    def finetune(self, step: str = "finetune", initial: Path | None = None) -> Figures:
        """Fine-tune on the labelled micrographs, and pick; `initial` are weights to start from."""
        from upicker.train import stages

        def train(job: Job) -> StageResult:
            labels = self.labels or self.data.labels
            return stages.finetune(self.split.labelled, labels, job, initial, self.data.diameter, partial=self.partial)

        # Initial weights include a backbone.
        return self._once(step, lambda: self._trained(step, train, None if initial else self.backbone))

    def weights(self, step: str) -> Path:
        """Return the file of a step's weights."""
        return self.folder / f"{step}.safetensors"

    def picked(self, step: str) -> Path:
        """Return the folder of a step's picks, which have any score."""
        return self.folder / f"picked-{step}"

    def pairs(self, step: str) -> list[tuple[Particles, Particles]]:
        """Return picks and labels of the test micrographs; no picks where there is no file."""
        return self.scored_pairs(self.picked(step), self.split.test)

    def scored_pairs(self, folder: Path, paths: Sequence[Path]) -> list[tuple[Particles, Particles]]:
        """Return the picks in a folder of CSV files, and the labels, of some micrographs."""
        files = [folder / f"{plain(path)}.csv" for path in paths]
        picks = [coordinates.read(file) if file.exists() else Particles.of([]) for file in files]
        return [(some, self.data.truth(path)) for some, path in zip(picks, paths, strict=True)]

    def done(self, step: str) -> Figures | None:
        """Return the results of a step, if it is done."""
        return remembered(self.folder / f"{step}.json")

    def _once(self, step: str, work: Callable[[], Figures]) -> Figures:
        if (known := self.done(step)) is not None:
            return known
        began = time.monotonic()
        figures = work()
        return remember(self.folder / f"{step}.json", {**figures, "took_s": round(time.monotonic() - began, 2)})

    def _alog(self) -> Figures:
        outputs = Outputs(self.picked("alog"))
        config = self.config.with_changes({"propose.top_k": "all"})
        calibration = self.split.labelled[:CALIBRATION]
        paths = [*calibration, *self.split.test]
        todo = outputs.missing(paths)
        work = Proposing(self.data.diameter, outputs, config, self.data.reading)
        self.watch.follow("proposed", find_all(paths, work, self.jobs, todo), len(todo), outputs.folder)
        threshold = -np.inf
        if calibration:
            threshold = scoring.score(self.scored_pairs(outputs.folder, calibration)).best_threshold
        return self._figures("alog", threshold)

    def _trained(self, step: str, train: Callable[[Job], StageResult], backbone: str | None) -> Figures:
        """Train unless done, pick the test micrographs, and score at the stored threshold."""
        from upicker.pick.picker import Picker
        from upicker.run.pick import Picking
        from upicker.train.job import Job

        model, note = self.weights(step), self.folder / f"{step}.trained.json"
        trained = remembered(note)
        if trained is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            result = train(Job(model, self.config, self.data.reading, True, self.watch.training(), backbone))
            trained = remember(note, {"steps": result.steps, "training_s": round(result.seconds, 2)})
        outputs, picker = Outputs(self.picked(step)), Picker(model, EVERYTHING)
        todo = outputs.missing(self.split.test)
        work = Picking(picker, outputs, self.data.diameter, self.data.reading)
        outcomes = find_all(self.split.test, work, todo=todo)
        self.watch.follow("picked", outcomes, len(todo), outputs.folder)
        return {**self._figures(step, Picker(model).threshold), **trained}

    def _figures(self, step: str, threshold: float) -> Figures:
        pairs = self.pairs(step)
        if not any(len(picks) for picks, _ in pairs) and not list(self.picked(step).glob("*.csv")):
            raise InputError(self.picked(step), "no test micrograph could be picked", "See the errors above")
        return {**figures(scoring.score(pairs, threshold=threshold)), "threshold": float(threshold)}


def figures(score: scoring.Score) -> Figures:
    """Return the values of a score for tables."""
    return {
        "precision": score.precision,
        "recall": score.recall,
        "f1": score.f1,
        "best_f1": score.best_f1,
        "ap": score.average_precision,
        "picks": score.picks,
        "labels": score.labels,
    }


def remember(path: Path, figures: T) -> T:
    """Write results, or anything else JSON can hold, to a file, and return them.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return figures


def remembered(path: Path) -> dict[str, Any] | None:
    """Return results written before, or None.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, f"cannot be read ({error})", "Delete it: the step is then repeated") from error
