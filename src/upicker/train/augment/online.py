"""Online augmentation: a training tile, drawn and augmented at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from upicker.config import AugmentConfig, Config
from upicker.train.augment.composing import contaminated, mosaic, mosaic_sources, pasted
from upicker.train.augment.geometric import apply_symmetry, random_view
from upicker.train.augment.photometric import photometric
from upicker.train.sample import Sample

# Leaves a tile unchanged.
NONE = AugmentConfig(online=False)


def draw_tile(samples: Sequence[Sample], index: int, config: Config, rng: np.random.Generator) -> Sample:
    """Cut a tile from a random position of a micrograph, and augment it.

    Augmentations that are off draw no random numbers.

    Parameters
    ----------
    samples : sequence of Sample
        All micrographs; mosaics use parts of others.
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
        return random_view(samples[index], shape, NONE, rng)
    if augment.mosaic and rng.uniform() < augment.mosaic:
        four = mosaic_sources(samples, index, rng)
        tile = mosaic(lambda quarter, part: random_view(four[quarter], part, augment, rng), shape, rng)
    else:
        tile = random_view(samples[index], shape, augment, rng)
    return augmented(tile, samples[index], config, rng)


def augmented(image: Sample, source: Sample, config: Config, rng: np.random.Generator) -> Sample:
    """Augment an image: pasted particles, contaminants, symmetries of the square, and photometric changes.

    Parameters
    ----------
    image : Sample
        A tile, or a whole micrograph; not modified.
    source : Sample
        Micrograph from which particles are copied.
    config : Config
        The strengths; numbers per tile are scaled with the area of the image.
    rng : np.random.Generator
        The only source of randomness.
    """
    augment, diameter = config.augment, config.image.working_diameter_px
    tiles = image.pixels.size / config.train.tile_px**2
    if augment.paste:
        image = pasted(image, source, int(rng.poisson(augment.paste * tiles)), rng)
    if augment.contaminants:
        image = contaminated(image, diameter, int(rng.poisson(augment.contaminants * tiles)), rng)
    pixels, xy = image.pixels, image.xy
    if augment.flip:
        pixels, xy = apply_symmetry(pixels, xy, int(rng.integers(8)))
    return replace(image, pixels=photometric(pixels, diameter, augment, rng), xy=xy)
