"""The two stages: pretraining on proposals (pseudo-labels), and fine-tuning on labels.

Each reads its data and makes training samples of them; the rest is `upicker.train.stage`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from upicker.config import Config
from upicker.errors import InputError, UPickerWarning, collected_warnings, warn
from upicker.io.coverage import coverages
from upicker.io.pairing import pair_folder
from upicker.propose.proposals import examples
from upicker.train import selftrain, start
from upicker.train.epochs import with_steps
from upicker.train.fingerprint import Inputs
from upicker.train.holdback import all_regions
from upicker.train.job import Job, StageResult
from upicker.train.labels import (
    LabelledMicrograph,
    by_region,
    edge_margin,
    median_diameter,
    picks_margin,
    split,
)
from upicker.train.offline import with_copies
from upicker.train.partial import PartialTeacher, steps_for, training_region
from upicker.train.reading import learned, picked, proposed, read_labelled, read_unlabelled
from upicker.train.sample import Sample
from upicker.train.stage import Stage, run_stage
from upicker.train.store import Store
from upicker.train.teacher import TrainingRegion
from upicker.train.validation import ValidationMicrograph, countable
from upicker.units import Length

# Pretraining validates on the proposals of this many micrographs.
PROPOSAL_MICROGRAPHS = 2

NOT_VALIDATED = UPickerWarning(
    "--validation",
    "there are no labels to validate on: too few to hold some back, or in micrographs lower than six diameters",
    "Label another micrograph, or give a folder of other labels",
)


def pretrain(paths: Sequence[Path], diameter: Length, job: Job, initial: Path | None = None) -> StageResult:
    """Pretrain on unlabelled micrographs: proposals serve as pseudo-labels (the paper's "Pretraining process").

    Weights for particles of any size know better: their picks then serve as pseudo-labels, unless knobs of proposals
    are set.

    Parameters
    ----------
    paths : sequence of Path
        Micrographs.
    diameter : Length
        Particle diameter.
    job : Job
        Output, config and the rest.
    initial : Path, optional
        Weights to start from, as those of `finetune`; by default a random start.

    Raises
    ------
    UPickerError
        If no micrograph can be used, or the output cannot be written; an unusable micrograph among others is
        skipped and reported. If a knob is set that `initial` fixes otherwise.
    """
    result = StageResult(job.output)
    start.check(job)
    inputs, store = Inputs(), Store()
    begun = start.start(initial, job, inputs)
    config = begun.config
    job = replace(job, config=config)
    with collected_warnings() as result.warnings, job.locked() as check:
        micrographs = [one for _, one in read_unlabelled(paths, diameter, job, result, store, inputs)]
        identity = {"config": config.to_tables(), **inputs.to_dict()}
        if begun.knows_all_sizes and not _proposals_are_set(config):
            regions, result.pseudo_labels = picked(micrographs, begun, job), "the picks that it started from"
        else:
            config = learned(config, micrographs)
            job = replace(job, config=config)
            regions = proposed(micrographs, config, job)
            if begun.knows_all_sizes and not config.propose.sizes:
                # The proposals' one size must not replace the sizes that general weights know.
                regions = [replace(one, sized=False) for one in regions]
        some = [one for one in regions if len(one.known)][:PROPOSAL_MICROGRAPHS]
        validation = [ValidationMicrograph(one.prepared, one.known) for one in some]
        samples = [one.initial_sample() for one in regions]
        _require(samples, paths, result, "no micrograph can be used")
        config = with_steps(config, samples, job.ranks)
        job, train = replace(job, config=config), config.train
        rate = train.finetune_learning_rate if initial else train.learning_rate
        stage = Stage("pretrain", begun, diameter, train.pretrain_steps, rate)
        stage = replace(stage, identity=identity, check=check)
        if rounds := selftrain.round_starts(config):
            teacher, validation = selftrain.SelfTeacher(regions, config, job.ranks), []
            steps = rounds[-1] + config.teacher.round_steps
            stage, samples = replace(stage, steps=steps, teacher=teacher, rounds=rounds), teacher.samples
            result.trained_on = len(samples)
        return run_stage(stage, samples, validation, job, result)


def _proposals_are_set(config: Config) -> bool:
    """Whether a knob of the proposals is not at its default."""
    default = Config()
    return config.propose != default.propose or config.train.proposals != default.train.proposals


def finetune(
    paths: Sequence[Path],
    labels: Path,
    job: Job,
    initial: Path | None = None,
    diameter: Length | None = None,
    validation: Path | float = 0.2,
    partial: bool = False,
    extracted: Path | None = None,
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
    extracted : Path, optional
        The particles from which the labels were selected, by 2-D classes say: a folder or a file. Those that are not
        among the labels are background with the weight ``loss.rejected_weight``; all else is as with `partial`.

    Raises
    ------
    UPickerError
        As `pretrain`; if no micrograph has labels; and if a knob is set that `initial` fixes otherwise.
    """
    result = StageResult(job.output)
    start.check(job)
    inputs = Inputs()
    begun = start.start(initial, job, inputs)
    config = begun.config
    job = replace(job, config=config)
    files = split(paths, labels, validation)
    result.unused = files.unused
    partial |= extracted is not None
    covered = coverages([labels, validation] if isinstance(validation, Path) else [labels], partial)
    selected = {} if extracted is None else pair_folder(paths, extracted).pairs
    sources = [*files.training.values(), *files.validation.values()]
    length = diameter or begun.diameter or median_diameter(sources, job.reading.pixel_size_A)
    store = Store()
    with collected_warnings() as result.warnings, job.locked() as check:
        if files.differing:
            remedy = "Rename or move those that are not meant"
            warn(UPickerWarning(labels, files.differing, remedy))
        read = read_labelled(files, length, job, result, store, inputs, extracted=selected)
        for _, file, one in read:
            inputs.add_labels(one.particles, covered[file], one.held)
        identity = {"config": config.to_tables(), "held back": files.band, **inputs.to_dict()}
        labelled = [part for _, file, micrograph in read for part in by_region(micrograph, covered[file])]
        partly = any(one.partial for one in labelled)
        if partly:
            config = learned(config, [one.prepared for one in labelled])
        margin = edge_margin(labelled)
        if config.pick.edge_diameters is None:
            edge = picks_margin(margin)
            config = replace(config, pick=replace(config.pick, edge_diameters=edge))
        job = replace(job, config=config)
        regions, held, threshold_on = _parts(labelled, margin, files.band, config)
        if begun.knows_all_sizes:
            # The labels' one size is a convention: it must not replace the sizes that general weights know.
            regions = [replace(one, sized=False) for one in regions]
        if validation and not countable(held):
            warn(NOT_VALIDATED)
        samples = [one.initial_sample() for one in regions]
        _require(samples, paths, result, "no labelled micrograph can be used")
        result.trained_on = len({id(one.prepared) for one in regions})
        learning_rate = config.train.finetune_learning_rate if initial else config.train.learning_rate
        config = with_steps(config, samples, job.ranks)
        job, steps = replace(job, config=config), config.train.finetune_steps
        if partly and begun.knows_all_sizes:
            steps = steps_for(sum(len(one.known) for one in regions), config.train)
        stage = Stage("finetune", begun, length, steps, learning_rate, identity=identity, check=check)
        if partly:
            teacher = PartialTeacher(regions, held, job.config, job.ranks)
            return run_stage(replace(stage, teacher=teacher), teacher.samples, held, job, result)
        stage = replace(stage, threshold_on=examples(threshold_on))
        return run_stage(stage, with_copies(samples, config, store), held, job, result)


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
