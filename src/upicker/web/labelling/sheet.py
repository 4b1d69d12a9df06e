"""The labels of one micrograph in memory, how changes alter them, and how they are read from a file and written."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from upicker.geometry import Region
from upicker.io import coordinates
from upicker.io.atomic import replacing
from upicker.io.coverage import Coverage
from upicker.particles import Particles
from upicker.web.labelling.changes import BAD, COVERAGE, DECIMALS, DIAMETER, REGIONS, Change, Rectangle

KEY = "label_key"
Stamp = tuple[int, int, int]


class Label(NamedTuple):
    """One label: a place in raw pixels, a score, and a diameter where it differs from that of the others."""

    x: float
    y: float
    score: float = 1.0
    diameter_px: float | None = None


@dataclass(frozen=True, eq=False)
class Sheet:
    """All that is known of one micrograph's labels. What is here is on disk, but for `revision` and `changed`.

    Attributes
    ----------
    labels : mapping of str to Label
        By key, in the order of the file; not to be modified.
    diameter_px : float or None
        Of all labels without one of their own, raw pixels.
    coverage : str
        ``"complete"``, ``"partial"``, ``"regions"`` or ``"unset"``.
    regions : tuple
        Rectangles x0, y0, x1, y1 in raw pixels; they count where `coverage` is ``"regions"``.
    partly : bool
        Whether even in the regions particles have no label; said by a file, never by the page.
    bad : bool
        Whether the micrograph is marked as of no use.
    file : Path or None
        Where the labels were read from or written to.
    stamp : tuple or None
        By which a later change of the file is noticed.
    keyed : bool
        Whether the file has keys: then the page has written it.
    theirs : bool
        Whether somebody else began the file.
    revision : int
        Grows with every change.
    changed : mapping of str to int
        Target -> the revision that changed it last.
    """

    labels: Mapping[str, Label] = field(default_factory=dict)
    diameter_px: float | None = None
    coverage: str = "unset"
    regions: tuple[Rectangle, ...] = ()
    partly: bool = False
    bad: bool = False
    file: Path | None = None
    stamp: Stamp | None = None
    keyed: bool = True
    theirs: bool = False
    revision: int = 0
    changed: Mapping[str, int] = field(default_factory=dict)

    def value(self, target: str) -> Any:
        """Return what stands at a `Change.target`, in the form of `Change.value`."""
        if target == DIAMETER:
            return self.diameter_px
        if target == COVERAGE:
            return self.coverage
        if target == REGIONS:
            return self.regions
        if target == BAD:
            return self.bad
        label = self.labels.get(target)
        return None if label is None else label[:2]

    def played(self, changes: Iterable[Change]) -> Sheet:
        """Return the sheet as changes make it; see `Change` for those that change nothing."""
        labels, news = dict(self.labels), {}
        for change in changes:
            key, value = change.target, change.value
            if key.startswith("#"):
                news[key] = value
            elif value is None:
                labels.pop(key, None)
            elif change.makes and key not in labels:
                labels[key] = Label(*value)
            elif not change.makes and key in labels:
                labels[key] = labels[key]._replace(x=value[0], y=value[1])
        if DIAMETER in news:
            former = [key for key, label in labels.items() if label.diameter_px == self.diameter_px]
            labels |= {key: labels[key]._replace(diameter_px=None) for key in former}
        coverage = news.get(COVERAGE, self.coverage)
        # A file begun on the page never goes without a word: training would take it to be complete.
        if coverage == "unset" and labels and not self.theirs:
            coverage = "partial"
        return replace(
            self,
            labels=labels,
            diameter_px=news.get(DIAMETER, self.diameter_px),
            coverage=coverage,
            regions=news.get(REGIONS, self.regions),
            partly=self.partly and COVERAGE not in news,
            bad=news.get(BAD, self.bad),
        ).noted(self)

    def noted(self, before: Sheet) -> Sheet:
        """Return the sheet with a new revision, and what it changed, if it differs from `before`."""
        keys = {k for k, label in self.labels.items() if (o := before.labels.get(k)) is None or o[:2] != label[:2]}
        keys |= before.labels.keys() - self.labels.keys()
        keys |= {name for name in (DIAMETER, COVERAGE, REGIONS, BAD) if self.value(name) != before.value(name)}
        if not keys:
            return replace(self, revision=before.revision, changed=before.changed)
        revision = before.revision + 1
        return replace(self, revision=revision, changed={**before.changed, **dict.fromkeys(keys, revision)})

    def missed(self, since: int, changes: Iterable[Change]) -> list[dict[str, object]]:
        """Return what a browser does not know yet, as changes.

        Parameters
        ----------
        since : int
            The revision that it knows.
        changes : iterable of Change
            What it has just sent, and takes to be done. Where something else came of it, that is returned, too.
        """
        expected = {change.target: change.value for change in changes}
        targets = {**{key: None for key, at in self.changed.items() if at > since}, **expected}
        news: list[dict[str, object]] = []
        for target in targets:
            value = self.value(target)
            if target not in expected or expected[target] != value:
                news += _told(target, value)
        return news

    def row(self) -> Coverage | None:
        """Return what training is to be told of the coverage."""
        if self.coverage == "unset":
            return None
        if self.coverage == "regions" and self.regions:
            return Coverage(self.partly, tuple(Region(*corners) for corners in self.regions))
        # Regions that nobody has drawn yet: what is labelled so far is some of the particles.
        return Coverage(self.coverage != "complete")

    def covering(self, row: Coverage | None) -> Sheet:
        """Return the sheet with the coverage that the disk tells, unless what is known here says that and more."""
        if row is not None and row == self.row():
            return self
        word = said(row, bool(self.labels) and not self.theirs)
        regions = () if row is None else row.regions
        corners = tuple((region.x0, region.y0, region.x1, region.y1) for region in regions)
        return replace(self, coverage=word, regions=corners, partly=bool(corners) and row is not None and row.partial)


def said(row: Coverage | None, begun: bool) -> str:
    """Return the word of `Sheet.coverage` for what ``coverage.csv`` says; `begun`: there are labels of the page."""
    if row is None:
        return "partial" if begun else "unset"
    return "regions" if row.regions else "partial" if row.partial else "complete"


def _told(target: str, value: Any) -> list[dict[str, object]]:
    """Return what stands at a target as changes, for a browser that may or may not have it."""
    if target == DIAMETER:
        return [] if value is None else [{"op": "diameter", "px": value}]
    if target.startswith("#"):
        return [{"op": target[1:], "value": value}]
    if value is None:
        return [{"op": "remove", "key": target}]
    place = {"key": target, "x": value[0], "y": value[1]}
    return [{"op": "add", **place}, {"op": "move", **place}]


def stamp(file: Path) -> Stamp | None:
    """Return what changes whenever a file is written; None if there is no file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def read(file: Path, known: Sheet) -> Sheet:
    """Return a sheet with the labels of a file; keys are kept wherever they can be.

    Parameters
    ----------
    file : Path
        In any format.
    known : Sheet
        What was known before. A label without a key in the file is the one of the same place there.

    Raises
    ------
    CoordinatesError
        If the file cannot be read.
    """
    at = stamp(file)
    particles = coordinates.read(file)
    keys = particles.extra.get(KEY)
    names = [""] * len(particles) if keys is None else [str(key) for key in keys]
    present = set(names)
    taken = {*present, *known.labels, *known.changed}
    fresh = (key for number in itertools.count() if (key := f"r{number}") not in taken)
    free = {label[:2]: key for key, label in known.labels.items() if key not in present}
    own = _usual(particles.diameter_px)
    labels: dict[str, Label] = {}
    xy, diameters = np.round(particles.xy, DECIMALS) + 0.0, np.round(particles.diameter_px, DECIMALS)
    for name, place, score, diameter in zip(names, xy.tolist(), particles.score.tolist(), diameters.tolist()):
        x, y = place
        key = name if name and name not in labels else free.pop((x, y), "") or next(fresh)
        labels[key] = Label(x, y, score, None if diameter != diameter or diameter == own else diameter)
    diameter_px = known.diameter_px if own is None else own
    return replace(known, labels=labels, diameter_px=diameter_px, file=file, stamp=at, keyed=keys is not None)


