"""A batch on the terminal: a progress bar, failures as they occur, a summary."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from upicker.cli.console import is_verbose, note, problem, result, tell, warning
from upicker.cli.progress import Plain, bar
from upicker.errors import UPickerError, UPickerWarning, listed

if TYPE_CHECKING:
    from upicker.pick.picker import Picker
    from upicker.run.batch import Outcome

# This many failures of the same reason are printed in full.
ALIKE = 3


class Written(Protocol):
    """Anything that can list missing outputs, such as `upicker.run.outputs.Outputs`."""

    def missing(self, micrographs: Sequence[Path], /) -> list[Path]:
        """Return the micrographs whose outputs do not all exist yet."""
        ...


class Failures:
    """The micrographs that failed, first those of `errors`; prints each, repeated reasons only a few times."""

    def __init__(self, errors: Sequence[UPickerError] = ()) -> None:
        self.paths: list[Path] = []
        self.reasons: dict[Path, str] = {}
        self._reasons: Counter[str] = Counter()
        for error in errors:
            self.add(Path(error.where), error)

    def add(self, path: Path, error: UPickerError) -> None:
        """Count one, and print it."""
        self.paths.append(path)
        self.reasons[path] = str(error)
        reason = f"{type(error).__name__} {error.found}"
        self._reasons[reason] += 1
        if self._reasons[reason] > ALIKE:
            problem(f"Skipped {path}: for the same reason")
        else:
            problem(f"Skipped {error}" if error.where == str(path) else f"Skipped {path}: {error}")

    def withdraw(self, path: Path) -> None:
        """Take back that a micrograph failed, where it was tried again."""
        if path in self.paths:
            self.paths.remove(path)


def show_warnings(noticed: Sequence[UPickerWarning]) -> None:
    """Print warnings, equal ones together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in noticed:
        alike.setdefault((one.found, one.remedy), []).append(one.where)
    for (found, remedy), wheres in alike.items():
        where = wheres[0] if len(wheres) == 1 else f"{len(wheres)} micrographs, e.g. {wheres[0]}"
        warning(f"{where}: {found}. {remedy}.")


def warn_of_threshold(picker: Picker) -> None:
    """Say so where neither the weights nor the user give a threshold."""
    if not picker.has_threshold:
        warning(
            f"{picker.path}: no threshold is stored with these weights, as they were not validated; "
            f"{picker.threshold:g} is used. Give --threshold."
        )


def follow(title: str, outcomes: Generator[Outcome, None, None], total: int, target: Path) -> int:
    """Run a batch with a progress bar, and print its summary.

    Parameters
    ----------
    title : str
        The past participle for the summary, e.g. ``"picked"``.
    outcomes : generator of Outcome
        From `upicker.run`; their values have a number of particles.
    total : int
        The number of micrographs.
    target : Path
        The output folder or file.

    Returns
    -------
    int
        The exit code: 0, or 3 if any micrograph failed.
    """
    batch = watch(title, outcomes, total, "particles")
    done, seconds = batch.done, batch.seconds
    each = f", {seconds / done:.1f} s each" if done else ""
    note(f"{title}: {batch.particles} particles in {done} of {total} micrographs -> {target} ({seconds:.0f} s{each})")
    code = batch.exit_code()
    result({"result": title, **batch.values(), "output": target, "exit_code": code})
    return code


@dataclass
class Batch:
    """The results of a batch.

    Attributes
    ----------
    total : int
        Number of micrographs.
    done : int
        Those that succeeded.
    particles : int
        Particles in these, or whatever is counted.
    seconds : float
        Time taken.
    failures : Failures
        Those that failed.
    noticed : list of UPickerWarning
        All warnings.
    """

    total: int
    done: int = 0
    particles: int = 0
    seconds: float = 0.0
    failures: Failures = field(default_factory=Failures)
    noticed: list[UPickerWarning] = field(default_factory=list)

    def values(self) -> dict[str, object]:
        """Return it for ``--json``."""
        return {
            "micrographs": {"total": self.total, "done": self.done, "failed": len(self.failures.paths)},
            "particles": self.particles,
            "seconds": round(self.seconds, 3),
            "failures": [{"path": path, "why": self.failures.reasons[path]} for path in self.failures.paths],
            "warnings": [{"where": one.where, "what": one.found, "remedy": one.remedy} for one in self.noticed],
        }

    def exit_code(self) -> int:
        """Print warnings and failures; return the exit code: 0, or 3 if any micrograph failed."""
        show_warnings(self.noticed)
        if self.failures.paths:
            failed = self.failures.paths
            warning(f"{len(failed)} of {self.total} micrographs failed: {listed(failed)}")
            return 3
        return 0


def watch(
    title: str,
    outcomes: Generator[Outcome, None, None],
    total: int,
    unit: str,
    count: Callable[[Any], int] = lambda value: value.particles,
    failures: Failures | None = None,
) -> Batch:
    """Run a batch with a progress bar.

    Parameters
    ----------
    title, outcomes, total
        As for `follow`.
    unit : str
        What the values of `outcomes` count, e.g. ``"particles"``.
    count : callable
        Value of an outcome -> how many of them; by default its `particles`.
    failures : Failures, optional
        Those of earlier batches, to which those of this one are added.
    """
    failures = Failures() if failures is None else failures
    batch, start, plain = Batch(total, failures=failures), time.monotonic(), Plain(title, total)
    with bar() as progress, closing(outcomes):
        task = progress.add_task(title, total=total, note="")
        for number, outcome in enumerate(outcomes, 1):
            batch.noticed += outcome.warnings
            failures.withdraw(outcome.path)
            if outcome.error is not None:
                batch.failures.add(outcome.path, outcome.error)
            elif outcome.value is not None:
                batch.done += 1
                batch.particles += count(outcome.value)
                if is_verbose():
                    tell(f"{outcome.path}: {count(outcome.value)} {unit}, {outcome.seconds:.2f} s")
            progress.update(task, advance=1, note=f"{batch.particles} {unit}")
            plain.update(number)
    batch.seconds = time.monotonic() - start
    return batch


def remaining(paths: list[Path], outputs: Written, skip_existing: bool) -> list[Path]:
    """Return the micrographs to process; prints how many are skipped because their outputs exist."""
    if not skip_existing:
        return paths
    left = outputs.missing(paths)
    if len(left) < len(paths):
        note(f"{len(paths) - len(left)} of {len(paths)} micrographs already have outputs, skipped")
    return left
