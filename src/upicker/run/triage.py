"""Triage of many micrographs: which are usable, in a table that a later run goes on with."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TypeVar

from upicker.errors import InputError
from upicker.image.texture import Texture, texture
from upicker.io import delimited
from upicker.io.micrographs import Reading
from upicker.io.names import plain
from upicker.particles import Micrograph
from upicker.pick.picker import Picker
from upicker.pick.triage import KINDS, Signs, Verdict, seen, verdict
from upicker.run.batch import Outcome, Workers, each
from upicker.run.pick import at_workers, readers, sharing_cores

T = TypeVar("T")
# How the name of a table ends.
ENDING = "_triage.csv"
# The table is rewritten at most so often that it takes a twentieth of the time.
_WRITING = 20
_VERDICT = ("micrograph", "class", "score", "reason")
_TEXTURE = tuple(one.name for one in fields(Texture))
COLUMNS = (*_VERDICT, "excess", "opposite", "diameter_px", "side_px", "pixel_size_A", *_TEXTURE, "weights")


@dataclass(frozen=True)
class Triaged:
    """What was measured of one micrograph.

    Attributes
    ----------
    path : Path
        Its file.
    signs : Signs
        What was measured.
    pixel_size_A : float or None
        Angstrom per pixel.
    weights : str
        Which weights measured it.
    """

    path: Path
    signs: Signs
    pixel_size_A: float | None
    weights: str

    def verdict(self, least_score: float) -> Verdict:
        """Return what it is, see `upicker.pick.triage.verdict`."""
        return verdict(self.signs, least_score)


@dataclass(frozen=True, eq=False)
class Looked:
    """A micrograph that was read and looked at from afar."""

    micrograph: Micrograph
    texture: Texture


@dataclass(frozen=True)
class Triaging:
    """The work on one micrograph; picklable, for several processes, and in two steps.

    Attributes
    ----------
    picker : Picker
        Weights for particles of any size, with one view.
    reading : Reading
        Pixel sizes that override those of the files, and the gain reference.
    readers : int
        How many threads read and look at micrographs ahead, see `upicker.run.ahead`.
    """

    picker: Picker
    reading: Reading = field(default_factory=Reading)
    readers: int = 0

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs that processes divide."""
        return self.picker.gpus

    @property
    def weights(self) -> str:
        """What tells the weights from others: the name and hash of a shipped model, else the file."""
        about = self.picker.general
        return f"{about['name']} {about.get('sha256', '')[:12]}".strip() if "name" in about else str(self.picker.path)

    def for_processes(self, jobs: int) -> Triaging:
        """Return it for each of `jobs` processes, which share the cores."""
        return replace(self, picker=sharing_cores(self.picker, jobs), readers=readers(self.picker, jobs))

    def elsewhere(self, workers: Workers) -> Triaging:
        """Return it for workers elsewhere."""
        return replace(self, picker=at_workers(self.picker, workers), readers=0)

    def __call__(self, path: Path) -> Triaged:
        """Measure one micrograph.

        Raises
        ------
        UPickerError
            If it cannot be read, or is none.
        """
        return self.finish(self.load(path))

    def load(self, path: Path) -> Looked:
        """Do the first step, for which no network is needed."""
        micrograph = self.reading.read(path)
        return Looked(micrograph, texture(micrograph, self.picker.config.image))

    def finish(self, looked: Looked) -> Triaged:
        """Do the second step: show it to the network."""
        micrograph = looked.micrograph
        assert micrograph.path is not None, "it was read from a file"
        signs = seen(self.picker, micrograph, looked.texture)
        return Triaged(micrograph.path, signs, micrograph.pixel_size_A, self.weights)


