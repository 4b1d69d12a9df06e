"""A network of NumPy that finds planted dots, and micrographs to plant them in: picking needs no torch."""

import numpy as np
from scipy.ndimage import maximum_filter

from upicker.config import Config
from upicker.geometry import Frame
from upicker.image.prepare import Prepared
from upicker.particles import Particles

DIAMETER = 8.0
SHAPE = (203, 331)
CONFIG = Config().with_changes(
    {
        "image.working_diameter_px": DIAMETER,
        "image.mask": False,
        "train.tile_px": 64,
        "pick.tile_px": 64,
        "train.device": "cpu",
        "pick.views": 1,
    }
)


class Dots:
    """Finds every pixel above 0.05 that is the highest of its 3 x 3; its height is the score. Boxes of one size.

    Gives `queries` detections a tile, as a network does: the best ones, then empty ones. Positions are refined by a
    parabola along each axis.
    """

    def __init__(self, queries: int = 400, side: float = DIAMETER) -> None:
        self.queries, self.side = queries, side
        self.largest_batch = 0

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert tiles.dtype == np.float32
        n, channels, _, columns = tiles.shape
        assert channels == 1
        self.largest_batch = max(self.largest_batch, n)
        wide = np.pad(tiles[:, 0], ((0, 0), (1, 1), (1, 1)))
        highest = maximum_filter(wide, (1, 3, 3))[:, 1:-1, 1:-1]
        top = np.where((tiles[:, 0] >= highest) & (tiles[:, 0] > 0.05), tiles[:, 0], 0).reshape(n, -1)
        at = np.argsort(-top, axis=1, kind="stable")[:, : self.queries]
        heights = np.take_along_axis(top, at, 1)
        y, x = at // columns, at % columns

        def vertex(dy: int, dx: int) -> np.ndarray:
            of = np.arange(n)[:, None]
            before, middle, after = (wide[of, y + 1 + k * dy, x + 1 + k * dx] for k in (-1, 0, 1))
            return 0.5 * (before - after) / np.minimum(before - 2 * middle + after, np.float32(-1e-6))

        centre = np.stack([x + vertex(0, 1), y + vertex(1, 0)], -1)
        boxes = np.concatenate([centre, np.full_like(centre, self.side)], -1)
        return np.clip(heights, 0, 1).astype(np.float32), boxes.astype(np.float32)


def dotted(shape: tuple[int, int], xy: np.ndarray, heights: np.ndarray) -> Prepared:
    """A prepared micrograph at the raw scale, zero but for one pixel a particle."""
    pixels = np.zeros(shape, np.float32)
    pixels[xy[:, 1], xy[:, 0]] = heights
    return Prepared(pixels, Frame(shape, shape), DIAMETER)


def scattered(shape: tuple[int, int], seed: int, spacing: int = 9) -> tuple[np.ndarray, np.ndarray]:
    """Whole-pixel positions at least `spacing` apart, up to the very edge, with different heights."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(0, shape[1], 2 * spacing), np.arange(0, shape[0], 2 * spacing)), -1)
    xy = np.minimum(
        grid.reshape(-1, 2) + rng.integers(0, spacing + 1, (grid.size // 2, 2)), (shape[1] - 1, shape[0] - 1)
    )
    xy = np.unique(xy, axis=0)
    far = np.array([all(max(abs(a - b)) >= spacing for b in xy[:i]) for i, a in enumerate(xy)])
    xy = rng.permutation(xy[far])
    return xy, rng.permutation(np.linspace(0.1, 0.9, len(xy)))


def ordered(xy: np.ndarray) -> np.ndarray:
    xy = np.round(xy, 3)
    return xy[np.lexsort(xy.T)]


def found_once(picks: Particles, xy: np.ndarray) -> None:
    """Exactly these positions, each exactly once."""
    assert len(picks) == len(xy)
    np.testing.assert_allclose(ordered(picks.xy), ordered(xy.astype(float)), atol=2e-3)
