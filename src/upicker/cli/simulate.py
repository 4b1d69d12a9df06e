"""``upicker simulate``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from upicker.cli.batches import follow, remaining
from upicker.cli.clusters import workers
from upicker.cli.console import note, warning
from upicker.cli.options import (
    Aberration,
    Cluster,
    Concentration,
    Defocus,
    Dose,
    Flag,
    Fraction,
    Insecure,
    Jobs,
    Output,
    Phase,
    PixelSize,
    Ratio,
    Shape,
    Size,
    Thickness,
    Voltage,
    comma_separated,
)
from upicker.errors import ConfigError, listed

# Default number of decoys per particle.
DECOYS_PER_PARTICLE = 0.2
_PARTICLES = Parameter(group=Group("Particles", sort_key=1))
_ICE = Parameter(group=Group("Ice", sort_key=2))
_MICROSCOPE = Parameter(group=Group("Microscope", sort_key=3))


def simulate(
    *specimens: Annotated[str, Parameter(help="Built-in names, files of structures or density maps, or PDB ids.")],
    output: Output,
    micrographs: int | None = None,
    shape: Shape | None = None,
    pixel_size: Annotated[PixelSize, Parameter(help="Pixel size; by default 1.34A.")] = None,
    preset: str | None = None,
    structures: Annotated[Path | None, Parameter(negative="")] = None,
    format: str = "mrc",
    seed: int = 0,
    skip_existing: Annotated[bool, Flag] = False,
    jobs: Jobs | None = None,
    cluster: Cluster = None,
    insecure: Insecure = False,
    particles: Annotated[int | None, _PARTICLES, Parameter(allow_leading_hyphen=True)] = None,
    concentration: Annotated[Concentration | None, _PARTICLES] = None,
    diameter: Annotated[Size | None, _PARTICLES] = None,
    assembly: Annotated[str | None, _PARTICLES] = None,
    voxel_size: Annotated[Size | None, _PARTICLES] = None,
    broken: Annotated[Fraction | None, _PARTICLES] = None,
    clustered: Annotated[Fraction | None, _PARTICLES] = None,
    decoys: Annotated[
        tuple[str, ...], _PARTICLES, Parameter(consume_multiple=True, negative="", show_default=False)
    ] = (),
    decoy_share: Annotated[Fraction | None, _PARTICLES] = None,
    preferred: Annotated[float | None, _PARTICLES, Parameter(allow_leading_hyphen=True)] = None,
    empty: Annotated[Fraction | None, _PARTICLES] = None,
    contamination: Annotated[Literal["none", "some", "much"] | None, _ICE] = None,
    carbon: Annotated[Fraction | None, _ICE] = None,
    thickness: Annotated[Thickness | None, _ICE] = None,
    dose: Annotated[Dose | None, _MICROSCOPE] = None,
    snr: Annotated[Ratio | None, _MICROSCOPE] = None,
    defocus: Annotated[Defocus | None, _MICROSCOPE] = None,
    voltage: Annotated[Voltage | None, _MICROSCOPE] = None,
    cs: Annotated[Aberration | None, _MICROSCOPE] = None,
    phase_plate: Annotated[Phase | None, _MICROSCOPE] = None,
    camera: Annotated[str | None, _MICROSCOPE] = None,
    binning: Annotated[Ratio | None, _MICROSCOPE] = None,
) -> int:
    """Simulate micrographs with known particles, by the physics of image formation.

    Writes to DIR: micrographs/, truth/ (CSV and STAR files), masks/ (255 = unusable), micrographs.star and
    particles_truth.star for RELION, dataset.toml with all parameters, and overview.png. The result depends on the seed
    alone, not on the number of processes.

    Parameters
    ----------
    output
        Output folder.
    micrographs
        Number of micrographs; by default 10, or that of the preset.
    shape
        Micrograph size, columns x rows; by default 4096x4096.
    preset
        A data set of the paper, "sim-10025" or "sim-10028"; other options override it.
    structures
        Folder of the preset's structure (3j9i.pdb.gz, 4v7r.mrc.gz), if no SPECIMEN is given.
    format
        Micrograph formats, mrc or tif, separated by commas.
    seed
        Seed of all random numbers.
    skip_existing
        Continue an earlier run with the same options.
    jobs
        Number of parallel processes.
    particles
        Particles per micrograph; by default 143.
    concentration
        Particle concentration, instead of --particles, e.g. 475/um2.
    diameter
        Particle diameter in the truth, e.g. 150A or 160px; by default each specimen's largest extent.
    assembly
        Biological assembly of the structure to build, e.g. 1.
    voxel_size
        Voxel size of density maps whose header lacks it, e.g. 5A; for structures, that of the computed potential.
    broken
        Fraction of broken particles, with a part missing, 0 to 1.
    clustered
        Fraction of particles in aggregates, 0 to 1.
    decoys
        Other specimens, which are simulated but not in the truth.
    decoy_share
        Decoys per particle; by default 0.2 with --decoys.
    preferred
        Strength of preferred orientation: 3 or more favours side views, -3 or less top views (along the axis); by
        default 0, uniform.
    empty
        Fraction of micrographs without particles.
    contamination
        Amount of contamination: ice crystals, blobs, speckles; by default some.
    carbon
        Fraction of micrographs with an edge of carbon film; by default 0.1.
    thickness
        Mean ice thickness, e.g. 45nm; a bare number is in Angstrom.
    dose
        Electron dose in e/A2, e.g. 40 or 40e/A2; by default 40.
    snr
        Signal-to-noise ratio (variance of the particles over that of the rest); sets the dose of each micrograph.
    defocus
        Range of underfocus, e.g. 0.8-2.5um, 8000-25000A or 1.5um.
    voltage
        Acceleration voltage, e.g. 300kV.
    cs
        Spherical aberration, e.g. 2.7mm.
    phase_plate
        Phase shift of a phase plate, e.g. 90deg.
    camera
        Detector: k3, k2, falcon4, ideal or others, or a file of its MTF.
    binning
        Binning of the detector's pixels, e.g. 2; by default 1.
    """
    from upicker.run.simulate import DataSet, simulate_all
    from upicker.simulate.contamination import Contamination
    from upicker.simulate.presets import chosen, with_changes

    start = chosen(preset, specimens, structures)
    size_A = pixel_size or start.scene.pixel_size_A
    given: list[tuple[str, str, object]] = [
        ("--shape", "shape", shape),
        ("--pixel-size", "pixel_size_A", pixel_size),
        ("--seed", "seed", seed),
        ("--particles", "particles", _count(concentration, particles, shape or start.scene.shape, size_A)),
        ("--diameter", "diameter_A", None if diameter is None else diameter.to_px(size_A) * size_A),
        ("--assembly", "source.assembly", assembly),
        ("--voxel-size", "source.voxel_size_A", None if voxel_size is None else voxel_size.to_px(1.0)),
        ("--broken", "placement.broken", broken),
        ("--clustered", "placement.clustered", clustered),
        ("--decoys", "placement.decoys", decoys or None),
        ("--decoy-share", "placement.decoy_share", decoy_share or (DECOYS_PER_PARTICLE if decoys else None)),
        ("--preferred", "placement.preferred", preferred),
        ("--empty", "empty", empty),
        ("--contamination", "contamination", None if contamination is None else Contamination.level(contamination)),
        ("--carbon", "carbon", carbon),
        ("--thickness", "ice.thickness_A", thickness),
        ("--dose", "dose_e_A2", dose),
        ("--snr", "snr", snr),
        ("--defocus", "defocus_A", defocus),
        ("--cs", "optics.Cs_mm", cs),
        ("--phase-plate", "optics.phase_plate_deg", phase_plate),
        ("--camera", "detector.camera", camera),
        ("--binning", "detector.binning", binning),
        ("--voltage", "detector.voltage_kV", voltage),
        ("--voltage", "optics.voltage_kV", voltage),
    ]
    with _named(given):
        scene = with_changes(start.scene, {knob: value for _, knob, value in given})
        count = start.micrographs if micrographs is None else micrographs
        work = DataSet(scene, output, count, comma_separated(format))
        paths = remaining(work.paths, work, skip_existing)
        if leftovers := work.leftovers():
            warning(f"{len(leftovers)} micrographs of an earlier run remain in the folder: {listed(leftovers)}")
        with workers(cluster, insecure, jobs, 1, output) as crew:
            outcomes = simulate_all(paths, work, crew, resume=skip_existing)
            code = follow("simulated", outcomes, len(paths), output)
    note(f"overview: {output / 'overview.png'}; parameters: {output / 'dataset.toml'}")
    return code


def _count(per_um2: float | None, particles: int | None, shape: tuple[int, int], pixel_size_A: float) -> int | None:
    """Return the number of particles per micrograph, from the concentration if that is given."""
    if per_um2 is None:
        return particles
    if particles is not None:
        raise ConfigError("--concentration", "--particles was given, too", "Give one of the two")
    return round(per_um2 * shape[0] * shape[1] * (pixel_size_A * 1e-4) ** 2)


@contextmanager
def _named(given: Sequence[tuple[str, str, object]]) -> Iterator[None]:
    """Make errors about a parameter of the scene name its option."""
    options = {knob.rpartition(".")[2]: option for option, knob, _ in given}
    try:
        yield
    except ConfigError as error:
        if error.where not in options:
            raise
        raise ConfigError(options[error.where], error.found, error.remedy) from error
