"""RELION's STAR files of coordinates, and those that follow them (Warp's BoxNet, crYOLO's and Topaz' STAR).

Frame: ``_rlnCoordinateX/Y`` are pixels of the micrograph, counted from 0 at the first stored pixel, which is the
contract's frame (relion_preprocess cuts a box of n pixels from x - n/2; checked with RELION 3.1.3). TIFF is flipped
when RELION reads it: use the flip ``tiff``. Warp counts from the centre of the first pixel, too
(warpem.github.io, particle files), in pixels of its averages: a scale is needed where these were binned,
and perhaps a flip where the micrographs come from another motion correction.

One file may hold one micrograph (``_autopick.star``, ``_manualpick.star``) or many (``_rlnMicrographName``), and a
refined particle lies at coordinate - origin: ``_rlnOriginXAngst / pixel size of the micrograph`` since RELION 3.1,
before that ``_rlnOriginX`` in pixels of the extracted, perhaps rescaled image. The pixel size in an optics group,
``_rlnImagePixelSize``, is that of the extracted image; that of the coordinates is ``_rlnMicrographPixelSize`` or
``_rlnMicrographOriginalPixelSize``. -999 means "not set" (EMDL defaults of relion_autopick).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io import delimited
from upicker.io.formats.content import Content
from upicker.io.picks import Picks, ReadOptions, declared, grouped, noted, noted_score
from upicker.io.star import Table
from upicker.particles import Particles

X, Y, SCORE = "_rlnCoordinateX", "_rlnCoordinateY", "_rlnAutopickFigureOfMerit"
CLASS, PSI = "_rlnClassNumber", "_rlnAnglePsi"
MICROGRAPH, COORDINATES = "_rlnMicrographName", "_rlnMicrographCoordinates"
UNSET = -999.0


def read(content: Content, options: ReadOptions) -> list[Picks]:
    """Read a STAR file that holds coordinates.

    Parameters
    ----------
    content : Content
        The file.
    options : ReadOptions
        Of these, the micrographs' pixel size is needed here, for origins in Angstrom.

    Returns
    -------
    list of Picks
        One per micrograph, in order of appearance, in the file's pixels.

    Raises
    ------
    CoordinatesError
        If it has no coordinates; the line of a bad value is named.
    """
    path, name, tables = content.path, content.name, content.tables
    table = next((t for t in tables if X in t.columns and Y in t.columns), None)
    if table is None:
        columns = [column for t in tables for column in t.columns]
        raise CoordinatesError(
            path,
            f"it has no columns {X} and {Y}, but: {', '.join(columns)[:160] or 'none'}",
            "Give the STAR file with the coordinates",
        )
    shape, noted_size = noted(content.text)
    optics = _optics(path, tables)
    sizes = _micrograph_sizes(path, table, optics, options.pixel_size_A or noted_size)
    particles = _particles(path, table, optics, sizes)
    if SCORE in table.columns:
        particles = declared(particles, noted_score(content.text))
    if MICROGRAPH not in table.columns:
        size = float(sizes[0]) if len(sizes) else noted_size
        return [Picks(name, particles, shape, size if size and np.isfinite(size) else None)]
    at = table.columns.index(MICROGRAPH)
    names = [row[at] or name for row in table.rows]
    first = {word: i for i, word in reversed(list(enumerate(names)))}
    return [
        Picks(word, group, shape, float(sizes[first[word]]) if np.isfinite(sizes[first[word]]) else None)
        for word, group in grouped(names, particles).items()
    ]


def _column(path: Path, table: Table, label: str, default: float) -> np.ndarray:
    """Return a column as `(n,)`, or its default where the table has none."""
    if label not in table.columns:
        return np.full(len(table.rows), default)
    return delimited.column(path, list(zip(table.lines, table.rows)), table.columns.index(label), None)


def _particles(path: Path, table: Table, optics: dict[str, dict[str, float]], sizes: np.ndarray) -> Particles:
    xy = np.stack([_column(path, table, label, np.nan) for label in (X, Y)], 1)
    score = _column(path, table, SCORE, 1.0)
    extra: dict[str, np.ndarray] = {}
    group, psi = _column(path, table, CLASS, UNSET), _column(path, table, PSI, UNSET)
    if (group != UNSET).any():
        extra["class_number"] = np.clip(group, -(2**31), 2**31 - 1).astype(np.int64)
    if (psi != UNSET).any():
        extra["psi_deg"] = np.where(psi == UNSET, np.nan, psi)
    xy = xy - _origins(path, table, optics, sizes)
    particles = Particles.of(xy, np.nan, np.where(score == UNSET, 1.0, score))
    return replace(particles, extra=extra)


def _optics(path: Path, tables: list[Table]) -> dict[str, dict[str, float]]:
    """Return, by the group's number, the pixel sizes that the optics table gives."""
    table = next((t for t in tables if t.name == "optics" and "_rlnOpticsGroup" in t.columns), None)
    if table is None:
        return {}
    labels = ("_rlnMicrographPixelSize", "_rlnMicrographOriginalPixelSize", "_rlnImagePixelSize")
    columns = {label: _column(path, table, label, np.nan) for label in labels}
    at = table.columns.index("_rlnOpticsGroup")
    return {row[at]: {label: float(columns[label][i]) for label in labels} for i, row in enumerate(table.rows)}


