"""Finding and reading micrographs. The content decides about the format; the suffix is asked last."""

from __future__ import annotations

import glob
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from upicker.errors import InputError, MicrographError
from upicker.io import mrc, rasters
from upicker.particles import Micrograph

SUFFIXES = (".mrc", ".mrcs", ".map", ".tif", ".tiff", ".png", ".jpg", ".jpeg")
SMALLEST_SIDE, LARGEST_SIDE = 16, 40_000
_PLAUSIBLE_A = (0.05, 200.0)
_FOREIGN = {
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"PK\x03\x04": "a zip archive",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF document",
    b"GIF8": "a GIF picture",
    b"\0\0\0\x03": "a DigitalMicrograph file",
    b"\0\0\0\x04": "a DigitalMicrograph file",
}


def find(patterns: Sequence[str | Path]) -> list[Path]:
    """Find micrographs.

    Parameters
    ----------
    patterns : sequence of str or Path
        Files (of any suffix), folders (their files of a known suffix, not those of folders within) and globs;
        ``**`` in a glob reaches into folders.

    Returns
    -------
    list of Path
        In natural order (``mic2`` before ``mic10``), each once.

    Raises
    ------
    InputError
        If one of the patterns gives nothing, or two files have the same stem, by which labels, picks and
        micrographs are brought together.
    """
    if not patterns:
        raise InputError("micrographs", "none were named", "Give files, folders or quoted globs")
    files: dict[str, Path] = {}
    for pattern in patterns:
        for path in _expand(str(pattern)):
            files.setdefault(os.path.abspath(path), path)  # noqa: PTH100 - links keep their own names
    found = sorted(files.values(), key=_natural)
    by_stem: dict[str, Path] = {}
    for path in found:
        other = by_stem.setdefault(path.stem, path)
        if other is not path:
            raise InputError(
                path,
                f"it has the same name as {other}, apart from folder and suffix",
                "Picks and labels are named after the micrograph: give one of the two, or run twice",
            )
    return found


def read(path: Path, pixel_size_A: float | None = None) -> Micrograph:
    """Read a micrograph: MRC (modes 0, 1, 2, 6, 12), TIFF, PNG or JPG, of 8 or 16 bits or floats.

    Parameters
    ----------
    path : Path
        The file; its content, not its suffix, says what it is.
    pixel_size_A : float, optional
        Angstrom per pixel; beats what the file says. A file's own value is taken only if it is between 0.05
        and 200, and not exactly 1, which is what programs write into an MRC header when they do not know it.

    Returns
    -------
    Micrograph
        Pixels `(H, W)` float32, C-contiguous, values and rows as stored; some may be non-finite.

    Raises
    ------
    MicrographError
        If the file is missing, empty, cut short, damaged, of an unknown kind, a stack or a movie, smaller
        than 16 or larger than 40 000 pixels a side, mostly non-finite, or of one value only.
    """
    path = Path(path)
    pixels, found_A = _read_file(path)
    pixels = _checked(path, pixels)
    return Micrograph(pixels, path.stem, pixel_size_A or _plausible(found_A), path)


def read_mask(path: Path) -> np.ndarray:
    """Read a mask: a picture of any size and format, perhaps of one value only.

    Returns
    -------
    np.ndarray
        `(H, W)` bool, True where the picture is above 0.5.

    Raises
    ------
    MicrographError
        If the file cannot be read, or holds no single picture.
    """
    path = Path(path)
    pixels, _ = _read_file(path)
    if pixels.ndim != 2:
        raise MicrographError(path, f"it holds an array of {pixels.shape}", "Give one grey picture, 1 = bad")
    return pixels > 0.5


def _read_file(path: Path) -> tuple[np.ndarray, float | None]:
    """Return the picture in the file's own type, and the pixel size that the file gives."""
    try:
        return _read_any(path, _head(path))
    except OSError as error:
        raise MicrographError(
            path, f"cannot be read ({error.strerror or error})", "Check the name and that you may read it"
        ) from error


def _expand(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [p for p in path.iterdir() if _is_known(p)]
    else:
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        matches = [match for match in matches if match.is_file()]
        # `folder/*` should not give the STAR file beside the pictures; `*.dat` is taken by its word.
        found = [match for match in matches if _is_known(match)] or matches
    if not found:
        what = "no micrograph is in this folder" if path.is_dir() else "there is no such file, folder or match"
        raise InputError(pattern, what, f"Known suffixes are {' '.join(SUFFIXES)}")
    return found


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key: digits as numbers."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise MicrographError(path, "it is a folder", "Give a file")
    with path.open("rb") as file:
        head = file.read(mrc.HEADER_BYTES)
    if not head:
        raise MicrographError(path, "the file is empty", "The copy or the download failed: fetch it again")
    return head


def _read_any(path: Path, head: bytes) -> tuple[np.ndarray, float | None]:
    """Return the picture in the file's own type, and the pixel size that the file gives."""
    if head.startswith(rasters.PNG_MAGIC):
        return rasters.read_png(path, LARGEST_SIDE), None
    if head.startswith(rasters.JPG_MAGIC):
        return rasters.read_jpg(path), None
    if head.startswith(rasters.TIFF_MAGICS):
        return rasters.read_tiff(path, LARGEST_SIDE)
    if mrc.looks_like_mrc(head):
        return mrc.read(path, head, LARGEST_SIDE)
    if path.suffix.lower() in (".mrc", ".mrcs", ".map") and len(head) < mrc.HEADER_BYTES:
        raise MicrographError(
            path,
            f"it is cut short: {len(head)} bytes, less than an MRC header",
            "The copy or the download is incomplete: fetch it again",
        )
    kind = next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), "nothing known")
    raise MicrographError(
        path, f"its content is not a picture that can be read here but {kind}", "Give MRC, TIFF, PNG or JPG"
    )


def _checked(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the pixels as contiguous float32, or raise if they hold no micrograph."""
    if pixels.ndim != 2 or pixels.dtype.kind not in "buif":
        found = f"it holds an array of {pixels.shape}, {pixels.dtype}"
        raise MicrographError(path, found, "Give one picture of real numbers")
    if min(pixels.shape) < SMALLEST_SIDE:
        raise MicrographError(
            path,
            f"the picture has {pixels.shape[0]} rows x {pixels.shape[1]} columns",
            f"A micrograph needs at least {SMALLEST_SIDE} a side: check that this is one",
        )
    if max(pixels.shape) > LARGEST_SIDE:
        raise mrc.too_large(path, (pixels.shape[0], pixels.shape[1]), LARGEST_SIDE)
    with np.errstate(over="ignore"):
        pixels = np.ascontiguousarray(pixels, np.float32)
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = pixels[np.isfinite(pixels)]
        if 2 * finite.size < pixels.size:
            share = 1 - finite.size / pixels.size
            raise MicrographError(
                path, f"{share:.0%} of its pixels are not finite numbers", "The step before failed: repeat it"
            )
        low, high = finite.min(), finite.max()
    if low == high:
        raise MicrographError(path, f"all pixels have one value, {low:g}", "The step before failed: repeat it")
    return pixels


def _plausible(pixel_size_A: float | None) -> float | None:
    """Return a file's pixel size if it can be true."""
    if pixel_size_A is None or not math.isfinite(pixel_size_A):
        return None
    # Headers hold single precision: 1.77 comes back as 1.7699999.
    rounded = float(f"{pixel_size_A:.6g}")
    return rounded if _PLAUSIBLE_A[0] <= rounded <= _PLAUSIBLE_A[1] and rounded != 1.0 else None
