"""Multi-scale deformable attention (Deformable DETR, the paper's ref. 25), in plain PyTorch.

Shape letters, here and in the whole room: B batch, Q queries, L tokens of all levels, N levels, H heads,
P sampling points, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from upicker.model.sampling import is_there, weighted_samples


def ms_deform_attn(
    value: Tensor, spatial_shapes: list[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Sum bilinear samples of all levels, weighted (eq. (3) of Deformable DETR without its projections).

    Parameters
    ----------
    value : Tensor
        `(B, L, H, D/H)`, the levels one after the other, each row by row.
    spatial_shapes : list of tuple of int
        Rows, columns of each of the N levels.
    sampling_locations : Tensor
        `(B, Q, H, N, P, 2)` positions x, y; 0..1 spans the outer edges of a level's pixels. Samples outside are zero.
    attention_weights : Tensor
        `(B, Q, H, N, P)`, summing to one over N and P.

    Returns
    -------
    Tensor
        `(B, Q, D)`.
    """
    if value.device.type == "cpu" and is_there():
        return weighted_samples(value, spatial_shapes, sampling_locations, attention_weights)
    return samples_by_grid(value, spatial_shapes, sampling_locations, attention_weights)


def samples_by_grid(
    value: Tensor, spatial_shapes: list[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Do what `ms_deform_attn` does, on any device; on a CPU in twice the time."""
    B, _, H, width = value.shape
    Q = sampling_locations.shape[1]
    # In the precision of the locations: 8 bits of a mantissa are coarser than a pixel of a tile. Queries last, so
    # that sums over points run along contiguous memory.
    dtype = torch.promote_types(value.dtype, sampling_locations.dtype)
    grid = (2 * sampling_locations - 1).to(dtype).permute(3, 0, 2, 4, 1, 5).flatten(1, 2)  # (N, B*H, P, Q, 2)
    weight = attention_weights.to(dtype).permute(3, 4, 0, 2, 1).flatten(2, 3)[:, :, :, None]  # (N, P, B*H, 1, Q)
    output = grid.new_zeros(B * H, width, Q)
    for level, tokens in enumerate(value.split([h * w for h, w in spatial_shapes], 1)):
        feature_map = tokens.permute(0, 2, 3, 1).reshape(B * H, width, *spatial_shapes[level]).to(dtype)
        samples = F.grid_sample(feature_map, grid[level], align_corners=False)
        for sample, point_weight in zip(samples.unbind(2), weight[level].unbind(0), strict=True):
            output = torch.addcmul(output, sample, point_weight)
    return output.to(value.dtype).view(B, H * width, Q).transpose(1, 2)


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention: each query samples P points per head and level around its reference point.

    Where ordinary attention weighs all L tokens, the query itself predicts where to sample (`sampling_offsets`) and
    how much each sample weighs (`attention_weights`), so that the cost does not grow with L.

    Parameters
    ----------
    dim, heads, levels, points : int
        D (divisible by H), H, N, P.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        assert dim % heads == 0
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        """Start with a direction per head, and points at growing distances along it."""
        if self.value_proj.weight.is_meta:  # There are no values; see `upicker.model.weights`.
            return
        nn.init.zeros_(self.sampling_offsets.weight)
        angle = torch.arange(self.heads) * (2 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.points + 1)
        offsets = direction[:, None, None] * distance[None, None, :, None] * torch.ones(1, self.levels, 1, 1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self, query: Tensor, reference_points: Tensor, memory: Tensor, spatial_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Attend.

        Parameters
        ----------
        query : Tensor
            `(B, Q, D)`, positional embedding added.
        reference_points : Tensor
            `(B, Q, N, 2)` points, offsets then counted in cells of each level; or `(B, Q, N, 4)` boxes (centre
            form), offsets then counted in half box sides. 0..1 spans each level.
        memory : Tensor
            `(B, L, D)`, the tokens to sample from.
        spatial_shapes : list of tuple of int
            Rows, columns of the levels.

        Returns
        -------
        Tensor
            `(B, Q, D)`.
        """
        B, Q, _ = query.shape
        H, N, P = self.heads, self.levels, self.points
        value = self.value_proj(memory).view(B, -1, H, memory.shape[-1] // H)
        offsets = self.sampling_offsets(query).to(reference_points.dtype)
        logits = self.attention_weights(query).to(reference_points.dtype).view(B, Q, H, N * P)
        # One unit for each offset: broadcasting along pairs takes ten times as long.
        if reference_points.shape[-1] == 4:
            unit = self._per_offset(reference_points[..., 2:] * (0.5 / P))
        else:
            unit = self._per_offset(1 / offsets.new_tensor([[[(w, h) for h, w in spatial_shapes]]]))
        locations = self._per_offset(reference_points[..., :2]) + offsets * unit
        weights = _softmax(logits).view(B, Q, H, N, P)
        return self.output_proj(ms_deform_attn(value, spatial_shapes, locations.view(B, Q, H, N, P, 2), weights))

    def _per_offset(self, of_levels: Tensor) -> Tensor:
        """`(B, Q, N, 2)` x, y of each level -> `(B, Q, 2 HNP)`, those of all offsets."""
        B, Q, N, _ = of_levels.shape
        return of_levels[..., None, :].expand(B, Q, N, self.points, 2).reshape(B, Q, -1).repeat(1, 1, self.heads)


def _softmax(logits: Tensor) -> Tensor:
    """Return the softmax along the last axis; a fourth of the time of torch's where that is short."""
    weights = (logits - logits.detach().amax(-1, keepdim=True)).exp()
    return weights / weights.sum(-1, keepdim=True)
