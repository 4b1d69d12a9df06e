"""Boxes as tensors: centre form `(cx, cy, w, h)` and corner form `(x0, y0, x1, y1)`, in particle diameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_LARGEST = math.log(16.0)


def box_cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Convert `(..., 4)` centre form to corner form."""
    centre, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def box_xyxy_to_cxcywh(corners: Tensor) -> Tensor:
    """Convert `(..., 4)` corner form to centre form."""
    low, high = corners[..., :2], corners[..., 2:]
    return torch.cat([(low + high) / 2, high - low], -1)


def generalized_box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalised intersection over union (the paper's ref. 36) of boxes in centre form.

    That is the IoU less the fraction of the hull (the smallest box around both) that neither box covers, so that it
    still falls with distance where boxes do not overlap.

    Parameters
    ----------
    a, b : Tensor
        `(..., 4)`, broadcast against each other.

    Returns
    -------
    Tensor
        `(...)` in -1..1.
    """
    a, b = box_cxcywh_to_xyxy(a), box_cxcywh_to_xyxy(b)
    inter = _area(torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:]))
    hull = _area(torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - inter
    tiny = torch.finfo(union.dtype).tiny
    return inter / union.clamp_min(tiny) - (hull - union) / hull.clamp_min(tiny)


def _area(low: Tensor, high: Tensor) -> Tensor:
    return (high - low).clamp_min(0).prod(-1)


def refined(boxes: Tensor, delta: Tensor) -> Tensor:
    """Move boxes by what a head predicts: centres in units of the boxes' sides, sides by factors.

    Parameters
    ----------
    boxes : Tensor
        `(..., 4)` centre form, sides positive.
    delta : Tensor
        `(..., 4)` shifts of the centre over the sides, logarithms of the factors of the sides.

    Returns
    -------
    Tensor
        `(..., 4)`; sides are limited to 1/16 to 16 particle diameters, so that no number overflows.
    """
    sides = boxes[..., 2:]
    log_sides = (sides.log() + delta[..., 2:]).clamp(-LOG_LARGEST, LOG_LARGEST)
    return torch.cat([boxes[..., :2] + delta[..., :2] * sides, log_sides.exp()], -1)


def at_least_float32(x: Tensor) -> Tensor:
    """Return a tensor as float32, or float64 if it is that: boxes and scores need more than the 8 bits of bfloat16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
