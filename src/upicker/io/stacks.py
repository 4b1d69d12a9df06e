"""Writing particle images: ``.mrcs`` stacks, and the ``particles.star`` that lists them (RELION >= 3.1)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from upicker.errors import InputError, OutputError
from upicker.io import star
from upicker.io.atomic import replacing
from upicker.io.mrc import HEADER_BYTES
from upicker.particles import Particles

_MODES = {2: np.dtype("<f4"), 12: np.dtype("<f2")}
_MRC2014 = 20141
_GROUP_NAME = "_rlnOpticsGroupName"


@dataclass(frozen=True)
class StackKind:
    """How a stack is stored.

    Attributes
    ----------
    float16 : bool
        Half precision (MRC mode 12), half the size, which RELION reads from version 4 on. Otherwise mode 2.
    note : str
        Up to 80 ASCII characters, for the header; see `read_note`.
    """

    float16: bool = False
    note: str = ""


class StackWriter:
    """Appends particle images to a stack opened by `open_stack`.

    Attributes
    ----------
    count : int
        Images written so far; RELION numbers the next one ``count + 1``.
    """

    def __init__(self, file: BinaryIO, box_px: int, pixel_size_A: float | None, kind: StackKind) -> None:
        self._file, self._box_px, self._pixel_size_A = file, box_px, pixel_size_A
        self._mode, self._note = 12 if kind.float16 else 2, kind.note
        self.count = 0
        self._low, self._high, self._sum, self._square_sum = np.inf, -np.inf, 0.0, 0.0
        file.write(bytes(HEADER_BYTES))

    def append(self, boxes: np.ndarray) -> None:
        """Add images `(n, b, b)`; n may be 0."""
        assert boxes.shape == (len(boxes), self._box_px, self._box_px), boxes.shape
        if not len(boxes):
            return
        values = np.ascontiguousarray(boxes, _MODES[self._mode])
        self._file.write(values.data)
        self.count += len(values)
        self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))
        self._sum += float(values.sum(dtype=np.float64))
        self._square_sum += float(np.einsum("nij,nij->n", boxes, boxes).sum(dtype=np.float64))

    def finish(self) -> None:
        """Write the header, now that the number of images is known."""
        header: Any = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
        box, size = self._box_px, self._pixel_size_A or 0.0
        header["nx"] = header["ny"] = header["mx"] = header["my"] = box
        # A stack of images, not a volume: the z axis of the unit cell is one image (MRC2014).
        header["nz"], header["mz"], header["ispg"] = self.count, 1, 0
        header["mode"], header["nversion"] = self._mode, _MRC2014
        header["cella"] = (box * size, box * size, size)
        header["cellb"] = (90.0, 90.0, 90.0)
        header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
        header["map"], header["machst"] = b"MAP ", (0x44, 0x44, 0, 0)
        total = self.count * box * box
        mean = self._sum / total
        header["dmin"], header["dmax"], header["dmean"] = self._low, self._high, mean
        header["rms"] = np.sqrt(max(0.0, self._square_sum / total - mean**2))
        labels = ["UPicker particle stack", *([self._note] if self._note else [])]
        header["nlabl"] = len(labels)
        header["label"][: len(labels)] = [label.encode("ascii") for label in labels]
        self._file.seek(0)
        self._file.write(header.tobytes())


@contextmanager
def open_stack(
    path: Path, box_px: int, pixel_size_A: float | None = None, kind: StackKind = StackKind()
) -> Iterator[StackWriter]:
    """Write a stack in chunks, without holding all of it in memory; it appears at `path` if the block succeeds.

    Parameters
    ----------
    path : Path
        The ``.mrcs`` file.
    box_px : int
        Side of the images, in pixels.
    pixel_size_A : float, optional
        For the header, where 0 means unknown.
    kind : StackKind
        Precision, and a note.

    Raises
    ------
    OutputError
        If the file cannot be written, or no image was added: MRC has no empty stacks.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        writer = StackWriter(file, box_px, pixel_size_A, kind)
        yield writer
        if not writer.count:
            raise OutputError(path, "there is no particle to write", "Lower the threshold or leave the micrograph out")
        writer.finish()


def read_note(path: Path) -> tuple[str, int] | None:
    """Return the note in the header of a stack written by `open_stack`, and the number of its images.

    None if there is no note, no such stack, or if the file is not as long as its header says.
    """
    try:
        with path.open("rb") as file:
            content, size = file.read(HEADER_BYTES), file.seek(0, os.SEEK_END)
    except OSError:
        return None
    if len(content) < HEADER_BYTES:
        return None
    header: Any = np.frombuffer(content, HEADER_DTYPE.newbyteorder("<"))[0]
    if header["nlabl"] != 2 or int(header["mode"]) not in _MODES:
        return None
    pixels = int(header["nx"]) * int(header["ny"]) * int(header["nz"])
    if size != HEADER_BYTES + pixels * _MODES[int(header["mode"])].itemsize:
        return None
    return header["label"][1].decode("ascii", "replace"), int(header["nz"])


