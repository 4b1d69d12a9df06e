"""Particle stacks for many micrographs: an ``.mrcs`` for each, and one ``particles.star`` that lists them."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from upicker.io import coordinates
from upicker.io.lists import Listed
from upicker.io.micrographs import Reading
from upicker.io.names import plain
from upicker.io.stacks import StackEntry, StackKind, open_stack, read_note, write_particles_star
from upicker.particles import Micrograph, Particles
from upicker.pick.extract import Boxing, fitting, portions
from upicker.run.batch import Outcome, each
from upicker.run.outputs import writable
from upicker.units import Length

# Boxes of one micrograph are cut and written in portions of about so many bytes: memory that is used again.
PORTION_BYTES = 4_000_000


@dataclass(frozen=True)
class Extracted:
    """The stack of one micrograph.

    Attributes
    ----------
    entry : StackEntry or None
        For ``particles.star``; None where there was no particle to cut out.
    dropped : int
        Particles whose box reaches beyond the micrograph.
    """

    entry: StackEntry | None
    dropped: int

    @property
    def particles(self) -> int:
        """How many were cut out."""
        return 0 if self.entry is None else len(self.entry.particles)


@dataclass(frozen=True)
class Extracting:
    """The work on one micrograph; picklable, for several processes.

    Attributes
    ----------
    picks : dict
        Micrograph -> coordinates file.
    output : Path
        The ``particles.star``; stacks go to ``Particles/`` beside it.
    box : Length
        Side of the boxes.
    reading : Reading
        Pixel sizes that override what the files say, and the gain reference.
    threshold : float or None
        Lowest score of the particles to cut out; None takes all.
    scale_px : int or None
        Side of the boxes after scaling; None: as cut.
    background_diameter : Length or None
        See `upicker.pick.extract.Boxing`, as the following ones.
    invert, normalise, pad : bool
        The same.
    float16 : bool
        Half-precision stacks.
    keep : bool
        Leave stacks that are there, and whole, as they are: goes on where an earlier run stopped.
    """

    picks: dict[Path, Path]
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
    keep: bool = False

    def __call__(self, path: Path) -> Extracted:
        """Cut the particles out of one micrograph, and write their stack.

        Raises
        ------
        UPickerError
            If the micrograph or its picks cannot be read, or do not fit each other.
        OutputError
            If the stack cannot be written.
        """
        target = self.output.parent / "Particles" / f"{plain(path)}.mrcs"
        note = self._fingerprint(path)
        earlier = _earlier(target, note) if self.keep else None
        if earlier:
            shape, pixel_size_A = earlier
            boxing = self._boxing(pixel_size_A, path)
            particles, wanted = self._particles(path, shape)
            done = particles.select(fitting(particles, shape, boxing))
            return Extracted(self._entry(target, path, done, pixel_size_A, boxing), wanted - len(done))
        micrograph = self.reading.read(path)
        boxing = self._boxing(micrograph.pixel_size_A, path)
        particles, wanted = self._particles(path, micrograph.shape)
        rows, columns = micrograph.shape
        kind = StackKind(self.float16, f"{note} {rows} {columns} {micrograph.pixel_size_A or 0:.8g}")
        done = _cut(micrograph, particles, boxing, target, kind)
        entry = self._entry(target, path, done, micrograph.pixel_size_A, boxing) if len(done) else None
        return Extracted(entry, wanted - len(done))

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

    def _particles(self, path: Path, shape: tuple[int, int]) -> tuple[Particles, int]:
        """Return the particles to cut out, and how many there were with those outside the picture."""
        file = self.picks[path]
        particles, outside = coordinates.check_inside(coordinates.read(file), shape, file)
        if self.threshold is not None:
            particles = particles.above(self.threshold)
        return particles, len(particles) + outside

    def _entry(
        self, target: Path, path: Path, particles: Particles, pixel_size_A: float | None, boxing: Boxing
    ) -> StackEntry:
        size_A = pixel_size_A and pixel_size_A * boxing.box_px / boxing.side_px
        return StackEntry(_named(target), _named(path), particles, boxing.side_px, size_A)

    def _fingerprint(self, path: Path) -> str:
        """Return a word that changes with the micrograph, its picks, and how boxes are cut."""
        state = path.stat() if path.exists() else None
        how = (self.box, self.scale_px, self.background_diameter, self.invert, self.normalise, self.pad, self.float16)
        read = (self.reading.size_of(path), self.reading.gain, state and (state.st_size, state.st_mtime_ns))
        what = (how, self.threshold, read)
        return hashlib.sha256(repr(what).encode() + self.picks[path].read_bytes()).hexdigest()[:16]


def _cut(micrograph: Micrograph, particles: Particles, boxing: Boxing, target: Path, kind: StackKind) -> Particles:
    """Write a stack, in portions; return the particles in it. There are no empty stacks."""
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


def _earlier(target: Path, note: str) -> tuple[tuple[int, int], float | None] | None:
    """Return shape and pixel size of the micrograph of a stack that would come out the same again."""
    words = (read_note(target) or "").split()
    if len(words) != 4 or words[0] != note:
        return None
    return (int(words[1]), int(words[2])), float(words[3]) or None


# Of an optics group these follow from the boxes, or number it anew.
_OF_BOXES = {"_rlnOpticsGroup", "_rlnImagePixelSize", "_rlnImageSize", "_rlnImageDimensionality"}
# What lists of RELION 3.0 have instead of a pixel size.
_OF_3_0 = {"_rlnMagnification", "_rlnDetectorPixelSize"}


def known(entry: StackEntry, listed: Listed | None, microscope: Mapping[str, str]) -> StackEntry:
    """Add what is known of a micrograph to what goes into ``particles.star``.

    Parameters
    ----------
    entry : StackEntry
        Its particles.
    listed : Listed or None
        What a list says of it: its name, optics group and CTF.
    microscope : mapping
        Columns of RELION's optics table, for what the list leaves out.
    """
    if listed is None:
        return replace(entry, optics=dict(microscope))
    told = {label: word for label, word in (listed.optics or {}).items() if label not in _OF_BOXES | _OF_3_0}
    # A file that was named itself has its path for a name; that of a list is RELION's.
    name = entry.micrograph if listed.name == str(listed.path) else listed.name
    return replace(entry, micrograph=name, optics={**microscope, **told}, ctf=dict(listed.ctf or {}))


def extract_all(
    paths: Sequence[Path],
    work: Extracting,
    jobs: int = 1,
    listed: Sequence[Listed] = (),
    microscope: Mapping[str, str] = MappingProxyType({}),
) -> Generator[Outcome[Extracted], None, None]:
    """Cut the particles out of many micrographs; ``particles.star`` is written last, of all whole stacks.

    Parameters
    ----------
    paths : sequence of Path
        Micrographs with picks.
    work : Extracting
        What to do with each.
    jobs : int
        Processes.
    listed, microscope
        See `known`.

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
    said = {entry.path: entry for entry in listed}
    entries: dict[Path, StackEntry] = {}
    try:
        for outcome in each(paths, work, jobs):
            if outcome.value is not None and outcome.value.entry is not None:
                entries[outcome.path] = known(outcome.value.entry, said.get(outcome.path), microscope)
            yield outcome
    finally:  # Also after Ctrl-C: what is cut out can be used.
        if entries:
            write_particles_star(work.output, [entries[path] for path in paths if path in entries])


def even(box_px: float) -> int:
    """Return the even number of pixels nearest to a length: RELION takes no odd boxes."""
    return 2 * round(box_px / 2)


def _named(path: Path) -> str:
    """Name a file as RELION wants it: relative to the folder where one works, if it lies in there."""
    absolute = path.resolve()
    here = Path.cwd()
    return (absolute.relative_to(here) if absolute.is_relative_to(here) else absolute).as_posix()
