"""Finding and reading micrographs. The content decides about the format; the suffix is asked last."""

from __future__ import annotations

import glob
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from upicker.errors import InputError, MicrographError, UPickerWarning
from upicker.io import lists, movies, mrc, names, rasters
from upicker.io.lists import Listed
from upicker.io.names import is_picture, plain
from upicker.io.stored import FETCH_AGAIN, Stored, opened, packing, too_large
from upicker.particles import Micrograph

SMALLEST_SIDE, LARGEST_SIDE = 16, 40_000
_PLAUSIBLE_A = (0.05, 200.0)
_FOREIGN = {
    b"PK\x03\x04": "a zip archive",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF document",
    b"GIF8": "a GIF picture",
    b"\0\0\0\x03": "a DigitalMicrograph file",
    b"\0\0\0\x04": "a DigitalMicrograph file",
}


@dataclass(frozen=True)
class Reading:
    """How the micrographs of a run are read; picklable, for several processes.

    Attributes
    ----------
    pixel_size_A : float or None
        Angstrom per pixel of all; beats lists and headers.
    listed : mapping of Path to float
        What lists say of each; beats headers.
    gain : Path or None
        Gain reference for movies.
    """

    pixel_size_A: float | None = None
    listed: Mapping[Path, float] = field(default_factory=dict)
    gain: Path | None = None

    @classmethod
    def of(cls, entries: Sequence[Listed], pixel_size_A: float | None = None, gain: Path | None = None) -> Reading:
        """Gather what lists say of their micrographs."""
        listed = {entry.path: entry.pixel_size_A for entry in entries if entry.pixel_size_A}
        sizes = {*listed.values()}
        if pixel_size_A is None and len(sizes) == 1 and len(listed) == len(entries):
            return cls(sizes.pop(), {}, gain)
        return cls(pixel_size_A, {} if pixel_size_A else listed, gain)

    def about(self) -> dict[str, object]:
        """Say it in the words of ``run.toml``; None is left out there."""
        return {"pixel_size_A": self.pixel_size_A, "gain": None if self.gain is None else str(self.gain)}

    def read(self, path: Path) -> Micrograph:
        """Read one micrograph; see `read` of this module, which also says what is raised."""
        return read(path, self.size_of(path), self.gain)

    def size_of(self, path: Path) -> float | None:
        """Return a micrograph's pixel size in Angstrom, or None where it is left to the file."""
        return self.pixel_size_A or self.listed.get(path)


def find(patterns: Sequence[str | Path]) -> list[Path]:
    """Find micrographs, as `entries` does, and return their paths only."""
    return [entry.path for entry in entries(patterns)]


def entries(patterns: Sequence[str | Path]) -> list[Listed]:
    """Find micrographs, with what lists say of them.

    Parameters
    ----------
    patterns : sequence of str or Path
        Files (of any suffix), folders (their files of a known suffix, not those of folders within), globs (``**``
        in a glob reaches into folders) and lists, see `upicker.io.lists.read`.

    Returns
    -------
    list of Listed
        In natural order (``mic2`` before ``mic10``), each once.

    Raises
    ------
    InputError
        If one of the patterns gives nothing, a list cannot be read, or two files have the same name but for folder
        and suffix: by it labels, picks and micrographs are brought together.
    """
    if not patterns:
        raise InputError("micrographs", "none were named", "Give files, folders, quoted globs or lists")
    files: dict[str, Listed] = {}
    for pattern in patterns:
        for path in _expand(str(pattern)):
            is_list = not _is_known(path) and lists.is_list(path)
            for entry in lists.read(path) if is_list else [Listed(path, str(path))]:
                files.setdefault(os.path.abspath(entry.path), entry)  # noqa: PTH100 - links keep their own names
    found = sorted(files.values(), key=lambda entry: _natural(entry.path))
    by_name: dict[str, Path] = {}
    for entry in found:
        other = by_name.setdefault(plain(entry.path), entry.path)
        if other is not entry.path:
            raise InputError(
                entry.path,
                f"it has the same name as {other}, apart from folder and suffix",
                "Picks and labels are named after the micrograph: give one of the two, or run twice",
            )
    return found


