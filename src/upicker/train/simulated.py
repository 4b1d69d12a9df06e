"""Simulated tiles as training data: an endless sequence in which each tile depends on its number only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from upicker.config import Config
from upicker.image.mask import masked
from upicker.image.prepare import prepare
from upicker.simulate.tiles import TilePlan, Tiles, learnable
from upicker.train.dataset import Batch, sample_from, tile

# A tile is cut from an image that is larger by this, in particle diameters: only some of its edges are edges of the
# image, and the preparation includes its surroundings.
WIDER = 1.0
_CUT = 3  # seeds of this use


class SimulatedTiles(Dataset[tuple[Tensor, Tensor]]):
    """Tile `index` of an endless sequence, prepared as a micrograph is.

    It has no length. A sampler assigns tiles to the workers of a `DataLoader`, so that no two draw the same.

    Parameters
    ----------
    plan : TilePlan
        What is simulated.
    config : Config
        Preparation (except polarity: electrons make particles dark), tile, augmentation.
    """

    def __init__(self, plan: TilePlan, config: Config) -> None:
        image = replace(config.image, particles="dark")
        self.config = replace(config, image=image)
        self.seed = plan.seed
        side = config.train.tile_px + round(WIDER * image.working_diameter_px)
        self._tiles = Tiles(plan, side, image.working_diameter_px)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image `(1, t, t)` and boxes `(m, 4)`, float32, as in `upicker.train.dataset.batch`."""
        image = self.config.image
        simulated = self._tiles.make(index)
        prepared = masked(prepare(simulated.micrograph, image.working_diameter_px, image), image)
        rng = np.random.default_rng((self.seed, index, _CUT))
        pixels, boxes = tile([sample_from(prepared, learnable(simulated))], 0, self.config, rng)
        return torch.from_numpy(pixels)[None], torch.from_numpy(boxes)


class SimulatedBatches:
    """Batches of simulated tiles for `upicker.train.loop`: a function of the step.

    Parameters
    ----------
    tiles : SimulatedTiles
        The tiles.
    workers : int
        Processes that draw tiles in advance; 0: tiles are drawn when they are needed. The tiles are the same.
    """

    def __init__(self, tiles: SimulatedTiles, workers: int = 0) -> None:
        self._tiles, self._workers = tiles, workers
        self._next, self._drawn = -1, iter(())

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step, always the same for the same step."""
        train = self._tiles.config.train
        if step != self._next:
            self._drawn = self._draw(step, train.batch)
        images, targets = next(self._drawn)
        self._next = step + 1
        return Batch(images, targets, np.random.default_rng((train.seed, step)))

    def _draw(self, step: int, batch: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield the batches from a step on."""
        return iter(
            DataLoader(
                self._tiles,
                batch_sampler=_Steps(step, batch),
                num_workers=self._workers,
                collate_fn=_collate,
                worker_init_fn=_one_thread,
                # A forked process inherits the locks, but not the threads, of libraries in use.
                multiprocessing_context="spawn" if self._workers else None,
                generator=torch.Generator(),  # by default it would draw from the global one
            )
        )


class _Steps:
    """The numbers of the tiles of each step, from a first step on, endlessly."""

    def __init__(self, step: int, batch: int) -> None:
        self.step, self.batch = step, batch

    def __iter__(self) -> Iterator[list[int]]:
        first = self.step * self.batch
        while True:
            yield list(range(first, first + self.batch))
            first += self.batch


def _collate(tiles: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    images, boxes = zip(*tiles, strict=True)
    return torch.stack(images), list(boxes)


def _one_thread(_: int) -> None:
    """Limit a worker to one thread: there are as many workers as processors to use."""
    cv2.setNumThreads(1)
