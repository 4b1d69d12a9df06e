"""A loop over many micrographs, as one sees it: a bar, the failures as they come, a summary."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from upicker.cli.console import note, problem, warning
from upicker.cli.progress import Plain, bar
from upicker.errors import UPickerError, UPickerWarning, listed

if TYPE_CHECKING:
    from upicker.run.batch import Outcome

# Of failures with the same reason, so many are printed in full.
ALIKE = 3


class Written(Protocol):
    """What knows which outputs are there: `upicker.run.outputs.Outputs`, for one."""

    def missing(self, micrographs: Sequence[Path], /) -> list[Path]:
        """Return those micrographs whose outputs are not all there yet."""
        ...


class Failures:
    """The micrographs that could not be done; prints each, but not the same reason over and over."""

    def __init__(self) -> None:
        self.paths: list[Path] = []
        self._reasons: Counter[str] = Counter()

    def add(self, path: Path, error: UPickerError) -> None:
        """Count one, and print it."""
        self.paths.append(path)
        reason = f"{type(error).__name__} {error.found}"
        self._reasons[reason] += 1
        if self._reasons[reason] > ALIKE:
            problem(f"Skipped {path}: for the same reason")
        else:
            problem(f"Skipped {error}" if error.where == str(path) else f"Skipped {path}: {error}")


def tell(noticed: Sequence[UPickerWarning]) -> None:
    """Print warnings, those of the same words together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in noticed:
        alike.setdefault((one.found, one.remedy), []).append(one.where)
    for (found, remedy), places in alike.items():
        where = places[0] if len(places) == 1 else f"{len(places)} micrographs, e.g. {places[0]}"
        warning(f"{where}: {found}. {remedy}.")


def follow(title: str, outcomes: Generator[Outcome, None, None], total: int, target: Path) -> int:
    """Go through a batch, and print its summary.

    Parameters
    ----------
    title : str
        What is done, e.g. ``"picked"``.
    outcomes : generator of Outcome
        Of `upicker.run`; its values count particles.
    total : int
        The number of micrographs.
    target : Path
        Where the outputs lie.

    Returns
    -------
    int
        The exit code: 0, or 3 if something failed.
    """
    batch = watch(title, outcomes, total, "particles")
    done, seconds = batch.done, batch.seconds
    each = f", {seconds / done:.1f} s each" if done else ""
    note(f"{title}: {batch.particles} particles in {done} of {total} micrographs -> {target} ({seconds:.0f} s{each})")
    return batch.exit_code()


@dataclass
class Batch:
    """How a batch went.

    Attributes
    ----------
    total : int
        Number of micrographs.
    done : int
        Those that succeeded.
    particles : int
        Particles in these.
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

    def exit_code(self) -> int:
        """Print warnings and failures; return the exit code: 0, or 3 if something failed."""
        tell(self.noticed)
        if self.failures.paths:
            failed = self.failures.paths
            warning(f"{len(failed)} of {self.total} micrographs could not be done: {listed(failed)}")
            return 3
        return 0


def watch(title: str, outcomes: Generator[Outcome, None, None], total: int, unit: str) -> Batch:
    """Go through a batch, with a progress bar.

    Parameters
    ----------
    title, outcomes, total
        As for `follow`.
    unit : str
        Name of what `outcomes` count, e.g. ``"particles"``.
    """
    batch, start, plain = Batch(total), time.monotonic(), Plain(title, total)
    with bar() as progress, closing(outcomes):
        task = progress.add_task(title, total=total, note="")
        for outcome in outcomes:
            batch.noticed += outcome.warnings
            if outcome.error is not None:
                batch.failures.add(outcome.path, outcome.error)
            elif outcome.value is not None:
                batch.done += 1
                batch.particles += outcome.value.particles
            progress.update(task, advance=1, note=f"{batch.particles} {unit}")
            plain.tell(batch.done + len(batch.failures.paths))
    batch.seconds = time.monotonic() - start
    return batch


def remaining(paths: list[Path], outputs: Written, skip_existing: bool) -> list[Path]:
    """Return the micrographs to do; says how many are left out because their outputs are there."""
    if not skip_existing:
        return paths
    left = outputs.missing(paths)
    if len(left) < len(paths):
        note(f"{len(paths) - len(left)} of {len(paths)} micrographs are done already")
    return left
