"""Particles without labels: A-LoG (`upicker.propose.alog`), and the template learned from it (`propose.template`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from upicker.config import ImageConfig, ProposeConfig
from upicker.errors import ConfigError
from upicker.image.mask import blanked
from upicker.image.prepare import Prepared
from upicker.particles import Particles
from upicker.propose import alog, template
from upicker.propose.density import automatic_count
from upicker.propose.peaks import refined

# d_min and d_max of A-LoG, in diameters, that a template is sought with. The third is the paper's; the first suits
# elongated particles, the last hollow ones.
RANGES = ((0.5, 1.0), alog.RANGE, (0.8, 1.25), (1.0, 1.4))
# So many micrographs of a run are asked for the template.
ASKED = 5
# What a template explains of the pictures more than of their negatives, as a share of both together. Noise and real
# empty ice stayed below it, 30 faint particles in noise had 0.084, good micrographs 0.16 to 0.6.
SHARE = 0.08

Item = TypeVar("Item")


def asked(items: Sequence[Item]) -> Sequence[Item]:
    """Return a few of the micrographs, evenly spread, to learn a template from."""
    return items[:: max(1, len(items) // ASKED)][:ASKED]


def settled(config: ProposeConfig, pictures: Sequence[Prepared], image: ImageConfig) -> ProposeConfig:
    """Return the config with the template that some micrographs give, if it is wanted and not there yet.

    Where they give none, because there are too few particles or nothing but noise, A-LoG alone proposes.

    Parameters
    ----------
    config : ProposeConfig
        The knobs. A range of diameters given in it is the only one tried.
    pictures : sequence of Prepared
        A few micrographs, with what is usable of them; nothing is learned from the rest.
    image : ImageConfig
        The preparation's config.
    """
    if not config.template or config.profile is not None:
        return config
    pictures = [blanked(picture) for picture in pictures]
    given = config.min_ratio is not None or config.max_ratio is not None
    # The rim cuts some, so that more are proposed than looked at.
    some = replace(config, top_k=str(2 * template.STRONGEST), threshold=0.0)
    best, most = (), 0.0
    for low, high in (alog.range_of(config),) if given else RANGES:
        knobs = replace(some, min_ratio=low, max_ratio=high)
        found = [alog.propose(picture, knobs, image, picture.usable) for picture in pictures]
        centres = [picture.frame.to_working(one.xy) for picture, one in zip(pictures, found, strict=True)]
        learned = template.learned(pictures, centres) if pictures else None
        if learned is None:
            continue
        bright, dark = np.sum([template.explained(picture, learned) for picture in pictures], axis=0)
        if bright - dark > max(most, SHARE * (bright + dark)):
            most, best = bright - dark, tuple(learned.tolist())
    return replace(config, profile=best)


def propose(
    prepared: Prepared, config: ProposeConfig, image: ImageConfig, usable: np.ndarray | None = None
) -> Particles:
    """Propose particles in a prepared micrograph.

    Parameters
    ----------
    prepared : Prepared
        `(h, w)` at the working scale.
    config : ProposeConfig
        The knobs. Without a template, it is learned from this micrograph alone; see `settled`.
    image : ImageConfig
        The preparation's config.
    usable : np.ndarray, optional
        `(h, w)` bool, True = usable ice; proposals elsewhere are left out.

    Returns
    -------
    Particles
        Raw pixels, by falling score, with the nominal diameter. With a template, the score is the correlation in
        standard deviations of noise, and ``propose.threshold`` is in that unit (None: 1).

    Raises
    ------
    ConfigError
        If the range of diameters is empty, or the profile has a wrong length.
    """
    limit = alog.limit_of(config)
    config = settled(config, [replace(prepared, usable=usable)], image)
    if not config.template or not config.profile:
        return alog.propose(prepared, config, image, usable)
    if len(config.profile) != len(template.radii()):
        found = f"{len(config.profile)} values are no profile, it has {len(template.radii())}"
        raise ConfigError("propose.profile", found, "Leave it out, and it is learned")
    diameter = prepared.working_diameter
    # Beside a contaminant its skirts would answer, and what answers on the negative is noise.
    heights = template.answers(blanked(replace(prepared, usable=usable)).pixels, np.array(config.profile), diameter)
    theta = config.threshold
    if theta is None:
        theta = 0.0 if limit == "auto" else 1.0
    places = template.peaks(heights, usable, diameter, theta)
    score = heights[places[:, 0], places[:, 1]].astype(np.float64)
    count = len(places)
    if limit == "auto":
        dark = template.peaks(-heights, usable, diameter)
        count = automatic_count(score, -heights[dark[:, 0], dark[:, 1]])
    elif isinstance(limit, int):
        count = min(count, limit)
    xy = prepared.frame.to_raw(refined(heights, places[:count])[:, ::-1])
    return Particles.of(xy, prepared.diameter_px, score[:count])