@dataclass(frozen=True)
class StackEntry:
    """One stack's particles in ``particles.star``.

    Attributes
    ----------
    stack : str
        The ``.mrcs`` file as the STAR file names it: relative to the folder in which RELION is started.
    micrograph : str
        The micrograph's file, with its suffix (other readers take a bare ``00123`` for a number).
    particles : Particles
        In the order of the stack, in raw pixels.
    box_px : int
        Side of the images, in pixels.
    pixel_size_A : float or None
        Angstrom per pixel of the images.
    optics : mapping
        What is known of the microscope: columns of RELION's optics table (``_rlnVoltage``) and their values as text.
    ctf : mapping
        What is known of the micrograph's CTF: columns (``_rlnDefocusU``) and their values as text.
    """

    stack: str
    micrograph: str
    particles: Particles
    box_px: int
    pixel_size_A: float | None = None
    optics: Mapping[str, str] = field(default_factory=dict)
    ctf: Mapping[str, str] = field(default_factory=dict)


def write_particles_star(path: Path, entries: Sequence[StackEntry]) -> None:
    """Write the list of extracted particles, with one optics group per microscope, pixel size and box.

    Unknown values are left out rather than invented: the column ``_rlnImagePixelSize`` if no pixel size is known,
    voltage, aberration and the like. RELION's programs refuse the file without them; other readers accept it.

    Parameters
    ----------
    path : Path
        Usually ``particles.star``.
    entries : sequence of StackEntry
        One per stack.

    Raises
    ------
    InputError
        If the pixel size, or a column of optics or CTF, is known for some micrographs only.
    OutputError
        If the file cannot be written.
    """
    unknown = [entry for entry in entries if not entry.pixel_size_A]
    _check_known_for_all(entries, unknown, "pixel size", "Give --pixel-size, or")
    for what in ("optics", "ctf"):
        columns = list(dict.fromkeys(label for entry in entries for label in getattr(entry, what)))
        for label in columns:
            lacking = [entry for entry in entries if label not in getattr(entry, what)]
            _check_known_for_all(entries, lacking, label, "Give one list with that column for all, or")
    groups = list(dict.fromkeys(_group(entry) for entry in entries))
    text = "# version 30001\n\n" + _optics(entries, groups) + "\n# version 30001\n\n" + _listed(entries, groups)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


_Group = tuple[tuple[tuple[str, str], ...], float | None, int]


def _check_known_for_all(entries: Sequence[StackEntry], lacking: Sequence[StackEntry], what: str, remedy: str) -> None:
    if lacking and len(lacking) < len(entries):
        raise InputError(
            lacking[0].micrograph,
            f"its {what} is not known, but that of {len(entries) - len(lacking)} others is",
            f"{remedy} extract these micrographs separately",
        )


def _group(entry: StackEntry) -> _Group:
    """Return the values that the particles of one optics group share."""
    return tuple(entry.optics.items()), entry.pixel_size_A, entry.box_px


def _optics(entries: Sequence[StackEntry], groups: Sequence[_Group]) -> str:
    """Return the optics table; given names of groups are kept if they are unique."""
    known = list(dict.fromkeys(label for entry in entries for label in entry.optics if label != _GROUP_NAME))
    columns = ["_rlnOpticsGroup", _GROUP_NAME, "_rlnImageSize", "_rlnImageDimensionality", *known]
    names = [dict(optics).get(_GROUP_NAME, f"opticsGroup{i}") for i, (optics, _, _) in enumerate(groups, 1)]
    if len(set(names)) < len(names):
        names = [f"{name}-{i}" for i, name in enumerate(names, 1)]
    rows: list[list[object]] = []
    for i, ((optics, _, box), name) in enumerate(zip(groups, names), 1):
        rows.append([i, name, box, 2, *(dict(optics)[label] for label in known)])
    if all(size for _, size, _ in groups):
        columns.append("_rlnImagePixelSize")
        for row, (_, size, _) in zip(rows, groups):
            row.append(float(size or 0.0))
    return star.format_table("optics", columns, rows)


def _listed(entries: Sequence[StackEntry], groups: Sequence[_Group]) -> str:
    known = list(dict.fromkeys(label for entry in entries for label in entry.ctf))
    columns = (
        "_rlnCoordinateX",
        "_rlnCoordinateY",
        "_rlnAutopickFigureOfMerit",
        "_rlnImageName",
        "_rlnMicrographName",
        "_rlnOpticsGroup",
        *known,
    )
    rows = (
        (float(x), float(y), f"{score:.8g}", f"{number:06d}@{entry.stack}", entry.micrograph, group, *ctf)
        for entry in entries
        for group, ctf in [(groups.index(_group(entry)) + 1, [entry.ctf[label] for label in known])]
        for number, ((x, y), score) in enumerate(zip(entry.particles.xy, entry.particles.score), 1)
    )
    return star.format_table("particles", columns, rows)
