"""What a whole micrograph looks like from afar: large areas that are no ice, structure that is no particle, crystals.

All is measured on a small picture of `SMALL_PX` a side, in units of its finest noise, so that neither the dose nor the
camera matters; except for the spectra, which need finer pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

from upicker.config import ImageConfig
from upicker.errors import InputError
from upicker.image.filters import robust
from upicker.image.mask import usable
from upicker.image.prepare import prepare
from upicker.image.repair import repaired, sampled
from upicker.particles import Micrograph

SMALL_PX = 256
"""Shorter side of the small picture."""

LEAST_PX = 64
"""Shorter side of the smallest micrograph."""

SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Standard deviations of Gaussians, in its pixels: the differences of neighbouring ones are bands."""

MASKED_AT = 16
"""The contamination mask looks for what is far from particles of this fraction of the side."""

DARK_SIGMAS = 6.0
"""So many standard deviations of the noise darker is no chance."""

SPECTRUM_PX, TILE_PX = 1000, 256
"""Shorter side of the picture whose spectrum tells whether there is ice, and side of the tiles of all spectra."""

ICE_A, SPOT = (3.35, 4.0), 25.0
"""Spacings of ice lattices (3.44, 3.67, 3.9 A) and what is around them; a spot is so many times as strong as the mean:
of noise, not one of 10^10 values is."""


@dataclass(frozen=True)
class Texture:
    """What a micrograph looks like from afar.

    Attributes
    ----------
    usable : float
        Share of its area that the contamination mask leaves, 0..1.
    film : float
        Share of the largest single area that the mask leaves out: carbon film, metal, a large contaminant.
    grain, coarse : float
        Structure of about 1/40 and of about 1/5 of the side, in the usable area, as a multiple of the finest noise.
    mottled : float
        Structure of about 1/80 of the side by that of about 1/10: crystalline ice has both, contaminants are large.
    dark : float
        Share of the usable area that is darker than noise is.
    ringing : float
        How far the spectrum is from smooth, as natural logarithm of its power: ice has Thon rings, a hole has none.
    spots : float
        Share of the micrograph with spots of an ice lattice; NaN where pixels are too large or of unknown size.
    """

    usable: float
    film: float
    grain: float
    coarse: float
    mottled: float
    dark: float
    ringing: float
    spots: float


def texture(micrograph: Micrograph, config: ImageConfig) -> Texture:
    """Measure what a micrograph looks like from afar.

    Parameters
    ----------
    micrograph : Micrograph
        `(H, W)` raw pixels.
    config : ImageConfig
        Config of the preprocessing.

    Raises
    ------
    UPickerError
        If it is no micrograph, see `upicker.image.prepare.prepare`, or too small.
    """
    if min(micrograph.shape) < LEAST_PX:
        rows, columns = micrograph.shape
        found = f"its sides of {columns} x {rows} px are too short to tell what it looks like"
        raise InputError(
            micrograph.path or micrograph.name, found, f"Give micrographs of at least {LEAST_PX} px a side"
        )
    bands = [*repaired(micrograph, sampled(micrograph), hot=config.repair)]
    pixels = np.concatenate(bands)
    good = _usable(micrograph, pixels, config)
    small = _reduced(pixels, SMALL_PX)
    small = small if config.particles == "dark" else -small
    inside = cv2.resize(good.astype(np.float32), small.shape[::-1], interpolation=cv2.INTER_AREA) > 0.5
    steps = _bands(small, inside)
    finest, *scales = (robust(band[inside][:, None])[1] for band in steps) if inside.any() else (1.0,) * 6
    finest = finest or 1.0
    return Texture(
        usable=float(good.mean()),
        film=_largest(~good),
        grain=scales[1] / finest,
        coarse=scales[4] / finest,
        mottled=scales[0] / (scales[3] or 1.0),
        dark=_dark(small, inside, finest),
        ringing=ringing(_reduced(pixels, SPECTRUM_PX)),
        spots=spots(pixels, micrograph.pixel_size_A),
    )


def _usable(micrograph: Micrograph, pixels: np.ndarray, config: ImageConfig) -> np.ndarray:
    """Return the usable area, `(h, w)` bool, as seen from afar."""
    reduced = Micrograph(_reduced(pixels, 2 * SMALL_PX), micrograph.name, None, micrograph.path)
    prepared = prepare(reduced, min(reduced.shape) / MASKED_AT, config)
    return usable(prepared, config)


