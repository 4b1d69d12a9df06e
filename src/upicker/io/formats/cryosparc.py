"""cryoSPARC's .cs tables of particles: NumPy files with the fields ``location/*`` and ``pick_stats/*``.

Frame: ``center_x_frac`` and ``center_y_frac`` are fractions of the micrograph's width and height, ``micrograph_shape``
is (rows, columns), and a position is ``x = center_x_frac * columns``, ``y = center_y_frac * rows`` in the MRC file's
rows as stored (cryosparc-tools' documentation: its crYOLO example writes y / height of picks on cryoSPARC's own MRC
files, its plots show MRC arrays with the first row at the bottom and the picks at frac * ny). Programs whose
micrographs are those of another motion correction have them upside down, because cryoSPARC's differ by a reversed row
order: the flip ``cryosparc`` takes 1 - fraction, which pyem's csparc2star does by default (its issues 81, 101, 133).
Which of the two applies depends on the micrographs, and must be measured on them (``upicker check-frame``).

Without ``micrograph_shape``, as in tables of some scripts, positions stay fractions until the micrographs are known.
``min_dist_A``, the picker's minimum distance, becomes the diameter, and ``ncc_score`` the score. The fields are
those of cryosparc-tools 5 (``location``: 8, ``pick_stats``: 4). Tables of later jobs leave ``location/*`` to a
``*passthrough*.cs`` beside them, which is joined by ``uid``; so do groups, .csg files, which name their tables.

An aligned particle lies at position - shift; the last alignment counts. Shifts are in pixels of the images that were
aligned, ``alignments3D/psize_A``, which may have been down-sampled (pyem's pull request 125; pyem writes shifts as
RELION's origins, whose sign they have).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import numpy as np

from upicker.errors import CoordinatesError, OutputError
from upicker.io import npy
from upicker.io.formats.content import Content, is_file
from upicker.io.formats.format import Files, Format, Notes
from upicker.io.picks import Picks, WriteOptions, from_contract
from upicker.particles import Particles

_PATH, _SHAPE, _SIZE = "location/micrograph_path", "location/micrograph_shape", "location/micrograph_psize_A"
_X, _Y, _DISTANCE = "location/center_x_frac", "location/center_y_frac", "location/min_dist_A"
_SCORE, _CLASS, _ANGLE = "pick_stats/ncc_score", "pick_stats/template_idx", "pick_stats/angle_rad"
_NEEDED = (_PATH, _X, _Y)
# The last alignment counts.
_ALIGNMENTS = {"alignments3D": "shifts of refinement", "alignments2D": "shifts of 2D classification"}
# Not read, and how to call it.
_UNREAD = {
    "filament/": "filament numbers",
    "alignments2D/pose": "angles of 2D classification",
    "alignments2D/class": "2D classes",
    "alignments3D/pose": "angles of refinement",
    "alignments3D/class": "3D classes",
}
_SINGLE = float(np.finfo(np.float32).max)
# The tables of a group; ">" stands for the folder of the .csg file.
_METAFILE = re.compile(r"^ *metafile: *['\"]?>?([^'\"\r\n]{1,1000}?)['\"]? *\r?$", re.M)
_ITEMS = re.compile(r"^ *num_items: *(\d{1,12}) *\r?$", re.M)
_NUMBER = re.compile(r"^(\d{15,21})_")


def sniff(content: Content) -> bool:
    """Recognise a NumPy file, or the text of a .csg file."""
    return content.kind == "numpy" or (content.kind == "text" and _is_group(content.text))


def read(content: Content) -> list[Picks]:
    """Read a .cs file of particles, or a .csg file, which names such tables; they are joined by ``uid``.

    Parameters
    ----------
    content : Content
        If a .cs file lacks ``location/*``, ``*passthrough*.cs`` beside it are read as well.

    Returns
    -------
    list of Picks
        One per micrograph, in order of appearance.

    Raises
    ------
    CoordinatesError
        If a table does not exist or has fewer rows than its group announces, fields are missing or of another kind, or
        values are not finite; the row is named.
    """
    path = content.path
    if content.kind == "numpy":
        return _picks(path, _fields(path, content.data, sorted(path.parent.glob("*passthrough*.cs"))))
    files = [path.parent / name for name in dict.fromkeys(_METAFILE.findall(content.text))]
    missing = next((file for file in files if not is_file(file)), None)
    if missing is not None:
        raise CoordinatesError(path, f"its table {missing.name[:160]!r} does not exist", "Put it beside the .csg file")
    fields = _fields(files[0], files[0].read_bytes(), files[1:])
    said, rows = max(map(int, _ITEMS.findall(content.text)), default=0), len(fields[_X])
    if said > rows:
        found = f"it announces {said} particles, but {files[0].name} has {rows}"
        raise CoordinatesError(path, found, "Export the group from cryoSPARC again")
    return _picks(path, fields)


def _is_group(text: str) -> bool:
    return "\nresults:" in text and _METAFILE.search(text) is not None


def _picks(path: Path, fields: dict[str, np.ndarray]) -> list[Picks]:
    n = len(next(iter(fields.values()), ()))
    names, shapes = fields[_PATH], fields.get(_SHAPE)
    if names.dtype.kind not in "SU" or names.ndim != 1:
        raise CoordinatesError(path, f"its field {_PATH} does not hold names", "Save it from cryoSPARC again")
    xy = np.stack([_column(path, fields, _X), _column(path, fields, _Y)], 1)
    if shapes is not None:
        _check_shapes(path, shapes, n)
        xy = xy * shapes[:, ::-1]
    size = _column(path, fields, _SIZE) if _SIZE in fields else np.zeros(n)
    distance = _column(path, fields, _DISTANCE) if _DISTANCE in fields else np.zeros(n)
    score = _column(path, fields, _SCORE, np.inf) if _SCORE in fields else np.ones(n)
    extra: dict[str, np.ndarray] = {}
    if _CLASS in fields:
        extra["class_number"] = _column(path, fields, _CLASS).astype(np.int64)
    if _ANGLE in fields:
        extra["psi_deg"] = np.degrees(_column(path, fields, _ANGLE))
    particles = replace(Particles.of(xy, np.nan, score), extra=extra)
    filled = [name for name, values in fields.items() if _is_set(values)]
    unread = [word for start, word in _UNREAD.items() if any(name.startswith(start) for name in filled)]
    origins_A, without = _origins(path, fields, n)
    unread += without
    return [
        Picks(
            name,
            particles.select(at),
            None if shapes is None else _shape(path, name, shapes[at]),
            float(size[at[0]]) if size[at[0]] > 0 else None,
            tuple(unread),
            origins_A=None if origins_A is None else origins_A[at],
            diameters_A=distance[at] if (distance[at] > 0).any() else None,
            fractions=shapes is None,
        )
        for name, at in _by_name(names).items()
    ]


def _origins(path: Path, fields: dict[str, np.ndarray], n: int) -> tuple[np.ndarray | None, list[str]]:
    """Return how far particles were shifted by their last alignment, `(n, 2)` in Angstrom; and what is not known."""
    kind = next((kind for kind in _ALIGNMENTS if (name := f"{kind}/shift") in fields and _is_set(fields[name])), None)
    if kind is None:
        return None, []
    name = next((name for name in (f"{kind}/psize_A", "blob/psize_A") if name in fields), None)
    if name is None or not (size := _column(path, fields, name)).all():
        return None, [f"{_ALIGNMENTS[kind]}, for want of their pixel size"]
    shift = fields[f"{kind}/shift"]
    if shift.shape != (n, 2) or not np.isfinite(shift).all():
        raise CoordinatesError(path, f"its field {kind}/shift does not hold shifts", "Save it from cryoSPARC again")
    return shift.astype(np.float64) * size[:, None], []


def _is_set(values: np.ndarray) -> bool:
    return values.dtype.kind in "iuf" and bool(values.any())


def _check_shapes(path: Path, shapes: np.ndarray, n: int) -> None:
    if shapes.dtype.kind not in "iu" or shapes.shape != (n, 2) or (shapes < 1).any() or (shapes > 10**7).any():
        raise CoordinatesError(
            path, f"its field {_SHAPE} does not hold sizes of micrographs", "Save it from cryoSPARC again"
        )


def _by_name(names: np.ndarray) -> dict[str, np.ndarray]:
    """Return, by the micrograph's name, the rows of its particles, in order of appearance."""
    if not len(names):
        return {}
    words, first, which = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(which, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(which[order])) + 1)
    texts = [word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word) for word in words]
    return {texts[i]: parts[i] for i in np.argsort(first)}


def _shape(path: Path, name: str, shapes: np.ndarray) -> tuple[int, int]:
    """Return the size of a micrograph, rows and columns, which each of its particles has."""
    if (shapes != shapes[0]).any():
        raise CoordinatesError(path, f"micrograph {name[:160]!r} has several sizes", "Save it from cryoSPARC again")
    return int(shapes[0, 0]), int(shapes[0, 1])


def _column(path: Path, fields: dict[str, np.ndarray], name: str, limit: float = 1e12) -> np.ndarray:
    values = fields[name]
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        raise CoordinatesError(path, f"its field {name} does not hold numbers", "Save it from cryoSPARC again")
    with np.errstate(all="ignore"):
        values = values.astype(np.float64)
    bad = ~(np.abs(values) < limit)
    if bad.any():
        row = int(np.argmax(bad))
        raise CoordinatesError(path, f"row {row + 1} has {values[row]} in {name}", "Remove that particle in cryoSPARC")
    return values


def _fields(path: Path, content: bytes, others: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return the columns; missing ones come from the tables of other files."""
    main = npy.table(path, content)
    fields = {name: main[name] for name in main.dtype.names or ()}
    for file in others if "uid" in fields else ():
        if file == path or not is_file(file):
            continue
        other = npy.table(file, file.read_bytes())
        new = [name for name in other.dtype.names or () if name not in fields]
        rows = _rows_of(file, fields["uid"], other)
        if new and rows is not None:
            fields |= {name: other[name][rows] for name in new}
    missing = [name for name in _NEEDED if name not in fields]
    if missing:
        raise CoordinatesError(
            path,
            f"it has no field {' and '.join(missing)}, but: {', '.join(fields)[:160]}",
            "Give a .cs file of picked particles, or put the job's passthrough file beside it",
        )
    return fields


def _rows_of(file: Path, uids: np.ndarray, other: np.ndarray) -> np.ndarray | None:
    """Return the rows of `other` that belong to `uids`; None if it does not have all of them."""
    if "uid" not in (other.dtype.names or ()) or not len(other):
        return None
    theirs = other["uid"]
    if theirs.dtype.kind not in "iu" or uids.dtype.kind not in "iu" or theirs.ndim != 1 or uids.ndim != 1:
        raise CoordinatesError(file, "its field uid does not hold numbers", "Save it from cryoSPARC again")
    order = np.argsort(theirs, kind="stable")
    at = order[np.minimum(np.searchsorted(theirs[order], uids), len(order) - 1)]
    return at if (theirs[at] == uids).all() else None


def write(path: Path, all_picks: list[Picks], options: WriteOptions) -> Files:
    """Yield a .cs file of picked particles, with every field that cryoSPARC's own pickers write, and its .csg file.

    The numbers of particles and, where `options.uid_of` and the file's name do not give them, of micrographs are
    made from the micrograph's name, so that the same picks get the same numbers.

    Raises
    ------
    OutputError
        If the size or the pixel size of a micrograph is not known.
    """
    parts = []
    names = [picks.micrograph.encode("utf-8") for picks in all_picks]
    for picks, name in zip(all_picks, names):
        parts.append(_rows(path, from_contract(path, picks, options), name, max(1, *map(len, names)), options))
    rows = np.concatenate(parts) if parts else np.zeros(0, _dtype(1))
    stream = io.BytesIO()
    np.lib.format.write_array(stream, rows, version=(1, 0), allow_pickle=False)
    yield path, stream.getvalue()
    yield path.with_suffix(".csg"), _group(path.name, len(rows))


def _group(name: str, n: int) -> str:
    """Return the .csg file that makes cryoSPARC take `n` particles of the .cs file `name` as a result group."""
    results = "".join(
        f"  {slot}:\n    metafile: '>{name}'\n    num_items: {n}\n    type: particle.{slot}\n"
        for slot in ("location", "pick_stats")
    )
    head = "group:\n  description: Particles picked by UPicker\n  name: particles\n  title: Particles picked\n"
    head += "  type: particle\n"
    created = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return f"created: {created}\n{head}results:\n{results}version: v4.0.0\n"


def _dtype(longest: int) -> np.dtype:
    location = [("micrograph_uid", "<u8"), ("exp_group_id", "<u4"), ("micrograph_path", f"S{longest}")]
    location += [("micrograph_shape", "<u4", (2,)), ("center_x_frac", "<f4"), ("center_y_frac", "<f4")]
    location += [("micrograph_psize_A", "<f4"), ("min_dist_A", "<f4")]
    stats = [("ncc_score", "<f4"), ("power", "<f4"), ("template_idx", "<u4"), ("angle_rad", "<f4")]
    fields = [("uid", "<u8")] + [(f"location/{name}", *kind) for name, *kind in location]
    return np.dtype(fields + [(f"pick_stats/{name}", kind) for name, kind in stats])


def _rows(path: Path, picks: Picks, name: bytes, longest: int, options: WriteOptions) -> np.ndarray:
    if picks.shape is None or not picks.pixel_size_A:
        what = "size" if picks.shape is None else "pixel size"
        raise OutputError(
            path,
            f"cryoSPARC needs the {what} of micrograph {picks.micrograph!r}, which is not known",
            "Name the micrographs, too" if picks.shape is None else "Give --pixel-size, e.g. --pixel-size 1.77A",
        )
    particles = picks.particles
    rows = np.zeros(len(particles), _dtype(longest))
    rows["uid"] = [_hashed(name + i.to_bytes(8, "little")) for i in range(len(rows))]
    rows["location/micrograph_uid"] = _micrograph_uid(picks.micrograph, options)
    rows["location/exp_group_id"] = 1
    rows[_PATH], rows[_SHAPE], rows[_SIZE] = name, picks.shape, picks.pixel_size_A
    rows[_X], rows[_Y] = (particles.xy / np.array([picks.shape[1], picks.shape[0]])).T
    # Single precision has no room for some figures of merit.
    rows[_DISTANCE] = np.nan_to_num(particles.diameter_px * picks.pixel_size_A).clip(0, _SINGLE)
    rows[_SCORE] = rows["pick_stats/power"] = particles.score.clip(-_SINGLE, _SINGLE)
    rows[_CLASS] = np.maximum(particles.extra.get("class_number", np.zeros(len(rows))), 0)
    rows[_ANGLE] = np.radians(np.nan_to_num(particles.extra.get("psi_deg", np.zeros(len(rows)))))
    return rows


def _micrograph_uid(name: str, options: WriteOptions) -> int:
    given = options.uid_of(name) if options.uid_of else None
    if given is not None:
        return given
    # cryoSPARC's own files begin with the number of the movie: 000123456789012345678_name.mrc
    found = _NUMBER.match(PurePosixPath(name).name)
    return int(found[1]) if found and int(found[1]) < 2**64 else _hashed(name.encode("utf-8"))


def _hashed(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


FORMAT = Format(
    name="cs",
    programs="cryoSPARC 4 and 5",
    files="picks.cs with all of them, and its picks.csg; needs pixel sizes",
    layout="together",
    ending=".cs",
    file_of_all="picks.cs",
    repeats=True,
    by_path=True,
    sniff=sniff,
    read=read,
    write=write,
    carries=frozenset({"diameter", "score", "class_number", "psi_deg", "micrograph", "path", "shape", "pixel_size"}),
    needs=frozenset({"shape", "pixel_size"}),
    notes=Notes(
        position="centre, from the first row; fraction of width and height, which the file or `--micrographs` gives",
        columns="`location/*` (8 fields), `pick_stats/*` (4); passthrough files and `.csg` are read",
        checked="cryosparc-tools 5.0.3: `Dataset.load`; cryoSPARC itself could not be had",
    ),
)
