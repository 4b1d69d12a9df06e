"""COCO's detection JSON: ``images`` and ``annotations``, in which ``bbox`` is ``[x, y, width, height]``.

Frame: the box's corner is its outer edge, 0 being the outer edge of the first pixel, top row first (cocodataset.org,
data format). The centre of the first pixel is thus at 0.5, and the contract's centre ``x + width / 2 - 1/2``. The
diameter is the box's mean side. Detections carry a ``score``, labels do not. Bare results, a list of
``{image_id, bbox, score}``, do not name their images and cannot be read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from upicker.errors import CoordinatesError, listed
from upicker.io import jsons
from upicker.io.formats.content import Content
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.picks import Picks, WriteOptions, boxed, from_contract
from upicker.io.records import record
from upicker.particles import Particles


def sniff(content: Content) -> bool:
    """Recognise a JSON object with images."""
    return isinstance(content.json, dict) and "images" in content.json


def read(content: Content) -> list[Picks]:
    """Read a COCO file, with its images without particles.

    Raises
    ------
    CoordinatesError
        If an image has no id or name, two have the same id, a box is not four numbers in pixels, or annotations are of
        several categories; the entry is named by its number.
    """
    path, held = content.path, content.json
    images: dict[object, tuple[str, tuple[int, int] | None, float | None]] = {}
    for i, image in enumerate(jsons.items(path, held.get("images"), "'images'"), 1):
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str) or not _is_key(image.get("id")):
            raise CoordinatesError(path, f"image {i} has no id or no file_name", "Write the file again")
        height, width = jsons.length(image.get("height")), jsons.length(image.get("width"))
        size = image.get("pixel_size_A")
        size = jsons.number(path, size, f"image {i}") if size else None
        shape = (height, width) if height and width else None
        if image["id"] in images:
            raise CoordinatesError(path, f"image {i} has the id of an earlier one: {image['id']!r}", "Correct its id")
        images[image["id"]] = image["file_name"], shape, size if size and size > 0 else None
    boxes: dict[object, list[tuple[float, ...]]] = {key: [] for key in images}
    for i, entry in enumerate(jsons.items(path, held.get("annotations", []), "'annotations'"), 1):
        key = entry.get("image_id") if isinstance(entry, dict) else None
        if not _is_key(key) or key not in boxes:
            raise CoordinatesError(path, f"annotation {i} belongs to no image", "Write the file again")
        boxes[key].append(_box(path, entry, i))
    _refuse_categories(path, held)
    _refuse_fractions(path, held)
    picks = []
    for key, (name, shape, size) in images.items():
        table = np.array(boxes[key], np.float64).reshape(-1, 4)
        picks.append(Picks(name, Particles.of(table[:, :2], table[:, 2], table[:, 3]), shape, size))
    return picks


def _refuse_categories(path: Path, held: dict[str, Any]) -> None:
    """Refuse annotations of several categories: which of them are the particles is not known."""
    used = dict.fromkeys(str(entry.get("category_id")) for entry in held.get("annotations", []))
    if len(used) < 2:
        return
    entries = [
        entry for entry in jsons.items(path, held.get("categories", []), "'categories'") if isinstance(entry, dict)
    ]
    names = {str(entry.get("id")): str(entry.get("name")) for entry in entries}
    raise CoordinatesError(
        path,
        f"its annotations are of {len(used)} categories: {listed([names.get(key, key)[:160] for key in used])}",
        "Keep the annotations of the particles alone",
    )


def _refuse_fractions(path: Path, held: dict[str, Any]) -> None:
    boxes = np.array([entry["bbox"] for entry in held.get("annotations", [])], np.float64)
    if len(boxes) and ((boxes >= 0) & (boxes <= 1)).all() and (boxes % 1).any():
        raise CoordinatesError(
            path,
            "all its boxes lie between 0 and 1: they are fractions, not pixels",
            "Multiply x and width by the number of columns of the images, y and height by that of rows",
        )


def _is_key(value: object) -> bool:
    return isinstance(value, int | str)


def _box(path: Path, entry: dict[str, Any], i: int) -> tuple[float, float, float, float]:
    """Return centre, diameter and score."""
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4:
        raise CoordinatesError(path, f"annotation {i} has no bbox of four numbers", "Correct or remove it")
    x, y, width, height = (jsons.number(path, value, f"annotation {i}") for value in box)
    score = jsons.number(path, entry["score"], f"annotation {i}") if entry.get("score") is not None else 1.0
    if min(width, height) <= 0:
        size = "negative size" if min(width, height) < 0 else "size zero"
        raise CoordinatesError(path, f"annotation {i} has a box of {size}", "Correct or remove it")
    return x + width / 2 - 0.5, y + height / 2 - 0.5, (width + height) / 2, score


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield one COCO file of many micrographs.

    Raises
    ------
    OutputError
        If neither a box size nor a diameter is known.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, picks in enumerate((from_contract(path, p, options) for p in all_picks), 1):
        image: dict[str, Any] = {"id": number, "file_name": picks.micrograph}
        if picks.shape:
            image |= {"height": picks.shape[0], "width": picks.shape[1]}
        images.append(image | {k: v for k, v in record(picks, options).items() if k not in ("rows", "columns")})
        side = boxed(path, picks, options)
        corners = picks.particles.xy + 0.5 - side[:, None] / 2
        for (x, y), size, score in zip(corners, side, picks.particles.score):
            box = [round(float(value), 4) for value in (x, y, size, size)]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box}
                | {"area": round(float(size) ** 2, 4), "iscrowd": 0, "score": float(f"{score:.8g}")}
            )
    info = {"description": "particles; 0 is the outer edge of the first stored pixel"}
    content = {"info": info, "images": images, "annotations": annotations}
    yield path, json.dumps(content | {"categories": [{"id": 1, "name": "particle"}]}) + "\n"


FORMAT = Format(
    name="coco",
    programs="machine learning",
    files="picks.json with all of them, as COCO's detections",
    layout="together",
    ending="_coco.json",
    file_of_all="picks.json",
    sniff=sniff,
    read=read,
    write=write,
    carries=frozenset({"diameter", "score", "micrograph", "path", "shape", "pixel_size"}),
    needs=frozenset({"diameter"}),
    notes=Notes(
        position="corner of the box, 0 is the outer edge of the first pixel; px",
        columns="`images`, `annotations` with `bbox`, `score`",
        checked="COCO's documents",
    ),
)
