"""MRC files, MRC2014 and older, also gzip and bzip2: mrcfile's dtype of the header, checks of our own."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import mrcfile
import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from upicker.errors import MicrographError, UPickerWarning, warn
from upicker.io import mrc_bytes
from upicker.io.atomic import replacing
from upicker.io.compression import check_expansion, compression, fill, opened, skip
from upicker.io.movies import check_movie, summed
from upicker.io.stored_image import DAMAGED, StoredImage, too_large, truncated

HEADER_BYTES = 1024
_FOUR_BITS = 101
_DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", _FOUR_BITS: "u1"}
_OTHER_MODES = {
    3: "a Fourier transform (complex)",
    4: "a Fourier transform (complex)",
    16: "an image in colours",
}
_IMOD_STAMP = b"IMOD"
_IMOD_HALF_BYTES = 16
_BIG_ENDIAN_STAMP = 0x11
_MAX_STORED_SIDE = 200_000
_Order = Literal["<", ">"]
_ORDERS: tuple[_Order, ...] = ("<", ">")


class _Layout(NamedTuple):
    """Position, shape and type of the pixels in a file."""

    shape: tuple[int, int]
    sections: int
    mode: int
    dtype: np.dtype
    start: int
    pixel_size_A: float | None
    value_range: tuple[float, float] | None
    """The header's dmin and dmax where it is not known whether integers are signed, see `_settled`."""

    @property
    def stored_shape(self) -> tuple[int, int]:
        """Rows, and items in a row: two 4-bit pixels share a byte, and each row begins with a new byte."""
        rows, columns = self.shape
        return rows, (columns + 1) // 2 if self.mode == _FOUR_BITS else columns

    @property
    def has_windows(self) -> bool:
        """Whether it is one image whose pixels are whole bytes."""
        return self.sections == 1 and self.mode != _FOUR_BITS

    @property
    def needed(self) -> int:
        """Bytes of the whole file, uncompressed."""
        rows, items = self.stored_shape
        return self.start + rows * items * self.sections * self.dtype.itemsize


def looks_like_mrc(head: bytes) -> bool:
    """Return whether a file's first 1024 bytes can be an MRC header; old files lack the word ``MAP``."""
    if len(head) < HEADER_BYTES:
        return False
    return head[208:211] == b"MAP" or any(_is_plausible(_header(head, order)) for order in _ORDERS)


def read(path: Path, head: bytes, max_side: int) -> StoredImage:
    """Read an MRC file of mode 0, 1, 2, 6, 12 (16-bit floats) or 101 (4-bit): one image, or the sum of a movie.

    A movie is read frame by frame; no more than two frames are held in memory.

    Parameters
    ----------
    path : Path
        The file, perhaps compressed.
    head : bytes
        Its first 1024 bytes, uncompressed.
    max_side : int
        Images with a longer side, in pixels, are refused before they are read.

    Returns
    -------
    StoredImage
        The image, or the sum of the movie's frames.

    Raises
    ------
    MicrographError
        If the header is not plausible, the mode is another, the sections are not a movie's frames, or data are
        missing.
    """
    layout, is_compressed = _checked_layout(path, head, max_side)
    with opened(path) as file:
        skip(path, file, layout.start)
        frames = _frames(path, file, layout)
        pixels = next(frames) if layout.sections == 1 else summed(frames, layout.shape)
        if is_compressed:
            file.read(1)  # The checksum is compared at the end of the stream.
    return StoredImage(pixels, layout.pixel_size_A, "mrc", layout.sections)


def _checked_layout(path: Path, head: bytes, max_side: int) -> tuple[_Layout, bool]:
    """Return the layout of a file that can be read, and whether it is compressed; raises as `read`."""
    layout = _layout(path, head)
    if max(layout.shape) > max_side:
        raise too_large(path, layout.shape, max_side)
    if layout.sections > 1:
        check_movie(path, layout.sections, layout.shape)
    is_compressed = bool(compression(path))
    if is_compressed:
        check_expansion(path, layout.needed)
    elif (size := path.stat().st_size) < layout.needed:
        raise truncated(path, size, layout.needed)
    return layout, is_compressed


