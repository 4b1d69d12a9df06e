"""Names of files: the suffixes of micrographs, and the bare name that files of one micrograph share."""

from __future__ import annotations

from pathlib import Path

PICTURES = (".mrc", ".mrcs", ".map", ".tif", ".tiff", ".eer", ".png", ".jpg", ".jpeg")
PACKED = (".gz", ".bz2")


def plain(path: str | Path) -> str:
    """Return a micrograph's name: the file's without folder and suffix, ``a.mrc.gz`` being `a`."""
    path = Path(path)
    return Path(path.stem).stem if path.suffix.lower() in PACKED and is_picture(path) else path.stem


def is_picture(path: str | Path) -> bool:
    """Tell from its suffix whether a file may be a micrograph."""
    path = Path(path)
    suffix = Path(path.stem).suffix if path.suffix.lower() in PACKED else path.suffix
    return suffix.lower() in PICTURES
