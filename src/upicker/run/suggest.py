"""Detections of a model in many micrographs, to rank those worth labelling next."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from upicker.errors import InputError
from upicker.io import sources
from upicker.io.labels import LabelFolder
from upicker.io.micrographs import Reading
from upicker.io.sources import Source
from upicker.pick.detection import FLOOR
from upicker.pick.picker import Picker
from upicker.run.ahead import Ready
from upicker.run.batch import Outcome, each
from upicker.run.pick import readers, sharing_cores
from upicker.run.ranking import Detected, Ranking, calibrating_on, write
from upicker.scoring import match
from upicker.units import Length

# Two views rank micrographs as well as more would, in less time.
VIEWS = 2

# The CSV is rewritten at most so often that it takes a twentieth of the time.
_WRITING = 20


@dataclass(frozen=True)
class Detecting:
    """The work on one micrograph; picklable, for several processes.

    Attributes
    ----------
    picker : Picker
        With the lowest possible threshold, so that it returns all detections.
    threshold : float
        The threshold stored with the weights.
    diameter : Length or None
        The particle diameter; None uses the one stored with the weights.
    reading : Reading
        Pixel sizes that override those of the files, and the gain reference.
    labels : mapping of Path to Path or Part
        Completely labelled micrographs, and where their labels are.
    readers : int
        How many threads read and prepare micrographs ahead, see `upicker.run.ahead`.
    """

    picker: Picker
    threshold: float
    diameter: Length | None = None
    reading: Reading = field(default_factory=Reading)
    labels: Mapping[Path, Source] = field(default_factory=dict)
    readers: int = 0

    @classmethod
    def of(
        cls, model: Path | str | None, changes: Mapping[str, object], diameter: Length | None, reading: Reading
    ) -> Detecting:
        """Load weights. Where they know no diameter and none is given, it is to be set before anything is detected.

        Parameters
        ----------
        model : Path, str or None
            The weights, see `upicker.pick.picker.Picker`.
        changes : mapping
            ``{"room.knob": value}``, changes to their config; picks in `VIEWS` views unless they say otherwise.
        diameter, reading
            See the attributes.

        Raises
        ------
        WeightsError, ConfigError
            If the weights or the changes cannot be used.
        """
        picker = Picker(model, {"pick.views": VIEWS, **changes})
        threshold, picker.threshold = picker.threshold, FLOOR
        return cls(picker, threshold, diameter, reading)

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs that processes divide."""
        return self.picker.gpus

    def __call__(self, path: Path) -> Detected:
        """Detect the particles of one micrograph, and match them with its labels if it has some.

        Raises
        ------
        UPickerError
            If a file cannot be read, or the diameter does not fit.
        """
        return self.finish(self.load(path))

    def load(self, path: Path) -> Ready:
        """Do the first step, for which no network is needed: read a micrograph, and prepare it."""
        micrograph = self.reading.read(path)
        diameter_px = self.picker.diameter_or(self.diameter).to_px(micrograph.pixel_size_A, str(path))
        return Ready(micrograph.without_pixels(), self.picker.prepared(micrograph, diameter_px))

    def finish(self, ready: Ready) -> Detected:
        """Do the second step: detect its particles, and match them with its labels."""
        micrograph, prepared = ready.micrograph, ready.prepared
        path = micrograph.path
        assert path is not None, "it was read from a file"
        detections = self.picker.picks(prepared, path)
        if path not in self.labels:
            return Detected(path, detections.score)
        labels = sources.read(self.labels[path], micrograph.shape, micrograph.pixel_size_A)
        return Detected(path, detections.score, match(detections, labels.with_diameter(prepared.diameter_px)).hit)


def divide(paths: Sequence[Path], labels: Path | None) -> tuple[dict[Path, Source], list[Path]]:
    """Divide micrographs into those to calibrate on and those to rank.

    Parameters
    ----------
    paths : sequence of Path
        The micrographs.
    labels : Path or None
        A folder or a file of labels; None ranks all micrographs.

    Returns
    -------
    calibrating : dict of Path to Path or Part
        Completely labelled micrograph -> where its labels are, see `upicker.run.ranking.calibrating_on`.
    ranking : list of Path
        The micrographs that are not completely labelled.

    Raises
    ------
    InputError
        If all are completely labelled, or it is ambiguous which label file belongs to which.
    CoordinatesError
        If ``coverage.csv`` cannot be read.
    """
    labelled = [] if labels is None else LabelFolder(labels, paths).labelled()
    complete = {one.path for one in labelled if not one.partial}
    ranking = [path for path in paths if path not in complete]
    if not ranking:
        found = "all micrographs are completely labelled"
        raise InputError("the micrographs", found, "Give more micrographs, or train on these")
    return {one.path: one.file for one in calibrating_on(labelled)}, ranking


def suggest_all(
    paths: Sequence[Path], work: Detecting, ranking: Ranking, output: Path | None = None, jobs: int = 1
) -> Generator[Outcome[Detected], None, None]:
    """Detect particles in many micrographs, and rank those without labels.

    Parameters
    ----------
    paths : sequence of Path
        The micrographs to rank; those of `work.labels` come first.
    work : Detecting
        The work on each.
    ranking : Ranking
        Filled with the detections.
    output : Path or None
        A CSV of the ranking, updated as micrographs are done.
    jobs : int
        Processes, which share the cores; see `upicker.run.pick.processes`.

    Yields
    ------
    Outcome
        One per micrograph, see `upicker.run.batch.each`.

    Raises
    ------
    OutputError
        If `output` cannot be written.
    """
    paths = [*work.labels, *paths]
    jobs = min(jobs, len(paths))
    work = replace(work, picker=sharing_cores(work.picker, jobs), readers=readers(work.picker, jobs))
    if output is not None:
        write(output, [])  # Better fail now than after the first micrograph.
    due = 0.0
    try:
        for outcome in each(paths, work, jobs):
            if outcome.value is not None:
                ranking.add(outcome.value)
            if output is not None and time.monotonic() >= due:
                begun = time.monotonic()
                write(output, ranking.suggestions())
                due = time.monotonic() + _WRITING * (time.monotonic() - begun)
            yield outcome
    finally:
        if output is not None:
            write(output, ranking.suggestions())
