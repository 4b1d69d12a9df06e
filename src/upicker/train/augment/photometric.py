"""Changing grey levels and sharpness; what is blanked, or where particles are, does not change."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import scipy.fft

from upicker.config import AugmentConfig
from upicker.train.augment.blank import blanked, restored, spread

# Grey levels reach to about so many sigma either way: `image.clip_sigma`.
_REACH = 5.0
# The filter's first peak lies at so many cycles per particle diameter, and this is its phase at 0 (amplitude contrast
# and what is left of low frequencies after the background is taken off).
_PEAK_CYCLES, _PHASE_RAD = (1.5, 6.0), (0.1, 0.6)


def developed(pixels: np.ndarray, diameter: float, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """Change curve, sharpness, contrast, brightness and noise at random, each as far as `config` says.

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
        blank = blanked(pixels)
    if config.gamma:
        pixels = curved(pixels, (1 + config.gamma) ** rng.uniform(-1, 1))
    if config.defocus:
        peak = _PEAK_CYCLES[0] * (_PEAK_CYCLES[1] / _PEAK_CYCLES[0]) ** rng.uniform()
        phase = rng.uniform(*_PHASE_RAD)
        pixels = refocused(pixels, diameter, (peak, phase, config.defocus * rng.uniform()), blank)
    if config.blur_diameters:
        pixels = blurred(pixels, config.blur_diameters * diameter * rng.uniform(), blank)
    gain = 1 + config.intensity * rng.uniform(-1, 1)
    pixels = pixels * np.float32(gain) + np.float32(config.intensity * rng.uniform(-1, 1))
    level = config.noise * rng.uniform()
    pixels = pixels + np.float32(level) * rng.standard_normal(pixels.shape, np.float32)
    return restored(pixels, blank) if config.keep_blank else pixels


def curved(pixels: np.ndarray, exponent: float) -> np.ndarray:
    """Bend the grey levels by a power; 0, the background, and the slope there stay.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32.
    exponent : float
        > 1 makes bright brighter and dark less dark; 1 changes nothing but that levels below -5 become -5.
    """
    positive = np.maximum(pixels * np.float32(1 / _REACH) + np.float32(1), np.float32(0))
    return (cv2.pow(positive, exponent) - np.float32(1)) * np.float32(_REACH / exponent)


def blurred(pixels: np.ndarray, sigma_px: float, blank: np.ndarray | None = None) -> np.ndarray:
    """Blur with a Gaussian; mean and standard deviation of what is not blank stay, and so does what is.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32.
    sigma_px : float
        The Gaussian's standard deviation; below 0.1 nothing is done.
    blank : np.ndarray, optional
        `(h, w)` bool.
    """
    if sigma_px < 0.1:
        return pixels
    return _as_before(cv2.GaussianBlur(pixels, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101), pixels, blank)


def refocused(
    pixels: np.ndarray, diameter: float, lens: tuple[float, float, float], blank: np.ndarray | None = None
) -> np.ndarray:
    """Filter as if a lens of another defocus had come on top; moments and blanks stay as in `blurred`.

    The filter is ``1 + weight (sin(phase + (pi / 2 - phase) (q / peak)^2) - 1)``: a contrast transfer function at
    scales where the spherical aberration does not count, `weight` of it. Particles stay bright, and get rings.

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
    # Without a border, what lies at one rim would ring at the opposite one.
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
    """Give `pixels` the moments that `before` has outside of `blank`, and its blanks."""
    (mean, deviation), (wanted, width) = spread(pixels, blank), spread(before, blank)
    if deviation == 0:
        return before
    pixels = (pixels - np.float32(mean)) * np.float32(width / deviation) + np.float32(wanted)
    return restored(pixels, blank)
