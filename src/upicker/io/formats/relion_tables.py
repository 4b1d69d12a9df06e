"""RELION's STAR files of coordinates, and those that follow them (Warp's BoxNet, crYOLO's and Topaz' STAR).

Frame: ``_rlnCoordinateX/Y`` are pixels of the micrograph, counted from 0 at the first stored pixel, which is the
contract's frame (relion_preprocess cuts a box of n pixels from x - n/2; checked with RELION 3.1.3). TIFF is flipped
when RELION reads it: use the flip ``tiff``. Warp counts from the centre of the first pixel, too
(warpem.github.io, particle files), in pixels of its averages: a scale is needed where these were binned,
and perhaps a flip where the micrographs come from another motion correction.

One file may hold one micrograph (``_autopick.star``, ``_manualpick.star``) or many (``_rlnMicrographName``), and a
refined particle lies at coordinate - origin: ``_rlnOriginXAngst / pixel size of the micrograph`` since RELION 3.1,
before that ``_rlnOriginX`` in pixels of the extracted, perhaps rescaled image. Coordinates are in pixels of
``_rlnMicrographPixelSize``, which the optics table of RELION's particles lacks: ``_rlnImagePixelSize`` is that of the
extracted image, ``_rlnMicrographOriginalPixelSize`` that of the movie, which motion correction may have binned. The
micrographs have it (checked with ``relion_preprocess --reextract_data_star --recenter`` of RELION 3.1.3).

-999 means "not set" (EMDL defaults of relion_autopick).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io import delimited, star
from upicker.io.formats.content import Content
from upicker.io.picks import Picks, grouped, joined
from upicker.io.records import declared, noted, noted_score
from upicker.io.star import Table
from upicker.particles import Particles

X, Y, SCORE = "_rlnCoordinateX", "_rlnCoordinateY", "_rlnAutopickFigureOfMerit"
CLASS, PSI = "_rlnClassNumber", "_rlnAnglePsi"
MICROGRAPH, COORDINATES = "_rlnMicrographName", "_rlnMicrographCoordinates"
IMAGE = "_rlnImageName"
Z, TOMOGRAM = "_rlnCoordinateZ", "_rlnTomoName"
OWN_SIZE, IMAGE_SIZE = "_rlnMicrographPixelSize", "_rlnImagePixelSize"
UNSET = -999.0
_BOXES = {"_CoordinateX", "_CoordinateY", "_Width", "_Height"}
_HELICAL = {
    "filament numbers": ("_rlnHelicalTubeID", "_rlnHelicalTrackLength", "_rlnHelicalTrackLengthAngst"),
    "angle priors": ("_rlnAngleRotPrior", "_rlnAngleTiltPrior", "_rlnAnglePsiPrior", "_rlnAnglePsiFlipRatio"),
}


def read(content: Content) -> list[Picks]:
    """Read a STAR file that holds coordinates, in one table or in several, each of which names its micrographs.

    Parameters
    ----------
    content : Content
        The file.

    Returns
    -------
    list of Picks
        One per micrograph, in order of appearance, in the file's pixels; origins in Angstrom beside them.

    Raises
    ------
    CoordinatesError
        If it has no coordinates, those of a tomogram, or several tables without names; the line of a bad value is
        named.
    """
    path, tables = content.path, content.tables
    with_xy = [table for table in tables if {X, Y} <= set(table.columns)]
    if not with_xy:
        columns = [column for t in tables for column in t.columns]
        raise CoordinatesError(
            path,
            f"it has no columns {X} and {Y}, but: {', '.join(columns)[:160] or 'none'}",
            "Give the STAR file with the coordinates",
        )
    others = (table for table in tables if table.rows and not {X, Y} <= set(table.columns))
    boxes = next((table for table in others if set(table.columns) >= _BOXES), None)
    if boxes is not None:
        both = f"it holds coordinates of RELION and boxes of crYOLO (from line {boxes.start})"
        raise CoordinatesError(path, both, "Divide it into one file of each")
    # Of several tables those without rows say nothing.
    filled = [table for table in with_xy if table.rows] or with_xy[:1]
    if len(filled) > 1 and any(MICROGRAPH not in table.columns for table in filled):
        lines = " and ".join(str(table.start) for table in filled[:9])
        raise CoordinatesError(
            path,
            f"it holds {len(filled)} tables of coordinates (from lines {lines}), not all of which name micrographs",
            f"Divide it into a file for each micrograph, or add the column {MICROGRAPH}",
        )
    # The comment of our own files; of joined files the first one does not hold for all.
    note = content.text if len(filled) == 1 else ""
    found: dict[str, list[Picks]] = {}
    for table in filled:
        _refuse_tomogram(path, table)
        for picks in _of_table(content, table, _optics(path, star.optics_of(table, tables)), note):
            found.setdefault(picks.micrograph, []).append(picks)
    return [joined(parts) for parts in found.values()]


def _refuse_tomogram(path: Path, table: Table) -> None:
    tomogram = next((label for label in (TOMOGRAM, "_rlnTomoParticleName") if label in table.columns), None)
    if tomogram is None and Z in table.columns and _column(path, table, Z, 0.0).any():
        tomogram = Z
    if tomogram is not None:
        raise CoordinatesError(
            path, f"it holds positions in tomograms (column {tomogram})", "Give picks of micrographs"
        )


def _of_table(content: Content, table: Table, optics: dict[str, dict[str, float]], note: str) -> list[Picks]:
    path, name = content.path, content.name
    shape, noted_size = noted(note)
    sizes = _micrograph_sizes(path, table, optics, noted_size)
    particles, origins_A = _particles(path, table, optics)
    if SCORE in table.columns:
        particles = declared(particles, noted_score(note))
    names = _micrographs(path, table) or [name] * len(table.rows)
    if not names and MICROGRAPH not in table.columns:
        return [Picks(name, particles, shape, noted_size)]
    unread = _unread(path, table)
    return [
        Picks(
            word,
            particles.select(rows),
            shape,
            float(sizes[rows[0]]) if np.isfinite(sizes[rows[0]]) else None,
            unread,
            origins_A[rows] if origins_A[rows].any() else None,
        )
        for word, rows in grouped(names).items()
    ]


def _micrographs(path: Path, table: Table) -> list[str]:
    """Return the micrograph of each row: by its name, else by that of its stack if there are several; else nothing.

    RELION extracts a stack for each micrograph: ``000001@Extract/job003/Movies/a.mrcs``.
    """
    if MICROGRAPH in table.columns:
        names = [row[table.columns.index(MICROGRAPH)] for row in table.rows]
        for line, name in zip(table.lines, names):
            if not name.strip():
                raise CoordinatesError(path, f"line {line} has no name in {MICROGRAPH}", "Write it, or remove the line")
        return names
    if IMAGE not in table.columns:
        return []
    names = [row[table.columns.index(IMAGE)] for row in table.rows]
    stacks = [name.partition("@")[2] for name in names]
    return stacks if all(stacks) and len(set(stacks)) > 1 else []


def _column(path: Path, table: Table, label: str, default: float) -> np.ndarray:
    """Return a column as `(n,)`, or its default where the table has none."""
    if label not in table.columns:
        return np.full(len(table.rows), default)
    return delimited.column(path, list(zip(table.lines, table.rows)), table.columns.index(label), None)


def _particles(path: Path, table: Table, optics: dict[str, dict[str, float]]) -> tuple[Particles, np.ndarray]:
    """Return the particles, less origins in pixels of the micrograph, and their origins in Angstrom, `(n, 2)`."""
    xy = np.stack([_column(path, table, label, np.nan) for label in (X, Y)], 1)
    score = _column(path, table, SCORE, 1.0)
    extra: dict[str, np.ndarray] = {}
    group, psi = _column(path, table, CLASS, UNSET), _column(path, table, PSI, UNSET)
    if (group != UNSET).any():
        extra["class_number"] = np.clip(group, -(2**31), 2**31 - 1).astype(np.int64)
    if (psi != UNSET).any():
        extra["psi_deg"] = np.where(psi == UNSET, np.nan, psi)
    pixels, angstrom = _origins(path, table, optics)
    particles = Particles.of(xy - pixels, np.nan, np.where(score == UNSET, 1.0, score))
    return replace(particles, extra=extra), angstrom


def _unread(path: Path, table: Table) -> tuple[str, ...]:
    """Return in words what a table holds besides what is read of it."""
    helical = [words for words, labels in _HELICAL.items() if any(label in table.columns for label in labels)]
    unread = [f"{', '.join(helical)} (RELION's helical extraction needs them)"] if helical else []
    angles = [_column(path, table, label, 0.0) for label in ("_rlnAngleRot", "_rlnAngleTilt")]
    if any((angle[angle != UNSET]).any() for angle in angles):
        unread.append("rot and tilt angles")
    return tuple(unread)


def _optics(path: Path, table: Table | None) -> dict[str, dict[str, float]]:
    """Return, by the group's number, the pixel sizes that an optics table gives."""
    if table is None:
        return {}
    columns = {label: _column(path, table, label, np.nan) for label in (OWN_SIZE, IMAGE_SIZE)}
    at = table.columns.index("_rlnOpticsGroup")
    return {row[at]: {label: float(values[i]) for label, values in columns.items()} for i, row in enumerate(table.rows)}


