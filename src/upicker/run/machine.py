"""What this process may use: cores and memory, of the machine or of the part of it that a scheduler or container gives.

Linux limits groups of processes (cgroups); a limit of any group above counts. Version 2 has one tree with the files
``memory.max`` and ``cpu.max``, version 1 a tree for each resource.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

# Memory that a process may need for the largest micrographs; less was measured (benchmarks/RESULTS.md).
PROCESS_BYTES = 2 * 2**30
_LAPTOP_BYTES = 8 * 2**30


def cores(root: Path = Path("/")) -> int:
    """Return the number of cores this process may use.

    Parameters
    ----------
    root : Path
        Where ``/proc`` and ``/sys`` are.
    """
    # On Linux a scheduler may have given us some of the machine's.
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([number, *_core_limits(root)])))


def memory_bytes(root: Path = Path("/")) -> int:
    """Return how much memory this process may use; where the system does not report it, that of a laptop.

    Parameters
    ----------
    root : Path
        Where ``/proc`` and ``/sys`` are.
    """
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        present = _LAPTOP_BYTES
    return min([present, *_memory_limits(root)])


def _memory_limits(root: Path) -> Iterator[int]:
    # Without a limit, version 2 says "max", version 1 a number near 2^63.
    for name, controller in (("memory.max", ""), ("memory.limit_in_bytes", "memory")):
        for folder in _groups(root, controller):
            for text in _words(folder / name)[:1]:
                with suppress(ValueError):
                    yield int(text)


def _core_limits(root: Path) -> Iterator[float]:
    """Yield the cores' worth of time in each period that groups are limited to."""
    for folder in _groups(root, ""):
        yield from _ratio(_words(folder / "cpu.max"))
    for folder in _groups(root, "cpu"):
        yield from _ratio([*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")])


def _ratio(words: list[str]) -> Iterator[float]:
    with suppress(ValueError):
        quota, period = map(float, words)
        if quota > 0 and period > 0:
            yield quota / period


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of those above; an empty controller means version 2.

    In a container the root of the tree is often the container's own group, while the path is that of the host: then
    only the root is found.
    """
    trees = root / "sys/fs/cgroup"
    tops = [trees] if not controller else [trees / controller, trees / "cpu,cpuacct"][: 1 + (controller == "cpu")]
    for line in _lines(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if (number == "0" and not names) if not controller else controller in names.split(","):
            inner = PurePosixPath(path.strip().lstrip("/"))
            for top in tops:
                yield from (top / part for part in (inner, *inner.parents) if ".." not in part.parts)


def _lines(path: Path) -> list[str]:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text().splitlines()
    return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()
