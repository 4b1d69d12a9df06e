"""The detection transformer of the paper's Fig. 1c."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from upicker.config import ModelConfig
from upicker.model.backbone import RESNETS, CompactBackbone, ResNet
from upicker.model.boxes import inverse_sigmoid
from upicker.model.denoising import Noised
from upicker.model.position import grid_centres, sine
from upicker.model.transformer import Decoder, EncoderLayer, Mlp

# Few places hold a particle: heads start by saying so, or the first steps are spent on learning it.
PRIOR = 0.01


@dataclass(frozen=True)
class Output:
    """What the detector says of a batch of tiles.

    Attributes
    ----------
    logits, boxes : list of Tensor
        Per decoder layer, the last one being the answer: `(B, Q, 1)`, `(B, Q, 4)` (centre form, 0..1).
    encoder_logits, encoder_boxes : Tensor
        `(B, Q, 1)`, `(B, Q, 4)` of the encoder's selected tokens.
    noised_logits, noised_boxes : list of Tensor
        Per decoder layer, those of the denoising queries: `(B, 2GM, 1)`, `(B, 2GM, 4)`; empty lists without them.
    """

    logits: list[Tensor]
    boxes: list[Tensor]
    encoder_logits: Tensor
    encoder_boxes: Tensor
    noised_logits: list[Tensor]
    noised_boxes: list[Tensor]


class Detector(nn.Module):
    """Tile -> boxes with scores: backbone, deformable encoder, mixed query selection, decoder, heads.

    Parameters
    ----------
    config : ModelConfig
        Architecture.
    side : float
        Expected box side over the tile's side; the boxes' starting point.
    """

    def __init__(self, config: ModelConfig, side: float) -> None:
        super().__init__()
        self.config, self.side = config, side
        self.backbone = ResNet(config.backbone) if config.backbone in RESNETS else CompactBackbone(config.widths)
        channels = list(self.backbone.channels)
        self.project = nn.ModuleList(_projection(c, config.dim, 1) for c in channels[: config.levels])
        # Levels beyond the backbone's: each half as fine as the one before.
        self.extra = nn.ModuleList(
            _projection(channels[-1] if i == 0 else config.dim, config.dim, 3)
            for i in range(config.levels - len(channels))
        )
        self.level = nn.Parameter(torch.randn(config.levels, config.dim) * 0.1)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.select = nn.Sequential(nn.Linear(config.dim, config.dim), nn.LayerNorm(config.dim))
        self.select_class = nn.Linear(config.dim, 1)
        self.select_box = Mlp(config.dim, config.dim, 4).starting_at_zero()
        self.content = nn.Embedding(config.queries, config.dim)
        self.noised_content = nn.Embedding(2, config.dim)
        self.decoder = Decoder(config)
        self.class_head = nn.Linear(config.dim, 1)
        for head in (self.select_class, self.class_head):
            nn.init.constant_(head.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, images: Tensor, noised: Noised | None = None) -> Output:
        """Detect.

        Parameters
        ----------
        images : Tensor
            `(B, 1, t, t)` prepared tiles.
        noised : Noised, optional
            Denoising queries, in training.
        """
        memory, shapes = self.encode(images)
        encoder_logits, encoder_boxes = self.select_queries(memory, shapes)
        content = self.content.weight.expand(len(images), -1, -1)[:, : encoder_boxes.shape[1]]
        boxes, hidden, extra = encoder_boxes.detach(), None, 0
        if noised is not None:
            content = torch.cat([self.noised_content(noised.labels), content], 1)
            boxes = torch.cat([noised.boxes, boxes], 1)
            hidden, extra = noised.hidden(encoder_boxes.shape[1]), len(noised)
        contents, refined = self.decoder(content, boxes, memory, shapes, hidden)
        # In float32 whatever the rest computes in: bfloat16's steps would make picks of equal score.
        with torch.autocast(images.device.type, enabled=False):
            logits = [self.class_head(c.float()) for c in contents]
        return Output(
            logits=[x[:, extra:] for x in logits],
            boxes=[x[:, extra:] for x in refined],
            encoder_logits=encoder_logits,
            encoder_boxes=encoder_boxes,
            noised_logits=[x[:, :extra] for x in logits] if extra else [],
            noised_boxes=[x[:, :extra] for x in refined] if extra else [],
        )

    def encode(self, images: Tensor) -> tuple[Tensor, list[tuple[int, int]]]:
        """Return the encoder's tokens `(B, L, D)` and the levels' rows, columns."""
        maps = self.backbone(images)
        levels = [project(m) for project, m in zip(self.project, maps, strict=False)]
        for i, project in enumerate(self.extra):
            levels.append(project(maps[-1] if i == 0 else levels[-1]))
        shapes = [(m.shape[2], m.shape[3]) for m in levels]
        tokens = torch.cat([m.flatten(2).transpose(1, 2) for m in levels], 1)
        centres = torch.cat([grid_centres(shape, images.device) for shape in shapes])[None]
        sizes = torch.tensor([h * w for h, w in shapes], device=images.device)
        position = sine(centres, self.config.dim // 2) + self.level.repeat_interleave(sizes, 0)
        for layer in self.encoder:
            tokens = layer(tokens, position, centres, shapes)
        return tokens, shapes

    def select_queries(self, memory: Tensor, shapes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Mixed query selection: the top tokens become the positional queries.

        Returns
        -------
        logits, boxes : Tensor
            `(B, Q, 1)`, `(B, Q, 4)` of the `Q` tokens with the highest scores (fewer if there are fewer tokens).
        """
        tokens = self.select(memory)
        logits = self.select_class(tokens).float()
        top = logits[..., 0].topk(min(self.config.queries, logits.shape[1]), 1).indices[..., None]
        centres = torch.cat([grid_centres(shape, memory.device) for shape in shapes])
        start = torch.cat([centres, torch.full_like(centres, self.side)], 1).expand(len(memory), -1, -1)
        step = self.select_box(tokens.gather(1, top.expand(-1, -1, tokens.shape[-1]))).float()
        boxes = (step + inverse_sigmoid(start.gather(1, top.expand(-1, -1, 4)))).sigmoid()
        return logits.gather(1, top), boxes


def _projection(before: int, dim: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, dim, kernel, 1 if kernel == 1 else 2, kernel // 2), nn.GroupNorm(32, dim))
