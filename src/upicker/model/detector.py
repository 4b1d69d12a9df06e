"""The detection transformer of the paper's Fig. 1c: Deformable DETR with the queries and the denoising of DINO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from upicker.config import ModelConfig
from upicker.model.backbone import RESNETS, CompactBackbone, ResNet
from upicker.model.boxes import at_least_float32, refined
from upicker.model.denoising import DenoisingQueries
from upicker.model.norm import GroupNorm
from upicker.model.position import Pyramid
from upicker.model.transformer import MLP, DeformableTransformerDecoder, DeformableTransformerEncoder

# Initial probability of a particle: few queries hold one, and the first steps need not be spent on learning that.
PRIOR_PROBABILITY = 0.01
# Stride of the first feature level, pixels.
FIRST_STRIDE = 8


@dataclass(frozen=True)
class DetectorOutput:
    """Predictions for a batch of tiles; boxes in centre form, particle diameters from the tile's outer corner.

    Attributes
    ----------
    pred_logits, pred_boxes : Tensor
        `(B, Q, 1)`, `(B, Q, 4)` of the last decoder layer: the detections.
    aux_logits, aux_boxes : list of Tensor
        The same of each decoder layer before the last, for the auxiliary losses.
    enc_logits, enc_boxes : Tensor
        `(B, Q, 1)`, `(B, Q, 4)` of the encoder tokens that were selected as queries.
    dn_logits, dn_boxes : list of Tensor
        `(B, 2GM, 1)`, `(B, 2GM, 4)` of the denoising queries, per decoder layer; empty lists without such queries.
    """

    pred_logits: Tensor
    pred_boxes: Tensor
    aux_logits: list[Tensor]
    aux_boxes: list[Tensor]
    enc_logits: Tensor
    enc_boxes: Tensor
    dn_logits: list[Tensor]
    dn_boxes: list[Tensor]

    @property
    def layers(self) -> list[tuple[Tensor, Tensor]]:
        """Logits and boxes of the matching queries of every decoder layer, first to last, and of the encoder."""
        aux = zip(self.aux_logits, self.aux_boxes, strict=True)
        return [*aux, (self.pred_logits, self.pred_boxes), (self.enc_logits, self.enc_boxes)]


class Detector(nn.Module):
    """Tile -> boxes with scores: backbone, deformable encoder, mixed query selection, decoder, heads.

    Parameters
    ----------
    config : ModelConfig
        Architecture.
    diameter_px : float
        Particle diameter in pixels of the tiles: the unit of all lengths, and the initial side of all boxes.
    """

    def __init__(self, config: ModelConfig, diameter_px: float) -> None:
        super().__init__()
        self.config, self.diameter_px = config, diameter_px
        self.backbone = ResNet(config.backbone) if config.backbone in RESNETS else CompactBackbone(config.widths)
        channels = list(self.backbone.channels)
        self.input_proj = nn.ModuleList(_projection(c, config.dim, 1) for c in channels[: config.levels])
        # Levels beyond the backbone's: each at half the resolution of the one before.
        self.input_proj.extend(
            _projection(channels[-1] if i == 0 else config.dim, config.dim, 3)
            for i in range(config.levels - len(channels))
        )
        self.level_embed = nn.Parameter(torch.empty(config.levels, config.dim).normal_(std=0.1))
        self.encoder = DeformableTransformerEncoder(config)
        self.enc_output = nn.Linear(config.dim, config.dim)
        self.enc_output_norm = nn.LayerNorm(config.dim)
        self.enc_out_class_embed = nn.Linear(config.dim, 1)
        self.enc_out_bbox_embed = MLP(config.dim, config.dim, 4).zero_init()
        self.query_embed = nn.Embedding(1, config.dim)
        self.label_enc = nn.Embedding(2, config.dim)
        self.decoder = DeformableTransformerDecoder(config)
        self.class_embed = nn.Linear(config.dim, 1)
        for head in (self.enc_out_class_embed, self.class_embed):
            nn.init.constant_(head.bias, -math.log((1 - PRIOR_PROBABILITY) / PRIOR_PROBABILITY))

    def forward(
        self,
        images: Tensor,
        denoising: DenoisingQueries | None = None,
        origin: Tensor | None = None,
        at_least: int = 1,
    ) -> DetectorOutput:
        """Detect.

        Parameters
        ----------
        images : Tensor
            `(B, 1, h, w)` prepared tiles.
        denoising : DenoisingQueries, optional
            Denoising queries, in training.
        origin : Tensor, optional
            See `DeformableTransformerDecoder`.
        at_least : int
            Number of queries, if that of the tile's area is smaller: in training as many as a crowded tile needs.
        """
        memory, pyramid = self.encode(images)
        number = max(at_least, self.queries_of(*images.shape[2:]))
        enc_logits, enc_boxes = self.select_queries(memory, pyramid, number)
        # Mixed query selection: boxes of the selected tokens, a content that is learned. The decoder's losses do not
        # train the selection through the boxes; it has a loss of its own.
        tgt = self.query_embed.weight.expand(*enc_boxes.shape[:2], -1)
        reference_points, attn_mask, n_dn = enc_boxes.detach(), None, 0
        if denoising is not None:
            tgt = torch.cat([self.label_enc(denoising.labels), tgt], 1)
            reference_points = torch.cat([denoising.boxes, reference_points], 1)
            attn_mask, n_dn = denoising.attn_mask(enc_boxes.shape[1]), len(denoising)
        hs, boxes = self.decoder(tgt, reference_points, memory, pyramid, attn_mask, origin)
        # In float32 whatever the rest computes in: rounded to bfloat16, many picks would have equal scores.
        with torch.autocast(images.device.type, enabled=False):
            logits = [self.class_embed(at_least_float32(output)) for output in hs]
        *aux_logits, pred_logits = [x[:, n_dn:] for x in logits]
        *aux_boxes, pred_boxes = [x[:, n_dn:] for x in boxes]
        return DetectorOutput(
            pred_logits=pred_logits,
            pred_boxes=pred_boxes,
            aux_logits=aux_logits,
            aux_boxes=aux_boxes,
            enc_logits=enc_logits,
            enc_boxes=enc_boxes,
            dn_logits=[x[:, :n_dn] for x in logits] if n_dn else [],
            dn_boxes=[x[:, :n_dn] for x in boxes] if n_dn else [],
        )

    def queries_of(self, rows: int, columns: int) -> int:
        """Return the number of queries in training for a tile of so many pixels."""
        return max(1, round(self.config.query_density * rows * columns / self.diameter_px**2))

    def encode(self, images: Tensor) -> tuple[Tensor, Pyramid]:
        """Return the memory, the encoder's tokens `(B, L, D)`, and their levels."""
        features = self.backbone(images)
        srcs = [proj(feature) for proj, feature in zip(self.input_proj, features, strict=False)]
        for proj in list(self.input_proj)[len(features) :]:
            srcs.append(proj(features[-1] if len(srcs) == len(features) else srcs[-1]))
        pyramid = pyramid_of(srcs, self.diameter_px)
        src = torch.cat([src.flatten(2).transpose(1, 2) for src in srcs], 1)
        centres = pyramid.centres(images.device)[:, None] / pyramid.extents(images.device)
        return self.encoder(src, pyramid.of_tokens(self.level_embed), centres[None], pyramid.shapes), pyramid

    def select_queries(self, memory: Tensor, pyramid: Pyramid, number: int) -> tuple[Tensor, Tensor]:
        """Select the encoder tokens with the highest scores; their boxes become the queries' first reference boxes.

        Half of DINO's *mixed query selection*: positions come from the image, the content from `query_embed`. Contents
        taken from the tokens, too, would be ambiguous, since a token may cover several particles or a part of one.
        All queries share one content: with one of their own, their number could not follow the size of the tile.

        Returns
        -------
        logits, boxes : Tensor
            `(B, Q, 1)`, `(B, Q, 4)` of the `Q` selected tokens: `number`, or all if there are fewer.
        """
        output_memory = self.enc_output_norm(self.enc_output(memory))
        logits = at_least_float32(self.enc_out_class_embed(output_memory))
        top = logits[..., 0].topk(min(number, logits.shape[1]), 1).indices[..., None]
        centres = pyramid.centres(memory.device, logits.dtype)
        proposals = torch.cat([centres, torch.ones_like(centres)], 1).expand(len(memory), -1, -1)
        delta = self.enc_out_bbox_embed(output_memory.gather(1, top.expand(-1, -1, output_memory.shape[-1])))
        boxes = refined(proposals.gather(1, top.expand(-1, -1, 4)), at_least_float32(delta))
        return logits.gather(1, top), boxes


def pyramid_of(features: Sequence[Tensor], diameter_px: float) -> Pyramid:
    """Return the levels of feature maps `(B, D, h, w)`, each at half the resolution of the one before."""
    strides = [FIRST_STRIDE * 2**i / diameter_px for i in range(len(features))]
    return Pyramid([(feature.shape[2], feature.shape[3]) for feature in features], strides)


def _projection(in_channels: int, dim: int, kernel: int) -> nn.Sequential:
    stride = 1 if kernel == 1 else 2
    return nn.Sequential(nn.Conv2d(in_channels, dim, kernel, stride, kernel // 2), GroupNorm(32, dim))
