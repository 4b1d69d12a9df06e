"""Names of files: the suffixes of micrographs, and the name that all files of one micrograph share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

SUFFIXES = (".mrc", ".mrcs", ".map", ".tif", ".tiff", ".eer", ".png", ".jpg", ".jpeg")
COMPRESSED = (".gz", ".bz2")
# Parts of the names of files that are still being copied: a.tmp.mrc, a.mrc.part.
_TEMPORARY = {"tmp", "temp", "temporary", "part", "partial", "filepart", "crdownload", "download", "incomplete"}


def plain(path: str | Path) -> str:
    """Return a micrograph's name: the file's without folder and suffix, ``a.mrc.gz`` being `a`."""
    path = Path(path)
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSED and is_micrograph_name(path) else path.stem


def distinct(paths: Sequence[Path]) -> dict[Path, str]:
    """Return a name for each micrograph: its own, with as many folders in front as tell equal names apart.

    Parameters
    ----------
    paths : sequence of Path
        All micrographs; of one folder, their names differ.

    Returns
    -------
    dict
        Micrograph -> ``a``, or ``Dataset1/a`` beside ``Dataset2/a``.
    """
    alike: dict[str, list[Path]] = {}
    for path in paths:
        alike.setdefault(plain(path), []).append(path)
    found = {}
    for name, same in alike.items():
        folders = [path.absolute().parent.parts[1:] for path in same]
        count = 0
        while len({of[max(0, len(of) - count) :] for of in folders}) < len({*folders}):
            count += 1
        found |= {path: "/".join([*of[max(0, len(of) - count) :], name]) for path, of in zip(same, folders)}
    return found


def is_micrograph_name(path: str | Path) -> bool:
    """Return whether a file may be a micrograph, judged by its suffix."""
    path = Path(path)
    suffix = Path(path.stem).suffix if path.suffix.lower() in COMPRESSED else path.suffix
    return suffix.lower() in SUFFIXES


def is_temporary(path: str | Path) -> bool:
    """Return whether a file is hidden, or its name is one that programs give to what they have not finished."""
    name = Path(path).name
    suffixes = name.lower().split(".")[1:]
    return name.startswith((".", "~", "#")) or name.endswith("~") or not _TEMPORARY.isdisjoint(suffixes)
