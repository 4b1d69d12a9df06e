"""Reading and writing coordinates in the formats of all programs; the content decides about the format.

This file is the way in: it opens, sniffs, and hands over to `upicker.io.formats`, where each format says which frame
its program has and where that is known from. `upicker.io.picks` then turns it into the contract of
`upicker.particles`, in which the centre of the first stored pixel is ``(0, 0)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from upicker.errors import ConfigError, CoordinatesError, InputError, OutputError
from upicker.io import delimited
from upicker.io.atomic import replacing
from upicker.io.formats import box, cbox, coco, cryosparc, eman2, relion, relion_lists, relion_write, sniff, table
from upicker.io.picks import Picks, ReadOptions, WriteOptions, stem, to_contract
from upicker.particles import Particles

# Those that hold one micrograph's particles only, and those that can hold many micrographs'.
_ONE: dict[str, Callable[[Path, Picks, WriteOptions], str]] = {
    "star": relion_write.one,
    "box": box.one,
    "cbox": cbox.one,
    "eman2": eman2.one,
    "cryoppp": table.cryoppp,
}
_MANY: dict[str, Callable[[Path, list[Picks], WriteOptions], str | bytes]] = {
    "csv": table.ours,
    "tsv": lambda path, picks, options: table.ours(path, picks, options, "\t"),
    "topaz": table.topaz,
    "cs": cryosparc.many,
    "coco": coco.many,
    "warp": relion_write.warp,
    "particles": relion_write.particles,
}
_ENDINGS = {
    "csv": ".csv",
    "star": "_autopick.star",
    "box": ".box",
    "cbox": ".cbox",
    "eman2": "_info.json",
    "cs": ".cs",
    "tsv": ".tsv",
    "topaz": ".txt",
    "coco": "_coco.json",
    "cryoppp": ".csv",
    "warp": "_BoxNet.star",
    "particles": "_particles.star",
}
FORMATS = tuple(_ENDINGS)
# What `write_all` knows beside: a picking job's folder as RELION 4 and later lay it out.
TARGETS = (*FORMATS, "relion")
_FILES = {"cs": "picks.cs", "coco": "picks.json", "topaz": "picks.txt"}
_FILES |= {"warp": "allparticles.star", "particles": "particles.star"}
_HEAD_BYTES = 65_536
_DEFAULT_READ, _DEFAULT_WRITE = ReadOptions(), WriteOptions()


def read(path: str | Path) -> Particles:
    """Read a file of labels or picks of one micrograph.

    Parameters
    ----------
    path : str or Path
        In any of the formats; the content says which.

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
        has a value that is not a finite number (the line is named).
    """
    path = Path(path)
    found = sniff.parsed(path, sniff.load(path), _DEFAULT_READ)
    if len(found) > 1:
        raise CoordinatesError(
            path, f"it holds the particles of {len(found)} micrographs", "Give one file per micrograph"
        )
    return to_contract(path, found[0], _DEFAULT_READ).particles if found else Particles.of([])


def read_all(path: Path, options: ReadOptions = _DEFAULT_READ) -> list[Picks]:
    """Read a coordinates file of one micrograph or of many, or a list of such files.

    Parameters
    ----------
    path : Path
        In any of the formats; also RELION's ``autopick.star``, ``summary.star`` and ``coords_suffix_*.star``,
        which name other files.
    options : ReadOptions
        Flip, scale, threshold, and what is known of the micrographs.

    Returns
    -------
    list of Picks
        One per micrograph, in order of appearance, raw pixels.

    Raises
    ------
    CoordinatesError
        As `read`; also if a listed file is not there, or what a flip needs is not known.
    """
    path = Path(path)
    content = sniff.load(path)
    files = relion_lists.listed(path, sniff.decoded(path, content)) if sniff.may_be_list(path, content) else None
    if files is None:
        return [to_contract(path, picks, options) for picks in sniff.parsed(path, content, options)]
    found: list[Picks] = []
    for name, file in files:
        inner = sniff.parsed(file, sniff.load(file), options)
        named = [replace(inner[0], micrograph=name)] if len(inner) == 1 else inner
        found += [to_contract(file, picks, options) for picks in named or [Picks(name, Particles.of([]))]]
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
        One of `FORMATS`. STAR holds what RELION's own picker writes (x, y, figure of merit, class and angle), no
        diameter.
    pixel_size_A : float, optional
        Noted where the format has a place for it; nothing is converted with it. cryoSPARC's needs it.
    shape : tuple of int, optional
        Rows, columns of the raw micrograph: noted, and needed by cryoSPARC's format.

    Raises
    ------
    ConfigError
        For an unknown format.
    OutputError
        If the file cannot be written, or the format needs a diameter, a shape or a pixel size that is not known.
    """
    path = Path(path)
    _known(format, FORMATS)
    picks = Picks(sniff.name_of(path, _ENDINGS[format]), particles, shape, pixel_size_A)
    _write_file(path, [picks], format, _DEFAULT_WRITE, named=False)


