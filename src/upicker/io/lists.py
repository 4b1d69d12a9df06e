"""Lists of micrographs: STAR files of RELION, ``.cs`` files of cryoSPARC, and text with one path a line.

Paths in such lists are relative to the folder of the project, which is not that of the list: RELION's lie in
``MotionCorr/job002``, cryoSPARC's in ``J12``. So the folder of the list and all folders above it are tried, then the
current one. Nothing in a list is executed, and the memory used is bounded by the size of the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from upicker.errors import CoordinatesError, InputError
from upicker.io import npy, star

_STREAM_MAGIC = b"CSDAT"
_HEAD_BYTES = 65_536
_TEXT = bytes({*range(9, 14), *range(32, 256)})
NAMES = ("_rlnMicrographName", "_rlnMicrographMovieName")
_OWN, _ORIGINAL = "_rlnMicrographPixelSize", "_rlnMicrographOriginalPixelSize"
_CTF = (
    "_rlnDefocusU", "_rlnDefocusV", "_rlnDefocusAngle", "_rlnPhaseShift", "_rlnCtfBfactor", "_rlnCtfScalefactor",
    "_rlnCtfAstigmatism", "_rlnCtfFigureOfMerit", "_rlnCtfMaxResolution", "_rlnCtfIceRingDensity",
)  # fmt: skip
# In lists of RELION 3.0 these stand in every row; since 3.1 they are columns of the table of optics groups.
_OPTICS_3_0 = (
    "_rlnVoltage", "_rlnSphericalAberration", "_rlnAmplitudeContrast", "_rlnMagnification", "_rlnDetectorPixelSize",
)  # fmt: skip
BLOBS = ("micrograph_blob", "micrograph_blob_non_dw", "movie_blob")


@dataclass(frozen=True, eq=False)
class Listed:
    """One micrograph of a list, or a file that was given itself.

    Attributes
    ----------
    path : Path
        The file; if it is missing, where it would be.
    name : str
        The path as it is in the list.
    pixel_size_A : float or None
        Angstrom per pixel, if the list has it.
    shape : tuple of int or None
        Rows, columns, if the list has them.
    optics : mapping of str to str, or None
        The columns of its optics group, by RELION's labels, as unrounded text.
    ctf : mapping of str to str, or None
        Its defocus and other CTF parameters, likewise.
    uid : int or None
        Its uid in cryoSPARC.
    """

    path: Path
    name: str
    pixel_size_A: float | None = None
    shape: tuple[int, int] | None = None
    optics: Mapping[str, str] | None = None
    ctf: Mapping[str, str] | None = None
    uid: int | None = None


def is_list(path: Path) -> bool:
    """Tell by its content whether a file is a list: text, or a table of cryoSPARC."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return False
    if head.startswith(npy.MAGIC) or head[1:].startswith(_STREAM_MAGIC):
        return True
    return bool(head.strip()) and not head.translate(None, _TEXT)


def ends_within_a_line(path: Path) -> bool:
    """Return whether a list of text lacks the end of its last line, as one does that is being written; raises OSError.

    What stands there may be a part of a name or of a number.
    """
    content = path.read_bytes()
    return not content.startswith(npy.MAGIC) and not content.endswith((b"\n", b"\r"))


