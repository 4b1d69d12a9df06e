"""A micrograph of which only a few rows at a time are in memory as floats."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from upicker.io.mrc import Windows
from upicker.particles import Micrograph


class ByRows(Micrograph):
    """A micrograph whose rows are read, or converted, when they are asked for.

    Parameters
    ----------
    source : Windows or np.ndarray
        An open file, or `(H, W)` pixels in the file's own type.
    name, pixel_size_A, path : str, float or None, Path
        As of `Micrograph`.
    """

    path: Path
    _source: Windows | np.ndarray

    def __init__(self, source: Windows | np.ndarray, name: str, pixel_size_A: float | None, path: Path) -> None:
        # Not its own constructor, which would set the pixels; others cannot change the fields.
        vars(self).update(name=name, pixel_size_A=pixel_size_A, path=path, unusable=None, _source=source)

    def with_unusable(self, unusable: np.ndarray) -> ByRows:
        """Return it with a contamination mask."""
        found = ByRows(self._source, self.name, self.pixel_size_A, self.path)
        vars(found).update(unusable=unusable)
        return found

    @property
    def pixels(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleVariableOverride]
        """All pixels, `(H, W)` float32, read anew each time."""
        return np.ascontiguousarray(self.rows(0, self.shape[0]))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns."""
        rows, columns = self._source.shape
        return rows, columns

    def rows(self, start: int, stop: int, step: int = 1) -> np.ndarray:
        """Return some rows; as `Micrograph.rows`.

        Raises
        ------
        MicrographError
            If the file is truncated meanwhile, or cannot be read any more.
        """
        stored = self._source[slice(start, stop, step), slice(0, self.shape[1])]
        with np.errstate(over="ignore"):
            return stored.astype(np.float32, copy=False)
