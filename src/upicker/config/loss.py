"""The knobs of the room ``loss``."""

from __future__ import annotations

from dataclasses import dataclass

from upicker.config.checking import Room
from upicker.config.knob import knob


@dataclass(frozen=True)
class LossConfig(Room):
    """Hungarian matching and losses, eq. (2)-(4) of the paper."""

    class_weight: float = knob(1.0, "Weight of the classification loss (lambda_c).", low=0)
    l1_weight: float = knob(0.4, "Weight of the L1 loss of boxes (lambda_l), per particle diameter.", low=0)
    giou_weight: float = knob(2.0, "Weight of the GIoU loss of boxes (lambda_GIoU).", low=0)
    match_class: float = knob(2.0, "Weight of the classification in the matching cost.", low=0)
    match_l1: float = knob(0.4, "Weight of the L1 distance of boxes in the matching cost, per diameter.", low=0)
    match_giou: float = knob(2.0, "Weight of the GIoU of boxes in the matching cost.", low=0)
    focal_alpha: float = knob(0.25, "Alpha of the focal loss, the weight of positives.", low=0)
    focal_gamma: float = knob(2.0, "Gamma of the focal loss, the focus on hard examples.", low=0)
    rejected_weight: float = knob(
        0.25,
        "Weight as background of what was extracted and not kept (finetune --extracted): some of it are particles.",
        low=0,
    )
    unsure_weight: float = knob(
        0.25,
        "Weight as background of detections that may be unlabelled particles; 0 ignores them, 1 trusts the labels.",
        low=0,
    )
