"""Encoder and decoder of the deformable detection transformer, without dropout."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from upicker.config import ModelConfig
from upicker.model.attention import MSDeformAttn
from upicker.model.boxes import at_least_float32, refined
from upicker.model.position import Pyramid, sine_embedding

# Queries attend to those whose reference boxes are at most so many diameters away: duplicates and neighbours. What is
# further away would only make the result depend on the size of the tile.
REACH = 3.0


class MLP(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def zero_init(self) -> MLP:
        """Initialise the last layer to 0, so that boxes start at their reference boxes; returns itself."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """`(..., widths[0])` -> `(..., widths[-1])`."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class DeformableTransformerEncoderLayer(nn.Module):
    """Deformable self-attention of the tokens of all levels, then a feed-forward network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = MSDeformAttn(config.dim, config.heads, config.levels, config.points)
        self.norm1 = nn.LayerNorm(config.dim)
        self.linear1 = nn.Linear(config.dim, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, config.dim)
        self.norm2 = nn.LayerNorm(config.dim)

    def forward(
        self, src: Tensor, pos: Tensor, reference_points: Tensor, spatial_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Refine the tokens.

        Parameters
        ----------
        src : Tensor
            `(B, L, D)`, the tokens.
        pos : Tensor
            `(L, D)` embedding of their level; that of their positions is left out, so that a particle looks the same
            wherever it lies in a tile.
        reference_points : Tensor
            `(1, L, N, 2)` the tokens' own positions, 0..1 of each level.
        spatial_shapes : list of tuple of int
            Rows, columns of the levels.
        """
        reference_points = reference_points.expand(len(src), -1, -1, -1)
        src2 = self.self_attn(src + pos, reference_points, src, spatial_shapes)
        src = self.norm1(src + src2)
        return self.norm2(src + self.linear2(F.relu(self.linear1(src))))


class DeformableTransformerEncoder(nn.Module):
    """The encoder layers; its output tokens are the memory that the decoder samples."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DeformableTransformerEncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(
        self, src: Tensor, pos: Tensor, reference_points: Tensor, spatial_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Return the memory `(B, L, D)`; parameters as for a layer."""
        for layer in self.layers:
            src = layer(src, pos, reference_points, spatial_shapes)
        return src


