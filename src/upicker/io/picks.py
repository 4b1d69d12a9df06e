"""The content of a coordinates file for one micrograph, and how its frame is converted to ours and back.

Every reader returns what its file holds: pixels of the file, and lengths in Angstrom as such. `to_contract` then
converts them to the contract of `upicker.particles`, in this order: the scale (file pixels -> raw pixels), lengths in
Angstrom by the pixel size of the raw micrograph, the flip, the threshold. `from_contract` undoes scale and flip for the
writers. A flip is its own inverse; it mirrors the micrograph, and so turns an in-plane angle psi to -psi.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from upicker.errors import ConfigError, CoordinatesError, OutputError
from upicker.io.names import COMPRESSED, SUFFIXES
from upicker.particles import Particles

# What `Particles.extra` holds, in words.
EXTRA_WORDS = {"class_number": "classes", "psi_deg": "angles", "label_key": "label keys"}
# Beyond any position or diameter in pixels, and any angle in degrees.
_IMPOSSIBLE = 1e7


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
        Raw pixels, in the frame of the coordinate contract. From a `Format.read`: pixels and frame of the file.
    shape : tuple of int or None
        Rows, columns of the raw micrograph, where known. From a `Format.read`: of the image that the file means.
    pixel_size_A : float or None
        Angstrom per raw pixel, where known; likewise.
    unread : tuple of str
        What the file holds besides and UPicker does not, in words.
    origins_A, diameters_A : np.ndarray or None
        `(n, 2)` origins of refined particles, which are subtracted from the positions, and `(n,)` diameters, both in
        Angstrom; until `to_contract` only.
    fractions : bool
        Whether positions are fractions of the micrograph's width and height; until `to_contract` only.
    """

    micrograph: str
    particles: Particles
    shape: tuple[int, int] | None = None
    pixel_size_A: float | None = None
    unread: tuple[str, ...] = ()
    origins_A: np.ndarray | None = None
    diameters_A: np.ndarray | None = None
    fractions: bool = False

    @property
    def needs_sizes(self) -> bool:
        """Whether `to_contract` needs the size or the pixel size of the micrograph, for other things than a flip."""
        return self.fractions or self.origins_A is not None or self.diameters_A is not None


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


def _flipped(particles: Particles, flip: str, rows: int) -> Particles:
    """Return particles in a micrograph of `rows` rows, flipped as in `FLIPS`; mirrored directions turn to -psi."""
    kind = FLIPS[flip]
    if kind is None:
        return particles
    xy = np.stack([particles.xy[:, 0], rows - kind.last - particles.xy[:, 1]], 1)
    psi = {name: -values for name, values in particles.extra.items() if name == "psi_deg"}
    return replace(particles, xy=xy, extra={**particles.extra, **psi})


def to_contract(where: Path, picks: Picks, options: ReadOptions) -> Picks:
    """Convert file pixels and the frame of a file to raw pixels in our frame.

    Raises
    ------
    CoordinatesError
        If the size or the pixel size of the micrograph is needed and unknown, the file has another size, or a position
        is none in any micrograph.
    """
    known = options.shape_of(picks.micrograph) if options.shape_of else None
    shape = _raw_shape(where, picks, known, options.scale)
    size = options.pixel_size_A or (picks.pixel_size_A / options.scale if picks.pixel_size_A else None)
    unread = picks.unread
    if not size and picks.diameters_A is not None:
        unread = (*unread, "diameters in Angstrom, for want of a pixel size")
    with np.errstate(over="ignore", invalid="ignore"):
        particles = _in_raw_pixels(where, picks, shape, size, options.scale)
    _check_possible(where, particles)
    if FLIPS[options.flip]:
        if shape is None:
            raise CoordinatesError(
                where,
                f"the size of micrograph {picks.micrograph!r} is not known, so its picks cannot be flipped",
                "Give the micrographs, too",
            )
        particles = _flipped(particles, options.flip, shape[0])
    if options.threshold is not None:
        particles = particles.above(options.threshold)
    return Picks(picks.micrograph, particles, shape, size, unread)


