"""A training tile, drawn and changed at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from upicker.config import AugmentConfig, Config
from upicker.train.augment.composing import contaminated, mosaic, pasted, shuffled
from upicker.train.augment.geometric import placed, turned
from upicker.train.augment.photometric import developed
from upicker.train.sample import Sample

# What leaves a tile as it was cut.
NOTHING = AugmentConfig(online=False)


def tile_from(samples: Sequence[Sample], index: int, config: Config, rng: np.random.Generator) -> Sample:
    """Cut a tile from a random place of a micrograph, and augment it.

    Parts that are off draw no random numbers.

    Parameters
    ----------
    samples : sequence of Sample
        All micrographs; mosaics take parts of others.
    index : int
        Which one.
    config : Config
        Tile and augmentation.
    rng : np.random.Generator
        The only source of randomness.

    Returns
    -------
    Sample
        `(t, t)` with the particles in it.
    """
    shape, augment = (config.train.tile_px, config.train.tile_px), config.augment
    if not augment.online:
        return placed(samples[index], shape, NOTHING, rng)
    if augment.mosaic and rng.uniform() < augment.mosaic:
        four = shuffled(samples, index, rng)
        tile = mosaic(lambda quarter, part: placed(four[quarter], part, augment, rng), shape, rng)
    else:
        tile = placed(samples[index], shape, augment, rng)
    return changed(tile, samples[index], config, rng)


def changed(picture: Sample, source: Sample, config: Config, rng: np.random.Generator) -> Sample:
    """Change what is in a picture, which way round it lies, and how it looks.

    Parameters
    ----------
    picture : Sample
        A tile, or a whole micrograph; not modified.
    source : Sample
        Where particles are copied from.
    config : Config
        The strengths; those that count things per tile are for the area of a tile.
    rng : np.random.Generator
        The only source of randomness.
    """
    augment, diameter = config.augment, config.image.working_diameter_px
    tiles = picture.pixels.size / config.train.tile_px**2
    if augment.paste:
        picture = pasted(picture, source, int(rng.poisson(augment.paste * tiles)), rng)
    if augment.contaminants:
        picture = contaminated(picture, diameter, int(rng.poisson(augment.contaminants * tiles)), rng)
    pixels, xy = picture.pixels, picture.xy
    if augment.flip:
        pixels, xy = turned(pixels, xy, int(rng.integers(8)))
    return replace(picture, pixels=developed(pixels, diameter, augment, rng), xy=xy)
