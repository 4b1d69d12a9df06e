"""The losses: eq. (2), (3) and (4) of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from upicker.config import LossConfig
from upicker.model.boxes import generalized_box_iou
from upicker.model.denoising import DenoisingQueries
from upicker.model.detector import DetectorOutput
from upicker.model.matcher import HungarianMatcher

# A prediction lies at an unsure position if its centre is at most this far from it, in sides of the position's box.
UNSURE_RADIUS = 0.5


class SetCriterion:
    """The loss of a set of predictions: match them to the objects, then compare the pairs (DETR).

    Predictions of every decoder layer (auxiliary losses) and of the encoder's selected tokens are matched and compared
    separately.

    At unsure positions, where there may or may not be a particle, the prediction for that position is not trained as
    background with full weight: unsure positions are matched one to one together with the objects, and the class loss
    of the predictions matched to them is weighted (`unsure_weight`, `rejected_weight`). Other predictions there remain
    background: whether there is a particle or not, they are duplicates or false positives. Negative denoising queries
    that happen to lie at an unsure position are weighted, too.

    Parameters
    ----------
    config : LossConfig
        The weights lambda, and that of unsure positions.
    """

    def __init__(self, config: LossConfig) -> None:
        self._config, self._matcher = config, HungarianMatcher(config)

    def __call__(
        self,
        outputs: DetectorOutput,
        targets: list[Tensor],
        denoising: DenoisingQueries | None,
        unsure: Sequence[Tensor] | None = None,
        sized: Sequence[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return all losses of a batch.

        Parameters
        ----------
        outputs : DetectorOutput
            The detector's predictions.
        targets : list of Tensor
            Per tile `(m, 4)` boxes, centre form, particle diameters.
        denoising : DenoisingQueries or None
            The denoising queries that the detector was given.
        unsure : sequence of Tensor, optional
            Per tile `(k, 5)` unsure positions, as `targets`, and the weight of each.
        sized : sequence of Tensor, optional
            Per tile whether the sizes of its boxes are learned, a bool on the CPU; by default all are. Where they are
            not, a predicted box counts as of its target's size, so that only its centre gets a gradient.

        Returns
        -------
        dict of str to Tensor
            ``loss`` (eq. (2), to be minimised) and its parts ``loss_class``, ``loss_l1``, ``loss_giou`` (of the
            matching queries, weighted, summed over the layers) and ``loss_denoise`` (eq. (3) + (4)).
        """
        num_boxes = max(sum(len(t) for t in targets), 1)
        zero = outputs.enc_logits.sum() * 0
        parts = {"class": zero, "l1": zero, "giou": zero}
        for logits, boxes in outputs.layers:
            for name, value in self._matching_losses(logits, boxes, targets, unsure, sized).items():
                parts[name] = parts[name] + value / num_boxes
        denoise = zero
        for logits, boxes in zip(outputs.dn_logits, outputs.dn_boxes, strict=True):
            assert denoising is not None
            denoise = denoise + self._denoising_loss(logits, boxes, denoising, unsure, sized)
        total = parts["class"] + parts["l1"] + parts["giou"] + denoise
        return {"loss": total, **{f"loss_{k}": v for k, v in parts.items()}, "loss_denoise": denoise}

    def _matching_losses(
        self,
        logits: Tensor,
        boxes: Tensor,
        targets: list[Tensor],
        unsure: Sequence[Tensor] | None,
        sized: Sequence[Tensor] | None,
    ) -> dict[str, Tensor]:
        """Return the weighted losses of one layer's matching queries, summed over the batch."""
        config = self._config
        labels, weight = torch.zeros_like(logits), torch.ones_like(logits)
        src_boxes, target_boxes = [], []
        for i, target in enumerate(targets):
            positions = target if unsure is None else torch.cat([target, unsure[i][:, :4]])
            src_idx, tgt_idx = self._matcher(logits[i], boxes[i], positions)
            is_unsure = tgt_idx >= len(target)
            if unsure is not None:
                at, of = _at(boxes[i], positions, src_idx[is_unsure], tgt_idx[is_unsure])
                weight[i, at, 0] = unsure[i][of - len(target), 4].to(weight.dtype)
            src_idx, tgt_idx = src_idx[~is_unsure], tgt_idx[~is_unsure]
            labels[i, src_idx] = 1
            target_boxes.append(target[tgt_idx])
            src_boxes.append(_sized(boxes[i, src_idx], target_boxes[-1], None if sized is None else sized[i]))
        l1, giou = box_losses(torch.cat(src_boxes), torch.cat(target_boxes))
        return {
            "class": config.class_weight * (sigmoid_focal_loss(logits, labels, config) * weight).sum(),
            "l1": config.l1_weight * l1,
            "giou": config.giou_weight * giou,
        }

    def _denoising_loss(
        self,
        logits: Tensor,
        boxes: Tensor,
        denoising: DenoisingQueries,
        unsure: Sequence[Tensor] | None,
        sized: Sequence[Tensor] | None,
    ) -> Tensor:
        """Return one layer's eq. (3) for the positive queries plus eq. (4) for the negative ones."""
        config = self._config
        num_boxes = max(int(denoising.positive.sum()), 1)
        valid = denoising.positive | denoising.negative
        labels = denoising.positive.to(logits.dtype)[..., None]
        boxes = _sized(boxes, denoising.targets, None if sized is None else torch.stack([*sized])[:, None, None])
        l1, giou = box_losses(boxes[denoising.positive], denoising.targets[denoising.positive])
        weight = torch.ones_like(labels)
        for i, positions in enumerate(unsure or ()):
            distance = torch.cdist(denoising.boxes[i, :, :2], positions[:, :2])
            near = distance <= UNSURE_RADIUS * positions[:, 2]
            weights = torch.where(near, positions[:, 4], 1.0)
            least = torch.cat([weights, weights.new_ones(len(weights), 1)], 1).min(1).values
            weight[i, denoising.negative[i], 0] = least[denoising.negative[i]].to(weight.dtype)
        classes = (sigmoid_focal_loss(logits, labels, config) * weight)[valid].sum()
        return (config.class_weight * classes + config.l1_weight * l1 + config.giou_weight * giou) / num_boxes


