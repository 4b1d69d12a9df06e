"""Topaz' text files: ``image_name x_coord y_coord [score]`` between tabs.

Frame: pixels of the image that Topaz picked on, counted from the first stored pixel (topaz/utils: arrays as stored;
only its .box and json files are flipped). Images that were down-sampled (``topaz preprocess -s 8``) need the scale 8,
unless ``topaz extract -x 8`` has applied it already. Images are named without folder and ending.
"""

from __future__ import annotations

from pathlib import Path

from upicker.errors import OutputError
from upicker.io.delimited import short
from upicker.io.formats import tables
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.picks import Picks, WriteOptions, from_contract, stem


def sniff(content: Content) -> bool:
    """Recognise a table with Topaz' column names."""
    return {"imagename", "xcoord", "ycoord"} <= set(content.header)


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield a table as Topaz reads and writes them.

    Raises
    ------
    OutputError
        If two micrographs would have the same name.
    """
    names: dict[str, str] = {}
    for micrograph in (picks.micrograph for picks in all_picks):
        if (other := names.setdefault(stem(micrograph), micrograph)) != micrograph:
            found = f"the micrographs {other!r} and {micrograph!r} would have the same name in it"
            remedy = "Convert the micrographs of each folder by themselves, into files of their own"
            raise OutputError(path, found, remedy)
    lines = ["image_name\tx_coord\ty_coord\tscore\n"]
    for picks in (from_contract(path, p, options) for p in all_picks):
        name = stem(picks.micrograph)
        lines += [
            f"{name}\t{short(x)}\t{short(y)}\t{score:.8g}\n"
            for (x, y), score in zip(picks.particles.xy, picks.particles.score)
        ]
    yield path, "".join(lines)


FORMAT = Format(
    name="topaz",
    programs="Topaz",
    files="picks.txt with all of them",
    layout="together",
    ending=".txt",
    file_of_all="picks.txt",
    sniff=sniff,
    read=tables.read,
    write=write,
    carries=frozenset({"score", "micrograph"}),
    notes=Notes(
        position="centre, first row = 0, perhaps of binned micrographs (`--scale`); px",
        columns="`image_name`, `x_coord`, `y_coord`, `score`",
        checked="Topaz' source",
    ),
)
