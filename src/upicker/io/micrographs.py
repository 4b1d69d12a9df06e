"""Finding and reading micrographs. The format is recognised by the content, not by the suffix."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from upicker.errors import InputError, MicrographError, UPickerWarning, warn
from upicker.io import lists, movies, mrc, names, plausible, rasters
from upicker.io.by_rows import ByRows
from upicker.io.compression import compression, opened
from upicker.io.lists import Listed
from upicker.io.names import is_micrograph_name, plain
from upicker.io.stored_image import DAMAGED, StoredImage
from upicker.particles import Micrograph

if TYPE_CHECKING:
    from upicker.io.masks import Masks

_FOREIGN = {
    b"PK\x03\x04": "a zip archive",
    b"\x89HDF": "an HDF5 file",
    b"%PDF": "a PDF document",
    b"GIF8": "a GIF image",
    b"\0\0\0\x03": "a DigitalMicrograph file",
    b"\0\0\0\x04": "a DigitalMicrograph file",
}


@dataclass(frozen=True)
class Reading:
    """How the micrographs of a run are read; picklable, for several processes.

    Attributes
    ----------
    pixel_size_A : float or None
        Angstrom per pixel of all; overrides lists and headers.
    listed : mapping of Path to float
        Pixel sizes in lists of micrographs; override headers.
    gain : Path or None
        Gain reference for movies.
    masks : Masks or None
        Contamination masks given by the user.
    """

    pixel_size_A: float | None = None
    listed: Mapping[Path, float] = field(default_factory=dict)
    gain: Path | None = None
    masks: Masks | None = None

    @classmethod
    def of(
        cls,
        entries: Sequence[Listed],
        pixel_size_A: float | None = None,
        gain: Path | None = None,
        masks: Masks | None = None,
    ) -> Reading:
        """Return the reading with the pixel sizes that lists of micrographs give."""
        listed = {entry.path: entry.pixel_size_A for entry in entries if entry.pixel_size_A}
        sizes = {*listed.values()}
        if pixel_size_A is None and len(sizes) == 1 and len(listed) == len(entries):
            return cls(sizes.pop(), {}, gain, masks)
        return cls(pixel_size_A, {} if pixel_size_A else listed, gain, masks)

    def about(self) -> dict[str, object]:
        """Return it as keys of ``run.toml``, where None is left out."""
        gain = None if self.gain is None else str(self.gain)
        masks = {} if self.masks is None else self.masks.about()
        return {"pixel_size_A": self.pixel_size_A, "gain": gain, **masks}

    def read(self, path: Path) -> Micrograph:
        """Read one micrograph; see `read` of this module, also for errors, and `Masks.unusable`."""
        return self._with_mask(read(path, self.size_of(path), self.gain))

    def by_rows(self, path: Path) -> Micrograph:
        """Open one micrograph for its rows; see `by_rows` of this module, also for errors, and `Masks.unusable`."""
        return self._with_mask(by_rows(path, self.size_of(path), self.gain))

    def _with_mask(self, micrograph: Micrograph) -> Micrograph:
        if self.masks is None:
            return micrograph
        return micrograph.with_unusable(self.masks.unusable(micrograph.name, micrograph.shape))

    def size_of(self, path: Path) -> float | None:
        """Return a micrograph's pixel size in Angstrom, or None where that of the file is used."""
        return self.pixel_size_A or self.listed.get(path)


def find(patterns: Sequence[str | Path]) -> list[Path]:
    """Find micrographs, as `entries` does, and return their paths only."""
    return [entry.path for entry in entries(patterns)]


def entries(patterns: Sequence[str | Path], by_path: bool = False) -> list[Listed]:
    """Find micrographs, with their rows in lists.

    Parameters
    ----------
    patterns : sequence of str or Path
        Files (of any suffix), folders (their files of a known suffix, not those of folders within), globs (``**``
        in a glob reaches into folders) and lists, see `upicker.io.lists.read`.
    by_path : bool
        Whether files of one name in several folders are allowed, because outputs name them by path.

    Returns
    -------
    list of Listed
        In natural order (``mic2`` before ``mic10``), each once.

    Raises
    ------
    InputError
        If one of the patterns matches nothing, a list cannot be read, or the names of two files differ in folder and
        suffix only (with `by_path`, in suffix only), as labels, picks and micrographs are matched by these names.
    """
    if not patterns:
        raise InputError("micrographs", "none were given", "Give files, folders, quoted globs or lists")
    files: dict[str, Listed] = {}
    for pattern in patterns:
        for path in expand(str(pattern)):
            for entry in lists.read(path) if is_list(path) else [Listed(path, str(path))]:
                files.setdefault(os.path.abspath(entry.path), entry)  # noqa: PTH100 - links keep their own names
    found = sorted(files.values(), key=lambda entry: natural(entry.path))
    by_name: dict[tuple[str, Path | None], Path] = {}
    for entry in found:
        name = plain(entry.path), entry.path.absolute().parent if by_path else None
        other = by_name.setdefault(name, entry.path)
        if other is not entry.path:
            raise InputError(
                entry.path,
                f"it has the same name as {other}, apart from {'the suffix' if by_path else 'folder and suffix'}",
                "Picks and labels are named after the micrograph: give one of the two, or run twice",
            )
    return found