def write_all(
    target: Path, all_picks: Sequence[Picks], format: str, options: WriteOptions = _DEFAULT_WRITE
) -> list[Path]:
    """Write the particles of many micrographs.

    Parameters
    ----------
    target : Path
        A file (its name has an ending), for the formats that hold many micrographs; else a folder.
    all_picks : sequence of Picks
        One per micrograph, raw pixels.
    format : str
        One of `TARGETS`.
    options : WriteOptions
        Flip, scale, box size.

    Returns
    -------
    list of Path
        What was written. In a folder that is a file per micrograph, named after it; one file for the formats
        that are meant for many; and for ``relion`` a job's folder that mirrors the micrographs' paths, with
        ``autopick.star`` last.

    Raises
    ------
    ConfigError
        For an unknown format.
    OutputError
        As `write`; also if two micrographs would share a file, or a name holds control characters.
    """
    target = Path(target)
    _known(format, TARGETS)
    for picks in all_picks:
        if any(ord(mark) < 32 or mark in "\x7f\x85\u2028\u2029" for mark in picks.micrograph):
            raise OutputError(
                target, f"the name {picks.micrograph!r} holds control characters", "Rename the micrograph"
            )
    if format == "relion":
        return relion_write.job(target, list(all_picks), options)
    if format in _MANY and target.suffix:
        return _write_file(target, list(all_picks), format, options)
    if format in _FILES:
        return _write_file(target / _FILES[format], list(all_picks), format, options)
    if target.suffix and len(all_picks) == 1:
        return _write_file(target, list(all_picks), format, options, named=False)
    files: dict[Path, Picks] = {}
    for picks in all_picks:
        file = output_path(target, stem(picks.micrograph), format)
        if file in files:
            names = f"{files[file].micrograph!r} and {picks.micrograph!r}"
            raise OutputError(file, f"the micrographs {names} would share it", "Rename one of them")
        files[file] = picks
    return [
        written for file, picks in files.items() for written in _write_file(file, [picks], format, options, named=False)
    ]


def output_path(folder: Path, stem: str, format: str) -> Path:
    """Return the usual name of a micrograph's file, such as ``stem.csv``, ``stem_autopick.star`` or ``stem.box``.

    Raises
    ------
    ConfigError
        For an unknown format.
    """
    _known(format, FORMATS)
    return Path(folder) / f"{stem}{_ENDINGS[format]}"


def stems(folder: Path) -> dict[str, Path]:
    """Return the coordinates files of a folder by the stem of their micrograph, sorted by it.

    Files of the same suffixes that hold something else (a log in CSV, a STAR file without coordinates or with
    extracted particles) are left out; damaged ones are not, so that `read` can name them.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "there is no such folder", "Give the folder of coordinates files")
    found: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.iterdir()):
        rank, name = _rank(path.name)
        if name and (name not in found or rank < found[name][0]) and path.is_file() and not _is_something_else(path):
            found[name] = rank, path
    return {name: path for name, (_, path) in sorted(found.items())}


def check_inside(
    particles: Particles, shape: tuple[int, int], where: str | Path, allowed: float = 0.05
) -> tuple[Particles, int]:
    """Drop particles whose centres lie outside a picture; complain if they are many.

    Parameters
    ----------
    particles : Particles
        In raw pixels.
    shape : tuple of int
        Rows, columns of the raw picture.
    where : str or Path
        The coordinates file, for the message.
    allowed : float
        Largest share that may lie outside, 0..1.

    Returns
    -------
    inside : Particles
        Those whose centres lie in the picture.
    dropped : int
        How many do not.

    Raises
    ------
    CoordinatesError
        If more than `allowed` lie outside.
    """
    inside = particles.inside(shape)
    dropped = int((~inside).sum())
    if dropped > allowed * len(particles):
        largest = particles.xy.max(0)
        raise CoordinatesError(
            where,
            f"{dropped} of {len(particles)} centres lie outside the picture of {shape[1]} columns"
            f" x {shape[0]} rows (largest x {largest[0]:g}, y {largest[1]:g})",
            "Check that they belong to this micrograph, and are not binned, flipped or in Angstrom",
        )
    return particles.select(inside), dropped


def _write_file(
    path: Path, all_picks: list[Picks], format: str, options: WriteOptions, named: bool = True
) -> list[Path]:
    """Write one file; of `all_picks` the first only where the format holds one micrograph."""
    if format in _ONE:
        content: str | bytes = _ONE[format](path, all_picks[0], options)
    elif format in ("csv", "tsv"):
        content = table.ours(path, all_picks, options, "," if format == "csv" else "\t", named)
    else:
        content = _MANY[format](path, all_picks, options)
    with replacing(path) as temporary:
        temporary.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    if format != "cs":
        return [path]
    with replacing(path.with_suffix(".csg")) as temporary:
        n = sum(len(picks.particles) for picks in all_picks)
        temporary.write_text(cryosparc.group(path.name, n), encoding="utf-8")
    return [path, path.with_suffix(".csg")]


def _known(format: str, formats: Sequence[str]) -> None:
    if format not in formats:
        raise ConfigError("--format", f"there is no format {format!r}", f"There are: {', '.join(formats)}")


def _rank(name: str) -> tuple[int, str]:
    """Return the place in `sniff.PREFERENCE` and the micrograph's stem, which is empty for other files."""
    for i in sorted(range(len(sniff.PREFERENCE)), key=lambda i: -len(sniff.PREFERENCE[i])):
        if name.endswith(sniff.PREFERENCE[i]) and not name.startswith("."):
            return i, name[: -len(sniff.PREFERENCE[i])]
    return len(sniff.PREFERENCE), ""


def _is_something_else(path: Path) -> bool:
    """Tell whether a file surely holds no coordinates of a micrograph: its header names other columns."""
    try:
        with path.open("rb") as file:
            text = file.read(_HEAD_BYTES).decode("utf-8-sig", "ignore")
    except OSError:
        return False
    if path.suffix == ".star":
        words = set(text.split())
        return "_rlnImageName" in words or (sniff.is_star(text) and not {relion.X, relion.Y} <= words)
    if path.suffix == ".json":
        return '"boxes"' not in text
    if path.suffix not in (".csv", ".tsv") or "\0" in text or not text.strip():
        return False
    first = next((cells for _, cells in delimited.rows(text, delimited.delimiter(text)) if any(cells)), [])
    return not delimited.is_numeric(first) and not {"x", "y"} <= table.places(first).keys()
