"""Particle stacks from many micrographs: an ``.mrcs`` file for each, and one ``particles.star`` that lists all."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from upicker.errors import OutputError
from upicker.io import sources
from upicker.io.inside import check_inside
from upicker.io.lists import Listed
from upicker.io.micrographs import Reading
from upicker.io.names import plain
from upicker.io.picks import EXTRA_WORDS
from upicker.io.sources import Repeated, Source
from upicker.io.stacks import StackEntry, StackKind, open_stack, read_note, write_particles_star
from upicker.particles import Micrograph, Particles
from upicker.pick.extract import Boxing, fitting, portions
from upicker.run.batch import Outcome, Workers, each
from upicker.run.outputs import writable
from upicker.units import Length

# Boxes of one micrograph are cropped and written in portions of about this size, to bound memory.
PORTION_BYTES = 4_000_000


@dataclass(frozen=True)
class Extracted:
    """The stack of one micrograph.

    Attributes
    ----------
    entry : StackEntry or None
        For ``particles.star``; None without particles.
    dropped : int
        Particles left out because their box extends beyond the micrograph.
    outside : int
        Particles left out because they lie outside of the micrograph.
    repeated : list of Repeated
        Positions that stood more than once, each of which was extracted once.
    lost : tuple of str
        What the picks hold besides and ``particles.star`` does not, in words.
    """

    entry: StackEntry | None
    dropped: int
    outside: int = 0
    repeated: list[Repeated] = field(default_factory=list)
    lost: tuple[str, ...] = ()

    @property
    def particles(self) -> int:
        """The number of extracted particles."""
        return 0 if self.entry is None else len(self.entry.particles)


@dataclass(frozen=True)
class Extracting:
    """The work on one micrograph; picklable, for several processes.

    Attributes
    ----------
    picks : dict
        Micrograph -> where its picks are.
    output : Path
        The ``particles.star``; stacks go to ``Particles/`` beside it.
    box : Length
        Side of the boxes.
    reading : Reading
        Pixel sizes that override those in the files, and the gain reference.
    threshold : float or None
        Lowest score of the particles to extract; None extracts all.
    scale_px : int or None
        Side of the boxes after scaling; None: not scaled.
    background_diameter : Length or None
        See `upicker.pick.extract.Boxing`.
    invert, normalise, pad : bool
        See there, too.
    float16 : bool
        Whether to write stacks in half precision.
    skip_existing : bool
        Whether to keep complete stacks from an earlier run with the same settings.
    names : mapping of Path to str
        Micrograph -> the stack's name below ``Particles/``, see `upicker.io.names.distinct`; else the micrograph's own.
    """

    picks: dict[Path, Source]
    output: Path
    box: Length
    reading: Reading = field(default_factory=Reading)
    threshold: float | None = None
    scale_px: int | None = None
    background_diameter: Length | None = None
    invert: bool = True
    normalise: bool = True
    pad: bool = False
    float16: bool = False
    skip_existing: bool = False
    names: Mapping[Path, str] = field(default_factory=dict)

    def __call__(self, path: Path) -> Extracted:
        """Extract the particles of one micrograph, and write their stack.

        Raises
        ------
        UPickerError
            If the micrograph or its picks cannot be read, or do not match.
        OutputError
            If the stack cannot be written.
        """
        target = self.stack(path)
        note = self._fingerprint(path)
        earlier = _earlier(target, note) if self.skip_existing else None
        if earlier:
            shape, pixel_size_A, images = earlier
            boxing = self._boxing(pixel_size_A, path)
            particles, outside, repeated, lost = self._particles(path, shape, pixel_size_A)
            done = particles.select(fitting(particles, shape, boxing))
        if earlier and len(done) == images:
            entry = self._entry(target, path, done, pixel_size_A, boxing)
            return Extracted(entry, len(particles) - len(done), outside, repeated, lost)
        micrograph = self.reading.read(path)
        boxing = self._boxing(micrograph.pixel_size_A, path)
        particles, outside, repeated, lost = self._particles(path, micrograph.shape, micrograph.pixel_size_A)
        rows, columns = micrograph.shape
        kind = StackKind(self.float16, f"{note} {rows} {columns} {micrograph.pixel_size_A or 0:.8g}")
        done = _cut(micrograph, particles, boxing, target, kind)
        entry = self._entry(target, path, done, micrograph.pixel_size_A, boxing) if len(done) else None
        return Extracted(entry, len(particles) - len(done), outside, repeated, lost)

    def stack(self, path: Path) -> Path:
        """Return the file of a micrograph's stack."""
        return self.output.parent / "Particles" / f"{self.names.get(path) or plain(path)}.mrcs"

    def _boxing(self, pixel_size_A: float | None, path: Path) -> Boxing:
        circle = self.background_diameter
        return Boxing(
            even(self.box.to_px(pixel_size_A, str(path))),
            self.scale_px,
            self.invert,
            self.normalise,
            background_diameter_px=circle and circle.to_px(pixel_size_A, str(path)),
            pad=self.pad,
        )

    def _particles(
        self, path: Path, shape: tuple[int, int], pixel_size_A: float | None
    ) -> tuple[Particles, int, list[Repeated], tuple[str, ...]]:
        """Return the particles to extract, how many lie outside, what stood more than once, and what is not kept."""
        source = self.picks[path]
        picks = sources.read_one(source, shape, pixel_size_A)
        particles, repeated = sources.distinct(picks.particles, source)
        inside, _ = check_inside(particles, shape, source)
        lowest = -np.inf if self.threshold is None else self.threshold
        kept = inside.above(lowest)
        return kept, len(particles.above(lowest)) - len(kept), repeated, (*picks.unread, *_extras(picks.particles))

    def _entry(
        self, target: Path, path: Path, particles: Particles, pixel_size_A: float | None, boxing: Boxing
    ) -> StackEntry:
        size_A = pixel_size_A and pixel_size_A * boxing.box_px / boxing.side_px
        return StackEntry(_relion_path(target), _relion_path(path), particles, boxing.side_px, size_A)

    def _fingerprint(self, path: Path) -> str:
        """Return a hash of the micrograph's state, its picks, and the settings."""
        state = path.stat() if path.exists() else None
        how = (self.box, self.scale_px, self.background_diameter, self.invert, self.normalise, self.pad, self.float16)
        read = (self.reading.size_of(path), self.reading.gain, state and (state.st_size, state.st_mtime_ns))
        what = (how, self.threshold, read, "distinct")
        return hashlib.sha256(repr(what).encode() + sources.content(self.picks[path])).hexdigest()[:16]


