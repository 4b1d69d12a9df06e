"""The knobs of the room ``propose``."""

from __future__ import annotations

from dataclasses import dataclass

from upicker.config.checking import Room
from upicker.config.knob import Pattern, knob

COUNT = ("auto", "all", Pattern(r"0*[1-9]\d*", "a whole number of at least 1"))


@dataclass(frozen=True)
class ProposeConfig(Room):
    """Proposals: particles found without labels, by A-LoG filters and a template learned from their peaks."""

    template: bool = knob(
        True, "Match a template learned from the strongest A-LoG proposals; false: A-LoG alone, as in the paper."
    )
    profile: tuple[float, ...] | None = knob(
        None,
        "The template: 25 values above the ice level, at 0, 1/32, 2/32 ... particle diameters from the centre.",
        none="learned from a few micrographs of the run",
    )
    min_ratio: float | None = knob(
        None,
        "Smallest diameter (d_min), in particle diameters, of the blobs that the template is learned from, or without "
        "one of those accepted; the paper's: 0.8.",
        above=0,
        none="0.6, or with a template the best of several ranges",
    )
    max_ratio: float | None = knob(
        None,
        "Largest diameter (d_max), in particle diameters, of the blobs that the template is learned from, or without "
        "one of those accepted; the paper's: 1.25.",
        above=0,
        none="1.3, or with a template the best of several ranges",
    )
    range_penalty: float = knob(
        0.25,
        "Penalty where a diameter out of range fits better, times the difference of the responses; the paper's: inf.",
        low=0,
    )
    maxima: bool = knob(True, "Accept only local maxima of the score; false: any remaining pixel, as in the paper.")
    disc_diameters: float = knob(
        1.5,
        "Diameter of the disc that is zeroed around a peak, in diameters of the best filter; the paper's: 1.",
        above=0,
    )
    threshold: float | None = knob(
        None,
        "Lowest score (theta), in sigma: of the micrograph for a filter response, of the noise for a correlation with "
        "the template. With top_k auto, it can only lower the number of proposals.",
        none="0 if top_k is auto; else 1 with a template, or the mean response without one, as in the paper",
    )
    top_k: str = knob(
        "auto",
        "Proposals per micrograph (K), the strongest; auto follows the density of particles. The paper's: 50.",
        choices=COUNT,
    )
    sizes: bool = knob(
        False,
        "Give each proposal the diameter of the A-LoG filter that fits best (d_best, from min_ratio to max_ratio); "
        "false: the nominal diameter.",
    )
    mask: bool = knob(True, "Discard proposals in areas that the built-in contamination mask marks.")
