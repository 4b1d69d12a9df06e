"""A labelled data set prepared for experiments: names matched, the frame measured, one diameter, one folder.

Whatever the format, the names and the frame of the labels, ``OUT/labels/NAME.csv`` then holds them in raw pixels of the
micrographs, each with the nominal diameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from upicker.config import Config
from upicker.errors import ConfigError, InputError
from upicker.io import coordinates, cryoppp, micrographs
from upicker.io.inside import check_inside
from upicker.io.micrographs import Reading
from upicker.io.names import plain
from upicker.io.pairing import differing, pair_folder, unmatched
from upicker.io.sources import DistinctReader, repeats
from upicker.particles import Particles
from upicker.run import frames
from upicker.run.batch import each
from upicker.units import Length

# The frame is measured on this many micrographs, those with the most labels.
MEASURED = 5
FRAMES = {"as-is": frames.AS_IS, "flipped": frames.FLIPPED}


@dataclass(frozen=True)
class Source:
    """A data set as given by the user.

    Attributes
    ----------
    name : str
        Its name in tables.
    micrographs : tuple of Path
        All of them, with and without labels.
    labels : Path
        Folder of coordinates, in any format.
    diameter : Length or None
        Of the particles; None: the labels' median.
    frame : str
        ``"auto"`` (measured), ``"as-is"`` or ``"flipped"`` (top to bottom).
    usual : str
        The frame to assume where the measurement is inconclusive.
    reading : Reading
        How micrographs are read.
    """

    name: str
    micrographs: tuple[Path, ...]
    labels: Path
    diameter: Length | None = None
    frame: str = "auto"
    usual: str = "as-is"
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class Data:
    """A data set prepared for experiments.

    Attributes
    ----------
    name : str
        Its name in tables.
    labelled, unlabelled : tuple of Path
        Micrographs, by name.
    labels : Path
        Folder of ``NAME.csv`` for the labelled ones: raw pixels, diameters known.
    diameter : Length
        Of the particles.
    reading : Reading
        How micrographs are read.
    notes : tuple of str
        Remarks for the reader: the frame, and labels that were left out.
    """

    name: str
    labelled: tuple[Path, ...]
    unlabelled: tuple[Path, ...]
    labels: Path
    diameter: Length
    reading: Reading = field(default_factory=Reading)
    notes: tuple[str, ...] = ()

    def truth(self, path: Path) -> Particles:
        """Return the labels of one micrograph, raw pixels."""
        return coordinates.read(self.labels / f"{plain(path)}.csv")


def cryoppp_source(folder: Path, diameter: Length | None, frame: str, pixel_size_A: float | None) -> Source:
    """Return a folder in CryoPPP's layout as a source; raises InputError if it has another layout."""
    found = cryoppp.find(folder)
    usual = "as-is" if found.micrographs[0].suffix.lower() in (".jpg", ".jpeg", ".png") else "flipped"
    listed = micrographs.entries(found.micrographs)
    paths = tuple(entry.path for entry in listed)
    return Source(found.name, paths, found.labels, diameter, frame, usual, Reading.of(listed, pixel_size_A))


def renamed(source: Source, name: str | None) -> Source:
    """Return a source under another name; None keeps its name."""
    return source if name is None else replace(source, name=name)


def prepare(source: Source, folder: Path, config: Config, jobs: int = 1) -> Data:
    """Match names, determine the frame, and write the labels in the form of `Data`.

    Parameters
    ----------
    source : Source
        The data set.
    folder : Path
        Where ``NAME.csv`` go.
    config : Config
        Its room ``image`` is used to measure the frame.
    jobs : int
        Processes.

    Raises
    ------
    InputError
        If no micrograph has labels, or they fit in an unsupported frame.
    ConfigError
        If the diameter is not known, or in Angstrom without a pixel size.
    UPickerError
        If a file cannot be read or written.
    """
    pairing = pair_folder(source.micrographs, source.labels)
    read = DistinctReader(source.reading.pixel_size_A)
    found = {path: read(labels) for path, labels in pairing.pairs.items()}
    diameter = source.diameter or _median(source.labels, list(found.values()))
    frame, note = _frame(source, found, diameter, config, jobs)
    notes = [note]
    if pairing.unmatched_files:
        notes.append(unmatched(pairing.unmatched_files, "label file", "a micrograph, not used"))
    if told := differing(pairing):
        notes.append(told)
    if told := repeats(read.repeated, "counted once"):
        notes.append(told)
    outside = 0
    for path, particles in found.items():
        shape, pixel_size_A = micrographs.size(path, source.reading.size_of(path))
        stored = replace(particles, xy=frame.to_stored(particles.xy, shape))
        inside, dropped = check_inside(stored, shape, source.labels / plain(path))
        outside += dropped
        sized = inside.with_diameter(diameter.to_px(pixel_size_A, str(path)))
        coordinates.write(folder / f"{plain(path)}.csv", sized, "csv", pixel_size_A, shape)
    if outside:
        notes.append(f"labels outside their micrograph are left out: {outside}")
    without = tuple(pairing.unmatched_micrographs)
    return Data(source.name, tuple(found), without, folder, diameter, source.reading, tuple(notes))


def _median(labels: Path, particles: Sequence[Particles]) -> Length:
    median = Particles.concatenate(list(particles)).median_diameter_px
    if median is None:
        raise ConfigError("--diameter", f"the labels in {labels} carry no diameter", "Give it, e.g. --diameter 108px")
    return Length(median, "px")


def _frame(
    source: Source, found: dict[Path, Particles], diameter: Length, config: Config, jobs: int
) -> tuple[frames.Frame, str]:
    """Return the frame the labels are in, and a remark on how it was determined."""
    if source.frame != "auto":
        if source.frame not in FRAMES:
            raise ConfigError("--frame", f"unknown frame '{source.frame}'", f"Known are: auto, {', '.join(FRAMES)}")
        return FRAMES[source.frame], f"labels are used {FRAMES[source.frame].name}, as given by --frame"
    paths = sorted(found, key=lambda path: -len(found[path]))[:MEASURED]
    work = frames.Measuring(found, diameter, config, source.reading)
    measured = [outcome.value for outcome in each(paths, work, jobs) if outcome.value is not None]
    verdict = frames.judge(measured)
    if verdict.fits is None:
        usual = FRAMES[source.usual]
        return usual, f"labels are used {usual.name}, without proof: {verdict.reason}; choose with --frame"
    if verdict.fits not in FRAMES.values():
        raise InputError(
            source.labels,
            f"the labels fit {verdict.fits.name}, which no program does by itself",
            "Check the micrographs with `upicker check-frame`, or give --frame",
        )
    responses = {frame: verdict.responses[frames.FRAMES.index(frame)] for frame in FRAMES.values()}
    values = ", ".join(f"{frame.name} {one.mean:.2f} ± {one.error:.2f}" for frame, one in responses.items())
    count = verdict.micrographs
    return verdict.fits, f"labels fit {verdict.fits.name} (filter response in {count} micrographs: {values})"
