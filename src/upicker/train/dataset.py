"""Prepared micrographs with particles -> batches of tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from upicker.config import Config
from upicker.geometry import Region
from upicker.image.mask import is_usable
from upicker.image.prepare import Prepared
from upicker.particles import Particles
from upicker.pick.picker import cut
from upicker.train.augment import augment

# Images `(B, 1, t, t)`, per tile `(m, 4)` boxes, and the generator for what else is random in the step.
Batch = tuple[Tensor, list[Tensor], np.random.Generator]


@dataclass(frozen=True, eq=False)
class Sample:
    """A micrograph to learn from, at the working scale.

    Attributes
    ----------
    pixels : np.ndarray
        `(h, w)` float32; may be memory-mapped.
    xy : np.ndarray
        `(n, 2)` centres, working pixels.
    side : np.ndarray
        `(n,)` box sides, working pixels.
    """

    pixels: np.ndarray
    xy: np.ndarray
    side: np.ndarray


class Store:
    """Keeps prepared pictures on disk, so that memory does not grow with their number.

    Parameters
    ----------
    folder : Path
        An existing folder to write to; the caller removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def keep(self, prepared: Prepared) -> Prepared:
        """Return the same micrograph with its pixels memory-mapped, and without the unflattened picture."""
        path = self._folder / f"{self._count:06d}.npy"
        self._count += 1
        np.save(path, prepared.pixels)
        return replace(prepared, pixels=np.load(path, mmap_mode="r"), unflattened=None)


def sample(prepared: Prepared, particles: Particles, region: Region | None = None) -> Sample:
    """Return a prepared and masked micrograph, or a region of it, with its particles, to learn from.

    Particles outside usable ice are left out: what is blanked cannot be learned.

    Parameters
    ----------
    prepared : Prepared
        `(h, w)` at the working scale.
    particles : Particles
        Raw pixels, diameters known.
    region : Region, optional
        Raw pixels; all by default.
    """
    frame = prepared.frame
    inner = region or Region.inside(frame.raw_shape, 0)
    particles = particles.select(is_usable(prepared, particles.xy) & inner.contains(particles.xy))
    corners = frame.to_working(np.array([[inner.x0, inner.y0], [inner.x1, inner.y1]]))
    (x0, y0), (x1, y1) = np.rint(corners + 0.5).clip(0, prepared.pixels.shape[::-1]).astype(int)
    xy = frame.to_working(particles.xy) - (x0, y0)
    return Sample(prepared.pixels[y0:y1, x0:x1], xy, particles.diameter_px * frame.scale)


def batch(samples: list[Sample], config: Config, step: int) -> Batch:
    """Draw the tiles of one step; the same step always draws the same.

    Micrographs are drawn by area, places in them evenly.

    Parameters
    ----------
    samples : list of Sample
        At least one.
    config : Config
        Tile, batch, augmentation and seed.
    step : int
        Number of the step, from 0.

    Returns
    -------
    images : Tensor
        `(B, 1, t, t)`.
    targets : list of Tensor
        Per tile `(m, 4)` boxes, centre form, 0..1 from the outer edge of the first to that of the last pixel.
    rng : np.random.Generator
        For what else is random in this step.
    """
    rng = np.random.default_rng((config.train.seed, step))
    area = np.array([s.pixels.size for s in samples], float)
    images, targets = [], []
    for index in rng.choice(len(samples), config.train.batch, p=area / area.sum()):
        image, boxes = tile(samples[index], config, rng)
        images.append(torch.from_numpy(image))
        targets.append(torch.from_numpy(boxes))
    return torch.stack(images)[:, None], targets, rng


def tile(sample: Sample, config: Config, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cut a tile from a random place of a sample, and augment it.

    Parameters
    ----------
    sample : Sample
        Smaller than a tile is allowed.
    config : Config
        Tile and augmentation.
    rng : np.random.Generator
        The only source of randomness.

    Returns
    -------
    image, boxes : np.ndarray
        `(t, t)` and `(m, 4)` float32, boxes as in `batch`.
    """
    size = config.train.tile_px
    y, x = (int(rng.integers(max(n - size, 0) + 1)) for n in sample.pixels.shape)
    image = np.asarray(cut(sample.pixels, x, y, size), np.float32)
    xy = sample.xy - (x, y)
    inside = ((xy >= -0.5) & (xy <= size - 0.5)).all(1)
    image, xy = augment(image, xy[inside], config.train, rng)
    side = np.repeat(sample.side[inside, None], 2, 1)
    return image, (np.concatenate([xy + 0.5, side], 1) / size).astype(np.float32)
