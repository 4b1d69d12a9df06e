"""UPicker as an external job of RELION: its layout of files, its lists, and its exit marks.

RELION starts an external job in the project's folder, with ``--o External/job012/ --in_mics micrographs.star --j 4``
and the user's parameters. Files of certain names in the job's folder report how the job ended, and
``RELION_OUTPUT_NODES.star`` names its results. RELION empties the folder of a job that it overwrites, and leaves that
of a job that it continues as it is; it passes no option that tells the two apart.

Written are, for RELION 4 and 5, ``autopick.star``, which names each micrograph's coordinates; for RELION 3.1,
``coords_suffix_autopick.star``, from which it derives them: the micrograph's path without the job's, such as
``MotionCorr/job002/``, within this job's folder, and ``_autopick.star`` at its end. Both describe the same files.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from upicker.config import Config
from upicker.errors import InputError
from upicker.io import coordinates, micrographs, star
from upicker.io.atomic import replacing
from upicker.io.lists import Listed
from upicker.io.masks import Masks
from upicker.io.micrographs import Reading
from upicker.io.names import plain
from upicker.particles import Micrograph, Particles
from upicker.run import record
from upicker.run.batch import Outcome, Workers
from upicker.run.entries import Entry
from upicker.run.find import Finding, find_all
from upicker.run.outputs import there, writable
from upicker.run.propose import Proposing
from upicker.units import Length

if TYPE_CHECKING:
    from upicker.run.pick import Picking

COMMAND = "relion-job"
SUCCESS, FAILURE, ABORTED = "RELION_JOB_EXIT_SUCCESS", "RELION_JOB_EXIT_FAILURE", "RELION_JOB_EXIT_ABORTED"
ABORT_NOW = "RELION_JOB_ABORT_NOW"
_JOB = re.compile(r"^.*?/job\d{3,}/")
_SUFFIX = "_autopick.star"
# The type of a node of RELION's pipeline: a number until 3.1, a label since 4; 5 changed the labels.
_COORDINATES_TYPE = 2
_COORDINATES_4, _COORDINATES_5 = "MicrographsCoords.star.relion.autopick", "MicrographCoordsGroup.star.relion.autopick"


class AbortError(Exception):
    """RELION's user asked the job to stop."""


@dataclass(frozen=True)
class JobOutputs:
    """The files of a job: where the particles of its micrographs go, as `upicker.run.outputs.Destination`.

    Attributes
    ----------
    folder : Path
        The job's, ``--o``.
    files : mapping of Path to Path
        Micrograph -> its coordinates.
    """

    folder: Path
    files: Mapping[Path, Path]

    @property
    def overlay(self) -> bool:
        """False: nothing is drawn."""
        return False

    def prepare(self) -> None:
        """Make the folder, see `upicker.run.outputs.Outputs.prepare`."""
        writable(self.folder)

    def missing(self, micrographs: Sequence[Path]) -> list[Path]:
        """Return the micrographs without coordinates."""
        since = record.read(self.folder, micrographs=False).since_ns
        return [path for path in micrographs if not there(self.files[path], since)]

    def write(self, micrograph: Micrograph, particles: Particles, diameter_px: float) -> Entry:
        """Write the particles of one micrograph, see `upicker.run.outputs.Outputs.write`."""
        assert micrograph.path is not None, "a job's micrographs are files"
        # RELION drops the fraction of a position before it crops a box there: whole pixels, rounded here, give the
        # boxes of `upicker extract`.
        rounded = replace(particles, xy=np.rint(particles.xy), extra={})
        file = self.files[micrograph.path]
        coordinates.write(file, rounded, "star", micrograph.pixel_size_A, micrograph.shape)
        return self.entry(micrograph.path, micrograph.shape, micrograph.pixel_size_A, particles, diameter_px)

    def entry(
        self, path: Path, shape: tuple[int, int], pixel_size_A: float | None, particles: Particles, diameter_px: float
    ) -> Entry:
        """Return the entry of a micrograph, see `upicker.run.outputs.Outputs.entry`."""
        output = self.files[path].relative_to(self.folder).as_posix()
        return Entry.of(path, plain(path), shape, pixel_size_A, particles, diameter_px, output)

    def read(self, path: Path) -> Particles:
        """Return the particles that were written of a micrograph, see `upicker.run.outputs.Outputs.read`."""
        return coordinates.read(self.files[path])


@dataclass(frozen=True)
class RelionJob:
    """One external job.

    Attributes
    ----------
    listed : Path
        The list of micrographs, ``--in_mics``.
    names : mapping of Path to str
        Micrograph -> its name in the list, in natural order.
    reading : Reading
        Pixel sizes of the list.
    outputs : JobOutputs
        Where particles go.
    """

    listed: Path
    names: Mapping[Path, str]
    reading: Reading
    outputs: JobOutputs

    @property
    def paths(self) -> list[Path]:
        """The micrographs."""
        return list(self.names)

    @property
    def done(self) -> list[Path]:
        """The micrographs with coordinates."""
        missing = {*self.outputs.missing(self.paths)}
        return [path for path in self.paths if path not in missing]


