"""Encoder and decoder layers of the deformable detection transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from upicker.config import ModelConfig
from upicker.model.attention import DeformableAttention
from upicker.model.boxes import inverse_sigmoid
from upicker.model.position import sine


class Mlp(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False))

    def starting_at_zero(self) -> Mlp:
        """Make the last layer say 0, so that boxes start where their references are; returns itself."""
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


class FeedForward(nn.Module):
    """Two linear layers with a short cut and a norm."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.mlp = Mlp(dim, hidden, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, n, D)` -> the same."""
        return self.norm(x + self.mlp(x))


class EncoderLayer(nn.Module):
    """Every token looks at a few places of all levels around itself."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention = DeformableAttention(config.dim, config.heads, config.levels, config.points)
        self.norm = nn.LayerNorm(config.dim)
        self.feed = FeedForward(config.dim, config.feedforward)

    def forward(self, tokens: Tensor, position: Tensor, centres: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Refine the tokens.

        Parameters
        ----------
        tokens : Tensor
            `(B, L, D)`.
        position : Tensor
            `(1, L, D)` sine position plus level embedding.
        centres : Tensor
            `(1, L, 2)` the tokens' own places, 0..1.
        shapes : list of tuple of int
            Rows, columns of the levels.
        """
        reference = centres.expand(len(tokens), -1, -1)
        seen = self.attention(tokens + position, reference, tokens, shapes)
        return self.feed(self.norm(tokens + seen))


class DecoderLayer(nn.Module):
    """Queries talk to each other, then look at the picture around their boxes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.talk = nn.MultiheadAttention(config.dim, config.heads, batch_first=True)
        self.norm1 = nn.LayerNorm(config.dim)
        self.look = DeformableAttention(config.dim, config.heads, config.levels, config.points)
        self.norm2 = nn.LayerNorm(config.dim)
        self.feed = FeedForward(config.dim, config.feedforward)

    def forward(
        self,
        content: Tensor,
        position: Tensor,
        boxes: Tensor,
        memory: Tensor,
        shapes: list[tuple[int, int]],
        hidden: Tensor | None,
    ) -> Tensor:
        """Refine the queries.

        Parameters
        ----------
        content, position : Tensor
            `(B, Q, D)` what the queries know, and the embedding of where they are.
        boxes : Tensor
            `(B, Q, 4)` centre form, 0..1.
        memory : Tensor
            `(B, L, D)`.
        shapes : list of tuple of int
            Rows, columns of the levels.
        hidden : Tensor or None
            `(Q, Q)` bool, True where the row's query must not see the column's.
        """
        query = content + position
        # On a CPU the gradient of attention takes three times as long in bfloat16 as in float32.
        with torch.autocast("cpu", enabled=False):
            query, value = (x.to(self.norm1.weight.dtype) for x in (query, content))
            told, _ = self.talk(query, query, value, attn_mask=hidden, need_weights=False)
        content = self.norm1(content + told)
        seen = self.look(content + position, boxes, memory, shapes)
        return self.feed(self.norm2(content + seen))


class Decoder(nn.Module):
    """Decoder layers with iterative box refinement and look-forward-twice (the paper's ref. 27).

    The box head is shared by the layers.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.place = Mlp(2 * config.dim, config.dim, config.dim)
        self.norm = nn.LayerNorm(config.dim)
        self.box_head = Mlp(config.dim, config.dim, config.dim, 4).starting_at_zero()

    def forward(
        self,
        content: Tensor,
        boxes: Tensor,
        memory: Tensor,
        shapes: list[tuple[int, int]],
        hidden: Tensor | None = None,
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Decode.

        Returns
        -------
        contents, boxes : list of Tensor
            Per layer `(B, Q, D)` and `(B, Q, 4)`. A layer's box is its own step from the box before it, with
            the gradient going on into the layer before (look forward twice); its reference carries none.
        """
        contents, refined = [], []
        before = boxes
        for layer in self.layers:
            reference = before.detach()
            position = self.place(sine(reference, self.dim // 2))
            content = layer(content, position, reference, memory, shapes, hidden)
            known = self.norm(content)
            step = self.box_head(known).float()
            contents.append(known)
            refined.append((step + inverse_sigmoid(before)).sigmoid())
            before = (step + inverse_sigmoid(reference)).sigmoid()
        return contents, refined
