"""The detector for picking: the same numbers as `upicker.model.detector.Detector` in evaluation, in half the time.

What training needs and picking does not is left out, and what is the same for all tiles is computed once:

- weights are cast once, instead of at each use;
- the number of queries follows what a tile holds (`LEAST_SCORE`, `ENOUGH`);
- sampling offsets and attention weights come from one matrix product. The embedding of the level goes into it as
  ``W (src + pos) + b = W src + (W pos + b)``, whose second term is constant;
- bilinear samples of all levels, heads and points of a query are one weighted sum of rows of a table (`embedding_bag`),
  where each level has a ring of zeros around it, so that samples outside need no test;
- the attention weights are normalised after that sum, as the sum is linear in them.

Positions stay in float32 whatever the rest is computed in: 8 bits of a mantissa are coarser than a pixel of a tile.
Shape letters as in `upicker.model.attention`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from upicker.model.attention import MSDeformAttn
from upicker.model.boxes import refined
from upicker.model.detector import Detector, pyramid_of
from upicker.model.position import Pyramid, sine_embedding
from upicker.model.transformer import (
    MLP,
    DeformableTransformerDecoderLayer,
    DeformableTransformerEncoderLayer,
    out_of_reach,
)

# Tokens to which the encoder gives a lower score become no queries; those of at least the second one all do. Between
# them it is as many as in training, by the tile's area.
LEAST_SCORE, ENOUGH = 0.005, 0.2


class Levels:
    """The feature levels of one tile size, and where their pixels lie in a table of samples.

    The table holds the levels one above the other, each with a ring of zeros around it, in rows of one width: the
    neighbours of a pixel to the right and below are then equally far away for all levels.

    Parameters
    ----------
    pyramid : Pyramid
        The N levels.
    heads, points : int
        H, P.
    """

    def __init__(self, pyramid: Pyramid, heads: int, points: int, device: torch.device) -> None:
        shapes = pyramid.shapes
        self.shapes, self.heads, self.points = shapes, heads, points
        self.width = max(columns for _, columns in shapes) + 2
        self.starts = [0]
        for rows, _ in shapes:
            self.starts.append(self.starts[-1] + rows + 2)
        self.rows = self.starts[-1] * self.width
        size = torch.tensor([(columns, rows) for rows, columns in shapes], dtype=torch.float32, device=device)
        # Samples outside are zero, as on the ring; just before its last pixel, so that there is a right neighbour.
        self.highest = self._per_sample(torch.nextafter(size, torch.zeros_like(size)))
        start = torch.tensor(self.starts[:-1], dtype=torch.float32, device=device)
        head = torch.arange(heads, device=device)[:, None, None]
        first = ((start[:, None] + 1) * self.width + 1) * heads + head
        self.first = first.expand(heads, len(shapes), points).reshape(-1)
        strides = torch.tensor(pyramid.strides, dtype=torch.float32, device=device)
        # Cells per particle diameter.
        self.cells = self._per_sample((1 / strides)[:, None].expand(-1, 2))

    def _per_sample(self, of_levels: Tensor) -> Tensor:
        """`(N, 2)` x, y of each level -> `(2 HNP)`, those of all samples' x and then y."""
        return of_levels.T[:, None, :, None].expand(2, self.heads, len(self.shapes), self.points).reshape(-1)

    def table(self, value: Tensor) -> Tensor:
        """`(B, L, D)` -> `(B * rows * H + more, D/H)`, the pixels of all levels with zeros around them."""
        B, _, D = value.shape
        more = self.width + 2
        table = value.new_zeros(B * self.rows + more, D)
        image = table[: B * self.rows].view(B, -1, self.width, D)
        values = value.split([h * w for h, w in self.shapes], 1)
        for (rows, columns), start, tokens in zip(self.shapes, self.starts, values, strict=False):
            image[:, start + 1 : start + 1 + rows, 1 : 1 + columns] = tokens.view(B, rows, columns, D)
        return table.view(-1, D // self.heads)

    def samples(self, value: Tensor, place: Tensor, weight: Tensor) -> Tensor:
        """Sum bilinear samples.

        Parameters
        ----------
        value : Tensor
            `(B, L, D)`.
        place : Tensor
            `(B, Q, 2 HNP)` float32, x and then y of the samples in pixels of their levels, 0 at the centre of the
            first; overwritten.
        weight : Tensor
            `(B, Q, HNP)` float32.

        Returns
        -------
        Tensor
            `(B, Q, D)`.
        """
        B, Q, _ = place.shape
        H = self.heads
        place = torch.minimum(place.clamp_min_(-1), self.highest, out=place)
        pixel = place.floor()
        (x, y), (fx, fy) = pixel.chunk(2, -1), place.sub_(pixel).chunk(2, -1)
        index = torch.add(self.first, x, alpha=H).add_(y, alpha=H * self.width)
        # A place that is not finite has no index; its weight is not finite either.
        bags = index.int().clamp_(0, self.rows * H - 1)
        # As whole numbers: those of many tiles are too large for float32.
        bags += torch.arange(B, dtype=torch.int32, device=bags.device)[:, None, None] * (self.rows * H)
        bags = bags.view(B * Q * H, -1)
        bottom = weight * fy
        top = weight - bottom
        bottom_right, top_right = bottom * fx, top * fx
        shares = (top.sub_(top_right), top_right, bottom.sub_(bottom_right), bottom_right)
        table = self.table(value)
        count = B * self.rows * H
        summed = None
        for corner, share in zip((0, H, H * self.width, H * (self.width + 1)), shares, strict=True):
            some = F.embedding_bag(
                bags,
                table[corner : corner + count],
                per_sample_weights=share.to(value.dtype).view(bags.shape),
                mode="sum",
            )
            summed = some if summed is None else summed.add_(some)
        assert summed is not None
        return summed.view(B, Q, -1)


class Sampling:
    """`MSDeformAttn` with offsets and weights from one product."""

    def __init__(self, attention: MSDeformAttn, dtype: torch.dtype) -> None:
        self.heads, self.dtype = attention.heads, dtype
        offsets, weights = attention.sampling_offsets, attention.attention_weights
        # x and y apart: the offsets' outputs alternate between them.
        self.weight = torch.cat([offsets.weight[::2], offsets.weight[1::2], weights.weight]).detach()
        self.bias = torch.cat([offsets.bias[::2], offsets.bias[1::2], weights.bias]).detach()
        self.cast = self.weight.to(dtype)
        self.value, self.output = _cast(attention.value_proj, dtype), _cast(attention.output_proj, dtype)

    def constant(self, pos: Tensor) -> Tensor:
        """`(L, D)` positional embedding -> `(L, 3 HNP)` float32, what it adds to offsets and weights."""
        return F.linear(pos, self.weight, self.bias)

    def __call__(self, predicted: Tensor, memory: Tensor, levels: Levels) -> Tensor:
        """Attend.

        Parameters
        ----------
        predicted : Tensor
            `(B, Q, 3 HNP)` float32: x and then y of the samples in pixels of their levels, logits of their weights.
        memory : Tensor
            `(B, L, D)`.
        levels : Levels
            Its levels.
        """
        B, Q, samples = predicted.shape
        samples //= 3
        logits = predicted[..., 2 * samples :].unflatten(-1, (self.heads, -1))
        weight = (logits - logits.amax(-1, keepdim=True)).exp_()
        total = weight.sum(-1, keepdim=True)
        sampled = levels.samples(F.linear(memory, *self.value), predicted[..., : 2 * samples], weight.flatten(2))
        sampled = sampled.view(B, Q, self.heads, -1) / total.to(self.dtype)
        return F.linear(sampled.view(B, Q, -1), *self.output)


class EncoderLayer:
    """`DeformableTransformerEncoderLayer`."""

    def __init__(self, layer: DeformableTransformerEncoderLayer, dtype: torch.dtype) -> None:
        self.sampling = Sampling(layer.self_attn, dtype)
        self.norm1, self.norm2 = _norm(layer.norm1, dtype), _norm(layer.norm2, dtype)
        self.linear1, self.linear2 = _cast(layer.linear1, dtype), _cast(layer.linear2, dtype)

    def __call__(self, src: Tensor, constant: Tensor, levels: Levels) -> Tensor:
        """Refine the tokens `(B, L, D)`; `constant`: see `Fixed`."""
        predicted = F.linear(src, self.sampling.cast).float().add_(constant)
        src = self.norm1(self.sampling(predicted, src, levels).add_(src))
        return self.norm2(F.linear(F.linear(src, *self.linear1).relu_(), *self.linear2).add_(src))


class DecoderLayer:
    """`DeformableTransformerDecoderLayer`."""

    def __init__(self, layer: DeformableTransformerDecoderLayer, dtype: torch.dtype) -> None:
        attention = layer.self_attn
        self.heads, self.points = attention.num_heads, layer.cross_attn.points
        query, key, value = _copied(attention.in_proj_weight, dtype).chunk(3)
        q_bias, k_bias, v_bias = _copied(attention.in_proj_bias, dtype).chunk(3)
        self.query_key = torch.cat([query, key]), torch.cat([q_bias, k_bias])
        self.value, self.output = (value, v_bias), _cast(attention.out_proj, dtype)
        self.sampling = Sampling(layer.cross_attn, dtype)
        self.norm1, self.norm2, self.norm3 = (_norm(norm, dtype) for norm in (layer.norm1, layer.norm2, layer.norm3))
        self.linear1, self.linear2 = _cast(layer.linear1, dtype), _cast(layer.linear2, dtype)

    def __call__(
        self, tgt: Tensor, query_pos: Tensor, boxes: Tensor, seen: Tensor, memory: Tensor, levels: Levels
    ) -> Tensor:
        """Refine the queries `(B, Q, D)`.

        `boxes` `(B, Q, 4)` are their reference boxes; `seen` `(B, 1, Q, Q)` is True where the row's query attends to
        the column's.
        """
        query, key = F.linear(tgt + query_pos, *self.query_key).chunk(2, -1)
        q, k, v = (self._split(x) for x in (query, key, F.linear(tgt, *self.value)))
        attended = F.scaled_dot_product_attention(q, k, v, seen).transpose(1, 2).flatten(2)
        tgt = self.norm1(F.linear(attended, *self.output).add_(tgt))
        predicted = F.linear(tgt + query_pos, self.sampling.cast).float().add_(self.sampling.bias)
        samples = len(levels.cells)
        # Offsets count in half box sides.
        unit = _repeated(boxes[..., 2:] * (0.5 / self.points), samples) * levels.cells
        centre = _repeated(boxes[..., :2], samples) * levels.cells - 0.5
        place = predicted[..., :samples]
        torch.addcmul(centre, place, unit, out=place)
        tgt = self.norm2(self.sampling(predicted, memory, levels).add_(tgt))
        return self.norm3(F.linear(F.linear(tgt, *self.linear1).relu_(), *self.linear2).add_(tgt))

    def _split(self, x: Tensor) -> Tensor:
        """`(B, Q, D)` -> `(B, H, Q, D/H)`."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


@dataclass(frozen=True)
class Fixed:
    """What is the same for all tiles of a size.

    Attributes
    ----------
    levels : Levels
        The feature levels.
    constants : list of Tensor
        For each encoder layer `(L, 3 HNP)`: what positions add to the samples and to the logits of their weights.
    proposals : Tensor
        `(L, 4)` boxes that the tokens start from.
    """

    levels: Levels
    constants: list[Tensor]
    proposals: Tensor


class InferenceDetector:
    """A detector for picking.

    Parameters
    ----------
    model : Detector
        The network, on its device. Its parameters are copied.
    dtype : torch.dtype
        What values and weights are computed in: ``torch.float32`` or ``torch.bfloat16``.
    """

    def __init__(self, model: Detector, dtype: torch.dtype = torch.float32) -> None:
        config, self.diameter_px, self.dtype = model.config, model.diameter_px, dtype
        self.dim, self.heads, self.points = config.dim, config.heads, config.points
        self.query_density = config.query_density
        self.device = model.level_embed.device
        self.backbone, self.input_proj = (_copy(module, dtype) for module in (model.backbone, model.input_proj))
        self.level_embed = _copied(model.level_embed, torch.float32)
        self.encoder = [EncoderLayer(cast(DeformableTransformerEncoderLayer, x), dtype) for x in model.encoder.layers]
        self.enc_output, self.enc_norm = _cast(model.enc_output, dtype), _norm(model.enc_output_norm, dtype)
        self.enc_class, self.enc_box = _cast(model.enc_out_class_embed, dtype), _mlp(model.enc_out_bbox_embed, dtype)
        self.content = _copied(model.query_embed.weight, dtype)
        decoder = model.decoder
        self.decoder = [DecoderLayer(cast(DeformableTransformerDecoderLayer, x), dtype) for x in decoder.layers]
        self.query_pos, self.norm = _mlp(decoder.ref_point_head, dtype), _norm(decoder.norm, dtype)
        self.box, self.score = _mlp(decoder.bbox_embed, dtype), _cast(model.class_embed, torch.float32)
        self._fixed: dict[tuple[tuple[int, int], ...], Fixed] = {}

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Detect.

        Parameters
        ----------
        images : Tensor
            `(B, 1, h, w)` prepared tiles.

        Returns
        -------
        scores, boxes : Tensor
            `(B, Q)` in 0..1; `(B, Q, 4)` in centre form, in pixels of the tile, 0 at the centre of the first one;
            float32. Q is that of the tile with most queries; the others' further ones have a score of 0.
        """
        src, fixed = self._tokens(images)
        for layer, constant in zip(self.encoder, fixed.constants, strict=True):
            src = layer(src, constant, fixed.levels)
        rows, columns = images.shape[2:]
        boxes, used = self._selected(src, fixed.proposals, self.query_density * rows * columns / self.diameter_px**2)
        tgt = self.content.expand(*boxes.shape[:2], -1)
        for layer in self.decoder:
            pos = self.query_pos(sine_embedding(boxes, self.dim // 2).to(self.dtype))
            tgt = layer(tgt, pos, boxes, _seen(boxes, used), src, fixed.levels)
            output = self.norm(tgt)
            boxes = refined(boxes, self.box(output).float())
        scores = F.linear(output.float(), *self.score)[..., 0].sigmoid()
        centres, sides = (boxes * self.diameter_px).chunk(2, -1)
        return scores * used, torch.cat([centres - 0.5, sides], -1)

    def _tokens(self, images: Tensor) -> tuple[Tensor, Fixed]:
        """Return the tokens `(B, L, D)` of all levels, and what is fixed for them."""
        features = self.backbone(images.to(self.dtype))
        srcs = [proj(feature) for proj, feature in zip(self.input_proj, features, strict=False)]
        for proj in list(self.input_proj)[len(features) :]:
            srcs.append(proj(features[-1] if len(srcs) == len(features) else srcs[-1]))
        pyramid = pyramid_of(srcs, self.diameter_px)
        shapes = tuple(pyramid.shapes)
        if shapes not in self._fixed:
            self._fixed = {shapes: self._fix(pyramid)}
        return torch.cat([src.flatten(2).transpose(1, 2) for src in srcs], 1), self._fixed[shapes]

    def _fix(self, pyramid: Pyramid) -> Fixed:
        levels = Levels(pyramid, self.heads, self.points, self.device)
        centres = pyramid.centres(self.device)
        pos = pyramid.of_tokens(self.level_embed)
        # Offsets count in pixels of each level, from the token's own position.
        own = _repeated(centres, len(levels.cells)) * levels.cells - 0.5
        constants = [F.pad(own, (0, len(levels.cells) // 2)) + layer.sampling.constant(pos) for layer in self.encoder]
        return Fixed(levels, constants, torch.cat([centres, torch.ones_like(centres)], 1))

    def _selected(self, memory: Tensor, proposals: Tensor, usual: float) -> tuple[Tensor, Tensor]:
        """Return the boxes `(B, Q, 4)` of the tokens that become queries, by falling score.

        Also `(B, Q)` bool, whether a query is one of its tile: Q is the largest number of a tile, and at least 1.
        `usual` is the number of queries in training.
        """
        output = self.enc_norm(F.linear(memory, *self.enc_output))
        scores = F.linear(output, *self.enc_class)[..., 0].float().sigmoid()
        number = max(1, math.ceil(usual), int((scores >= ENOUGH).sum(1).max()))
        highest, top = scores.topk(min(number, scores.shape[1]), 1)
        rank = torch.arange(highest.shape[1], device=scores.device)
        used = (highest >= LEAST_SCORE) & ((rank < max(1, usual)) | (highest >= ENOUGH))
        number = max(1, int(used.sum(1).max()))
        used, top = used[:, :number], top[:, :number]
        chosen = output.gather(1, top[..., None].expand(-1, -1, output.shape[-1]))
        return refined(proposals[top], self.enc_box(chosen).float()), used


def _seen(boxes: Tensor, used: Tensor) -> Tensor:
    """Return `(B, 1, Q, Q)` bool: each query attends to itself, and to those used within reach."""
    itself = torch.eye(boxes.shape[1], dtype=torch.bool, device=boxes.device)
    return ((~out_of_reach(boxes) & used[:, None]) | itself)[:, None]


def _repeated(xy: Tensor, samples: int) -> Tensor:
    """`(..., 2)` -> `(..., samples)`: x for the first half of them, y for the second."""
    return xy.repeat_interleave(samples // 2, -1)


def _copy(module: nn.Module, dtype: torch.dtype) -> Any:
    return copy.deepcopy(module).eval().requires_grad_(False).to(dtype)


def _norm(norm: nn.LayerNorm, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return _copy(norm, dtype)


def _mlp(mlp: MLP, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    return _copy(mlp, dtype)


def _cast(linear: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return _copied(linear.weight, dtype), _copied(linear.bias, dtype)


def _copied(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    return parameter.detach().to(dtype, copy=True)
