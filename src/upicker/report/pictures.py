"""The pictures of a report: a gallery of particles as small boxes, and a few micrographs with their picks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from upicker.draw.picks import legible, overlay
from upicker.errors import UPickerError, collected_warnings
from upicker.image.boxes import cut
from upicker.io.atomic import temporary_folder
from upicker.io.rasters import encode_jpeg
from upicker.particles import Micrograph, Particles, ScoreKind
from upicker.report.findings import Findings, diameter_px
from upicker.report.inputs import Progress
from upicker.statistics import evenly_spaced

# Boxes are cut from at most this many micrographs, which are read for it.
MAX_SAMPLED = 24
COLUMNS, ROWS, CELL_PX = 15, 4, 64
# Side of a box, in particle diameters.
_SIDE_DIAMETERS = 1.5
_WIDEST_PX, _QUALITY = 1200, 80


@dataclass(frozen=True)
class Group:
    """Particles of one kind, as boxes in one picture.

    Attributes
    ----------
    title : str
        Which particles they are.
    note : str
        Their number and range of scores.
    jpeg : bytes
        Rows of `COLUMNS` boxes, in reading order.
    rows : int
        Number of rows.
    """

    title: str
    note: str
    jpeg: bytes
    rows: int


@dataclass(frozen=True)
class Overlay:
    """A micrograph with its picks.

    Attributes
    ----------
    title : str
        Why it is shown.
    name : str
        Of the micrograph.
    picks : int
        How many count.
    jpeg : bytes
        The micrograph with circles around its picks.
    """

    title: str
    name: str
    picks: int
    jpeg: bytes


@dataclass
class Pictures:
    """All pictures of a report.

    Attributes
    ----------
    groups : list of Group
        The gallery.
    overlays : list of Overlay
        Micrographs with their picks.
    sampled : int
        Number of micrographs that the gallery was taken from.
    problems : list of str
        What could not be shown, and why.
    """

    groups: list[Group] = field(default_factory=list)
    overlays: list[Overlay] = field(default_factory=list)
    sampled: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Cell:
    """One particle of the gallery: its micrograph, its position there in raw pixels, its score."""

    name: str
    xy: tuple[float, float]
    score: float


def make(findings: Findings, progress: Progress) -> Pictures:
    """Read a few micrographs and make the pictures of them; empty where no micrographs are known.

    Parameters
    ----------
    findings : Findings
        Picks, counts and paths of micrographs.
    progress : callable
        See `upicker.report.findings.gather`.
    """
    found = Pictures()
    shown = _extremes(findings)
    sampled = _sampled(findings)
    found.sampled = len(sampled)
    chosen = _chosen(findings, sampled)
    wanted: dict[str, list[_Cell]] = defaultdict(list)
    for cells in chosen.values():
        for cell in cells:
            wanted[cell.name].append(cell)
    boxes: dict[_Cell, np.ndarray] = {}
    names = list(dict.fromkeys([*shown.values(), *wanted]))
    for number, name in enumerate(names):
        progress("drawing micrographs", number, len(names))
        try:
            with collected_warnings():
                micrograph = findings.inputs.reading.read(findings.paths[name])
            side = diameter_px(findings, name, micrograph.pixel_size_A)
            if side is None:
                found.problems.append(f"{name}: the particles' diameter is not known; give it with --diameter.")
                continue
            boxes.update(_cut(micrograph, wanted[name], side))
            for title in (title for title, one in shown.items() if one == name):
                found.overlays.append(_overlay(findings, title, name, micrograph, side))
        except UPickerError as error:
            found.problems.append(str(error))
    found.overlays.sort(key=lambda one: list(shown).index(one.title))
    groups = [_group(title, cells, boxes, findings.score_kind) for title, cells in chosen.items()]
    found.groups = [group for group in groups if group is not None]
    return found


def _extremes(findings: Findings) -> dict[str, str]:
    """Return the micrographs to show whole, by their titles."""
    names = [name for name in findings.picks if name in findings.paths]
    counts = dict(zip(findings.picks, findings.counts.tolist()))
    order = sorted(names, key=lambda name: (counts[name], name))
    if not order:
        return {}
    ranks = {"Most picks": len(order) - 1, "Median": (len(order) - 1) // 2, "Fewest picks": 0}
    shown: dict[str, str] = {}
    for title, rank in ranks.items():
        if order[rank] not in shown.values():
            shown[title] = order[rank]
    return shown


def _sampled(findings: Findings) -> list[str]:
    """Return micrographs to take particles from, evenly spread."""
    names = [name for name, picks in findings.picks.items() if name in findings.paths and len(picks)]
    return [names[i] for i in evenly_spaced(len(names), MAX_SAMPLED, ends=False)]


def _chosen(findings: Findings, names: Sequence[str]) -> dict[str, list[_Cell]]:
    """Return the particles to show, by the titles of their groups."""
    every = [
        _Cell(name, (float(x), float(y)), float(score))
        for name in names
        for (x, y), score in zip(findings.picks[name].xy, findings.picks[name].score)
        if np.isfinite(score)
    ]
    every.sort(key=lambda cell: -cell.score)
    most = COLUMNS * ROWS
    kept = [cell for cell in every if cell.score >= findings.lowest]
    left = every[len(kept) :]
    if len(every) <= most:
        return {title: cells for title, cells in (("All that count", kept), ("All that do not count", left)) if cells}
    if left and kept:
        half = most // 2
        return {
            "Highest scores": kept[:most],
            "Just above the threshold": kept[-half:],
            "Just below the threshold, not counted": left[:half],
            "Lowest scores, not counted": left[-half:],
        }
    middle = max(0, len(every) // 2 - most // 2)
    titles = {"Highest scores": every[:most], "Middle": every[middle : middle + most]}
    return titles | {"Borderline: lowest scores that count": every[-most:]}


def _cut(micrograph: Micrograph, cells: Sequence[_Cell], side_px: float) -> dict[_Cell, np.ndarray]:
    """Return `(CELL_PX, CELL_PX)` uint8 boxes, of equal contrast within a micrograph; border pixels are replicated."""
    if not cells:
        return {}
    scale = CELL_PX / (_SIDE_DIAMETERS * side_px)
    shown = np.round(255 * legible(micrograph.pixels, side_px, scale)).astype(np.uint8)
    # Integer coordinates are pixel centres, so the image begins half a pixel before 0.
    centres = np.rint((np.array([cell.xy for cell in cells]) + 0.5) * scale - 0.5).astype(int)
    boxes = cut(shown, centres.clip(0, np.array(shown.shape[::-1])) - CELL_PX // 2, (CELL_PX, CELL_PX))
    return dict(zip(cells, boxes, strict=True))


def _group(title: str, cells: Sequence[_Cell], boxes: dict[_Cell, np.ndarray], kind: ScoreKind) -> Group | None:
    """Return boxes laid out in rows; None if there are none."""
    cells = [cell for cell in cells if cell in boxes]
    if not cells:
        return None
    rows = -(-len(cells) // COLUMNS)
    pitch = CELL_PX + 2
    sheet = np.full((rows * pitch - 2, COLUMNS * pitch - 2), 255, np.uint8)
    for number, cell in enumerate(cells):
        y, x = (index * pitch for index in divmod(number, COLUMNS))
        sheet[y : y + CELL_PX, x : x + CELL_PX] = boxes[cell]
    scores = [cell.score for cell in cells]
    note = f"{len(cells)} with {kind.text(min(scores), max(scores))}"
    return Group(title, note, encode_jpeg(sheet, _QUALITY), rows)


def _overlay(findings: Findings, title: str, name: str, micrograph: Micrograph, side_px: float) -> Overlay:
    """Draw a micrograph with the picks that count, and with its labels if it has some."""
    picks = findings.picks[name].above(findings.lowest).with_diameter(side_px, only_missing=True)
    accuracy = findings.accuracy
    labels: Particles | None = accuracy.labels.get(name) if accuracy else None
    matching_px = accuracy.side_px if accuracy else None
    # The page writes the name itself, as escaped text.
    nameless = replace(micrograph, name="")
    with temporary_folder() as folder:
        target = folder / "overlay.png"
        overlay(nameless, picks, target, labels, matching_px, findings.inputs.by)
        picture = cv2.imread(str(target))
    assert picture is not None
    if picture.shape[1] > _WIDEST_PX:
        height = round(picture.shape[0] * _WIDEST_PX / picture.shape[1])
        picture = cv2.resize(picture, (_WIDEST_PX, height), interpolation=cv2.INTER_AREA)
    return Overlay(title, name, len(picks), encode_jpeg(picture, _QUALITY))
