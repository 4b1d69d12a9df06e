"""The ground on which a picture is drawn: the picture and a margin around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from upicker.simulate.microscope.filters import Curve, filtered


@dataclass(frozen=True)
class Canvas:
    """A picture with a margin, which holds what reaches into it and keeps the periodic transform's seam away.

    Attributes
    ----------
    picture : tuple of int
        Rows, columns of the picture.
    margin_px : int
        Rows above and columns left of it; below and right there may be a few more.
    pixel_size_A : float
        Angstrom per pixel.
    """

    picture: tuple[int, int]
    margin_px: int
    pixel_size_A: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns of the whole: lengths that transform fast."""
        rows, columns = (fast_length(n + 2 * self.margin_px) for n in self.picture)
        return rows, columns

    @property
    def inside(self) -> tuple[slice, slice]:
        """The picture's part of the whole."""
        rows, columns = (slice(self.margin_px, self.margin_px + n) for n in self.picture)
        return rows, columns

    def random_place(self, rng: np.random.Generator) -> np.ndarray:
        """Return `(2,)` a random row and column of the canvas that lie in the picture."""
        return self.margin_px + rng.uniform(0, np.array(self.picture))

    def window(self, middle: np.ndarray, reach_px: float) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """Return a part of the canvas around a place.

        Parameters
        ----------
        middle : np.ndarray
            `(2,)` row, column.
        reach_px : float
            How far it goes to each side; the canvas' rim cuts it.

        Returns
        -------
        window : tuple of slice
            Rows, columns of the canvas.
        y, x : np.ndarray
            `(h, 1)` and `(1, w)` float32, in Angstrom from the place.
        """
        first = np.clip(np.floor(middle - reach_px), 0, self.shape).astype(int)
        last = np.clip(np.ceil(middle + reach_px) + 1, first, self.shape).astype(int)
        y, x = (
            ((np.arange(a, b) - m) * self.pixel_size_A).astype(np.float32)
            for a, b, m in zip(first, last, middle, strict=True)
        )
        return (slice(first[0], last[0]), slice(first[1], last[1])), y[:, None], x[None, :]

    def coloured(self, rng: np.random.Generator, amplitude: Curve) -> np.ndarray:
        """Return `(h, w)` float32 Gaussian noise with a given spectrum; white noise of amplitude 1 has variance 1.

        Parameters
        ----------
        rng : np.random.Generator
            Source of chance.
        amplitude : Curve
            From frequencies in 1 / A to the amplitudes there.
        """
        return filtered(rng.standard_normal(self.shape, np.float32), self.pixel_size_A, amplitude)


def fast_length(n: int) -> int:
    """Return the first length from `n` on that transforms fast, real or complex."""
    return fft.next_fast_len(n, real=True)  # pyright: ignore[reportReturnType]
