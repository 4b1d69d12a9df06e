"""Specimens: built-in particles, structures, density maps, and entries of the Protein Data Bank.

The frame of a specimen: `x`, `y`, `z` in Angstrom, origin at its centre of mass, the beam along `z`.
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
    """A particle that can be projected in any orientation.

    Attributes
    ----------
    name : str
        Its name.
    diameter_A : float
        Its longest extension: the default diameter of labels.
    radius_A : float
        Of a sphere around the origin that encloses it.
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
        """Project the rotated particle along the beam.

        Parameters
        ----------
        rotation : np.ndarray
            `(3, 3)`, from the frame of the particle to that of the microscope: ``rotation @ point``.
        size : int
            Side of the image in pixels.
        pixel_size_A : float
            Of the image.
        shift_px : tuple of float
            Offset of the origin from pixel size // 2: columns, rows.

        Returns
        -------
        np.ndarray
            `(size, size)` float32, rows y, columns x: the potential above that of the displaced ice, integrated
            along z, in volt times Angstrom.
        """
        ...


@dataclass(frozen=True)
class Source:
    """Options of making a specimen.

    Attributes
    ----------
    diameter_A : longest extension of built-in particles, which scales them; others keep their size.
    seed : of the inner structure of built-in particles.
    assembly : name of a structure's biological assembly, such as ``"1"``; None: the atoms of the file.
    voxel_size_A : of the grid on which a structure is computed; of a map, instead of that in its header.
    mass_kDa : mass of the particle in a map, which scales its potential; structures have theirs.
    cache : folder of the cache; None: the user's (see `upicker.simulate.specimens.cache.folder`).
    """

    diameter_A: float | None = None
    seed: int = 0
    assembly: str | None = None
    voxel_size_A: float | None = None
    mass_kDa: float | None = None
    cache: Path | None = None


def load(source: str | Path, options: Source = Source()) -> Specimen:
    """Return a specimen; the last few are kept in memory.

    Parameters
    ----------
    source : str or Path
        One of `BUILT_IN`; the path of a structure (``.pdb``, ``.ent``, ``.cif``, ``.mmcif``) or a density map
        (``.mrc``, ``.map``, ``.ccp4``), each perhaps with ``.gz``; or the four characters of an entry of the
        Protein Data Bank, which is downloaded once.
    options : Source
        How to make it.

    Raises
    ------
    ConfigError
        If an option is not positive, or a structure has no such assembly.
    InputError
        If there is no such specimen, or the file cannot be used or downloaded.
    OutputError
        If an entry was downloaded and the cache cannot be written.
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
            built_in = f"Built-in specimens: {', '.join(BUILT_IN)}"
            raise InputError(text, "there is no such specimen", f"{built_in}. {_KINDS_OF_FILES}")
        raise InputError(path, "there is no such file", _KINDS_OF_FILES)
    if kind is None:
        raise InputError(path, f"unknown suffix '{path.suffix}' of a specimen", _KINDS_OF_FILES)
    state = path.stat()
    return _from_file(path.resolve(), kind, options, (state.st_mtime_ns, state.st_size))


_KINDS_OF_FILES = (
    f"Files: structures ({', '.join(structure.SUFFIXES)}) and maps ({', '.join(density.SUFFIXES)}), also with .gz; an "
    "entry of four characters, such as 3J79, is fetched from the Protein Data Bank"
)


def _kind(path: Path) -> str | None:
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    return "structure" if suffix in structure.SUFFIXES else "map" if suffix in density.SUFFIXES else None


@lru_cache(maxsize=16)
def _built_in(name: str, diameter_A: float | None, seed: int) -> Specimen:
    return procedural.build(name, diameter_A, seed)


@lru_cache(maxsize=8)  # the transform of a ribosome takes 140 MB
def _from_file(path: Path, kind: str, options: Source, state: tuple[int, int]) -> Specimen:
    """Load a file; `state`, its time and size, tells changed files apart."""
    if kind == "structure":
        wanted = (options.assembly, options.voxel_size_A)
        return cache.cached(path, (kind, *wanted), lambda: structure.potential(path, *wanted), options.cache)
    wanted = (options.voxel_size_A, options.mass_kDa)
    return cache.cached(path, (kind, *wanted), lambda: density.potential(path, *wanted), options.cache)
