"""Contrastive denoising training (DINO's CDN; the paper's eq. (3) and (4)).

In training, the decoder gets extra queries beside the matching queries: noised copies of the true boxes. No matching
is needed for them, since each one's true box is known, so that they give a stable gradient from the first step.

Every object appears twice in a group: as a *positive* query, whose corners are moved a little and which has to
reconstruct the true box (eq. (3)), and as a *negative* query, whose corners are moved further and which has to predict
"no particle" (eq. (4)). Near duplicates of a particle thus learn to be rejected. Several groups repeat this with
other noise:

    | group 0: positives (M), negatives (M) | group 1: positives, negatives | ... | matching queries (Q) |

Denoising queries hold the truth, so the decoder's self-attention is masked: matching queries attend to matching
queries only, and a group attends to itself and to the matching queries, but not to other groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from upicker.config import DenoiseConfig
from upicker.model.boxes import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh


@dataclass(frozen=True)
class DenoisingQueries:
    """Denoising queries of a batch: `G` groups, each of `M` positive, then `M` negative queries.

    `M` is the largest number of objects of a tile in the batch; tiles with fewer are padded.

    Attributes
    ----------
    labels : Tensor
        `(B, 2GM)` int64, 1 = particle, 0 = replaced by label noise: index into the detector's `label_enc`.
    boxes : Tensor
        `(B, 2GM, 4)` noised boxes, centre form, particle diameters.
    targets : Tensor
        `(B, 2GM, 4)` the boxes to reconstruct.
    positive, negative : Tensor
        `(B, 2GM)` bool; both False where padded.
    groups : int
        `G`.
    """

    labels: Tensor
    boxes: Tensor
    targets: Tensor
    positive: Tensor
    negative: Tensor
    groups: int

    def __len__(self) -> int:
        return self.boxes.shape[1]

    def attn_mask(self, queries: int) -> Tensor:
        """Return the decoder's self-attention mask, `(n, n)` bool with `n = 2GM + queries`.

        True where the row's query must not attend to the column's: wherever the column is a denoising query of
        another group than the row's. Matching queries, which come last, count as a group of their own that all may
        attend to.
        """
        n = len(self)
        group = torch.arange(n, device=self.boxes.device) // max(n // self.groups, 1)
        group = torch.cat([group, group.new_full((queries,), -1)])
        return (group[None, :] >= 0) & (group[None, :] != group[:, None])


def prepare_denoising(
    targets: list[Tensor], config: DenoiseConfig, generator: torch.Generator
) -> DenoisingQueries | None:
    """Make the denoising queries of a batch.

    The corners of a positive box move by less than `positive_noise` half sides, those of a negative one by
    more than that and less than `negative_noise`, each in a random direction. The number of groups does not
    depend on the number of objects.

    Parameters
    ----------
    targets : list of Tensor
        Per tile `(m, 4)` boxes, centre form, particle diameters; m may be 0 and may differ.
    config : DenoiseConfig
        lambda_l, lambda_p, lambda_n and the number of groups.
    generator : torch.Generator
        On the CPU; the only source of randomness.

    Returns
    -------
    DenoisingQueries or None
        None if no tile holds an object, or the number of groups is 0.
    """
    largest = max((len(t) for t in targets), default=0)
    if largest == 0 or config.groups == 0:
        return None
    device = targets[0].device
    padded = torch.ones(len(targets), largest, 4, device=device)
    valid = torch.zeros(len(targets), largest, dtype=torch.bool, device=device)
    for i, boxes in enumerate(targets):
        padded[i, : len(boxes)] = boxes
        valid[i, : len(boxes)] = True
    repeated = padded.repeat(1, 2 * config.groups, 1)
    valid = valid.repeat(1, 2 * config.groups)
    is_negative = (torch.arange(repeated.shape[1], device=device) // largest) % 2 == 1

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    low = torch.where(is_negative, config.positive_noise, 0.0)[:, None]
    high = torch.where(is_negative, config.negative_noise, config.positive_noise)[:, None]
    size = low + (high - low) * uniform(*repeated.shape)
    sign = torch.where(uniform(*repeated.shape) < 0.5, -1.0, 1.0)
    corners = box_cxcywh_to_xyxy(repeated) + sign * size * repeated[..., 2:].repeat(1, 1, 2) / 2
    low, high = corners[..., :2], corners[..., 2:]
    # Corners that have passed each other change places: a side is never negative.
    boxes = box_xyxy_to_cxcywh(torch.cat([torch.minimum(low, high), torch.maximum(low, high)], -1))
    boxes = torch.cat([boxes[..., :2], boxes[..., 2:].clamp_min(1 / 16)], -1)
    replaced = uniform(*repeated.shape[:2]) < config.label_noise
    return DenoisingQueries(
        labels=(~replaced).long(),
        boxes=boxes,
        targets=repeated,
        positive=valid & ~is_negative,
        negative=valid & is_negative,
        groups=config.groups,
    )
