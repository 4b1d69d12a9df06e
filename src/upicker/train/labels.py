"""Labelled micrographs: how they are split into training and validation, and the margin that labels leave."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy.spatial import KDTree

from upicker.errors import CoordinatesError, InputError, UPickerWarning, warn
from upicker.geometry import Region
from upicker.image.prepare import Prepared
from upicker.io import sources
from upicker.io.coverage import Coverage
from upicker.io.inside import check_inside
from upicker.io.micrographs import Reading
from upicker.io.pairing import differing, pair_folder
from upicker.io.picks import ReadOptions, to_contract
from upicker.io.sources import Source
from upicker.particles import Micrograph, Particles
from upicker.units import Length

# Sizes that differ by no more than this factor are one: rounded, or converted.
SAME_SIZE = 1.05
# With fewer labelled micrographs than this, a band of rows of each is held back instead of some micrographs.
FEW = 16

# A margin without labels is one from this many diameters on, and from this many times the distance that the nearest of
# evenly scattered labels would have.
MARGIN_DIAMETERS, MARGIN_SCATTER = 0.4, 6.0
# Boxes that must fit, and damaged borders, leave margins of up to about this; see `edge_margin`.
MARGIN_PARTIAL = 1.5
# Picks closer to a known particle than this many diameters are the same particle.
SAME_DIAMETERS = 0.5
# So many kept particles may be none of the extracted ones: centred anew, say.
MOST_ASTRAY = 0.1
# Error of a pick's centre in diameters: by this much the stored margin is smaller than that of the labels, so that
# particles right at their margin are not lost.
CENTRE_DIAMETERS = 0.1


@dataclass(frozen=True, eq=False)
class LabelledMicrograph:
    """A labelled micrograph.

    Attributes
    ----------
    prepared : Prepared
        At the working scale, masked.
    particles : Particles
        Its labels, raw pixels, diameters known.
    held : bool
        Validated on, not trained on.
    partial : bool
        Whether there are unlabelled particles.
    region : Region or None
        The labelled region, raw pixels; None: the whole micrograph.
    rejected : Particles
        Positions that were extracted and not kept, raw pixels, see `rejected_of`.
    """

    prepared: Prepared
    particles: Particles
    held: bool = False
    partial: bool = False
    region: Region | None = None
    rejected: Particles = field(default_factory=lambda: Particles.of([]))

    @property
    def diameter_px(self) -> float:
        """One particle diameter, in raw pixels."""
        return self.prepared.diameter_px


@dataclass
class Split:
    """Which labelled micrographs are trained on, and which are validated on.

    Attributes
    ----------
    training, validation : dict of Path to Path or Part
        Micrograph -> where its labels are.
    band : float
        Fraction of the rows of each micrograph in `training` that is validated on instead.
    unused : list of Path or Part
        Micrographs without labels, and labels without a micrograph.
    differing : str
        See `upicker.io.pairing.differing`.
    """

    training: dict[Path, Source]
    validation: dict[Path, Source] = field(default_factory=dict)
    band: float = 0.0
    unused: list[Source] = field(default_factory=list)
    differing: str = ""


def split(paths: Sequence[Path], labels: Path, validation: Path | float) -> Split:
    """Split labelled micrographs into training and validation.

    Parameters
    ----------
    paths : sequence of Path
        Micrographs.
    labels : Path
        Folder of coordinate files, or a file with the labels of many micrographs.
    validation : Path or float
        Such a folder or file: the micrographs with labels there are validated on, not trained on. Or a fraction: of the
        labelled micrographs (evenly spread, by name), or, if they are fewer than `FEW`, of the rows of each. 0: none.

    Raises
    ------
    InputError
        If no micrograph has labels, or none is left to train on.
    """
    if not paths:
        raise InputError("the micrographs", "none given", "Give files, folders or quoted patterns")
    pairing = pair_folder(paths, labels)
    training = pairing.pairs
    unused = [*pairing.unmatched_micrographs, *pairing.unmatched_files]
    told = differing(pairing)
    if isinstance(validation, Path):
        validating = pair_folder(paths, validation)
        held, told = validating.pairs, told or differing(validating)
        training = {path: file for path, file in training.items() if path not in held}
        if not training:
            raise InputError(labels, "all labelled micrographs are for validation", "Label others to train on")
        return Split(training, held, 0.0, [path for path in unused if path not in held], told)
    if not validation or len(training) < FEW:
        return Split(training, {}, validation, unused, told)
    numbers = spread(len(training), validation)
    held = {path: file for i, (path, file) in enumerate(training.items()) if i in numbers}
    return Split({p: f for p, f in training.items() if p not in held}, held, 0.0, unused, told)


def median_diameter(files: Sequence[Source], pixel_size_A: float | None = None) -> Length:
    """Return the median of the diameters in label files, in raw pixels; unreadable files among others are skipped.

    Parameters
    ----------
    files : sequence of Path or Part
        Where the labels are.
    pixel_size_A : float, optional
        Angstrom per pixel of the micrographs, for diameters in Angstrom; overrides that of the files.

    Raises
    ------
    InputError
        If no file has diameters.
    """
    diameters, unreadable = _diameters(files, pixel_size_A)
    if not len(diameters):
        raise unreadable or InputError(
            str(files[0]), "the labels have no diameter", "Give --diameter, e.g. --diameter 190A or 108px"
        )
    return Length(float(np.median(diameters)), "px")


def have_sizes(files: Sequence[Source], pixel_size_A: float | None = None) -> bool:
    """Return whether labels have sizes of their own: labels that all have one size follow a convention.

    Parameters are those of `median_diameter`.
    """
    diameters, _ = _diameters(files, pixel_size_A)
    return len(diameters) > 0 and float(diameters.max()) > SAME_SIZE * float(diameters.min())


def _diameters(files: Sequence[Source], pixel_size_A: float | None) -> tuple[np.ndarray, CoordinatesError | None]:
    """Return all diameters in label files, in raw pixels, and the first error."""
    found, unreadable = [], None
    for file in files:
        try:
            # Only diameters count: origins and fractions would need the micrograph.
            stored = replace(sources.stored(file), origins_A=None, fractions=False)
            found.append(to_contract(sources.file_of(file), stored, ReadOptions(pixel_size_A=pixel_size_A)).particles)
        except CoordinatesError as error:
            unreadable = unreadable or error
    diameters = Particles.concatenate(found).diameter_px
    return diameters[np.isfinite(diameters)], unreadable


def read_pair(
    path: Path, source: Source, length: Length, reading: Reading, sizes: bool = False
) -> tuple[Micrograph, Particles]:
    """Read a micrograph and its labels, check that they fit, and give all labels one diameter.

    Labels outside the micrograph, and positions that stand twice, are left out with a warning. With `sizes`, labels
    that have a diameter keep it.

    Raises
    ------
    UPickerError
        If either cannot be read, or too many labels lie outside the micrograph.
    """
    micrograph = reading.read(path)
    stored = sources.read(source, micrograph.shape, micrograph.pixel_size_A)
    once, repeated = sources.distinct(stored, source)
    particles, outside = check_inside(once, micrograph.shape, source)
    if repeated:
        _warn(source, "some of its positions stand twice", "Each counts once")
    if outside:
        _warn(source, "some of its labels lie outside the micrograph", "They are left out")
    diameter_px = length.to_px(micrograph.pixel_size_A, str(path))
    return micrograph, particles.with_diameter(diameter_px, only_missing=sizes)


def without_known(particles: Particles, known: Particles, diameter_px: float) -> Particles:
    """Return the particles that are not among the `known` ones."""
    if not len(particles) or not len(known):
        return particles
    distance, _ = KDTree(known.xy).query(particles.xy)
    return particles.select(distance > SAME_DIAMETERS * diameter_px)


def rejected_of(kept: Particles, extracted: Source, micrograph: Micrograph, diameter_px: float) -> Particles:
    """Return the extracted particles of a micrograph that were not kept: none of the kept lies half a diameter near.

    Kept ones may have moved by refinement, by less than that.

    Raises
    ------
    CoordinatesError
        If they cannot be read.
    InputError
        If many of the kept ones were not extracted: then it is not what they were selected from.
    """
    stored = sources.read(extracted, micrograph.shape, micrograph.pixel_size_A)
    found, _ = check_inside(sources.distinct(stored, extracted)[0], micrograph.shape, extracted)
    astray = len(without_known(kept, found, diameter_px))
    if astray > MOST_ASTRAY * len(kept):
        told = f"{astray} of {len(kept)} labels of {micrograph.name} are none of the particles extracted there"
        remedy = "Give the particles that the labels were selected from, of the same micrographs"
        raise InputError(str(extracted), told, remedy)
    return without_known(found, kept, diameter_px).with_diameter(diameter_px)


def _warn(source: Source, found: str, consequence: str) -> None:
    warn(UPickerWarning(str(source), found, consequence))


def by_region(micrograph: LabelledMicrograph, coverage: Coverage) -> list[LabelledMicrograph]:
    """Return a micrograph once for each region that its labels cover."""
    return [replace(micrograph, partial=coverage.partial, region=region) for region in coverage.regions or (None,)]


def edge_margin(micrographs: Sequence[LabelledMicrograph]) -> float:
    """Return how far all labels are from the edge, in particle diameters; 0 if that may be a coincidence.

    Experts often leave a margin unlabelled, where boxes would not fit or the micrograph is damaged, although there are
    particles in it. To train on these as background would be wrong, and to pick them is not wanted.

    Returns
    -------
    float
        The smallest distance, if it is more than `MARGIN_DIAMETERS` and several times what evenly scattered labels
        would leave; else 0. Labelled regions are ignored, as they need not reach the edge; and where labels are
        partial, a margin of more than `MARGIN_PARTIAL` diameters is ignored, as perhaps only the middle was labelled.
    """
    distances, density = [], 0.0
    micrographs = [one for one in micrographs if one.region is None]
    for one in micrographs:
        height, width = one.prepared.frame.raw_shape
        x, y = one.particles.xy.T
        distances.append(np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) / one.diameter_px)
        density += len(x) * 2 * (height + width) / (height * width) * one.diameter_px
    nearest = float(np.min(np.concatenate([np.empty(0), *distances]), initial=np.inf))
    if not np.isfinite(nearest) or nearest < max(MARGIN_DIAMETERS, MARGIN_SCATTER / density):
        return 0.0
    if nearest > MARGIN_PARTIAL and any(one.partial for one in micrographs):
        return 0.0
    return nearest


def picks_margin(margin: float) -> float:
    """Return the margin without picks, in particle diameters, where labels leave one of `margin`."""
    return max(0.0, margin - CENTRE_DIAMETERS)


def spread(number: int, fraction: float) -> set[int]:
    """Return which of a number of things are an evenly spread fraction: at least one, and not all of several."""
    below = [math.ceil(fraction * i - 0.5 - 1e-9) for i in range(number + 1)]
    found = {i for i in range(number) if below[i + 1] > below[i]} or {number // 2}
    return found if len(found) < number or number == 1 else found - {number // 2}
