"""Writing RELION's STAR files: one micrograph each, many in one, and a job's folder with its list. For the frame see
`upicker.io.formats.relion`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from upicker.errors import OutputError
from upicker.io import star
from upicker.io.atomic import replacing
from upicker.io.formats.relion import CLASS, COORDINATES, MICROGRAPH, PSI, SCORE, UNSET, X, Y
from upicker.io.formats.relion_lists import mirrored
from upicker.io.picks import Picks, WriteOptions, comment, from_contract

_GROUP = "_rlnOpticsGroup"


def one(path: Path, picks: Picks, options: WriteOptions) -> str:
    """Return what RELION's own picker writes of one micrograph: x, y, figure of merit, class and angle."""
    picks = from_contract(path, picks, options)
    table = star.format_table("", (X, Y, SCORE, CLASS, PSI), _rows(picks))
    return f"# version 30001\n{comment(picks, options)}\n{table}"


def warp(path: Path, all_picks: list[Picks], options: WriteOptions) -> str:
    """Return Warp's table, which names the micrograph in each row; of one micrograph or of many."""
    rows = (
        (*row[:3], picks.micrograph)
        for picks in (from_contract(path, p, options) for p in all_picks)
        for row in _rows(picks)
    )
    note = "".join(comment(from_contract(path, p, options), options) for p in all_picks[:1])
    return f"{note}\n{star.format_table('', (X, Y, SCORE, MICROGRAPH), rows)}"


def particles(path: Path, all_picks: list[Picks], options: WriteOptions) -> str:
    """Return a table of the particles of many micrographs, with one optics group per pixel size."""
    all_picks = [from_contract(path, picks, options) for picks in all_picks]
    sizes = sorted({picks.pixel_size_A for picks in all_picks if picks.pixel_size_A})
    numbers = {size: i for i, size in enumerate(sizes, 1)}
    columns: tuple[str, ...] = (MICROGRAPH, X, Y, SCORE, CLASS, PSI)
    optics = ""
    if sizes and all(picks.pixel_size_A for picks in all_picks):
        columns = (*columns, _GROUP)
        rows = [(number, f"opticsGroup{number}", f"{size:.9g}") for size, number in numbers.items()]
        optics = star.format_table("optics", (_GROUP, "_rlnOpticsGroupName", "_rlnMicrographPixelSize"), rows) + "\n"
    body = (
        (picks.micrograph, *row, *((numbers[picks.pixel_size_A],) if optics and picks.pixel_size_A else ()))
        for picks in all_picks
        for row in _rows(picks)
    )
    shared = Picks("", all_picks[0].particles) if all_picks else None
    note = comment(shared, options) if shared else ""
    return f"# version 30001\n{note}\n{optics}{star.format_table('particles', columns, body)}"


def job(folder: Path, all_picks: list[Picks], options: WriteOptions) -> list[Path]:
    """Write a picking job's folder: a STAR file per micrograph, mirroring its path, and the list ``autopick.star``.

    Parameters
    ----------
    folder : Path
        Such as ``AutoPick/job012``, as seen from the project's folder: the list names it so.
    all_picks : list of Picks
        Named as in the micrographs' list, e.g. ``MotionCorr/job002/Movies/a.mrc``.
    options : WriteOptions
        Flip and scale.

    Returns
    -------
    list of Path
        What was written, the list last, so that it is there only when all of its files are.

    Raises
    ------
    OutputError
        If two micrographs share one file, or something cannot be written.
    """
    files: dict[Path, Picks] = {}
    for picks in all_picks:
        inner = mirrored(picks.micrograph)
        file = folder / inner.parent / f"{inner.stem}_autopick.star"
        if file in files:
            raise OutputError(
                file,
                f"the micrographs {files[file].micrograph!r} and {picks.micrograph!r} would share it",
                "Rename one of them",
            )
        files[file] = picks
    for file, picks in files.items():
        with replacing(file) as temporary:
            temporary.write_text(one(file, picks, options), encoding="utf-8")
    table = star.format_table(
        "coordinate_files", (MICROGRAPH, COORDINATES), ((p.micrograph, f.as_posix()) for f, p in files.items())
    )
    with replacing(folder / "autopick.star") as temporary:
        temporary.write_text(f"# version 30001\n\n{table}", encoding="utf-8")
    return [*files, folder / "autopick.star"]


def _rows(picks: Picks) -> Iterator[tuple[float, float, str, int, float]]:
    particles = picks.particles
    zeros = np.zeros(len(particles))
    group = particles.extra.get("class_number", zeros)
    psi = particles.extra.get("psi_deg", zeros)
    rows: Iterable = zip(particles.xy, particles.score, group, psi)
    for (x, y), score, number, angle in rows:
        yield float(x), float(y), f"{score:.8g}", int(number), float(angle) if np.isfinite(angle) else UNSET
