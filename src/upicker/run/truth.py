"""The truth about simulated micrographs, as files that other programs read.

``NAME.csv`` and ``NAME.star`` list the particles of a micrograph; the second also has a table of facts about the
micrograph itself, so that the summaries of a data set can be made from these files, whenever they were written.

Angles are RELION's, in degrees: rot about z, tilt about the new y, psi about the new z, from the frame of the specimen
to that of the image. Defoci are underfocus, Angstrom.
"""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType

import numpy as np
from scipy.spatial.transform import Rotation

from upicker.errors import CoordinatesError, InputError
from upicker.io import star
from upicker.io.atomic import replacing
from upicker.simulate.microscope.optics import Optics
from upicker.simulate.scene import Simulated

CSV_COLUMNS = ("x", "y", "diameter", "rot", "tilt", "psi", "defocus_A", "height_A", "class", "visible", "broken")
# RELION's extraction refuses coordinates with its own defocus columns, and uses the defoci of the micrographs.
STAR_COLUMNS = (
    "_rlnCoordinateX",
    "_rlnCoordinateY",
    "_upickerDefocusU",
    "_upickerDefocusV",
    "_upickerDefocusAngle",
    "_rlnAngleRot",
    "_rlnAngleTilt",
    "_rlnAnglePsi",
    "_rlnClassNumber",
    "_upickerDiameter",
    "_upickerHeight",
    "_upickerVisible",
    "_upickerBroken",
)
_VERSION = "# version 30001\n"


@dataclass(frozen=True)
class MicrographFacts:
    """The facts of one simulated micrograph.

    Attributes
    ----------
    name : the micrograph's stem.
    particles : number of particles, with their centre in the usable area.
    defocus_A, astigmatism_A, astigmatism_deg : mean underfocus, largest minus smallest, angle of the largest.
    snr : as measured; nan without particles.
    thickness_A : mean thickness of the ice.
    dose_e_A2 : electrons counted per square Angstrom, on average.
    mean_counts : mean of the image, electrons per pixel.
    unusable : fraction of the image that is masked, 0..1.
    decoys : number of decoys, which are not part of the truth.
    """

    name: str
    particles: int
    defocus_A: float
    astigmatism_A: float
    astigmatism_deg: float
    snr: float
    thickness_A: float
    dose_e_A2: float
    mean_counts: float
    unusable: float
    decoys: int


def relion_angles(rotations: np.ndarray) -> np.ndarray:
    """Return `(n, 3)` rot, tilt, psi in degrees of `(n, 3, 3)` rotations from the specimen to the beam.

    RELION's matrix is Rz(-psi) Ry(-tilt) Rz(-rot) in the mathematical sense of rotation.
    """
    if not len(rotations):
        return np.zeros((0, 3))
    with warnings.catch_warnings():  # For a tilt of 0 or 180 degrees psi is set to 0, which is correct.
        warnings.filterwarnings("ignore", message="Gimbal lock")
        return Rotation.from_matrix(np.swapaxes(rotations, 1, 2)).as_euler("ZYZ", degrees=True)


def write_csv(path: Path, simulated: Simulated) -> None:
    """Write a micrograph's particles as CSV with the header `CSV_COLUMNS`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    truth, particles = simulated.truth, simulated.particles
    numbers = np.column_stack(
        (particles.xy, particles.diameter_px, relion_angles(truth.rotations), truth.defocus_A, truth.height_A)
    )
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for row, kind, visible, broken in zip(numbers, truth.specimen, truth.visible, truth.broken, strict=True):
            writer.writerow([*(f"{value:.4f}" for value in row), kind + 1, f"{visible:.4f}", int(broken)])


def write_star(path: Path, simulated: Simulated, facts: MicrographFacts, optics: Optics) -> None:
    """Write a micrograph's particles as STAR, followed by tables of the microscope and of facts about the micrograph.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    truth, particles = simulated.truth, simulated.particles
    half = facts.astigmatism_A / 2
    rows = (
        [
            *map(float, xy),
            float(defocus + half),
            float(defocus - half),
            facts.astigmatism_deg,
            *map(float, angles),
            int(kind) + 1,
            *map(float, (diameter, height, visible)),
            int(broken),
        ]
        for xy, defocus, angles, kind, diameter, height, visible, broken in zip(
            particles.xy,
            truth.defocus_A,
            relion_angles(truth.rotations),
            truth.specimen,
            particles.diameter_px,
            truth.height_A,
            truth.visible,
            truth.broken,
            strict=True,
        )
    )
    values = asdict(facts)
    # The particles come first, in a table without a name: RELION reads the first table of a coordinate file.
    text = _VERSION + "# centres in pixels of the micrograph as stored, first pixel = 0; angles in degrees\n\n"
    text += star.format_table("", STAR_COLUMNS, rows)
    text += _optics_table(optics, simulated.micrograph.pixel_size_A) + "\n"
    text += star.format_table("picture", [f"_upicker_{key}" for key in values], [list(values.values())])
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_star(path: Path) -> tuple[star.Table, MicrographFacts]:
    """Return the table of particles of a file by `write_star`, and the facts of its micrograph.

    Raises
    ------
    InputError
        If it cannot be read, or is not such a file.
    """
    try:
        particles, _, facts = star.parse(path.read_text(encoding="utf-8"), path)
        values = dict(zip(facts.columns, facts.rows[0], strict=True))
        kinds = {"str": str, "int": int, "float": float}
        found = {f.name: kinds[str(f.type)](values[f"_upicker_{f.name}"]) for f in fields(MicrographFacts)}
    except (OSError, ValueError, KeyError, IndexError, CoordinatesError) as error:
        problem = f"it is not the truth of a simulated micrograph ({error})"
        raise InputError(path, problem, "Remove it, and simulate this micrograph again") from error
    return particles, MicrographFacts(**found)


