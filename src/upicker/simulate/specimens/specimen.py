"""What is simulated: a built-in particle, a structure, a density map, or an entry of the Protein Data Bank.

The frame of a specimen: `x`, `y`, `z` in Angstrom, origin in its middle (its centre of mass), the beam along `z`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from upicker.errors import ConfigError, InputError
from upicker.simulate.specimens import cache, density, procedural, rcsb, structure

BUILT_IN: tuple[str, ...] = procedural.BUILT_IN


class Specimen(Protocol):
    """A particle that can be seen from any side.

    Attributes
    ----------
    name : str
        What it is.
    diameter_A : float
        Its longest extension: what labels carry by default.
    radius_A : float
        Of a sphere around the origin that holds it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def diameter_A(self) -> float: ...  # noqa: D102, N802
    @property
    def radius_A(self) -> float: ...  # noqa: D102, N802

    def projection(
        self, rotation: np.ndarray, size: int, pixel_size_A: float, shift_px: tuple[float, float] = (0.0, 0.0)
    ) -> np.ndarray:
        """Project the turned particle along the beam.

        Parameters
        ----------
        rotation : np.ndarray
            `(3, 3)`, turns the particle's frame into the microscope's: ``turned = rotation @ point``.
        size : int
            Side of the picture in pixels.
        pixel_size_A : float
            Of the picture.
        shift_px : tuple of float
            Where the origin lies beside pixel size // 2: columns, rows.

        Returns
        -------
        np.ndarray
            `(size, size)` float32, rows y, columns x: the potential above that of the displaced ice, integrated
            along z, in volt times Angstrom.
        """
        ...


@dataclass(frozen=True)
class Source:
    """How a specimen is made.

    Attributes
    ----------
    diameter_A : longest extension of built-in particles, which scales them; others keep their size.
    seed : of the inner structure of built-in particles.
    assembly : name of a structure's biological assembly, such as ``"1"``; None takes the atoms of the file.
    voxel_size_A : of the grid on which a structure is computed; of a map whose header does not say it, or is wrong.
    mass_kDa : of a map's particle, which then sets its potential; structures know theirs.
    cache : folder of the cache; None is the user's (see `upicker.simulate.specimens.cache.folder`).
    """

    diameter_A: float | None = None
    seed: int = 0
    assembly: str | None = None
    voxel_size_A: float | None = None
    mass_kDa: float | None = None
    cache: Path | None = None


def load(source: str | Path, options: Source = Source()) -> Specimen:
    """Return a specimen; the last few are remembered.

    Parameters
    ----------
    source : str or Path
        A name of `BUILT_IN`; the path of a structure (``.pdb``, ``.ent``, ``.cif``, ``.mmcif``) or a density map
        (``.mrc``, ``.map``, ``.ccp4``), each perhaps with ``.gz``; or the four characters of an entry of the
        Protein Data Bank, which is fetched once.
    options : Source
        How it is made.

    Raises
    ------
    ConfigError
        If an option is not positive, or a structure has no such assembly.
    InputError
        If nothing is known by that name, or the file cannot be used or fetched.
    OutputError
        If an entry was fetched and the cache cannot be written.
    """
    for name in ("diameter_A", "voxel_size_A", "mass_kDa"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(name, f"{value:g} is not a positive number", "Give a positive number")
    text = str(source)
    if text in BUILT_IN:
        return _built_in(text, options.diameter_A, options.seed)
    path = Path(text)
    if not path.is_file() and rcsb.is_id(text):
        path = rcsb.fetch(text, options.cache)
    kind = _kind(path)
    if not path.is_file():
        if kind is None and path.name == text:
            built_in = f"Built in are: {', '.join(BUILT_IN)}"
            raise InputError(text, "there is no such specimen", f"{built_in}. {_KINDS_OF_FILES}")
        raise InputError(path, "there is no such file", _KINDS_OF_FILES)
    if kind is None:
        raise InputError(path, f"specimens are not read from files '{path.suffix}'", _KINDS_OF_FILES)
    state = path.stat()
    return _from_file(path.resolve(), kind, options, (state.st_mtime_ns, state.st_size))


_KINDS_OF_FILES = (
    f"Files are structures ({', '.join(structure.SUFFIXES)}) and maps ({', '.join(density.SUFFIXES)}), perhaps with "
    ".gz; four characters such as 3J79 are fetched from the Protein Data Bank"
)


def _kind(path: Path) -> str | None:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return "structure" if suffix in structure.SUFFIXES else "map" if suffix in density.SUFFIXES else None


@lru_cache(maxsize=16)
def _built_in(name: str, diameter_A: float | None, seed: int) -> Specimen:
    return procedural.build(name, diameter_A, seed)


@lru_cache(maxsize=8)  # a ribosome's transform has 140 MB
def _from_file(path: Path, kind: str, options: Source, state: tuple[int, int]) -> Specimen:
    """`state` is the file's time and size: a file that changed is another one."""
    if kind == "structure":
        wanted = (options.assembly, options.voxel_size_A)
        return cache.kept(path, (kind, *wanted), lambda: structure.potential(path, *wanted), options.cache)
    wanted = (options.voxel_size_A, options.mass_kDa)
    return cache.kept(path, (kind, *wanted), lambda: density.potential(path, *wanted), options.cache)
