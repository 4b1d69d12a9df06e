"""A cache of potentials on disk, so that each structure is computed once.

The name of an entry is a hash of what it was computed from: the content of the file, the options, and the version of
the computation. So an entry never gets outdated; one that cannot be read is computed again.
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

VERSION = 1  # of the computations whose results are cached; to be raised with any change there


def folder() -> Path:
    """Return the folder of the user's cache: ``UPICKER_CACHE``, or the standard one of the system."""
    if given := os.environ.get("UPICKER_CACHE"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "upicker"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "upicker" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "upicker"


def cached(source: Path, options: object, build: Callable[[], Volume], where: Path | None = None) -> Volume:
    """Return the cached result of a computation from a file, or compute and cache it.

    Parameters
    ----------
    source : Path
        The file; its content identifies the result, not its name.
    options : object
        Whatever else the result depends on, identified by its ``repr``.
    build : callable
        Computes it.
    where : Path, optional
        The folder of the cache; by default the user's (`folder`). If it cannot be written, nothing is cached.
    """
    name = hashlib.blake2b(source.read_bytes() + repr((VERSION, options)).encode(), digest_size=16).hexdigest()
    path = (where or folder()) / "potentials" / f"{name}.npz"
    # A damaged entry raises one of these: a wrong checksum, a truncated file, a missing array.
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
