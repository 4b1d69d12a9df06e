"""Reading and writing coordinates: CSV, RELION STAR, EMAN box. The content decides about the format.

Frames, all turned into the contract of `upicker.particles` (centre of the first stored pixel is ``(0, 0)``):

- CSV ``x,y[,diameter][,score]`` and CryoPPP's ``X-Coordinate,Y-Coordinate,Diameter``: as they are.
- STAR ``_rlnCoordinateX/Y``: as they are; RELION counts pixels from 0, too.
- EMAN ``.box`` ``x y width height [score]``: the corner is the first pixel of the box. The centre of a box of
  n pixels is its pixel n // 2 (EMAN's and RELION's convention), thus ``corner + size / 2``; the size is the
  diameter.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from upicker.errors import ConfigError, CoordinatesError, InputError, OutputError
from upicker.io import delimited, star
from upicker.io.atomic import replacing
from upicker.particles import Particles

FORMATS = ("csv", "star", "box")
_ENDINGS = {"csv": ".csv", "star": "_autopick.star", "box": ".box"}
# Of several files for one micrograph the first is taken: labels by hand before automatic ones.
_PREFERENCE = (".csv", ".star", "_manualpick.star", "_autopick.star", ".box")
_COLUMNS = {
    "x": ("x", "xcoordinate", "xpx"),
    "y": ("y", "ycoordinate", "ypx"),
    "diameter": ("diameter", "diameterpx"),
    "score": ("score", "confidence"),
}
_ORDER = ("x", "y", "diameter", "score")
_STAR_X, _STAR_Y, _STAR_SCORE = "_rlnCoordinateX", "_rlnCoordinateY", "_rlnAutopickFigureOfMerit"
_RELION_UNSET = -999.0
_WRITE_AGAIN = "Write it as CSV with the header x,y,diameter,score"
_HEAD_BYTES = 65_536


def read(path: Path) -> Particles:
    """Read a file of labels or picks of one micrograph.

    Parameters
    ----------
    path : Path
        CSV, STAR or box; the content says which.

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
    text = _text(path)
    if not text.strip() and path.suffix == ".box":
        return Particles.of([])
    if _is_star(text):
        return _read_star(path, text)
    delimiter = delimited.delimiter(text)
    rows = [(number, cells) for number, cells in delimited.rows(text, delimiter) if any(cells)]
    if not rows:
        raise CoordinatesError(path, "it holds no line with values", _WRITE_AGAIN)
    if delimiter is None and delimited.is_numeric(rows[0][1]) and len(rows[0][1]) >= 4:
        return _read_box(path, rows)
    return _read_csv(path, rows)


def write(path: Path, particles: Particles, format: str, pixel_size_A: float | None = None) -> None:
    """Write one micrograph's particles, whole or not at all.

    Parameters
    ----------
    path : Path
        The file; see `output_path` for its usual name.
    particles : Particles
        In raw pixels.
    format : str
        One of `FORMATS`. STAR holds what RELION's own picker writes (x, y, figure of merit; class and angle
        are 0), no diameter.
    pixel_size_A : float, optional
        Noted in a comment of the STAR file; nothing is converted with it.

    Raises
    ------
    ConfigError
        For an unknown format.
    OutputError
        If the file cannot be written, or the box format is asked for particles without a diameter.
    """
    _known_format(format)
    if format == "csv":
        lines = _csv_lines(particles)
    elif format == "star":
        lines = _star_lines(particles, pixel_size_A)
    else:
        lines = _box_lines(path, particles)
    with replacing(path) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")


def output_path(folder: Path, stem: str, format: str) -> Path:
    """Return the usual name of a micrograph's file: ``stem.csv``, ``stem_autopick.star`` or ``stem.box``.

    Raises
    ------
    ConfigError
        For an unknown format.
    """
    return Path(folder) / f"{stem}{_ENDINGS[_known_format(format)]}"