class Windows:
    """Rectangles of an MRC image, read one by one: ``windows[top:bottom, left:right]``.

    The file is closed at the end of a `with` statement, or when nothing refers to this any more.

    The file is not mapped into memory: if it is truncated or its disk is removed meanwhile, reading raises an error,
    while access to a memory map would end the process.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the image.
    pixel_size_A : float or None
        As in the file, unchecked.
    """

    def __init__(self, path: Path, layout: _Layout) -> None:
        self.shape, self.pixel_size_A = layout.shape, layout.pixel_size_A
        self._path, self._layout = path, layout
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)
        if layout.value_range:
            try:
                rows = [self[row : row + 1, : self.shape[1]] for row in mrc_bytes.sampled(self.shape[0])]
            except MicrographError:
                self._file.close()
                raise
            self._layout = _settled(layout, np.concatenate(rows))

    def __enter__(self) -> Windows:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        """Return a rectangle within the image, in the file's own type; rows may have a step.

        Raises
        ------
        MicrographError
            If the file is truncated, or cannot be read any more.
        """
        rows, columns = window
        if rows.step not in (None, 1):
            each = range(rows.start, rows.stop, rows.step)
            return np.concatenate([self[row : row + 1, columns] for row in each])
        # Whole rows: one long range is read faster than many short ones.
        band = np.empty((rows.stop - rows.start, self.shape[1]), self._layout.dtype)
        try:
            self._file.seek(self._layout.start + rows.start * self.shape[1] * band.itemsize)
            fill(self._path, self._file, band)
        except OSError as error:
            raise MicrographError(self._path, f"cannot be read ({error.strerror or error})", DAMAGED) from error
        return band[:, columns]


def windows(path: Path) -> Windows | None:
    """Open an MRC image to read rectangles of it; None if it is compressed, 4-bit, a movie, or not MRC.

    Raises
    ------
    MicrographError
        If the header is not plausible, or the file cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
        if compression(path) or not looks_like_mrc(head):
            return None
        layout = _layout(path, head)
        return Windows(path, layout) if layout.has_windows else None
    except OSError as error:
        raise MicrographError(path, f"cannot be read ({error.strerror or error})", DAMAGED) from error


def by_rows(path: Path, head: bytes, max_side: int) -> Windows | None:
    """Open an MRC image to read its rows when they are needed; None if only `read` can tell what its pixels are.

    That is so if it is compressed, 4-bit, a movie, or of integers that may be signed or not.

    Parameters
    ----------
    path, head, max_side : Path, bytes, int
        As of `read`.

    Raises
    ------
    MicrographError
        As `read`.
    """
    layout, is_compressed = _checked_layout(path, head, max_side)
    readable = layout.has_windows and not is_compressed and not layout.value_range
    return Windows(path, layout) if readable else None


def size(path: Path, head: bytes) -> tuple[tuple[int, int], float | None]:
    """Return rows and columns of an MRC file, and its pixel size in Angstrom, from its first 1024 bytes.

    Raises
    ------
    MicrographError
        If the header is not plausible, or `read` does not support the mode.
    """
    layout = _layout(path, head)
    return layout.shape, layout.pixel_size_A


def needed(path: Path, head: bytes) -> int:
    """Return how many bytes an uncompressed MRC file must have, by its first 1024: headers and pixels.

    Raises
    ------
    MicrographError
        As `size`.
    """
    return _layout(path, head).needed


def integer_dtype(path: Path, head: bytes, rows: np.ndarray) -> np.dtype:
    """Return whether the pixels of a file of mode 0 or 1 are unsigned or signed.

    Parameters
    ----------
    path : Path
        The file, for messages.
    head : bytes
        Its first 1024 bytes, uncompressed.
    rows : np.ndarray
        Its pixels, `(n, W)`, as the file has them.

    Raises
    ------
    MicrographError
        If the header is not plausible.
    """
    layout = _layout(path, head)
    return (_settled(layout, rows[mrc_bytes.sampled(len(rows))]) if layout.value_range else layout).dtype


def _frames(path: Path, file: IO[bytes], layout: _Layout) -> Iterator[np.ndarray]:
    """Read one section `(H, W)` after the other, into the same memory."""
    buffer = np.empty(layout.stored_shape, layout.dtype)
    for number in range(layout.sections):
        fill(path, file, buffer)
        if number == 0 and layout.value_range:
            buffer = buffer.view(_settled(layout, buffer[mrc_bytes.sampled(len(buffer))]).dtype)
            _warn_of_unsigned(path, buffer)
        yield _unpacked(buffer, layout.shape[1]) if layout.mode == _FOUR_BITS else buffer


def _unpacked(packed: np.ndarray, columns: int) -> np.ndarray:
    """Unpack `(H, (W + 1) // 2)` bytes into `(H, W)`: the lower half of a byte is the first pixel (IMOD)."""
    pixels = np.empty((len(packed), 2 * packed.shape[1]), np.uint8)
    pixels[:, ::2], pixels[:, 1::2] = packed & 15, packed >> 4
    return pixels[:, :columns]


def _layout(path: Path, head: bytes) -> _Layout:
    order = _byte_order(head)
    header = _header(head, order)
    columns, rows, sections, mode = (int(header[key]) for key in ("nx", "ny", "nz", "mode"))
    if min(columns, rows, sections) < 1:
        found = f"its MRC header gives {columns} x {rows} x {sections} pixels"
        raise MicrographError(path, found, DAMAGED)
    if mode not in _DTYPES:
        found = _OTHER_MODES.get(mode, f"MRC mode {mode}, which is not supported")
        raise MicrographError(path, f"it holds {found}", "Save it as MRC mode 2 (32-bit floats)")
    flags = _imod_flags(head)
    if mode == 0 and flags & _IMOD_HALF_BYTES:
        raise MicrographError(path, "it holds 4-bit pixels in an old format", "Save it as MRC mode 101, 1 or 2")
    stamped = head[152:156] in (_IMOD_STAMP, _IMOD_STAMP[::-1])
    unsigned = mode == 0 and stamped and not flags & 1
    dtype = np.dtype("u1" if unsigned else order + _DTYPES[mode])
    start = HEADER_BYTES + max(0, int(header["nsymbt"]))
    doubtful = mode in (0, 1) and not stamped
    value_range = (float(header["dmin"]), float(header["dmax"])) if doubtful else None
    return _Layout((rows, columns), sections, mode, dtype, start, _pixel_size(header), value_range)


def _settled(layout: _Layout, sample: np.ndarray) -> _Layout:
    """Decide whether integers are signed, by a sample of the first section's rows."""
    assert layout.value_range
    unsigned = mrc_bytes.are_unsigned(np.ascontiguousarray(sample), *layout.value_range)
    return layout._replace(dtype=mrc_bytes.other_type(layout.dtype, "u" if unsigned else "i"), value_range=None)


