"""Warp's BoxNet tables, which name the micrograph in each row. For the frame see `upicker.io.formats.relion_tables`."""

from __future__ import annotations

from pathlib import Path

from upicker.io import star
from upicker.io.formats import relion_tables
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.formats.relion_tables import MICROGRAPH, SCORE, X, Y
from upicker.io.picks import Picks, WriteOptions, from_contract
from upicker.io.records import comment
from upicker.particles import Particles

_COLUMNS = (X, Y, SCORE, MICROGRAPH)


def sniff(content: Content) -> bool:
    """Recognise a STAR file whose only table has Warp's columns and no name."""
    tables = content.tables
    return len(tables) == 1 and not tables[0].name and set(tables[0].columns) == set(_COLUMNS)


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield one table of one micrograph or of many; its comment gives the sizes that all of these have."""
    all_picks = [from_contract(path, picks, options) for picks in all_picks]
    rows = ((*row[:3], picks.micrograph) for picks in all_picks for row in relion_tables.rows(picks))
    shapes, sizes = {picks.shape for picks in all_picks}, {picks.pixel_size_A for picks in all_picks}
    shape = shapes.pop() if len(shapes) == 1 else None
    size = sizes.pop() if len(sizes) == 1 else None
    note = comment(Picks("", Particles.of([]), shape, size), options) if all_picks else ""
    yield path, f"{note}\n{star.format_table('', _COLUMNS, rows)}"


FORMAT = Format(
    name="warp",
    programs="Warp and M",
    files="allparticles.star with all of them",
    layout="together",
    ending="_BoxNet.star",
    file_of_all="allparticles.star",
    sniff=sniff,
    read=relion_tables.read,
    write=write,
    carries=frozenset({"score", "micrograph", "path", "shape", "pixel_size"}),
    notes=Notes(
        position="as `star`, in pixels of Warp's averages",
        columns="`_rlnCoordinateX/Y`, `_rlnAutopickFigureOfMerit`, `_rlnMicrographName`",
        checked="Warp's documents",
    ),
)
