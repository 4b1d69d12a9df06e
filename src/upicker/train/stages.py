"""The two stages: pretraining (proposals are the truth) and fine-tuning (labels are).

Both end in a weights file, beside which lie ``<stem>.log.csv``, ``<stem>.png`` (its curves) and, until the
training is complete, ``<stem>.checkpoint``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from upicker.config import Config
from upicker.errors import InputError, OutputError, UPickerError, UPickerWarning, WeightsError, heard
from upicker.image.mask import masked
from upicker.image.prepare import prepare
from upicker.io.micrographs import Reading
from upicker.model import weights
from upicker.model.detector import Detector
from upicker.model.weights import Card
from upicker.propose.alog import propose
from upicker.train import loop
from upicker.train.dataset import Sample, Store, sample
from upicker.train.labels import Division, Truth, divide, edge_margin, median_diameter, read_pair, regions
from upicker.train.log import CsvLog, Progress, Silent
from upicker.train.loop import Check, Plan
from upicker.units import Length

# Pretraining validates on the proposals of so many micrographs.
PROPOSAL_CHECKS = 2
# A pick's centre is known to about so many diameters: particles right at the margin of the labels shall not be lost.
CENTRE_DIAMETERS = 0.1


@dataclass
class StageResult:
    """What a stage came to.

    Attributes
    ----------
    path : Path
        The weights file.
    steps : int
        Steps done in all.
    seconds : float
        Training time.
    f1, precision, recall, threshold : float or None
        The best validation's figures (pretraining: against proposals).
    stopped_early : bool
        Whether validation stopped it.
    trained_on : int
        Micrographs learned from.
    skipped : list of (Path, str)
        Bad micrographs or label files, and what is wrong with them.
    unused : list of Path
        Micrographs without labels, and labels without a micrograph.
    warnings : list of UPickerWarning
        What a person should know of micrographs that were used.
    margin : float
        How far from the rim picks stay, in particle diameters: as far as the labels, less what a centre may be off;
        0: no margin.
    """

    path: Path
    steps: int = 0
    seconds: float = 0.0
    f1: float | None = None
    precision: float | None = None
    recall: float | None = None
    threshold: float | None = None
    stopped_early: bool = False
    trained_on: int = 0
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    unused: list[Path] = field(default_factory=list)
    warnings: list[UPickerWarning] = field(default_factory=list)
    margin: float = 0.0


@dataclass(frozen=True)
class Job:
    """What both stages are told.

    Attributes
    ----------
    output : Path
        The weights file to write.
    config : Config
        All knobs.
    reading : Reading
        Pixel sizes that beat the micrographs' headers, and the gain reference.
    resume : bool
        Go on from the checkpoint, if there is one.
    progress : Progress
        Who is told.
    """

    output: Path
    config: Config
    reading: Reading = field(default_factory=Reading)
    resume: bool = False
    progress: Progress = field(default_factory=Silent)


def pretrain(paths: Sequence[Path], diameter: Length, job: Job, trunk: Path | None = None) -> StageResult:
    """Pretrain on unlabelled micrographs: A-LoG proposals are the truth (the paper's "Pretraining process").

    Parameters
    ----------
    paths : sequence of Path
        Micrographs.
    diameter : Length
        The particle's.
    job : Job
        Output, config and the rest.
    trunk : Path, optional
        ImageNet weights of ResNet-50, for the ``paper`` preset.

    Raises
    ------
    UPickerError
        If no micrograph can be used, or the output cannot be written; a bad micrograph among good ones is
        skipped and reported.
    """
    config, result = job.config, StageResult(job.output)
    _refuse_folder(job.output)
    proposing = replace(config.propose, top_k=config.train.proposals)
    with tempfile.TemporaryDirectory(prefix="upicker-") as folder, heard() as result.warnings:
        store, samples, checks = Store(Path(folder)), [], []
        job.progress.start(len(paths), "proposals", 0)
        for path in paths:
            try:
                micrograph = job.reading.read(path)
                diameter_px = diameter.to_px(micrograph.pixel_size_A, str(path))
                prepared = store.keep(masked(prepare(micrograph, diameter_px, config.image), config.image))
                proposals = propose(prepared, proposing, config.image, prepared.usable)
            except UPickerError as error:
                result.skipped.append((path, str(error)))
            else:
                samples.append(sample(prepared, proposals))
                if len(checks) < PROPOSAL_CHECKS:
                    checks.append(Check(prepared, proposals))
            job.progress.step({})
        job.progress.finish()
        _require(samples, paths, result, "no micrograph can be used")
        model = _fresh(config)
        if trunk is not None:
            weights.load_trunk(model, trunk)
        train = config.train
        course = _Course("pretrain", model, diameter, train.pretrain_steps, train.learning_rate)
        return _run(course, samples, checks, job, result)


def finetune(
    paths: Sequence[Path],
    labels: Path,
    job: Job,
    initial: Path | None = None,
    diameter: Length | None = None,
    validation: Path | float = 0.2,
) -> StageResult:
    """Fine-tune on labelled micrographs (the paper's "Fine-tuning stage").

    Parameters
    ----------
    paths : sequence of Path
        Micrographs; those without labels are not used.
    labels : Path
        A folder with one coordinate file per micrograph, of the same stem.
    job : Job
        Output, config and the rest. With `initial`, architecture and preparation are those of its file.
    initial : Path, optional
        Weights to start from; by default a random start.
    diameter : Length, optional
        The particle's; by default that of `initial`, else the median of the labels' diameters.
    validation : Path or float
        A folder of labels: the micrographs it names are validated on, not learned from. Or a share: of the
        labelled micrographs, or, if they are few, of the rows of each. 0: none.

    Raises
    ------
    UPickerError
        As `pretrain`; and if no micrograph has labels.
    """
    result = StageResult(job.output)
    _refuse_folder(job.output)
    model, stored, config = _start(initial, job.config)
    job = replace(job, config=config)
    division = divide(paths, labels, validation)
    result.unused = division.unused
    length = diameter or stored or median_diameter([*division.learn.values(), *division.check.values()])
    with tempfile.TemporaryDirectory(prefix="upicker-") as folder, heard() as result.warnings:
        truths = _truths(division, length, job, result, Store(Path(folder)))
        margin = edge_margin(truths)
        if config.pick.edge_diameters is None:
            edge = max(0.0, margin - CENTRE_DIAMETERS)
            job = replace(job, config=replace(config, pick=replace(config.pick, edge_diameters=edge)))
        samples, checks = [], []
        for truth in truths:
            learn, check = regions(truth, margin, division.band)
            if learn is not None:
                samples.append(sample(truth.prepared, truth.particles, learn))
            if check is not None:
                checks.append(Check(truth.prepared, truth.particles, check))
        _require(samples, paths, result, "no labelled micrograph can be used")
        rate = config.train.finetune_learning_rate if initial else config.train.learning_rate
        course = _Course("finetune", model, length, config.train.finetune_steps, rate)
        return _run(course, samples, checks, job, result)


def _truths(division: Division, length: Length, job: Job, result: StageResult, store: Store) -> list[Truth]:
    """Read and prepare the labelled micrographs; bad ones are noted in `result`."""
    truths, image = [], job.config.image
    everything = {**division.learn, **division.check}
    job.progress.start(len(everything), "labels", 0)
    for path, file in everything.items():
        try:
            micrograph, particles = read_pair(path, file, length, job.reading)
            prepared = masked(prepare(micrograph, length.to_px(micrograph.pixel_size_A, str(path)), image), image)
            truths.append(Truth(store.keep(prepared), particles, path in division.check))
        except UPickerError as error:
            result.skipped.append((path, str(error)))
        job.progress.step({})
    job.progress.finish()
    return truths


def _refuse_folder(output: Path) -> None:
    """Complain now, and not when hours of training want to be written."""
    if output.exists() and not output.is_file():
        raise OutputError(output, "there is a folder or a device of this name", "Give the name of a file")


def _fresh(config: Config) -> Detector:
    """A detector with random weights, the same for the same seed; nobody else's random numbers change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return weights.build(config)


def _start(initial: Path | None, config: Config) -> tuple[Detector, Length | None, Config]:
    """The detector to start from, its diameter, and the config with what its file fixes."""
    if initial is None:
        return _fresh(config), None, config
    model, card, stored = weights.load(initial)
    default = Config()
    if config.model not in (default.model, stored.model):
        raise WeightsError(
            initial,
            "these are weights of another architecture than asked for",
            "Leave --preset and model.* out",
        )
    train = replace(config.train, tile_px=stored.train.tile_px)
    return model, card.length, replace(config, model=stored.model, image=stored.image, train=train)


def _require(samples: list[Sample], paths: Sequence[Path], result: StageResult, found: str) -> None:
    """Refuse to train on nothing."""
    if not samples:
        first = f"; first: {result.skipped[0][1]}" if result.skipped else ""
        raise InputError(f"{len(paths)} micrographs", found + first.rstrip("."), "Check the files and the diameter")
    if not any(len(one.xy) for one in samples):
        raise InputError(
            f"{len(paths)} micrographs",
            "there is not one particle to learn from",
            "Check labels, diameter and polarity",
        )


@dataclass(frozen=True, eq=False)
class _Course:
    """What differs between the stages once the data are read."""

    stage: str
    model: Detector
    diameter: Length
    steps: int
    learning_rate: float


def _run(course: _Course, samples: list[Sample], checks: list[Check], job: Job, result: StageResult) -> StageResult:
    """Train, keep the best weights and say what came of it."""
    config, output = job.config, job.output
    diameter = str(course.diameter)

    def keep(average: Detector, row: dict[str, float], steps: int) -> None:
        figures = [row.get(name) for name in ("threshold", "f1", "precision", "recall")]
        weights.save(output, average, Card(config.to_tables(), diameter, course.stage, *figures, steps=steps))

    plan = Plan(
        stage=course.stage,
        config=config,
        steps=course.steps,
        learning_rate=course.learning_rate,
        samples=samples,
        checks=[check for check in checks if len(check.pair(check.labels)[1])],
        checkpoint=output.with_suffix(".checkpoint"),
        meaning={
            "stage": course.stage,
            "config": config.to_tables(),
            "diameter": diameter,
            "micrographs": [list(s.pixels.shape) for s in samples],
            "particles": [len(s.xy) for s in samples],
        },
        keep=keep,
    )
    state = loop.begin(course.model, plan, job.resume)
    log = CsvLog(output.with_suffix(".log.csv"), state.step)
    try:
        result.stopped_early = loop.run(plan, state, log, job.progress)
    finally:
        log.close()
        if state.step:
            _draw(log.path)
    plan.checkpoint.unlink(missing_ok=True)
    result.margin = config.pick.edge_diameters or 0.0
    result.steps, result.seconds, result.trained_on = state.step, state.seconds, len(samples)
    for name, value in state.best.items():
        setattr(result, name, value)
    return result


def _draw(log: Path) -> None:
    """Draw the log's curves beside it: `model.log.csv` -> `model.png`."""
    from upicker.draw import training_curves  # matplotlib takes half a second; only at the end

    training_curves(log, log.with_suffix("").with_suffix(".png"))