def triage_all(
    paths: Sequence[Path],
    work: Triaging,
    table: Path,
    least_score: float,
    jobs: int | Workers = 1,
    again: bool = True,
) -> Generator[Outcome[Triaged], None, None]:
    """Measure many micrographs, and keep the table up to date.

    Parameters
    ----------
    paths : sequence of Path
        All micrographs, in the order of the table.
    work : Triaging
        The work on each.
    table : Path
        The CSV file; micrographs that are not in `paths` are left out.
    least_score : float
        The lowest score of a usable one.
    jobs : int or Workers
        Processes, which share the cores, see `upicker.run.pick.processes`; or processes elsewhere.
    again : bool
        Whether to measure those again that are in the table already.

    Yields
    ------
    Outcome
        One for each that is measured, see `upicker.run.batch.each`.

    Raises
    ------
    OutputError
        If the table cannot be written.
    InputError
        If there is one to go on with that cannot be read.
    """
    found = {} if again else done(table, paths, work.weights)
    write(table, _ordered(found, paths), least_score)  # Better fail now than after the first micrograph.
    todo = [path for path in paths if path not in found]
    due = 0.0
    if isinstance(jobs, int):
        jobs = max(1, min(jobs, len(todo)))
    work = work.for_processes(jobs) if isinstance(jobs, int) else work.elsewhere(jobs)
    try:
        for outcome in each(todo, work, jobs):
            if outcome.value is not None:
                found[outcome.path] = outcome.value
            if time.monotonic() >= due:
                begun = time.monotonic()
                write(table, _ordered(found, paths), least_score)
                due = time.monotonic() + _WRITING * (time.monotonic() - begun)
            yield outcome
    finally:
        write(table, _ordered(found, paths), least_score)


def done(table: Path, paths: Sequence[Path], weights: str) -> dict[Path, Triaged]:
    """Return what a table says of some micrographs, measured with the same weights; empty without a table.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    if not table.exists():
        return {}
    known = {one.path: one for one in read(table) if one.weights == weights}
    return {path: known[path] for path in paths if path in known}


def _ordered(found: Mapping[Path, Triaged], paths: Sequence[Path]) -> list[Triaged]:
    return [found[path] for path in paths if path in found]


def write(path: Path, found: Sequence[Triaged], least_score: float) -> None:
    """Write a table of all micrographs, in `COLUMNS`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    delimited.write(path, COLUMNS, [_cells(one, least_score) for one in found])


def _cells(one: Triaged, least_score: float) -> tuple[object, ...]:
    said, signs = one.verdict(least_score), one.signs
    numbers = [signs.excess, signs.opposite, signs.diameter_px, signs.side_px, one.pixel_size_A or math.nan]
    numbers += asdict(signs.texture).values()
    words = ["" if math.isnan(number) else f"{number:.5g}" for number in numbers]
    return (one.path, said.kind, f"{said.score:.3f}", said.reason, *words, one.weights)


def read(path: Path) -> list[Triaged]:
    """Read a table of micrographs.

    Raises
    ------
    InputError
        If it cannot be read, or is none of `write`.
    """
    return _read(path, _row)


def verdicts(path: Path) -> dict[str, Verdict]:
    """Read what a table says of each micrograph, by name, as it was decided when the table was written.

    Raises
    ------
    InputError
        If it cannot be read, or is none of `write`.
    """
    return dict(_read(path, _verdict))


def _read(path: Path, of: Callable[[Mapping[str, str]], T]) -> list[T]:
    """Return what its rows say; raises as `read`."""
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return [of(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        found = f"it is not a table of upicker triage ({type(error).__name__}: {error})"
        raise InputError(path, found, "Write it anew with upicker triage") from error


def _verdict(row: Mapping[str, str]) -> tuple[str, Verdict]:
    kind = KINDS[KINDS.index(row["class"])]  # type: ignore[arg-type]
    return plain(row["micrograph"]), Verdict(kind, float(row["score"]), row["reason"])


def beside(picks: Path) -> Path | None:
    """Return the table that lies beside a folder or file of picks, ``NAME_triage.csv``; None unless there is one."""
    found = sorted(picks.resolve().parent.glob(f"*{ENDING}"))
    return found[0] if len(found) == 1 else None


def _row(row: Mapping[str, str]) -> Triaged:
    def number(name: str) -> float:
        return float(row[name]) if row[name] else math.nan

    size = number("pixel_size_A")
    looks = Texture(**{name: number(name) for name in _TEXTURE})
    signs = Signs(number("excess"), number("diameter_px"), int(row["side_px"]), looks, number("opposite"))
    return Triaged(Path(row["micrograph"]), signs, None if math.isnan(size) else size, row["weights"])
