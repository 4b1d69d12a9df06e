"""Contamination masks given by the user: an image for each micrograph, of any size; MicrographCleaner writes such."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from upicker.errors import InputError, MicrographError, UPickerError, UPickerWarning, warn
from upicker.io import micrographs
from upicker.statistics import evenly_spaced

# A mask may be binned, but must have the aspect ratio of its micrograph.
ASPECT_TOLERANCE = 0.02
# A mask that marks more than this is likely to mean the opposite.
SUSPICIOUS = 0.9
# How many masks of a folder are looked at before a run.
LOOKED_AT = 5
# Up to this highest value, all but 0 is marked by a mask; grey levels of 8 bits, perhaps blurred at the edges by JPG.
_MOST_CLASSES, _WHITE = 10, 255


@dataclass(frozen=True)
class Masks:
    """The files of masks.

    Attributes
    ----------
    path : Path
        A folder with ``<stem>_mask.*`` or ``<stem>.*`` for each micrograph, or one file for all.
    good : bool
        Whether 1 marks what is good, not what is unusable.
    """

    path: Path
    good: bool = False

    def __post_init__(self) -> None:
        """Refuse what is not there.

        Raises
        ------
        InputError
            If there is no such file or folder.
        """
        if not self.path.exists():
            raise InputError(self.path, "there is no such file or folder", "Give --mask a mask, or a folder of masks")

    @property
    def _opposite(self) -> str:
        """What to do if masks are meant the other way round."""
        return f"If they mean the opposite, {'leave out' if self.good else 'add'} --mask-good"

    def about(self) -> dict[str, object]:
        """Return them as keys of ``run.toml``."""
        return {"mask": str(self.path), **({"mask_good": True} if self.good else {})}

    def find(self, stem: str) -> Path:
        """Return the mask of the micrograph with this stem.

        Raises
        ------
        InputError
            If there is none.
        """
        if not self.path.is_dir():
            return self.path
        for name in (f"{stem}_mask", stem):
            if name in self._files:
                return self._files[name]
        raise InputError(self.path, f"holds no mask for {stem}", f"Put {stem}_mask.mrc there, or leave out --mask")

    @cached_property
    def _files(self) -> dict[str, Path]:
        """The masks in the folder by name; listed once, as there may be one for each of very many micrographs."""
        return {micrographs.plain(file): file for file in micrographs.find([self.path])}

    def all_empty(self, stems: Sequence[str]) -> str:
        """Return what to say if the masks of all micrographs, of which a few are looked at, mark nothing; else nothing.

        Masks that are missing or cannot be read are told when their micrograph is read.
        """
        looked = 0
        for index in evenly_spaced(len(stems), LOOKED_AT) if self.path.is_dir() else ():
            with suppress(UPickerError):
                if (read(self.find(stems[int(index)])) != self.good).any():
                    return ""
                looked += 1
        found = f"{self.path}: none of {looked} masks that were looked at marks anything as unusable"
        return f"{found}. {self._opposite}." if looked else ""

    def unusable(self, stem: str, shape: tuple[int, int]) -> np.ndarray:
        """Return what is unusable in one micrograph.

        What looks like a mistake is told by `upicker.errors.warn`: a mask that marks nearly all, and the only one if it
        marks nothing.

        Parameters
        ----------
        stem : str
            The micrograph's name.
        shape : tuple of int
            Rows, columns of the micrograph.

        Returns
        -------
        np.ndarray
            `(r, c)` bool, True = unusable: the pixels of the mask, which has the micrograph's aspect ratio.

        Raises
        ------
        InputError
            If there is no mask.
        MicrographError
            If it cannot be read, or its aspect ratio is not that of the micrograph.
        """
        path = self.find(stem)
        mask = read(path)
        stretch = (mask.shape[0] / shape[0]) / (mask.shape[1] / shape[1])
        if abs(stretch - 1) > ASPECT_TOLERANCE:
            found = f"is {mask.shape[0]} x {mask.shape[1]} pixels, the micrograph {shape[0]} x {shape[1]}"
            raise MicrographError(path, found, "A mask must have the aspect ratio of its micrograph")
        unusable = ~mask if self.good else mask
        share = float(unusable.mean())
        if share == 0 and not self.path.is_dir():  # Of many micrographs some are clean.
            warn(UPickerWarning(path, "this mask marks nothing as unusable", self._opposite))
        if share > SUSPICIOUS:
            found = f"this mask marks {share:.0%} of the micrograph as unusable"
            warn(UPickerWarning(path, found, self._opposite))
        return unusable


def read(path: Path) -> np.ndarray:
    """Read a mask: an image of any size and format, perhaps constant.

    Returns
    -------
    np.ndarray
        `(H, W)` bool, True where a mask of 0 to 1, perhaps probabilities, is above 0.5, one of two values has the
        higher one, one of grey levels up to 255 is above 127, and one of small numbers is not 0.

    Raises
    ------
    MicrographError
        If the file cannot be read, does not hold a single image, or that is not a mask.
    """
    path = Path(path)
    pixels = micrographs.read_file(path).pixels
    if pixels.ndim != 2:
        raise MicrographError(path, f"it holds an array of {pixels.shape}", "Give one greyscale image, 1 = unusable")
    low, high = float(pixels.min()), float(pixels.max())
    if low >= 0 and high <= _MOST_CLASSES:
        return pixels > 0.5
    if low >= 0 and high <= _WHITE:
        return pixels > _WHITE / 2
    if low == 0 and ((pixels == low) | (pixels == high)).all():
        return pixels > 0
    found = f"it holds values from {low:g} to {high:g}" if low <= high else "it holds values that are not numbers"
    raise MicrographError(path, f"{found}, so that it is not a mask", "Give one of 0 and 1, or of 0 and 255")
