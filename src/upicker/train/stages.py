"""The two stages: pretraining on proposals (pseudo-labels), and fine-tuning on labels.

Each reads its data and makes training samples of them; the rest is `upicker.train.stage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from upicker.config import Config
from upicker.errors import InputError, UPickerError, UPickerWarning, collected_warnings, warn
from upicker.image.mask import masked
from upicker.image.prepare import prepare
from upicker.io.coverage import coverages
from upicker.io.sources import Source
from upicker.propose.proposals import examples, propose, with_template
from upicker.train import selftrain, start
from upicker.train.fingerprint import Inputs
from upicker.train.holdback import all_regions
from upicker.train.job import Job, StageResult
from upicker.train.labels import (
    LabelledMicrograph,
    Split,
    by_region,
    edge_margin,
    median_diameter,
    read_pair,
    split,
)
from upicker.train.offline import with_copies
from upicker.train.partial import PartialTeacher, training_region
from upicker.train.sample import Sample
from upicker.train.stage import Stage, run_stage
from upicker.train.store import Store
from upicker.train.teacher import TrainingRegion
from upicker.train.validation import ValidationMicrograph, countable
from upicker.units import Length

# Pretraining validates on the proposals of this many micrographs.
PROPOSAL_MICROGRAPHS = 2
# Error of a pick's centre in diameters: by this much the stored margin is smaller than that of the labels, so that
# particles right at their margin are not lost.
CENTRE_DIAMETERS = 0.1

NOT_VALIDATED = UPickerWarning(
    "--validation",
    "there are no labels to validate on: too few to hold some back, or in micrographs lower than six diameters",
    "Label another micrograph, or give a folder of other labels",
)


def pretrain(paths: Sequence[Path], diameter: Length, job: Job) -> StageResult:
    """Pretrain on unlabelled micrographs: proposals serve as pseudo-labels (the paper's "Pretraining process").

    Parameters
    ----------
    paths : sequence of Path
        Micrographs.
    diameter : Length
        Particle diameter.
    job : Job
        Output, config and the rest.

    Raises
    ------
    UPickerError
        If no micrograph can be used, or the output cannot be written; an unusable micrograph among others is
        skipped and reported.
    """
    config, result = job.config, StageResult(job.output)
    start.check(job)
    inputs, store = Inputs(), Store()
    model = start.random_start(job, inputs)
    with collected_warnings() as result.warnings, job.locked() as check:
        micrographs, regions = [], []
        job.progress.start(len(paths), "micrographs", 0)
        for path in paths:
            try:
                micrograph = job.reading.read(path)
                diameter_px = diameter.to_px(micrograph.pixel_size_A, str(path))
                prepared = masked(prepare(micrograph, diameter_px, config.image), config.image)
            except UPickerError as error:
                result.skipped.append((path, str(error)))
            else:  # A full disk ends the training: the other micrographs would be skipped likewise.
                micrographs.append(store.keep(prepared))
                inputs.add_micrograph(micrograph, diameter_px)
            job.progress.step({})
        job.progress.finish()
        identity = {"config": config.to_tables(), **inputs.to_dict()}
        config = replace(config, propose=with_template(config.propose, examples(micrographs), config.image))
        job = replace(job, config=config)
        chosen = config.train.proposals
        knobs = config.propose if chosen == "auto" else replace(config.propose, top_k=chosen)
        job.progress.start(len(micrographs), "proposals", 0)
        for prepared in micrographs:
            proposals = propose(prepared, knobs, config.image, prepared.usable)
            regions.append(TrainingRegion(prepared, proposals))
            job.progress.step({})
        job.progress.finish()
        some = [one for one in regions if len(one.known)][:PROPOSAL_MICROGRAPHS]
        validation = [ValidationMicrograph(one.prepared, one.known) for one in some]
        samples = [one.initial_sample() for one in regions]
        _require(samples, paths, result, "no micrograph can be used")
        train = config.train
        stage = Stage("pretrain", model, diameter, train.pretrain_steps, train.learning_rate)
        stage = replace(stage, identity=identity, check=check)
        if rounds := selftrain.round_starts(config):
            teacher, validation = selftrain.SelfTeacher(regions, config, job.ranks), []
            steps = rounds[-1] + config.teacher.round_steps
            stage, samples = replace(stage, steps=steps, teacher=teacher, rounds=rounds), teacher.samples
            result.trained_on = len(samples)
        return run_stage(stage, samples, validation, job, result)


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
        A folder with one coordinate file per micrograph, of the same stem; or a file with the labels of many.
    job : Job
        Output, config and the rest.
    initial : Path, optional
        Weights to start from; by default a random start. They bring their architecture, preparation and learning rates
        along, unless those are set anew (`Job.given`).
    diameter : Length, optional
        Particle diameter; by default that of `initial`, else the median of the labels' diameters.
    validation : Path or float
        A folder of labels: the micrographs with labels there are validated on, not trained on. Or a fraction: of
        the labelled micrographs, or, if they are few, of the rows of each. 0: none.
    partial : bool
        Whether labels cover only some of the particles, unless ``coverage.csv`` beside them gives their coverage.

    Raises
    ------
    UPickerError
        As `pretrain`; if no micrograph has labels; and if a knob is set that `initial` fixes otherwise.
    """
    result = StageResult(job.output)
    start.check(job)
    inputs = Inputs()
    model, stored, config = start.start(initial, job, inputs)
    job = replace(job, config=config)
    files = split(paths, labels, validation)
    result.unused = files.unused
    covered = coverages([labels, validation] if isinstance(validation, Path) else [labels], partial)
    sources = [*files.training.values(), *files.validation.values()]
    length = diameter or stored or median_diameter(sources, job.reading.pixel_size_A)
    store = Store()
    with collected_warnings() as result.warnings, job.locked() as check:
        if files.differing:
            remedy = "Rename or move those that are not meant"
            warn(UPickerWarning(labels, files.differing, remedy))
        read = _read_labelled(files, length, job, result, store, inputs)
        for file, one in read:
            inputs.add_labels(one.particles, covered[file], one.held)
        identity = {"config": config.to_tables(), "held back": files.band, **inputs.to_dict()}
        labelled = [part for file, micrograph in read for part in by_region(micrograph, covered[file])]
        partly = any(one.partial for one in labelled)
        if partly:
            some = examples([one.prepared for one in labelled])
            config = replace(config, propose=with_template(config.propose, some, config.image))
        margin = edge_margin(labelled)
        if config.pick.edge_diameters is None:
            edge = max(0.0, margin - CENTRE_DIAMETERS)
            config = replace(config, pick=replace(config.pick, edge_diameters=edge))
        job = replace(job, config=config)
        regions, held, threshold_on = _parts(labelled, margin, files.band, config)
        if validation and not countable(held):
            warn(NOT_VALIDATED)
        samples = [one.initial_sample() for one in regions]
        _require(samples, paths, result, "no labelled micrograph can be used")
        result.trained_on = len({id(one.prepared) for one in regions})
        learning_rate = config.train.finetune_learning_rate if initial else config.train.learning_rate
        steps = config.train.finetune_steps
        stage = Stage("finetune", model, length, steps, learning_rate, identity=identity, check=check)
        if partly:
            teacher = PartialTeacher(regions, held, job.config, job.ranks)
            return run_stage(replace(stage, teacher=teacher), teacher.samples, held, job, result)
        stage = replace(stage, threshold_on=examples(threshold_on))
        return run_stage(stage, with_copies(samples, config, store), held, job, result)


def _read_labelled(
    files: Split, length: Length, job: Job, result: StageResult, store: Store, inputs: Inputs
) -> list[tuple[Source, LabelledMicrograph]]:
    """Read and prepare the labelled micrographs, and return where their labels are; unusable ones go to `result`."""
    labelled, image = [], job.config.image
    everything = {**files.training, **files.validation}
    job.progress.start(len(everything), "labels", 0)
    for path, file in everything.items():
        try:
            micrograph, particles = read_pair(path, file, length, job.reading)
            diameter_px = length.to_px(micrograph.pixel_size_A, str(path))
            prepared = masked(prepare(micrograph, diameter_px, image), image)
        except UPickerError as error:
            result.skipped.append((path, str(error)))
        else:  # A full disk ends the training, as in `pretrain`.
            inputs.add_micrograph(micrograph, diameter_px)
            labelled.append((file, LabelledMicrograph(store.keep(prepared), particles, path in files.validation)))
        job.progress.step({})
    job.progress.finish()
    return labelled


def _parts(
    labelled: Sequence[LabelledMicrograph], margin: float, band: float, config: Config
) -> tuple[list[TrainingRegion], list[ValidationMicrograph], list[ValidationMicrograph]]:
    """Return what to train on, what to validate on, and what else to choose the threshold on."""
    regions, held, threshold_on = [], [], []
    for one, (train, validate) in zip(labelled, all_regions(labelled, margin, band), strict=True):
        if train is not None:
            regions.append(training_region(one, train, config))
        if validate is not None:
            held.append(ValidationMicrograph(one.prepared, one.particles, validate, one.partial))
        if train is not None and validate is not None:
            threshold_on.append(ValidationMicrograph(one.prepared, one.particles, train))
    if band and not held:  # Partial labels are all trained on.
        some = examples([one for one in regions if one.partial])
        held = [ValidationMicrograph(one.prepared, one.known, one.region, True) for one in some]
    return regions, held, threshold_on


def _require(samples: list[Sample], paths: Sequence[Path], result: StageResult, found: str) -> None:
    """Refuse to train without samples or particles; store the number of micrographs."""
    result.trained_on = len(samples)
    if not samples:
        first = f"; first: {result.skipped[0][1]}" if result.skipped else ""
        raise InputError(f"{len(paths)} micrographs", found + first.rstrip("."), "Check the files and the diameter")
    if not any(len(one.xy) for one in samples):
        raise InputError(
            f"{len(paths)} micrographs",
            "there are no particles to train on",
            "Check labels, diameter and polarity",
        )