def sigmoid_focal_loss(logits: Tensor, labels: Tensor, config: LossConfig) -> Tensor:
    """Return the focal loss (the paper's ref. 35) of each logit; same shape as `logits`."""
    p = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    error = p * (1 - labels) + (1 - p) * labels
    alpha = config.focal_alpha * labels + (1 - config.focal_alpha) * (1 - labels)
    return alpha * error**config.focal_gamma * cross_entropy


def box_losses(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed L1 and GIoU losses of `(k, 4)` boxes against their targets."""
    return (boxes - targets).abs().sum(), (1 - generalized_box_iou(boxes, targets)).sum()


def _sized(boxes: Tensor, targets: Tensor, sized: Tensor | None) -> Tensor:
    """Return boxes, with the sizes of their targets where sizes are not learned."""
    if sized is None:
        return boxes
    size = torch.where(sized.to(boxes.device), boxes[..., 2:], targets[..., 2:].to(boxes.dtype))
    return torch.cat([boxes[..., :2], size], -1)


def _at(boxes: Tensor, positions: Tensor, src_idx: Tensor, tgt_idx: Tensor) -> tuple[Tensor, Tensor]:
    """Return those queries of `src_idx` whose boxes lie at the positions they are matched to, and these.

    With more positions than particles found, matching also pairs queries with positions far away.
    """
    distance = (boxes[src_idx, :2].detach() - positions[tgt_idx, :2]).norm(dim=-1)
    near = distance <= UNSURE_RADIUS * positions[tgt_idx, 2]
    return src_idx[near], tgt_idx[near]
