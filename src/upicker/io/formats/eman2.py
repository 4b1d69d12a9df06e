"""EMAN2's ``info/NAME_info.json``: ``{"boxes": [[x, y, kind], ...]}``.

Frame: x, y are the centre of the box in pixels of the micrograph (EMAN2 wiki; github.com/azazellochg/3DEM-conventions),
counted from the lower left corner as EMAN2 shows it, which is the first stored pixel of an MRC file. For TIFF, PNG and
JPG, and for json files that Topaz wrote, use the flip ``eman2``. The side of the boxes is the project's, in
``info/project.json`` (``global.boxsize``); it is not a diameter and is ignored. Diameters known to UPicker
stand in an entry of its own, which EMAN2 ignores.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from upicker.errors import CoordinatesError
from upicker.io import jsons
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.picks import Picks, WriteOptions, from_contract
from upicker.io.records import record
from upicker.particles import Particles

_OURS = "upicker"


def sniff(content: Content) -> bool:
    """Recognise a JSON object with boxes."""
    return isinstance(content.json, dict) and "boxes" in content.json


def is_other(head: str) -> bool:
    """Tell whether the first 64 KiB have no boxes."""
    return '"boxes"' not in head


def read(content: Content) -> list[Picks]:
    """Read an EMAN2 json file.

    Raises
    ------
    CoordinatesError
        If a box is not ``[x, y, kind]``; it is named by its number. If there are positions in a tomogram.
    """
    path, rows = content.path, []
    if content.json.get("boxes_3d"):
        raise CoordinatesError(path, "it holds positions in a tomogram (boxes_3d)", "Give picks of micrographs")
    for i, box in enumerate(jsons.items(path, content.json["boxes"], "'boxes'"), 1):
        if not isinstance(box, list) or len(box) < 2:
            raise CoordinatesError(path, f"box {i} is not [x, y, kind]", "Save the boxes again in EMAN2")
        if len(box) > 2 and isinstance(box[2], int | float) and jsons.number(path, box[2], f"box {i}"):
            found = f"box {i} has a third number ({box[2]:g}): it holds positions in a tomogram"
            raise CoordinatesError(path, found, "Give picks of micrographs")
        score = jsons.number(path, box[3], f"box {i}") if len(box) > 3 else 1.0
        rows.append((jsons.number(path, box[0], f"box {i}"), jsons.number(path, box[1], f"box {i}"), score))
    table = np.array(rows, np.float64).reshape(-1, 3)
    own = content.json.get(_OURS)
    own = own if isinstance(own, dict) else {}
    particles = Particles.of(table[:, :2], _diameters(path, own, len(table)), table[:, 2])
    shape = jsons.length(own.get("rows")), jsons.length(own.get("columns"))
    size = own.get("pixel_size_A")
    size = jsons.number(path, size, "the pixel size") if size else None
    known = (shape[0], shape[1]) if shape[0] and shape[1] else None
    return [Picks(content.name, particles, known, size if size and size > 0 else None)]


def _diameters(path: Path, own: dict[str, Any], n: int) -> np.ndarray | float:
    given = own.get("diameter_px")
    if not isinstance(given, list) or len(given) != n:
        return math.nan
    values = [math.nan if value is None else jsons.number(path, value, "a diameter") for value in given]
    return np.where(np.array(values) > 0, values, math.nan)


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield an EMAN2 json file of one micrograph."""
    picks = from_contract(path, all_picks[0], options)
    particles = picks.particles
    drawn = (particles.score == 1).all()
    boxes = [
        [round(float(x), 4), round(float(y), 4), *(["manual"] if drawn else ["auto", float(f"{score:.8g}")])]
        for (x, y), score in zip(particles.xy, particles.score)
    ]
    diameters = [round(float(d), 4) if math.isfinite(d) else None for d in particles.diameter_px]
    own = {"diameter_px": diameters} | record(picks, options)
    yield path, json.dumps({"boxes": boxes, _OURS: own}, indent=0) + "\n"


FORMAT = Format(
    name="eman2",
    programs="EMAN2",
    files="NAME_info.json for each micrograph",
    layout="each",
    ending="_info.json",
    endings=("_info.json",),
    sniff=sniff,
    read=read,
    write=write,
    is_other=is_other,
    carries=frozenset({"diameter", "score", "shape", "pixel_size"}),
    notes=Notes(
        position="centre, first row of an MRC file = 0; px",
        columns="`boxes`",
        checked="EMAN2's documents",
    ),
)
