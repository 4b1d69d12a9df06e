"""Training samples: an image and the particles in it, from which training tiles are cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Sample:
    """A micrograph at the working scale, a region of it or a tile, with its particles.

    Attributes
    ----------
    pixels : np.ndarray
        `(h, w)` float32; may be memory-mapped. 0, the background, where it is blanked.
    xy : np.ndarray
        `(n, 2)` centres, working pixels; ``(0, 0)`` = centre of the first pixel.
    side : np.ndarray
        `(n,)` box sides, working pixels.
    sure : np.ndarray or None
        `(n,)` bool or int: 1 for a particle; 0 for an unsure position, which may hold a particle or not: there the
        class loss has little weight (`loss.unsure_weight`); -1 for a rejected one, which rather holds none
        (`loss.rejected_weight`). None: all are particles.
    sized : bool
        Whether the sides are those of the particles. Else they are a convention, as where all labels have one size, and
        say nothing about how large a particle is.
    """

    pixels: np.ndarray
    xy: np.ndarray
    side: np.ndarray
    sure: np.ndarray | None = None
    sized: bool = True

    @property
    def is_sure(self) -> np.ndarray:
        """`(n,)` bool: which are particles."""
        return self.levels > 0

    @property
    def levels(self) -> np.ndarray:
        """`(n,)` int8: `sure`, all 1 if it is None."""
        return np.ones(len(self.xy), np.int8) if self.sure is None else self.sure.astype(np.int8)

    def select(self, index: np.ndarray) -> Sample:
        """Return the sample with the particles of a boolean mask or an integer index."""
        sure = None if self.sure is None else self.sure[index]
        return replace(self, xy=self.xy[index], side=self.side[index], sure=sure)

    def inside(self) -> Sample:
        """Return the sample with the particles whose centres lie in the image."""
        rows, columns = self.pixels.shape
        last = np.array([columns - 0.5, rows - 0.5])
        return self.select(np.all((self.xy >= -0.5) & (self.xy <= last), axis=1))
