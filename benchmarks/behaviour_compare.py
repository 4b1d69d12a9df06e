"""Compares two records of `behaviour_record.py` and prints a table; see `behaviour.py`."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import behaviour_files as files
import behaviour_weights as weights
import numpy as np
from behaviour_files import Difference, Names
from behaviour_intended import whole

SAME, INTENDED, DIFFERS = "same", "intended", "DIFFERS"
LEFT_OUT = "it is not written any more"
_NOTES = 3  # of one file


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    what: str
    verdict: str
    largest: float | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        largest = "" if self.largest is None else f"{self.largest:.3g}"
        rest = "".join(f"\n    {note}" for note in self.notes)
        return f"{self.what:<72} {self.verdict:<9} {largest:>9}{rest}"


def compare(before: Path, after: Path, by_hand: dict) -> int:
    """Print how two records differ; return 1 if anything does that was not intended.

    Parameters
    ----------
    before, after : Path
        The records.
    by_hand : dict
        Tables ``tensors`` and ``knobs``: names before -> names after.
    """
    about = [json.loads((folder / "record.json").read_text()) for folder in (before, after)]
    tensors = weights.all_names(before, after, by_hand.get("tensors", {}))
    names = Names(tensors, by_hand.get("knobs", {}))
    old, new = (one["exit_codes"] for one in about)
    if about[1].get("quick"):
        print("the second record is a quick one: what it has left out is not compared\n")
        old = {step: code for step, code in old.items() if step in new}
    lines = [
        *_commands(before, after, old, new),
        *_networks(before, after, by_hand.get("tensors", {})),
        *_exact(before / "exact", after / "exact"),
        *_files(before / "files", after / "files", names),
    ]
    if about[1].get("quick"):
        lines = [line for line in lines if not (line.what.startswith("training/") and LEFT_OUT in line.notes)]
    print(f"before: {about[0]['commit']}, after: {about[1]['commit']}\n")
    print(f"{'what':<72} {'verdict':<9} {'largest':>9}\n{'-' * 92}")
    for line in lines:
        print(line)
    wrong = sum(line.verdict == DIFFERS for line in lines)
    print(f"\n{wrong} of {len(lines)} lines differ" if wrong else "\nnothing differs that was not intended")
    return 1 if wrong else 0


def _line(what: str, found: Difference) -> Line:
    """Turn what a comparison found into a line."""
    reason = whole(what)
    if not found.notes:
        return Line(what, INTENDED if found.reasons else SAME, found.largest, tuple(found.reasons))
    if reason is not None:
        return Line(what, INTENDED, found.largest, (reason,))
    more = [f"... and {len(found.notes) - _NOTES} more"] if len(found.notes) > _NOTES else []
    return Line(what, DIFFERS, found.largest, (*found.notes[:_NOTES], *more))


def _commands(before: Path, after: Path, old: dict[str, int], new: dict[str, int]) -> list[Line]:
    """All commands of before are there, their help runs, and all steps end with the same exit code."""
    helps = [{path.stem: path.read_text() for path in (folder / "help").glob("*.txt")} for folder in (before, after)]
    found = Difference([f"there is no command {name} any more" for name in sorted(helps[0].keys() - helps[1].keys())])
    for name, text in helps[1].items():
        if not text.strip() or new[f"help of {name}"]:
            found.notes.append(f"the help of {name} does not run")
    added = ", ".join(sorted(helps[1].keys() - helps[0].keys()))
    codes = Difference([f"{step}: {old[step]} became {new.get(step)}" for step in old if old[step] != new.get(step)])
    return [
        _line(f"help of {len(helps[1])} commands" + (f", new: {added}" if added else ""), found),
        _line(f"exit codes of {len(old)} commands", codes),
    ]


def _networks(before: Path, after: Path, by_hand: dict[str, str]) -> list[Line]:
    """Parameters come in the same order, with the same shapes and, for the same seed, the same values."""
    old, new = weights.recorded(before), weights.recorded(after)
    lines = []
    for network in old:
        was, has = old[network], new.get(network, [])
        order = Difference() if weights.in_order(was, has) else Difference(["other tensors, or in another order"])
        lines.append(_line(f"network {network}: order and shapes of {len(was)} tensors", order))
        names, digests = weights.matched(was, has, by_hand), {one.name: one.digest for one in has}
        values = Difference(
            [f"{one.name} starts otherwise" for one in was if digests.get(names.get(one.name, "")) != one.digest]
        )
        lines.append(_line(f"network {network}: initial values", values))
        renamed = sum(one != other for one, other in names.items())
        lines.append(Line(f"network {network}: {renamed} of {len(was)} tensors have another name", SAME))
    return lines


def _exact(before: Path, after: Path) -> list[Line]:
    """Picks from Python: coordinates, diameters and scores with all digits."""
    lines = []
    for path in sorted(before.glob("*.npy")):
        found, old = Difference(), np.load(path)
        new = np.load(after / path.name) if (after / path.name).is_file() else np.zeros((0, 4))
        if old.shape != new.shape:
            found.notes.append(f"{len(old)} picks became {len(new)}")
        elif len(old):
            found.saw(np.abs(old - new).max())
            if not np.array_equal(old, new):
                found.notes.append(f"{(old != new).any(1).sum()} of {len(old)} picks differ")
        lines.append(_line(f"exact picks {path.stem} ({len(old)})", found))
    return lines


def _files(before: Path, after: Path, names: Names) -> list[Line]:
    """All files: those that are the same are counted by folder, all others have a line."""
    listed = [
        {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if _counts(path, folder)}
        for folder in (before, after)
    ]
    same: dict[str, list[Line]] = defaultdict(list)
    others: list[Line] = []
    for what in sorted({**listed[0], **listed[1]}):
        if what not in listed[1]:
            line = _line(what, Difference([LEFT_OUT]))
        elif what not in listed[0]:
            line = _line(what, Difference(["it was not written before"]))
        else:
            line = _line(what, files.compare(what, listed[0][what], listed[1][what], names))
        if line.verdict == SAME and not what.startswith("training/"):
            same["/".join(what.split("/")[:-1][:2]) or "."].append(line)
        else:
            others.append(line)
    grouped = [Line(f"{folder}/: {len(some)} files", SAME, _largest(some)) for folder, some in same.items()]
    return [*grouped, *_together(others)]


def _counts(path: Path, folder: Path) -> bool:
    """Tell whether a file was written by a step; links lead to what is counted elsewhere, or is an input."""
    inside = path.relative_to(folder)
    return path.is_file() and not any((folder / part).is_symlink() for part in [inside, *inside.parents])


def _largest(lines: list[Line]) -> float | None:
    return max((line.largest for line in lines if line.largest is not None), default=None)


def _together(lines: list[Line]) -> list[Line]:
    """Make one line of all files of a folder that differ for the same intended reasons."""
    groups: dict[tuple, list[Line]] = defaultdict(list)
    for i, line in enumerate(lines):
        folder, _, name = line.what.rpartition("/")
        key = (folder, name.rpartition(".")[2], line.notes) if line.verdict == INTENDED else (i,)
        groups[key].append(line)
    return [
        some[0]
        if len(some) == 1
        else Line(f"{key[0]}/*.{key[1]}: {len(some)} files", INTENDED, _largest(some), some[0].notes)
        for key, some in groups.items()
    ]
