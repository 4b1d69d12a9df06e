"""Enlarging the training set before training (the paper's offline augmentation)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from upicker.config import Config
from upicker.train.augment.geometric import drawn, view
from upicker.train.augment.online import changed
from upicker.train.dataset import Store
from upicker.train.sample import Sample

_COPIES = 4  # random numbers of this use


def enlarged(samples: Sequence[Sample], config: Config, store: Store) -> list[Sample]:
    """Return the samples, and `augment.offline` changed copies of each.

    A copy is the whole micrograph, turned about its middle, scaled, and changed in the ways and as far as a tile
    would be. The same seed makes the same copies, however many there are.

    Parameters
    ----------
    samples : sequence of Sample
        What is learned from.
    config : Config
        Augmentation and seed.
    store : Store
        Where the copies' pixels go.
    """
    copies = []
    for number in range(config.augment.offline):
        for index, sample in enumerate(samples):
            rng = np.random.default_rng((config.train.seed, number, index, _COPIES))
            copies.append(store.keep_sample(_copy(sample, config, rng)))
    return [*samples, *copies]


def _copy(sample: Sample, config: Config, rng: np.random.Generator) -> Sample:
    """Return one changed copy, of the same size but for quarter turns."""
    rows, columns = sample.pixels.shape
    picture = replace(sample, pixels=np.asarray(sample.pixels, np.float32))
    if config.augment.rotate_deg or config.augment.scale:
        middle = (columns - 1) / 2, (rows - 1) / 2
        picture = view(picture, (rows, columns), drawn(middle, config.augment, rng))
    return changed(picture, sample, config, rng)
