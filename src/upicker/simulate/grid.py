"""The pixel grid on which a micrograph is simulated: the image and a margin around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from upicker.simulate.microscope.filters import Curve, filtered


@dataclass(frozen=True)
class Grid:
    """The pixels of an image and of a margin around it.

    The margin holds particles and contaminants that reach into the image, and keeps the edges of the periodic Fourier
    transform away from it.

    Attributes
    ----------
    image_shape : tuple of int
        Rows, columns of the image.
    margin_px : int
        Rows above and columns left of the image; below and right there may be a few more.
    pixel_size_A : float
        Angstrom per pixel.
    """

    image_shape: tuple[int, int]
    margin_px: int
    pixel_size_A: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns of the grid: lengths with a fast Fourier transform."""
        rows, columns = (fast_length(n + 2 * self.margin_px) for n in self.image_shape)
        return rows, columns

    @property
    def inside(self) -> tuple[slice, slice]:
        """The image's rows and columns of the grid."""
        rows, columns = (slice(self.margin_px, self.margin_px + n) for n in self.image_shape)
        return rows, columns

    def random_position(self, rng: np.random.Generator) -> np.ndarray:
        """Return `(2,)` a random row and column of the grid that lie in the image."""
        return self.margin_px + rng.uniform(0, np.array(self.image_shape))

    def window(self, centre: np.ndarray, reach_px: float) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
        """Return the part of the grid around a position.

        Parameters
        ----------
        centre : np.ndarray
            `(2,)` row, column.
        reach_px : float
            How far the window extends to each side; it ends at the border of the grid.

        Returns
        -------
        window : tuple of slice
            Rows, columns of the grid.
        y, x : np.ndarray
            `(h, 1)` and `(1, w)` float32, in Angstrom from the position.
        """
        first = np.clip(np.floor(centre - reach_px), 0, self.shape).astype(int)
        last = np.clip(np.ceil(centre + reach_px) + 1, first, self.shape).astype(int)
        y, x = (
            ((np.arange(a, b) - c) * self.pixel_size_A).astype(np.float32)
            for a, b, c in zip(first, last, centre, strict=True)
        )
        return (slice(first[0], last[0]), slice(first[1], last[1])), y[:, None], x[None, :]

    def coloured_noise(self, rng: np.random.Generator, amplitude: Curve) -> np.ndarray:
        """Return `(h, w)` float32 Gaussian noise of a given spectrum; white noise of amplitude 1 has variance 1.

        Parameters
        ----------
        rng : np.random.Generator
            Random generator.
        amplitude : Curve
            From frequencies in 1 / A to the amplitudes there.
        """
        return filtered(rng.standard_normal(self.shape, np.float32), self.pixel_size_A, amplitude)


def fast_length(n: int) -> int:
    """Return the smallest length from `n` on with a fast Fourier transform, real or complex."""
    return fft.next_fast_len(n, real=True)  # pyright: ignore[reportReturnType]
