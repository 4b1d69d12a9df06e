"""Array -> array filters of the preprocessing pipeline; all floating point, none changes its input."""

from __future__ import annotations

import cv2
import numpy as np

from upicker import statistics


def robust(pixels: np.ndarray) -> tuple[float, float]:
    """Return median and robust standard deviation (see `upicker.statistics.robust`) of a finite image.

    Where more than half of the pixels are equal the MAD is 0, and the common standard deviation is returned.
    Large images are sampled on a regular grid: a million pixels give the median to a thousandth of sigma.
    """
    centre, sigma = statistics.robust(_sampled(pixels))
    return centre, sigma if sigma > 0 else float(pixels.std(dtype=np.float64))


def _sampled(pixels: np.ndarray) -> np.ndarray:
    """Return about a million pixels on a regular grid, or all of a smaller image."""
    step = sampling_step(pixels.shape)
    return pixels[::step, ::step]


def sampling_step(shape: tuple[int, ...]) -> int:
    """Return the step of a regular grid of about a million pixels in an image of `shape`."""
    return max(1, int(np.sqrt(shape[0] * shape[1] / 1e6)))


def filled(pixels: np.ndarray) -> np.ndarray:
    """Return an image with its non-finite pixels replaced by the median of the others, or by 0 if there are none.

    `(H, W)` float32; the input itself where all pixels are finite.
    """
    finite = np.isfinite(pixels)
    if finite.all():
        return pixels
    return np.where(finite, pixels, np.median(pixels[finite]) if finite.any() else 0).astype(np.float32)


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
    first += smooth(np.clip(residual, centre - 3 * sigma, centre + 3 * sigma, out=residual))
    return first


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
