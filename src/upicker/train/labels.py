"""Labelled micrographs: which file belongs to which, and what is held back for validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from upicker.errors import InputError
from upicker.io import coordinates, micrographs
from upicker.particles import Micrograph, Particles
from upicker.units import Length

# With fewer labelled micrographs than this, validation takes a band of each instead of some of them.
FEW = 5

Labelled = tuple[Micrograph, Particles]


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
    learn, unused = pair(paths, labels)
    if isinstance(validation, Path):
        check, _ = pair(paths, validation)
        learn = {path: file for path, file in learn.items() if path not in check}
        if not learn:
            raise InputError(labels, "all labelled micrographs are for validation", "Label others to learn from")
        return Division(learn, check, 0.0, [path for path in unused if path not in check])
    if not validation or len(learn) < FEW:
        return Division(learn, {}, validation, unused)
    every = max(2, round(1 / validation))
    check = {path: file for i, (path, file) in enumerate(learn.items()) if i % every == every // 2}
    return Division({p: f for p, f in learn.items() if p not in check}, check, 0.0, unused)


def pair(paths: Sequence[Path], folder: Path) -> tuple[dict[Path, Path], list[Path]]:
    """Bring micrographs and coordinate files together by stem.

    Returns
    -------
    pairs : dict of Path to Path
        Micrograph -> coordinate file.
    alone : list of Path
        Micrographs without a file, then files without a micrograph.

    Raises
    ------
    InputError
        If there is not one pair.
    """
    files = coordinates.stems(folder)
    pairs = {path: files[path.stem] for path in paths if path.stem in files}
    if not pairs:
        example = f"labels for '{next(iter(files))}'" if files else "no coordinate file at all"
        raise InputError(
            folder,
            f"none of the {len(paths)} micrographs (e.g. {Path(paths[0]).name}) has labels here; found {example}",
            "Name each coordinate file after its micrograph: mic001.mrc -> mic001.csv (or .star, .box)",
        )
    stems = {path.stem for path in paths}
    alone = [p for p in paths if p not in pairs] + [file for stem, file in files.items() if stem not in stems]
    return pairs, alone


def median_diameter(files: Sequence[Path]) -> Length:
    """Return the median of the labels' own diameters, in raw pixels.

    Raises
    ------
    InputError
        If they carry none.
    """
    diameters = np.concatenate([coordinates.read(file).diameter_px for file in files])
    diameters = diameters[np.isfinite(diameters)]
    if not len(diameters):
        raise InputError(files[0], "the labels carry no diameter", "Give --diameter, e.g. --diameter 190A or 108px")
    return Length(float(np.median(diameters)), "px")


def read_pair(path: Path, file: Path, length: Length, pixel_size_A: float | None) -> Labelled:
    """Read a micrograph and its labels, check them against each other, and give all labels the one diameter.

    Raises
    ------
    UPickerError
        If either cannot be read, or too many labels lie outside the picture.
    """
    micrograph = micrographs.read(path, pixel_size_A)
    particles, _ = coordinates.check_inside(coordinates.read(file), micrograph.shape, file)
    return micrograph, particles.with_diameter(length.to_px(micrograph.pixel_size_A, str(path)))


def split(labelled: Labelled, band: float, diameter_px: float) -> tuple[Labelled, Labelled | None]:
    """Part a micrograph into rows to learn from and, below them, a share `band` to validate on.

    Where either part would be lower than three diameters, nothing is held back.
    """
    micrograph, particles = labelled
    height = micrograph.shape[0]
    cut = round(height * (1 - band))
    if min(cut, height - cut) < 3 * diameter_px:
        return labelled, None
    above = particles.xy[:, 1] < cut - 0.5
    learn = micrograph.rows(0, cut), particles.select(above)
    check = micrograph.rows(cut, height), particles.select(~above).shifted(0, -cut)
    return learn, check
