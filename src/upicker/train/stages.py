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
from upicker.errors import InputError, UPickerError, WeightsError
from upicker.image.mask import usable
from upicker.image.prepare import Prepared, prepare
from upicker.io import coordinates, micrographs
from upicker.model import weights
from upicker.model.detector import Detector
from upicker.model.weights import Card
from upicker.particles import Micrograph, Particles
from upicker.propose.alog import propose
from upicker.train import loop
from upicker.train.dataset import Store
from upicker.train.log import CsvLog, Progress, Silent
from upicker.train.loop import Check, Plan
from upicker.units import Length

# With fewer labelled micrographs than this, validation takes a band of each instead of some of them.
FEW = 5
# Pretraining validates on the proposals of so many micrographs.
PROPOSAL_CHECKS = 2


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


@dataclass(frozen=True)
class Job:
    """What both stages are told.

    Attributes
    ----------
    output : Path
        The weights file to write.
    config : Config
        All knobs.
    pixel_size_A : float or None
        Beats the micrographs' headers.
    resume : bool
        Go on from the checkpoint, if there is one.
    progress : Progress
        Who is told.
    """

    output: Path
    config: Config
    pixel_size_A: float | None = None
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
    with tempfile.TemporaryDirectory(prefix="upicker-") as folder:
        store, checks = Store(Path(folder)), []
        job.progress.start(len(paths), "proposals", 0)
        for path in paths:
            try:
                micrograph = micrographs.read(path, job.pixel_size_A)
                prepared = prepare(micrograph, diameter.to_px(micrograph.pixel_size_A, str(path)), config.image)
                mask = usable(prepared, config.image) if config.propose.mask else None
                proposals = propose(prepared, config.propose, config.image, mask)
            except UPickerError as error:
                result.skipped.append((path, str(error)))
            else:
                store.add(prepared, proposals)
                if len(checks) < PROPOSAL_CHECKS:
                    checks.append(Check(prepared, proposals))
            job.progress.step({})
        job.progress.finish()
        _require(store, paths, result, "no micrograph can be used")
        model = _fresh(config)
        if trunk is not None:
            weights.load_trunk(model, trunk)
        return _run("pretrain", model, store, checks, diameter, job, result)


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
    model, stored, config = _start(initial, job.config)
    job = replace(job, config=config)
    truths, unused = _pair(paths, labels)
    held: dict[Path, Path] = {}
    if isinstance(validation, Path):
        held, _ = _pair(paths, validation)
        truths = {path: truth for path, truth in truths.items() if path not in held}
        unused = [path for path in unused if path not in held]
    elif validation and len(truths) >= FEW:
        every = max(2, round(1 / validation))
        held = {path: truth for i, (path, truth) in enumerate(truths.items()) if i % every == every - 1}
        truths = {path: truth for path, truth in truths.items() if path not in held}
    band = validation if isinstance(validation, float) and not held else 0.0
    result.unused = unused
    length = diameter or stored or _median_diameter([*truths.values(), *held.values()])
    with tempfile.TemporaryDirectory(prefix="upicker-") as folder:
        store, checks = Store(Path(folder)), []
        job.progress.start(len(truths) + len(held), "labels", 0)
        for path, truth in [*truths.items(), *held.items()]:
            try:
                micrograph, particles = _read_pair(path, truth, length, job.pixel_size_A)
                diameter_px = length.to_px(micrograph.pixel_size_A, str(path))
                if path in held:
                    checks.append(Check(prepare(micrograph, diameter_px, config.image), particles))
                else:
                    learn, check = _split(micrograph, particles, band, diameter_px)
                    store.add(prepare(learn[0], diameter_px, config.image), learn[1])
                    if check is not None:
                        checks.append(Check(prepare(check[0], diameter_px, config.image), check[1]))
            except UPickerError as error:
                result.skipped.append((path, str(error)))
            job.progress.step({})
        job.progress.finish()
        _require(store, paths, result, "no labelled micrograph can be used")
        return _run("finetune", model, store, checks, length, job, result)


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
            initial, "these are weights of another architecture than asked for", "Leave --preset and model.* out"
        )
    train = replace(config.train, tile_px=stored.train.tile_px)
    return model, card.length, replace(config, model=stored.model, image=stored.image, train=train)