def _warn_of_unsigned(path: Path, pixels: np.ndarray) -> None:
    """Warn if integers are read as unsigned, and it makes a difference."""
    half = 2 ** (8 * pixels.itemsize - 1)
    if pixels.dtype.kind != "u" or pixels.max() < half:
        return
    what, mode, other = ("bytes", 0, "1 or 2") if half == 128 else ("16-bit integers", 1, "2")
    found = f"it holds unsigned {what} in MRC mode {mode}, where the standard has signed ones"
    found += f", and is read as 0..{2 * half - 1}"
    warn(UPickerWarning(path, found, f"If that is wrong, save it as MRC mode {other}"))


def _header(head: bytes, order: _Order) -> Any:
    """Return the header as a record of mrcfile's dtype.

    mrcfile does not open the file itself, because it would read an extended header of any length given in a damaged
    file.
    """
    return np.frombuffer(head, HEADER_DTYPE.newbyteorder(order), 1)[0]


def _byte_order(head: bytes) -> _Order:
    """Return ``<`` or ``>``: the one in which the header is plausible, else that of the machine stamp."""
    plausible: list[_Order] = [order for order in _ORDERS if _is_plausible(_header(head, order))]
    if len(plausible) == 1:
        return plausible[0]
    return ">" if head[212] == _BIG_ENDIAN_STAMP else "<"


def _is_plausible(header: Any) -> bool:
    sides = [int(header[key]) for key in ("nx", "ny", "nz")]
    return min(sides) > 0 and max(sides[:2]) <= _MAX_STORED_SIDE and int(header["mode"]) in _DTYPES


def _pixel_size(header: Any) -> float | None:
    """Return Angstrom per pixel along x: the length of the cell over its samples."""
    samples, length = int(header["mx"]), float(header["cella"]["x"])
    return length / samples if samples > 0 else None


def _imod_flags(head: bytes) -> int:
    """Return IMOD's flags, 0 without its stamp: bit 0, bytes are signed; bit 4, two pixels share a byte."""
    if head[152:156] not in (_IMOD_STAMP, _IMOD_STAMP[::-1]):
        return 0
    # In either byte order the flags in use are in the lowest byte, and the highest byte is 0.
    return head[156] | head[159]


def write(path: Path, pixels: np.ndarray, pixel_size_A: float | None = None) -> None:
    """Write one image, whole or not at all.

    Parameters
    ----------
    path : Path
        The ``.mrc`` file (mode 2, 32-bit floats).
    pixels : np.ndarray
        `(H, W)`; row 0 is stored first.
    pixel_size_A : float, optional
        For the header, where 0 means unknown.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with replacing(path) as temporary, mrcfile.new(temporary) as file:
        file.set_data(np.ascontiguousarray(pixels, np.float32))
        file.voxel_size = pixel_size_A or 0.0
        # mrcfile's own label holds the time; equal images must give equal files.
        assert file.header is not None
        file.header.label[0] = "Created by UPicker"
