"""Simulated tiles as training data: endless, and the same by their number, whoever draws them."""

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
from upicker.train.dataset import Batch, sample, tile

# A tile is cut from a picture that is larger by this, in particle diameters: its rim is now the rim of a picture, now
# not, and the preparation sees what lies beyond it.
WIDER = 1.0
_CUT = 3  # random numbers of this use


class SimulatedTiles(Dataset[tuple[Tensor, Tensor]]):
    """Tile `index` of an endless row, prepared as a micrograph is.

    It has no length. Samplers tell the workers of a `DataLoader` which tiles to draw, so that no two draw the same.

    Parameters
    ----------
    plan : TilePlan
        What is simulated.
    config : Config
        Preparation (its polarity aside: electrons make particles dark), tile, augmentation.
    """

    def __init__(self, plan: TilePlan, config: Config) -> None:
        image = replace(config.image, particles="dark")
        self.config = replace(config, image=image)
        self.seed = plan.seed
        side = config.train.tile_px + round(WIDER * image.working_diameter_px)
        self._tiles = Tiles(plan, side, image.working_diameter_px)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image `(1, t, t)` and boxes `(m, 4)`, float32, as `upicker.train.dataset.batch` has them."""
        image = self.config.image
        simulated = self._tiles.make(index)
        prepared = masked(prepare(simulated.micrograph, image.working_diameter_px, image), image)
        rng = np.random.default_rng((self.seed, index, _CUT))
        pixels, boxes = tile([sample(prepared, learnable(simulated))], 0, self.config, rng)
        return torch.from_numpy(pixels)[None], torch.from_numpy(boxes)


class SimulatedBatches:
    """Batches of simulated tiles for `upicker.train.loop`: call it with the number of the step.

    Parameters
    ----------
    tiles : SimulatedTiles
        Where they come from.
    workers : int
        Processes that draw ahead; 0: none, tiles are drawn when they are asked for. What is drawn is the same.
    """

    def __init__(self, tiles: SimulatedTiles, workers: int = 0) -> None:
        self._tiles, self._workers = tiles, workers
        self._next, self._drawn = -1, iter(())

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step; the same step always gets the same."""
        train = self._tiles.config.train
        if step != self._next:
            self._drawn = self._draw(step, train.batch)
        images, targets = next(self._drawn)
        self._next = step + 1
        return Batch(images, targets, np.random.default_rng((train.seed, step)))

    def _draw(self, step: int, batch: int) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Draw the batches from a step on."""
        return iter(
            DataLoader(
                self._tiles,
                batch_sampler=_Steps(step, batch),
                num_workers=self._workers,
                collate_fn=_together,
                worker_init_fn=_one_thread,
                # A forked process inherits the locks, but not the threads, of libraries that were at work.
                multiprocessing_context="spawn" if self._workers else None,
                generator=torch.Generator(),  # else it would take a number of the global one
            )
        )


class _Steps:
    """The numbers of the tiles of each step, from a first step on, without an end."""

    def __init__(self, step: int, batch: int) -> None:
        self.step, self.batch = step, batch

    def __iter__(self) -> Iterator[list[int]]:
        first = self.step * self.batch
        while True:
            yield list(range(first, first + self.batch))
            first += self.batch


def _together(tiles: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor]]:
    images, boxes = zip(*tiles, strict=True)
    return torch.stack(images), list(boxes)


def _one_thread(_: int) -> None:
    """Keep a worker from starting threads: there are as many workers as processors are to be used."""
    cv2.setNumThreads(1)
