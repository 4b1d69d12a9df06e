"""The knobs of augmentation, the room ``augment`` of `upicker.config.Config`.

They have a file of their own because there are many; nobody but `upicker.config` looks here for them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AugmentConfig:
    """What training tiles go through (the paper's "Hybrid data augmentation"). A strength of 0 turns its part off.

    Attributes
    ----------
    online : change each tile anew, at random, as it is drawn.
    offline : copies of each labelled micrograph that are made before fine-tuning, changed as tiles are.
    flip : mirror and turn by quarters.
    rotate_deg : largest rotation; 180 for any.
    scale : largest change of scale: up to ``1 + scale`` times larger or smaller. Diameters follow.
    mosaic : share of the tiles put together from four micrographs.
    paste : particles copied from elsewhere in the micrograph to empty places, per tile.
    contaminants : contaminants laid into the picture, as blobs or as what the mask leaves of them, per tile.
    gamma : largest change of the curve of grey levels: an exponent of up to ``1 + gamma``, or one over it.
    defocus : largest weight of a random filter in the manner of another defocus, 0..1.
    blur_diameters : largest standard deviation of a Gaussian blur, in particle diameters.
    intensity : largest change of contrast and brightness.
    noise : largest standard deviation of added noise.
    keep_blank : leave 0 what is blanked (by the mask, by a rotation) when contrast and noise change, too; the other
        parts always do.
    """

    online: bool = True
    offline: int = 0
    flip: bool = True
    rotate_deg: float = 0.0
    scale: float = 0.0
    mosaic: float = 0.0
    paste: float = 0.0
    contaminants: float = 0.0
    gamma: float = 0.0
    defocus: float = 0.0
    blur_diameters: float = 0.0
    intensity: float = 0.2
    noise: float = 0.2
    keep_blank: bool = False


# What would not run at all outside.
RANGES: dict[str, tuple[float, float]] = {
    "augment.offline": (0, 1000),
    "augment.rotate_deg": (0, 180),
    **dict.fromkeys(("augment.scale", "augment.gamma"), (0, 4)),
    **dict.fromkeys(("augment.mosaic", "augment.defocus", "augment.intensity"), (0, 1)),
    **dict.fromkeys(("augment.paste", "augment.contaminants"), (0, 1000)),
    "augment.blur_diameters": (0, 1),
    "augment.noise": (0, float("inf")),
}
