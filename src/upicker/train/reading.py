"""Micrographs, labelled or not, as they are read and prepared for a training; unusable ones are noted and left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from upicker.config import Config
from upicker.errors import UPickerError
from upicker.image.mask import masked
from upicker.image.prepare import Prepared, prepare
from upicker.io.sources import Source
from upicker.particles import Particles
from upicker.pick.picker import DEFAULT_THRESHOLD
from upicker.pick.torch_network import to_device
from upicker.propose.proposals import examples, propose, with_template
from upicker.train.fingerprint import Inputs
from upicker.train.job import Job, StageResult
from upicker.train.labels import LabelledMicrograph, Split, read_pair, rejected_of
from upicker.train.start import Start
from upicker.train.store import Store
from upicker.train.teacher import TrainingRegion, teacher_picks
from upicker.units import Length

# Of general weights' picks, those below the threshold, but not below this fraction of it, are neither particles nor
# background.
UNSURE = 0.4
_NONE = Particles.of([])


def read_unlabelled(
    paths: Sequence[Path], diameter: Length, job: Job, result: StageResult, store: Store, inputs: Inputs
) -> list[tuple[Path, Prepared]]:
    """Read and prepare micrographs; unusable ones go to `result`.

    Raises
    ------
    OutputError
        If there is no room for what is prepared.
    """
    found, image = [], job.config.image
    job.progress.start(len(paths), "micrographs", 0)
    for path in paths:
        try:
            micrograph = job.reading.read(path)
            diameter_px = diameter.to_px(micrograph.pixel_size_A, str(path))
            prepared = masked(prepare(micrograph, diameter_px, image), image)
        except UPickerError as error:
            result.skipped.append((path, str(error)))
        else:  # A full disk ends the training: the other micrographs would be skipped likewise.
            found.append((path, store.keep(prepared)))
            inputs.add_micrograph(micrograph, diameter_px)
        job.progress.step({})
    job.progress.finish()
    return found


def read_labelled(
    files: Split,
    length: Length,
    job: Job,
    result: StageResult,
    store: Store,
    inputs: Inputs,
    sizes: bool = False,
    extracted: Mapping[Path, Source] | None = None,
) -> list[tuple[Path, Source, LabelledMicrograph]]:
    """Read and prepare the labelled micrographs, and return where their labels are; unusable ones go to `result`.

    All labels get the diameter `length`; with `sizes`, only those that have none. `extracted` tells where the particles
    are from which the labels of some micrographs were selected.

    Raises
    ------
    OutputError
        As `read_unlabelled`.
    """
    labelled, image = [], job.config.image
    everything = {**files.training, **files.validation}
    job.progress.start(len(everything), "labels", 0)
    for path, file in everything.items():
        try:
            micrograph, particles = read_pair(path, file, length, job.reading, sizes)
            diameter_px = length.to_px(micrograph.pixel_size_A, str(path))
            prepared = masked(prepare(micrograph, diameter_px, image), image)
            of = (extracted or {}).get(path)
            rejected = _NONE if of is None else rejected_of(particles, of, micrograph, diameter_px)
        except UPickerError as error:
            result.skipped.append((path, str(error)))
        else:  # A full disk ends the training, as above.
            inputs.add_micrograph(micrograph, diameter_px)
            if len(rejected):
                inputs.add_rejected(rejected)
            held = path in files.validation
            one = LabelledMicrograph(store.keep(prepared), particles, held, rejected=rejected)
            labelled.append((path, file, one))
        job.progress.step({})
    job.progress.finish()
    return labelled


def learned(config: Config, micrographs: Sequence[Prepared]) -> Config:
    """Return the config with a template learned from some of the micrographs, if one is to be used."""
    return replace(config, propose=with_template(config.propose, examples(micrographs), config.image))


def proposed(micrographs: Iterable[Prepared], config: Config, job: Job) -> list[TrainingRegion]:
    """Return micrographs with proposals as their particles (the paper's pseudo-labels)."""
    chosen = config.train.proposals
    knobs = config.propose if chosen == "auto" else replace(config.propose, top_k=chosen)
    regions, micrographs = [], list(micrographs)
    job.progress.start(len(micrographs), "proposals", 0)
    for prepared in micrographs:
        regions.append(TrainingRegion(prepared, propose(prepared, knobs, config.image, prepared.usable)))
        job.progress.step({})
    job.progress.finish()
    return regions


def picked(micrographs: Iterable[Prepared], begun: Start, job: Job) -> list[TrainingRegion]:
    """Return micrographs with the picks of general weights as their particles.

    Their sizes are not learned from: it would fix the errors that they have.
    """
    threshold = DEFAULT_THRESHOLD if begun.threshold is None else begun.threshold
    nothing = Particles.of([])
    regions = [TrainingRegion(prepared, nothing, sized=False) for prepared in micrographs]
    job.progress.start(1, "picks", 0)
    picks = teacher_picks(regions, to_device(begun.model, job.config), job.config, job.ranks, views=None)
    job.progress.finish()
    low = UNSURE * threshold
    return [
        replace(
            one, known=found.above(threshold), unsure=found.select((found.score >= low) & (found.score < threshold))
        )
        for one, found in zip(regions, picks, strict=True)
    ]
