"""The knobs of the room ``denoise``."""

from __future__ import annotations

from dataclasses import dataclass

from upicker.config.checking import Room
from upicker.config.knob import knob


@dataclass(frozen=True)
class DenoiseConfig(Room):
    """Contrastive denoising training, as in DINO."""

    groups: int = knob(1, "Groups of denoising queries, each with a positive and a negative query per object.", low=0)
    label_noise: float = knob(0.5, "Fraction of the positive queries whose label is replaced.", low=0, high=1)
    positive_noise: float = knob(0.4, "Box noise of positive queries (lambda_p), in half box sides.", low=0)
    negative_noise: float = knob(
        0.8, "Box noise of negative queries (lambda_n), in half box sides; larger than positive_noise.", low=0
    )
