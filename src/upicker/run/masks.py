"""Contamination masks given by the user: an image for each micrograph, 1 = unusable, of any size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from upicker.errors import InputError, MicrographError
from upicker.io import micrographs

# A mask may be binned, but must have the aspect ratio of its micrograph.
ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class Masks:
    """The files of masks.

    Attributes
    ----------
    path : Path
        A folder with ``<stem>.*`` or ``<stem>_mask.*`` for each micrograph, or one file for all.
    """

    path: Path

    def find(self, stem: str) -> Path:
        """Return the mask of the micrograph with this stem.

        Raises
        ------
        InputError
            If there is none.
        """
        if self.path.is_file():
            return self.path
        if not self.path.is_dir():
            raise InputError(self.path, "there is no such file or folder", "Give --mask a mask, or a folder of masks")
        for name in (f"{stem}_mask", stem):
            if name in self._files:
                return self._files[name]
        raise InputError(self.path, f"holds no mask for {stem}", f"Put {stem}_mask.mrc there, or leave out --mask")

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The masks in the folder by name; listed once, as there may be one for each of very many micrographs."""
        return {micrographs.plain(file): file for file in micrographs.find([self.path])}

    def usable(self, stem: str, raw_shape: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
        """Return the usable area of one micrograph at the working scale.

        Parameters
        ----------
        stem : str
            The micrograph's name.
        raw_shape : tuple of int
            Rows, columns of the micrograph.
        shape : tuple of int
            Rows, columns `(h, w)` of the micrograph at the working scale.

        Returns
        -------
        np.ndarray
            `(h, w)` bool, True = usable. A working pixel is unusable if the nearest pixel of the mask is.

        Raises
        ------
        InputError
            If there is no mask, or its aspect ratio is not that of the micrograph.
        """
        path = self.find(stem)
        mask = micrographs.read_mask(path)
        stretch = (mask.shape[0] / raw_shape[0]) / (mask.shape[1] / raw_shape[1])
        if abs(stretch - 1) > ASPECT_TOLERANCE:
            found = f"is {mask.shape[0]} x {mask.shape[1]} pixels, the micrograph {raw_shape[0]} x {raw_shape[1]}"
            raise MicrographError(path, found, "A mask must have the aspect ratio of its micrograph")
        rows, columns = (_nearest(n, m) for n, m in zip(shape, mask.shape, strict=True))
        return ~mask[np.ix_(rows, columns)]


def _nearest(length: int, source: int) -> np.ndarray:
    """Return `(length,)` indices of the nearest of `source` samples; the first samples of both coincide."""
    return np.minimum(np.rint(np.arange(length) * (source / length)).astype(np.intp), source - 1)
