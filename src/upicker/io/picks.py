"""The content of a coordinates file for one micrograph, and how its frame is converted to ours and back.

Every reader returns centres in the pixels of its file; `to_contract` then converts them to the contract of
`upicker.particles`, in this order: the scale (file pixels -> raw pixels), the flip, the threshold. `from_contract`
undoes scale and flip for the writers. A flip is its own inverse.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from upicker.errors import ConfigError, CoordinatesError, OutputError
from upicker.io.names import COMPRESSED, SUFFIXES
from upicker.particles import Particles, ScoreKind


@dataclass(frozen=True)
class Flip:
    """One way in which two programs disagree about the order of rows.

    Attributes
    ----------
    last : int
        ``y -> rows - last - y``: 1 exchanges the first stored row with the last; 0 is for programs that store
        positions as a fraction f of the height and write 1 - f.
    situation : str
        When it is needed, in a user's words.
    """

    last: int
    situation: str


# None: nothing to do. The sources: pyem, issues 22, 81, 101 (fractions, 1 - f); relion.readthedocs.io, Conventions
# (TIFF is flipped when it is read, as in MotionCor2 and IMOD); EMAN2's wiki (the origin is the lower left corner,
# which in an MRC file is the first stored pixel, in a TIFF or PNG file the last row's); Topaz, utils/conversions.py
# (rows - 1 - y for .box and EMAN2 json); for crYOLO see `upicker.io.formats.cbox`.
FLIPS: dict[str, Flip | None] = {
    "none": None,
    "upside-down": Flip(1, "one of the images was saved with its rows reversed: a JPG or PNG made from an MRC"),
    "cryosparc": Flip(0, "cryoSPARC's own motion correction against RELION's or MotionCor's: y is 1 - fraction"),
    "eman2": Flip(1, "picked in EMAN2 or crYOLO on TIFF, PNG or JPG; .box and json files that Topaz wrote"),
    "tiff": Flip(1, "micrographs in TIFF, for or from RELION, MotionCor2 or IMOD, which flip TIFF"),
}


@dataclass(frozen=True, eq=False)
class Picks:
    """The particles of one micrograph in a coordinates file.

    Attributes
    ----------
    micrograph : str
        Its name or path, as given in the file; else the stem of the file's name.
    particles : Particles
        Raw pixels, in the frame of the coordinate contract.
    shape : tuple of int or None
        Rows, columns of the raw micrograph, where known.
    pixel_size_A : float or None
        Angstrom per raw pixel, where known.
    """

    micrograph: str
    particles: Particles
    shape: tuple[int, int] | None = None
    pixel_size_A: float | None = None


@dataclass(frozen=True)
class ReadOptions:
    """How to interpret a coordinates file, beyond its own content.

    Attributes
    ----------
    shape_of : callable or None
        Micrograph's name -> rows, columns of the raw micrograph, or None if unknown. Flips need it.
    flip : str
        One of `FLIPS`.
    scale : float
        File pixels times this are raw pixels; 8 for Topaz' picks on micrographs that were down-sampled 8 times.
    threshold : float or None
        Particles with a lower score are left out.
    pixel_size_A : float or None
        Of the raw micrographs; overrides that of the file.
    """

    shape_of: Callable[[str], tuple[int, int] | None] | None = None
    flip: str = "none"
    scale: float = 1.0
    threshold: float | None = None
    pixel_size_A: float | None = None

    def __post_init__(self) -> None:
        """Refuse unknown flips, and scales that are not positive."""
        _check(self.flip, self.scale)


@dataclass(frozen=True)
class WriteOptions:
    """How to write particles.

    Attributes
    ----------
    flip : str
        One of `FLIPS`: the situation that the file is for.
    scale : float
        File pixels times this are raw pixels.
    box_px : float or None
        Side of the boxes in formats that have boxes, raw pixels; the particle's diameter where not given.
    uid_of : callable or None
        Micrograph's name -> its uid in cryoSPARC, or None if unknown.
    named : bool
        Whether each row names its micrograph, in formats that leave the choice.
    """

    flip: str = "none"
    scale: float = 1.0
    box_px: float | None = None
    uid_of: Callable[[str], int | None] | None = None
    named: bool = True

    def __post_init__(self) -> None:
        """Refuse unknown flips, and scales that are not positive."""
        _check(self.flip, self.scale)


def _check(flip: str, scale: float) -> None:
    if flip not in FLIPS:
        known = "; ".join(f"{name}: {kind.situation}" for name, kind in FLIPS.items() if kind)
        raise ConfigError("--flip", f"unknown flip {flip!r}", f"Choose one of: none; {known}")
    if not (scale > 0 and np.isfinite(scale)):
        raise ConfigError(
            "--scale", f"{scale:g} must be positive", "Give e.g. 8 for picks on micrographs that were binned 8 times"
        )


def flipped(xy: np.ndarray, flip: str, rows: int) -> np.ndarray:
    """Return `(n, 2)` positions in a micrograph of `rows` rows, flipped as in `FLIPS`."""
    kind = FLIPS[flip]
    if kind is None:
        return xy
    return np.stack([xy[:, 0], rows - kind.last - xy[:, 1]], 1)


def to_contract(where: Path, picks: Picks, options: ReadOptions) -> Picks:
    """Convert file pixels and the frame of a file to raw pixels in our frame.

    Raises
    ------
    CoordinatesError
        If a flip needs the size of the micrograph and it is unknown, or the file has another size.
    """
    known = options.shape_of(picks.micrograph) if options.shape_of else None
    shape = _raw_shape(where, picks, known, options.scale)
    particles = picks.particles
    if options.scale != 1:
        particles = replace(
            particles, xy=particles.xy * options.scale, diameter_px=particles.diameter_px * options.scale
        )
    if FLIPS[options.flip]:
        if shape is None:
            raise CoordinatesError(
                where,
                f"the size of micrograph {picks.micrograph!r} is not known, so its picks cannot be flipped",
                "Give the micrographs, too",
            )
        particles = replace(particles, xy=flipped(particles.xy, options.flip, shape[0]))
    if options.threshold is not None:
        particles = particles.above(options.threshold)
    size = options.pixel_size_A or (picks.pixel_size_A / options.scale if picks.pixel_size_A else None)
    return Picks(picks.micrograph, particles, shape, size)


def _raw_shape(where: Path, picks: Picks, known: tuple[int, int] | None, scale: float) -> tuple[int, int] | None:
    if picks.shape is None:
        return known
    rows, columns = (round(length * scale) for length in picks.shape)
    if known and max(abs(known[0] - rows), abs(known[1] - columns)) > scale:
        raise CoordinatesError(
            where,
            f"it was made on an image of {picks.shape[1]} columns x {picks.shape[0]} rows, but micrograph"
            f" {picks.micrograph!r} has {known[1]} x {known[0]}",
            f"Give --scale {known[0] / picks.shape[0]:.6g} if that image was binned, or the right micrographs",
        )
    return known or (rows, columns)


def from_contract(where: Path, picks: Picks, options: WriteOptions) -> Picks:
    """Convert raw pixels in our frame to the pixels and the frame of a file; also the shape and the pixel size.

    Raises
    ------
    OutputError
        If a flip needs the size of the micrograph and it is unknown.
    """
    particles, shape, size = picks.particles, picks.shape, picks.pixel_size_A
    if FLIPS[options.flip]:
        particles = replace(particles, xy=flipped(particles.xy, options.flip, _known_shape(where, picks)[0]))
    if options.scale != 1:
        particles = replace(
            particles, xy=particles.xy / options.scale, diameter_px=particles.diameter_px / options.scale
        )
        shape = shape and (round(shape[0] / options.scale), round(shape[1] / options.scale))
        size = size and size * options.scale
    return Picks(picks.micrograph, particles, shape, size)


def _known_shape(where: Path, picks: Picks) -> tuple[int, int]:
    if picks.shape is None:
        raise OutputError(
            where, f"the size of micrograph {picks.micrograph!r} is not known", "Give the micrographs, too"
        )
    return picks.shape


def boxed(where: Path, picks: Picks, options: WriteOptions) -> np.ndarray:
    """Return the `(n,)` sides of the particles' boxes, in file pixels.

    Raises
    ------
    OutputError
        If neither a box size nor the diameter of the particles is known.
    """
    n = len(picks.particles)
    side = picks.particles.diameter_px if options.box_px is None else np.full(n, options.box_px / options.scale)
    if not np.isfinite(side).all():
        raise OutputError(
            where, "box files need a size, but the diameter of the particles is not known", "Give --diameter"
        )
    return side


def record(picks: Picks, options: WriteOptions) -> dict[str, str | int | float]:
    """Return the notes written beside coordinates: size of the micrograph, pixel size, flip and scale, where known.

    Readers use size and pixel size. Flip and scale are for people: such a file is meant for micrographs that are
    flipped or binned in this way, and fits them as it is.
    """
    noted: dict[str, str | int | float] = {}
    if picks.shape:
        noted |= {"rows": picks.shape[0], "columns": picks.shape[1]}
    if picks.pixel_size_A:
        noted["pixel_size_A"] = float(f"{picks.pixel_size_A:.9g}")
    if options.flip != "none":
        noted["flip"] = options.flip
    if options.scale != 1:
        noted["scale"] = options.scale
    return noted


def comment(picks: Picks, options: WriteOptions, scored: bool = False) -> str:
    """Return the record as one line of a text file, which begins with ``#``; with `scored` also the kind of score."""
    text = "# centres in pixels of the raw micrograph, first stored pixel = 0"
    if picks.shape:
        text += f"; picture {picks.shape[0]} rows x {picks.shape[1]} columns"
    if picks.pixel_size_A:
        text += f"; pixel size {picks.pixel_size_A:.9g} A"
    if options.scale != 1:
        text += f"; these pixels x {options.scale:g} are raw pixels"
    if options.flip != "none":
        text += f"; flipped for: {options.flip}"
    if scored and picks.particles.score_kind.declaration:
        text += f"; score: {picks.particles.score_kind.declaration}"
    return text + "\n"


