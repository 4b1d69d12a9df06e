"""CryoPPP's labels, ``X-Coordinate,Y-Coordinate,Diameter``.

Frame: the contract's, of the JPG that CryoPPP publishes with them. Its first row is the last of the MRC: to use it with
MRC files, read it with the flip ``upside-down``.
"""

from __future__ import annotations

from pathlib import Path

from upicker.io.delimited import short
from upicker.io.formats import tables
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.picks import Picks, WriteOptions, from_contract


def sniff(content: Content) -> bool:
    """Recognise a table with CryoPPP's column names."""
    return {"xcoordinate", "ycoordinate"} <= set(content.header)


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield a table as CryoPPP publishes them."""
    (picks,) = all_picks
    particles = from_contract(path, picks, options).particles
    rows = zip(particles.xy, particles.diameter_px)
    lines = (f"{short(x)},{short(y)},{short(diameter)}\n" for (x, y), diameter in rows)
    yield path, "X-Coordinate,Y-Coordinate,Diameter\n" + "".join(lines)


FORMAT = Format(
    name="cryoppp",
    programs="CryoPPP's tools",
    files="NAME.csv for each micrograph: X-Coordinate, Y-Coordinate, Diameter; no scores",
    layout="each",
    ending=".csv",
    sniff=sniff,
    read=tables.read,
    write=write,
    carries=frozenset({"diameter"}),
    notes=Notes(
        position="centre, first row of the published JPG = 0; px",
        columns="`X-Coordinate`, `Y-Coordinate`, `Diameter`",
        checked="labels of EMPIAR-10017 on the JPGs, with `check-frame`",
    ),
)
