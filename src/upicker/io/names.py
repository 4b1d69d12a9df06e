"""Names of files: the suffixes of micrographs, and the name that all files of one micrograph share."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".mrc", ".mrcs", ".map", ".tif", ".tiff", ".eer", ".png", ".jpg", ".jpeg")
COMPRESSED = (".gz", ".bz2")


def plain(path: str | Path) -> str:
    """Return a micrograph's name: the file's without folder and suffix, ``a.mrc.gz`` being `a`."""
    path = Path(path)
    return Path(path.stem).stem if path.suffix.lower() in COMPRESSED and is_micrograph_name(path) else path.stem


def is_micrograph_name(path: str | Path) -> bool:
    """Return whether a file may be a micrograph, judged by its suffix."""
    path = Path(path)
    suffix = Path(path.stem).suffix if path.suffix.lower() in COMPRESSED else path.suffix
    return suffix.lower() in SUFFIXES