_SHAPE = re.compile(r"^#.*; picture (\d{1,7}) rows x (\d{1,7}) columns", re.M)
_SIZE = re.compile(r"^#.*; pixel size (\d[\d.e+-]{0,20}) A", re.M)
_SCORE = re.compile(r"^#.*; score: (\w{1,40})", re.M)
_HEAD = 4096


def noted(text: str) -> tuple[tuple[int, int] | None, float | None]:
    """Read shape and pixel size from a `comment` line in the first lines of `text`."""
    head = text[:_HEAD]
    shape, size = _SHAPE.search(head), _SIZE.search(head)
    try:
        value = float(size[1]) if size else None
    except ValueError:
        value = None
    found = (int(shape[1]), int(shape[2])) if shape else None
    return found if found and min(found) > 0 else None, value if value and 0 < value < 1e6 else None


def noted_score(text: str) -> str | None:
    """Read the kind of score from a `comment` line in the first lines of `text`."""
    found = _SCORE.search(text[:_HEAD])
    return found[1] if found else None


def declared(particles: Particles, word: str | None) -> Particles:
    """Return particles with the kind of score that a file declares; an unknown one changes nothing."""
    kind = next((kind for kind in ScoreKind if word and kind.declaration == word), None)
    return replace(particles, score_kind=kind) if kind else particles


def stem(micrograph: str) -> str:
    """Return a micrograph's name without folders (also of Windows) and without the suffix of an image file."""
    name = re.split(r"[/\\]", micrograph)[-1]
    for suffixes in (COMPRESSED, SUFFIXES):
        if (at := name.rfind(".")) > 0 and name[at:].lower() in suffixes:
            name = name[:at]
    return name


def grouped(names: list[str], particles: Particles) -> dict[str, Particles]:
    """Divide particles by the names of their micrographs, in order of first appearance."""
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    return {name: particles.select(np.array(at)) for name, at in rows.items()}
