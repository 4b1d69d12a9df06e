"""Online augmentation of a tile and the centres in it."""

from __future__ import annotations

import numpy as np

from upicker.config import TrainConfig


def augment(
    tile: np.ndarray, xy: np.ndarray, config: TrainConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Turn, mirror, and change contrast, brightness and noise at random.

    Parameters
    ----------
    tile : np.ndarray
        `(t, t)` float32, background about 0, robust sigma about 1; not modified.
    xy : np.ndarray
        `(n, 2)` centres, column and row, ``(0, 0)`` = centre of the first pixel.
    config : TrainConfig
        Switch and strengths.
    rng : np.random.Generator
        The only source of randomness.

    Returns
    -------
    tile, xy : np.ndarray
        Of the same shapes.
    """
    if not config.augment:
        return tile, xy
    tile, xy = turned(tile, xy, int(rng.integers(8)))
    gain = 1 + config.intensity * rng.uniform(-1, 1)
    tile = tile * np.float32(gain) + np.float32(config.intensity * rng.uniform(-1, 1))
    level = config.noise * rng.uniform()
    return tile + np.float32(level) * rng.standard_normal(tile.shape, np.float32), xy


def turned(tile: np.ndarray, xy: np.ndarray, which: int) -> tuple[np.ndarray, np.ndarray]:
    """Apply one of the eight symmetries of a square: `which` % 4 quarter turns, mirrored from 4 on.

    Parameters
    ----------
    tile, xy : np.ndarray
        `(t, t)` and `(n, 2)`.
    which : int
        0..7; 0 changes nothing.
    """
    last = tile.shape[0] - 1
    if which >= 4:
        tile, xy = tile[:, ::-1], np.stack([last - xy[:, 0], xy[:, 1]], 1)
    for _ in range(which % 4):
        # A quarter turn as np.rot90 does it: the last column becomes the first row.
        xy = np.stack([xy[:, 1], last - xy[:, 0]], 1)
    return np.ascontiguousarray(np.rot90(tile, which % 4)), xy