def read(path: Path) -> list[Listed]:
    """Read a list of micrographs.

    Parameters
    ----------
    path : Path
        STAR (RELION 3.0 to 5: of micrographs, corrected or not, with CTF or without, of movies, or the list of
        picks), ``.cs`` of exposures, or text: one path a line, ``#`` begins a comment.

    Returns
    -------
    list of Listed
        In the order of the list. Missing ones are kept, so that they are reported with the rest.

    Raises
    ------
    InputError
        If it cannot be read, lists no micrograph, or none of the listed ones exists.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(npy.MAGIC))
        if magic[1:] == _STREAM_MAGIC:
            found = "it is in cryosparc-tools' stream format"
            raise InputError(path, found, "Save the dataset with format=NUMPY_FORMAT, or give the .cs file of the job")
        found = _exposures(path) if magic == npy.MAGIC else _text(path)
    except OSError as error:
        found = f"cannot be read ({error.strerror or error})"
        raise InputError(path, found, "Check the name and the permissions") from error
    if not found:
        raise InputError(path, "it lists no micrograph", "Give a list with at least one")
    return _located(path, found)


def _text(path: Path) -> list[Listed]:
    # File names may be of any encoding; this is how Python itself reads them from a folder.
    text = os.fsdecode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    if star.is_star(text):
        return _star(path, text)
    lines = (line.strip() for line in text.splitlines())
    return [_named(line.strip("\"'")) for line in lines if line and not line.startswith("#")]


def _named(name: str, **more: Any) -> Listed:
    return Listed(Path(name), name, **more)


def _star(path: Path, text: str) -> list[Listed]:
    """Read all tables of micrographs."""
    tables = star.parse(text, path)
    if any(table.name == "optics" and "_rlnOpticsGroup" not in table.columns for table in tables):
        raise InputError(path, "its table of optics has no column _rlnOpticsGroup", "Write the list again")
    listing = [table for table in tables if any(label in table.columns for label in NAMES)]
    if not listing or any("_rlnCoordinateX" in table.columns for table in listing):
        what = "particles" if listing else "no column _rlnMicrographName"
        remedy = "Give micrographs.star, corrected_micrographs.star or micrographs_ctf.star"
        raise InputError(path, f"this STAR file has {what}, it is not a list of micrographs", remedy)
    found: dict[str, Listed] = {}
    for table in listing:
        optics = star.optics_of(table, tables)
        groups = [dict(zip(optics.columns, words)) for words in optics.rows] if optics else []
        found |= _table(path, table, {group["_rlnOpticsGroup"]: group for group in groups})
    return list(found.values())


def _table(path: Path, table: star.Table, groups: Mapping[str, dict[str, str]]) -> dict[str, Listed]:
    label = next(label for label in NAMES if label in table.columns)
    found = {}
    for number, words in zip(table.lines, table.rows):
        row = dict(zip(table.columns, words))
        optics = groups.get(row.get("_rlnOpticsGroup", "1")) if groups else _picked(row, _OPTICS_3_0)
        if optics is None:
            group = row.get("_rlnOpticsGroup", "1")
            raise InputError(
                path, f"line {number} has the optics group {group}, which is not defined", "Write the list again"
            )
        # Motion correction may have binned movies: their pixel size is not the micrographs', nor the other way round.
        sources = (_without(row, _ORIGINAL), _without(optics, _ORIGINAL))
        found[row[label]] = _named(
            row[label],
            pixel_size_A=_pixel_size(path, number, sources if label == NAMES[0] else [_without(optics, _OWN)]),
            optics=optics or None,
            ctf=_picked(row, _CTF) or None,
        )
    return found


def _picked(row: Mapping[str, str], labels: Iterable[str]) -> dict[str, str]:
    return {label: row[label] for label in labels if label in row}


def _without(row: Mapping[str, str], left_out: str) -> Mapping[str, str]:
    return {label: word for label, word in row.items() if label != left_out}


def _pixel_size(path: Path, line: int, sources: Iterable[Mapping[str, str]]) -> float | None:
    """Angstrom per pixel of the micrograph: its own, its group's, or that of RELION 3.0."""
    values = {label: word for source in reversed([*sources]) for label, word in source.items()}
    for label in (_OWN, _ORIGINAL):
        if label in values and (size := _number(path, line, label, values[label])):
            return size
    detector, magnification = "_rlnDetectorPixelSize", "_rlnMagnification"
    if detector in values and magnification in values:
        micrometres = _number(path, line, detector, values[detector])
        times = _number(path, line, magnification, values[magnification])
        return 1e4 * micrometres / times if micrometres and times else None
    return None


def _number(path: Path, line: int, label: str, word: str) -> float | None:
    """Return a positive number; None for zero and other values that mean unknown."""
    try:
        value = float(word)
    except ValueError as error:
        raise InputError(
            path, f"{label} of line {line} is '{word[:60]}', which is not a number", "Correct the line"
        ) from error
    return value if math.isfinite(value) and value > 0 else None


def _exposures(path: Path) -> list[Listed]:
    remedy = "Give the exposures' .cs file, such as J12/exposures_accepted.cs"
    try:
        columns = _columns(path)
        blob = next((blob for blob in BLOBS if f"{blob}/path" in columns), None)
        if blob is None:
            found = f"it has no field micrograph_blob/path, but: {', '.join(columns)[:160]}"
            raise InputError(path, found, remedy)
        return [_exposure(i, columns, blob) for i in range(len(columns[f"{blob}/path"]))]
    except CoordinatesError as error:
        raise InputError(error.where, error.found, remedy) from error
    except (TypeError, ValueError, OverflowError) as error:  # A field of another type than in cryoSPARC.
        raise InputError(path, f"a field has values of the wrong type ({error})", remedy) from error


