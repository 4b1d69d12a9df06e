"""The numbers of a report of picks: read from files and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from upicker.errors import InputError, UPickerError
from upicker.io import coordinates, sources
from upicker.io.pairing import differing, pair, unmatched
from upicker.io.sources import DistinctReader
from upicker.particles import Particles, ScoreKind, common_kind
from upicker.report.accuracy import Accuracy, compared
from upicker.report.inputs import Inputs, Progress
from upicker.run import record
from upicker.run.decoys import Choice
from upicker.run.record import Record
from upicker.statistics import robust
from upicker.units import Length

# Counts more than this many robust standard deviations from the median are reported as outlying.
OUTLYING_SIGMA = 3.5
# With fewer micrographs the spread of their counts is not known well enough.
MIN_MICROGRAPHS = 5


@dataclass(frozen=True, eq=False)
class Findings:
    """All numbers of a report.

    Attributes
    ----------
    inputs : Inputs
        What the report is made from.
    picks : dict of str to Particles
        By name, in the files' order; of any score.
    threshold : float or None
        Lowest score that counts; None: all count.
    counts : np.ndarray
        `(n,)` int, picks that count, in the order of `picks`.
    paths : dict of str to Path
        Name -> its micrograph, where one was found.
    seconds : np.ndarray
        `(n,)` modification time of each micrograph, seconds since 1970; NaN where unknown.
    accuracy : Accuracy or None
        Against labels, if they were given.
    run : Record
        The ``run.toml`` beside the picks.
    problems : list of str
        Files that could not be read.
    notes : list of str
        Remarks for the reader: positions that stand twice, names that differ, what was left over when pairing.
    """

    inputs: Inputs
    picks: dict[str, Particles]
    threshold: float | None
    counts: np.ndarray
    paths: dict[str, Path]
    seconds: np.ndarray
    accuracy: Accuracy | None
    run: Record
    problems: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def scores(self) -> np.ndarray:
        """`(m,)` finite scores of all picks, also of those below the threshold."""
        scores = np.concatenate([np.empty(0), *(particles.score for particles in self.picks.values())])
        return scores[np.isfinite(scores)]

    @property
    def score_kind(self) -> ScoreKind:
        """What the scores are."""
        return common_kind(self.picks.values())

    @property
    def chance(self) -> str | None:
        """How many picks are false by chance, in words; None where it is not known at this threshold."""
        choice = Choice.read(self.run.about)
        kept = int(self.counts.sum())
        if choice is None or choice.threshold != self.threshold or not choice.micrographs or not kept:
            return None
        return choice.false(kept)

    @property
    def lowest(self) -> float:
        """The threshold as a number: minus infinity where all count."""
        return -np.inf if self.threshold is None else self.threshold

    @property
    def is_timed(self) -> bool:
        """Whether the micrographs' times differ by more than copying them together would cause."""
        known = self.seconds[np.isfinite(self.seconds)]
        is_complete = len(known) == len(self.counts) >= MIN_MICROGRAPHS
        return is_complete and np.ptp(known) > 60 and len(np.unique(known)) > len(known) // 2


def gather(inputs: Inputs, progress: Progress) -> Findings:
    """Read picks and labels, count and compare.

    Parameters
    ----------
    inputs : Inputs
        Picks, micrographs and labels.
    progress : callable
        Called with a description of the step, the number of items done, and their total.

    Raises
    ------
    InputError
        If there are no picks, or names do not tell which files belong together.
    ConfigError
        If the labels carry no diameter, and none was given.
    UPickerError
        If no file of picks can be read, or a file of labels cannot.
    """
    run = record.read(inputs.folder)
    listed = [Path(entry.path) for entry in run.micrographs if entry.path]
    problems: list[str] = []
    notes: list[str] = []
    picks = _read(inputs, problems, notes, progress)
    threshold = run.threshold if inputs.threshold is None else inputs.threshold
    lowest = -np.inf if threshold is None else threshold
    paths = _paths(inputs, picks, listed, notes)
    return Findings(
        inputs=inputs,
        picks=picks,
        threshold=threshold,
        counts=np.array([int((particles.score >= lowest).sum()) for particles in picks.values()], int),
        paths=paths,
        seconds=np.array([_written(paths.get(name)) for name in picks]),
        accuracy=None if inputs.labels is None else compared(inputs, picks, listed, lowest, progress),
        run=run,
        problems=problems,
        notes=notes,
    )


