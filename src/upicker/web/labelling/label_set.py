"""The labels of one micrograph in memory: how changes apply to them, and how they are read and written."""

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
from upicker.io.stamp import Stamp, stamp
from upicker.particles import Particles, ScoreKind
from upicker.web.labelling.changes import BAD, COVERAGE, DECIMALS, DIAMETER, REGIONS, Change, Rectangle

# The column of the page's files that holds the key of each label.
KEY = "label_key"


class Label(NamedTuple):
    """One label: a position in raw pixels, a score, and a diameter where it differs from that of the others."""

    x: float
    y: float
    score: float = 1.0
    diameter_px: float | None = None


@dataclass(frozen=True, eq=False)
class LabelSet:
    """The labels of one micrograph. All of it is on disk, except for `revision` and `changed`.

    Attributes
    ----------
    labels : mapping of str to Label
        By key, in the order of the file; not to be modified.
    diameter_px : float or None
        Of all labels without one of their own, raw pixels.
    score_kind : ScoreKind
        What their scores are; those of labels made on the page are 1.
    coverage : str
        ``"complete"``, ``"partial"``, ``"regions"`` or ``"unset"``.
    regions : tuple
        Rectangles x0, y0, x1, y1 in raw pixels; they apply if `coverage` is ``"regions"``.
    partial_regions : bool
        Whether particles inside the regions may be unlabelled, too; set by ``coverage.csv``, never by the page.
    bad : bool
        Whether the micrograph is marked as bad.
    file : Path or None
        The label file.
    stamp : tuple or None
        Of the file as last read or written.
    keyed : bool
        Whether the file has keys: then the page has written it.
    foreign : bool
        Whether another program made the file originally.
    revision : int
        Incremented by every change.
    changed : mapping of str to int
        Target -> the revision that changed it last.
    """

    labels: Mapping[str, Label] = field(default_factory=dict)
    diameter_px: float | None = None
    score_kind: ScoreKind = ScoreKind.NONE
    coverage: str = "unset"
    regions: tuple[Rectangle, ...] = ()
    partial_regions: bool = False
    bad: bool = False
    file: Path | None = None
    stamp: Stamp | None = None
    keyed: bool = True
    foreign: bool = False
    revision: int = 0
    changed: Mapping[str, int] = field(default_factory=dict)

    def value(self, target: str) -> Any:
        """Return the current value of a `Change.target`, in the form of `Change.value`."""
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

    def applied(self, changes: Iterable[Change]) -> LabelSet:
        """Return the labels after some changes; see `Change` for those without effect."""
        labels, settings = dict(self.labels), {}
        for change in changes:
            key, value = change.target, change.value
            if key.startswith("#"):
                settings[key] = value
            elif value is None:
                labels.pop(key, None)
            elif change.makes and key not in labels:
                labels[key] = Label(*value)
            elif not change.makes and key in labels:
                labels[key] = labels[key]._replace(x=value[0], y=value[1])
        if DIAMETER in settings:
            former = [key for key, label in labels.items() if label.diameter_px == self.diameter_px]
            labels |= {key: labels[key]._replace(diameter_px=None) for key in former}
        coverage = settings.get(COVERAGE, self.coverage)
        # A file begun on the page always gets a row in coverage.csv: without one, training takes it to be complete.
        if coverage == "unset" and labels and not self.foreign:
            coverage = "partial"
        return replace(
            self,
            labels=labels,
            score_kind=self.score_kind if labels else ScoreKind.NONE,
            diameter_px=settings.get(DIAMETER, self.diameter_px),
            coverage=coverage,
            regions=settings.get(REGIONS, self.regions),
            partial_regions=self.partial_regions and COVERAGE not in settings,
            bad=settings.get(BAD, self.bad),
        ).revised(self)

    def revised(self, before: LabelSet) -> LabelSet:
        """Return the labels with a new revision and what it changed, if they differ from `before`."""
        keys = {k for k, label in self.labels.items() if (o := before.labels.get(k)) is None or o[:2] != label[:2]}
        keys |= before.labels.keys() - self.labels.keys()
        keys |= {name for name in (DIAMETER, COVERAGE, REGIONS, BAD) if self.value(name) != before.value(name)}
        if not keys:
            return replace(self, revision=before.revision, changed=before.changed)
        revision = before.revision + 1
        return replace(self, revision=revision, changed={**before.changed, **dict.fromkeys(keys, revision)})

    def missed(self, since: int, changes: Iterable[Change]) -> list[dict[str, object]]:
        """Return the changes that a browser has missed.

        Parameters
        ----------
        since : int
            The latest revision that the browser has received.
        changes : iterable of Change
            The changes that it has just sent and assumes applied. Where the outcome differs, that is returned, too.
        """
        expected = {change.target: change.value for change in changes}
        targets = {**{key: None for key, at in self.changed.items() if at > since}, **expected}
        missed: list[dict[str, object]] = []
        for target in targets:
            value = self.value(target)
            if target not in expected or expected[target] != value:
                missed += _as_changes(target, value)
        return missed

    def coverage_row(self) -> Coverage | None:
        """Return what ``coverage.csv`` should say of these labels; None for no row."""
        if self.coverage == "unset":
            return None
        if self.coverage == "regions" and self.regions:
            return Coverage(self.partial_regions, tuple(Region(*corners) for corners in self.regions))
        # As long as no region is drawn, only some of the particles are labelled.
        return Coverage(self.coverage != "complete")

    def with_coverage(self, row: Coverage | None) -> LabelSet:
        """Return the labels with the coverage of ``coverage.csv``, unless they imply that row already."""
        if row is not None and row == self.coverage_row():
            return self
        word = coverage_word(row, bool(self.labels) and not self.foreign)
        regions = () if row is None else row.regions
        corners = tuple((region.x0, region.y0, region.x1, region.y1) for region in regions)
        partial = bool(corners) and row is not None and row.partial
        return replace(self, coverage=word, regions=corners, partial_regions=partial)