def _reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return the means of squares of pixels, so that the shorter side is at least `side`, if it was before."""
    factor = max(1, min(pixels.shape) // side)
    rows, columns = (length // factor for length in pixels.shape)
    whole = np.ascontiguousarray(pixels[: rows * factor, : columns * factor], np.float32)
    shorter = min(rows, columns)
    if side == SMALL_PX < shorter:  # exactly: bands are fractions of the side
        rows, columns = (round(length * side / shorter) for length in (rows, columns))
    return cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)


def _bands(small: np.ndarray, inside: np.ndarray) -> list[np.ndarray]:
    """Return the differences of neighbouring Gaussians; what is not usable counts as the median."""
    level = np.median(small[inside]) if inside.any() else 0.0
    small = np.where(inside, small, np.float32(level))
    smooth = [small, *(cv2.GaussianBlur(small, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for sigma in SIGMAS)]
    return [one - other for one, other in zip(smooth[:-1], smooth[1:], strict=True)]


def _largest(bad: np.ndarray) -> float:
    """Return the share of the largest connected area."""
    parts, _, statistics, _ = cv2.connectedComponentsWithStats(bad.astype(np.uint8))
    return float(statistics[1:, cv2.CC_STAT_AREA].max()) / bad.size if parts > 1 else 0.0


def _dark(small: np.ndarray, inside: np.ndarray, finest: float) -> float:
    """Return the share of the usable area that is darker than noise, which falls as one over the Gaussian's sigma."""
    if not inside.any():
        return 1.0
    near, far = (cv2.GaussianBlur(small, (0, 0), SIGMAS[at], borderType=cv2.BORDER_REFLECT) for at in (2, 4))
    difference = (near - far)[inside]
    level = robust(difference[:, None])[0] - DARK_SIGMAS * 0.28 * finest / SIGMAS[2]
    return float((difference < level).mean())


def ringing(pixels: np.ndarray) -> float:
    """Return how far the logarithm of the radial power spectrum is from a cubic, as its standard deviation.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)`, finite.
    """
    size = min(TILE_PX, min(pixels.shape) // 4)  # of few tiles the spectrum would be rough by chance
    power = np.median(_tile_spectra(pixels, size, size // 2), axis=0)  # without hot pixels and contaminants
    frequency = _frequencies(size)
    bins = 60
    which = np.minimum((2 * frequency * bins).astype(int), bins).ravel()
    counts = np.maximum(np.bincount(which, minlength=bins + 1), 1)
    radial = np.log(np.maximum(np.bincount(which, power.ravel(), bins + 1) / counts, 1e-30))[6:54]
    x = np.linspace(-1, 1, len(radial))
    return float((radial - np.polyval(np.polyfit(x, radial, 3), x)).std())


def spots(pixels: np.ndarray, pixel_size_A: float | None) -> float:
    """Return the share of tiles whose spectrum has a spot at the spacings of ice lattices.

    The power of noise is distributed as exp(-power / mean), whatever the noise. The axes are left out, where cameras
    and compressed files have lines.

    Parameters
    ----------
    pixels : np.ndarray
        `(H, W)`, finite.
    pixel_size_A : float or None
        Angstrom per pixel.

    Returns
    -------
    float
        0..1, or NaN where pixels are too large or of unknown size.
    """
    size = min(2 * TILE_PX, *pixels.shape)
    if pixel_size_A is None or 2.1 * pixel_size_A > ICE_A[0]:
        return float("nan")
    frequency = _frequencies(size) / pixel_size_A
    row, column = np.abs(fft.fftfreq(size))[:, None], np.abs(fft.rfftfreq(size))[None, :]
    ring = (frequency > 1 / ICE_A[1]) & (frequency < 1 / ICE_A[0]) & (row > 4 / size) & (column > 4 / size)
    power = _tile_spectra(pixels, size, size)[:, ring]
    return float((power.max(1) > SPOT * np.median(power, axis=1) / np.log(2)).mean())


def _tile_spectra(pixels: np.ndarray, size: int, step: int) -> np.ndarray:
    """Return the power spectra, `(n, size, size // 2 + 1)`, of at most 64 tiles at even distances."""
    corners = [
        (row, column)
        for row in range(0, pixels.shape[0] - size + 1, step)
        for column in range(0, pixels.shape[1] - size + 1, step)
    ]
    corners = corners[:: -(-len(corners) // 64)]
    window = np.hanning(size).astype(np.float32)
    window = window[:, None] * window
    tiles = np.stack([pixels[row : row + size, column : column + size] for row, column in corners]).astype(np.float32)
    tiles -= tiles.mean((1, 2), keepdims=True)
    return np.abs(np.asarray(fft.rfft2(tiles * window))) ** 2


def _frequencies(size: int) -> np.ndarray:
    """Return the frequencies of a half spectrum, `(size, size // 2 + 1)`, cycles per pixel."""
    return np.hypot(fft.fftfreq(size)[:, None], fft.rfftfreq(size)[None, :])