class DeformableTransformerDecoderLayer(nn.Module):
    """Self-attention of the queries, deformable cross-attention to the memory, then a feed-forward network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(config.dim, config.heads, batch_first=True)
        self.norm1 = nn.LayerNorm(config.dim)
        self.cross_attn = MSDeformAttn(config.dim, config.heads, config.levels, config.points)
        self.norm2 = nn.LayerNorm(config.dim)
        self.linear1 = nn.Linear(config.dim, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, config.dim)
        self.norm3 = nn.LayerNorm(config.dim)

    def forward(
        self,
        tgt: Tensor,
        query_pos: Tensor,
        reference_points: Tensor,
        memory: Tensor,
        spatial_shapes: list[tuple[int, int]],
        attn_mask: Tensor,
    ) -> Tensor:
        """Refine the queries.

        Parameters
        ----------
        tgt, query_pos : Tensor
            `(B, Q, D)` content of the queries, and the embedding of their reference boxes.
        reference_points : Tensor
            `(B, Q, N, 4)` reference boxes, centre form, 0..1 of each level: the query samples around the centre, in
            units of the box.
        memory : Tensor
            `(B, L, D)`.
        spatial_shapes : list of tuple of int
            Rows, columns of the levels.
        attn_mask : Tensor
            `(B, Q, Q)` bool for the self-attention, True where the row's query must not attend to the column's.
        """
        query = tgt + query_pos
        # On a CPU the gradient of attention takes three times as long in bfloat16 as in float32.
        with torch.autocast("cpu", enabled=False):
            query, value = (x.to(self.norm1.weight.dtype) for x in (query, tgt))
            tgt2 = _self_attention(self.self_attn, query, value, attn_mask)
        tgt = self.norm1(tgt + tgt2)
        tgt2 = self.cross_attn(tgt + query_pos, reference_points, memory, spatial_shapes)
        tgt = self.norm2(tgt + tgt2)
        return self.norm3(tgt + self.linear2(F.relu(self.linear1(tgt))))


class DeformableTransformerDecoder(nn.Module):
    """Decoder layers with iterative box refinement and look forward twice (DINO, the paper's ref. 27).

    Each layer moves the reference boxes by the output of `bbox_embed` (`upicker.model.boxes.refined`), and the next
    layer samples the memory around the moved boxes. `bbox_embed` and `norm` are shared by the layers.

    The reference boxes carry no gradient from layer to layer, which keeps training stable. The loss of layer i is
    therefore computed on another box: the reference of layer i without that detachment (`undetached`), moved by layer
    i. Its value is the same, but its gradient reaches the moves of layers i and i - 1, so that a layer also learns
    what helps the next one ("look forward twice").
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.layers = nn.ModuleList(DeformableTransformerDecoderLayer(config) for _ in range(config.decoder_layers))
        self.ref_point_head = MLP(2 * config.dim, config.dim, config.dim)
        self.norm = nn.LayerNorm(config.dim)
        self.bbox_embed = MLP(config.dim, config.dim, config.dim, 4).zero_init()

    def forward(
        self,
        tgt: Tensor,
        reference_points: Tensor,
        memory: Tensor,
        pyramid: Pyramid,
        attn_mask: Tensor | None = None,
        origin: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Decode.

        Parameters
        ----------
        tgt : Tensor
            `(B, Q, D)` content of the queries.
        reference_points : Tensor
            `(B, Q, 4)` first reference boxes, centre form, particle diameters.
        memory : Tensor
            `(B, L, D)`.
        pyramid : Pyramid
            Its levels.
        attn_mask : Tensor, optional
            `(Q, Q)` bool, True where the row's query must not attend to the column's; beside that, none attends to
            those further away than `REACH`.
        origin : Tensor, optional
            `(B, 2)` what is added to positions before they are embedded, particle diameters: at random in training,
            so that only differences of positions mean anything. By default 0.

        Returns
        -------
        hs, boxes : list of Tensor
            Per layer, the normalised queries `(B, Q, D)` and the predicted boxes `(B, Q, 4)`.
        """
        hs, boxes = [], []
        undetached = reference_points
        extents = pyramid.extents(memory.device, reference_points.dtype).repeat(1, 2)
        for layer in self.layers:
            reference_points = undetached.detach()
            embedded = reference_points
            if origin is not None:
                embedded = torch.cat([reference_points[..., :2] + origin[:, None], reference_points[..., 2:]], -1)
            query_pos = self.ref_point_head(sine_embedding(embedded, self.dim // 2))
            mask = out_of_reach(reference_points)
            if attn_mask is not None:
                mask = mask | attn_mask
            tgt = layer(tgt, query_pos, reference_points[:, :, None] / extents, memory, pyramid.shapes, mask)
            output = self.norm(tgt)
            delta = at_least_float32(self.bbox_embed(output))
            hs.append(output)
            boxes.append(refined(undetached, delta))
            undetached = refined(reference_points, delta)
        return hs, boxes


def _self_attention(attention: nn.MultiheadAttention, query: Tensor, value: Tensor, attn_mask: Tensor) -> Tensor:
    """Attend from `query` `(B, Q, D)` to itself: as the module does, which would want a mask for each head."""
    weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
    q, k, v = (
        F.linear(x, *parameters).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for x, *parameters in zip((query, query, value), weights, biases, strict=True)
    )
    bias = query.new_zeros(attn_mask.shape).masked_fill_(attn_mask, -torch.inf)[:, None]
    return attention.out_proj(F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2))


def out_of_reach(boxes: Tensor) -> Tensor:
    """`(B, Q, 4)` reference boxes -> `(B, Q, Q)` bool, True where two are too far apart to attend to each other."""
    x, y = boxes[..., 0], boxes[..., 1]
    dx, dy = (a[:, :, None] - a[:, None, :] for a in (x, y))
    return dx * dx + dy * dy > REACH**2