def find_for(folder: Path, stem: str) -> Path | None:
    """Return the coordinates file of the micrograph `stem` in `folder`, if there is one.

    Of several it is the first of ``stem.csv``, ``stem.star``, ``stem_manualpick.star``,
    ``stem_autopick.star`` and ``stem.box``.
    """
    paths = (Path(folder) / f"{stem}{ending}" for ending in _PREFERENCE)
    return next((path for path in paths if path.is_file() and not _is_something_else(path)), None)


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
        rank, stem = _rank(path.name)
        if stem and (stem not in found or rank < found[stem][0]) and path.is_file() and not _is_something_else(path):
            found[stem] = rank, path
    return {stem: path for stem, (_, path) in sorted(found.items())}


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


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CoordinatesError(
            path, f"cannot be read ({error.strerror or error})", "Check the name and that you may read it"
        ) from error
    if not content and path.suffix != ".box":
        raise CoordinatesError(path, "the file is empty", "For a micrograph without particles write the header x,y")
    try:
        if b"\0" in content:
            raise ValueError("it holds zero bytes")
        return content.decode("utf-8-sig")
    except ValueError as error:
        raise CoordinatesError(path, "it is not a text file", "Give coordinates as CSV, STAR or box") from error


def _is_star(text: str) -> bool:
    return re.search(r"^\s*(data_|loop_|_rln)", text, re.M) is not None


def _read_csv(path: Path, rows: list[tuple[int, list[str]]]) -> Particles:
    first = rows[0][1]
    if delimited.is_numeric(first):
        if not 2 <= len(first) <= 4:
            raise CoordinatesError(path, f"it has {len(first)} columns and no header naming them", _WRITE_AGAIN)
        places: dict[str, int] = dict(zip(_ORDER, range(len(first))))
    else:
        places = _places(first)
        rows = rows[1:]
    missing = [name for name in ("x", "y") if name not in places]
    if missing:
        raise CoordinatesError(
            path, f"it has no column {' and '.join(missing)}, but: {', '.join(first)[:120]}", _WRITE_AGAIN
        )
    return _particles(path, rows, places)


def _places(header: Sequence[str]) -> dict[str, int]:
    """Return which column holds what, by name, whatever the case and the punctuation."""
    plain = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in header]
    return {name: plain.index(word) for name, words in _COLUMNS.items() for word in reversed(words) if word in plain}


def _read_star(path: Path, text: str) -> Particles:
    tables = star.parse(text, path)
    table = next((t for t in tables if _STAR_X in t.columns and _STAR_Y in t.columns), None)
    if table is None:
        columns = [column for t in tables for column in t.columns]
        raise CoordinatesError(
            path,
            f"it has no columns {_STAR_X} and {_STAR_Y}, but: {', '.join(columns)[:160] or 'none'}",
            "Give the STAR file with the coordinates, not the list of such files",
        )
    if "_rlnMicrographName" in table.columns:
        at = table.columns.index("_rlnMicrographName")
        names = {row[at] for row in table.rows}
        if len(names) > 1:
            raise CoordinatesError(
                path, f"it holds the particles of {len(names)} micrographs", "Give one file per micrograph"
            )
    labels = {"x": _STAR_X, "y": _STAR_Y, "score": _STAR_SCORE}
    places = {name: table.columns.index(label) for name, label in labels.items() if label in table.columns}
    particles = _particles(path, list(zip(table.lines, table.rows)), places)
    score = np.where(particles.score == _RELION_UNSET, 1.0, particles.score)
    return Particles.of(particles.xy, particles.diameter_px, score)


