"""Contrastive denoising training: noised truth as extra queries (the paper's section, eq. (3) and (4))."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from upicker.config import DenoiseConfig
from upicker.model.boxes import to_centres, to_corners


@dataclass(frozen=True)
class Noised:
    """Denoising queries of a batch: `G` groups, each of `M` positive, then `M` negative queries.

    `M` is the largest number of objects of a picture in the batch; smaller pictures are padded.

    Attributes
    ----------
    labels : Tensor
        `(B, 2GM)` int64, 1 = particle, 0 = replaced by label noise: index of the content embedding.
    boxes : Tensor
        `(B, 2GM, 4)` noised boxes, centre form, 0..1.
    truth : Tensor
        `(B, 2GM, 4)` the boxes to reconstruct.
    positive, negative : Tensor
        `(B, 2GM)` bool; neither where padded.
    groups : int
        `G`.
    """

    labels: Tensor
    boxes: Tensor
    truth: Tensor
    positive: Tensor
    negative: Tensor
    groups: int

    def __len__(self) -> int:
        return self.boxes.shape[1]

    def hidden(self, queries: int) -> Tensor:
        """Return the `(n, n)` bool attention mask, `n = 2GM + queries`; True = must not be seen.

        The matching queries, which come last, see no denoising query (they would read the truth); a group sees
        no other group.
        """
        n = len(self)
        group = torch.arange(n, device=self.boxes.device) // max(n // self.groups, 1)
        owner = torch.cat([group, group.new_full((queries,), -1)])
        return (owner[None, :] >= 0) & (owner[None, :] != owner[:, None])


def noise(targets: list[Tensor], config: DenoiseConfig, generator: torch.Generator) -> Noised | None:
    """Make the denoising queries of a batch.

    The corners of a positive box move by less than `positive_noise` half sides, those of a negative one by
    more than that and less than `negative_noise`, each in a random direction. The number of groups does not
    depend on the number of objects.

    Parameters
    ----------
    targets : list of Tensor
        Per picture `(m, 4)` boxes, centre form, 0..1; m may be 0 and may differ.
    config : DenoiseConfig
        lambda_l, lambda_p, lambda_n and the number of groups.
    generator : torch.Generator
        On the CPU; the only source of randomness.

    Returns
    -------
    Noised or None
        None if no picture holds an object, or no groups are asked for.
    """
    most = max((len(t) for t in targets), default=0)
    if most == 0 or config.groups == 0:
        return None
    device = targets[0].device
    padded = torch.full((len(targets), most, 4), 0.5, device=device)
    real = torch.zeros(len(targets), most, dtype=torch.bool, device=device)
    for i, boxes in enumerate(targets):
        padded[i, : len(boxes)] = boxes
        real[i, : len(boxes)] = True
    truth = padded.repeat(1, 2 * config.groups, 1)
    real = real.repeat(1, 2 * config.groups)
    is_negative = (torch.arange(truth.shape[1], device=device) // most) % 2 == 1

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    low = torch.where(is_negative, config.positive_noise, 0.0)[:, None]
    high = torch.where(is_negative, config.negative_noise, config.positive_noise)[:, None]
    size = low + (high - low) * uniform(*truth.shape)
    sign = torch.where(uniform(*truth.shape) < 0.5, -1.0, 1.0)
    corners = to_corners(truth) + sign * size * truth[..., 2:].repeat(1, 1, 2) / 2
    boxes = to_centres(corners.clamp(0, 1)).clamp(1e-4, 1)
    replaced = uniform(*truth.shape[:2]) < config.label_noise
    return Noised(
        labels=(~replaced).long(),
        boxes=boxes,
        truth=truth,
        positive=real & ~is_negative,
        negative=real & is_negative,
        groups=config.groups,
    )