def _in_raw_pixels(
    where: Path, picks: Picks, shape: tuple[int, int] | None, size: float | None, scale: float
) -> Particles:
    """Return the particles with positions and diameters in pixels of the raw micrograph, not yet flipped."""
    particles = picks.particles
    xy = particles.xy
    if picks.fractions:
        if shape is None:
            raise CoordinatesError(
                where,
                f"its positions are fractions of the size of micrograph {picks.micrograph!r}, which is not known",
                "Name the micrographs: upicker convert --micrographs",
            )
        xy = xy * np.array(shape[::-1])
    elif scale != 1:
        xy = xy * scale
    if picks.origins_A is not None and picks.origins_A.any():
        if size is None:
            raise CoordinatesError(
                where,
                f"the origins of its refined particles need the pixel size of micrograph {picks.micrograph!r}, which is"
                " not known (those of the movies and of the extracted images may differ from it)",
                "Use upicker convert with --micrographs, or with --pixel-size, e.g. --pixel-size 1.77A",
            )
        xy = xy - picks.origins_A / size
    diameter = particles.diameter_px * scale
    if picks.diameters_A is not None:
        diameter = np.where(picks.diameters_A > 0, picks.diameters_A / (size or np.nan), np.nan)
    return replace(particles, xy=xy, diameter_px=diameter)


def _check_possible(where: Path, particles: Particles) -> None:
    """Refuse numbers that are none of a particle in a micrograph; some formats could not hold them."""
    plain = np.abs(particles.xy).max(initial=0.0) < _IMPOSSIBLE  # False with NaN, too.
    if plain and not (np.abs(particles.diameter_px) >= _IMPOSSIBLE).any() and "psi_deg" not in particles.extra:
        return
    x, y = np.where(np.isnan(particles.xy), np.inf, particles.xy).T
    columns = {"x": x, "y": y, "diameter": particles.diameter_px}
    if "psi_deg" in particles.extra:
        columns["angle"] = particles.extra["psi_deg"]
    for what, values in columns.items():
        bad = np.abs(values) >= _IMPOSSIBLE
        if bad.any():
            number = int(np.argmax(bad))
            found = f"its particle {number + 1} has the {what} {values[number]:g}, which is not possible"
            raise CoordinatesError(where, found, "Correct or remove it")


def _raw_shape(where: Path, picks: Picks, known: tuple[int, int] | None, scale: float) -> tuple[int, int] | None:
    if picks.shape is None:
        return known
    rows, columns = (round(length * scale) for length in picks.shape)
    if known and max(abs(known[0] - rows), abs(known[1] - columns)) > scale:
        raise CoordinatesError(
            where,
            f"it was made on an image of {picks.shape[1]} columns x {picks.shape[0]} rows, but micrograph"
            f" {picks.micrograph!r} has {known[1]} x {known[0]}",
            f"Use upicker convert --scale {known[0] / picks.shape[0]:.6g} if it was binned, or the right micrographs",
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
        particles = _flipped(particles, options.flip, _known_shape(where, picks)[0])
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


def stem(micrograph: str) -> str:
    """Return a micrograph's name without folders (also of Windows) and without the suffix of an image file."""
    name = re.split(r"[/\\]", micrograph)[-1]
    for suffixes in (COMPRESSED, SUFFIXES):
        if (at := name.rfind(".")) > 0 and name[at:].lower() in suffixes:
            name = name[:at]
    return name


def grouped(names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the rows of each name, as an integer index, in order of first appearance."""
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        rows.setdefault(name, []).append(i)
    return {name: np.array(at) for name, at in rows.items()}


def joined(parts: Sequence[Picks]) -> Picks:
    """Join picks of one micrograph that a file holds in several tables."""
    if len(parts) == 1:
        return parts[0]
    particles = Particles.concatenate([p.particles for p in parts])
    lost = {name for p in parts for name in p.particles.extra} - particles.extra.keys()
    origins = [np.zeros((len(p.particles), 2)) if p.origins_A is None else p.origins_A for p in parts]
    return replace(
        parts[0],
        particles=particles,
        pixel_size_A=next((p.pixel_size_A for p in parts if p.pixel_size_A), None),
        unread=tuple(
            dict.fromkeys([*(word for p in parts for word in p.unread), *(EXTRA_WORDS[n] for n in sorted(lost))])
        ),
        origins_A=np.concatenate(origins),
    )
