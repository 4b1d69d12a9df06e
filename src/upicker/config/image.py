"""The knobs of the room ``image``."""

from __future__ import annotations

from dataclasses import dataclass

from upicker.config.checking import Room
from upicker.config.knob import knob


@dataclass(frozen=True)
class ImageConfig(Room):
    """Preparation of micrographs, before anything else sees them."""

    working_diameter_px: float = knob(
        24.0,
        "Particle diameter at the working scale, in pixels; micrographs are rescaled to it.",
        low=1,
        high=512,
    )
    particles: str = knob(
        "dark",
        "Contrast of the particles in the raw micrographs: darker or brighter than the ice.",
        choices=("dark", "bright"),
    )
    repair: bool = knob(True, "Replace hot and non-finite pixels by the median of their neighbours.")
    flatten: bool = knob(True, "Subtract the background (ice gradient), estimated by a wide Gaussian.")
    flatten_diameters: float = knob(
        2.5, "Standard deviation of the background's Gaussian, in particle diameters.", above=0
    )
    bilateral: bool = knob(False, "Denoise with an edge-preserving bilateral filter, as in the paper.")
    equalize: str = knob(
        "none",
        "Contrast equalisation: of the whole histogram, or local (CLAHE).",
        choices=("none", "histogram", "clahe"),
    )
    clip_sigma: float = knob(5.0, "Clip grey values beyond this many robust standard deviations.", above=0)
    mask: bool = knob(True, "Blank unusable areas (frames, contaminants, carbon) before training and picking.")
