"""Presets: the paper's two simulated data sets, and the default scene.

The paper's Table 1 gives the numbers of micrographs and particles, and the diameters. The rest is chosen here. The
pixel size of SIM-10028 is that of the real EMPIAR-10028, 1.34 A; that of SIM-10025 is 1.07 A, so that a barrel of 150 A
spans the table's 140 pixels. The paper used the entries 3J79 and 1RYP; the files named below are of similar particles,
4V7R (80S ribosome) and 3J9I (20S proteasome); with network access the entry itself can be given as the specimen. As in
the paper's simulator, the images hold nothing but ice and whole particles that do not overlap: it inserts each one into
the volume of the image, so that none is cut by the border.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from upicker.errors import ConfigError, InputError
from upicker.simulate.contamination import Contamination
from upicker.simulate.placement import Placement
from upicker.simulate.scene import Scene


@dataclass(frozen=True)
class Preset:
    """A scene to start from.

    Attributes
    ----------
    scene : the scene; its specimen is given by the user.
    micrographs : number of micrographs.
    structure : the file to look for in the folder of structures.
    entry : entry of the Protein Data Bank that the paper used.
    """

    scene: Scene
    micrographs: int
    structure: str = ""
    entry: str = ""


def preset(name: str) -> Preset:
    """Return a data set of the paper by its name.

    Raises
    ------
    ConfigError
        If there is no such preset.
    """
    if name not in PRESETS:
        raise ConfigError("--preset", f"unknown preset '{name}'", f"Choose one of: {', '.join(PRESETS)}")
    return PRESETS[name]


def chosen(name: str | None, specimens: Sequence[str], structures: Path | None = None) -> Preset:
    """Return a preset, or the default scene, with its specimens.

    Parameters
    ----------
    name : str or None
        One of `PRESETS`; None: `DEFAULT`.
    specimens : sequence of str
        See `upicker.simulate.specimens.specimen.load`.
    structures : Path, optional
        The folder of the preset's structure, used if there are no specimens.

    Raises
    ------
    ConfigError
        If there is no such preset, or no specimen.
    InputError
        If the preset's structure is not in the folder.
    """
    start = DEFAULT if name is None else preset(name)
    if not specimens and name is None:
        raise ConfigError(
            "SPECIMEN", "is missing", "Give built-in names, files or PDB ids, e.g. upicker simulate barrel"
        )
    if not specimens:
        otherwise = f"or give the specimen: a file, or {start.entry}, which is fetched from the Protein Data Bank"
        if structures is None:
            raise ConfigError(
                "SPECIMEN", "is missing", f"Give --structures, the folder of {start.structure}, {otherwise}"
            )
        if not (structures / start.structure).is_file():
            raise InputError(structures, f"{start.structure} is not there", f"Put it there, {otherwise}")
        specimens = [str(structures / start.structure)]
    return replace(start, scene=replace(start.scene, specimens=tuple(specimens)))


def with_changes(scene: Scene, changes: Mapping[str, object]) -> Scene:
    """Return a scene with changes such as ``{"dose_e_A2": 40, "ice.thickness_A": 450}``; values of None are skipped."""
    for key, value in changes.items():
        if value is None:
            continue
        name, _, knob = key.partition(".")
        scene = replace(scene, **{name: replace(getattr(scene, name), **{knob: value}) if knob else value})
    return scene


def _clean(shape: tuple[int, int], particles: int, pixel_size_A: float, diameter_px: float) -> Scene:
    """Return a scene without contamination and carbon film, at full dose."""
    return Scene(
        diameter_A=diameter_px * pixel_size_A,
        shape=shape,
        pixel_size_A=pixel_size_A,
        particles=particles,
        placement=Placement(whole=True),
        contamination=Contamination.level("none"),
        dose_e_A2=40.0,
        defocus_A=(8000.0, 25000.0),
    )


DEFAULT = Preset(
    Scene(
        shape=(4096, 4096),
        pixel_size_A=1.34,
        particles=143,
        contamination=Contamination.level("some"),
        carbon=0.1,
        dose_e_A2=40.0,
        defocus_A=(8000.0, 25000.0),
    ),
    10,
)
PRESETS: dict[str, Preset] = {
    # The paper's table gives columns x rows; a scene's shape is rows, columns.
    "sim-10025": Preset(_clean((3838, 3710), 135, 1.07, 140.0), 110, "3j9i.pdb.gz", "1RYP"),
    "sim-10028": Preset(_clean((4096, 4096), 143, 1.34, 160.0), 100, "4v7r.mrc.gz", "3J79"),
}
