"""The two stages: pretraining (proposals are the truth) and fine-tuning (labels are).

Each reads its data and makes lessons of them; the rest is `upicker.train.course`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from upicker.config import Config
from upicker.errors import ConfigError, InputError, OutputError, UPickerError, WeightsError, collected_warnings
from upicker.image.mask import masked
from upicker.image.prepare import prepare
from upicker.io.coverage import coverages
from upicker.model import imagenet, weights
from upicker.model.detector import Detector
from upicker.propose.proposals import examples, propose, with_template
from upicker.train import selftrain
from upicker.train.course import Course, run
from upicker.train.dataset import Sample, Store
from upicker.train.job import Job, StageResult
from upicker.train.labels import Division, Truth, divide, edge_margin, held_back, median_diameter, parts, read_pair
from upicker.train.loop import Check
from upicker.train.offline import enlarged
from upicker.train.partial import PartialTeacher, lesson
from upicker.train.ranks import refuse_crowding
from upicker.train.teacher import Lesson
from upicker.units import Length

# Pretraining validates on the proposals of so many micrographs.
PROPOSAL_CHECKS = 2
# A pick's centre is known to about so many diameters: particles right at the margin of the labels shall not be lost.
CENTRE_DIAMETERS = 0.1


def pretrain(paths: Sequence[Path], diameter: Length, job: Job) -> StageResult:
    """Pretrain on unlabelled micrographs: A-LoG proposals are the truth (the paper's "Pretraining process").

    Parameters
    ----------
    paths : sequence of Path
        Micrographs.
    diameter : Length
        The particle's.
    job : Job
        Output, config and the rest.

    Raises
    ------
    UPickerError
        If no micrograph can be used, or the output cannot be written; a bad micrograph among good ones is
        skipped and reported.
    """
    config, result = job.config, StageResult(job.output)
    _refuse_at_once(job)
    model = _fresh(job)
    with Store.opened(job.cache) as store, collected_warnings() as result.warnings:
        pictures, lessons = [], []
        job.progress.start(len(paths), "micrographs", 0)
        for path in paths:
            try:
                micrograph = job.reading.read(path)
                diameter_px = diameter.to_px(micrograph.pixel_size_A, str(path))
                pictures.append(store.keep(masked(prepare(micrograph, diameter_px, config.image), config.image)))
            except UPickerError as error:
                result.skipped.append((path, str(error)))
            job.progress.step({})
        job.progress.finish()
        config = replace(config, propose=with_template(config.propose, examples(pictures), config.image))
        job = replace(job, config=config)
        knobs = replace(config.propose, top_k=config.train.proposals)
        job.progress.start(len(pictures), "proposals", 0)
        for picture in pictures:
            proposals = propose(picture, knobs, config.image, picture.usable)
            lessons.append(Lesson(picture, proposals))
            job.progress.step({})
        job.progress.finish()
        checks = [Check(lesson.prepared, lesson.known) for lesson in lessons[:PROPOSAL_CHECKS]]
        samples = [lesson.start() for lesson in lessons]
        _require(samples, paths, result, "no micrograph can be used")
        train = config.train
        course = Course("pretrain", model, diameter, train.pretrain_steps, train.learning_rate)
        if rounds := selftrain.starts(config):
            teacher, checks = selftrain.SelfTeacher(lessons, config, job.ranks), []
            steps = rounds[-1] + config.teacher.round_steps
            course, samples = replace(course, steps=steps, teacher=teacher, rounds=rounds), teacher.samples
            result.trained_on = len(samples)
        return run(course, samples, checks, job, result)


def finetune(
    paths: Sequence[Path],
    labels: Path,
    job: Job,
    initial: Path | None = None,
    diameter: Length | None = None,
    validation: Path | float = 0.2,
    partial: bool = False,
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
    partial : bool
        Whether labels cover only some of the particles, where ``coverage.csv`` beside them does not say it.

    Raises
    ------
    UPickerError
        As `pretrain`; and if no micrograph has labels.
    """
    result = StageResult(job.output)
    _refuse_at_once(job)
    model, stored, config = _start(initial, job)
    job = replace(job, config=config)
    division = divide(paths, labels, validation)
    result.unused = division.unused
    covered = coverages([labels, validation] if isinstance(validation, Path) else [labels], partial)
    length = diameter or stored or median_diameter([*division.learn.values(), *division.check.values()])
    with Store.opened(job.cache) as store, collected_warnings() as result.warnings:
        read = _truths(division, length, job, result, store)
        truths = [part for file, truth in read for part in parts(truth, covered[file])]
        if any(truth.partial for truth in truths):
            pictures = examples([truth.prepared for truth in truths])
            config = replace(config, propose=with_template(config.propose, pictures, config.image))
        margin = edge_margin(truths)
        if config.pick.edge_diameters is None:
            edge = max(0.0, margin - CENTRE_DIAMETERS)
            config = replace(config, pick=replace(config.pick, edge_diameters=edge))
        job = replace(job, config=config)
        lessons, checks, learned = [], [], []
        for truth, (learn, check) in zip(truths, held_back(truths, margin, division.band), strict=True):
            if learn is not None:
                lessons.append(lesson(truth, learn, config))
            if check is not None:
                checks.append(Check(truth.prepared, truth.particles, check, truth.partial))
            if learn is not None and check is not None:
                learned.append(Check(truth.prepared, truth.particles, learn))
        if division.band and not checks:  # Partial labels are all learned from.
            some = examples([one for one in lessons if one.partial])
            checks = [Check(one.prepared, one.known, one.region, True) for one in some]
        samples = [one.start() for one in lessons]
        _require(samples, paths, result, "no labelled micrograph can be used")
        result.trained_on = len({id(one.prepared) for one in lessons})
        rate = config.train.finetune_learning_rate if initial else config.train.learning_rate
        course = Course("finetune", model, length, config.train.finetune_steps, rate)
        if any(truth.partial for truth in truths):
            teacher = PartialTeacher(lessons, checks, job.config, job.ranks)
            return run(replace(course, teacher=teacher), teacher.samples, checks, job, result)
        course = replace(course, learned=examples(learned))
        return run(course, enlarged(samples, config, store), checks, job, result)


def _truths(
    division: Division, length: Length, job: Job, result: StageResult, store: Store
) -> list[tuple[Path, Truth]]:
    """Read and prepare the labelled micrographs, by label file; bad ones are noted in `result`."""
    truths, image = [], job.config.image
    everything = {**division.learn, **division.check}
    job.progress.start(len(everything), "labels", 0)
    for path, file in everything.items():
        try:
            micrograph, particles = read_pair(path, file, length, job.reading)
            prepared = masked(prepare(micrograph, length.to_px(micrograph.pixel_size_A, str(path)), image), image)
            truths.append((file, Truth(store.keep(prepared), particles, path in division.check)))
        except UPickerError as error:
            result.skipped.append((path, str(error)))
        job.progress.step({})
    job.progress.finish()
    return truths


def _refuse_at_once(job: Job) -> None:
    """Complain now, and not when hours of training want to be written."""
    if job.output.exists() and not job.output.is_file():
        raise OutputError(job.output, "there is a folder or a device of this name", "Give the name of a file")
    refuse_crowding(job.ranks, job.config.train.device)


def _fresh(job: Job) -> Detector:
    """A detector with random weights, the same for the same seed; nobody else's random numbers change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.config.train.seed)
        model = weights.build(job.config)
    if job.backbone is not None:
        imagenet.load_backbone(model, job.backbone)
    return model


def _start(initial: Path | None, job: Job) -> tuple[Detector, Length | None, Config]:
    """The detector to start from, its diameter, and the config with what its file fixes."""
    config = job.config
    if initial is None:
        return _fresh(job), None, config
    if job.backbone is not None:
        raise ConfigError(imagenet.OPTION, f"{initial} brings its own backbone", "Leave one of the two out")
    model, header, stored = weights.load(initial)
    default = Config()
    if config.model not in (default.model, stored.model):
        raise WeightsError(
            initial,
            "these are weights of another architecture than asked for",
            "Leave --preset and model.* out",
        )
    train = replace(config.train, tile_px=stored.train.tile_px)
    return model, header.length, replace(config, model=stored.model, image=stored.image, train=train)


def _require(samples: list[Sample], paths: Sequence[Path], result: StageResult, found: str) -> None:
    """Refuse to train on nothing; note how many micrographs there are."""
    result.trained_on = len(samples)
    if not samples:
        first = f"; first: {result.skipped[0][1]}" if result.skipped else ""
        raise InputError(f"{len(paths)} micrographs", found + first.rstrip("."), "Check the files and the diameter")
    if not any(len(one.xy) for one in samples):
        raise InputError(
            f"{len(paths)} micrographs",
            "there is not one particle to learn from",
            "Check labels, diameter and polarity",
        )