def _per_row(table: Table, optics: dict[str, dict[str, float]], label: str) -> np.ndarray:
    """Return a value of each row's optics group, as `(n,)`; NaN where it is unknown."""
    if not optics:
        return np.full(len(table.rows), np.nan)
    if "_rlnOpticsGroup" not in table.columns:
        only = next(iter(optics.values()))[label] if len(optics) == 1 else np.nan
        return np.full(len(table.rows), only)
    at = table.columns.index("_rlnOpticsGroup")
    return np.array([optics.get(row[at], {}).get(label, np.nan) for row in table.rows], np.float64)


def _first_possible(*columns: np.ndarray) -> np.ndarray:
    """Return the first possible pixel size of each row, `(n,)`; NaN where there is none."""
    found = np.full(len(columns[0]), np.nan)
    for column in columns:
        found = np.where(np.isfinite(found), found, np.where((column > 0) & (column < 1e6), column, np.nan))
    return found


def _micrograph_sizes(path: Path, table: Table, optics: dict[str, dict[str, float]], noted: float | None) -> np.ndarray:
    """Return the pixel size of each row's micrograph as `(n,)`, Angstrom; NaN where it is unknown."""
    if noted:
        return np.full(len(table.rows), noted)
    return _first_possible(_column(path, table, OWN_SIZE, np.nan), _per_row(table, optics, OWN_SIZE))


