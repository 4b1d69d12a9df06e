"""Reading picks and labels for the page: any folder or file, brought together with the micrographs by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from upicker.errors import CoordinatesError, InputError, UPickerError
from upicker.io import coordinates
from upicker.io.coverage import read_coverage
from upicker.io.pairing import pair, pair_folder
from upicker.io.picks import Picks
from upicker.particles import Particles
from upicker.run import record
from upicker.run.record import Record

T = TypeVar("T")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Origin:
    """How picks were made, as far as ``run.toml`` beside them says.

    Attributes
    ----------
    command : str or None
        ``pick``, ``propose`` ...
    picked_at : float or None
        There are no picks with a lower score than this.
    stored : float or None
        The threshold to begin with: the one stored with the weights, else the one picked at.
    note : str
        What a person should know of it, perhaps nothing.
    """

    command: str | None = None
    picked_at: float | None = None
    stored: float | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Read(Generic[T]):
    """What was read for the micrographs.

    Attributes
    ----------
    values : list
        One per micrograph, None where there is nothing for it.
    problems : list of str
        Files that could not be read, in words.
    strangers : int
        How many names there were that belong to no micrograph.
    """

    values: list[T | None]
    problems: list[str] = field(default_factory=list)
    strangers: int = 0


def origin(picks: Path) -> Origin:
    """Read ``run.toml`` beside picks; what is not there or cannot be read is not known."""
    found = record.read(picks)
    command, at = found.command, found.threshold
    most = str(found.knobs.get("propose.top_k"))
    if command == "propose" and (most == "auto" or most.isdigit()):
        count = (
            "As many as each micrograph's density suggests" if most == "auto" else f"At most {most} of each micrograph"
        )
        return Origin(command, note=f"{count}; propose with --set propose.top_k=all for more")
    if at is None:
        return Origin(command)
    again = "pick again" if command == "pick" else "export again"
    note = f"Picked at {at:.3g}; {again} with --threshold {_lower(at):g} to go lower" if at > 0 else ""
    return Origin(command, at, _stored(found, at), note)


def _lower(threshold: float) -> float:
    """Return a round threshold well below another one."""
    return 0.05 if threshold > 0.1 else float(f"{threshold / 4:.1g}")


def _stored(found: Record, picked_at: float) -> float:
    """Return the threshold of the weights where another one was given for picking, else that of picking."""
    if found.knobs.get("pick.threshold") in (None, "none") or found.model is None:
        return picked_at
    from upicker.model.weights import read_header  # torch takes a second

    try:
        stored = read_header(found.model).threshold
    except UPickerError:
        return picked_at
    return picked_at if stored is None else float(stored)


def read_picks(picks: Path, names: Sequence[str], progress: Progress) -> Read[Picks]:
    """Read the picks of micrographs.

    Parameters
    ----------
    picks : Path
        A folder of files named after the micrographs, one of RELION's picking jobs, or a file of many micrographs.
    names : sequence of str
        The micrographs' names.
    progress : callable
        Told how many files of how many are done.

    Raises
    ------
    InputError
        If nothing belongs to one of the micrographs, names do not tell which, or there is no such thing.
    CoordinatesError
        If the only file cannot be read.
    """
    if not picks.is_dir():
        return _gathered(picks, [picks], names, progress)
    lists = coordinates.lists(picks)
    if lists:
        return _gathered(picks, lists[:1], names, progress)
    found = _by_file(picks, names, _only, progress)
    if found is not None:
        return found
    files = [*coordinates.collections(picks), *coordinates.stems(picks).values()]
    if not files:
        raise InputError(picks, "holds no coordinates files", "Give the folder that upicker pick wrote, or a file")
    return _gathered(picks, files, names, progress)


def read_labels(labels: Path, names: Sequence[str], progress: Progress) -> Read[Particles]:
    """Read a folder of labels; arguments and errors as those of `read_picks`."""
    if not labels.is_dir():
        raise InputError(labels, "there is no such folder", "Give the folder of label files")
    found = _by_file(labels, names, coordinates.read, progress)
    if found is None:
        problem = f"{labels}: none of its files is named after one of the micrographs. "
        return Read([None] * len(names), [problem])
    partial = _partial(labels)
    if partial:
        found.problems.append(f"{labels}: {partial} label files are partial, so precision is higher than it looks")
    return found


def _partial(labels: Path) -> int:
    """Count the label files that leave particles out, as ``coverage.csv`` says."""
    try:
        coverage = read_coverage(labels, False)
    except UPickerError:
        return 0
    return sum(one.partial for one in coverage.values())


def _only(path: Path) -> Picks:
    """Read the picks of one micrograph from a file named after it."""
    found = coordinates.read_all(path)
    if len(found) > 1:
        raise CoordinatesError(path, f"it holds the picks of {len(found)} micrographs", "Give this file itself")
    return found[0] if found else Picks(path.stem, Particles.of([]))


def _by_file(folder: Path, names: Sequence[str], read: Callable[[Path], T], progress: Progress) -> Read[T] | None:
    """Read the files named after micrographs; None if there are none."""
    pairing = pair_folder(names, folder, required=False)
    if not pairing.pairs:
        return None
    result: Read[T] = Read([None] * len(names), strangers=len(pairing.unmatched_files))
    at = {name: number for number, name in enumerate(names)}
    for done, (name, file) in enumerate(pairing.pairs.items()):
        progress(done, len(pairing.pairs))
        try:
            result.values[at[name]] = read(file)
        except UPickerError as error:
            result.problems.append(str(error))
    return result


def _gathered(where: Path, files: Sequence[Path], names: Sequence[str], progress: Progress) -> Read[Picks]:
    """Read files that hold many micrographs' picks, and look the micrographs up by the names in them."""
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
    return Read([pairing.pairs.get(name) for name in names], problems, len(pairing.unmatched_files))


def side_px(labels: Particles, own_px: float | None, picks: Particles | None) -> float | None:
    """Return the side for `upicker.scoring.match`; None leaves it to the labels' own diameters.

    Parameters
    ----------
    labels, picks : Particles
        Of one micrograph.
    own_px : float or None
        The diameter that the user gave, raw pixels; it beats what files say.

    Raises
    ------
    ConfigError
        By `match` itself, later, if nothing is known.
    """
    if own_px is not None or np.isfinite(labels.diameter_px).all() or picks is None:
        return own_px
    known = picks.diameter_px[np.isfinite(picks.diameter_px)]
    return float(np.median(known)) if len(known) else None