def write_micrographs_star(
    path: Path, names: Mapping[str, MicrographFacts], optics: Optics, pixel_size_A: float
) -> None:
    """Write RELION's list of micrographs, with their CTF.

    Parameters
    ----------
    path : Path
        The file to write.
    names : mapping
        Path of the micrograph in the list -> its facts.
    optics : Optics
        The microscope.
    pixel_size_A : float
        Of all micrographs.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    columns = ("_rlnMicrographName", "_rlnOpticsGroup", "_rlnDefocusU", "_rlnDefocusV", "_rlnDefocusAngle")
    rows: list[list[object]] = []
    for name, facts in names.items():
        half = facts.astigmatism_A / 2
        rows.append([name, 1, facts.defocus_A + half, facts.defocus_A - half, facts.astigmatism_deg])
    _write_tables(path, "micrographs", columns, rows, (_optics_table(optics, pixel_size_A), optics))


def write_particles_star(path: Path, truths: Mapping[str, star.Table], optics: Optics, pixel_size_A: float) -> None:
    """Write one list of all particles, with angles and CTF, for RELION.

    Parameters
    ----------
    path : Path
        The file to write.
    truths : mapping
        Path of the micrograph in the list -> its particles, of `read_star`.
    optics, pixel_size_A
        As in `write_micrographs_star`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    kept = {column.replace("_upickerDefocus", "_rlnDefocus"): column for column in STAR_COLUMNS}
    kept = {name: column for name, column in kept.items() if name.startswith("_rln")}
    rows: list[list[object]] = []
    largest_px = 0.0
    for name, table in truths.items():
        indices = [table.columns.index(column) for column in kept.values()]
        rows += [[name, 1, *(row[index] for index in indices)] for row in table.rows]
        diameter = table.columns.index("_upickerDiameter")
        largest_px = max([largest_px, *(float(row[diameter]) for row in table.rows)])
    # RELION extracts from such a list only if it has a box size.
    box = {"_rlnImageSize": 2 * math.ceil(0.75 * largest_px), "_rlnImageDimensionality": 2}
    about = _optics_table(optics, pixel_size_A, box | {"_rlnImagePixelSize": float(pixel_size_A)})
    _write_tables(path, "particles", ("_rlnMicrographName", "_rlnOpticsGroup", *kept), rows, (about, optics))


def _write_tables(
    path: Path, name: str, columns: Sequence[str], rows: Iterable[list[object]], microscope: tuple[str, Optics]
) -> None:
    """Write a table after that of its optics group; a phase plate adds a column."""
    table, optics = microscope
    if optics.phase_plate_deg:
        columns, rows = [*columns, "_rlnPhaseShift"], ([*row, float(optics.phase_plate_deg)] for row in rows)
    text = _VERSION + "\n" + table
    text += "\n" + _VERSION + "\n" + star.format_table(name, columns, rows)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _optics_table(optics: Optics, pixel_size_A: float | None, more: Mapping[str, object] = MappingProxyType({})) -> str:
    """Return the table of the one optics group, as RELION 3.1 has it, with `more` columns."""
    microscope: dict[str, object] = {
        "_rlnOpticsGroup": 1,
        "_rlnOpticsGroupName": "opticsGroup1",
        "_rlnMicrographPixelSize": float(pixel_size_A or 0.0),
        "_rlnMicrographOriginalPixelSize": float(pixel_size_A or 0.0),
        "_rlnVoltage": float(optics.voltage_kV),
        "_rlnSphericalAberration": float(optics.Cs_mm),
        "_rlnAmplitudeContrast": float(optics.amplitude_contrast),
        **more,
    }
    return star.format_table("optics", list(microscope), [list(microscope.values())])
