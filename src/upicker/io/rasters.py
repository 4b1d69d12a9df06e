"""TIFF, EER, PNG and JPG files: single images, and movies in TIFF and EER; writing of TIFF, PNG masks and JPEG."""

from __future__ import annotations

import logging
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import tifffile

from upicker.errors import MicrographError, UPickerWarning, warn
from upicker.io.atomic import replacing
from upicker.io.compression import check_expansion
from upicker.io.movies import check_movie, summed
from upicker.io.stored_image import DAMAGED, StoredImage, too_large, truncated
from upicker.io.tiff_ifds import check_ifds

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPG_MAGIC = b"\xff\xd8\xff"
TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_ANGSTROM = {
    "a": 1.0, "å": 1.0, "ang": 1.0, "angstrom": 1.0, "angstroms": 1.0, "ångström": 1.0, "pm": 0.01,
    "nm": 10.0, "nanometer": 10.0, "um": 1e4, "µm": 1e4, "μm": 1e4, "micron": 1e4, "microns": 1e4,
    "mm": 1e7, "cm": 1e8, "inch": 2.54e8,
}  # fmt: skip
_CM_A = 1e8
_JPG_END_BYTES = 1024
# ITU-R BT.601 luma of red, green, blue.
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


def read_png(path: Path, max_side: int) -> StoredImage:
    """Read a PNG, in the file's own type; colours become luminance.

    Raises
    ------
    MicrographError
        If it is truncated, damaged, larger than `max_side` or partly transparent.
    """
    content = path.read_bytes()
    if not _png_is_complete(content):
        raise MicrographError(path, "the PNG is truncated or damaged", DAMAGED)
    columns, rows, bits, colours = struct.unpack(">IIBB", content[16:26])
    if max(rows, columns) > max_side:
        raise too_large(path, (rows, columns), max_side)
    channels = {2: 3, 4: 2, 6: 4}.get(colours, 1)
    check_expansion(path, rows * columns * channels * bits // 8)
    return StoredImage(_decoded(path, content, "PNG"), None, "png")


def read_jpg(path: Path, max_side: int) -> StoredImage:
    """Read a JPG, uint8, as stored; colours become luminance, an EXIF orientation is ignored.

    Raises
    ------
    MicrographError
        If it is truncated, damaged or larger than `max_side`.
    """
    content = path.read_bytes()
    _check_jpg_end(path, content)
    rows, columns = _jpg_shape(content)
    if max(rows, columns) > max_side:
        raise too_large(path, (rows, columns), max_side)
    check_expansion(path, rows * columns)
    return StoredImage(_decoded(path, content, "JPG"), None, "jpg")


def read_tiff(path: Path, max_side: int) -> StoredImage:
    """Read a TIFF file, or an EER file, which is a kind of TIFF: one image, or the sum of a movie.

    Movies are read frame by frame. EER frames are rendered at the camera's physical pixels (4096 x 4096), without
    super-resolution.

    Returns
    -------
    StoredImage
        The image; colours become luminance. The pixel size comes from OME, ImageJ or EER metadata or the
        resolution tags.

    Raises
    ------
    MicrographError
        If it holds several images that are not a movie, has palette colours, is truncated, damaged or larger than
        `max_side`, or if its compression needs imagecodecs.
    """
    check_ifds(path)
    try:
        with _silent("tifffile"), tifffile.TiffFile(path) as file:
            return _tiff(path, file, max_side)
    except MicrographError:
        raise
    # Damaged files make the decoders raise nearly anything.
    except Exception as error:
        if isinstance(error, ImportError) or "imagecodecs" in str(error):
            raise MicrographError(
                path,
                f"its compression is not supported ({error})",
                "Install the decoders: pip install upicker[tiff]; or save it uncompressed",
            ) from error
        raise MicrographError(path, f"the TIFF cannot be read ({error})", DAMAGED) from error


def _tiff(path: Path, file: tifffile.TiffFile, max_side: int) -> StoredImage:
    series = _series(path, file)
    pages = list(series.pages)
    page = series.keyframe
    shape = page.imagelength, page.imagewidth
    frames = int(np.prod([n for n, axis in zip(series.shape, series.axes, strict=True) if axis not in "YXS"]))
    if max(shape) > max_side:
        raise too_large(path, shape, max_side)
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise MicrographError(path, "it has palette colours", "Save it in grey values")
    check_expansion(path, page.size * max(1, page.bitspersample // 8))
    if page.imagedepth > 1:
        raise MicrographError(path, f"it is a volume of {page.imagedepth} sections", "Give a single image")
    if _white_is_zero(page):
        found = "white is zero in this TIFF (PhotometricInterpretation), so its values are inverted, as viewers show it"
        warn(UPickerWarning(path, found, "If particles are bright then, save it with black as zero"))
    if frames == 1:
        return StoredImage(_tiff_page(path, page), _tiff_pixel_size(file, page), "tiff")
    kind = "eer" if file.is_eer else "tiff"
    if kind != "eer":
        check_movie(path, frames, shape)
    if frames != len(pages):
        found = f"its {frames} frames are on {len(pages)} pages instead of one page each"
        raise MicrographError(path, found, "Save it with one page per frame, or as MRC")
    total = summed((_tiff_page(path, one) for one in pages), shape)
    return StoredImage(total, _tiff_pixel_size(file, page), kind, frames)


def _series(path: Path, file: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    """Return the images of one kind that a file holds; of several kinds the largest, beside thumbnails."""
    sides = [(one.keyframe.imagewidth, one.keyframe.imagelength) for one in file.series]
    if len(sides) < 2:
        return file.series[0]
    kinds = " and ".join(
        f"{columns} x {rows} ({one.dtype})" for (columns, rows), one in zip(sides, file.series, strict=True)
    )
    areas = [columns * rows for columns, rows in sides]
    if areas.count(max(areas)) > 1:
        found = f"it holds images of several kinds, {kinds}, and it is not clear which is the micrograph"
        raise MicrographError(path, found, "Save the micrograph alone")
    columns, rows = sides[areas.index(max(areas))]
    found = f"it holds images of several sizes, {kinds}, of which the largest is read"
    warn(UPickerWarning(path, found, f"If it is not that of {columns} x {rows}, save it alone"))
    return file.series[areas.index(max(areas))]


def _white_is_zero(page: tifffile.TiffPage) -> bool:
    """Tell whether small values are bright; where the tag is missing, tifffile gives the same number."""
    return "PhotometricInterpretation" in page.tags and page.photometric == tifffile.PHOTOMETRIC.MINISWHITE


def _inverted(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Return values of the same type in reverse order: in their range, or about 0 for floats."""
    if pixels.dtype.kind == "u":
        return pixels.dtype.type((1 << bits) - 1) - pixels
    return -pixels if pixels.dtype.kind == "f" else ~pixels


def _tiff_page(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame | None) -> np.ndarray:
    """Decode one page as `(H, W)`; raises MicrographError if part of it is missing."""
    if page is None:
        raise MicrographError(path, "a frame is missing", DAMAGED)
    _check_data(path, page)
    pixels = page.asarray().squeeze()
    keyframe = page.keyframe
    if keyframe is not None and keyframe.planarconfig == tifffile.PLANARCONFIG.SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, -1)
    if keyframe is not None and _white_is_zero(keyframe):
        pixels = _inverted(pixels, keyframe.bitspersample)
    return _grey(path, pixels)


def _check_data(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
    """Raise MicrographError if a page has no data, or they are said to lie beyond the end of the file."""
    size = path.stat().st_size
    ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if not ends or max(ends) > size:
        raise truncated(path, size, max(ends, default=0))


def check_tiff(path: Path) -> None:
    """Make sure that a TIFF or EER file is all there, without decoding it: its pages, the data of the first and last.

    Raises
    ------
    MicrographError
        If something is missing, or it cannot be understood.
    """
    check_ifds(path)
    try:
        with _silent("tifffile"), tifffile.TiffFile(path) as file:
            for page in (file.pages[0], file.pages[len(file.pages) - 1]):
                _check_data(path, page)
    except MicrographError:
        raise
    except Exception as error:
        raise MicrographError(path, f"the TIFF cannot be read ({error})", DAMAGED) from error


def check_png(path: Path) -> None:
    """Make sure that a PNG is all there, without decoding it: the chunks up to the end marker.

    Raises
    ------
    MicrographError
        If something is missing.
    """
    at, size = len(PNG_MAGIC), path.stat().st_size
    with path.open("rb") as file:
        while at + 12 <= size:
            file.seek(at)
            length, kind = struct.unpack(">I4s", file.read(8).ljust(8, b"\0"))
            at += 12 + length
            if at > size or not kind.isalpha():
                break
            if kind == b"IEND":
                return
    raise MicrographError(path, "the PNG is truncated or damaged", DAMAGED)


def check_jpg(path: Path) -> None:
    """Make sure that a JPG has its end marker.

    Raises
    ------
    MicrographError
        If it has none.
    """
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _JPG_END_BYTES))
        _check_jpg_end(path, file.read())


def _check_jpg_end(path: Path, content: bytes) -> None:
    # Decoders fill missing parts with grey without an error; a complete file ends with the end-of-image marker.
    if b"\xff\xd9" not in content[-_JPG_END_BYTES:]:
        raise MicrographError(path, "the JPG is truncated: its end is missing", DAMAGED)


def _tiff_pixel_size(file: tifffile.TiffFile, page: tifffile.TiffPage) -> float | None:
    """Return Angstrom per pixel along x, where the metadata give the unit."""
    if file.is_eer:
        metres = (file.eer_metadata or {}).get("sensorPixelSize.width")
        return metres * 1e10 if isinstance(metres, float) else None
    if file.is_ome and file.ome_metadata:
        return _ome_pixel_size(file.ome_metadata)
    tag = page.tags.get("XResolution")
    if tag is None or not tag.value[0]:
        return None
    per_unit = tag.value[0] / tag.value[1] if tag.value[1] else 0.0
    if file.is_imagej:
        unit = str((file.imagej_metadata or {}).get("unit", ""))
    else:
        # The default resolution unit of TIFF is the inch.
        resolution_unit = page.tags.valueof("ResolutionUnit", 2)
        unit = {2: "inch", 3: "cm"}.get(int(resolution_unit), "")
    # ImageJ writes letters beyond ASCII as escapes: \\u00C5 is an A with a ring, \\u00B5m a micrometre.
    unit = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), unit)
    factor = _ANGSTROM.get(unit.strip().lower())
    return factor / per_unit if factor and per_unit else None


def _ome_pixel_size(text: str) -> float | None:
    pixels = next((e for e in ElementTree.fromstring(text).iter() if e.tag.endswith("}Pixels")), None)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None
    factor = _ANGSTROM.get(pixels.attrib.get("PhysicalSizeXUnit", "µm").lower())
    return float(pixels.attrib["PhysicalSizeX"]) * factor if factor else None


def _png_is_complete(content: bytes) -> bool:
    """Return whether all chunks up to the end marker are there, with correct checksums."""
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


def _jpg_shape(content: bytes) -> tuple[int, int]:
    """Return rows and columns from the frame header, or zeros if there is none."""
    at = 2
    while at + 9 <= len(content) and content[at] == 0xFF:
        marker, (length,) = content[at + 1], struct.unpack_from(">H", content, at + 2)
        # Start-of-frame markers; those of Huffman tables, extensions and arithmetic coding are in the same range.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            rows, columns = struct.unpack_from(">HH", content, at + 5)
            return rows, columns
        at += 1 if marker == 0xFF else 2 + length
    return 0, 0


def _decoded(path: Path, content: bytes, kind: str) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise MicrographError(path, f"the {kind} cannot be decoded ({error.err})", DAMAGED) from error
    if pixels is None:
        raise MicrographError(path, f"the {kind} cannot be decoded", DAMAGED)
    if pixels.ndim == 3 and pixels.shape[2] >= 3:
        # OpenCV orders colours blue, green, red.
        pixels = pixels[:, :, [2, 1, 0, *range(3, pixels.shape[2])]]
    return _grey(path, pixels)


def _grey(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return `(H, W)` from `(H, W)` or `(H, W, channels)`, perhaps with opacity as the last channel."""
    if pixels.ndim == 2:
        return pixels
    if pixels.ndim != 3 or pixels.shape[2] > 4:
        raise MicrographError(path, f"it holds an array of {pixels.shape}, not one image", "Give a single image")
    channels = pixels.shape[2]
    if channels in (2, 4):
        opacity = pixels[..., -1]
        if opacity.min() != opacity.max():
            raise MicrographError(
                path,
                "it is partly transparent: a figure, not a micrograph",
                "Save the micrograph itself, in grey values",
            )
        pixels = pixels[..., :-1]
    if channels <= 2 or bool((pixels == pixels[..., :1]).all()):
        return pixels[..., 0]
    return pixels.astype(np.float32) @ _LUMINANCE


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Suppress a library's log messages: those that matter are raised as errors."""
    log = logging.getLogger(name)
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def write_tiff(path: Path, pixels: np.ndarray, pixel_size_A: float) -> None:
    """Write `(H, W)` pixels as an uncompressed TIFF of 32-bit floats, whole or not at all.

    The pixel size goes to the resolution tags, in pixels per centimetre.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    per_cm = _CM_A / pixel_size_A
    with replacing(path) as temporary:
        tifffile.imwrite(
            temporary,
            np.ascontiguousarray(pixels, np.float32),
            resolution=(per_cm, per_cm),
            resolutionunit="CENTIMETER",
            metadata=None,
            software="UPicker",
        )


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Write an `(H, W)` bool mask as a PNG, whole or not at all: 255 where it is True, else 0.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    content = cv2.imencode(".png", mask.astype(np.uint8) * 255)[1]
    with replacing(path) as temporary:
        temporary.write_bytes(content.tobytes())


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """Return an image as the bytes of a JPEG file.

    Parameters
    ----------
    image : np.ndarray
        `(h, w)` uint8 grey, or `(h, w, 3)` uint8 in the order blue, green, red.
    quality : int
        0 to 100.
    """
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
