"""UPicker as an external job of RELION: its layout of files, its lists, and the signs it looks for.

RELION starts an external job in the project's folder, with ``--o External/job012/ --in_mics micrographs.star --j 4``
and what else the user set. It finds out how the job ended from files of certain names in the job's folder, and what
came out of it from ``RELION_OUTPUT_NODES.star``.

Written are, for RELION 4 and 5, ``autopick.star``, which names each micrograph's coordinates; for RELION 3.1,
``coords_suffix_autopick.star``, from which it derives them: the micrograph's path without the job's, such as
``MotionCorr/job002/``, within this job's folder, and ``_autopick.star`` at its end. Both describe the same files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from upicker.config import Config
from upicker.errors import InputError
from upicker.image.prepare import Prepared
from upicker.io import coordinates, micrographs, star
from upicker.io.atomic import replacing
from upicker.io.lists import Listed
from upicker.particles import Micrograph, Particles
from upicker.propose.proposals import propose
from upicker.run.batch import Outcome, each
from upicker.run.outputs import writable
from upicker.run.propose import picture, with_template
from upicker.run.record import Entry
from upicker.units import Length

SUCCESS, FAILURE, ABORTED = "RELION_JOB_EXIT_SUCCESS", "RELION_JOB_EXIT_FAILURE", "RELION_JOB_EXIT_ABORTED"
ABORT_NOW = "RELION_JOB_ABORT_NOW"
_JOB = re.compile(r"^.*?/job\d{3,}/")
_SUFFIX = "_autopick.star"
# What kind of file a node of the pipeline is: a number until 3.1, a label since 4; 5 changed the labels.
_COORDINATES_TYPE = 2
_COORDINATES_4, _COORDINATES_5 = "MicrographsCoords.star.relion.autopick", "MicrographCoordsGroup.star.relion.autopick"

Finder = Callable[[Micrograph], tuple[Particles, float]]


def picking(model: Path, diameter: Length | None, changes: Mapping[str, object]) -> Finder:
    """Return what picks with weights; a diameter of None is the one stored with them."""
    from upicker.pick.picker import Picker  # torch takes seconds

    picker = Picker(model, changes)

    def find(micrograph: Micrograph) -> tuple[Particles, float]:
        diameter_px = (diameter or picker.diameter).to_px(micrograph.pixel_size_A, str(micrograph.path))
        return picker.pick(micrograph, diameter_px), diameter_px

    return find


def proposing(diameter: Length, changes: Mapping[str, object], listed: Path) -> Finder:
    """Return what proposes without labels, with a template that a few of the listed micrographs give.

    As many are proposed as each micrograph's density suggests.
    """
    config = Config().with_changes({"propose.top_k": "auto", **changes})
    entries = micrographs.entries([listed])
    reading = micrographs.Reading.of(entries)

    def prepared(micrograph: Micrograph) -> Prepared:
        return picture(micrograph, diameter.to_px(micrograph.pixel_size_A, str(micrograph.path)), config)

    paths = [entry.path for entry in entries]
    knobs = with_template(config, paths, lambda path: prepared(reading.read(path))).propose

    def find(micrograph: Micrograph) -> tuple[Particles, float]:
        shown = prepared(micrograph)
        return propose(shown, knobs, config.image, shown.usable), shown.diameter_px

    return find


class AbortError(Exception):
    """RELION's user asked the job to stop."""


@dataclass(frozen=True)
class RelionJob:
    """One external job.

    Attributes
    ----------
    folder : Path
        The job's, ``--o``.
    listed : Path
        The list of micrographs, ``--in_mics``.
    find : callable
        Micrograph -> its particles and the diameter used, raw pixels.
    unfinished : bool
        Leave out micrographs whose coordinates are there.
    """

    folder: Path
    listed: Path
    find: Finder
    unfinished: bool = False


def coordinates_file(folder: Path, name: str) -> Path:
    """Return where RELION looks for the coordinates of a micrograph of that name, in a job's folder."""
    post = PurePosixPath(_JOB.sub("", name, count=1).lstrip("/"))
    # A path that leaves the project must not leave the job's folder.
    inside = PurePosixPath(*[part for part in post.parts if part not in ("..", ".")])
    return folder / inside.with_name(inside.stem + _SUFFIX)


