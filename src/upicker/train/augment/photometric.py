"""Photometric augmentation: grey levels and sharpness. Blanked pixels and positions of particles do not change."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import scipy.fft

from upicker.config import AugmentConfig
from upicker.train.augment.blank import blank_mask, moments, with_blank

# Grey levels lie within about this many sigma: `image.clip_sigma`.
_LIMIT = 5.0
# Position of the filter's first peak in cycles per particle diameter, and its phase at frequency 0 (amplitude contrast,
# and low frequencies that remain after background subtraction).
_PEAK_CYCLES, _PHASE_RAD = (1.5, 6.0), (0.1, 0.6)


def photometric(pixels: np.ndarray, diameter: float, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Change gamma, sharpness, contrast, brightness and noise at random, each within the limits of `config`.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32, background about 0, robust sigma about 1; not modified.
    diameter : float
        One particle diameter, in pixels.
    config : AugmentConfig
        The strengths.
    rng : np.random.Generator
        The only source of randomness.

    Returns
    -------
    np.ndarray
        `(h, w)` float32.
    """
    blank = None
    if config.keep_blank or config.defocus or config.blur_diameters:
        blank = blank_mask(pixels)
    if config.gamma:
        pixels = gamma_adjusted(pixels, (1 + config.gamma) ** rng.uniform(-1, 1))
    if config.defocus:
        peak = _PEAK_CYCLES[0] * (_PEAK_CYCLES[1] / _PEAK_CYCLES[0]) ** rng.uniform()
        phase = rng.uniform(*_PHASE_RAD)
        pixels = defocused(pixels, diameter, (peak, phase, config.defocus * rng.uniform()), blank)
    if config.blur_diameters:
        pixels = blurred(pixels, config.blur_diameters * diameter * rng.uniform(), blank)
    gain = 1 + config.intensity * rng.uniform(-1, 1)
    pixels = pixels * np.float32(gain) + np.float32(config.intensity * rng.uniform(-1, 1))
    level = config.noise * rng.uniform()
    pixels = pixels + np.float32(level) * rng.standard_normal(pixels.shape, np.float32)
    return with_blank(pixels, blank) if config.keep_blank else pixels


def gamma_adjusted(pixels: np.ndarray, exponent: float) -> np.ndarray:
    """Apply a power law to the grey levels that keeps 0, the background, and the slope there.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32.
    exponent : float
        > 1 makes bright pixels brighter and dark ones less dark; 1 only clips levels below -5.
    """
    positive = np.maximum(pixels * np.float32(1 / _LIMIT) + np.float32(1), np.float32(0))
    return (cv2.pow(positive, exponent) - np.float32(1)) * np.float32(_LIMIT / exponent)


def blurred(pixels: np.ndarray, sigma_px: float, blank: np.ndarray | None = None) -> np.ndarray:
    """Blur with a Gaussian; mean and standard deviation outside the blank pixels are kept, and so are those pixels.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32.
    sigma_px : float
        Standard deviation of the Gaussian; below 0.1 nothing is changed.
    blank : np.ndarray, optional
        `(h, w)` bool.
    """
    if sigma_px < 0.1:
        return pixels
    return _as_before(cv2.GaussianBlur(pixels, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101), pixels, blank)


def defocused(
    pixels: np.ndarray, diameter: float, lens: tuple[float, float, float], blank: np.ndarray | None = None
) -> np.ndarray:
    """Filter as by an additional lens of another defocus; moments and blanks are kept as in `blurred`.

    The filter is ``1 + weight (sin(phase + (pi / 2 - phase) (q / peak)^2) - 1)``: a contrast transfer function
    without spherical aberration, blended in with `weight`. Particles stay bright, and get rings.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32.
    diameter : float
        One particle diameter, in pixels.
    lens : tuple of float
        The first peak in cycles per diameter, the phase in radians at frequency 0, and the weight, 0..1.
    blank : np.ndarray, optional
        `(h, w)` bool.
    """
    peak, phase, weight = lens
    # Without padding, one edge would cause rings at the opposite one.
    border = round(diameter)
    rows, columns = (scipy.fft.next_fast_len(n + 2 * border, True) for n in pixels.shape)
    below, right = rows - pixels.shape[0] - border, columns - pixels.shape[1] - border
    wide = cv2.copyMakeBorder(pixels, border, below, border, right, cv2.BORDER_REFLECT)
    square = _frequencies(rows, columns) * np.float32((diameter / peak) ** 2)
    transfer = np.sin(np.float32(phase) + np.float32(np.pi / 2 - phase) * square)
    transfer = np.float32(1 - weight) + np.float32(weight) * transfer
    wide = np.asarray(scipy.fft.irfft2(np.asarray(scipy.fft.rfft2(wide)) * transfer, s=(rows, columns)))
    inner = wide[border : border + pixels.shape[0], border : border + pixels.shape[1]]
    return _as_before(np.ascontiguousarray(inner, np.float32), pixels, blank)


@lru_cache(maxsize=4)
def _frequencies(rows: int, columns: int) -> np.ndarray:
    """Squares of the frequencies of `scipy.fft.rfft2`, `(rows, columns // 2 + 1)` float32, in (cycles / pixel)^2."""
    square = np.add.outer(scipy.fft.fftfreq(rows) ** 2, scipy.fft.rfftfreq(columns) ** 2).astype(np.float32)
    square.flags.writeable = False
    return square


def _as_before(pixels: np.ndarray, before: np.ndarray, blank: np.ndarray | None) -> np.ndarray:
    """Give `pixels` the moments that `before` has outside `blank`, and set blank pixels to 0."""
    (mean, deviation), (new_mean, new_deviation) = moments(pixels, blank), moments(before, blank)
    if deviation == 0:
        return before
    pixels = (pixels - np.float32(mean)) * np.float32(new_deviation / deviation) + np.float32(new_mean)
    return with_blank(pixels, blank)
