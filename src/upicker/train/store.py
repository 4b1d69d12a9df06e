"""Prepared micrographs on disk, so that memory does not grow with their number."""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import replace

import numpy as np

from upicker.errors import OutputError
from upicker.image.prepare import Prepared
from upicker.train.sample import Sample

# Arrays share files of this size, as each mapped file takes one of the process's open files, often 1024 at most.
SEGMENT_BYTES = 2**28
_ALIGNMENT = 64


class Store:
    """Keeps arrays in temporary files without a name, which end with the process, whatever ends it."""

    def __init__(self) -> None:
        self._map, self._handle, self._used = None, -1, 0

    def keep(self, prepared: Prepared) -> Prepared:
        """Return the same micrograph with its pixels memory-mapped, and without the unflattened image.

        Raises
        ------
        OutputError
            If there is no room for it.
        """
        return replace(prepared, pixels=self._mapped(prepared.pixels), unflattened=None)

    def keep_sample(self, sample: Sample) -> Sample:
        """Return the same sample with its pixels memory-mapped; raises as `keep`."""
        return replace(sample, pixels=self._mapped(sample.pixels))

    def _mapped(self, pixels: np.ndarray) -> np.ndarray:
        try:
            self._make_room(pixels.nbytes)
            offset, content = self._used, memoryview(np.ascontiguousarray(pixels).data).cast("B")
            # Written as a file: where a disk is full, writing to mapped memory would kill the process.
            done = 0
            while done < len(content):
                done += os.pwrite(self._handle, content[done:], offset + done)
        except OSError as error:
            raise OutputError(
                tempfile.gettempdir() if tempfile.tempdir else "the folder of temporary files",
                f"prepared micrographs cannot be written ({error.strerror or error})",
                "Set TMPDIR to a folder on a disk with room",
            ) from error
        assert self._map is not None
        self._used += -(-pixels.nbytes // _ALIGNMENT) * _ALIGNMENT
        return np.frombuffer(self._map, pixels.dtype, pixels.size, offset).reshape(pixels.shape)

    def _make_room(self, size: int) -> None:
        """Begin another file if the current one has no room for this many bytes."""
        if self._map is not None and self._used + size <= len(self._map):
            return
        with tempfile.TemporaryFile(prefix="upicker-") as file:
            length = max(size, SEGMENT_BYTES)
            os.ftruncate(file.fileno(), length)  # takes no room until it is written
            self._map, self._used = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ), 0
            self._close()
            self._handle = os.dup(file.fileno())

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        self._close()
