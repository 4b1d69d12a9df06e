"""Tiles of many sources for one training: simulated ones, and those of micrographs at several given diameters.

Which source a tile is of, and all else about it, depends on the seed, the step and the number of the tile in the step;
neither on the process that draws it nor on what was drawn before.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from upicker.config import Config
from upicker.errors import InputError
from upicker.train.dataset import Batch, TileTensors, batch_of, tensors_of_tile
from upicker.train.sample import Sample
from upicker.train.simulated import SimulatedTiles


@dataclass(frozen=True, eq=False)
class TileSource:
    """The micrographs of one set.

    Attributes
    ----------
    weight : float
        Fraction of the tiles that are of this set.
    scales : list of list of Sample
        The micrographs, prepared for each of several given diameters; one of these is drawn for a tile, each as often.
    """

    weight: float
    scales: list[list[Sample]]

    def draw(self, config: Config, rng: np.random.Generator) -> TileTensors:
        """Draw a tile: the given diameter at random, then a micrograph by its area, then a position."""
        samples = self.scales[rng.integers(len(self.scales))]
        area = np.array([s.pixels.size for s in samples], float)
        index = int(rng.choice(len(samples), p=area / area.sum()))
        return tensors_of_tile(samples, index, config, rng)


class Mixture:
    """The batches of a training: a function of the step, see `upicker.train.loop.Plan.samples`.

    Parameters
    ----------
    simulated : SimulatedTiles or None
        What is simulated.
    sources : sequence of TileSource
        The sets; the weights that they lack to 1 are the share of simulated tiles.
    config : Config
        Tile, augmentation and seed.
    per_step : int
        Tiles of a step, those of all ranks together.
    workers : int
        Processes that simulate tiles in advance; 0: in this process, when they are needed. The tiles are the same.
    """

    def __init__(
        self,
        simulated: SimulatedTiles | None,
        sources: Sequence[TileSource],
        config: Config,
        per_step: int,
        workers: int = 0,
    ) -> None:
        self._simulated, self._sources, self._config = simulated, sources, config
        self._per_step, self._workers = per_step, workers
        weights = np.array([one.weight for one in sources])
        self._shares = np.array([*weights, max(0.0, 1 - weights.sum()) if simulated else 0.0])
        self._shares /= self._shares.sum()
        self._samples = [one for source in sources for some in source.scales for one in some]
        self._next, self._part = -1, slice(None)
        self._ahead: Iterator[list[TileTensors]] = iter(())

    def __call__(self, step: int, part: slice = slice(None)) -> Batch:
        """Return some of the tiles of a step, by default all; always the same for the same step.

        Raises
        ------
        InputError
            If a worker has ended.
        """
        if (step, part) != (self._next, self._part):
            self._ahead = self._simulate_from(step, part)
        try:
            simulated = iter(next(self._ahead))
        except RuntimeError as error:
            remedy = "Continue with --resume, and fewer --workers if memory was short"
            raise InputError("a process that simulates tiles", f"it has ended ({error})", remedy) from error
        self._next, self._part = step + 1, part
        rng, chosen, own = self._draw(step)
        tiles = [
            next(simulated) if self._is_simulated(which) else self._sources[which].draw(self._config, one)
            for which, one in list(zip(chosen, own, strict=True))[part]
        ]
        return batch_of(tiles, self._samples, rng)

    def numbers(self, step: int, part: slice = slice(None)) -> list[int]:
        """Return the numbers of the simulated tiles among some of the tiles of a step."""
        chosen = self._draw(step)[1]
        numbers = range(step * self._per_step, (step + 1) * self._per_step)
        return [n for n, which in list(zip(numbers, chosen, strict=True))[part] if self._is_simulated(which)]

    def _draw(self, step: int) -> tuple[np.random.Generator, np.ndarray, list[np.random.Generator]]:
        """Return the step's generator, which source each tile is of, and the generator of each tile."""
        rng = np.random.default_rng((self._config.train.seed, step))
        chosen = rng.choice(len(self._shares), self._per_step, p=self._shares)
        return rng, chosen, rng.spawn(self._per_step)

    def _is_simulated(self, which: int) -> bool:
        return which == len(self._sources)

    def _simulate_from(self, step: int, part: slice) -> Iterator[list[TileTensors]]:
        """Yield the simulated tiles of each step from this one on."""
        if self._simulated is None:
            return iter(list, None)
        return iter(
            DataLoader(
                self._simulated,
                batch_sampler=_Steps(self, step, part),
                num_workers=self._workers,
                collate_fn=list,
                worker_init_fn=_prepare_worker,
                # A forked process inherits the locks, but not the threads, of libraries in use.
                multiprocessing_context="spawn" if self._workers else None,
                generator=torch.Generator(),  # by default it would draw from the global one
            )
        )


class _Steps:
    """The numbers of the simulated tiles of each step, from a first step on, endlessly."""

    def __init__(self, mixture: Mixture, step: int, part: slice) -> None:
        self.mixture, self.step, self.part = mixture, step, part

    def __iter__(self) -> Iterator[list[int]]:
        step = self.step
        while True:
            yield self.mixture.numbers(step, self.part)
            step += 1


def _prepare_worker(_: int) -> None:
    """Limit a worker to one thread, as there are as many as processors to use, and leave signals to the main process.

    That may have to take its step to the end first, with the tiles that are still to come. Terminals and torchrun send
    signals to a group of processes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.setpgrp()
    cv2.setNumThreads(1)
