"""``upicker simulate``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from upicker.cli.batches import follow, remaining
from upicker.cli.console import note, warning
from upicker.cli.options import (
    Aberration,
    Concentration,
    Defocus,
    Dose,
    Flag,
    Jobs,
    Output,
    Phase,
    PixelSize,
    Ratio,
    Shape,
    Share,
    Size,
    Thickness,
    Voltage,
    words,
)
from upicker.errors import ConfigError, listed

# Decoys for each particle, unless it is said.
DECOY_SHARE = 0.2
_PARTICLES = Parameter(group=Group("Particles", sort_key=1))
_ICE = Parameter(group=Group("Ice", sort_key=2))
_MICROSCOPE = Parameter(group=Group("Microscope", sort_key=3))


def simulate(
    *specimens: Annotated[str, Parameter(help="Built-in names, files of structures or maps, or PDB ids.")],
    output: Output,
    micrographs: int | None = None,
    shape: Shape | None = None,
    pixel_size: Annotated[PixelSize, Parameter(help="Angstrom per pixel; by default 1.34A.")] = None,
    preset: str | None = None,
    structures: Annotated[Path | None, Parameter(negative="")] = None,
    format: str = "mrc",
    seed: int = 0,
    skip_existing: Annotated[bool, Flag] = False,
    jobs: Jobs = 1,
    particles: Annotated[int | None, _PARTICLES, Parameter(allow_leading_hyphen=True)] = None,
    concentration: Annotated[Concentration | None, _PARTICLES] = None,
    diameter: Annotated[Size | None, _PARTICLES] = None,
    assembly: Annotated[str | None, _PARTICLES] = None,
    voxel_size: Annotated[Size | None, _PARTICLES] = None,
    broken: Annotated[Share | None, _PARTICLES] = None,
    clustered: Annotated[Share | None, _PARTICLES] = None,
    decoys: Annotated[
        tuple[str, ...], _PARTICLES, Parameter(consume_multiple=True, negative="", show_default=False)
    ] = (),
    decoy_share: Annotated[Share | None, _PARTICLES] = None,
    preferred: Annotated[float | None, _PARTICLES, Parameter(allow_leading_hyphen=True)] = None,
    empty: Annotated[Share | None, _PARTICLES] = None,
    contamination: Annotated[Literal["none", "some", "much"] | None, _ICE] = None,
    carbon: Annotated[Share | None, _ICE] = None,
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
    """Simulate micrographs with known particles, by the physics of the microscope.

    Writes to DIR: micrographs/, truth/ (CSV and STAR for each), masks/ (255 = not usable), micrographs.star and
    particles_truth.star for RELION, dataset.toml that says everything, and overview.png. The same seed gives the same
    pictures, however many processes work.

    Parameters
    ----------
    output
        The folder to write to.
    micrographs
        How many; by default 10, or what the preset says.
    shape
        Columns x rows of a picture; by default 4096x4096.
    preset
        A data set of the paper, "sim-10025" or "sim-10028"; every option given besides beats it.
    structures
        Where the preset's structure lies (3j9i.pdb.gz, 4v7r.mrc.gz), if no SPECIMEN is named.
    format
        Any of mrc, tif, with commas between.
    seed
        Of all random numbers.
    skip_existing
        Go on where an earlier run with the same options stopped.
    jobs
        Processes that work side by side.
    particles
        How many have their centre in a picture; by default 143.
    concentration
        The same as particles in a square micrometre, e.g. 475/um2.
    diameter
        The labels', e.g. 150A or 160px; by default each specimen's longest extension.
    assembly
        Build this biological assembly of a structure's file, e.g. 1.
    voxel_size
        Of density maps that do not give theirs, e.g. 5A; of structures, that of the potential computed.
    broken
        Share of the particles of which a part is missing, 0 to 1.
    clustered
        Share of the particles that stick together, 0 to 1.
    decoys
        Other specimens, which are drawn but are not in the truth.
    decoy_share
        Decoys for each particle; by default 0.2 with --decoys.
    preferred
        Which views there are more of: 3 or more, those on the sides of the particle; -3 or less, those along its axis;
        by default 0, all alike.
    empty
        Share of the pictures without particles.
    contamination
        What lies on the ice: crystals, lumps, speckles; by default some.
    carbon
        Share of the pictures that show an edge of carbon film; by default 0.1.
    thickness
        Mean thickness of the ice, e.g. 45nm; a bare number is Angstrom.
    dose
        Electrons per square Angstrom that reach the camera, e.g. 40 or 40e/A2; by default 40.
    snr
        Variance of the particles over that of all else; sets the dose of each picture.
    defocus
        Smallest and largest underfocus, e.g. 0.8-2.5um, 8000-25000A or 1.5um.
    voltage
        Of the microscope, e.g. 300kV.
    cs
        Spherical aberration, e.g. 2.7mm.
    phase_plate
        Phase shift, e.g. 90deg.
    camera
        The detector, e.g. k3, k2, falcon4, ideal.
    binning
        Pixels of the camera in a pixel of the picture: 2 after binning by 2; by default 1.
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
        ("--decoy-share", "placement.decoy_share", decoy_share or (DECOY_SHARE if decoys else None)),
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
        work = DataSet(scene, output, start.micrographs if micrographs is None else micrographs, words(format))
        paths = remaining(work.paths, work, skip_existing)
        if leftovers := work.leftovers():
            warning(f"{len(leftovers)} micrographs there are of an earlier run, and stay: {listed(leftovers)}")
        outcomes = simulate_all(paths, work, jobs, going_on=skip_existing)
        code = follow("simulated", outcomes, len(paths), output)
    note(f"what they look like: {output / 'overview.png'}; how they were made: {output / 'dataset.toml'}")
    return code


def _count(per_um2: float | None, particles: int | None, shape: tuple[int, int], pixel_size_A: float) -> int | None:
    """Return how many particles have their centre in a picture, also where a concentration is given."""
    if per_um2 is None:
        return particles
    if particles is not None:
        raise ConfigError("--concentration", "--particles is given, too", "Give one of the two")
    return round(per_um2 * shape[0] * shape[1] * (pixel_size_A * 1e-4) ** 2)


@contextmanager
def _named(given: Sequence[tuple[str, str, object]]) -> Iterator[None]:
    """Let errors about a knob of the scene name the option that sets it."""
    options = {knob.rpartition(".")[2]: option for option, knob, _ in given}
    try:
        yield
    except ConfigError as error:
        if error.where not in options:
            raise
        raise ConfigError(options[error.where], error.found, error.remedy) from error
