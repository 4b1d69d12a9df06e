"""Stamps of files, by which a change is noticed without reading them."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, int, int]


def stamp(file: Path) -> Stamp | None:
    """Return inode, modification time and size of a file, which change whenever it is written; None without a file."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
