"""Weighted sums of bilinear samples on a CPU, with a gradient of their own: half the time of `grid_sample`.

All levels lie one above the other in one table of pixels, with zeros around each of them. The corners of a sample are
then four rows of the table at fixed distances from each other, and a sum over samples is a sum of rows times numbers:
an *embedding bag*, PyTorch's fastest way to gather on a CPU. So is the gradient of the values, with the samples sorted
by the row that they take: a bag for each row. What remains, the products of each sample's corners with the gradient of
its sum, are chosen elements of a product of matrices.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

# Zeros before and after each row of pixels, and above and below each level; those after are also those before the next.
BEFORE, AFTER = 2, 1


@dataclass(frozen=True)
class Layout:
    """Where pixels of all levels lie in the table.

    Attributes
    ----------
    shapes : tuple of tuple of int
        Rows, columns of the N levels.
    heads : int
        H: a row of the table is a head's part of a pixel.
    """

    shapes: tuple[tuple[int, int], ...]
    heads: int

    @property
    def width(self) -> int:
        """Pixels from one row of a level to the next."""
        return max(columns for _, columns in self.shapes) + BEFORE + AFTER

    @cached_property
    def starts(self) -> list[int]:
        """The first row of pixels of each level, zeros included, and the end of the last level."""
        starts = [0]
        for rows, _ in self.shapes:
            starts.append(starts[-1] + BEFORE + rows + AFTER)
        return starts

    @property
    def rows(self) -> int:
        """Rows of the table for each image."""
        return self.starts[-1] * self.width * self.heads

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Rows from the top left corner of a sample to it, to the top right, bottom left and bottom right one."""
        below = self.width * self.heads
        return 0, self.heads, below, below + self.heads

    @cached_property
    def first(self) -> Tensor:
        """`(H, N)` int32, the table's row of each level's first pixel."""
        start = torch.tensor(self.starts[:-1], dtype=torch.int32)
        pixel = (start + BEFORE) * self.width + BEFORE
        return pixel * self.heads + torch.arange(self.heads, dtype=torch.int32)[:, None]

    def table(self, value: Tensor, dtype: torch.dtype) -> Tensor:
        """`(B, L, H, C)` -> `(B * rows + more, C)`, all levels with zeros around them; so many that corners exist."""
        B, _, _, C = value.shape
        table = torch.zeros(B * self.rows + self.corners[-1], C, dtype=dtype)
        for level, tokens in zip(self.levels(table, B), self._split(value), strict=True):
            level.copy_(tokens.unflatten(1, level.shape[1:3]))
        return table

    def levels(self, table: Tensor, images: int) -> list[Tensor]:
        """Return the pixels of each level in a table, `(B, rows, columns, H, C)` each."""
        image = table[: images * self.rows].view(images, -1, self.width, self.heads, table.shape[1])
        return [
            image[:, start + BEFORE : start + BEFORE + rows, BEFORE : BEFORE + columns]
            for (rows, columns), start in zip(self.shapes, self.starts, strict=False)
        ]

    def _split(self, value: Tensor) -> tuple[Tensor, ...]:
        return value.split([rows * columns for rows, columns in self.shapes], 1)


@dataclass(frozen=True)
class Constants:
    """A layout's numbers, for all HNP samples of a query: broadcasting is slow along few numbers.

    Attributes
    ----------
    size : Tensor
        `(2 HNP)` columns, rows; alternating, as locations are.
    step : Tensor
        `(2 HNP)` int32, by how many rows of the table pixels are apart along x, y.
    first : Tensor
        `(HNP)` int32, see `Layout`.
    """

    size: Tensor
    step: Tensor
    first: Tensor


@lru_cache(maxsize=16)
def layout_of(shapes: tuple[tuple[int, int], ...], heads: int) -> Layout:
    """Return the layout of some levels, the same object each time."""
    return Layout(shapes, heads)


@lru_cache(maxsize=16)
def constants_of(layout: Layout, points: int, dtype: torch.dtype) -> Constants:
    """Return the constants of a layout, the same object each time."""
    size = torch.tensor([(columns, rows) for rows, columns in layout.shapes], dtype=dtype)
    step = torch.tensor(layout.corners[1:3], dtype=torch.int32)
    shape = layout.heads, len(layout.shapes), points
    return Constants(
        size[:, None].expand(*shape, 2).flatten(),
        step.expand(*shape, 2).flatten(),
        layout.first[..., None].expand(shape).flatten(),
    )


def is_there() -> bool:
    """Whether PyTorch has all that `weighted_samples` uses: products of matrices of which few elements are wanted."""
    return torch.backends.mkl.is_available()


