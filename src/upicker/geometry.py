"""Frames and squares: raw pixels <-> working pixels, tiles and ownership, IoU, suppression. NumPy and SciPy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree


@dataclass(frozen=True)
class Frame:
    """The mapping between a raw micrograph and the image at the working scale.

    Fourier cropping keeps the position of the first sample, so ``working = raw * scale``, without an offset.

    Attributes
    ----------
    raw_shape, working_shape : tuple of int
        Rows, columns of both images.
    """

    raw_shape: tuple[int, int]
    working_shape: tuple[int, int]

    @property
    def scale_xy(self) -> np.ndarray:
        """`(2,)` working pixels per raw pixel along columns and rows; they may differ slightly, by rounding."""
        return np.array([self.working_shape[1] / self.raw_shape[1], self.working_shape[0] / self.raw_shape[0]])

    @property
    def scale(self) -> float:
        """The scale of lengths, the geometric mean of both."""
        return float(np.sqrt(self.scale_xy.prod()))

    def to_working(self, xy: np.ndarray) -> np.ndarray:
        """Convert `(n, 2)` positions from raw to working pixels."""
        return np.asarray(xy) * self.scale_xy

    def to_raw(self, xy: np.ndarray) -> np.ndarray:
        """Convert `(n, 2)` positions from working to raw pixels."""
        return np.asarray(xy) / self.scale_xy


@dataclass(frozen=True)
class Region:
    """A rectangle of a raw micrograph.

    Attributes
    ----------
    x0, y0, x1, y1 : float
        Raw pixels: it contains positions with ``x0 <= x < x1`` and ``y0 <= y < y1``.
    """

    x0: float
    y0: float
    x1: float
    y1: float

    @classmethod
    def inside(cls, shape: tuple[int, int], margin_px: float) -> Region:
        """Return the area of a micrograph of `shape` (rows, columns) without a margin along its border."""
        low = margin_px - 0.5
        return cls(low, low, shape[1] - 1 - low, shape[0] - 1 - low)

    def contains(self, xy: np.ndarray) -> np.ndarray:
        """Return `(n,)` bool: which of the `(n, 2)` positions, raw pixels, it contains."""
        x, y = np.asarray(xy).reshape(-1, 2).T
        return (x >= self.x0) & (x < self.x1) & (y >= self.y0) & (y < self.y1)


@dataclass(frozen=True)
class Tile:
    """A rectangle of an image at the working scale, and the rectangle in it whose particles it owns.

    Tiles overlap, so a particle may be detected in several; it is taken from the one tile that owns its centre.

    Attributes
    ----------
    x, y : int
        Column and row of its first pixel.
    own : tuple of float
        ``(x0, y0, x1, y1)``: it owns centres with ``x0 <= x < x1`` and ``y0 <= y < y1``, in working pixels. The
        rectangles of all tiles cover the plane without gap or overlap.
    """

    x: int
    y: int
    own: tuple[float, float, float, float]

    def owns(self, xy: np.ndarray, slack: float = 0.0) -> np.ndarray:
        """Return `(n,)` bool: which of the `(n, 2)` positions it owns, in working pixels.

        The rectangle is enlarged by `slack` on all sides.
        """
        x0, y0, x1, y1 = self.own
        x, y = np.asarray(xy).reshape(-1, 2).T
        return (x >= x0 - slack) & (x < x1 + slack) & (y >= y0 - slack) & (y < y1 + slack)


def tiles(shape: tuple[int, int], largest: int, overlap: float, multiple: int) -> tuple[tuple[int, int], list[Tile]]:
    """Cover an image with the fewest tiles, all of one size, that overlap by at least `overlap` working pixels.

    The tiles are as small as their number allows: an image a little larger than a tile is not covered by four whole
    ones.

    Parameters
    ----------
    shape : tuple of int
        Rows, columns.
    largest : int
        Longest side of a tile, working pixels; a multiple of `multiple`.
    overlap : float
        Smallest overlap of neighbouring tiles, working pixels; less than `largest`.
    multiple : int
        Sides of tiles are multiples of it, so that a tile may extend beyond the image by less than that.

    Returns
    -------
    size : tuple of int
        Rows, columns of a tile.
    tiles : list of Tile
        Row by row.
    """
    (height, rows), (width, columns) = (_starts(length, largest, overlap, multiple) for length in shape)
    row_cuts, column_cuts = _cuts(rows, height), _cuts(columns, width)
    cover = [
        Tile(x, y, (column_cuts[j], row_cuts[i], column_cuts[j + 1], row_cuts[i + 1]))
        for i, y in enumerate(rows)
        for j, x in enumerate(columns)
    ]
    return (height, width), cover


def _starts(length: int, largest: int, overlap: float, multiple: int) -> tuple[int, list[int]]:
    """Return the side of the tiles along one axis, and the first pixels of evenly spaced ones."""
    assert 0 <= overlap < largest
    assert largest % multiple == 0
    count = 1 if length <= largest else 1 + math.ceil((length - largest) / (largest - overlap))
    size = multiple * math.ceil((length + (count - 1) * overlap) / count / multiple)
    return size, [round(i * max(0, length - size) / max(1, count - 1)) for i in range(count)]


def _cuts(starts: list[int], size: int) -> list[float]:
    """Return where ownership passes from one tile to the next: the middle of their overlap."""
    middles = [(b + a + size) / 2 - 0.5 for a, b in zip(starts, starts[1:], strict=False)]
    return [-np.inf, *middles, np.inf]


def iou_squares(distance_xy: np.ndarray, side_a: np.ndarray, side_b: np.ndarray) -> np.ndarray:
    """Intersection over union of squares.

    Parameters
    ----------
    distance_xy : np.ndarray
        `(..., 2)` differences of the centres.
    side_a, side_b : np.ndarray
        `(...)` sides, in the same unit.
    """
    half = (side_a + side_b)[..., None] / 2
    reach = np.minimum(half - np.abs(distance_xy), np.minimum(side_a, side_b)[..., None])
    inter = np.clip(reach, 0, None).prod(-1)
    return inter / (side_a**2 + side_b**2 - inter)


def suppress(
    xy: np.ndarray, side: np.ndarray, score: np.ndarray, iou: float, group: np.ndarray | None = None
) -> np.ndarray:
    """Non-maximum suppression of squares: of two whose IoU exceeds `iou`, the one of lower score is dropped.

    Both are taken to be as large as the smaller one: two sizes that are seen in one particle are one pick, and a small
    particle beside the centre of a large one is another.

    Parameters
    ----------
    xy, side, score : np.ndarray
        `(n, 2)` centres, `(n,)` sides, `(n,)` scores.
    iou : float
        Largest IoU allowed, 0..1; 0.5 is a distance of about 0.3 smaller sides.
    group : np.ndarray, optional
        `(n,)` group of each square; squares of the same group do not suppress each other.

    Returns
    -------
    np.ndarray
        `(n,)` bool, True = kept.
    """
    n = len(xy)
    kept = np.ones(n, bool)
    if n < 2:
        return kept
    # Squares whose IoU exceeds `iou` >= 0 have centres at most a diagonal apart.
    pairs = KDTree(xy).query_pairs(float(side.max()) * np.sqrt(2), output_type="ndarray")
    if not len(pairs):
        return kept
    a, b = pairs.T
    smaller = np.minimum(side[a], side[b])
    close = iou_squares(xy[a] - xy[b], smaller, smaller) > iou
    pairs = pairs[close if group is None else close & (group[a] != group[b])]
    rank = np.empty(n, np.int64)
    rank[np.argsort(-score, kind="stable")] = np.arange(n)
    ranked = np.sort(rank[pairs], axis=1)
    ranked = ranked[np.lexsort(ranked.T[::-1])]
    alive = np.ones(n, bool)
    for strong, weak in ranked:
        if alive[strong]:
            alive[weak] = False
    return alive[rank]