def run(job: RelionJob) -> Generator[Outcome[Entry], None, None]:
    """Do the job; yields one outcome per micrograph, and writes the lists at the end, also of one cut short.

    Raises
    ------
    InputError
        If the list cannot be read, or two of its micrographs would share one file of coordinates.
    OutputError
        If something cannot be written.
    AbortError
        If RELION asks for it; what is done is listed.
    """
    entries = micrographs.entries([job.listed])
    files = _places(job, entries)
    reading = micrographs.Reading.of(entries)
    try:
        for outcome in each(left(job), _Finding(job.find, files, reading)):
            yield outcome
            if (job.folder / ABORT_NOW).exists():
                raise AbortError
    finally:
        _write_lists(job, [(entry.name, files[entry.path]) for entry in entries if files[entry.path].exists()])


def begin(folder: Path) -> None:
    """Make the job's folder, and remove what an earlier run of the job left to say how it ended.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    writable(folder)
    for name in (SUCCESS, FAILURE, ABORTED):
        (folder / name).unlink(missing_ok=True)


def left(job: RelionJob) -> list[Path]:
    """Return the micrographs to do; raises what `run` raises for a list."""
    entries = micrographs.entries([job.listed])
    files = _places(job, entries)
    return [entry.path for entry in entries if not (job.unfinished and files[entry.path].exists())]


def done(job: RelionJob) -> int:
    """Return how many micrographs have coordinates."""
    return sum(file.exists() for file in _places(job, micrographs.entries([job.listed])).values())


def sign(folder: Path, name: str) -> None:
    """Tell RELION how the job ended: `SUCCESS`, `FAILURE` or `ABORTED`."""
    if name == ABORTED:
        (folder / ABORT_NOW).unlink(missing_ok=True)
    (folder / name).touch()


@dataclass(frozen=True)
class _Finding:
    find: Finder
    files: dict[Path, Path]
    reading: micrographs.Reading

    def __call__(self, path: Path) -> Entry:
        micrograph = self.reading.read(path)
        particles, diameter_px = self.find(micrograph)
        # RELION cuts a box around the pixel that is left when the fraction is dropped: whole pixels, rounded here, are
        # right for it, and the boxes are those of `upicker extract`.
        whole = Particles(np.rint(particles.xy), particles.diameter_px, particles.score)
        coordinates.write(self.files[path], whole, "star", micrograph.pixel_size_A, micrograph.shape)
        rows, columns = micrograph.shape
        size = micrograph.pixel_size_A
        return Entry(micrograph.name, str(path), rows, columns, size, round(diameter_px, 3), len(particles))


def _places(job: RelionJob, entries: Sequence[Listed]) -> dict[Path, Path]:
    places: dict[Path, Path] = {}
    taken: dict[Path, str] = {}
    for entry in entries:
        file = coordinates_file(job.folder, entry.name)
        if file in taken:
            found = f"{taken[file]} and {entry.name} would both have their coordinates in {file}"
            raise InputError(job.listed, found, "Use one job for each of them")
        taken[file] = entry.name
        places[entry.path] = file
    return places


def _write_lists(job: RelionJob, done: Sequence[tuple[str, Path]]) -> None:
    version = re.search(r"^# version (\d+)", job.listed.read_text(encoding="utf-8", errors="replace"), re.M)
    label = _COORDINATES_5 if version and int(version[1]) >= 50000 else _COORDINATES_4
    listed, suffix = job.folder / "autopick.star", job.folder / "coords_suffix_autopick.star"
    rows = [(name, file.as_posix()) for name, file in done]
    columns = ("_rlnMicrographName", "_rlnMicrographCoordinates")
    _write(listed, star.format_table("coordinate_files", columns, rows))
    _write(suffix, f"{job.listed.as_posix()}\n")
    nodes = [(path.as_posix(), _COORDINATES_TYPE, label) for path in (listed, suffix)]
    columns = ("_rlnPipeLineNodeName", "_rlnPipeLineNodeType", "_rlnPipeLineNodeTypeLabel")
    _write(job.folder / "RELION_OUTPUT_NODES.star", star.format_table("output_nodes", columns, nodes))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
