"""Proposals: A-LoG (`upicker.propose.alog`), or the template learned from it (`upicker.propose.template`)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from upicker.config import ImageConfig, ProposeConfig
from upicker.errors import ConfigError
from upicker.image.mask import blanked
from upicker.image.prepare import Prepared
from upicker.particles import Particles, ScoreKind
from upicker.propose import alog, template
from upicker.propose.density import automatic_count
from upicker.propose.peaks import refined

# Ranges of A-LoG (d_min, d_max, in diameters) from which templates are learned. The third is the paper's; the first
# suits elongated particles, the last hollow ones.
RANGES = ((0.5, 1.0), alog.RANGE, (0.8, 1.25), (1.0, 1.4))
# Micrographs of a run from which the template is learned.
EXAMPLES = 5
# Least excess of the energy explained in the micrographs over that in their negatives, as a fraction of the sum. Noise
# and real empty ice stayed below it, 30 faint particles in noise had 0.084, good micrographs 0.16 to 0.6.
SHARE = 0.08

Item = TypeVar("Item")


def sampling_order(paths: Sequence[Path]) -> list[Path]:
    """Return the files in an order that looks random, and depends on nothing but which files they are.

    They are sorted by a hash of their paths relative to their common folder: neither the order of the list, nor the
    place of the folder matters.
    """
    if not paths:
        return []
    absolute = [Path(os.path.abspath(path)) for path in paths]  # noqa: PTH100 - links keep their own names
    common = os.path.commonpath([path.parent for path in absolute])

    def key(path: Path) -> bytes:
        return hashlib.sha256(os.fsencode(path.relative_to(common).as_posix())).digest()

    keys = {path: key(one) for path, one in zip(paths, absolute, strict=True)}
    return sorted(keys, key=keys.__getitem__)


def examples(items: Sequence[Item]) -> Sequence[Item]:
    """Return a few of the micrographs, evenly spaced, to learn a template from."""
    return items[:: max(1, len(items) // EXAMPLES)][:EXAMPLES]


def with_template(config: ProposeConfig, micrographs: Sequence[Prepared], image: ImageConfig) -> ProposeConfig:
    """Return the config with a template learned from some micrographs, if one is to be used and none is given.

    If none can be learned, for lack of particles, the profile is empty, and `propose` uses A-LoG alone.

    Parameters
    ----------
    config : ProposeConfig
        The knobs. A range of diameters given in it is the only one tried.
    micrographs : sequence of Prepared
        A few micrographs, with their usable areas; the rest of them is not used.
    image : ImageConfig
        Config of the preprocessing.
    """
    if not config.template or config.profile is not None:
        return config
    micrographs = [blanked(micrograph) for micrograph in micrographs]
    given = config.min_ratio is not None or config.max_ratio is not None
    # Boxes of some reach beyond the border, so more are proposed than used.
    some = replace(config, top_k=str(2 * template.STRONGEST), threshold=0.0)
    best, most = (), 0.0
    for low, high in (alog.range_of(config),) if given else RANGES:
        knobs = replace(some, min_ratio=low, max_ratio=high)
        found = [alog.propose(micrograph, knobs, image, micrograph.usable) for micrograph in micrographs]
        centres = [micrograph.frame.to_working(one.xy) for micrograph, one in zip(micrographs, found, strict=True)]
        learned = template.learn(micrographs, centres) if micrographs else None
        if learned is None:
            continue
        bright, dark = np.sum([template.explained_energy(micrograph, learned) for micrograph in micrographs], axis=0)
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
        The knobs. Without a template, one is learned from this micrograph alone; see `with_template`.
    image : ImageConfig
        Config of the preprocessing.
    usable : np.ndarray, optional
        `(h, w)` bool, True = usable ice; proposals elsewhere are left out.

    Returns
    -------
    Particles
        Raw pixels, by falling score, with the nominal diameter, or with ``propose.sizes`` that of the best LoG filter.
        With a template, the score is the correlation in standard deviations of noise, and ``propose.threshold`` is in
        that unit (None: 1, or none with the automatic K).

    Raises
    ------
    ConfigError
        If the range of diameters is empty, or the profile has a wrong length.
    """
    limit = alog.limit_of(config)
    config = with_template(config, [replace(prepared, usable=usable)], image)
    if not config.template or not config.profile:
        return alog.propose(prepared, config, image, usable)
    if len(config.profile) != len(template.radii()):
        found = f"it has {len(config.profile)} values, expected {len(template.radii())}"
        raise ConfigError("propose.profile", found, "Leave it out to have it learned")
    diameter = prepared.working_diameter
    # Blanked, because the halo of a contaminant would respond, and peaks of the negative must be noise.
    masked = blanked(replace(prepared, usable=usable))
    heights = template.correlate(masked.pixels, np.array(config.profile), diameter)
    theta = 0.0 if limit == "auto" else 1.0 if config.threshold is None else config.threshold
    positions = template.peaks(heights, usable, diameter, theta)
    score = heights[positions[:, 0], positions[:, 1]].astype(np.float64)
    count = len(positions)
    if limit == "auto":
        dark = template.peaks(-heights, usable, diameter)
        count = min(automatic_count(score, -heights[dark[:, 0], dark[:, 1]]), alog.above(score, config.threshold))
    elif isinstance(limit, int):
        count = min(count, limit)
    xy = prepared.frame.to_raw(refined(heights, positions[:count])[:, ::-1])
    diameter_px = alog.sizes(masked, config, positions[:count]) if config.sizes else prepared.diameter_px
    return Particles.of(xy, diameter_px, score[:count], ScoreKind.CORRELATION)
