"""Labelled micrographs: which file belongs to which, and what is held back for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError, InputError
from upicker.geometry import Region
from upicker.image.prepare import Prepared
from upicker.io import coordinates
from upicker.io.coverage import Coverage
from upicker.io.micrographs import Reading
from upicker.io.pairing import pair_folder
from upicker.particles import Micrograph, Particles
from upicker.units import Length

# With fewer labelled micrographs than this, validation takes a band of each instead of some of them.
FEW = 16
# Where no band says anything, whole ones of at least so many are held back after all.
WHOLE = 5

# A margin without labels counts from this many diameters on, and from this many times the distance that the
# nearest of evenly scattered labels would have.
MARGIN_DIAMETERS, MARGIN_CHANCE = 0.4, 6.0
# Boxes that must fit, and broken rims, leave margins of up to about this; see `edge_margin`.
MARGIN_PARTIAL = 1.5


@dataclass(frozen=True, eq=False)
class Truth:
    """A labelled micrograph.

    Attributes
    ----------
    prepared : Prepared
        At the working scale, masked.
    particles : Particles
        Its labels, raw pixels, diameters known.
    held : bool
        Validated on, not learned from.
    partial : bool
        Whether there are particles without a label.
    region : Region or None
        Where the labels hold, raw pixels; None: everywhere.
    """

    prepared: Prepared
    particles: Particles
    held: bool = False
    partial: bool = False
    region: Region | None = None

    @property
    def diameter_px(self) -> float:
        """One particle diameter, in raw pixels."""
        return self.prepared.diameter_px


@dataclass
class Division:
    """Which labelled micrographs are learned from, and which are validated on.

    Attributes
    ----------
    learn, check : dict of Path to Path
        Micrograph -> its coordinate file.
    band : float
        Share of the rows of each micrograph in `learn` that is validated on instead.
    unused : list of Path
        Micrographs without labels, and labels without a micrograph.
    """

    learn: dict[Path, Path]
    check: dict[Path, Path] = field(default_factory=dict)
    band: float = 0.0
    unused: list[Path] = field(default_factory=list)


def divide(paths: Sequence[Path], labels: Path, validation: Path | float) -> Division:
    """Decide what to learn from and what to validate on.

    Parameters
    ----------
    paths : sequence of Path
        Micrographs.
    labels : Path
        Folder of coordinate files.
    validation : Path or float
        A folder of labels: the micrographs it names are validated on, not learned from. Or a share: of the labelled
        micrographs (evenly spread, by name), or, if they are fewer than `FEW`, of the rows of each. 0: none.

    Raises
    ------
    InputError
        If no micrograph has labels, or none is left to learn from.
    """
    if not paths:
        raise InputError("the micrographs", "there is not one", "Name files, folders or quoted patterns")
    pairing = pair_folder(paths, labels)
    learn = pairing.pairs
    unused = [*pairing.unmatched_micrographs, *pairing.unmatched_files]
    if isinstance(validation, Path):
        check = pair_folder(paths, validation).pairs
        learn = {path: file for path, file in learn.items() if path not in check}
        if not learn:
            raise InputError(labels, "all labelled micrographs are for validation", "Label others to learn from")
        return Division(learn, check, 0.0, [path for path in unused if path not in check])
    if not validation or len(learn) < FEW:
        return Division(learn, {}, validation, unused)
    check = {path: file for i, (path, file) in enumerate(learn.items()) if _evenly(i, validation)}
    return Division({p: f for p, f in learn.items() if p not in check}, check, 0.0, unused)


def median_diameter(files: Sequence[Path]) -> Length:
    """Return the median of the labels' own diameters, in raw pixels; a broken file among good ones is passed over.

    Raises
    ------
    InputError
        If they carry none.
    """
    found, broken = [], None
    for file in files:
        try:
            found.append(coordinates.read(file))
        except CoordinatesError as error:
            broken = broken or error
    median = Particles.concatenate(found).median_diameter_px
    if median is None:
        raise broken or InputError(
            files[0], "the labels carry no diameter", "Give --diameter, e.g. --diameter 190A or 108px"
        )
    return Length(median, "px")


def read_pair(path: Path, file: Path, length: Length, reading: Reading) -> tuple[Micrograph, Particles]:
    """Read a micrograph and its labels, check them against each other, and give all labels the one diameter.

    Raises
    ------
    UPickerError
        If either cannot be read, or too many labels lie outside the picture.
    """
    micrograph = reading.read(path)
    particles, _ = coordinates.check_inside(coordinates.read(file), micrograph.shape, file)
    return micrograph, particles.with_diameter(length.to_px(micrograph.pixel_size_A, str(path)))


def parts(truth: Truth, coverage: Coverage) -> list[Truth]:
    """Return a micrograph once for each region that its labels cover."""
    return [replace(truth, partial=coverage.partial, region=region) for region in coverage.regions or (None,)]


def edge_margin(truths: Sequence[Truth]) -> float:
    """Return how far from the rim all labels stay, in particle diameters; 0 if that may be chance.

    Experts' labels often leave out a margin, where boxes would not fit or the picture is broken, though there are
    particles in it. To learn that these are background would be wrong, and to pick them is not wanted.

    Returns
    -------
    float
        The smallest distance, if it is more than `MARGIN_DIAMETERS` and several times what evenly scattered labels
        would leave; else 0. A labelled region tells nothing of the rim; and where labels are partial, somebody may have
        labelled in the middle only, so that a margin of more than `MARGIN_PARTIAL` diameters is none.
    """
    distances, chance = [], 0.0
    truths = [truth for truth in truths if truth.region is None]
    for truth in truths:
        height, width = truth.prepared.frame.raw_shape
        x, y = truth.particles.xy.T
        distances.append(np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y)) / truth.diameter_px)
        chance += len(x) * 2 * (height + width) / (height * width) * truth.diameter_px
    nearest = float(np.min(np.concatenate([np.empty(0), *distances]), initial=np.inf))
    if not np.isfinite(nearest) or nearest < max(MARGIN_DIAMETERS, MARGIN_CHANCE / chance):
        return 0.0
    if nearest > MARGIN_PARTIAL and any(truth.partial for truth in truths):
        return 0.0
    return nearest


def held_back(truths: Sequence[Truth], margin: float, band: float) -> list[tuple[Region | None, Region | None]]:
    """Say, for each labelled micrograph, which part is learned from, and which is validated on.

    Parameters
    ----------
    truths : sequence of Truth
        The micrographs, or their labelled regions.
    margin, band
        As in `regions`. Partial labels are too few to hold some of them back. If no band holds a label, because the
        pictures are small or their labels elsewhere, whole micrographs are held back, unless they are fewer than
        `WHOLE`.
    """
    kept = [regions(truth, margin, 0.0 if truth.partial else band) for truth in truths]
    known = any(check and check.contains(truth.particles.xy).any() for truth, (_, check) in zip(truths, kept))
    complete = [place for place, truth in enumerate(truths) if not truth.partial]
    if not band or known or len(complete) < WHOLE:
        return kept
    held = {place for i, place in enumerate(complete) if _evenly(i, band)}
    return [regions(replace(truth, held=place in held), margin, 0.0) for place, truth in enumerate(truths)]


def _evenly(number: int, share: float) -> bool:
    """Tell whether a micrograph of this number is one of an evenly spread share."""
    every = max(2, round(1 / share))
    return number % every == every // 2


def regions(truth: Truth, margin: float, band: float) -> tuple[Region | None, Region | None]:
    """Say which part of a labelled micrograph is learned from, and which is validated on.

    Parameters
    ----------
    truth : Truth
        The micrograph.
    margin : float
        What the labels leave along the rim, in diameters: neither learned nor validated.
    band : float
        Share of the rows, the lowest ones, to validate on. Where either part would be lower than three diameters,
        nothing is held back.
    """
    inner = Region.inside(truth.prepared.frame.raw_shape, margin * truth.diameter_px)
    if truth.region is not None:
        own = truth.region
        inner = Region(max(inner.x0, own.x0), max(inner.y0, own.y0), min(inner.x1, own.x1), min(inner.y1, own.y1))
        if inner.x0 >= inner.x1 or inner.y0 >= inner.y1:
            return None, None
    if truth.held:
        return None, inner
    height = inner.y1 - inner.y0
    cut = inner.y1 - height * band
    if band <= 0 or min(cut - inner.y0, inner.y1 - cut) < 3 * truth.diameter_px:
        return inner, None
    return replace(inner, y1=cut), replace(inner, y0=cut)
