"""NumPy's .npy tables, read without trust: no pickle, and no row beyond the end of the file."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError

MAGIC = b"\x93NUMPY"
# A set of fields for each of a thousand classes takes 730 kB.
_LONGEST_HEADER = 1 << 20


def table(path: Path, content: bytes) -> np.ndarray:
    """Return a one-dimensional structured array that shares memory with `content`.

    Parameters
    ----------
    path : Path
        The file, for messages.
    content : bytes
        All of it.

    Raises
    ------
    CoordinatesError
        If the header is damaged or longer than 1 MiB, names Python objects, is not a table, or declares more rows than
        the file holds.
    """
    dtype, shape, start = _header(path, content)
    remedy = "Give a .cs file of particles"
    if dtype.hasobject:
        raise CoordinatesError(
            path, "it holds pickled Python objects, which are not read", "Save it from cryoSPARC again"
        )
    if dtype.names is None or len(shape) != 1 or dtype.itemsize < 1:
        raise CoordinatesError(path, "it is a NumPy file, but not a table", remedy)
    held = (len(content) - start) // dtype.itemsize
    if not 0 <= shape[0] <= held:
        raise CoordinatesError(path, f"it declares {shape[0]} rows and holds {held}: it is cut short", "Copy it again")
    return np.frombuffer(content, dtype, shape[0], start)


def _header(path: Path, content: bytes) -> tuple[np.dtype, tuple[int, ...], int]:
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        wide = version == (2, 0)
        field = 4 if wide else 2
        size = int.from_bytes(content[8 : 8 + field], "little")
        if version not in ((1, 0), (2, 0)) or size > len(content) - 8 - field:
            raise ValueError(f"a header of {size} bytes, version {version}")
        if size > _LONGEST_HEADER:
            raise CoordinatesError(path, f"its NumPy header has {size} bytes", "Save it with fewer fields")
        reader = np.lib.format.read_array_header_2_0 if wide else np.lib.format.read_array_header_1_0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shape, _, dtype = reader(stream, max_header_size=_LONGEST_HEADER)
        return dtype, tuple(int(length) for length in shape), stream.tell()
    except CoordinatesError:
        raise
    # NumPy evaluates a literal and builds a dtype from it; what a damaged one raises is not documented.
    except Exception as error:
        raise CoordinatesError(path, "its NumPy header is damaged", "Copy the file again") from error