def _extras(particles: Particles) -> list[str]:
    """Return in words what `Particles.extra` holds, which ``particles.star`` does not."""
    return [
        EXTRA_WORDS[name]
        for name, values in particles.extra.items()
        if name in EXTRA_WORDS and (any(values) if values.dtype.kind not in "iuf" else np.nan_to_num(values).any())
    ]


def _cut(micrograph: Micrograph, particles: Particles, boxing: Boxing, target: Path, kind: StackKind) -> Particles:
    """Write a stack, in portions; return the particles in it. Without particles no file is written."""
    portion = max(1, PORTION_BYTES // (4 * boxing.side_px**2))
    pixel_size_A = micrograph.pixel_size_A and micrograph.pixel_size_A * boxing.box_px / boxing.side_px
    kept: list[Particles] = []
    with ExitStack() as opened:
        writer = None
        for boxes in portions(micrograph, particles, boxing, portion):
            writer = writer or opened.enter_context(open_stack(target, boxing.side_px, pixel_size_A, kind))
            writer.append(boxes.stack)
            kept.append(boxes.particles)
    return Particles.concatenate(kept)


def _earlier(target: Path, note: str) -> tuple[tuple[int, int], float | None, int] | None:
    """Return shape and pixel size of the micrograph of a whole stack with the same fingerprint, and its images."""
    text, images = read_note(target) or ("", 0)
    words = text.split()
    if len(words) != 4 or words[0] != note:
        return None
    return (int(words[1]), int(words[2])), float(words[3]) or None, images


# Columns of an optics group that are written anew: they follow from the boxes or number the groups.
_OF_BOXES = {"_rlnOpticsGroup", "_rlnImagePixelSize", "_rlnImageSize", "_rlnImageDimensionality"}
# Lists of RELION 3.0 have these instead of a pixel size.
_OF_3_0 = {"_rlnMagnification", "_rlnDetectorPixelSize"}


def with_metadata(entry: StackEntry, listed: Listed | None, microscope: Mapping[str, str]) -> StackEntry:
    """Add the metadata of a micrograph to its entry in ``particles.star``.

    Parameters
    ----------
    entry : StackEntry
        Its particles.
    listed : Listed or None
        Its row in a list: name, optics group and CTF.
    microscope : mapping
        Columns of RELION's optics table, where the list has no such column.
    """
    if listed is None:
        return replace(entry, optics=dict(microscope))
    optics = {label: word for label, word in (listed.optics or {}).items() if label not in _OF_BOXES | _OF_3_0}
    # A file given by itself has its path as its name; that in a list is RELION's.
    name = entry.micrograph if listed.name == str(listed.path) else listed.name
    return replace(entry, micrograph=name, optics={**microscope, **optics}, ctf=dict(listed.ctf or {}))


def extract_all(
    paths: Sequence[Path],
    work: Extracting,
    jobs: int | Workers = 1,
    listed: Sequence[Listed] = (),
    microscope: Mapping[str, str] = MappingProxyType({}),
) -> Generator[Outcome[Extracted], None, None]:
    """Extract the particles of many micrographs; ``particles.star`` is written last, from all complete stacks.

    Parameters
    ----------
    paths : sequence of Path
        Micrographs with picks.
    work : Extracting
        The work on each.
    jobs : int or Workers
        Processes.
    listed, microscope
        See `with_metadata`.

    Yields
    ------
    Outcome
        One per micrograph, see `upicker.run.batch.each`.

    Raises
    ------
    InputError
        If the pixel size, or a column of optics or CTF, is known for some micrographs only.
    OutputError
        If something cannot be written.
    """
    writable(work.output.parent)
    rows = {entry.path: entry for entry in listed}
    entries: dict[Path, StackEntry] = {}
    try:
        for outcome in each(paths, work, jobs):
            if outcome.value is not None and outcome.value.entry is not None:
                entries[outcome.path] = with_metadata(outcome.value.entry, rows.get(outcome.path), microscope)
            yield outcome
    finally:  # Also after Ctrl-C, so that finished stacks can be used.
        there = [path for path in paths if path in entries and work.stack(path).exists()]
        if there:
            write_particles_star(work.output, [entries[path] for path in there])
    if gone := entries.keys() - there:
        found = "it was removed while others were written"
        remedy = "Run again with --skip-existing: stacks that are there are kept"
        raise OutputError(work.stack(min(gone)), found, remedy)


def even(box_px: float) -> int:
    """Return the even number of pixels nearest to a length, as RELION requires even boxes."""
    return 2 * round(box_px / 2)


def _relion_path(path: Path) -> str:
    """Return a path as RELION expects it: relative to the current folder for files below it."""
    absolute = path.resolve()
    here = Path.cwd()
    return (absolute.relative_to(here) if absolute.is_relative_to(here) else absolute).as_posix()