def diameter_px(findings: Findings, name: str, pixel_size_A: float | None) -> float | None:
    """Return the particles' diameter in one micrograph, raw pixels; None if it is not known."""
    lengths = [findings.inputs.diameter, _median([findings.picks[name]])]
    labels = findings.accuracy.labels if findings.accuracy else {}
    lengths += [_median([labels[name]])] if name in labels else []
    lengths += [findings.run.diameter] if findings.run.diameter else []
    lengths += [_median([*findings.picks.values()])] if lengths == [None] * len(lengths) else []
    for length in lengths:
        if length is not None and (length.unit == "px" or pixel_size_A):
            return length.to_px(pixel_size_A)
    return None


def outlying(counts: np.ndarray) -> np.ndarray:
    """Return an `(n,)` bool: which counts are far from the others."""
    if len(counts) < MIN_MICROGRAPHS:
        return np.zeros(len(counts), bool)
    median, sigma = robust(counts)
    # Counts scatter by at least their square root (Poisson), also where more than half of them are equal.
    spread = max(sigma, float(np.sqrt(max(median, 1))))
    return np.abs(counts - median) > OUTLYING_SIGMA * spread


def _median(particles: Sequence[Particles]) -> Length | None:
    """Return the median of the diameters that particles carry, in raw pixels; None if they carry none."""
    median = Particles.concatenate(list(particles)).median_diameter_px
    return None if median is None else Length(median, "px")


def _read(inputs: Inputs, problems: list[str], notes: list[str], progress: Progress) -> dict[str, Particles]:
    """Return the picks of all micrographs by name, each position once."""
    found = sources.by_name(inputs.picks)
    reader = DistinctReader(inputs.reading.pixel_size_A)
    read: dict[str, Particles] = {}
    first: UPickerError | None = None
    for number, (name, source) in enumerate(found.items()):
        progress("reading picks", number, len(found))
        try:
            read[name] = reader(source)
        except UPickerError as error:
            problems.append(str(error))
            first = first or error
    if first is not None and not read:
        raise first
    if not read and inputs.picks.is_file():
        raise InputError(inputs.picks, "it holds no picks", "Give the folder or the file that upicker pick wrote")
    if not read:
        known = ", ".join(coordinates.FORMATS)
        remedy = f"Give a folder with one for each micrograph ({known})"
        raise InputError(inputs.picks, "holds no coordinate files", remedy)
    notes += [told] if (told := sources.repeats(reader.repeated, "counted once")) else []
    return read


def _paths(inputs: Inputs, picks: Mapping[str, Particles], listed: Sequence[Path], notes: list[str]) -> dict[str, Path]:
    """Find the micrographs of the picks."""
    candidates = list(dict.fromkeys(inputs.micrographs or (path for path in listed if path.is_file())))
    if not candidates:
        return {}
    given = bool(inputs.micrographs)
    where = "--micrographs" if given else inputs.picks
    pairing = pair(candidates, {name: name for name in picks}, where, required=given)
    notes += [told] if (told := differing(pairing)) else []
    if given and pairing.unmatched_micrographs:
        notes.append(unmatched([str(path) for path in pairing.unmatched_micrographs], "micrograph", "picks"))
    if given and pairing.unmatched_files:
        notes.append(unmatched(pairing.unmatched_files, "pick file", "a micrograph, counted but not shown"))
    return {name: path for path, name in pairing.pairs.items()}


def _written(path: Path | None) -> float:
    try:
        return float("nan") if path is None else path.stat().st_mtime
    except OSError:
        return float("nan")