def read(path: str | Path, pixel_size_A: float | None = None, gain: Path | None = None) -> Micrograph:
    """Read a micrograph: MRC (modes 0, 1, 2, 6, 12, 101; gzip and bzip2, too), TIFF, EER, PNG or JPG.

    Pixels may have 8 or 16 bits or be floats. Movies are read frame by frame and summed; whoever reads one is
    warned (`upicker.errors.UPickerWarning`), because motion correction should come first.

    Parameters
    ----------
    path : str or Path
        The file; its content, not its suffix, says what it is.
    pixel_size_A : float, optional
        Angstrom per pixel; beats what the file says. A file's own value is taken only if it is between 0.05
        and 200, and not exactly 1, which is what programs write into an MRC header when they do not know it.
    gain : Path, optional
        Gain reference, applied to the sums of movies only; see `upicker.io.movies.with_gain`.

    Returns
    -------
    Micrograph
        Pixels `(H, W)` float32, C-contiguous, values and rows as stored; some may be non-finite.

    Raises
    ------
    MicrographError
        If the file is missing, empty, cut short, damaged, of an unknown kind, a stack or volume that is no movie,
        smaller than 16 or larger than 40 000 pixels a side, mostly non-finite, or of one value only.
    """
    path = Path(path)
    stored = _read_file(path)
    pixels = stored.pixels
    if stored.frames > 1:
        warnings.warn(
            UPickerWarning(
                path,
                f"it is a movie, of which the plain sum is taken ({stored.frames} frames)",
                "Correct the motion first, then pick: drift blurs particles and moves them",
            ),
            stacklevel=2,
        )
        if gain is not None:
            pixels = movies.with_gain(path, stored, _read_file(Path(gain)), Path(gain))
    return Micrograph(_checked(path, pixels), plain(path), pixel_size_A or _plausible(stored.pixel_size_A), path)


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
    pixels = _read_file(path).pixels
    if pixels.ndim != 2:
        raise MicrographError(path, f"it holds an array of {pixels.shape}", "Give one grey picture, 1 = bad")
    return pixels > 0.5


def size(path: Path, pixel_size_A: float | None = None) -> tuple[tuple[int, int], float | None]:
    """Return rows and columns of a micrograph, and its pixel size as `read` takes it.

    Of an MRC file only the header is read; other pictures are decoded.

    Raises
    ------
    MicrographError
        If the file cannot be read, or holds no single picture.
    """
    path = Path(path)
    try:
        head = _head(path)
        if mrc.looks_like_mrc(head) and not head.startswith(
            (rasters.PNG_MAGIC, rasters.JPG_MAGIC, *rasters.TIFF_MAGICS)
        ):
            shape, stored_A = mrc.size(path, head)
        else:
            stored = _read_any(path, head)
            shape, stored_A = (stored.pixels.shape[0], stored.pixels.shape[1]), stored.pixel_size_A
    except OSError as error:
        raise MicrographError(
            path, f"cannot be read ({error.strerror or error})", "Check the name and that you may read it"
        ) from error
    return shape, pixel_size_A or _plausible(stored_A)


def _read_file(path: Path) -> Stored:
    """Return the picture in the file's own type, and what the file says of it."""
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
        raise InputError(
            pattern, what, f"Known suffixes are {' '.join(names.PICTURES)}, and {' '.join(names.PACKED)} behind .mrc"
        )
    return found


def _is_known(path: Path) -> bool:
    return is_picture(path) and not path.name.startswith(".") and path.is_file()


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key: digits as numbers."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise MicrographError(path, "it is a folder", "Give a file")
    if not path.stat().st_size:
        raise MicrographError(path, "the file is empty", "The copy or the download failed: fetch it again")
    with opened(path) as file:
        return file.read(mrc.HEADER_BYTES)


def _read_any(path: Path, head: bytes) -> Stored:
    """Return the picture in the file's own type; `head` is unpacked."""
    packed = packing(path)
    if not packed and head.startswith(rasters.PNG_MAGIC):
        return rasters.read_png(path, LARGEST_SIDE)
    if not packed and head.startswith(rasters.JPG_MAGIC):
        return rasters.read_jpg(path, LARGEST_SIDE)
    if not packed and head.startswith(rasters.TIFF_MAGICS):
        return rasters.read_tiff(path, LARGEST_SIDE)
    if mrc.looks_like_mrc(head):
        return mrc.read(path, head, LARGEST_SIDE)
    if ".mrc" in "".join(path.suffixes[-2:]).lower() and len(head) < mrc.HEADER_BYTES:
        raise MicrographError(path, f"it is cut short: {len(head)} bytes, less than an MRC header", FETCH_AGAIN)
    kind = next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), "nothing known")
    if packed:
        kind = f"a {packed} archive, and what it holds is no MRC but {kind}"
    raise MicrographError(
        path, f"its content is not a picture that can be read here but {kind}", "Give MRC, TIFF, EER, PNG or JPG"
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
        raise too_large(path, (pixels.shape[0], pixels.shape[1]), LARGEST_SIDE)
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
