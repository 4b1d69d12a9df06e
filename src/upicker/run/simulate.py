"""Simulated data sets: micrographs with their truth.

A data set's folder, with NAME = ``simulated_0000`` and so on::

    micrographs/NAME.mrc      electron counts, 32-bit floats; with several formats the first (the others are in
                              micrographs-FORMAT/, so that no folder has the same name twice)
    truth/NAME.csv, .star     the particles (see `upicker.run.truth`)
    masks/NAME_mask.png       255 in the unusable area: contamination, carbon film
    decoys/NAME.csv           particles of decoys, if there are any
    micrographs.star          for RELION 3.1 and later, with the folder as the project
    particles_truth.star
    dataset.toml              how the data set was made, and the facts of each micrograph
    overview.png              the first micrographs
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from upicker import __version__
from upicker.errors import ConfigError, InputError, OutputError
from upicker.io import coordinates, folders, micrographs, mrc, plausible, rasters
from upicker.io.atomic import replacing
from upicker.io.star import Table
from upicker.run import truth
from upicker.run.batch import Outcome, Workers, each
from upicker.run.machine import memory_bytes
from upicker.run.outputs import writable
from upicker.run.record import toml
from upicker.run.truth import MicrographFacts
from upicker.simulate.scene import Scene, Simulated, make
from upicker.simulate.specimens import rcsb
from upicker.simulate.specimens.specimen import BUILT_IN, load

RECORD = "dataset.toml"
FORMATS = ("mrc", "tif")
# Peak memory of one process, as measured: per pixel of the image, and for all else (a large specimen).
BYTES_PER_PIXEL, BYTES_BESIDES = 80, 400_000_000
# Micrographs on the overview; every other one has circles.
SHOWN = 6


@dataclass(frozen=True)
class DataSet:
    """What to simulate, and the folder to write to; picklable, and also the work on one micrograph.

    Attributes
    ----------
    scene : Scene
        What to simulate.
    folder : Path
        The folder to write to.
    micrographs : int
        Number of micrographs.
    formats : tuple of str
        Some of `FORMATS`.
    """

    scene: Scene
    folder: Path
    micrographs: int
    formats: tuple[str, ...] = ("mrc",)

    def __post_init__(self) -> None:
        """Raise ConfigError if no micrograph can be made."""
        if self.micrographs < 1:
            raise ConfigError("--micrographs", f"{self.micrographs} is less than 1", "Give at least 1")
        for name in self.formats or ("",):
            if name not in FORMATS:
                remedy = f"Choose from: {', '.join(FORMATS)}"
                raise ConfigError("--format", f"unknown format '{name}' of micrographs", remedy)
        smallest, largest = plausible.MIN_SIDE, plausible.MAX_SIDE
        rows, columns = self.scene.shape
        if not smallest <= min(rows, columns) <= max(rows, columns) <= largest:
            found = f"{columns}x{rows} is out of range"
            raise ConfigError("--shape", found, f"Give {smallest} to {largest} pixels per side")

    @property
    def paths(self) -> list[Path]:
        """The micrographs, in the first format."""
        return [self.file(f"simulated_{index:04d}") for index in range(self.micrographs)]

    def file(self, name: str, format: str = "") -> Path:
        """Return the file of a micrograph, by default in the first format."""
        format = format or self.formats[0]
        folder = "micrographs" if format == self.formats[0] else f"micrographs-{format}"
        return self.folder / folder / f"{name}.{format}"

    def truth(self, name: str) -> Path:
        """Return the truth file that is written last: if it exists, the micrograph is complete."""
        return self.folder / "truth" / f"{name}.star"

    def missing(self, paths: Sequence[Path]) -> list[Path]:
        """Return the micrographs that are not complete."""
        return [
            path
            for path in paths
            if not (self.truth(path.stem).exists() and all(self.file(path.stem, f).exists() for f in self.formats))
        ]

    def leftovers(self) -> list[Path]:
        """Return files in the folder of truth that belong to none of the micrographs."""
        names = {path.stem for path in self.paths}
        folder = self.folder / "truth"
        return [file for stem, file in folders.stems(folder).items() if stem not in names] if folder.is_dir() else []

    def __call__(self, path: Path) -> MicrographFacts:
        """Simulate the micrograph at `path`, whose name has its number, and write it and its truth.

        Raises
        ------
        ConfigError
            If the scene cannot be made.
        OutputError
            If something cannot be written.
        """
        name = path.stem
        simulated = make(self.scene, int(name.rpartition("_")[2]))
        facts = _facts(name, simulated)
        micrograph = simulated.micrograph
        for format in self.formats:
            write = mrc.write if format == "mrc" else rasters.write_tiff
            write(self.file(name, format), micrograph.pixels, self.scene.pixel_size_A)
        rasters.write_mask(self.folder / "masks" / f"{name}_mask.png", simulated.unusable)
        if self.scene.placement.decoys:
            coordinates.write(self.folder / "decoys" / f"{name}.csv", simulated.decoys, "csv")
        truth.write_csv(self.truth(name).with_suffix(".csv"), simulated)
        truth.write_star(self.truth(name), simulated, facts, self.scene.optics)
        return facts


def simulate_all(
    paths: Sequence[Path], work: DataSet, jobs: int | Workers = 1, resume: bool = False
) -> Generator[Outcome[MicrographFacts], None, None]:
    """Simulate micrographs, and write the lists and the record, also when the caller stops before the end.

    Parameters
    ----------
    paths : sequence of Path
        Those of `DataSet.paths` to make; others may exist already.
    work : DataSet
        What to simulate, and the folder to write to.
    jobs : int or Workers
        Processes; the micrographs do not depend on it.
    resume : bool
        Refuse to add to a folder whose micrographs were made with other options.

    Yields
    ------
    Outcome
        One per micrograph, see `upicker.run.batch.each`.

    Raises
    ------
    InputError
        If a specimen cannot be read.
    ConfigError
        If the scene cannot be made, the micrographs do not fit in memory, or the folder has another data set.
    OutputError
        If something cannot be written.
    """
    if isinstance(jobs, int):
        check_memory(work.scene, jobs)
    about = _about(work)
    # A run that failed before its first micrograph has made nothing that a corrected one could not add to.
    if resume and any((work.folder / "truth").glob("*.star")):
        _check_same(work.folder / RECORD, about)
    writable(work.folder)
    _write_record(work.folder / RECORD, about, [facts for _, facts in _complete(work).values()])
    made: list[Path] = []
    try:
        for outcome in each(paths, work, jobs):
            made += [outcome.path] if outcome.error is None else []
            yield outcome
    finally:
        _write_summaries(work, about)
    if gone := work.missing(made):
        found = "it was removed while others were written"
        raise OutputError(gone[0], found, "Run again with --skip-existing: micrographs that are there are kept")
    _draw_overview(work)


def check_memory(scene: Scene, jobs: int) -> None:
    """Raise ConfigError if the micrographs do not fit in the memory of this machine.

    Raises
    ------
    ConfigError
        See above.
    """
    rows, columns = scene.shape
    needed = BYTES_PER_PIXEL * rows * columns + BYTES_BESIDES
    present = memory_bytes()
    if needed * max(jobs, 1) <= present:
        return
    fit = int(present // needed)
    remedy = f"Use --jobs {fit}" if fit else "Make them smaller, or use a machine with more memory"
    count = f"{jobs} micrographs of {columns}x{rows} at a time need"
    found = f"{count} {needed * jobs / 1e9:.1f} GB of memory, there are {present / 1e9:.1f}"
    raise ConfigError("--jobs" if fit else "--shape", found, remedy)


def _facts(name: str, simulated: Simulated) -> MicrographFacts:
    """Return the facts of a micrograph."""
    return MicrographFacts(
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
    """Return the tables of the record without the micrographs; reads every specimen, so that errors come first."""
    tables: dict[str, object] = {
        "dataset": {"command": "simulate", "version": __version__, "formats": work.formats},
        "scene": asdict(work.scene),
    }
    roles = {"particle": work.scene.specimens, "decoy": work.scene.placement.decoys}
    tables["specimens"] = [_specimen(source, work.scene, role) for role, names in roles.items() for source in names]
    return tables


def _specimen(source: str, scene: Scene, role: str) -> dict[str, object]:
    """Return the entry of one specimen in the record; `class` counts the specimens of particles from 1."""
    specimen = load(source, scene.source)
    entry: dict[str, object] = {"source": source, "name": specimen.name, "role": role}
    if role == "particle":
        entry["class"] = scene.specimens.index(source) + 1
    entry["longest_A"] = round(float(specimen.diameter_A), 2)
    if source not in BUILT_IN:
        file = Path(source) if Path(source).is_file() else rcsb.fetch(source, scene.source.cache)
        entry["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    return entry


def _record(about: dict[str, object], facts: Sequence[MicrographFacts]) -> str:
    """Return the text of ``dataset.toml``."""
    return toml({**about, **({"micrographs": [asdict(one) for one in facts]} if facts else {})})


def _write_record(path: Path, about: dict[str, object], facts: Sequence[MicrographFacts]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(_record(about, facts), encoding="utf-8")


def _check_same(path: Path, about: dict[str, object]) -> None:
    """Raise ConfigError if the record of the folder has another scene or other files."""
    try:
        there = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"cannot be read ({error})", "Choose another folder with -o") from error
    here = tomllib.loads(_record(about, []))
    default = tomllib.loads(_record({"scene": asdict(Scene())}, []))["scene"]
    theirs, ours = _completed(there.get("scene", {}), default), here["scene"]
    for key in sorted(theirs.keys() | ours.keys()):
        if theirs.get(key) != ours.get(key):
            found = f"the micrographs there were made with another {key}: {theirs.get(key)}, not {ours.get(key)}"
            raise ConfigError(path, found, "Give the same options as before, or another folder with -o")
    hashes = [[entry.get("sha256") for entry in record.get("specimens", [])] for record in (there, here)]
    if hashes[0] != hashes[1]:
        raise ConfigError(path, "the specimens' files have changed since", "Choose another folder with -o")


def _completed(table: Mapping[str, object], default: Mapping[str, object]) -> dict[str, object]:
    """Return a table of an earlier version with what it lacks, if that is nothing by default."""
    found = dict(table)
    for key, value in default.items():
        inner = found.get(key, {})
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            found[key] = _completed(inner, value)
        elif not value:
            found.setdefault(key, value)
    return found


def _complete(work: DataSet) -> dict[Path, tuple[Table, MicrographFacts]]:
    """Return the complete micrographs, with the table of their particles and their facts."""
    missing = set(work.missing(work.paths))
    return {path: truth.read_star(work.truth(path.stem)) for path in work.paths if path not in missing}


def _write_summaries(work: DataSet, about: dict[str, object]) -> None:
    """Write the record and RELION's lists, of all complete micrographs."""
    found = {path.relative_to(work.folder).as_posix(): entry for path, entry in _complete(work).items()}
    particles = {name: listed for name, (listed, _) in found.items()}
    facts = {name: one for name, (_, one) in found.items()}
    microscope = work.scene.optics, work.scene.pixel_size_A
    _write_record(work.folder / RECORD, about, list(facts.values()))
    truth.write_micrographs_star(work.folder / "micrographs.star", facts, *microscope)
    truth.write_particles_star(work.folder / "particles_truth.star", particles, *microscope)


def _draw_overview(work: DataSet) -> None:
    """Draw the first complete micrographs."""
    from upicker.draw.sheet import Panel, sheet  # matplotlib takes half a second

    panels = []
    for path, (_, facts) in list(_complete(work).items())[:SHOWN]:
        particles = coordinates.read(work.truth(path.stem).with_suffix(".csv"))
        diameter = particles.median_diameter_px or work.scene.shape[1] / 16
        title = f"{facts.name}: {facts.particles} particles, {facts.defocus_A / 1e4:.2f} µm"
        if len(particles):
            title += f", SNR {facts.snr:.3f}"
        shown = particles if len(panels) % 2 else None
        panels.append(Panel(micrographs.read(path, work.scene.pixel_size_A), diameter, title, shown))
    if panels:
        sheet(panels, work.folder / "overview.png")
