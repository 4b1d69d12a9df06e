"""What a report of picks says, in numbers: read, counted, compared with labels. `report_page` makes the page of it."""

from __future__ import annotations

import contextlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from upicker import scoring
from upicker.config import Config, flatten
from upicker.errors import ConfigError, InputError, UPickerError
from upicker.io import coordinates
from upicker.io.micrographs import Reading
from upicker.io.names import match
from upicker.io.picks import stem
from upicker.particles import Particles
from upicker.run import compare
from upicker.run.compare import Comparison
from upicker.run.record import NAME
from upicker.scoring import Curve, Score
from upicker.units import Length, parse_length

# Counts this many robust standard deviations from the median are named.
FAR = 3.5
# With fewer micrographs the spread of their counts says nothing.
FEWEST = 5
_MAD = 1.4826

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class Question:
    """What is reported on.

    Attributes
    ----------
    picks : Path
        Folder of coordinates, or a file with those of many micrographs.
    micrographs : tuple of Path
        The pictures; empty: those that ``run.toml`` beside the picks names and that are still there.
    reading : Reading
        How they are read.
    labels : Path or None
        Folder of labels to compare with.
    threshold : float or None
        Lowest score that counts; None: that of ``run.toml``, if it tells one; else all count.
    diameter : Length or None
        Of the particles; None: what files say.
    by : str
        The rule of matching, see `upicker.scoring`.
    """

    picks: Path
    micrographs: tuple[Path, ...] = ()
    reading: Reading = field(default_factory=Reading)
    labels: Path | None = None
    threshold: float | None = None
    diameter: Length | None = None
    by: str = "iou"


@dataclass(frozen=True, eq=False)
class Accuracy:
    """How picks compare with labels, as `upicker.scoring` has it.

    Attributes
    ----------
    pooled : Score
        Of all micrographs of the report with labels, at its threshold.
    each : dict of str to Score
        By the name of the label file.
    names : dict of str to str
        Name of the picks -> that of their labels.
    curve : Curve
        What each threshold gives, pooled.
    labels : dict of str to Particles
        By the name of the picks.
    side_px : float or None
        The side of the squares for matching, where the labels do not carry diameters.
    notes : tuple of str
        What a person should know.
    """

    pooled: Score
    each: dict[str, Score]
    names: dict[str, str]
    curve: Curve
    labels: dict[str, Particles]
    side_px: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Findings:
    """All numbers of a report.

    Attributes
    ----------
    question : Question
        What was asked.
    picks : dict of str to Particles
        By name, in the files' order; of any score.
    threshold : float or None
        Lowest score that counts; None: all count.
    counts : np.ndarray
        `(n,)` int, picks that count, in the order of `picks`.
    paths : dict of str to Path
        Name -> its micrograph, where there is one.
    seconds : np.ndarray
        `(n,)` when each micrograph was written, seconds since 1970; NaN where that is not known.
    accuracy : Accuracy or None
        Against labels, if there are some.
    run : mapping
        The table ``[run]`` of ``run.toml``, without the list of micrographs; empty without it.
    knobs : dict
        Knobs of that run that are not at their defaults.
    problems : list of str
        Files that could not be read.
    """

    question: Question
    picks: dict[str, Particles]
    threshold: float | None
    counts: np.ndarray
    paths: dict[str, Path]
    seconds: np.ndarray
    accuracy: Accuracy | None
    run: Mapping[str, object]
    knobs: dict[str, object]
    problems: list[str]

    @property
    def scores(self) -> np.ndarray:
        """`(m,)` finite scores of all picks, also of those that do not count."""
        scores = np.concatenate([np.empty(0), *(particles.score for particles in self.picks.values())])
        return scores[np.isfinite(scores)]

    @property
    def lowest(self) -> float:
        """The threshold as a number: minus infinity where all count."""
        return -np.inf if self.threshold is None else self.threshold

    @property
    def is_timed(self) -> bool:
        """Whether the micrographs' times tell more than that they were copied together."""
        known = self.seconds[np.isfinite(self.seconds)]
        return (
            len(known) == len(self.counts) >= FEWEST and np.ptp(known) > 60 and len(np.unique(known)) > len(known) // 2
        )