def coverage_word(row: Coverage | None, begun: bool) -> str:
    """Return `LabelSet.coverage` for a row of ``coverage.csv``; `begun`: there are labels made on the page."""
    if row is None:
        return "partial" if begun else "unset"
    return "regions" if row.regions else "partial" if row.partial else "complete"


def _as_changes(target: str, value: Any) -> list[dict[str, object]]:
    """Return the value of a target as changes, for a browser that may or may not know the target."""
    if target == DIAMETER:
        return [] if value is None else [{"op": "diameter", "px": value}]
    if target.startswith("#"):
        return [{"op": target[1:], "value": value}]
    if value is None:
        return [{"op": "remove", "key": target}]
    label = {"key": target, "x": value[0], "y": value[1]}
    return [{"op": "add", **label}, {"op": "move", **label}]


def read(file: Path, known: LabelSet) -> LabelSet:
    """Return the labels of a file; keys are kept wherever possible.

    Parameters
    ----------
    file : Path
        In any format.
    known : LabelSet
        The labels as known before. A label without a key in the file gets the key of the known one at its position.

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
    common = _common_diameter(particles.diameter_px)
    labels: dict[str, Label] = {}
    xy, diameters = np.round(particles.xy, DECIMALS) + 0.0, np.round(particles.diameter_px, DECIMALS)
    for name, (x, y), score, diameter in zip(names, xy.tolist(), particles.score.tolist(), diameters.tolist()):
        key = name if name and name not in labels else free.pop((x, y), "") or next(fresh)
        labels[key] = Label(x, y, score, None if diameter != diameter or diameter == common else diameter)
    diameter_px = known.diameter_px if common is None else common
    found = replace(known, labels=labels, diameter_px=diameter_px, score_kind=particles.score_kind)
    return replace(found, file=file, stamp=at, keyed=keys is not None)


def _common_diameter(diameter_px: np.ndarray) -> float | None:
    """Return the diameter shared by at least half of the labels that have one; None without such a diameter."""
    values, counts = np.unique(np.round(diameter_px[np.isfinite(diameter_px)], DECIMALS), return_counts=True)
    if not len(values) or 2 * counts.max() < counts.sum():
        return None
    return float(values[counts.argmax()])


def write(target: Path, labels: LabelSet, shape: tuple[int, int] | None, pixel_size_A: float | None) -> LabelSet:
    """Write labels as CSV, flushed to disk; return them as they are in the file.

    Parameters
    ----------
    target : Path
        The file.
    labels : LabelSet
        The labels.
    shape, pixel_size_A
        Rows and columns of the micrograph, and Angstrom per pixel; written to the file where known.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    rows = list(labels.labels.values())
    common = np.nan if labels.diameter_px is None else labels.diameter_px
    diameters = [common if label.diameter_px is None else label.diameter_px for label in rows]
    # Without a declaration, the scores say themselves whether there are any.
    kind = labels.score_kind if labels.score_kind.declaration else None
    particles = Particles.of([label[:2] for label in rows], diameters, [label.score for label in rows], kind)
    particles = replace(particles, extra={KEY: np.array(list(labels.labels), "U24")})
    with replacing(target, lasting=True) as temporary:
        coordinates.write(temporary, particles, "csv", pixel_size_A, shape)
    return replace(labels, file=target, stamp=stamp(target), keyed=True)
