"""Group normalisation whose gradient is fast on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Smaller inputs are as fast with PyTorch's own gradient.
LEAST_VALUES = 2**17


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm`; where channels are the last axis in memory, its gradient takes a quarter of the time on a CPU.

    Convolutions prefer that order of the axes. PyTorch's gradient is slow in it, above all in bfloat16.
    """

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, h, w)` -> the same."""
        channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        slow = channels_last and x.device.type == "cpu" and x.numel() >= LEAST_VALUES
        if not (slow and torch.is_grad_enabled()):
            return super().forward(x)
        return _GroupNorm.apply(x, self.weight, self.bias, self.num_groups, self.eps)  # type: ignore[return-value]


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        B, C, h, w = x.shape
        out, mean, rstd = torch.native_group_norm(x, weight, bias, B, C, h * w, groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        dtype = torch.promote_types(x.dtype, torch.float32)
        B, C, h, w = x.shape
        groups = mean.shape[1]

        def of_channels(of_groups: Tensor) -> Tensor:
            return of_groups.to(dtype).repeat_interleave(C // groups, 1)

        def mean_of_group(sums: Tensor) -> Tensor:
            return of_channels(sums.view(B, groups, -1).sum(2) / (h * w * C // groups))

        pixels, grad = (t.permute(0, 2, 3, 1).reshape(B, h * w, C).to(dtype) for t in (x, grad))
        mean, rstd = of_channels(mean), of_channels(rstd)
        # Of each image and channel, the sums of the gradient, and of its product with the normalised input.
        total = grad.sum(1)
        product = ((grad * pixels).sum(1) - total * mean) * rstd
        scale = rstd * weight
        # The input's gradient has no part along what normalisation takes away: the mean, and the input itself.
        along = mean_of_group(product * weight) * rstd * rstd
        constant = along * mean - mean_of_group(total * weight) * rstd
        of_x = torch.addcmul(constant[:, None], grad, scale[:, None]).addcmul_(pixels, along[:, None], value=-1)
        of_x = of_x.to(x.dtype).view(B, h, w, C).permute(0, 3, 1, 2)
        return of_x, product.sum(0).to(weight.dtype), total.sum(0).to(weight.dtype), None, None
