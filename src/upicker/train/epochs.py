"""The length of a training in epochs: how many steps show as many tiles as cover its micrographs once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from upicker.config import Config
from upicker.train.loop import tiles_per_step
from upicker.train.ranks import Ranks
from upicker.train.sample import Sample


def with_steps(config: Config, samples: Sequence[Sample], ranks: Ranks) -> Config:
    """Return a config whose steps are those of its epochs, where its length is given in epochs.

    Parameters
    ----------
    config : Config
        ``train.pretrain_epochs`` and ``train.finetune_epochs`` count instead of the steps.
    samples : sequence of Sample
        What is trained on.
    ranks : Ranks
        The processes, which share the tiles of a step.
    """
    train = config.train
    tiles = sum(tiles_of(one, train.tile_px) for one in samples)

    def steps(epochs: float | None, given: int) -> int:
        return given if epochs is None else max(1, math.ceil(epochs * tiles / tiles_per_step(train, ranks)))

    return replace(
        config,
        train=replace(
            train,
            pretrain_steps=steps(train.pretrain_epochs, train.pretrain_steps),
            finetune_steps=steps(train.finetune_epochs, train.finetune_steps),
        ),
    )


def tiles_of(sample: Sample, tile_px: int) -> int:
    """Return how many tiles cover a sample, side by side."""
    rows, columns = sample.pixels.shape
    return math.ceil(rows / tile_px) * math.ceil(columns / tile_px)
