"""Single pictures in MRC files, MRC2014 and older ones: mrcfile's record of the header, checks of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from upicker.errors import MicrographError
from upicker.io.atomic import replacing

HEADER_BYTES = 1024
ONE_PICTURE = "If it is a movie, correct the motion first and give the sum; of a stack, give single pictures"
_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_OTHER_MODES = {3: "a Fourier transform (complex)", 4: "a Fourier transform (complex)", 101: "4-bit pixels"}
_IMOD_STAMP = b"IMOD"
_BIG_ENDIAN_STAMP = 0x11
_LARGEST_STORED = 200_000
_Order = Literal["<", ">"]
_ORDERS: tuple[_Order, ...] = ("<", ">")


def looks_like_mrc(head: bytes) -> bool:
    """Tell whether a file's first 1024 bytes can be an MRC header; old files lack the word ``MAP``."""
    if len(head) < HEADER_BYTES:
        return False
    return head[208:211] == b"MAP" or any(_makes_sense(_header(head, order)) for order in _ORDERS)


def read(path: Path, head: bytes, largest_side: int) -> tuple[np.ndarray, float | None]:
    """Read the one picture of an MRC file of mode 0, 1, 2, 6 or 12 (16-bit floats).

    Parameters
    ----------
    path : Path
        The file: a picture, or a stack or volume of a single section.
    head : bytes
        Its first 1024 bytes.
    largest_side : int
        Refuse pictures with a longer side, in pixels, before reading them.

    Returns
    -------
    pixels : np.ndarray
        `(H, W)` in the file's own type; row 0 is the first stored row.
    pixel_size_A : float or None
        As the header has it, unchecked.

    Raises
    ------
    MicrographError
        If the header makes no sense, the mode is another, there are several sections, or data are missing.
    """
    order = _byte_order(head)
    header = _header(head, order)
    columns, rows, sections, mode = (int(header[key]) for key in ("nx", "ny", "nz", "mode"))
    if min(columns, rows, sections) < 1:
        raise MicrographError(
            path,
            f"its MRC header says {columns} x {rows} x {sections} pixels",
            "The file is damaged: copy or export it again",
        )
    if mode not in _DTYPES:
        found = _OTHER_MODES.get(mode, f"MRC mode {mode}, which is not known")
        raise MicrographError(path, f"it holds {found}", "Save it as MRC mode 2 (32-bit floats)")
    if sections > 1:
        raise MicrographError(
            path,
            f"it holds {sections} sections of {columns} x {rows} pixels, not one picture",
            ONE_PICTURE,
        )
    if max(columns, rows) > largest_side:
        raise too_large(path, (rows, columns), largest_side)
    dtype = np.dtype(order + _DTYPES[mode])
    if mode == 0 and _bytes_are_unsigned(head):
        dtype = np.dtype("u1")
    start = HEADER_BYTES + max(0, int(header["nsymbt"]))
    size, needed = path.stat().st_size, start + columns * rows * dtype.itemsize
    if size < needed:
        raise MicrographError(
            path,
            f"it is cut short: {size} bytes of {needed}",
            "The copy or the download is incomplete: fetch it again",
        )
    pixels = np.fromfile(path, dtype, columns * rows, offset=start).reshape(rows, columns)
    return pixels, _pixel_size(header)


def too_large(path: Path, shape: tuple[int, int], largest_side: int) -> MicrographError:
    """Make the error for a picture of `shape` (rows, columns) beyond the largest side."""
    return MicrographError(
        path,
        f"the picture has {shape[0]} rows x {shape[1]} columns",
        f"At most {largest_side} a side are taken: bin it, or check that it is a micrograph",
    )


def _header(head: bytes, order: _Order) -> Any:
    """Return the header as mrcfile's record.

    mrcfile does not open the file itself, because it would read an extended header of any length that a
    damaged file names.
    """
    return np.frombuffer(head, HEADER_DTYPE.newbyteorder(order), 1)[0]


def _byte_order(head: bytes) -> _Order:
    """Return ``<`` or ``>``: what the numbers say, else the machine stamp."""
    sensible: list[_Order] = [order for order in _ORDERS if _makes_sense(_header(head, order))]
    if len(sensible) == 1:
        return sensible[0]
    return ">" if head[212] == _BIG_ENDIAN_STAMP else "<"


def _makes_sense(header: Any) -> bool:
    sides = [int(header[key]) for key in ("nx", "ny", "nz")]
    return min(sides) > 0 and max(sides[:2]) <= _LARGEST_STORED and int(header["mode"]) in _DTYPES


def _pixel_size(header: Any) -> float | None:
    """Angstrom per pixel along x: the cell's length over the samples in it."""
    samples, length = int(header["mx"]), float(header["cella"]["x"])
    return length / samples if samples > 0 else None


def _bytes_are_unsigned(head: bytes) -> bool:
    """Tell whether mode 0 means 0..255: so do old IMOD files, whose own flag for signed bytes is not set."""
    return head[152:156] in (_IMOD_STAMP, _IMOD_STAMP[::-1]) and not head[156] & 1 and not head[159] & 1


def write(path: Path, pixels: np.ndarray, pixel_size_A: float | None = None) -> None:
    """Write one picture, whole or not at all.

    Parameters
    ----------
    path : Path
        The ``.mrc`` file (mode 2, 32-bit floats).
    pixels : np.ndarray
        `(H, W)`; row 0 is stored first.
    pixel_size_A : float, optional
        For the header; 0 there means not known.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with replacing(path) as temporary, mrcfile.new(temporary) as file:
        file.set_data(np.ascontiguousarray(pixels, np.float32))
        file.voxel_size = pixel_size_A or 0.0
