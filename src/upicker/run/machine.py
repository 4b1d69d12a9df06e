"""What this machine offers: cores and memory."""

from __future__ import annotations

import os

_LAPTOP_BYTES = 8 * 2**30


def cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # On Linux a scheduler may have given us some of the machine's.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the size of the machine's memory; where the system does not report it, that of a laptop."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return _LAPTOP_BYTES
