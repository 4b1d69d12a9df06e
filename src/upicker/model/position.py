"""Positions: the feature levels of a tile, and sine embeddings of boxes.

The unit of length in this room is the **particle diameter**, the origin is the outer corner of a tile's first pixel.
Nothing is counted in tiles: the same particle has the same box and the same embedding in a tile of any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Cycles per particle diameter of the slowest and the fastest wave: queries must tell a neighbour from a duplicate, a
# fraction of a particle away.
SLOWEST, FASTEST = 1 / 24, 2.0


@dataclass(frozen=True)
class Pyramid:
    """The feature levels of a tile.

    Attributes
    ----------
    shapes : list of tuple of int
        Rows, columns of each of the N levels.
    strides : list of float
        Sides of their cells, particle diameters.
    """

    shapes: list[tuple[int, int]]
    strides: list[float]

    def centres(self, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return `(L, 2)` centres x, y of all cells, level by level, row by row: the tokens' positions."""
        levels = zip(self.shapes, self.strides, strict=True)
        return torch.cat([_grid(shape, device, dtype) * stride for shape, stride in levels])

    def extents(self, device: torch.device | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return `(N, 2)` widths and heights of the levels; they differ where a tile is no multiple of a stride."""
        sizes = [(columns * s, rows * s) for (rows, columns), s in zip(self.shapes, self.strides, strict=True)]
        return torch.tensor(sizes, device=device, dtype=dtype)

    def of_tokens(self, per_level: Tensor) -> Tensor:
        """`(N, D)` -> `(L, D)`: what belongs to a level, for each of its tokens."""
        cells = torch.tensor([rows * columns for rows, columns in self.shapes], device=per_level.device)
        return per_level.repeat_interleave(cells, 0)


def _grid(shape: tuple[int, int], device: torch.device | None, dtype: torch.dtype) -> Tensor:
    """Return `(h * w, 2)` centres x, y of cells of side 1."""
    h, w = shape
    y = torch.arange(h, device=device, dtype=dtype) + 0.5
    x = torch.arange(w, device=device, dtype=dtype) + 0.5
    return torch.stack([x.expand(h, w), y[:, None].expand(h, w)], -1).flatten(0, 1)


def sine_embedding(values: Tensor, features: int) -> Tensor:
    """Embed each length by sines and cosines.

    Parameters
    ----------
    values : Tensor
        `(..., k)`, particle diameters.
    features : int
        Even number of features per value.

    Returns
    -------
    Tensor
        `(..., k * features)`.
    """
    cycles = torch.logspace(
        math.log10(SLOWEST), math.log10(FASTEST), features // 2, device=values.device, dtype=values.dtype
    )
    angle = values[..., None] * (2 * math.pi * cycles)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-3)
