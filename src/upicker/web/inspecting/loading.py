"""Reading picks and labels for the page: any folder or file, matched with the micrographs by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from upicker.errors import CoordinatesError, InputError, UPickerError
from upicker.io import coordinates, folders, sources
from upicker.io.labels import LabelFolder
from upicker.io.pairing import Pairing, differing, pair, pair_folder
from upicker.io.picks import Picks
from upicker.io.sources import Source, file_of
from upicker.io.stamp import Stamp, stamp
from upicker.particles import Particles
from upicker.pick.network import threshold_with
from upicker.run import record
from upicker.run.decoys import Choice
from upicker.run.drift import drifts
from upicker.run.entries import in_order
from upicker.run.record import Record

T = TypeVar("T")
F = TypeVar("F")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Origin:
    """How picks were made, according to the ``run.toml`` beside them.

    Attributes
    ----------
    command : str or None
        ``pick``, ``propose`` ...
    picked_at : float or None
        The threshold of the run: no pick has a lower score.
    stored : float or None
        The threshold to start with: the one stored with the weights, else that of the run.
    note : str
        A note for the user; may be empty.
    drifts : tuple of str
        What the last micrographs of the run differ in from those before.
    """

    command: str | None = None
    picked_at: float | None = None
    stored: float | None = None
    note: str = ""
    drifts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Read(Generic[T]):
    """Values read for the micrographs.

    Attributes
    ----------
    values : list
        One for each micrograph, None where there is none.
    problems : list of str
        Messages about files that could not be read.
    unmatched : int
        Number of names that belong to no micrograph.
    """

    values: list[T | None]
    problems: list[str] = field(default_factory=list)
    unmatched: int = 0


class Remembered(Generic[T]):
    """Reads files, each again only when it has changed.

    Parameters
    ----------
    read : callable
        Reads one.
    """

    def __init__(self, read: Callable[[Source], T]) -> None:
        self._read = read
        self._known: dict[Source, tuple[Stamp | None, T]] = {}

    def __call__(self, source: Source) -> T:
        """Return what a file holds: the same object as long as the file is as it was."""
        at, known = stamp(file_of(source)), self._known.get(source)
        if known is None or known[0] != at:
            known = self._known[source] = at, self._read(source)
        return known[1]


def origin(picks: Path) -> Origin:
    """Return how picks were made; unknown without a readable ``run.toml`` beside them."""
    found, done = record.read(picks, micrographs=False), in_order(picks)
    command, at = found.command, found.threshold
    changed = tuple(f"The run has changed lately. {drift}" for drift in drifts(done))
    most = str(found.knobs.get("propose.top_k"))
    if command == "propose" and (most == "auto" or most.isdigit()):
        count = "as many as its density suggests" if most == "auto" else f"at most {most}"
        note = f"Proposals per micrograph: {count}; propose with --set propose.top_k=all for more"
        return Origin(command, note=note, drifts=changed)
    if at is None:
        return Origin(command, drifts=changed)
    again = "pick again" if command == "pick" else "export again"
    note = f"Picked at {at:.3g}; {again} with --threshold {_lower(at):g} to go lower" if at > 0 else ""
    choice = Choice.read(found.about)
    if choice is not None and choice.micrographs:
        note += f". There, {choice.false(sum(entry.particles or 0 for entry in done))}"
    return Origin(command, at, _stored(found, at), note, changed)


def _lower(threshold: float) -> float:
    """Return a round number well below a threshold."""
    return 0.05 if threshold > 0.1 else float(f"{threshold / 4:.1g}")


def _stored(found: Record, picked_at: float) -> float:
    """Return the threshold stored with the weights if another one was given for picking, else that of picking."""
    if found.knobs.get("pick.threshold") in (None, "none") or found.model is None:
        return picked_at
    from upicker.model.weights import read_header  # torch takes a second

    views = found.knobs.get("pick.views")
    try:
        header = read_header(found.model)
    except UPickerError:
        return picked_at
    stored = threshold_with(views if isinstance(views, int) else None, header.by_views, header.threshold)
    return picked_at if stored is None else float(stored)


def read_picks(
    picks: Path, names: Sequence[str], progress: Progress, read: Callable[[Source], Picks] | None = None
) -> Read[Picks]:
    """Read the picks of micrographs.

    Parameters
    ----------
    picks : Path
        A folder of files named after the micrographs, a picking job of RELION, or a file of many micrographs.
    names : sequence of str
        The names of the micrographs.
    progress : callable
        Called with the number of files read, and of all files.
    read : callable, optional
        Reads the file of one micrograph; by default `one_micrograph`.

    Raises
    ------
    InputError
        If no picks belong to one of the micrographs, names are ambiguous, or the file does not exist.
    CoordinatesError
        If the only file cannot be read.
    """
    if not picks.is_dir():
        return _gathered(picks, [picks], names, progress)
    found = _by_file(picks, names, progress, read or one_micrograph)
    if found is not None:
        return found
    files = [*folders.collections(picks), *map(file_of, sources.by_micrograph(picks).values())]
    if not files:
        raise InputError(picks, "holds no coordinates files", "Give the folder that upicker pick wrote, or a file")
    return _gathered(picks, files, names, progress)


def read_labels(labels: LabelFolder, progress: Progress, read: Callable[[Source], Particles]) -> Read[Particles]:
    """Read the labels of all micrographs.

    Parameters
    ----------
    labels : LabelFolder
        The folder of labels.
    progress : callable
        As for `read_picks`.
    read : callable
        Reads the labels of one micrograph.
    """
    numbers = range(len(labels.micrographs))
    files = {number: file for number in numbers if (file := labels.file(number)) is not None}
    if not files:
        return Read([None] * len(numbers), [f"{labels.folder}: no file is named after one of the micrographs."])
    found = _read_each(files, len(numbers), read, progress)
    try:
        partial = labels.partial_files()
    except UPickerError:
        partial = 0
    if partial:
        problem = f"{labels.folder}: {partial} label files are partial, so the true precision is higher"
        found.problems.append(problem)
    return found


def one_micrograph(source: Source) -> Picks:
    """Read the picks of one micrograph from a file named after it."""
    path = file_of(source)
    found = coordinates.read_all(path)
    if len(found) > 1:
        raise CoordinatesError(path, f"it holds the picks of {len(found)} micrographs", "Give this file itself")
    return found[0] if found else Picks(path.stem, Particles.of([]))


def _by_file(
    folder: Path, names: Sequence[str], progress: Progress, read: Callable[[Source], Picks]
) -> Read[Picks] | None:
    """Read the files named after micrographs; None if there are none."""
    pairing = pair_folder(names, folder, required=False)
    if not pairing.pairs:
        return None
    numbers = {name: number for number, name in enumerate(names)}
    files = {numbers[name]: file for name, file in pairing.pairs.items()}
    found = _read_each(files, len(names), read, progress)
    return replace(found, problems=[*found.problems, *_told(pairing)], unmatched=len(pairing.unmatched_files))


def _read_each(files: Mapping[int, F], count: int, read: Callable[[F], T], progress: Progress) -> Read[T]:
    """Read the files of some of `count` micrographs; those that cannot be read are reported as problems."""
    result: Read[T] = Read([None] * count)
    for done, (number, file) in enumerate(files.items()):
        progress(done, len(files))
        try:
            result.values[number] = read(file)
        except UPickerError as error:
            result.problems.append(str(error))
    return result


def _gathered(where: Path, files: Sequence[Path], names: Sequence[str], progress: Progress) -> Read[Picks]:
    """Read files that hold the picks of many micrographs, and match the names in them."""
    found: dict[str, Picks] = {}
    problems: list[str] = []
    for done, file in enumerate(files):
        progress(done, len(files))
        try:
            for picks in coordinates.read_all(file):
                found.setdefault(picks.micrograph, picks)
        except UPickerError as error:
            if len(files) == 1:
                raise
            problems.append(str(error))
    pairing = pair(names, found, where, required=bool(found))
    problems += _told(pairing)
    return Read([pairing.pairs.get(name) for name in names], problems, len(pairing.unmatched_files))


def _told(pairing: Pairing[str, F]) -> list[str]:
    """Return what to say of endings of names that were seen through."""
    return [f"Picks and micrographs: {told}."] if (told := differing(pairing)) else []


def side_px(labels: Particles, own_px: float | None, picks: Particles | None) -> float | None:
    """Return the side for `upicker.scoring.match`; None uses the diameters of the labels.

    Parameters
    ----------
    labels, picks : Particles
        Of one micrograph.
    own_px : float or None
        The diameter that the user gave, raw pixels; it overrides those of the files.
    """
    if own_px is not None or np.isfinite(labels.diameter_px).all() or picks is None:
        return own_px
    return picks.median_diameter_px