def _origins(path: Path, table: Table, optics: dict[str, dict[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the origins, which are subtracted from the coordinates: in pixels of the micrograph, and in Angstrom.

    Each is `(n, 2)`. Origins in pixels count pixels of the extracted image; where their size is not known it is taken
    for the micrograph's.
    """
    angstrom = np.stack([_column(path, table, f"_rlnOrigin{axis}Angst", 0.0) for axis in "XY"], 1)
    pixels = np.stack([_column(path, table, f"_rlnOrigin{axis}", 0.0) for axis in "XY"], 1)
    angstrom, pixels = np.where(angstrom == UNSET, 0, angstrom), np.where(pixels == UNSET, 0, pixels)
    if angstrom.any() or not pixels.any():
        return np.zeros_like(pixels), angstrom
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        detector = _column(path, table, "_rlnDetectorPixelSize", np.nan) * 1e4
        detector = detector / _column(path, table, "_rlnMagnification", np.nan)
    size = _first_possible(
        detector,
        _column(path, table, IMAGE_SIZE, np.nan),
        _per_row(table, optics, IMAGE_SIZE),
    )[:, None]
    known = np.isfinite(size)
    return np.where(known, 0, pixels), np.where(known, pixels * np.where(known, size, 0), 0)


def rows(picks: Picks) -> Iterator[tuple[float, float, str, int, float]]:
    """Yield the values that RELION's own picker writes: x, y, figure of merit, class and angle psi."""
    particles = picks.particles
    zeros = np.zeros(len(particles))
    group = particles.extra.get("class_number", zeros)
    psi = particles.extra.get("psi_deg", np.full(len(particles), np.nan))
    for (x, y), score, number, angle in zip(particles.xy, particles.score, group, psi):
        yield float(x), float(y), f"{score:.8g}", int(number), float(angle) if np.isfinite(angle) else UNSET
