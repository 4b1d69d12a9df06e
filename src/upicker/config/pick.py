"""The knobs of the room ``pick``."""

from __future__ import annotations

from dataclasses import dataclass

from upicker.config.checking import Room
from upicker.config.knob import knob


@dataclass(frozen=True)
class PickConfig(Room):
    """Picking with trained weights."""

    overlap_diameters: float = knob(2.0, "Overlap of neighbouring tiles, in particle diameters.", low=0)
    tile_px: int = knob(
        480,
        "Longest side of a tile, in working pixels; a small micrograph is one tile of its size. A side of less than "
        "ten particle diameters shows too little of the surroundings: picks get worse.",
        low=32,
        high=4096,
    )
    batch: int = knob(2, "Tiles computed together.", low=1)
    views: int | None = knob(
        None,
        "Rotated and mirrored versions of each micrograph whose detections are averaged; time grows with them.",
        low=1,
        high=8,
        none="8 for micrographs of up to 28 x 28 particle diameters, 4 for larger ones",
    )
    threshold: float | None = knob(
        None,
        "Lowest score (probability) of a pick.",
        low=0,
        high=1,
        none="the threshold stored with the weights",
    )
    nms_iou: float | None = knob(
        0.5,
        "Non-maximum suppression: of two picks whose squares, both of the smaller one's size, overlap by a larger IoU, "
        "the weaker is dropped.",
        low=0,
        high=1,
        none="no suppression; detections of several views within 0.3 diameters are still joined, as are those of tiles",
    )
    sizes: bool = knob(
        False,
        "Whether each pick keeps the size of its box; else all get the given diameter, or that of the weights.",
    )
    follow: bool = knob(
        True,
        "Whether the working scale of weights for particles of any size is that of the particles seen, where these "
        "clearly have another size than the given diameter; picks still get the given one.",
    )
    smallest: float = knob(
        0.6,
        "Of weights for particles of any size: no picks smaller than this, in given diameters. The default also holds "
        "for the size that the working scale follows.",
        low=0,
    )
    largest: float = knob(
        1.6,
        "Of weights for particles of any size: no picks larger than this, in given diameters. The default also holds "
        "for the size that the working scale follows.",
        low=0,
    )
    edge_diameters: float | None = knob(
        None,
        "No picks closer to the border than this, in particle diameters.",
        low=0,
        none="the margin without labels that fine-tuning found, stored with the weights",
    )
