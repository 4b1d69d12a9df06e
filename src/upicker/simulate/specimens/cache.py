"""Potentials kept on disk, so that a structure is worked out once.

An entry's name is made of what it was computed from: the file's content, the options, and the version of the
computation. So an entry never gets old; one that cannot be read is made again.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import numpy as np

from upicker.errors import OutputError
from upicker.io.atomic import replacing
from upicker.simulate.specimens.volume import Volume

VERSION = 1  # of the computations whose results are kept; a change there needs another number here


def folder() -> Path:
    """Return where the user's cache lies: ``UPICKER_CACHE``, or the system's place for such things."""
    if given := os.environ.get("UPICKER_CACHE"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "upicker"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "upicker" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "upicker"


def kept(source: Path, options: object, build: Callable[[], Volume], where: Path | None = None) -> Volume:
    """Return what was computed from a file before, or compute it and keep it.

    Parameters
    ----------
    source : Path
        The file; its content counts, not its name.
    options : object
        Whatever else the result depends on, told apart by its ``repr``.
    build : callable
        Computes it.
    where : Path, optional
        The folder of the cache; by default the user's (`folder`). One that cannot be written is done without.
    """
    name = hashlib.blake2b(source.read_bytes() + repr((VERSION, options)).encode(), digest_size=16).hexdigest()
    path = (where or folder()) / "potentials" / f"{name}.npz"
    # A damaged entry shows as a zip of wrong checksum, a short one, or one that lacks something.
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return _read(path)
    volume = build()
    with suppress(OutputError), replacing(path) as temporary:
        np.savez(temporary, **{field.name: getattr(volume, field.name) for field in fields(volume)})
    return volume


def _read(path: Path) -> Volume:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as entry:
        values = {field.name: entry[field.name] for field in fields(Volume)}
    density = values.pop("density_V")
    if density.ndim != 3:
        raise ValueError("not a volume")
    return Volume(str(values.pop("name")), density, **{name: float(value) for name, value in values.items()})