def _pair(paths: Sequence[Path], folder: Path) -> tuple[dict[Path, Path], list[Path]]:
    """Bring micrographs and coordinate files together by stem; second, who stays alone."""
    files = coordinates.stems(folder)
    pairs = {path: files[path.stem] for path in paths if path.stem in files}
    if not pairs:
        example = next(iter(files.values())).name if files else "no coordinate file at all"
        raise InputError(
            folder,
            f"none of the {len(paths)} micrographs (e.g. {Path(paths[0]).name}) has labels here; found {example}",
            "Name each coordinate file after its micrograph: mic001.mrc -> mic001.csv (or .star, .box)",
        )
    stems = {path.stem for path in paths}
    alone = [p for p in paths if p not in pairs] + [file for stem, file in files.items() if stem not in stems]
    return pairs, alone


def _median_diameter(files: Sequence[Path]) -> Length:
    """The median of the labels' own diameters, in raw pixels."""
    diameters = torch.cat([torch.from_numpy(coordinates.read(file).diameter_px) for file in files])
    median = float(diameters.nanmedian()) if len(diameters) else float("nan")
    if not median > 0:
        raise InputError(files[0], "the labels carry no diameter", "Give --diameter, e.g. --diameter 190A or 108px")
    return Length(median, "px")


def _read_pair(
    path: Path, truth: Path, length: Length, pixel_size_A: float | None
) -> tuple[Micrograph, Particles]:
    """A micrograph and its labels, checked against each other; all labels with the one diameter."""
    micrograph = micrographs.read(path, pixel_size_A)
    particles = coordinates.check_inside(coordinates.read(truth), micrograph.shape, truth)
    return micrograph, particles.with_diameter(length.to_px(micrograph.pixel_size_A, str(path)))


_Part = tuple[Micrograph, Particles]


def _split(
    micrograph: Micrograph, particles: Particles, band: float, diameter_px: float
) -> tuple[_Part, _Part | None]:
    """Part a micrograph into rows to learn from and, below them, a share `band` to validate on."""
    height = micrograph.shape[0]
    cut = round(height * (1 - band))
    if band <= 0 or min(cut, height - cut) < 3 * diameter_px:
        return (micrograph, particles), None
    above = particles.xy[:, 1] < cut - 0.5
    learn = micrograph.rows(0, cut), particles.select(above)
    check = micrograph.rows(cut, height), particles.select(~above).shifted(0, -cut)
    return learn, check


def _require(store: Store, paths: Sequence[Path], result: StageResult, found: str) -> None:
    """Refuse to train on nothing."""
    if not store.samples:
        first = f"; first: {result.skipped[0][1]}" if result.skipped else ""
        raise InputError(f"{len(paths)} micrographs", found + first.rstrip("."), "Check the files and the diameter")
    if not any(len(sample.xy) for sample in store.samples):
        raise InputError(
            f"{len(paths)} micrographs", "there is not one particle to learn from", "Check labels, diameter and polarity"
        )


def _run(
    stage: str, model: Detector, store: Store, checks: list[Check], diameter: Length, job: Job, result: StageResult
) -> StageResult:
    """Train, keep the best weights and say what came of it."""
    config, output = job.config, job.output
    pretraining = stage == "pretrain"
    checks = [check for check in checks if len(check.labels)]

    def keep(average: Detector, row: dict[str, float], steps: int) -> None:
        figures = {k: row.get(k) for k in ("threshold", "f1", "precision", "recall")}
        weights.save(output, average, Card(config.to_tables(), str(diameter), stage, steps=steps, **figures))

    plan = Plan(
        stage=stage,
        config=config,
        steps=config.train.pretrain_steps if pretraining else config.train.finetune_steps,
        learning_rate=config.train.learning_rate if pretraining else config.train.finetune_learning_rate,
        samples=store.samples,
        checks=checks,
        checkpoint=output.with_suffix(".checkpoint"),
        meaning={
            "stage": stage,
            "config": config.to_tables(),
            "diameter": str(diameter),
            "micrographs": [list(s.pixels.shape) for s in store.samples],
            "particles": [len(s.xy) for s in store.samples],
        },
        keep=keep,
    )
    state = loop.begin(model, plan, job.resume)
    log = CsvLog(output.with_suffix(".log.csv"), state.step)
    try:
        result.stopped_early = loop.run(plan, state, log, job.progress)
    finally:
        log.close()
        _draw(log.path)
    plan.checkpoint.unlink(missing_ok=True)
    result.steps, result.seconds, result.trained_on = state.step, state.seconds, len(store.samples)
    for name, value in state.best.items():
        setattr(result, name, value)
    return result


def _draw(log: Path) -> None:
    """Draw the log's curves beside it: `model.log.csv` -> `model.png`."""
    from upicker.draw import training_curves  # matplotlib takes half a second; only at the end

    training_curves(log, log.with_suffix("").with_suffix(".png"))
