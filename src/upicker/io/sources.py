"""Labels or picks of many micrographs, whatever holds them: a folder, a list of files, or one file.

A folder has a file for each micrograph, named after it, or a list such as RELION's ``autopick.star``. One file may hold
the particles of many micrographs (``particles.star``, ``picks.cs``, a CSV with a column ``micrograph``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from upicker.errors import CoordinatesError, InputError
from upicker.io import coordinates, folders
from upicker.io.formats.content import load
from upicker.io.picks import Picks, ReadOptions, stem, to_contract
from upicker.io.stamp import Stamp, stamp
from upicker.particles import Particles


@dataclass(frozen=True, order=True)
class Part:
    """The particles of one micrograph in a file of many.

    Attributes
    ----------
    file : Path
        The file.
    micrograph : str
        The micrograph's name there.
    """

    file: Path
    micrograph: str

    def __str__(self) -> str:
        return f"{self.file} ({self.micrograph})"


Source = Path | Part
"""Where the particles of one micrograph are."""


def file_of(source: Source) -> Path:
    """Return the file that holds the particles."""
    return source.file if isinstance(source, Part) else source


def by_micrograph(path: Path) -> dict[str, Source]:
    """Return where the particles of each micrograph are.

    Parameters
    ----------
    path : Path
        A folder of coordinates files, perhaps with a list of some, see `upicker.io.folders.in_folder`; such a list;
        or a file of one micrograph or of many.

    Returns
    -------
    dict
        By the micrograph's name: that of the file, or as it stands in a list or a file of many.

    Raises
    ------
    InputError
        If there is no such file or folder.
    CoordinatesError
        If a list or a file of many cannot be read.
    """
    if path.is_dir():
        by_list, by_name = folders.in_folder(path)
        return {**by_list, **by_name}
    if not path.exists():
        raise InputError(path, "there is no such folder or file of coordinates", "Check the path")
    if (found := coordinates.listed(path)) is not None:
        return dict(found)
    names = list(_stored(path, stamp(path)))
    return {names[0]: path} if len(names) == 1 else {name: Part(path, name) for name in names}


def by_name(path: Path) -> dict[str, Source]:
    """Return where the particles of each micrograph are, by its name without folder and suffix if these names differ.

    Raises
    ------
    InputError, CoordinatesError
        As `by_micrograph`.
    """
    # The names of files have no suffix of a micrograph any more.
    found, named = folders.in_folder(path) if path.is_dir() else (by_micrograph(path), {})
    short = {stem(name): source for name, source in found.items()}
    return {**(short if len(short) == len(found) else found), **named}


def stored(source: Source) -> Picks:
    """Return the particles of one micrograph as they are stored: origins are not yet subtracted.

    Raises
    ------
    CoordinatesError
        As `upicker.io.coordinates.read`.
    """
    file = file_of(source)
    found = _stored(file, stamp(file))
    if not isinstance(source, Part):
        if len(found) > 1:
            what = f"it holds the particles of {len(found)} micrographs"
            raise CoordinatesError(file, what, "Give one file per micrograph")
        return next(iter(found.values()), Picks(file.stem, Particles.of([])))
    if source.micrograph not in found:
        what = f"the micrograph {source.micrograph!r} is not in it any more"
        raise CoordinatesError(file, what, "Start again")
    return found[source.micrograph]


def read(source: Source, shape: tuple[int, int] | None = None, pixel_size_A: float | None = None) -> Particles:
    """Read the particles of one micrograph; see `read_one`."""
    return read_one(source, shape, pixel_size_A).particles


def read_one(source: Source, shape: tuple[int, int] | None = None, pixel_size_A: float | None = None) -> Picks:
    """Read the particles of one micrograph, with what is said of it.

    Parameters
    ----------
    source : Path or Part
        A file of one micrograph, or a part of one of many.
    shape, pixel_size_A : optional
        Rows and columns, and Angstrom per pixel, of the micrograph: fractions and the origins of refined particles need
        them.

    Raises
    ------
    CoordinatesError
        As `upicker.io.coordinates.read`; also if the file was made on an image of another size.
    """
    options = ReadOptions(shape_of=lambda _: shape, pixel_size_A=pixel_size_A)
    if not isinstance(source, Part):
        return coordinates.read_one(source, options)
    return to_contract(source.file, stored(source), options)


def content(source: Source) -> bytes:
    """Return what is stored for a micrograph, to notice a change: all of a file, or the values of a part.

    Raises
    ------
    CoordinatesError
        If it cannot be read.
    """
    if not isinstance(source, Part):
        return load(source, source.stem).data
    picks = stored(source)
    particles = picks.particles
    origins = b"" if picks.origins_A is None else picks.origins_A.tobytes()
    return particles.xy.tobytes() + particles.diameter_px.tobytes() + particles.score.tobytes() + origins


@lru_cache(maxsize=4)
def _stored(path: Path, at: Stamp | None) -> dict[str, Picks]:
    """Return the content of a file by micrograph; it is parsed once for all of them, until it changes."""
    return {picks.micrograph: picks for _, picks in coordinates.read_stored(path)}


class Repeated(NamedTuple):
    """Positions that stand more than once for one micrograph.

    Attributes
    ----------
    source : Path or Part
        Where.
    positions : int
        Number of such positions.
    left_out : int
        Number of particles beyond the first at each.
    """

    source: Source
    positions: int
    left_out: int


def distinct(particles: Particles, source: Source) -> tuple[Particles, list[Repeated]]:
    """Leave out particles at exactly the position of another one, see `upicker.particles.Particles.distinct`.

    Returns
    -------
    particles : Particles
        Each position once.
    repeated : list of Repeated
        What was left out: nothing, or one.
    """
    once, positions, left_out = particles.distinct()
    return once, [Repeated(source, positions, left_out)] if positions else []


@dataclass
class DistinctReader:
    """Reads the particles of many micrographs, each position once.

    Attributes
    ----------
    pixel_size_A : float or None
        Angstrom per pixel of the micrographs, see `read`.
    repeated : list of Repeated
        What stood more than once so far.
    """

    pixel_size_A: float | None = None
    repeated: list[Repeated] = field(default_factory=list)

    def __call__(self, source: Source) -> Particles:
        """Read the particles of one micrograph; raises as `read`."""
        return self.content(source).particles

    def content(self, source: Source) -> Picks:
        """Read the particles of one micrograph, with what is said of it; raises as `read`."""
        picks = read_one(source, pixel_size_A=self.pixel_size_A)
        particles, again = distinct(picks.particles, source)
        self.repeated += again
        return replace(picks, particles=particles)


def repeats(found: Iterable[Repeated], consequence: str) -> str:
    """Return the sentence about positions that stand twice: ``2 positions stand twice in a.csv, counted once``.

    Parameters
    ----------
    found : iterable of Repeated
        From all micrographs.
    consequence : str
        What was done with them, e.g. ``"counted once"``.

    Returns
    -------
    str
        Empty if there are none.
    """
    found = list(found)
    positions, left_out = sum(one.positions for one in found), sum(one.left_out for one in found)
    if not positions:
        return ""
    times = "twice" if positions == left_out else "several times"
    files = list(dict.fromkeys(file_of(one.source).name for one in found))
    where = files[0] if len(files) == 1 else f"{len(files)} files, e.g. {files[0]}"
    noun, verb = ("position", "stands") if positions == 1 else ("positions", "stand")
    return f"{positions} {noun} {verb} {times} in {where}, {consequence}"
