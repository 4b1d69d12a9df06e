"""Writing particle images: ``.mrcs`` stacks, and the ``particles.star`` that lists them (RELION >= 3.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from upicker.errors import InputError, OutputError
from upicker.io import star
from upicker.io.atomic import replacing
from upicker.io.mrc import HEADER_BYTES
from upicker.particles import Particles

_MODE_FLOAT32 = 2
_MRC2014 = 20141


class StackWriter:
    """Appends particle images to an open stack; made by `open_stack`.

    Attributes
    ----------
    count : int
        Images written so far; the next one is number ``count + 1`` in RELION's counting.
    """

    def __init__(self, file: BinaryIO, box_px: int, pixel_size_A: float | None) -> None:
        self._file, self._box_px, self._pixel_size_A = file, box_px, pixel_size_A
        self.count = 0
        self._low, self._high, self._sum, self._square_sum = np.inf, -np.inf, 0.0, 0.0
        file.write(bytes(HEADER_BYTES))

    def append(self, boxes: np.ndarray) -> None:
        """Add images `(n, b, b)`; n may be 0."""
        assert boxes.shape == (len(boxes), self._box_px, self._box_px), boxes.shape
        if not len(boxes):
            return
        values = np.ascontiguousarray(boxes, "<f4")
        self._file.write(values.data)
        self.count += len(values)
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        self._sum += float(values.sum(dtype=np.float64))
        self._square_sum += float(np.einsum("nij,nij->n", values, values).sum(dtype=np.float64))

    def finish(self) -> None:
        """Write the header, now that the number of images is known."""
        header: Any = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
        box, size = self._box_px, self._pixel_size_A or 0.0
        header["nx"] = header["ny"] = header["mx"] = header["my"] = box
        # A stack of images, not a volume: the z axis of the unit cell is one image (MRC2014).
        header["nz"], header["mz"], header["ispg"] = self.count, 1, 0
        header["mode"], header["nversion"] = _MODE_FLOAT32, _MRC2014
        header["cella"] = (box * size, box * size, size)
        header["cellb"] = (90.0, 90.0, 90.0)
        header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
        header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
        total = self.count * box * box
        mean = self._sum / total
        header["dmin"], header["dmax"], header["dmean"] = self._low, self._high, mean
        header["rms"] = np.sqrt(max(0.0, self._square_sum / total - mean**2))
        header["nlabl"] = 1
        header["label"][0] = b"UPicker particle stack"
        self._file.seek(0)
        self._file.write(header.tobytes())


@contextmanager
def open_stack(path: Path, box_px: int, pixel_size_A: float | None = None) -> Iterator[StackWriter]:
    """Write a stack chunk by chunk, without holding all of it; it appears at `path` when the block ends well.

    Parameters
    ----------
    path : Path
        The ``.mrcs`` file (MRC mode 2, an image stack).
    box_px : int
        Side of the images, in pixels.
    pixel_size_A : float, optional
        For the header; 0 there means not known.

    Raises
    ------
    OutputError
        If the file cannot be written, or no image was added: MRC has no empty stacks.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        writer = StackWriter(file, box_px, pixel_size_A)
        yield writer
        if not writer.count:
            raise OutputError(path, "there is no particle to write", "Lower the threshold or leave this micrograph out")
        writer.finish()


def write_stack(path: Path, boxes: np.ndarray, pixel_size_A: float | None = None) -> None:
    """Write particle images `(n, b, b)` float32 as one ``.mrcs`` stack; see `open_stack`.

    Raises
    ------
    OutputError
        If the file cannot be written, or n is 0.
    """
    with open_stack(path, boxes.shape[-1], pixel_size_A) as stack:
        stack.append(boxes)


@dataclass(frozen=True)
class StackEntry:
    """One stack's particles in ``particles.star``.

    Attributes
    ----------
    stack : str
        The ``.mrcs`` file as the STAR file should name it: relative to where RELION is started.
    micrograph : str
        The micrograph's file, with its suffix (a bare ``00123`` is a number to other readers).
    particles : Particles
        In the order of the stack, in raw pixels.
    box_px : int
        Side of the images, in pixels.
    pixel_size_A : float or None
        Angstrom per pixel of the images.
    """

    stack: str
    micrograph: str
    particles: Particles
    box_px: int
    pixel_size_A: float | None = None


@dataclass(frozen=True)
class Microscope:
    """What RELION wants to know of the microscope before it takes particles.

    Attributes
    ----------
    voltage_kV : float
        Acceleration voltage.
    spherical_aberration_mm : float
        Cs of the objective.
    amplitude_contrast : float
        Share of amplitude contrast, 0..1.
    """

    voltage_kV: float
    spherical_aberration_mm: float
    amplitude_contrast: float = 0.1


def write_particles_star(path: Path, entries: Sequence[StackEntry], microscope: Microscope | None = None) -> None:
    """Write the list of extracted particles, with one optics group per pixel size and box.

    What is not known is left out rather than invented: the column ``_rlnImagePixelSize`` if no pixel size is
    known, voltage, aberration and amplitude contrast without `microscope`. RELION's programs refuse the file
    until they are given; other readers do not mind.

    Parameters
    ----------
    path : Path
        Usually ``particles.star``.
    entries : sequence of StackEntry
        One per stack.
    microscope : Microscope, optional
        The same for all groups.

    Raises
    ------
    InputError
        If the pixel size is known for some micrographs only.
    OutputError
        If the file cannot be written.
    """
    unknown = [entry for entry in entries if not entry.pixel_size_A]
    if unknown and len(unknown) < len(entries):
        raise InputError(
            unknown[0].micrograph,
            f"its pixel size is not known, that of {len(entries) - len(unknown)} others is",
            "Give --pixel-size, or extract these micrographs apart",
        )
    kinds = list(dict.fromkeys((entry.pixel_size_A, entry.box_px) for entry in entries))
    text = "# version 30001\n\n" + _optics(kinds, microscope) + "\n# version 30001\n\n" + _listed(entries, kinds)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _optics(kinds: Sequence[tuple[float | None, int]], microscope: Microscope | None) -> str:
    columns = ["_rlnOpticsGroup", "_rlnOpticsGroupName", "_rlnImageSize", "_rlnImageDimensionality"]
    rows: list[list[object]] = [[group, f"opticsGroup{group}", box, 2] for group, (_, box) in enumerate(kinds, 1)]
    if all(size for size, _ in kinds):
        columns.append("_rlnImagePixelSize")
        for row, (size, _) in zip(rows, kinds):
            row.append(float(size or 0.0))
    if microscope:
        columns += ["_rlnVoltage", "_rlnSphericalAberration", "_rlnAmplitudeContrast"]
        values = (microscope.voltage_kV, microscope.spherical_aberration_mm, microscope.amplitude_contrast)
        for row in rows:
            row.extend(float(value) for value in values)
    return star.format_table("optics", columns, rows)


def _listed(entries: Sequence[StackEntry], kinds: Sequence[tuple[float | None, int]]) -> str:
    columns = (
        "_rlnCoordinateX",
        "_rlnCoordinateY",
        "_rlnAutopickFigureOfMerit",
        "_rlnImageName",
        "_rlnMicrographName",
        "_rlnOpticsGroup",
    )
    rows = (
        (float(x), float(y), f"{score:.8g}", f"{number:06d}@{entry.stack}", entry.micrograph, group)
        for entry in entries
        for group in [kinds.index((entry.pixel_size_A, entry.box_px)) + 1]
        for number, ((x, y), score) in enumerate(zip(entry.particles.xy, entry.particles.score), 1)
    )
    return star.format_table("particles", columns, rows)
