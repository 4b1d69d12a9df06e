"""Sine embeddings of positions and boxes, and the reference points of feature maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Cycles per tile of the slowest and the fastest wave. DETR's fastest makes one cycle over an image; here a tile
# is a dozen particles wide, and queries must distinguish a neighbour from a duplicate, a fraction of a particle away.
SLOWEST, FASTEST = 0.5, 24.0


def sine_embedding(values: Tensor, features: int) -> Tensor:
    """Embed each value in 0..1 by sines and cosines.

    Parameters
    ----------
    values : Tensor
        `(..., k)`.
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


def grid_points(
    shape: tuple[int, int], device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return `(h * w, 2)` centres x, y of a feature map's cells, row by row, in 0..1: its tokens' reference points."""
    h, w = shape
    y = (torch.arange(h, device=device, dtype=dtype) + 0.5) / h
    x = (torch.arange(w, device=device, dtype=dtype) + 0.5) / w
    return torch.stack([x.expand(h, w), y[:, None].expand(h, w)], -1).flatten(0, 1)