def begin(folder: Path) -> None:
    """Make the job's folder, and remove the exit marks of an earlier run.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    writable(folder)
    for name in (SUCCESS, FAILURE, ABORTED):
        (folder / name).unlink(missing_ok=True)


def end(folder: Path, mark: str) -> None:
    """Tell RELION how the job ended: `SUCCESS`, `FAILURE` or `ABORTED`."""
    if mark == ABORTED:
        (folder / ABORT_NOW).unlink(missing_ok=True)
    (folder / mark).touch()


def job(folder: Path, listed: Path, masks: Masks | None = None) -> RelionJob:
    """Return the job with a folder, ``--o``, and a list of micrographs, ``--in_mics``.

    Raises
    ------
    InputError
        If the list cannot be read, or two of its micrographs would share one file of coordinates.
    """
    entries = micrographs.entries([listed], by_path=True)
    _refuse_shared(folder, listed, entries)
    return job_of(folder, listed, entries, masks)


def job_of(folder: Path, listed: Path, entries: Sequence[Listed], masks: Masks | None = None) -> RelionJob:
    """Return the job with some of the micrographs of a list, in this order; see `job`."""
    reading = Reading.of(entries, masks=masks)
    outputs = JobOutputs(folder, {entry.path: coordinates_file(folder, entry.name) for entry in entries})
    return RelionJob(listed, {entry.path: entry.name for entry in entries}, reading, outputs)


def coordinates_file(folder: Path, name: str) -> Path:
    """Return where RELION looks for the coordinates of a micrograph of that name, in a job's folder."""
    post = PurePosixPath(_JOB.sub("", name, count=1).lstrip("/"))
    # A path that leaves the project must not leave the job's folder.
    inside = PurePosixPath(*[part for part in post.parts if part not in ("..", ".")])
    return folder / inside.with_name(inside.stem + _SUFFIX)


def picking(
    job: RelionJob,
    count: int,
    model: Path | str | None,
    diameter: Length | None,
    changes: Mapping[str, object],
    threads: int,
) -> tuple[Picking, int]:
    """Return the work of picking with weights, and the number of processes for it.

    Parameters
    ----------
    job : RelionJob
        The job.
    count : int
        The number of micrographs to pick.
    model : Path, str or None
        The weights, see `upicker.pick.picker.Picker`.
    diameter : Length or None
        Of the particles; None takes the one stored with the weights.
    changes : mapping
        Of the stored config.
    threads : int
        CPU threads, ``--j``, to be divided between the processes.

    Raises
    ------
    WeightsError, ConfigError
        If the weights or the changes cannot be used.
    """
    from upicker.pick.picker import Picker  # imports scipy and OpenCV
    from upicker.run.pick import Picking, processes

    picker = Picker(model, changes)
    jobs = processes(count, picker)
    if picker.device == "cpu":
        jobs = min(threads, jobs)
    picker = picker.with_threads(max(1, threads // jobs))
    return Picking(picker, job.outputs, diameter, job.reading, COMMAND), jobs


def proposing(job: RelionJob, diameter: Length, changes: Mapping[str, object]) -> Proposing:
    """Return the work of proposing without weights.

    By default the number of proposals follows each micrograph's density.
    """
    config = Config().with_changes({"propose.top_k": "auto", **changes})
    return Proposing(diameter, job.outputs, config, job.reading, command=COMMAND)


def run(
    job: RelionJob, todo: Sequence[Path] | None, work: Finding, jobs: int | Workers
) -> Generator[Outcome[Entry], None, None]:
    """Find the particles in micrographs of the job, and write its lists at the end, also when it is stopped.

    Parameters
    ----------
    job : RelionJob
        The job.
    todo : sequence of Path or None
        Those without coordinates, of a job that is continued; None does all anew.
    work : Finding
        Of `picking` or `proposing`.
    jobs : int or Workers
        Number of processes, or processes elsewhere.

    Raises
    ------
    OutputError
        If something cannot be written.
    AbortError
        If RELION asks for it; the lists name what is done.
    """
    try:
        # Closed before the lists are written: processes that are at work finish their micrographs.
        with closing(find_all(job.paths, work, jobs, todo)) as outcomes:
            for outcome in outcomes:
                yield outcome
                refuse_abort(job.outputs.folder)
    finally:
        write_lists(job)


def _refuse_shared(folder: Path, listed: Path, entries: Sequence[Listed]) -> None:
    taken: dict[Path, str] = {}
    for entry in entries:
        file = coordinates_file(folder, entry.name)
        if file in taken:
            found = f"{taken[file]} and {entry.name} would both have their coordinates in {file}"
            raise InputError(listed, found, "Use one job for each of them")
        taken[file] = entry.name


def refuse_abort(folder: Path) -> None:
    """Raise AbortError if RELION asks the job to stop."""
    if (folder / ABORT_NOW).exists():
        raise AbortError


def write_lists(job: RelionJob) -> None:
    """Write the lists of the micrographs with coordinates, in the order of the job, whole or not at all.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    version = re.search(r"^# version (\d+)", job.listed.read_text(encoding="utf-8", errors="replace"), re.M)
    label = _COORDINATES_5 if version and int(version[1]) >= 50000 else _COORDINATES_4
    folder = job.outputs.folder
    listed, suffix = folder / "autopick.star", folder / "coords_suffix_autopick.star"
    rows = [(job.names[path], job.outputs.files[path].as_posix()) for path in job.done]
    columns = ("_rlnMicrographName", "_rlnMicrographCoordinates")
    _write(listed, star.format_table("coordinate_files", columns, rows))
    _write(suffix, f"{job.listed.as_posix()}\n")
    nodes = [(path.as_posix(), _COORDINATES_TYPE, label) for path in (listed, suffix)]
    columns = ("_rlnPipeLineNodeName", "_rlnPipeLineNodeType", "_rlnPipeLineNodeTypeLabel")
    _write(folder / "RELION_OUTPUT_NODES.star", star.format_table("output_nodes", columns, nodes))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
