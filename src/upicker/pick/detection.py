"""A prepared micrograph -> its detections: views, tiles, ownership, merging.

A micrograph is shown to the network in several *views* (`upicker.pick.views`). Each view is cut into overlapping tiles,
and a detection belongs to the tile that *owns* its centre: the owned rectangles cover the view once, with their borders
in the middle of the overlaps, so that each particle is taken from the tile that sees most of its surroundings, and is
counted once. Detections are then merged over tiles, and over views.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from upicker.config import Config
from upicker.geometry import Region, Tile, suppress, tiles
from upicker.image.boxes import cut
from upicker.image.mask import is_usable
from upicker.image.prepare import Prepared
from upicker.particles import Particles, ScoreKind
from upicker.pick.network import Network
from upicker.pick.views import VIEWS, from_view, fused, to_view

# Detections with lower scores are noise, of no use even for a precision-recall curve.
FLOOR = 0.02
# A tile also keeps detections up to this many diameters outside the rectangle that it owns, so that a particle on the
# border whose two estimates differ is not lost; the merging then removes duplicates.
SLACK = 0.15
# Detections of different tiles that overlap more than this are one particle.
SAME_IOU = 0.4
# Detections of different views that are closer than this many diameters are one particle.
SAME_DIAMETERS = 0.3
# Sides of tiles are multiples of the stride of the coarsest features, so that these fit.
MULTIPLE = 32
# Number of views, unless the config gives it: all for small micrographs, of up to this many squared particle diameters,
# since that costs no more than the usual number for a large one.
SMALL, ALL_VIEWS, USUAL_VIEWS = 800, len(VIEWS), 4


def detect(network: Network, prepared: Prepared, config: Config, region: Region | None = None) -> Particles:
    """Return all detections in a prepared micrograph down to a very low score, duplicates removed.

    Parameters
    ----------
    network : callable
        See `upicker.pick.network.Network`.
    prepared : Prepared
        The micrograph at the working scale, masked.
    config : Config
        Tiles, overlap, suppression, margin.
    region : Region, optional
        Detect only here, raw pixels; its surroundings are shown to the network, too. By default everywhere.

    Returns
    -------
    Particles
        Raw pixels, by falling score.
    """
    return detect_in_views(network, prepared, config, [number_of_views(prepared, config)], region)[0]


def detect_in_views(
    network: Network, prepared: Prepared, config: Config, numbers: Sequence[int], region: Region | None = None
) -> list[Particles]:
    """Return what `detect` returns with each of some numbers of views; the network is shown each view once."""
    rows, columns = _window(prepared, config, region)
    pixels = prepared.pixels[rows, columns]
    views = [_detect_in_view(network, to_view(pixels, i), config) for i in range(max(numbers))]
    views = [from_view(_suppressed(found, config), pixels.shape, i) for i, found in enumerate(views)]
    corner = np.array([columns.start, rows.start])
    return [_merged(views[:number], corner, prepared, config, region) for number in numbers]


def _merged(
    views: Sequence[Particles], corner: np.ndarray, prepared: Prepared, config: Config, region: Region | None
) -> Particles:
    """Return the detections of all views, in working pixels from a corner, as those of the micrograph."""
    # Again: where views disagree on which of two overlapping detections is the better one, both are still there.
    merged = _suppressed(fused(views, SAME_DIAMETERS * config.image.working_diameter_px), config)
    frame = prepared.frame
    xy, diameter_px = frame.to_raw(merged.xy + corner), merged.diameter_px / frame.scale
    raw = Particles.of(xy, diameter_px, merged.score, ScoreKind.PROBABILITY)
    inner = Region.inside(frame.raw_shape, (config.pick.edge_diameters or 0.0) * prepared.diameter_px)
    kept = inner.contains(raw.xy) & is_usable(prepared, raw.xy)
    if region is not None:
        kept &= region.contains(raw.xy)
    return raw.select(kept).by_score()


def number_of_views(prepared: Prepared, config: Config) -> int:
    """Return how many views of a micrograph, or of a region of it, are shown to the network."""
    if config.pick.views is not None:
        return config.pick.views
    return ALL_VIEWS if prepared.pixels.size <= SMALL * config.image.working_diameter_px**2 else USUAL_VIEWS


def _window(prepared: Prepared, config: Config, region: Region | None) -> tuple[slice, slice]:
    """Return the rows and columns of working pixels of a region and its surroundings."""
    height, width = prepared.pixels.shape
    if region is None:
        return slice(0, height), slice(0, width)
    margin = config.pick.overlap_diameters * config.image.working_diameter_px
    low, high = prepared.frame.to_working(np.array([[region.x0, region.y0], [region.x1, region.y1]]))
    ends = zip((low[1], low[0]), (high[1], high[0]), (height, width), strict=True)
    rows, columns = (_interval(first - margin, last + margin, config.train.tile_px, n) for first, last, n in ends)
    return rows, columns


def _interval(first: float, last: float, at_least: int, length: int) -> slice:
    """Return the pixels from `first` to `last` within 0..length, widened on both sides to `at_least` of them."""
    more = max(0.0, (at_least - (last - first)) / 2)
    start = int(np.clip(np.floor(first - more), 0, max(0, length - at_least)))
    return slice(start, int(np.clip(np.ceil(last + more), min(start + at_least, length), length)))


def _detect_in_view(network: Network, pixels: np.ndarray, config: Config) -> Particles:
    """Return the detections in an array at the working scale, merged over its tiles."""
    largest = MULTIPLE * max(1, config.pick.tile_px // MULTIPLE)
    overlap = min(config.pick.overlap_diameters * config.image.working_diameter_px, largest // 2)
    size, cover = tiles(pixels.shape, largest, overlap, MULTIPLE)
    batches = [cover[start : start + config.pick.batch] for start in range(0, len(cover), config.pick.batch)]
    found = [part for batch in batches for part in _detect_in_tiles(network, pixels, size, batch, config)]
    everything = Particles.concatenate(found)
    tile = np.repeat(np.arange(len(found)), [len(part) for part in found])
    return everything.select(_unsuppressed(everything, SAME_IOU, tile))


def _detect_in_tiles(
    network: Network, pixels: np.ndarray, size: tuple[int, int], batch: list[Tile], config: Config
) -> Iterator[Particles]:
    """Yield, per tile of `size`, the detections that it owns, in working pixels."""
    # Beyond the micrograph a tile is 0, as the background of a prepared one.
    corners = np.array([(tile.x, tile.y) for tile in batch])
    scores, boxes = network(cut(pixels, corners, size, "zero")[:, None])
    scores, boxes = scores.astype(np.float64), boxes.astype(np.float64)
    for tile, score, box in zip(batch, scores, boxes, strict=True):
        xy = box[:, :2] + (tile.x, tile.y)
        kept = (score >= FLOOR) & tile.owns(xy, SLACK * config.image.working_diameter_px)
        yield Particles.of(xy[kept], np.sqrt(box[kept, 2] * box[kept, 3]), score[kept])


def _suppressed(particles: Particles, config: Config) -> Particles:
    """Return detections without those that overlap better ones, if the config asks for that."""
    if config.pick.nms_iou is None:
        return particles
    return particles.select(_unsuppressed(particles, config.pick.nms_iou))


def _unsuppressed(particles: Particles, iou: float, group: np.ndarray | None = None) -> np.ndarray:
    return suppress(particles.xy, particles.diameter_px, particles.score, iou, group)