def gather(question: Question, progress: Progress) -> Findings:
    """Read picks and labels, count and compare.

    Parameters
    ----------
    question : Question
        What is reported on.
    progress : callable
        Told what is done, how much of it, and of how much.

    Raises
    ------
    InputError
        If there are no picks, or names do not tell what belongs together.
    ConfigError
        If the labels carry no diameter, and none was given.
    UPickerError
        If no file of picks can be read, or a file of labels cannot.
    """
    run, knobs, listed = _record(question.picks)
    problems: list[str] = []
    picks = _read(question.picks, problems, progress)
    threshold = question.threshold
    if threshold is None and isinstance(run.get("threshold"), int | float):
        threshold = float(run["threshold"])  # type: ignore[arg-type]
    lowest = -np.inf if threshold is None else threshold
    paths = _paths(question, picks, listed)
    return Findings(
        question=question,
        picks=picks,
        threshold=threshold,
        counts=np.array([int((particles.score >= lowest).sum()) for particles in picks.values()], int),
        paths=paths,
        seconds=np.array([_written(paths.get(name)) for name in picks]),
        accuracy=None if question.labels is None else _compared(question, picks, listed, lowest, progress),
        run=run,
        knobs=knobs,
        problems=problems,
    )


def diameter_px(findings: Findings, name: str, pixel_size_A: float | None) -> float | None:
    """Return the particles' diameter in one micrograph, raw pixels; None if nobody says it."""
    lengths = [findings.question.diameter, _median([findings.picks[name]])]
    labels = findings.accuracy.labels if findings.accuracy else {}
    lengths += [_median([labels[name]])] if name in labels else []
    with contextlib.suppress(KeyError, ConfigError):
        lengths.append(parse_length(str(findings.run["diameter"])))
    lengths += [_median([*findings.picks.values()])] if lengths == [None] * len(lengths) else []
    for length in lengths:
        if length is not None and (length.unit == "px" or pixel_size_A):
            return length.to_px(pixel_size_A)
    return None


def outlying(counts: np.ndarray) -> np.ndarray:
    """Tell, as an `(n,)` bool, which counts are far from the others."""
    if len(counts) < FEWEST:
        return np.zeros(len(counts), bool)
    away = np.abs(counts - np.median(counts))
    # Counts scatter by their root at least, also where more than half are the same.
    spread = max(_MAD * float(np.median(away)), float(np.sqrt(max(np.median(counts), 1))))
    return away > FAR * spread


def _median(particles: Sequence[Particles]) -> Length | None:
    """Return the median of the diameters that particles carry, in raw pixels; None if they carry none."""
    known = np.concatenate([one.diameter_px for one in particles])
    known = known[np.isfinite(known)]
    return Length(float(np.median(known)), "px") if len(known) else None


def _read(picks: Path, problems: list[str], progress: Progress) -> dict[str, Particles]:
    """Return the picks of all micrographs by name."""
    if picks.is_file():
        found = {stem(each.micrograph): each.particles for each in coordinates.read_all(picks)}
        if not found:
            raise InputError(picks, "it holds no picks", "Give the folder or file that upicker pick wrote")
        return found
    files = coordinates.stems(picks)
    read: dict[str, Particles] = {}
    first: UPickerError | None = None
    for number, (name, file) in enumerate(files.items()):
        progress("reading picks", number, len(files))
        try:
            read[name] = coordinates.read(file)
        except UPickerError as error:
            problems.append(str(error))
            first = first or error
    if first is not None and not read:
        raise first
    if not read:
        known = ", ".join(coordinates.FORMATS)
        raise InputError(picks, "holds no coordinate files", f"Give a folder with one for each micrograph ({known})")
    return read