def weighted_samples(
    value: Tensor, spatial_shapes: list[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Do what `upicker.model.attention.ms_deform_attn` does, on a CPU.

    It computes in the precision of the locations, or of the values where that is higher.
    """
    layout = layout_of(tuple(spatial_shapes), value.shape[2])
    return _WeightedSamples.apply(value, sampling_locations, attention_weights, layout)  # type: ignore[return-value]


class _WeightedSamples(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, locations: Tensor, weights: Tensor, layout: Layout) -> Tensor:
        B, Q, H, N, P, _ = locations.shape
        dtype = torch.promote_types(value.dtype, locations.dtype)
        known = constants_of(layout, P, dtype)
        place = (locations.reshape(B, Q, 2 * H * N * P).to(dtype) * known.size).sub_(0.5)
        pixel = place.floor()
        # Not finite where the place is not: so is the sum.
        fraction = place.sub_(pixel).view(B * Q * H, N * P, 2)
        fx, fy = fraction[..., 0].contiguous(), fraction[..., 1].contiguous()
        # Beyond the zeros all is zero.
        pixel = torch.minimum(pixel.clamp_(min=-BEFORE), known.size, out=pixel).int().mul_(known.step)
        bags = torch.add(pixel[..., 0::2], pixel[..., 1::2]).add_(known.first)
        bags.clamp_(0, layout.rows - 1)  # a place that is not a number has no pixel
        bags += torch.arange(B, dtype=torch.int32).mul_(layout.rows)[:, None, None]
        bags = bags.view(fx.shape)
        weight = weights.to(dtype).reshape(bags.shape)
        table = layout.table(value, dtype)
        sums = [
            F.embedding_bag(bags, table[corner:], per_sample_weights=share, mode="sum")
            for corner, share in zip(layout.corners, _shares(weight, fx, fy), strict=True)
        ]
        ctx.layout, ctx.dtypes = layout, (value.dtype, locations.dtype, weights.dtype)
        ctx.sizes = B, Q, H, N, P
        ctx.save_for_backward(table, bags, fx, fy, weight)
        return sums[0].add_(sums[1]).add_(sums[2]).add_(sums[3]).to(value.dtype).view(B, Q, H * value.shape[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        layout, (table, bags, fx, fy, weight) = ctx.layout, ctx.saved_tensors
        B, Q, H, N, P = ctx.sizes
        grad = grad.to(table.dtype).reshape(B * Q * H, table.shape[1])
        of_value = of_locations = of_weights = None
        if ctx.needs_input_grad[0]:
            of_table = _of_table(grad, bags, _shares(weight, fx, fy), layout, len(table))
            of_value = torch.cat([level.flatten(1, 2) for level in layout.levels(of_table, B)], 1).to(ctx.dtypes[0])
        if any(ctx.needs_input_grad[1:3]):
            top_left, top_right, bottom_left, bottom_right = _products(grad, table, bags, layout)
            right, below = top_right.sub_(top_left), bottom_left.sub_(top_left)
            # What the fourth corner is more than a plane through the others.
            twist = bottom_right.sub_(top_left).sub_(right).sub_(below)
            along_x, along_y = torch.addcmul(right, twist, fy), torch.addcmul(below, twist, fx)
            of_weights = top_left.addcmul_(along_x, fx).addcmul_(below, fy)
            of_weights = of_weights.to(ctx.dtypes[2]).view(B, Q, H, N, P)
            of_place = grad.new_empty(*bags.shape, 2)
            torch.mul(along_x, weight, out=of_place[..., 0])
            torch.mul(along_y, weight, out=of_place[..., 1])
            of_place = of_place.view(B, Q, 2 * H * N * P).mul_(constants_of(layout, P, grad.dtype).size)
            of_locations = of_place.to(ctx.dtypes[1]).view(B, Q, H, N, P, 2)
        return of_value, of_locations, of_weights, None


def _shares(weight: Tensor, fx: Tensor, fy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the weights of the four corners, in the order of `Layout.corners`."""
    bottom = weight * fy
    top = weight - bottom
    bottom_right, top_right = bottom * fx, top * fx
    return top.sub_(top_right), top_right, bottom.sub_(bottom_right), bottom_right


def _of_table(grad: Tensor, bags: Tensor, shares: tuple[Tensor, ...], layout: Layout, rows: int) -> Tensor:
    """Return the gradient of the table: for each row the sum over the samples that take it."""
    flat = bags.view(-1)
    by_row = flat.sort(stable=True).indices
    last = rows - layout.corners[-1]
    ends = torch.zeros(last + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(flat, minlength=last), 0, out=ends[1:])
    of_bag = torch.arange(len(bags)).repeat_interleave(bags.shape[1]).index_select(0, by_row)
    total = torch.zeros(rows, grad.shape[1], dtype=grad.dtype)
    for corner, share in zip(layout.corners, shares, strict=True):
        in_order = share.view(-1).index_select(0, by_row)
        total[corner : corner + last] += F.embedding_bag(
            of_bag, grad, ends, per_sample_weights=in_order, mode="sum", include_last_offset=True
        )
    return total


def _products(grad: Tensor, table: Tensor, bags: Tensor, layout: Layout) -> list[Tensor]:
    """Return, for each corner of all samples, the product of its row and its bag's gradient; shaped as `bags`."""
    count, samples = bags.shape
    ends = torch.arange(0, bags.numel() + 1, samples, dtype=torch.int32)
    last = len(table) - layout.corners[-1]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
        chosen = torch.sparse_csr_tensor(
            ends, bags.view(-1), grad.new_zeros(bags.numel()), (count, last), check_invariants=False
        )
    return [
        torch.sparse.sampled_addmm(chosen, grad, table[corner : corner + last].t(), beta=0.0).values().view(bags.shape)
        for corner in layout.corners
    ]
