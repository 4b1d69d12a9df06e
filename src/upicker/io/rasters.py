"""Single pictures in TIFF, PNG and JPG files."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import tifffile

from upicker.errors import MicrographError
from upicker.io.mrc import ONE_PICTURE, too_large

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPG_MAGIC = b"\xff\xd8\xff"
TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_FETCH_AGAIN = "The copy or the download is incomplete or damaged: fetch it again"
_ANGSTROM = {
    "a": 1.0, "å": 1.0, "ang": 1.0, "angstrom": 1.0, "ångström": 1.0, "pm": 0.01, "nm": 10.0,
    "um": 1e4, "µm": 1e4, "μm": 1e4, "micron": 1e4, "\\u00b5m": 1e4, "mm": 1e7, "cm": 1e8, "inch": 2.54e8,
}  # fmt: skip
# ITU-R BT.601 luma of red, green, blue.
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def read_png(path: Path, largest_side: int) -> np.ndarray:
    """Read a PNG as `(H, W)`, in the file's own type; colours become luminance.

    Raises
    ------
    MicrographError
        If it is cut short, damaged, larger than `largest_side` or partly transparent.
    """
    content = path.read_bytes()
    if not _png_is_whole(content):
        raise MicrographError(path, "the PNG is cut short or damaged", _FETCH_AGAIN)
    columns, rows = struct.unpack(">II", content[16:24])
    if max(rows, columns) > largest_side:
        raise too_large(path, (rows, columns), largest_side)
    return _decoded(path, content, "PNG")


def read_jpg(path: Path) -> np.ndarray:
    """Read a JPG as `(H, W)` uint8, as stored; colours become luminance, an orientation mark is not followed.

    Raises
    ------
    MicrographError
        If it is cut short or damaged.
    """
    content = path.read_bytes()
    # Decoders fill what is missing with grey and say nothing; a whole file ends with the end-of-image mark.
    if b"\xff\xd9" not in content[-1024:]:
        raise MicrographError(path, "the JPG is cut short: its end is missing", _FETCH_AGAIN)
    return _decoded(path, content, "JPG")


def read_tiff(path: Path, largest_side: int) -> tuple[np.ndarray, float | None]:
    """Read the one picture of a TIFF file.

    Returns
    -------
    pixels : np.ndarray
        `(H, W)` in the file's own type; colours become luminance.
    pixel_size_A : float or None
        From OME or ImageJ metadata or the resolution tags, unchecked.

    Raises
    ------
    MicrographError
        If it is a movie, has palette colours, is cut short, damaged or larger than `largest_side`, or if its
        compression needs imagecodecs.
    """
    try:
        with _silent("tifffile"), tifffile.TiffFile(path) as file:
            series, page = file.series[0], file.pages.first
            shape = tuple(length for length, axis in zip(series.shape, series.axes, strict=True) if axis in "YX")
            frames = int(np.prod([n for n, axis in zip(series.shape, series.axes, strict=True) if axis not in "YXS"]))
            if len(shape) == 2 and max(shape) > largest_side:
                raise too_large(path, (shape[0], shape[1]), largest_side)
            _check_tiff(path, page, frames, len(file.pages), path.stat().st_size)
            pixels = page.asarray().squeeze()
            if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
                pixels = np.moveaxis(pixels, 0, -1)
            return _grey(path, pixels), _tiff_pixel_size(file, page)
    except MicrographError:
        raise
    # Damaged files make the decoders raise nearly anything.
    except Exception as error:
        if isinstance(error, ImportError) or "imagecodecs" in str(error):
            raise MicrographError(
                path,
                f"its compression is not built in ({error})",
                "Install the decoders: pip install upicker[tiff]; or save it uncompressed",
            ) from error
        raise MicrographError(path, f"the TIFF cannot be read ({error})", _FETCH_AGAIN) from error


def _check_tiff(path: Path, page: tifffile.TiffPage, frames: int, pages: int, size: int) -> None:
    if frames > 1 or page.imagedepth > 1:
        raise MicrographError(
            path,
            f"it holds {max(frames, pages)} pictures of {page.imagewidth} x {page.imagelength} pixels",
            ONE_PICTURE,
        )
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise MicrographError(path, "it has palette colours", "Save it in grey values")
    ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > size:
        raise MicrographError(path, f"it is cut short: {size} bytes of {max(ends, default=0)}", _FETCH_AGAIN)


def _tiff_pixel_size(file: tifffile.TiffFile, page: tifffile.TiffPage) -> float | None:
    """Angstrom per pixel along x, where the metadata name the unit."""
    if file.is_ome and file.ome_metadata:
        return _ome_pixel_size(file.ome_metadata)
    tag = page.tags.get("XResolution")
    if tag is None or not tag.value[0]:
        return None
    per_unit = tag.value[0] / tag.value[1] if tag.value[1] else 0.0
    if file.is_imagej:
        unit = str((file.imagej_metadata or {}).get("unit", ""))
    else:
        # Without a resolution unit, TIFF's own default is the inch.
        resolution_unit = page.tags.valueof("ResolutionUnit", 2)
        unit = {2: "inch", 3: "cm"}.get(int(resolution_unit), "")
    factor = _ANGSTROM.get(unit.strip().lower())
    return factor / per_unit if factor and per_unit else None


def _ome_pixel_size(text: str) -> float | None:
    pixels = next((e for e in ElementTree.fromstring(text).iter() if e.tag.endswith("}Pixels")), None)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    factor = _ANGSTROM.get(pixels.attrib.get("PhysicalSizeXUnit", "µm").lower())
    return float(pixels.attrib["PhysicalSizeX"]) * factor if factor else None


def _png_is_whole(content: bytes) -> bool:
    """Walk the chunks to the end mark and compare their check sums."""
    at = len(PNG_MAGIC)
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        stop = at + 8 + length
        if stop + 4 > len(content) or zlib.crc32(content[at + 4 : stop]) != struct.unpack_from(">I", content, stop)[0]:
            return False
        if content[at + 4 : at + 8] == b"IEND":
            return True
        at = stop + 4
    return False


def _decoded(path: Path, content: bytes, kind: str) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise MicrographError(path, f"the {kind} cannot be decoded ({error.err})", _FETCH_AGAIN) from error
    if pixels is None:
        raise MicrographError(path, f"the {kind} cannot be decoded", _FETCH_AGAIN)
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        # OpenCV orders colours blue, green, red.
        pixels = pixels[:, :, [2, 1, 0, *range(3, pixels.shape[2])]]
    return _grey(path, pixels)


def _grey(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Turn `(H, W)` or `(H, W, channels)`, perhaps with opacity as the last channel, into `(H, W)`."""
    if pixels.ndim == 2:
        return pixels
    if pixels.ndim != 3 or pixels.shape[2] > 4:
        raise MicrographError(path, f"it holds an array of {pixels.shape}, not one picture", "Give a single picture")
    channels = pixels.shape[2]
    if channels in (2, 4):
        opacity = pixels[..., -1]
        if opacity.min() != opacity.max():
            raise MicrographError(
                path,
                "it is partly transparent: a figure, not a micrograph",
                "Save the picture itself, in grey values",
            )
        pixels = pixels[..., :-1]
    if channels <= 2 or bool((pixels == pixels[..., :1]).all()):
        return pixels[..., 0]
    return pixels.astype(np.float32) @ _LUMINANCE


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keep a library's log messages away from the user: what matters in them is raised as an error."""
    log = logging.getLogger(name)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before
