"""Finding the particles of many micrographs: what picking and proposing share."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Protocol, Self

from upicker.config import Config
from upicker.run.batch import Outcome, each
from upicker.run.outputs import Destination
from upicker.run.record import Entry, recorded


class Finding(Protocol):
    """The work on one micrograph, picklable: `upicker.run.pick.Picking` or `upicker.run.propose.Proposing`."""

    @property
    def command(self) -> str:
        """The command's name, for ``run.toml``."""
        ...

    @property
    def outputs(self) -> Destination:
        """Where particles are written."""
        ...

    @property
    def config(self) -> Config:
        """All knobs."""
        ...

    def about(self) -> dict[str, object]:
        """Return more for ``run.toml``: the model, the diameter, the pixel size ..."""
        ...

    def adapted(self, paths: Sequence[Path]) -> Self:
        """Return it with everything determined once for all micrographs; ``run.toml`` records its config."""
        ...

    def for_processes(self, jobs: int) -> Self:
        """Return it for each of `jobs` processes, which share the cores."""
        ...

    def __call__(self, path: Path, /) -> Entry:
        """Find the particles of one micrograph, and write them."""
        ...


def find_all(paths: Sequence[Path], work: Finding, jobs: int = 1) -> Generator[Outcome[Entry], None, None]:
    """Find the particles of many micrographs; ``run.toml`` is written beside them.

    Parameters
    ----------
    paths : sequence of Path
        The micrographs, of different names, as `upicker.io.micrographs.find` returns them.
    work : Finding
        The work on each.
    jobs : int
        Number of processes.

    Yields
    ------
    Outcome
        One per micrograph, see `upicker.run.batch.each`.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    work.outputs.prepare()
    work, jobs = work.adapted(paths), min(jobs, len(paths))
    outcomes = each(paths, work.for_processes(jobs), jobs)
    yield from recorded(outcomes, work.outputs.folder, work.command, work.config, work.about())
