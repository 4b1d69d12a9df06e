"""Picking of a micrograph with given weights: read, pick, write."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from upicker.config import Config
from upicker.io.micrographs import Reading
from upicker.pick.picker import Picker
from upicker.run.ahead import Ready
from upicker.run.batch import Workers
from upicker.run.decoys import Choice
from upicker.run.entries import Entry
from upicker.run.machine import PROCESS_BYTES, cores, memory_bytes
from upicker.run.outputs import Destination
from upicker.units import Length

# A process takes seconds to start: it is of use for at least this many micrographs, on a CPU and on a GPU.
MIN_FILES, GPU_MIN_FILES = 4, 16
# The same for each thread that reads and prepares ahead, beyond the first.
READER_BYTES = 2**30
# As many threads keep a GPU busy; more compete for Python's lock.
MOST_READERS = 4


@dataclass(frozen=True)
class Picking:
    """The work on one micrograph; picklable, for several processes.

    Attributes
    ----------
    picker : Picker
        The weights, loaded.
    outputs : Destination
        Where the picks go.
    diameter : Length or None
        The particles' diameter; None takes the one stored with the weights.
    reading : Reading
        Pixel sizes that override those in the files, and the gain reference.
    command : str
        The command's name, for ``run.toml``.
    readers : int
        How many threads read and prepare micrographs ahead, see `upicker.run.ahead`.
    choice : Choice or None
        What the threshold was chosen by, if not the weights or the config; see `choosing`.
    """

    picker: Picker
    outputs: Destination
    diameter: Length | None = None
    reading: Reading = field(default_factory=Reading)
    command: str = "pick"
    readers: int = 0
    choice: Choice | None = None

    @property
    def config(self) -> Config:
        """All knobs: those stored with the weights, with the user's changes."""
        return self.picker.config

    @property
    def rooms(self) -> tuple[str, ...]:
        """The rooms of knobs that picks depend on, beside the model."""
        return "image", "pick"

    def diameter_px(self, path: Path, pixel_size_A: float | None) -> float:
        """Return the particle diameter in a micrograph, raw pixels; raises ConfigError without a pixel size."""
        return self.picker.diameter_or(self.diameter).to_px(pixel_size_A, str(path))

    @cached_property
    def _sha256(self) -> str | None:
        return _sha256(self.picker.path)

    def about(self) -> dict[str, object]:
        """Return more for ``run.toml``."""
        return {
            "model": str(self.picker.path),
            "model_sha256": self._sha256,
            **{f"general_{key}": value for key, value in self.picker.general.items()},
            "diameter": str(self.picker.diameter_or(self.diameter)),
            "relative_size": self.picker.relative_size if self.picker.relative_size != 1 else None,
            "threshold": self.picker.threshold,
            **(self.choice.about() if self.choice else {}),
            **self.reading.about(),
        }

    def choosing(self, choice: Choice) -> Picking:
        """Return it with a chosen threshold, which the picker takes, too."""
        self.picker.threshold = choice.threshold
        return replace(self, choice=choice)

    def settled(self, knobs: Mapping[str, object]) -> Picking:
        """Return it with the precision that an earlier run determined for all of its processes."""
        earlier = knobs.get("train.bfloat16")
        if not isinstance(earlier, bool) or self.config.train.bfloat16 is not None:
            return self
        return replace(self, picker=self.picker.changed({"train.bfloat16": earlier}))

    def adapted(self, paths: Sequence[Path]) -> Picking:
        """Return it unchanged: weights are ready for any micrograph."""
        return self

    def for_processes(self, jobs: int) -> Picking:
        """Return it for each of `jobs` processes, which share the cores."""
        return replace(self, picker=sharing_cores(self.picker, jobs), readers=readers(self.picker, jobs))

    def elsewhere(self, workers: Workers) -> Picking:
        """Return it for processes elsewhere: threads, precision and tiles together are those of the record."""
        return replace(self, picker=at_workers(self.picker, workers), readers=0)

    def recorded(self) -> Picking:
        """Return it with the precision of this machine in its config, as processors differ, and so would scores."""
        if self.config.train.bfloat16 is not None:
            return self
        return replace(self, picker=self.picker.changed({"train.bfloat16": self.picker.bfloat16}))

    @property
    def gpus(self) -> tuple[str, ...]:
        """The GPUs that processes divide."""
        return self.picker.gpus

    def __call__(self, path: Path) -> Entry:
        """Pick the particles of one micrograph, and write them.

        Raises
        ------
        UPickerError
            If it cannot be read, or the diameter does not fit.
        OutputError
            If the output cannot be written.
        """
        return self.finish(self.load(path))

    def load(self, path: Path) -> Ready:
        """Do the first step, for which no network is needed: read a micrograph, and prepare it."""
        micrograph = self.reading.by_rows(path)
        diameter_px = self.diameter_px(path, micrograph.pixel_size_A)
        prepared = self.picker.prepared(micrograph, diameter_px)
        return Ready(micrograph if self.outputs.overlay else micrograph.without_pixels(), prepared)

    def finish(self, ready: Ready) -> Entry:
        """Do the second step: find its particles, and write them."""
        micrograph, prepared = ready.micrograph, ready.prepared
        where = micrograph.path or micrograph.name
        entry = self.outputs.write(micrograph, self.picker.picks(prepared, where), prepared.diameter_px)
        return replace(entry, usable=prepared.usable_share)


def _sha256(path: Path) -> str | None:
    """Return the hash of a file's content, by which weights are told from others; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def processes(files: int, picker: Picker) -> int:
    """Return the number of processes that picks `files` micrographs fastest.

    On CPUs one per core: two micrographs at the same time on one core each take less time than one after the other on
    both, because merging uses one core only. One for each GPU. Fewer where memory is short.
    """
    share = memory_bytes() // PROCESS_BYTES
    if picker.device != "cpu":
        return max(1, min(len(picker.gpus), files // GPU_MIN_FILES, share))
    return max(1, min(cores(), files // MIN_FILES, share))


def sharing_cores(picker: Picker, jobs: int) -> Picker:
    """Return a picker for each of several processes, which divide the cores and the memory.

    The config's threads, if it sets them, hold for each. Where memory is short, each takes one tile at a time.
    """
    changes: dict[str, object] = {}
    if jobs > 1 and not picker.config.train.threads:
        changes["train.threads"] = max(1, cores() // jobs)
    if memory_bytes() // max(1, jobs) < PROCESS_BYTES and picker.config.pick.batch > 1:
        changes["pick.batch"] = 1
    return picker.changed(changes) if changes else picker


def at_workers(picker: Picker, workers: Workers) -> Picker:
    """Return a picker for workers elsewhere, which all have the same threads and precision."""
    changes: dict[str, object] = {"train.threads": workers.threads}
    if picker.config.train.bfloat16 is None:
        changes["train.bfloat16"] = workers.bfloat16
    return picker.changed(changes)


def readers(picker: Picker, jobs: int) -> int:
    """Return how many threads of each of several processes read and prepare micrographs ahead.

    One costs no processor time, and hides that files come slowly. A GPU takes them faster than one thread prepares
    them. None where there is too little memory for the processes themselves.
    """
    share = memory_bytes() // max(1, jobs)
    if share < PROCESS_BYTES:
        return 0
    wanted = 1 if picker.device == "cpu" else cores() // max(1, jobs) - 1
    return max(1, min(wanted, MOST_READERS, 1 + (share - PROCESS_BYTES) // READER_BYTES))