def read(path: str | Path, pixel_size_A: float | None = None, gain: Path | None = None) -> Micrograph:
    """Read a micrograph: MRC (modes 0, 1, 2, 6, 12, 101; also gzip and bzip2), TIFF, EER, PNG or JPG.

    Pixels may be integers of 8 or 16 bits, or floats. Movies are read frame by frame and summed, with a warning
    (`upicker.errors.UPickerWarning`), because motion correction should come first.

    Parameters
    ----------
    path : str or Path
        The file; its format is recognised by its content, not by its suffix.
    pixel_size_A : float, optional
        Angstrom per pixel; overrides that of the file. A file's own value is used only if it is between 0.05 and 200,
        and not exactly 1, which programs write into an MRC header when they do not know it.
    gain : Path, optional
        Gain reference, applied to the sums of movies only; see `upicker.io.movies.with_gain`.

    Returns
    -------
    Micrograph
        Pixels `(H, W)` float32, C-contiguous, values and rows as stored; some may be non-finite.

    Raises
    ------
    MicrographError
        If the file is missing, empty, truncated, damaged, of an unknown format, a stack or volume rather than a movie,
        smaller than 16 or larger than 40 000 pixels a side, mostly non-finite, or constant.
    """
    path = Path(path)
    stored = _read_image(path, gain)
    return Micrograph(
        plausible.checked(path, stored.pixels),
        plain(path),
        pixel_size_A or plausible.pixel_size(stored.pixel_size_A),
        path,
    )


def by_rows(path: str | Path, pixel_size_A: float | None = None, gain: Path | None = None) -> Micrograph:
    """Open a micrograph for what needs its rows only once, such as `upicker.image.prepare`: with little memory.

    Of an uncompressed MRC file (but for integers that may be signed or not) only those rows are in memory that are
    asked for. Of other files all pixels are, but in the file's own type.

    Parameters
    ----------
    path, pixel_size_A, gain : Path, float, Path
        As of `read`.

    Returns
    -------
    Micrograph
        As from `read`, except that values are not checked: it may be constant, or mostly non-finite. Each use of its
        `pixels` reads all of them.

    Raises
    ------
    MicrographError
        As `read`; `rows` and `pixels` do, if the file cannot be read any more.
    """
    path = Path(path)
    stored = _mrc_rows(path)
    if stored is None:
        stored = _read_image(path, gain)
        plausible.check_kind(path, stored.pixels)
    source = stored if isinstance(stored, mrc.Windows) else stored.pixels
    plausible.check_sides(path, source.shape)
    return ByRows(source, plain(path), pixel_size_A or plausible.pixel_size(stored.pixel_size_A), path)


def _mrc_rows(path: Path) -> mrc.Windows | None:
    """Return the rows of an MRC file that need not be read at once; None of another one."""
    try:
        head = _head(path)
        return mrc.by_rows(path, head, plausible.MAX_SIDE) if is_mrc(head) else None
    except OSError as error:
        raise _unreadable(path, error) from error


def _read_image(path: Path, gain: Path | None) -> StoredImage:
    """Return the image in the file's own type; of a movie the sum, in float32."""
    stored = read_file(path)
    pixels = stored.pixels
    if stored.frames > 1:
        warn(
            UPickerWarning(
                path,
                f"it is a movie, of which the plain sum is used ({stored.frames} frames)",
                "Correct the motion first, then pick: drift blurs particles and shifts them",
            )
        )
        if gain is not None:
            pixels = movies.with_gain(path, stored, read_file(Path(gain)), Path(gain))
    return stored._replace(pixels=pixels)


def size(path: Path, pixel_size_A: float | None = None) -> tuple[tuple[int, int], float | None]:
    """Return rows and columns of a micrograph, and its pixel size as `read` does.

    Only the header of an MRC file is read; other files are decoded.

    Raises
    ------
    MicrographError
        If the file cannot be read, or does not hold a single image.
    """
    path = Path(path)
    try:
        head = _head(path)
        if is_mrc(head):
            shape, stored_A = mrc.size(path, head)
        else:
            stored = _read_any(path, head)
            shape, stored_A = (stored.pixels.shape[0], stored.pixels.shape[1]), stored.pixel_size_A
    except OSError as error:
        raise _unreadable(path, error) from error
    return shape, pixel_size_A or plausible.pixel_size(stored_A)


