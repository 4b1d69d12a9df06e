"""Offline augmentation: copies of the training micrographs, made before training (the paper's offline augmentation)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from upicker.config import Config
from upicker.train.augment.geometric import random_pose, view
from upicker.train.augment.online import augmented
from upicker.train.sample import Sample
from upicker.train.store import Store

_COPIES = 4  # seeds of this use


def with_copies(samples: Sequence[Sample], config: Config, store: Store) -> list[Sample]:
    """Return the samples, and `augment.offline` augmented copies of each.

    A copy is the whole micrograph, rotated about its middle, scaled, and augmented in the same ways and with the same
    strengths as a tile. The same seed makes the same copies, however many there are.

    Parameters
    ----------
    samples : sequence of Sample
        The training samples.
    config : Config
        Augmentation and seed.
    store : Store
        Where the copies' pixels are kept.
    """
    copies = []
    for number in range(config.augment.offline):
        for index, sample in enumerate(samples):
            rng = np.random.default_rng((config.train.seed, number, index, _COPIES))
            copies.append(store.keep_sample(_copy(sample, config, rng)))
    return [*samples, *copies]


def _copy(sample: Sample, config: Config, rng: np.random.Generator) -> Sample:
    """Return one augmented copy, of the same size except for rotations by 90 degrees."""
    rows, columns = sample.pixels.shape
    image = replace(sample, pixels=np.asarray(sample.pixels, np.float32))
    if config.augment.rotate_deg or config.augment.scale:
        middle = (columns - 1) / 2, (rows - 1) / 2
        image = view(image, (rows, columns), random_pose(middle, config.augment, rng))
    return augmented(image, sample, config, rng)