def _read_box(path: Path, rows: list[tuple[int, list[str]]]) -> Particles:
    places = {"x": 0, "y": 1, "width": 2, "height": 3} | ({"score": 4} if len(rows[0][1]) > 4 else {})
    values = {name: delimited.column(path, rows, at, 1.0 if name == "score" else None) for name, at in places.items()}
    size = np.stack([values["width"], values["height"]], 1)
    corner = np.stack([values["x"], values["y"]], 1)
    if (size <= 0).any():
        line = rows[int(np.argmax((size <= 0).any(1)))][0]
        raise CoordinatesError(path, f"line {line} has a box without size", "Box files hold: x y width height")
    return Particles.of(corner + size / 2, size.mean(1), values.get("score", 1.0))


def _particles(path: Path, rows: list[tuple[int, list[str]]], places: dict[str, int]) -> Particles:
    xy = [delimited.column(path, rows, places[name], None) for name in ("x", "y")]
    diameter = (
        delimited.column(path, rows, places["diameter"], math.nan) if "diameter" in places else np.float64(math.nan)
    )
    score = delimited.column(path, rows, places["score"], 1.0) if "score" in places else 1.0
    return Particles.of(np.stack(xy, 1), np.where(diameter > 0, diameter, math.nan), score)


def _csv_lines(particles: Particles) -> Iterable[str]:
    yield "x,y,diameter,score\n"
    for (x, y), diameter, score in zip(particles.xy, particles.diameter_px, particles.score):
        yield f"{x:.4f},{y:.4f},{_short(diameter)},{score:.8g}\n"


def _star_lines(particles: Particles, pixel_size_A: float | None) -> Iterable[str]:
    size = f"; pixel size {pixel_size_A:g} A" if pixel_size_A else ""
    yield f"# version 30001\n# centres in pixels of the raw micrograph, first stored pixel = 0{size}\n\n"
    columns = (_STAR_X, _STAR_Y, _STAR_SCORE, "_rlnClassNumber", "_rlnAnglePsi")
    rows = ((float(x), float(y), f"{score:.8g}", 0, 0.0) for (x, y), score in zip(particles.xy, particles.score))
    yield star.format_table("", columns, rows)


def _box_lines(path: Path, particles: Particles) -> Iterable[str]:
    if not np.isfinite(particles.diameter_px).all():
        raise OutputError(path, "box files need a size, but the particles' diameter is not known", "Give --diameter")
    corners = particles.xy - particles.diameter_px[:, None] / 2
    return [
        f"{_short(x)}\t{_short(y)}\t{_short(size)}\t{_short(size)}\t{score:.8g}\n"
        for (x, y), size, score in zip(corners, particles.diameter_px, particles.score)
    ]


def _short(value: float) -> str:
    """Write a number with up to 4 decimals, and NaN as nothing."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if math.isfinite(value) else ""


def _known_format(format: str) -> str:
    if format not in FORMATS:
        raise ConfigError("--format", f"there is no format {format!r}", f"There are: {', '.join(FORMATS)}")
    return format


def _rank(name: str) -> tuple[int, str]:
    """Return the place in `_PREFERENCE` and the micrograph's stem, which is empty for other files."""
    for i in sorted(range(len(_PREFERENCE)), key=lambda i: -len(_PREFERENCE[i])):
        if name.endswith(_PREFERENCE[i]) and not name.startswith("."):
            return i, name[: -len(_PREFERENCE[i])]
    return len(_PREFERENCE), ""


def _is_something_else(path: Path) -> bool:
    """Tell whether a file surely holds no coordinates of a micrograph: its header names other columns."""
    try:
        with path.open("rb") as file:
            text = file.read(_HEAD_BYTES).decode("utf-8-sig", "ignore")
    except OSError:
        return False
    if path.suffix == ".star":
        words = set(text.split())
        return "_rlnImageName" in words or (_is_star(text) and not {_STAR_X, _STAR_Y} <= words)
    if path.suffix != ".csv" or "\0" in text or not text.strip():
        return False
    first = next((cells for _, cells in delimited.rows(text, delimited.delimiter(text)) if any(cells)), [])
    return not delimited.is_numeric(first) and not {"x", "y"} <= _places(first).keys()
