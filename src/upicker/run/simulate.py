"""Simulated data sets: micrographs, and everything that is known about them.

A data set's folder, with NAME = ``simulated_0000`` and so on::

    micrographs/NAME.mrc      electrons counted, 32-bit floats; of several formats the first (the others lie in
                              micrographs-FORMAT/, so that no folder holds the same name twice)
    truth/NAME.csv, .star     the particles (see `upicker.run.truth`)
    masks/NAME_mask.png       255 where nothing can be picked: contamination, carbon film
    decoys/NAME.csv           particles of other kinds, where there are some
    micrographs.star          for RELION 3.1 and later, with the folder as its project's
    particles_truth.star
    dataset.toml              how all this was made, and the facts of each picture
    overview.png              the first pictures
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from upicker import __version__
from upicker.errors import ConfigError, InputError
from upicker.io import coordinates, micrographs, mrc, rasters
from upicker.io.atomic import replacing
from upicker.io.star import Table
from upicker.run import truth
from upicker.run.batch import Outcome, each
from upicker.run.machine import memory_bytes
from upicker.run.outputs import writable
from upicker.run.record import toml
from upicker.run.truth import Picture
from upicker.simulate.scene import Scene, Simulated, make
from upicker.simulate.specimens import rcsb
from upicker.simulate.specimens.specimen import BUILT_IN, load

RECORD = "dataset.toml"
FORMATS = ("mrc", "tif")
# What one process needs at most, as measured: for a pixel of the picture, and for all else (a large specimen).
BYTES_PER_PIXEL, BYTES_BESIDES = 80, 400_000_000
# Pictures on the overview; every other one has circles.
SHOWN = 6


@dataclass(frozen=True)
class DataSet:
    """What to simulate, and where to; picklable: it is the work on one micrograph, too.

    Attributes
    ----------
    scene : Scene
        What the pictures show.
    folder : Path
        Where everything is written.
    micrographs : int
        How many.
    formats : tuple of str
        Of `FORMATS`.
    """

    scene: Scene
    folder: Path
    micrographs: int
    formats: tuple[str, ...] = ("mrc",)

    def __post_init__(self) -> None:
        """Refuse what no picture could be made of."""
        if self.micrographs < 1:
            raise ConfigError("--micrographs", f"{self.micrographs} is no number of pictures", "Give at least 1")
        for name in self.formats or ("",):
            if name not in FORMATS:
                known = f"There are: {', '.join(FORMATS)}"
                raise ConfigError("--format", f"there is no format '{name}' of micrographs", known)
        smallest, largest = micrographs.MIN_SIDE, micrographs.MAX_SIDE
        rows, columns = self.scene.shape
        if not smallest <= min(rows, columns) <= max(rows, columns) <= largest:
            found = f"a picture of {columns}x{rows} is no micrograph"
            raise ConfigError("--shape", found, f"It takes {smallest} to {largest} pixels a side")

    @property
    def paths(self) -> list[Path]:
        """The micrographs, in the first of the formats."""
        return [self.file(f"simulated_{index:04d}") for index in range(self.micrographs)]

    def file(self, name: str, format: str = "") -> Path:
        """Return where a micrograph lies, by default in the first of the formats."""
        format = format or self.formats[0]
        folder = "micrographs" if format == self.formats[0] else f"micrographs-{format}"
        return self.folder / folder / f"{name}.{format}"

    def truth(self, name: str) -> Path:
        """Return the file of truth that is written last: where it is, the micrograph is done."""
        return self.folder / "truth" / f"{name}.star"

    def missing(self, paths: Sequence[Path]) -> list[Path]:
        """Return those micrographs that are not all there yet."""
        return [
            path
            for path in paths
            if not (self.truth(path.stem).exists() and all(self.file(path.stem, f).exists() for f in self.formats))
        ]

    def leftovers(self) -> list[Path]:
        """Return what lies in the folder of truth, but belongs to none of the micrographs."""
        names = {path.stem for path in self.paths}
        folder = self.folder / "truth"
        return (
            [file for stem, file in coordinates.stems(folder).items() if stem not in names] if folder.is_dir() else []
        )

    def __call__(self, path: Path) -> Picture:
        """Simulate the micrograph at `path`, whose name tells which it is, and write it and its truth.

        Raises
        ------
        ConfigError
            If the scene cannot be made.
        OutputError
            If something cannot be written.
        """
        name = path.stem
        simulated = make(self.scene, int(name.rpartition("_")[2]))
        picture = _facts(name, simulated)
        micrograph = simulated.micrograph
        for format in self.formats:
            write = mrc.write if format == "mrc" else rasters.write_tiff
            write(self.file(name, format), micrograph.pixels, self.scene.pixel_size_A)
        rasters.write_mask(self.folder / "masks" / f"{name}_mask.png", simulated.unusable)
        if self.scene.placement.decoys:
            coordinates.write(self.folder / "decoys" / f"{name}.csv", simulated.decoys, "csv")
        truth.write_csv(self.truth(name).with_suffix(".csv"), simulated)
        truth.write_star(self.truth(name), simulated, picture, self.scene.optics)
        return picture


def simulate_all(
    paths: Sequence[Path], work: DataSet, jobs: int = 1, going_on: bool = False
) -> Generator[Outcome[Picture], None, None]:
    """Simulate micrographs, and write what sums them up, also when the caller stops before the end.

    Parameters
    ----------
    paths : sequence of Path
        Those of `DataSet.paths` to make; the others may be there already.
    work : DataSet
        What to simulate, and where to.
    jobs : int
        Processes; the pictures do not depend on it.
    going_on : bool
        Refuse to add to a folder whose pictures were made otherwise.

    Yields
    ------
    Outcome
        One per micrograph, see `upicker.run.batch.each`.

    Raises
    ------
    InputError
        If a specimen cannot be read.
    ConfigError
        If the scene cannot be made, the pictures do not fit in memory, or the folder holds another data set.
    OutputError
        If something cannot be written.
    """
    check_memory(work.scene, jobs)
    about = _about(work)
    if going_on:
        _check_same(work.folder / RECORD, about)
    writable(work.folder)
    _write_record(work.folder / RECORD, about, [picture for _, picture in _there(work).values()])
    try:
        yield from each(paths, work, jobs)
    finally:
        _sum_up(work, about)
    _draw_overview(work)


def check_memory(scene: Scene, jobs: int) -> None:
    """Refuse pictures that do not fit in this machine's memory.

    Raises
    ------
    ConfigError
        If they do not.
    """
    rows, columns = scene.shape
    needed = BYTES_PER_PIXEL * rows * columns + BYTES_BESIDES
    present = memory_bytes()
    if needed * max(jobs, 1) <= present:
        return
    fit = int(present // needed)
    remedy = f"Use --jobs {fit}" if fit else "Make them smaller, or use a machine with more memory"
    count = f"{jobs} pictures of {columns}x{rows} at a time need"
    found = f"{count} {needed * jobs / 1e9:.1f} GB of memory, there are {present / 1e9:.1f}"
    raise ConfigError("--jobs" if fit else "--shape", found, remedy)


def _facts(name: str, simulated: Simulated) -> Picture:
    """Gather the facts of a picture."""
    return Picture(
        name=name,
        particles=len(simulated.particles),
        decoys=len(simulated.decoys),
        defocus_A=round(float(simulated.defocus_A), 1),
        astigmatism_A=round(float(simulated.astigmatism_A), 1),
        astigmatism_deg=round(float(simulated.astigmatism_deg), 2),
        thickness_A=round(float(simulated.thickness_A), 1),
        dose_e_A2=round(float(simulated.dose_e_A2), 3),
        snr=round(float(simulated.snr), 5),
        mean_counts=round(float(simulated.micrograph.pixels.mean(dtype=np.float64)), 4),
        unusable=round(float(simulated.unusable.mean()), 4),
    )


def _about(work: DataSet) -> dict[str, object]:
    """Return the tables of the record but for the pictures; reads every specimen, so that errors come first."""
    tables: dict[str, object] = {
        "dataset": {"command": "simulate", "version": __version__, "formats": work.formats},
        "scene": asdict(work.scene),
    }
    roles = {"particle": work.scene.specimens, "decoy": work.scene.placement.decoys}
    tables["specimens"] = [_specimen(source, work.scene, role) for role, names in roles.items() for source in names]
    return tables


def _specimen(source: str, scene: Scene, role: str) -> dict[str, object]:
    """Return what the record says of one specimen; `class` counts the particles' kinds from 1."""
    specimen = load(source, scene.source)
    entry: dict[str, object] = {"source": source, "name": specimen.name, "role": role}
    if role == "particle":
        entry["class"] = scene.specimens.index(source) + 1
    entry["longest_A"] = round(float(specimen.diameter_A), 2)
    if source not in BUILT_IN:
        file = Path(source) if Path(source).is_file() else rcsb.fetch(source, scene.source.cache)
        entry["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return entry


def _record(about: dict[str, object], facts: Sequence[Picture]) -> str:
    """Return the text of ``dataset.toml``."""
    return toml({**about, **({"micrographs": [asdict(picture) for picture in facts]} if facts else {})})


def _write_record(path: Path, about: dict[str, object], facts: Sequence[Picture]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(_record(about, facts), encoding="utf-8")


def _check_same(path: Path, about: dict[str, object]) -> None:
    """Refuse to go on in a folder whose record tells of another scene or other files."""
    try:
        there = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read ({error})", "Choose another folder with -o") from error
    here = tomllib.loads(_record(about, []))
    theirs, ours = there.get("scene", {}), here["scene"]
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            found = f"the pictures there were made with another {key}: {theirs.get(key)}, not {ours.get(key)}"
            raise ConfigError(path, found, "Give the same options as before, or another folder with -o")
    hashes = [[entry.get("sha256") for entry in record.get("specimens", [])] for record in (there, here)]
    if hashes[0] != hashes[1]:
        raise ConfigError(path, "the specimens' files have changed since", "Choose another folder with -o")


def _there(work: DataSet) -> dict[Path, tuple[Table, Picture]]:
    """Return those micrographs that are there, with the table of their particles and their facts."""
    missing = set(work.missing(work.paths))
    return {path: truth.read_star(work.truth(path.stem)) for path in work.paths if path not in missing}


def _sum_up(work: DataSet, about: dict[str, object]) -> None:
    """Write the record and RELION's lists, of all pictures that are there."""
    found = {path.relative_to(work.folder).as_posix(): entry for path, entry in _there(work).items()}
    particles = {name: listed for name, (listed, _) in found.items()}
    facts = {name: picture for name, (_, picture) in found.items()}
    microscope = work.scene.optics, work.scene.pixel_size_A
    _write_record(work.folder / RECORD, about, list(facts.values()))
    truth.write_micrographs_star(work.folder / "micrographs.star", facts, *microscope)
    truth.write_particles_star(work.folder / "particles_truth.star", particles, *microscope)


def _draw_overview(work: DataSet) -> None:
    """Draw the first pictures that are there."""
    from upicker.draw.sheet import Panel, sheet  # matplotlib takes half a second

    panels = []
    for path, (_, facts) in list(_there(work).items())[:SHOWN]:
        particles = coordinates.read(work.truth(path.stem).with_suffix(".csv"))
        diameter = particles.median_diameter_px or work.scene.shape[1] / 16
        title = f"{facts.name}: {facts.particles} particles, {facts.defocus_A / 1e4:.2f} µm"
        if len(particles):
            title += f", SNR {facts.snr:.3f}"
        shown = particles if len(panels) % 2 else None
        panels.append(Panel(micrographs.read(path, work.scene.pixel_size_A), diameter, title, shown))
    if panels:
        sheet(panels, work.folder / "overview.png")
