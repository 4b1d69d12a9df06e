"""The layout of a CryoPPP data set, as its archives unpack.

::

    10017/micrographs/*.mrc                            the light version of CryoPPP has *.jpg
    10017/ground_truth/particle_coordinates/*.csv      X-Coordinate, Y-Coordinate, Diameter, ...; micrographs' names
    10017/ground_truth/*.star, 10017/particles_stack/  not used here

Diameters are in pixels of the micrographs. The layout does not define the frame of the coordinates: they fit the JPG
files, and the MRC files read with their rows reversed (CryoPPP's maintainers, in issue 3 of their repository, transpose
an MRC and rotate it by 90 degrees before they draw on it, which amounts to that). So `upicker.benchmark.labelled`
measures it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from upicker.errors import InputError
from upicker.io.names import is_micrograph_name, plain

MICROGRAPHS = "micrographs"
COORDINATES = Path("ground_truth") / "particle_coordinates"
# Of two files of the same name, the one whose format preserves more of the pixels.
PREFERENCE = (".mrc", ".mrcs", ".tif", ".tiff", ".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Layout:
    """A data set on disk.

    Attributes
    ----------
    name : str
        That of its folder.
    micrographs : tuple of Path
        Each micrograph once.
    labels : Path
        The folder of coordinates.
    """

    name: str
    micrographs: tuple[Path, ...]
    labels: Path


def find(folder: Path) -> Layout:
    """Find the parts of a data set.

    Parameters
    ----------
    folder : Path
        The data set's, or the folder that contains it, as some archives unpack.

    Raises
    ------
    InputError
        If the folders of micrographs or coordinates do not exist, or there is no micrograph.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(folder, "there is no such folder", "Give the folder that CryoPPP's archive unpacks to")
    inner = folder / folder.name
    if not (folder / MICROGRAPHS).is_dir() and inner.is_dir():
        folder = inner
    for part in (Path(MICROGRAPHS), COORDINATES):
        if not (folder / part).is_dir():
            raise InputError(
                folder,
                f"there is no folder {part.as_posix()} in it, as CryoPPP's data sets have",
                "Give the folder of a data set, or the parts of another one with --micrographs and --labels",
            )
    micrographs = _micrographs(folder / MICROGRAPHS)
    if not micrographs:
        raise InputError(folder / MICROGRAPHS, "holds no micrograph", "Unpack the archive again")
    return Layout(folder.resolve().name, micrographs, folder / COORDINATES)


def _micrographs(folder: Path) -> tuple[Path, ...]:
    """Return the micrographs of a folder, of several with the same name the first by `PREFERENCE`."""
    best: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if not is_micrograph_name(path) or path.name.startswith(".") or not path.is_file():
            continue
        other = best.get(plain(path))
        if other is None or _rank(path) < _rank(other):
            best[plain(path)] = path
    return tuple(best.values())


def _rank(path: Path) -> int:
    suffix = path.suffix.lower()
    return PREFERENCE.index(suffix) if suffix in PREFERENCE else len(PREFERENCE)