def _per_row(table: Table, optics: dict[str, dict[str, float]], label: str) -> np.ndarray:
    """Return a value of each row's optics group, as `(n,)`; NaN where it is unknown."""
    if not optics:
        return np.full(len(table.rows), np.nan)
    if "_rlnOpticsGroup" not in table.columns:
        only = next(iter(optics.values()))[label] if len(optics) == 1 else np.nan
        return np.full(len(table.rows), only)
    at = table.columns.index("_rlnOpticsGroup")
    return np.array([optics.get(row[at], {}).get(label, np.nan) for row in table.rows], np.float64)


def _micrograph_sizes(path: Path, table: Table, optics: dict[str, dict[str, float]], given: float | None) -> np.ndarray:
    """Return the pixel size of each row's micrograph as `(n,)`, Angstrom; NaN where it is unknown."""
    if given:
        return np.full(len(table.rows), given)
    sizes = np.full(len(table.rows), np.nan)
    for label in ("_rlnMicrographPixelSize", "_rlnMicrographOriginalPixelSize"):
        for found in (_column(path, table, label, np.nan), _per_row(table, optics, label)):
            sizes = np.where(np.isfinite(sizes), sizes, np.where(found > 0, found, np.nan))
    return sizes


def _origins(path: Path, table: Table, optics: dict[str, dict[str, float]], sizes: np.ndarray) -> np.ndarray:
    """Return the origins, which are subtracted from the coordinates, `(n, 2)`, in pixels of the micrograph."""
    angstrom = np.stack([_column(path, table, f"_rlnOrigin{axis}Angst", 0.0) for axis in "XY"], 1)
    pixels = np.stack([_column(path, table, f"_rlnOrigin{axis}", 0.0) for axis in "XY"], 1)
    angstrom, pixels = np.where(angstrom == UNSET, 0, angstrom), np.where(pixels == UNSET, 0, pixels)
    if angstrom.any():
        if not np.isfinite(sizes).all():
            raise CoordinatesError(
                path,
                "its particles have origins in Angstrom, but the pixel size of the micrographs is not known",
                "Give --pixel-size, e.g. --pixel-size 1.77A",
            )
        return angstrom / sizes[:, None]
    if not pixels.any():
        return pixels
    magnification = _column(path, table, "_rlnMagnification", np.nan)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        own = _column(path, table, "_rlnDetectorPixelSize", np.nan) * 1e4 / magnification
        ratio = own / sizes
    return pixels * np.where(np.isfinite(ratio) & (ratio > 0), ratio, 1.0)[:, None]


def rows(picks: Picks) -> Iterator[tuple[float, float, str, int, float]]:
    """Yield the values that RELION's own picker writes: x, y, figure of merit, class and angle psi."""
    particles = picks.particles
    zeros = np.zeros(len(particles))
    group = particles.extra.get("class_number", zeros)
    psi = particles.extra.get("psi_deg", zeros)
    for (x, y), score, number, angle in zip(particles.xy, particles.score, group, psi):
        yield float(x), float(y), f"{score:.8g}", int(number), float(angle) if np.isfinite(angle) else UNSET