def _columns(path: Path) -> dict[str, np.ndarray]:
    """Return the fields; those that a job only passes on are in passthrough files beside it, and joined by uid."""
    table = npy.table(path, path.read_bytes())
    columns = {name: table[name] for name in table.dtype.names or ()}
    for beside in sorted(path.parent.glob("*passthrough*.cs")) if "uid" in columns else ():
        if beside.name == path.name:
            continue
        other = npy.table(beside, beside.read_bytes())
        fields = other.dtype.names or ()
        rows = {uid: row for row, uid in enumerate(other["uid"].tolist())} if "uid" in fields else {}
        wanted = [rows.get(uid, -1) for uid in columns["uid"].tolist()]
        if min(wanted, default=-1) >= 0:
            columns = {name: other[name][wanted] for name in fields} | columns
    return columns


def _exposure(i: int, columns: Mapping[str, np.ndarray], blob: str) -> Listed:
    def value(*names: str) -> Any:
        return next((columns[name][i] for name in names if name in columns), None)

    size = value(f"{blob}/psize_A")
    size = float(f"{float(size):.6g}") if size is not None and math.isfinite(size) and size > 0 else None
    shape = value(f"{blob}/shape")
    group = value("ctf/exp_group_id", "mscope_params/exp_group_id")
    optics = {
        "_rlnOpticsGroup": None if group is None else str(group),
        "_rlnOpticsGroupName": None if group is None else f"opticsGroup{group}",
        "_rlnVoltage": _word(value("ctf/accel_kv", "mscope_params/accel_kv")),
        "_rlnSphericalAberration": _word(value("ctf/cs_mm", "mscope_params/cs_mm")),
        "_rlnAmplitudeContrast": _word(value("ctf/amp_contrast")),
        "_rlnMicrographPixelSize": None if size is None else str(size),
    }
    ctf = {
        "_rlnDefocusU": _word(value("ctf/df1_A")),
        "_rlnDefocusV": _word(value("ctf/df2_A")),
        "_rlnDefocusAngle": _word(value("ctf/df_angle_rad"), 180 / math.pi),
        "_rlnPhaseShift": _word(value("ctf/phase_shift_rad"), 180 / math.pi),
        "_rlnCtfFigureOfMerit": _word(value("ctf/cross_corr_ctffind4")),
        "_rlnCtfMaxResolution": _word(value("ctf/ctf_fit_to_A")),
    }
    fitted = {label: word for label, word in ctf.items() if word is not None}
    uid = value("uid")
    return _named(
        # cryoSPARC marks paths relative to the project's folder with ">".
        _cs_text(value(f"{blob}/path")).lstrip(">"),
        pixel_size_A=size,
        shape=(int(shape[-2]), int(shape[-1])) if np.size(shape) >= 2 and shape is not None else None,
        optics={label: word for label, word in optics.items() if word is not None} or None,
        ctf=fitted if "_rlnDefocusU" in fitted else None,
        uid=None if uid is None else int(uid),
    )


def _word(value: Any, factor: float = 1.0) -> str | None:
    return None if value is None else f"{float(value) * factor:.6f}"


def _cs_text(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)


def _located(path: Path, entries: list[Listed]) -> list[Listed]:
    """Locate the micrographs; missing ones are assumed to be beside the others."""
    folder = path.absolute().parent
    here = Path.cwd()
    roots = list(dict.fromkeys([folder, *folder.parents, here]))
    first = next((root for entry in entries for root in roots if _is_file(root / entry.path)), None)
    if first is None:
        tried = "" if entries[0].path.is_absolute() else f"; tried {folder}, the folders above it and {here}"
        raise InputError(
            path,
            f"none of its {len(entries)} micrographs exists, e.g. {entries[0].name[:200]!r}{tried}",
            "Work in the folder of the project, or correct the paths in the list",
        )
    found = []
    for entry in entries:
        candidates = [first, *(root for root in roots if root != first)]
        root = next((root for root in candidates if _is_file(root / entry.path)), first)
        found.append(entry if root == here else replace(entry, path=root / entry.path))
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # A name that is too long, or a folder without permission.
        return False
