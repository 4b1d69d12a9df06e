"""Picking of many micrographs with given weights: read, pick, write."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from upicker.io.micrographs import Reading
from upicker.pick.picker import Picker, device_of
from upicker.run.batch import Outcome, each
from upicker.run.outputs import Outputs
from upicker.run.record import Entry, recorded
from upicker.units import Length

# A process takes seconds to start: it shall have so many micrographs to pick.
FEWEST_FILES = 4
# What a process may need, for the largest pictures; measured is less (benchmarks/RESULTS.md).
PROCESS_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Picking:
    """The work on one micrograph; picklable, for several processes.

    Attributes
    ----------
    picker : Picker
        The weights at work.
    outputs : Outputs
        Where the picks go.
    diameter : Length or None
        The particles' diameter; None takes the one stored with the weights.
    reading : Reading
        Pixel sizes that override what the files say, and the gain reference.
    """

    picker: Picker
    outputs: Outputs
    diameter: Length | None = None
    reading: Reading = field(default_factory=Reading)

    def __call__(self, path: Path) -> Entry:
        """Pick the particles of one micrograph, and write them.

        Raises
        ------
        UPickerError
            If it cannot be read, or the diameter does not fit.
        OutputError
            If the output cannot be written.
        """
        micrograph = self.reading.read(path)
        diameter = self.diameter or self.picker.diameter
        diameter_px = diameter.to_px(micrograph.pixel_size_A, str(path))
        return self.outputs.write(micrograph, self.picker.pick(micrograph, diameter_px), diameter_px)


def pick_all(paths: Sequence[Path], work: Picking, model: Path, jobs: int = 1) -> Generator[Outcome[Entry], None, None]:
    """Pick many micrographs; ``run.toml`` is written beside the picks.

    Parameters
    ----------
    paths : sequence of Path
        The micrographs, each with a stem of its own, as `upicker.io.micrographs.find` returns them.
    work : Picking
        What to do with each.
    model : Path
        The weights, named in ``run.toml``.
    jobs : int
        Processes, which share the cores; see `processes`.

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
    about = {
        "model": str(model),
        "diameter": str(work.diameter or work.picker.diameter),
        "threshold": work.picker.threshold,
        **work.reading.about(),
    }
    here, jobs = work, min(jobs, len(paths))
    if jobs > 1 and not work.picker.config.train.threads:
        here = replace(work, picker=work.picker.with_threads(max(1, cores() // jobs)))
    outcomes = each(paths, here, jobs)
    yield from recorded(outcomes, work.outputs.folder, "pick", work.picker.config, about)


def processes(files: int, picker: Picker) -> int:
    """Return how many processes pick so many files fastest.

    On CPUs one a core, as the memory allows: two micrographs at once on a core each take less time than one after
    the other on both, because reading, preparing and merging keep one core only. A GPU computes for one process, as
    it may be reserved to one.
    """
    if device_of(picker.config).type != "cpu":
        return 1
    return max(1, min(cores(), files // FEWEST_FILES, _memory() // PROCESS_BYTES))


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # On Linux a scheduler may have given us some of the machine's.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int:
    """Return the machine's memory in bytes; where it cannot be asked, that of a laptop."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30
