"""glibc's memory allocator, told to keep what is freed: a network frees and needs the same buffers at each operator.

By default glibc gives larger buffers back to the system when they are freed, and the system has to clear each page of
them when they are needed again: hundreds of thousands of times for each micrograph, a fifth of the time.
"""

from __future__ import annotations

import ctypes

# Parameters of mallopt() in glibc's malloc.h, and their values in bytes: buffers up to the first are taken from the
# heap, which is given back only beyond the second, and grows by the third.
_PARAMETERS = {-3: 32 * 2**20, -1: 2**30, -2: 64 * 2**20}


def keep_freed_memory() -> bool:
    """Let this process keep up to a gigabyte of freed memory; for a process that computes, and then ends.

    Returns
    -------
    bool
        Whether the allocator is glibc's; nothing is done with another one (musl, macOS, Windows).
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 (others may have a mallopt that does something else)
        mallopt = library.mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all(mallopt(parameter, value) for parameter, value in _PARAMETERS.items())
