"""The knobs of the room ``augment``."""

from __future__ import annotations

from dataclasses import dataclass

from upicker.config.checking import Room
from upicker.config.knob import knob


@dataclass(frozen=True)
class AugmentConfig(Room):
    """Augmentation of training tiles (the paper's hybrid data augmentation); a strength of 0 turns a part off."""

    online: bool = knob(True, "Augment each tile anew, at random, as it is drawn.")
    offline: int = knob(0, "Augmented copies of each labelled micrograph, made before fine-tuning.", low=0, high=1000)
    flip: bool = knob(True, "Mirror, and rotate by multiples of 90 degrees.")
    rotate_deg: float = knob(0.0, "Largest rotation, in degrees; 180 for any.", low=0, high=180)
    scale: float = knob(0.0, "Largest change of scale, 1 / (1 + scale) to 1 + scale; diameters follow.", low=0, high=4)
    mosaic: float = knob(0.0, "Fraction of the tiles that are put together from four micrographs.", low=0, high=1)
    paste: float = knob(
        0.0, "Particles per tile copied from elsewhere in the micrograph to empty positions.", low=0, high=1000
    )
    contaminants: float = knob(
        0.0, "Artificial contaminants per tile, as blobs or blanked as by the mask.", low=0, high=1000
    )
    gamma: float = knob(0.0, "Largest gamma correction: an exponent of 1 / (1 + gamma) to 1 + gamma.", low=0, high=4)
    defocus: float = knob(0.0, "Largest weight of a random filter that imitates another defocus.", low=0, high=1)
    blur_diameters: float = knob(
        0.0, "Largest standard deviation of a Gaussian blur, in particle diameters.", low=0, high=1
    )
    intensity: float = knob(0.2, "Largest change of contrast (relative) and brightness (in sigma).", low=0, high=1)
    noise: float = knob(0.2, "Largest standard deviation of added noise, in sigma.", low=0)
    keep_blank: bool = knob(False, "Keep blanked areas at 0 when contrast changes and noise is added, too.")