def read_file(path: Path) -> StoredImage:
    """Return the image in the file's own type; raises MicrographError if it cannot be read."""
    try:
        return _read_any(path, _head(path))
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> MicrographError:
    return MicrographError(
        path, f"cannot be read ({error.strerror or error})", "Check the name and that you may read it"
    )


def is_mrc(head: bytes) -> bool:
    """Return whether a file that begins with these 1024 bytes, uncompressed, is read as MRC."""
    return mrc.looks_like_mrc(head) and not head.startswith(
        (rasters.PNG_MAGIC, rasters.JPG_MAGIC, *rasters.TIFF_MAGICS)
    )


def is_list(path: Path) -> bool:
    """Return whether a file that was given is a list of micrographs, rather than one."""
    return not _is_known(path) and lists.is_list(path)


def expand(pattern: str) -> list[Path]:
    """Return the files that a file, folder or glob stands for; raises InputError if there is none."""
    path = Path(pattern).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [p for p in path.iterdir() if _is_known(p)]
    else:
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207
        matches = [match for match in matches if match.is_file() or _is_broken(match)]
        # `folder/*` must not match the STAR file beside the micrographs; `*.dat` is taken literally.
        found = [match for match in matches if _is_known(match)] or matches
    if not found:
        known = f"Known suffixes are {' '.join(names.SUFFIXES)}, and {' '.join(names.COMPRESSED)} after .mrc"
        if not path.is_dir():
            raise InputError(pattern, "there is no such file, folder or match", known)
        inner = _folder_within(path)
        if inner is not None:
            raise InputError(pattern, f"its micrographs are in {inner.relative_to(path)}", f"Give {inner}, or a list")
        raise InputError(pattern, "there is no micrograph in this folder", known)
    return found


def _folder_within(folder: Path) -> Path | None:
    """Return the first folder with micrographs at most three levels within, as jobs of RELION have them."""
    level = [folder]
    for _ in range(3):
        level = sorted(inner for one in level for inner in _visible(one) if inner.is_dir())
        for inner in level:
            if any(_is_known(path) for path in _visible(inner)):
                return inner
    return None


def _visible(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        return []


def _is_broken(path: Path) -> bool:
    """Tell whether a path is a link to nothing: it is kept, so that it is reported with the rest."""
    return path.is_symlink() and not path.exists()


def _is_known(path: Path) -> bool:
    return is_micrograph_name(path) and not path.name.startswith(".") and (path.is_file() or _is_broken(path))


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key that compares digits as numbers."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _head(path: Path) -> bytes:
    if _is_broken(path):
        found = f"it is a link to {os.readlink(path)}, which does not exist"  # noqa: PTH115 - as it is written
        raise MicrographError(path, found, "Restore that file, or remove the link")
    if path.is_dir():
        raise MicrographError(path, "it is a folder", "Give a file")
    if not path.stat().st_size:
        raise MicrographError(path, "the file is empty", "The copy or the download failed: fetch it again")
    with opened(path) as file:
        return file.read(mrc.HEADER_BYTES)


def _read_any(path: Path, head: bytes) -> StoredImage:
    """Return the image in the file's own type; `head` is its first bytes, uncompressed."""
    compressed = compression(path)
    if not compressed and head.startswith(rasters.PNG_MAGIC):
        return rasters.read_png(path, plausible.MAX_SIDE)
    if not compressed and head.startswith(rasters.JPG_MAGIC):
        return rasters.read_jpg(path, plausible.MAX_SIDE)
    if not compressed and head.startswith(rasters.TIFF_MAGICS):
        return rasters.read_tiff(path, plausible.MAX_SIDE)
    if mrc.looks_like_mrc(head):
        return mrc.read(path, head, plausible.MAX_SIDE)
    raise no_micrograph(path, head)


def no_micrograph(path: Path, head: bytes) -> MicrographError:
    """Return the error for a file that is of none of the formats, by its first bytes, uncompressed."""
    compressed = compression(path)
    if ".mrc" in "".join(path.suffixes[-2:]).lower() and len(head) < mrc.HEADER_BYTES:
        return MicrographError(path, f"it is truncated: {len(head)} bytes, less than an MRC header", DAMAGED)
    kind = next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), "of unknown format")
    if compressed:
        kind = f"a {compressed} file, whose content is not MRC but {kind}"
    return MicrographError(path, f"its content is not a micrograph but {kind}", "Give MRC, TIFF, EER, PNG or JPG")
