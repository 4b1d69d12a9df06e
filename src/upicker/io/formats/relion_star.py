"""RELION's STAR file of one micrograph, ``NAME_autopick.star``; its frame: `upicker.io.formats.relion_tables`."""

from __future__ import annotations

from pathlib import Path

from upicker.io import star
from upicker.io.formats import relion_tables
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.formats.relion_tables import CLASS, PSI, SCORE, X, Y
from upicker.io.picks import Picks, WriteOptions, from_contract
from upicker.io.records import comment


def sniff(content: Content) -> bool:
    """Accept any STAR file that no other format recognises."""
    return content.kind == "star"


def is_other(head: str) -> bool:
    """Tell whether the first 64 KiB show no coordinates, or those of extracted particles."""
    words = set(head.split())
    return "_rlnImageName" in words or (star.is_star(head) and not {X, Y} <= words)


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield the file of one micrograph."""
    yield path, text(path, all_picks[0], options)


def text(path: Path, picks: Picks, options: WriteOptions) -> str:
    """Return the table that RELION's own picker writes: x, y, figure of merit, class and angle."""
    picks = from_contract(path, picks, options)
    table = star.format_table("", (X, Y, SCORE, CLASS, PSI), relion_tables.rows(picks))
    return f"# version 30001\n{comment(picks, options, scored=True)}\n{table}"


FORMAT = Format(
    name="star",
    programs="RELION 3, Warp, Scipion and most others",
    files="NAME_autopick.star for each micrograph",
    layout="each",
    ending="_autopick.star",
    endings=(".star", "_manualpick.star", "_autopick.star"),
    sniff=sniff,
    read=relion_tables.read,
    write=write,
    is_other=is_other,
    carries=frozenset({"score", "score_kind", "class_number", "psi_deg", "shape", "pixel_size"}),
    notes=Notes(
        position="centre, first row = 0; px",
        columns="`_rlnCoordinateX/Y`, `_rlnAutopickFigureOfMerit`, `_rlnClassNumber`, `_rlnAnglePsi`",
        checked="RELION 3.1.3: import, extraction",
    ),
)
