"""Array -> array filters of the preprocessing pipeline; all floating point, none changes its input."""

from __future__ import annotations

import cv2
import numpy as np

from upicker import statistics

HOT_SIGMA = 8.0
"""Raw pixels further than this from their neighbours, in robust standard deviations, are X-rays or dead pixels."""


def robust(pixels: np.ndarray) -> tuple[float, float]:
    """Return median and robust standard deviation (see `upicker.statistics.robust`) of a finite image.

    Where more than half of the pixels are equal the MAD is 0, and the common standard deviation is returned.
    Large images are sampled on a regular grid: a million pixels give the median to a thousandth of sigma.
    """
    centre, sigma = statistics.robust(_sampled(pixels))
    return centre, sigma if sigma > 0 else float(pixels.std(dtype=np.float64))


def _sampled(pixels: np.ndarray) -> np.ndarray:
    """Return about a million pixels on a regular grid, or all of a smaller image."""
    step = max(1, int(np.sqrt(pixels.size / 1e6)))
    return pixels[::step, ::step]


def filled(pixels: np.ndarray) -> np.ndarray:
    """Return an image with its non-finite pixels replaced by the median of the others, or by 0 if there are none.

    `(H, W)` float32; the input itself where all pixels are finite.
    """
    finite = np.isfinite(pixels)
    if finite.all():
        return pixels
    return np.where(finite, pixels, np.median(pixels[finite]) if finite.any() else 0).astype(np.float32)


def repaired(pixels: np.ndarray, hot: bool = True) -> np.ndarray:
    """Replace non-finite and hot pixels by the median of their neighbours.

    Only pixels that stand out of the whole micrograph are compared with their neighbours, so the cost follows
    the number of bad pixels and not the size of the micrograph. A dark contaminant stands out, too, but not of
    its neighbours: it stays.

    Parameters
    ----------
    pixels : np.ndarray
        `(H, W)` float32, at least one of them finite.
    hot : bool
        Replace hot pixels, too.

    Returns
    -------
    np.ndarray
        `(H, W)` float32, finite; the input itself where nothing is to do.
    """
    sample = _sampled(pixels)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        sample = pixels[np.isfinite(pixels)]
    centre, spread = statistics.robust(sample)
    limit = np.float32(HOT_SIGMA * (spread or float(sample.std(dtype=np.float64))))
    y, x = _beyond(pixels, np.float32(centre), limit if hot else np.float32(np.finfo(np.float32).max))
    if not len(y):
        return pixels
    out = pixels.copy()
    for start in range(0, len(y), 200_000):
        some = slice(start, start + 200_000)
        local, value = _local_median(pixels, y[some], x[some], centre), pixels[y[some], x[some]]
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
    offset = np.array([(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if dy or dx])
    yy = np.clip(y[:, None] + offset[:, 0], 0, pixels.shape[0] - 1)
    xx = np.clip(x[:, None] + offset[:, 1], 0, pixels.shape[1] - 1)
    values = pixels[yy, xx]
    values[~np.isfinite(values)] = np.inf
    values.sort(axis=1)
    count = np.isfinite(values).sum(1)
    median = values[np.arange(len(y)), np.maximum(count - 1, 0) // 2]
    return np.where(count > 0, median, np.float32(default))


def finite_fraction(pixels: np.ndarray) -> float:
    """Return which fraction of an image's pixels is finite; of a large one that looks whole, by a million of them."""
    fraction = float(np.isfinite(_sampled(pixels)).mean())
    return fraction if fraction == 1 else float(np.isfinite(pixels).mean())


def background(pixels: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return the slow background: a wide Gaussian that contaminants hardly pull.

    The residual of a first pass is clipped to three robust standard deviations before the second, so that a
    dark contaminant gets no bright halo. Reflective padding keeps the mean at the border.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32.
    sigma_px : float
        Standard deviation of the Gaussian.

    Returns
    -------
    np.ndarray
        `(h, w)` float32.
    """
    rows, columns = pixels.shape
    # A Gaussian this wide has nothing left at an eighth of its own width: filter a down-sampled image.
    factor = max(1.0, sigma_px / 8)
    small_size = max(2, round(columns / factor)), max(2, round(rows / factor))
    sigmas = sigma_px * small_size[0] / columns, sigma_px * small_size[1] / rows

    def smooth(image: np.ndarray) -> np.ndarray:
        small = cv2.resize(image, small_size, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), sigmas[0], sigmaY=sigmas[1], borderType=cv2.BORDER_REFLECT)
        return cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR)

    first = smooth(pixels)
    residual = pixels - first
    centre, sigma = robust(residual)
    return first + smooth(np.clip(residual, centre - 3 * sigma, centre + 3 * sigma))


def bilateral(pixels: np.ndarray, diameter_px: float) -> np.ndarray:
    """Edge-preserving denoising of a normalised image (the paper's bilateral filter).

    Neighbours count by distance (a twentieth of a diameter) and by likeness (two robust standard deviations).
    """
    space = max(1.0, diameter_px / 20)
    return cv2.bilateralFilter(pixels, 2 * round(1.5 * space) + 1, 2.0, space, borderType=cv2.BORDER_REFLECT)


def equalized(pixels: np.ndarray) -> np.ndarray:
    """Histogram equalisation: every grey level becomes its rank, 0..1."""
    levels, low, high = 65536, float(pixels.min()), float(pixels.max())
    index = ((pixels - low) * ((levels - 1) / max(high - low, 1e-12))).astype(np.int32)
    ranks = np.cumsum(np.bincount(index.ravel(), minlength=levels)) / pixels.size
    return ranks.astype(np.float32)[index]


def clahe(pixels: np.ndarray, diameter_px: float, limit: float) -> np.ndarray:
    """Contrast-limited adaptive histogram equalisation of a normalised image, through 16-bit grey levels.

    The squares it equalises are eight diameters wide, so that a particle never is its own background.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32 within ``-limit..limit``.
    diameter_px : float
        One particle diameter, in pixels of this image.
    limit : float
        The grey level that becomes the brightest.

    Returns
    -------
    np.ndarray
        `(h, w)` float32, 0..1.
    """
    grey = np.clip((pixels + limit) * (65535 / (2 * limit)), 0, 65535).astype(np.uint16)
    grid = (
        max(1, round(pixels.shape[1] / (8 * diameter_px))),
        max(1, round(pixels.shape[0] / (8 * diameter_px))),
    )
    return cv2.createCLAHE(clipLimit=2.0, tileGridSize=grid).apply(grey).astype(np.float32) / 65535
