"""UPicker's own table between tabs; see `upicker.io.formats.upicker_csv`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from upicker.io.formats import tables, upicker_csv
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format
from upicker.io.picks import Picks, WriteOptions


def sniff(content: Content) -> bool:
    """Recognise a table with a header and tabs."""
    return content.delimiter == "\t"


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield a table with tabs."""
    yield path, upicker_csv.table(path, all_picks, options, "\t")


FORMAT = Format(
    name="tsv",
    programs="scripts and spreadsheets that want tabs",
    files="NAME.tsv for each micrograph",
    layout="either",
    ending=".tsv",
    endings=(".tsv",),
    sniff=sniff,
    read=tables.read,
    write=write,
    is_other=tables.is_other,
    carries=upicker_csv.CARRIES,
    notes=replace(upicker_csv.NOTES, columns="as `csv`"),
)