def _record(picks: Path) -> tuple[dict[str, object], dict[str, object], list[Path]]:
    """Return what ``run.toml`` beside the picks says: of the run, of knobs that were changed, of micrographs."""
    try:
        tables = tomllib.loads(((picks if picks.is_dir() else picks.parent) / NAME).read_text(encoding="utf-8"))
        run = dict(tables.pop("run", {}))
        entries = run.pop("micrographs", [])
        paths = [Path(str(entry["path"])) for entry in entries if isinstance(entry, Mapping) and "path" in entry]
        default = flatten(Config().to_tables(), NAME)
        given = flatten(tables, NAME)
    except (OSError, ValueError, TypeError, UPickerError):
        return {}, {}, []
    knobs = {key: value for key, value in given.items() if _plain(value) != _plain(default.get(key))}
    return run, knobs, paths


def _plain(value: object) -> object:
    """Bring a knob to the form that it has in TOML."""
    return list(value) if isinstance(value, tuple) else "none" if value is None else value


def _paths(question: Question, picks: Mapping[str, Particles], listed: Sequence[Path]) -> dict[str, Path]:
    """Find the micrographs of the picks."""
    candidates = list(dict.fromkeys(question.micrographs or (path for path in listed if path.is_file())))
    if not candidates:
        return {}
    matches = match(list(picks), candidates)
    matches.refuse_ambiguous(question.picks)
    if question.micrographs and not matches.pairs:
        example = f"picks are of e.g. '{next(iter(picks))}', the micrographs are e.g. '{candidates[0].name}'"
        remedy = "Picks are named after the micrograph: mic001.mrc -> mic001.csv"
        raise InputError("--micrographs", f"none of them belongs to the picks: {example}", remedy)
    return matches.pairs


def _written(path: Path | None) -> float:
    try:
        return float("nan") if path is None else path.stat().st_mtime
    except OSError:
        return float("nan")


def _compared(
    question: Question, picks: Mapping[str, Particles], listed: Sequence[Path], lowest: float, progress: Progress
) -> Accuracy:
    """Compare with labels, as ``upicker evaluate`` does, but only of the micrographs that the picks are of.

    These are those with picks, and those that were looked at without a find: `listed` by ``run.toml`` or by the user.
    """
    assert question.labels is not None
    files = coordinates.stems(question.labels)
    progress("comparing with labels", 0, max(len(files), 1))
    matches = match(list(files), list(picks))
    matches.refuse_ambiguous(question.labels)
    if not matches.pairs:
        example = f"labels are of e.g. '{next(iter(files))}'" if files else "no coordinates file is there"
        remedy = f"Files belong together by the micrograph's name; picks are of e.g. '{next(iter(picks))}'"
        raise InputError(question.labels, f"no labels there belong to the picks: {example}", remedy)
    theirs, nothing = matches.pairs, Particles.of([])
    looked_at = match(list(files), list(dict.fromkeys([*question.micrographs, *listed]))).pairs
    empty = [name for name in matches.unmatched_names if name in looked_at]
    pairs = {
        name: (picks[theirs[name]] if name in theirs else nothing, coordinates.read(file))
        for name, file in files.items()
        if name in theirs or name in looked_at
    }
    comparison = Comparison(pairs, empty, matches.unmatched_candidates)
    side_px = None
    if question.diameter is not None:
        side_px = question.diameter.to_px(question.reading.pixel_size_A, "--diameter")
    each, pooled = compare.scores(comparison, side_px, question.by, lowest)
    notes = []
    if comparison.unpicked:
        notes.append(f"Labelled micrographs without a pick, whose labels count as missed: {len(comparison.unpicked)}.")
    if others := len(files) - len(pairs):
        notes.append(f"Labelled micrographs that these picks are not of, and that are left out: {others}.")
    if comparison.unlabelled:
        notes.append(f"Micrographs without labels, which count for nothing here: {len(comparison.unlabelled)}.")
    return Accuracy(
        pooled=pooled,
        each=each,
        names={picked: name for name, picked in theirs.items()},
        curve=scoring.curve(list(pairs.values()), side_px, question.by),
        labels={picked: pairs[name][1] for name, picked in theirs.items()},
        side_px=side_px,
        notes=tuple(notes),
    )
