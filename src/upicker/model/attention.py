"""Multi-scale deformable attention (Deformable DETR, the paper's ref. 25), in plain PyTorch.

Shape letters, here and in the whole room: B batch, Q queries, L tokens of all levels, N levels, H heads,
P points, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def sample_levels(values: Tensor, shapes: list[tuple[int, int]], places: Tensor, weights: Tensor) -> Tensor:
    """Sum bilinear samples of all levels.

    Parameters
    ----------
    values : Tensor
        `(B, L, H, D/H)`, the levels one after the other, each row by row.
    shapes : list of tuple of int
        Rows, columns of each of the N levels.
    places : Tensor
        `(B, Q, H, N, P, 2)` positions x, y; 0..1 spans the outer edges of a level's pixels. Outside is zero.
    weights : Tensor
        `(B, Q, H, N, P)`, summing to one over N and P.

    Returns
    -------
    Tensor
        `(B, Q, D)`.
    """
    B, _, H, width = values.shape
    Q = places.shape[1]
    # In the precision of the places: 8 bits of a mantissa are less than a pixel's share of a tile. Queries last, so
    # that sums over points run along them.
    exact = torch.promote_types(values.dtype, places.dtype)
    grid = (2 * places - 1).to(exact).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)  # (N, B*H, P, Q, 2)
    weight = weights.to(exact).permute(3, 4, 0, 2, 1).flatten(2, 3)[:, :, :, None]  # (N, P, B*H, 1, Q)
    total = grid.new_zeros(B * H, width, Q)
    for level, part in enumerate(values.split([h * w for h, w in shapes], 1)):
        picture = part.permute(0, 2, 3, 1).reshape(B * H, width, *shapes[level]).to(exact)
        samples = F.grid_sample(picture, grid[level], align_corners=False)
        for sample, share in zip(samples.unbind(2), weight[level].unbind(0), strict=True):
            total = torch.addcmul(total, sample, share)
    return total.to(values.dtype).view(B, H * width, Q).transpose(1, 2)


class DeformableAttention(nn.Module):
    """Each query looks at P points per head and level, around its reference.

    Parameters
    ----------
    dim, heads, levels, points : int
        D (divisible by H), H, N, P.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        assert dim % heads == 0
        self.heads, self.levels, self.points = heads, levels, points
        self.offsets = nn.Linear(dim, heads * levels * points * 2)
        self.weights = nn.Linear(dim, heads * levels * points)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self._reset()

    def _reset(self) -> None:
        """Start with heads that look in different directions, points farther and farther out."""
        nn.init.zeros_(self.offsets.weight)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        reach = torch.arange(1, self.points + 1)
        start = direction[:, None, None] * reach[None, None, :, None] * torch.ones(1, self.levels, 1, 1)
        with torch.no_grad():
            self.offsets.bias.copy_(start.flatten())
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        for linear in (self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, queries: Tensor, reference: Tensor, memory: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Attend.

        Parameters
        ----------
        queries : Tensor
            `(B, Q, D)`, position added.
        reference : Tensor
            `(B, Q, 2)` points, offsets then counted in pixels of each level; or `(B, Q, 4)` boxes (centre
            form), offsets then counted in half box sides. In 0..1.
        memory : Tensor
            `(B, L, D)`.
        shapes : list of tuple of int
            Rows, columns of the levels.

        Returns
        -------
        Tensor
            `(B, Q, D)`.
        """
        B, Q, _ = queries.shape
        H, N, P = self.heads, self.levels, self.points
        values = self.value(memory).view(B, -1, H, memory.shape[-1] // H)
        offsets = self.offsets(queries).view(B, Q, H, N, P, 2).to(reference.dtype)
        weights = self.weights(queries).view(B, Q, H, N * P).softmax(-1).view(B, Q, H, N, P)
        if reference.shape[-1] == 4:
            step = reference[:, :, None, None, None, 2:] * (0.5 / P)
        else:
            step = 1 / offsets.new_tensor([(w, h) for h, w in shapes])[:, None]
        places = reference[:, :, None, None, None, :2] + offsets * step
        return self.out(sample_levels(values, shapes, places, weights))
