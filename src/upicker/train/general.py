"""Training over many data sets and sizes, simulated and real: weights that know no diameter of their own."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path

from upicker.errors import InputError, collected_warnings
from upicker.image.mask import masked
from upicker.image.prepare import prepare
from upicker.io.coverage import coverages
from upicker.pick.detection import USUAL_VIEWS
from upicker.simulate.specimens.specimen import BUILT_IN, load
from upicker.simulate.tiles import TilePlan
from upicker.train import start
from upicker.train.checks import Checks, CheckSet
from upicker.train.fingerprint import Inputs
from upicker.train.holdback import all_regions
from upicker.train.job import Job, StageResult
from upicker.train.labels import (
    LabelledMicrograph,
    by_region,
    edge_margin,
    have_sizes,
    median_diameter,
    picks_margin,
    split,
)
from upicker.train.loop import tiles_per_step
from upicker.train.mixture import Mixture, TileSource
from upicker.train.partial import training_region
from upicker.train.reading import learned, proposed, read_labelled, read_unlabelled
from upicker.train.sample import Sample
from upicker.train.sets import GivenSet, SetConfig, Sets
from upicker.train.simulated import SimulatedTiles
from upicker.train.stage import Stage, run_stage
from upicker.train.store import Store
from upicker.train.teacher import TrainingRegion
from upicker.train.validation import ValidationMicrograph
from upicker.units import Length


def train(sets: Sets, job: Job, initial: Path | None = None, workers: int = 0) -> StageResult:
    """Train on simulated tiles and on data sets, each with a diameter of its own.

    The last weights are kept, with a threshold chosen on simulated images that are never trained on.

    Parameters
    ----------
    sets : Sets
        What to train and to check on.
    job : Job
        Output, config and the rest; its reading is not used, as each set has its own.
    initial : Path, optional
        Weights to start from.
    workers : int
        Processes that simulate tiles in advance; 0: this one does. The tiles are the same.

    Raises
    ------
    UPickerError
        If no micrograph of a set can be used, a specimen cannot be loaded, or the output cannot be written.
    """
    result = StageResult(job.output)
    start.check(job)
    inputs = Inputs()
    begun = start.start(initial, job, inputs)
    config = begun.config
    job, store = replace(job, config=config), Store()
    # Otherwise sizes are learned from a convention, or not at all.
    knows_sizes = initial is not None or sets.share > 0
    with collected_warnings() as result.warnings, job.locked() as check:
        sources = [
            TileSource(weight, _scales(one, job, result, store, inputs, by_convention=not knows_sizes))
            for one, weight in zip(sets.sets, sets.weights, strict=True)
        ]
        checks = Checks(
            [_check(one, job, result, store, sets.settings.check_views) for one in sets.checks],
            sets.settings.check_every,
            sets.settings.steps,
            sets.settings.check_threshold,
            job.ranks,
            job.progress,
        )
        simulated, validation = None, []
        if sets.plan is not None and sets.simulated is not None:
            _require_specimens(sets.plan)
            simulated = SimulatedTiles(sets.plan, config)
            validation = simulated.kept_aside(sets.simulated.kept_aside)
        identity = {
            "config": config.to_tables(),
            "simulated": None if sets.plan is None else _identity(sets.plan),
            "steps": sets.settings.steps,
            "kept aside": len(validation),
            "weights": sets.weights,
            "sets": [{name: asdict(one.settings)[name] for name in ("given", "sized")} for one in sets.sets],
            **inputs.to_dict(),
        }
        mixture = Mixture(simulated, sources, config, tiles_per_step(config.train, job.ranks), workers)
        steps, rate = sets.settings.steps, config.train.learning_rate
        # What is simulated is small, and would be picked in more views than most micrographs are.
        views = config.pick.views or USUAL_VIEWS
        stage = Stage("train", begun, None, steps, rate, identity=identity, check=check, checks=checks, views=views)
        return run_stage(stage, mixture, validation, job, result)


def _scales(
    one: GivenSet, job: Job, result: StageResult, store: Store, inputs: Inputs, by_convention: bool
) -> list[list[Sample]]:
    """Return the micrographs of a set, prepared for each of the diameters that are given in training.

    The sizes of labels that all have one are learned if the set says so, or with `by_convention`.
    """
    job, settings = replace(job, reading=one.reading), one.settings
    assert isinstance(settings, SetConfig)
    regions, length, sizes = _labelled(one, job, result, store, inputs)
    sized = (sizes or by_convention) if settings.sized is None else settings.sized
    regions = [(path, replace(region, sized=sized)) for path, region in regions]
    # Labels may say that there is nothing; where nothing is proposed, something is wrong.
    if not regions or (one.labels is None and not any(len(region.known) for _, region in regions)):
        found = f"no micrograph of it can be used; {result.skipped[-1][1]}" if result.skipped else "it has no particles"
        raise InputError(f"[[set]] {one.name}", found.rstrip("."), "Check its files and its diameter")
    result.trained_on += len({path for path, _ in regions})
    scales = [[region.initial_sample() for _, region in regions]] if 1.0 in settings.given else []
    for factor in settings.given:
        if factor != 1.0 and (found := _at(regions, length, factor, job, store)):
            scales.append(found)
    if not scales:
        found = "none of its micrographs fits a diameter that is given in training"
        raise InputError(f"[[set]] {one.name}", found, "Put 1 into its 'given'")
    return scales


def _labelled(
    one: GivenSet, job: Job, result: StageResult, store: Store, inputs: Inputs
) -> tuple[list[tuple[Path, TrainingRegion]], Length, bool]:
    """Return the parts of the micrographs of a set that are trained on, the diameter, and whether sizes differ."""
    settings, config = one.settings, job.config
    assert isinstance(settings, SetConfig)
    if one.labels is None:
        assert one.diameter is not None
        read = read_unlabelled(one.paths, one.diameter, job, result, store, inputs)
        micrographs = [prepared for _, prepared in read]
        regions = proposed(micrographs, learned(config, micrographs), job)
        return list(zip([path for path, _ in read], regions, strict=True)), one.diameter, config.propose.sizes
    length, sizes, micrographs = _read(one, one.labels, settings.partial, job, result, store, inputs)
    labelled = [micrograph for _, micrograph in micrographs]
    if any(micrograph.partial for micrograph in labelled):
        config = learned(config, [micrograph.prepared for micrograph in labelled])
    parts = all_regions(labelled, edge_margin(labelled), 0.0)
    found = [
        (path, training_region(micrograph, region, config))
        for (path, micrograph), (region, _) in zip(micrographs, parts, strict=True)
        if region is not None
    ]
    return found, length, sizes


def _read(
    one: GivenSet, labels: Path, partial: bool, job: Job, result: StageResult, store: Store, inputs: Inputs
) -> tuple[Length, bool, list[tuple[Path, LabelledMicrograph]]]:
    """Read the labelled micrographs of a set; return the diameter, whether sizes differ, and each labelled region."""
    files = split(one.paths, labels, 0.0)
    covered = coverages([labels], partial)
    sources = [*files.training.values()]
    length = one.diameter or median_diameter(sources, one.reading.pixel_size_A)
    sizes, found = have_sizes(sources, one.reading.pixel_size_A), []
    for path, file, micrograph in read_labelled(files, length, job, result, store, inputs, sizes):
        own = micrograph.particles.diameter_px.tolist() if sizes else None
        inputs.add_labels(micrograph.particles, (covered[file], own), held=False)
        found += [(path, part) for part in by_region(micrograph, covered[file])]
    return length, sizes, found


def _at(
    regions: list[tuple[Path, TrainingRegion]], length: Length, factor: float, job: Job, store: Store
) -> list[Sample]:
    """Return the regions, prepared as if their particles' diameter were given as `factor` times what it is.

    Micrographs that do not fit such a diameter are left out.
    """
    samples, image = [], job.config.image
    job.progress.start(len(regions), f"given {factor:g}", 0)
    before, prepared = None, None
    for path, region in regions:
        if path != before:
            micrograph = job.reading.read(path)
            diameter_px = factor * length.to_px(micrograph.pixel_size_A, str(path))
            try:
                prepared = store.keep(masked(prepare(micrograph, diameter_px, image), image))
            except InputError:
                prepared = None
        before = path
        if prepared is not None:
            samples.append(replace(region, prepared=prepared).initial_sample())
        job.progress.step({})
    job.progress.finish()
    return samples


def _check(one: GivenSet, job: Job, result: StageResult, store: Store, views: int) -> CheckSet:
    """Return what is checked; nothing of it is noted as an input of the training."""
    assert one.labels is not None
    _, _, micrographs = _read(one, one.labels, False, replace(job, reading=one.reading), result, store, Inputs())
    labelled = [micrograph for _, micrograph in micrographs]
    if not labelled:
        found = f"no micrograph of it can be used; {result.skipped[-1][1]}" if result.skipped else "it has none"
        raise InputError(f"[[check]] {one.name}", found.rstrip("."), "Check its files and its diameter")
    if any(mic.partial for mic in labelled):
        found = "its labels are partial, as coverage.csv beside them says"
        raise InputError(f"[[check]] {one.name}", found, "Give complete labels, or make it a [[set]]")
    pick = replace(job.config.pick, views=views)
    if pick.edge_diameters is None:
        pick = replace(pick, edge_diameters=picks_margin(edge_margin(labelled)))
    found = [ValidationMicrograph(mic.prepared, mic.particles, mic.region) for mic in labelled]
    return CheckSet(one.name, found, replace(job.config, pick=pick))


def _require_specimens(plan: TilePlan) -> None:
    """Load each specimen once: an error is told before the training, and what is computed is kept on disk."""
    for name in plan.specimens:
        load(name, plan.source)


def _identity(plan: TilePlan) -> dict[str, object]:
    """Return a plan as plain values: files by their content, wherever they lie."""
    specimens = [name if name in BUILT_IN else _content(Path(name)) for name in plan.specimens]
    source = {name: value for name, value in asdict(plan.source).items() if name != "cache"}
    return asdict(plan) | {"specimens": specimens, "source": source}


def _content(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else path.name
