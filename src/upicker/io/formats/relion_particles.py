"""RELION's ``particles.star``: particles of many micrographs, refined ones with their origins, and optics groups.

For the frame see `upicker.io.formats.relion_tables`.
"""

from __future__ import annotations

from pathlib import Path

from upicker.io import star
from upicker.io.formats import relion_tables
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.formats.relion_tables import CLASS, MICROGRAPH, PSI, SCORE, X, Y
from upicker.io.picks import Picks, WriteOptions, from_contract
from upicker.io.records import comment

_GROUP = "_rlnOpticsGroup"


def sniff(content: Content) -> bool:
    """Recognise a STAR file that names the micrograph of each particle."""
    return any({X, Y, MICROGRAPH} <= set(table.columns) for table in content.tables)


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield a table of the particles of many micrographs, with one optics group per pixel size."""
    all_picks = [from_contract(path, picks, options) for picks in all_picks]
    sizes = sorted({picks.pixel_size_A for picks in all_picks if picks.pixel_size_A})
    numbers = {size: i for i, size in enumerate(sizes, 1)}
    columns: tuple[str, ...] = (MICROGRAPH, X, Y, SCORE, CLASS, PSI)
    optics = ""
    if sizes and all(picks.pixel_size_A for picks in all_picks):
        columns = (*columns, _GROUP)
        groups = [(number, f"opticsGroup{number}", f"{size:.9g}") for size, number in numbers.items()]
        optics = star.format_table("optics", (_GROUP, "_rlnOpticsGroupName", "_rlnMicrographPixelSize"), groups) + "\n"
    body = (
        (picks.micrograph, *row, *((numbers[picks.pixel_size_A],) if optics and picks.pixel_size_A else ()))
        for picks in all_picks
        for row in relion_tables.rows(picks)
    )
    shared = Picks("", all_picks[0].particles) if all_picks else None
    note = comment(shared, options) if shared else ""
    yield path, f"# version 30001\n{note}\n{optics}{star.format_table('particles', columns, body)}"


FORMAT = Format(
    name="particles",
    programs="RELION's import of particles",
    files="particles.star with all of them",
    layout="together",
    ending="_particles.star",
    file_of_all="particles.star",
    by_path=True,
    sniff=sniff,
    read=relion_tables.read,
    write=write,
    carries=frozenset({"score", "class_number", "psi_deg", "micrograph", "path", "pixel_size"}),
    notes=Notes(
        position="as `star`; origins of refined particles are subtracted, by the pixel size of the micrographs",
        columns="those of `star`, `_rlnMicrographName`, optics groups",
        checked="read: RELION 3.1.3's own `particles.star`, and its extraction with recentring",
    ),
)
