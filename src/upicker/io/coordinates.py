"""Reading and writing coordinates in the formats of many programs; files are recognised by their content.

This is the entry: it loads a file, finds the format of `upicker.io.formats` that recognises its content, and lets it
read. Each format documents the frame of its program and the source for it; `upicker.io.picks` then converts that to the
contract of `upicker.particles`, in which the centre of the first stored pixel is ``(0, 0)``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from upicker.errors import ConfigError, CoordinatesError, OutputError
from upicker.io.atomic import replacing
from upicker.io.formats import COMMON_FIRST, recognized
from upicker.io.formats.content import Content, load
from upicker.io.formats.format import Files, Format
from upicker.io.picks import Picks, ReadOptions, WriteOptions, stem, to_contract
from upicker.particles import Particles

# The formats of `write`, and those of `write_all`, which also writes folders of a structure of their own.
FORMATS = tuple(format.name for format in COMMON_FIRST if format.layout != "folder")
TARGETS = tuple(format.name for format in COMMON_FIRST)
_BY_NAME = {format.name: format for format in COMMON_FIRST}
# Of several files for one micrograph the first is taken.
PREFERENCE = tuple((ending, format) for format in COMMON_FIRST for ending in format.endings)
_DEFAULT_READ, _DEFAULT_WRITE = ReadOptions(), WriteOptions()


def read(path: str | Path, options: ReadOptions = _DEFAULT_READ) -> Particles:
    """Read a file of labels or picks of one micrograph.

    Parameters
    ----------
    path : str or Path
        In any of the formats.
    options : ReadOptions
        As for `read_all`.

    Returns
    -------
    Particles
        In the file's order. A diameter that is missing or not positive is NaN; a score that is missing, or
        RELION's -999 for "none", is 1. A header without rows gives no particles, and so does an empty file
        named ``.box``, a format without a header.

    Raises
    ------
    CoordinatesError
        If the file is missing, empty or of another kind, lacks columns, holds several micrographs, or
        has a value that is not a finite number (the line is named); as `upicker.io.picks.to_contract`.
    """
    return read_one(path, options).particles


def read_one(path: str | Path, options: ReadOptions = _DEFAULT_READ) -> Picks:
    """Read a file of one micrograph as `read` does, with what it says of the micrograph."""
    path = Path(path)
    found = _parsed(_load(path))
    if len(found) > 1:
        raise CoordinatesError(
            path, f"it holds the particles of {len(found)} micrographs", "Give one file per micrograph"
        )
    return to_contract(path, found[0], options) if found else Picks(path.stem, Particles.of([]))


def read_all(path: Path, options: ReadOptions = _DEFAULT_READ) -> list[Picks]:
    """Read a coordinates file of one micrograph or of many, or a list of such files.

    Parameters
    ----------
    path : Path
        In any of the formats; also RELION's ``autopick.star``, ``summary.star`` and ``coords_suffix_*.star``,
        which name other files.
    options : ReadOptions
        Flip, scale, threshold, and sizes of the micrographs.

    Returns
    -------
    list of Picks
        One per micrograph, in order of appearance, raw pixels.

    Raises
    ------
    CoordinatesError
        As `read`; also if a listed file does not exist, or what `upicker.io.picks.to_contract` needs is unknown.
    """
    return [to_contract(file, picks, options) for file, picks in read_stored(path)]


def read_stored(path: Path) -> list[tuple[Path, Picks]]:
    """Read a coordinates file as `read_all` does, but leave the picks in the pixels and the frame of the file.

    Returns
    -------
    list of (Path, Picks)
        The file of the picks, which a list names, and the picks for `upicker.io.picks.to_contract`.

    Raises
    ------
    CoordinatesError
        As `read`; also if a listed file does not exist.
    """
    path = Path(path)
    content = _load(path)
    format = recognized(content)
    if format.listing is None:
        return [(path, picks) for picks in _parsed(content, format)]
    return read_listed(format.listing.files(content))


def read_listed(entries: Iterable[tuple[str, Path]]) -> list[tuple[Path, Picks]]:
    """Read the files that a list names as `read_stored` does; picks get the names of the micrographs in the list."""
    found: list[tuple[Path, Picks]] = []
    for name, file in entries:
        inner = _parsed(_load(file))
        named = [replace(inner[0], micrograph=name)] if len(inner) == 1 else inner
        found += [(file, picks) for picks in named or [Picks(name, Particles.of([]))]]
    return found


def write(
    path: Path,
    particles: Particles,
    format: str,
    pixel_size_A: float | None = None,
    shape: tuple[int, int] | None = None,
) -> None:
    """Write one micrograph's particles, whole or not at all.

    Parameters
    ----------
    path : Path
        The file; see `output_path` for its usual name.
    particles : Particles
        In raw pixels.
    format : str
        One of `FORMATS`. STAR has the columns of RELION's own picker (x, y, figure of merit, class and angle), no
        diameter.
    pixel_size_A : float, optional
        Noted where the format has a field for it; nothing is converted with it. cryoSPARC's needs it.
    shape : tuple of int, optional
        Rows, columns of the raw micrograph: noted, and needed by cryoSPARC's format.

    Raises
    ------
    ConfigError
        For an unknown format.
    OutputError
        If the file cannot be written, or the format needs a diameter, a shape or a pixel size that is unknown.
    """
    path = Path(path)
    kind = format_of(format, FORMATS)
    picks = Picks(_without(path, kind.ending), particles, shape, pixel_size_A)
    _write_files(kind.write(path, [picks], replace(_DEFAULT_WRITE, named=False)))


def write_all(
    target: Path, all_picks: Sequence[Picks], format: str, options: WriteOptions = _DEFAULT_WRITE
) -> list[Path]:
    """Write the particles of many micrographs.

    Parameters
    ----------
    target : Path
        A file (its name has an ending, as no folder has that exists, and not a number as in ``picks_0.31``), for the
        formats that hold many micrographs; else a folder.
    all_picks : sequence of Picks
        One per micrograph, raw pixels.
    format : str
        One of `TARGETS`.
    options : WriteOptions
        Flip, scale, box size.

    Returns
    -------
    list of Path
        The written files: in a folder one for each micrograph, named after it; one file for the formats that hold
        many micrographs; for ``relion`` a job's folder that mirrors the paths of the micrographs, with
        ``autopick.star`` last.

    Raises
    ------
    ConfigError
        For an unknown format.
    OutputError
        As `write`; also if two micrographs would share a file, or a name holds control characters.
    """
    return _write_files(_files_of_all(Path(target), all_picks, format, options))


def check_all(target: Path, all_picks: Sequence[Picks], format: str, options: WriteOptions = _DEFAULT_WRITE) -> None:
    """Check that `write_all` could write these particles, without writing; arguments and errors as there."""
    for _ in _files_of_all(Path(target), all_picks, format, options):
        pass


def _files_of_all(target: Path, all_picks: Sequence[Picks], format: str, options: WriteOptions) -> Files:
    """Yield the files of many micrographs and their contents."""
    kind = format_of(format, TARGETS)
    for picks in all_picks:
        if any(ord(letter) < 32 or letter in "\x7f\x85\u2028\u2029" for letter in picks.micrograph):
            raise OutputError(
                target, f"the name {picks.micrograph!r} holds control characters", "Rename the micrograph"
            )
    is_file = bool(target.suffix) and not target.suffix[1:2].isdigit() and not target.is_dir()
    if kind.layout == "folder" or (kind.layout in ("either", "together") and is_file):
        yield from kind.write(target, list(all_picks), options)
    elif kind.layout == "together":
        yield from kind.write(target / kind.file_of_all, list(all_picks), options)
    else:
        files = {target: all_picks[0]} if is_file and len(all_picks) == 1 else _file_each(target, all_picks, kind)
        for file, picks in files.items():
            yield from kind.write(file, [picks], replace(options, named=False))


def _file_each(folder: Path, all_picks: Sequence[Picks], kind: Format) -> dict[Path, Picks]:
    files: dict[Path, Picks] = {}
    for picks in all_picks:
        file = output_path(folder, stem(picks.micrograph), kind.name)
        if file in files:
            names = f"{files[file].micrograph!r} and {picks.micrograph!r}"
            raise OutputError(file, f"the micrographs {names} would share it", _apart(folder, kind))
        files[file] = picks
    return files


def _apart(folder: Path, kind: Format) -> str:
    """Return how micrographs of the same name can be written."""
    if kind.layout == "either":
        return f"Write one file of all: -o {folder}{kind.ending}"
    return "Convert the micrographs of each folder by themselves, into folders of their own"


def output_path(folder: Path, stem: str, format: str) -> Path:
    """Return the usual name of a micrograph's file, such as ``stem.csv``, ``stem_autopick.star`` or ``stem.box``.

    Raises
    ------
    ConfigError
        For an unknown format.
    """
    return Path(folder) / f"{stem}{format_of(format, FORMATS).ending}"


def listed(path: Path) -> list[tuple[str, Path]] | None:
    """Return micrographs and coordinates files that a list such as ``autopick.star`` names; None for other files.

    Raises
    ------
    CoordinatesError
        If it cannot be read, or a listed file does not exist.
    """
    content = _load(Path(path))
    listing = recognized(content).listing
    return None if listing is None else listing.files(content)


def format_of(name: str, known: Sequence[str] = TARGETS) -> Format:
    """Return the format of a name.

    Raises
    ------
    ConfigError
        If it is not one of `known`.
    """
    if name not in known:
        raise ConfigError("--format", f"unknown format {name!r}", f"Choose one of: {', '.join(known)}")
    return _BY_NAME[name]


def _load(path: Path) -> Content:
    return load(path, _without(path, *(ending for ending, _ in PREFERENCE)))


def _parsed(content: Content, format: Format | None = None) -> list[Picks]:
    """Read a content in its own pixels, without following lists."""
    found = (format or recognized(content)).read(content)
    _refuse_fractions(content.path, found)
    return found


def _refuse_fractions(path: Path, found: Sequence[Picks]) -> None:
    """Refuse files whose positions all lie between 0 and 1, unless they are whole numbers or just one."""
    if not found or any(picks.fractions for picks in found):
        return
    xy = np.concatenate([picks.particles.xy for picks in found])
    if ((xy >= 0) & (xy <= 1)).all() and (xy % 1).any() and (xy != xy[0]).any():
        raise CoordinatesError(
            path,
            "all its positions lie between 0 and 1: they are fractions, not pixels",
            "Multiply x by the number of columns of the micrographs, and y by that of rows",
        )


def _write_files(files: Files) -> list[Path]:
    written = []
    for path, content in files:
        with replacing(path) as temporary:
            temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
        written.append(path)
    return written


def _without(path: Path, *endings: str) -> str:
    """Return a file's name without the longest matching one of `endings`, else without its suffix."""
    fitting = [ending for ending in endings if path.name.endswith(ending) and path.name != ending]
    return path.name[: -len(max(fitting, key=len))] if fitting else path.stem
