"""Hungarian matching of predictions to objects (DETR; the cost of the paper's eq. (2))."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from upicker.config import LossConfig
from upicker.model.boxes import generalized_box_iou


class HungarianMatcher:
    """Matches predictions to objects one to one, at the least total cost.

    Each object gets the one prediction that is to find it. All others learn "no particle", duplicates too, which is
    why a detection transformer needs no suppression of duplicates in principle.

    Parameters
    ----------
    config : LossConfig
        Weights of the parts of the cost, and the focal loss's parameters.
    """

    def __init__(self, config: LossConfig) -> None:
        self._config = config

    def __call__(self, logits: Tensor, boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Match the predictions for one tile.

        Parameters
        ----------
        logits, boxes : Tensor
            `(Q, 1)`, `(Q, 4)`.
        targets : Tensor
            `(m, 4)` its objects, centre form, particle diameters.

        Returns
        -------
        src_idx, tgt_idx : Tensor
            `(min(Q, m),)` int64 each: query ``src_idx[i]`` is matched to object ``tgt_idx[i]``.
        """
        with torch.no_grad():
            cost = self.cost(logits, boxes, targets).cpu().numpy()
        # scipy raises on NaN, which would end the training; a huge cost spoils one pair of one step.
        rows, columns = linear_sum_assignment(np.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6))
        return torch.as_tensor(rows, device=boxes.device), torch.as_tensor(columns, device=boxes.device)

    def cost(self, logits: Tensor, boxes: Tensor, targets: Tensor) -> Tensor:
        """Return the `(Q, m)` cost of each pair: class cost, L1 distance and negative GIoU, weighted.

        The class cost is the focal loss that the prediction would have as a particle, less the one it would have as
        background: a confident prediction is cheap.
        """
        p = logits.float().sigmoid()
        alpha, gamma = self._config.focal_alpha, self._config.focal_gamma
        positive = alpha * (1 - p) ** gamma * -(p + 1e-8).log()
        negative = (1 - alpha) * p**gamma * -(1 - p + 1e-8).log()
        l1 = torch.cdist(boxes.float(), targets, p=1)
        giou = generalized_box_iou(boxes[:, None].float(), targets[None])
        config = self._config
        return config.match_class * (positive - negative) + config.match_l1 * l1 - config.match_giou * giou
