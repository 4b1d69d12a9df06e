"""Prepared micrographs with particles -> batches of tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from upicker.config import Config
from upicker.geometry import Region
from upicker.image.mask import is_usable
from upicker.image.prepare import Prepared
from upicker.particles import Particles
from upicker.train.augment.online import draw_tile
from upicker.train.sample import Sample


class Batch(NamedTuple):
    """The tiles of a step.

    Attributes
    ----------
    images : Tensor
        `(B, 1, t, t)`.
    targets : list of Tensor
        Per tile `(m, 4)` boxes, centre form, particle diameters from the outer corner of the first pixel.
    rng : np.random.Generator
        For the other random numbers of the step.
    unsure : list of Tensor or None
        Per tile `(k, 5)` boxes of unsure positions, as `targets`, and their weights as background; None if the samples
        have none.
    sized : list of Tensor or None
        Per tile whether the sizes of its boxes are learned, a bool; None: those of all tiles are.
    """

    images: Tensor
    targets: list[Tensor]
    rng: np.random.Generator
    unsure: list[Tensor] | None = None
    sized: list[Tensor] | None = None


# Of a tile: image `(1, t, t)`, targets, unsure positions, float32, and whether sizes are learned, as in `Batch`.
TileTensors = tuple[Tensor, Tensor, Tensor, Tensor]


def sample_from(prepared: Prepared, particles: Particles, region: Region | None = None) -> Sample:
    """Return the training sample of a prepared and masked micrograph, or of a region of it.

    Particles outside usable ice are left out: there is nothing of them in the blanked pixels.

    Parameters
    ----------
    prepared : Prepared
        `(h, w)` at the working scale.
    particles : Particles
        Raw pixels, diameters known.
    region : Region, optional
        Raw pixels; by default the whole micrograph.
    """
    frame = prepared.frame
    inner = region or Region.inside(frame.raw_shape, 0)
    particles = particles.select(is_usable(prepared, particles.xy) & inner.contains(particles.xy))
    corners = frame.to_working(np.array([[inner.x0, inner.y0], [inner.x1, inner.y1]]))
    (x0, y0), (x1, y1) = np.rint(corners + 0.5).clip(0, prepared.pixels.shape[::-1]).astype(int)
    xy = frame.to_working(particles.xy) - (x0, y0)
    return Sample(prepared.pixels[y0:y1, x0:x1], xy, particles.diameter_px * frame.scale)


def batch(samples: list[Sample], config: Config, step: int, part: slice = slice(None)) -> Batch:
    """Draw the tiles of one step; the same step always draws the same.

    Micrographs are drawn by area, positions in them evenly. Each tile has a generator of its own, so that it is the
    same whichever rank draws the others.

    Parameters
    ----------
    samples : list of Sample
        At least one.
    config : Config
        Tile, batch, augmentation and seed.
    step : int
        Number of the step, from 0.
    part : slice
        Which of the tiles to draw; all by default.

    Returns
    -------
    Batch
        Images, targets, the step's generator, and unsure positions if some sample has any.
    """
    rng = np.random.default_rng((config.train.seed, step))
    area = np.array([s.pixels.size for s in samples], float)
    chosen = rng.choice(len(samples), config.train.batch, p=area / area.sum())
    own = list(zip(chosen, rng.spawn(len(chosen)), strict=True))[part]
    return batch_of([tensors_of_tile(samples, index, config, one) for index, one in own], samples, rng)


def batch_of(tiles: Sequence[TileTensors], samples: Sequence[Sample], rng: np.random.Generator) -> Batch:
    """Return the batch of some tiles.

    Parameters
    ----------
    tiles : sequence of tuple of Tensor
        The tiles.
    samples : sequence of Sample
        All that tiles are drawn from: whether any of it has unsure positions, or sizes that are not learned.
    rng : np.random.Generator
        For the other random numbers of the step.
    """
    images, targets, unsure, sized = zip(*tiles, strict=True)
    some = any(sample.sure is not None for sample in samples)
    every = all(sample.sized for sample in samples)
    return Batch(
        torch.stack(images), list(targets), rng, list(unsure) if some else None, None if every else list(sized)
    )


def tensors_of_tile(samples: Sequence[Sample], index: int, config: Config, rng: np.random.Generator) -> TileTensors:
    """Draw a tile, see `upicker.train.augment.online.draw_tile`, and return its tensors."""
    drawn = draw_tile(samples, index, config, rng)
    sure, unsure = (drawn.select(which) for which in (drawn.is_sure, ~drawn.is_sure))
    weight = np.where(unsure.levels < 0, config.loss.rejected_weight, config.loss.unsure_weight)
    weighted = np.column_stack([_boxes(unsure, config), weight]).astype(np.float32)
    boxes = torch.from_numpy(_boxes(sure, config)), torch.from_numpy(weighted)
    return torch.from_numpy(drawn.pixels)[None], *boxes, torch.tensor(drawn.sized)


def _boxes(drawn: Sample, config: Config) -> np.ndarray:
    """Return `(m, 4)` float32, as `Batch.targets`."""
    side = np.repeat(drawn.side[:, None], 2, 1)
    return (np.concatenate([drawn.xy + 0.5, side], 1) / config.image.working_diameter_px).astype(np.float32)