def _usual(diameter_px: np.ndarray) -> float | None:
    """Return the diameter that at least half of the labels have which have one."""
    values, counts = np.unique(np.round(diameter_px[np.isfinite(diameter_px)], DECIMALS), return_counts=True)
    if not len(values) or 2 * counts.max() < counts.sum():
        return None
    return float(values[counts.argmax()])


def write(target: Path, sheet: Sheet, shape: tuple[int, int] | None, pixel_size_A: float | None) -> Sheet:
    """Write the labels as our CSV, to stay; return the sheet that is in the file now.

    Parameters
    ----------
    target : Path
        The file.
    sheet : Sheet
        The labels.
    shape, pixel_size_A
        Rows and columns of the micrograph, and Angstrom per pixel: noted where known.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    labels = list(sheet.labels.values())
    usual = np.nan if sheet.diameter_px is None else sheet.diameter_px
    diameters = [usual if label.diameter_px is None else label.diameter_px for label in labels]
    particles = Particles.of([label[:2] for label in labels], diameters, [label.score for label in labels])
    particles = replace(particles, extra={KEY: np.array(list(sheet.labels), "U24")})
    with replacing(target, lasting=True) as beside:
        coordinates.write(beside, particles, "csv", pixel_size_A, shape)
    return replace(sheet, file=target, stamp=stamp(target), keyed=True)
