"""Raw pixels, repaired: read, judged and given on band by band, so that the whole of a large micrograph is nowhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from upicker import statistics
from upicker.image.filters import sampling_step
from upicker.particles import Micrograph

HOT_SIGMA = 8.0
"""Raw pixels further than this from their neighbours, in robust standard deviations, are X-rays or dead pixels."""

BAND_ROWS = 128
# Neighbours of a pixel are this near.
_REACH = 2


def sampled(micrograph: Micrograph) -> np.ndarray:
    """Return about a million raw pixels on a regular grid, `(n, m)` float32, or all of a smaller micrograph."""
    step, rows = sampling_step(micrograph.shape), micrograph.shape[0]
    tops = range(0, rows, BAND_ROWS * step)
    return np.concatenate([micrograph.rows(top, min(top + BAND_ROWS * step, rows), step)[:, ::step] for top in tops])


def finite_fraction(micrograph: Micrograph, sample: np.ndarray) -> float:
    """Return which fraction of a micrograph's pixels is finite; of a large one that looks whole, by its sample."""
    fraction = float(np.isfinite(sample).mean())
    if fraction == 1:
        return fraction
    rows, columns = micrograph.shape
    return sum(int(np.isfinite(band).sum()) for band in _bands(micrograph)) / (rows * columns)


def repaired(micrograph: Micrograph, sample: np.ndarray, hot: bool = True) -> Iterator[np.ndarray]:
    """Replace non-finite and hot pixels by the median of their neighbours.

    Only pixels that stand out of the whole micrograph are compared with their neighbours, so the cost follows
    the number of bad pixels and not the size of the micrograph. A dark contaminant stands out, too, but not of
    its neighbours: it stays.

    Parameters
    ----------
    micrograph : Micrograph
        `(H, W)`, at least one pixel finite.
    sample : np.ndarray
        Of `sampled`.
    hot : bool
        Replace hot pixels, too.

    Yields
    ------
    np.ndarray
        Bands of rows `(n, W)` float32, finite, from the first to the last; not to be changed.
    """
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        finite = np.concatenate([band[np.isfinite(band)] for band in _bands(micrograph)])
    centre, spread = statistics.robust(finite)
    limit = np.float32(HOT_SIGMA * (spread or float(finite.std(dtype=np.float64))))
    beyond = limit if hot else np.float32(np.finfo(np.float32).max)
    rows = micrograph.shape[0]
    for top in range(0, rows, BAND_ROWS):
        first, last = max(top - _REACH, 0), min(top + BAND_ROWS + _REACH, rows)
        wide = micrograph.rows(first, last)
        inner = slice(top - first, min(top + BAND_ROWS, rows) - first)
        yield _repaired(wide, inner, (np.float32(centre), limit, beyond))


def _bands(micrograph: Micrograph) -> Iterator[np.ndarray]:
    rows = micrograph.shape[0]
    for top in range(0, rows, BAND_ROWS):
        yield micrograph.rows(top, min(top + BAND_ROWS, rows))


def _repaired(wide: np.ndarray, inner: slice, limits: tuple[np.float32, np.float32, np.float32]) -> np.ndarray:
    """Repair the inner rows of a band; the others are their neighbours."""
    centre, limit, beyond = limits
    band = wide[inner]
    y, x = _beyond(band, centre, beyond)
    if not len(y):
        return band
    out = band.copy()
    for start in range(0, len(y), 200_000):
        some = slice(start, start + 200_000)
        local, value = _local_median(wide, y[some] + inner.start, x[some], float(centre)), band[y[some], x[some]]
        with np.errstate(invalid="ignore"):
            bad = ~(np.abs(value - local) <= limit)
        out[y[some][bad], x[some][bad]] = local[bad]
    return out


def _beyond(pixels: np.ndarray, centre: np.float32, limit: np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pixels that are further than `limit` from `centre`, or not finite."""
    with np.errstate(over="ignore"):
        low, high = np.nan_to_num(np.array([centre - limit, centre + limit]))
    # Most rows hold none: their smallest and largest pixels say so, and NaN makes both NaN.
    rows = np.flatnonzero(~((pixels.min(1) >= low) & (pixels.max(1) <= high)))
    some = pixels[rows]
    which, columns = np.nonzero(~((some >= low) & (some <= high)))
    return rows[which], columns


def _local_median(pixels: np.ndarray, y: np.ndarray, x: np.ndarray, default: float) -> np.ndarray:
    """Median of the finite pixels among the 5 x 5 around each position, but itself; `default` without any."""
    offset = np.array([(dy, dx) for dy in range(-_REACH, _REACH + 1) for dx in range(-_REACH, _REACH + 1) if dy or dx])
    yy = np.clip(y[:, None] + offset[:, 0], 0, pixels.shape[0] - 1)
    xx = np.clip(x[:, None] + offset[:, 1], 0, pixels.shape[1] - 1)
    values = pixels[yy, xx]
    values[~np.isfinite(values)] = np.inf
    values.sort(axis=1)
    count = np.isfinite(values).sum(1)
    median = values[np.arange(len(y)), np.maximum(count - 1, 0) // 2]
    return np.where(count > 0, median, np.float32(default))
