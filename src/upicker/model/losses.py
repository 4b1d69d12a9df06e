"""Matching and losses: eq. (2), (3) and (4) of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from upicker.config import LossConfig
from upicker.model.boxes import generalized_iou
from upicker.model.denoising import Noised
from upicker.model.detector import Output

# A prediction is about an unsure place if its centre is at most so many of the place's box sides away.
REACH = 0.5


def match(logits: Tensor, boxes: Tensor, target: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """Match predictions to objects one-to-one at the least cost (Hungarian algorithm).

    Parameters
    ----------
    logits, boxes : Tensor
        `(Q, 1)`, `(Q, 4)` of one picture.
    target : Tensor
        `(m, 4)` its objects, centre form, 0..1.

    Returns
    -------
    queries, objects : Tensor
        `(min(Q, m),)` int64 each: query ``queries[i]`` answers for object ``objects[i]``.
    """
    with torch.no_grad():
        cost = matching_cost(logits, boxes, target, config).cpu().numpy()
    # One NaN would make scipy raise and lose the run; a huge cost loses one pair of one step.
    rows, columns = linear_sum_assignment(np.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6))
    return torch.as_tensor(rows, device=boxes.device), torch.as_tensor(columns, device=boxes.device)


def matching_cost(logits: Tensor, boxes: Tensor, target: Tensor, config: LossConfig) -> Tensor:
    """Return the `(Q, m)` cost: focal class cost, L1 and GIoU, weighted."""
    p = logits.float().sigmoid()
    alpha, gamma = config.focal_alpha, config.focal_gamma
    yes = alpha * (1 - p) ** gamma * -(p + 1e-8).log()
    no = (1 - alpha) * p**gamma * -(1 - p + 1e-8).log()
    l1 = torch.cdist(boxes.float(), target, p=1)
    giou = generalized_iou(boxes[:, None].float(), target[None])
    return config.match_class * (yes - no) + config.match_l1 * l1 - config.match_giou * giou


def focal(logits: Tensor, truth: Tensor, config: LossConfig) -> Tensor:
    """Return the focal loss (the paper's ref. 35) of each logit; same shape as `logits`."""
    p = logits.sigmoid()
    cross = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    miss = p * (1 - truth) + (1 - p) * truth
    alpha = config.focal_alpha * truth + (1 - config.focal_alpha) * (1 - truth)
    return alpha * miss**config.focal_gamma * cross


def box_losses(boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed L1 and GIoU losses of `(k, 4)` boxes against their truth."""
    return (boxes - truth).abs().sum(), (1 - generalized_iou(boxes, truth)).sum()


def losses(
    output: Output,
    targets: list[Tensor],
    noised: Noised | None,
    config: LossConfig,
    unsure: Sequence[Tensor] | None = None,
) -> dict[str, Tensor]:
    """Return all losses of a batch.

    Every decoder layer and the encoder's selection are matched and judged for themselves (auxiliary losses).

    At unsure places, where there may be a particle or not, the prediction that answers for the place is not taught:
    places are matched one-to-one together with the objects, and the class loss of the predictions matched to them is
    weighted with `unsure_weight`. Other predictions there stay background: whether there is a particle or not, they
    are either doubles or false. Negative denoising queries that happen to lie on such a place are weighted, too.

    Parameters
    ----------
    output : Output
        The detector's answer.
    targets : list of Tensor
        Per picture `(m, 4)` boxes, centre form, 0..1.
    noised : Noised or None
        The denoising queries that the detector was given.
    config : LossConfig
        The weights lambda, and that of unsure places.
    unsure : sequence of Tensor, optional
        Per picture `(k, 4)` unsure places, as `targets`.

    Returns
    -------
    dict of str to Tensor
        ``loss`` (eq. (2), to be minimised) and its parts ``loss_class``, ``loss_l1``, ``loss_giou`` (of the matching
        queries, weighted, summed over the layers) and ``loss_denoise`` (eq. (3) + (4)).
    """
    count = max(sum(len(t) for t in targets), 1)
    zero = output.encoder_logits.sum() * 0
    parts = {"class": zero, "l1": zero, "giou": zero}
    layers = [*zip(output.logits, output.boxes, strict=True), (output.encoder_logits, output.encoder_boxes)]
    for logits, boxes in layers:
        for name, value in _matched(logits, boxes, targets, config, unsure).items():
            parts[name] = parts[name] + value / count
    denoise = zero
    for logits, boxes in zip(output.noised_logits, output.noised_boxes, strict=True):
        assert noised is not None
        denoise = denoise + _denoised(logits, boxes, noised, config, unsure)
    total = parts["class"] + parts["l1"] + parts["giou"] + denoise
    return {"loss": total, **{f"loss_{k}": v for k, v in parts.items()}, "loss_denoise": denoise}


def _matched(
    logits: Tensor, boxes: Tensor, targets: list[Tensor], config: LossConfig, unsure: Sequence[Tensor] | None
) -> dict[str, Tensor]:
    """Sums over a batch of the weighted losses of one layer."""
    truth, weight = torch.zeros_like(logits), torch.ones_like(logits)
    found, wanted = [], []
    for i, target in enumerate(targets):
        places = target if unsure is None else torch.cat([target, unsure[i]])
        queries, objects = match(logits[i], boxes[i], places, config)
        maybe = objects >= len(target)
        weight[i, _near(boxes[i], places, queries[maybe], objects[maybe])] = config.unsure_weight
        queries, objects = queries[~maybe], objects[~maybe]
        truth[i, queries] = 1
        found.append(boxes[i, queries])
        wanted.append(target[objects])
    l1, giou = box_losses(torch.cat(found), torch.cat(wanted))
    return {
        "class": config.class_weight * (focal(logits, truth, config) * weight).sum(),
        "l1": config.l1_weight * l1,
        "giou": config.giou_weight * giou,
    }


def _near(boxes: Tensor, places: Tensor, queries: Tensor, objects: Tensor) -> Tensor:
    """Return those `queries` whose boxes are about the places they were matched to; others are about something else."""
    apart = (boxes[queries, :2].detach() - places[objects, :2]).norm(dim=-1)
    return queries[apart <= REACH * places[objects, 2]]


def _denoised(
    logits: Tensor, boxes: Tensor, noised: Noised, config: LossConfig, unsure: Sequence[Tensor] | None
) -> Tensor:
    """Eq. (3) for the positive and eq. (4) for the negative queries of one layer."""
    count = max(int(noised.positive.sum()), 1)
    real = noised.positive | noised.negative
    truth = noised.positive.to(logits.dtype)[..., None]
    l1, giou = box_losses(boxes[noised.positive], noised.truth[noised.positive])
    weight = torch.ones_like(truth)
    for i, places in enumerate(unsure or ()):
        apart = torch.cdist(noised.boxes[i, :, :2], places[:, :2])
        there = (apart <= REACH * places[:, 2]).any(1)
        weight[i, there & noised.negative[i]] = config.unsure_weight
    classes = (focal(logits, truth, config) * weight)[real].sum()
    return (config.class_weight * classes + config.l1_weight * l1 + config.giou_weight * giou) / count
