"""Adaptive-LoG proposals: particles without labels (the paper's "A-LoG region proposal generator").

The paper filters a micrograph with Laplacians of Gaussians of 11 sizes, some below, some within and some above the
range d_min..d_max of particle diameters. At each pixel LoG_best is the largest response, and d_best the diameter of its
filter; a pixel is a candidate if d_best is within the range and LoG_best exceeds theta. The highest candidate is taken,
the disc around it is zeroed, and so on, K times.

**Eq. (1) and its unit.** ``LoG(k) = k^2/sigma^2 exp(-k^2 / 2 sigma^2)`` is defined in the Fourier domain. With `k` in
radians per pixel it is the scale-normalised Laplacian ``-s^2 lap G_s`` of a Gaussian with a standard deviation of
``s = 1/sigma`` pixels. Its response in the centre of a disc of radius `r` and contrast 1 is ``2 u exp(-u)`` with
``u = r^2 / (2 s^2)``, which is largest, ``2/e``, at ``u = 1``, i.e. ``s = r / sqrt(2) = d / (2 sqrt(2))``. So the
filter with the largest response to diameter `d` has ``sigma = 2 sqrt(2) / d`` radians per pixel. The paper prints
``sigma = 2/d``, whose response is largest for discs of ``d sqrt(2)``. (That has its own merit: in white noise, where
the response to noise falls with `s`, ``2/d`` has the best signal-to-noise ratio for a disc of `d`.) We follow drawn
discs.

Three rules differ from the paper, each by a knob, because they are more accurate on real micrographs:

- A d_best out of range is penalised rather than forbidden (`range_penalty`): inside a noisy particle, some small filter
  nearly always has the largest response. ``inf`` is the paper's rule.
- Only local maxima are taken (`maxima`). Otherwise the next highest pixel is on the flank of the same particle, just
  outside the zeroed disc.
- The zeroed disc is 1.5 d_best wide (`disc_diameters`): neighbours are at least one diameter apart, and d_best tends to
  be smaller than the whole particle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import fft

from upicker.config import ImageConfig, ProposeConfig
from upicker.errors import ConfigError
from upicker.image.prepare import Prepared
from upicker.particles import Particles, ScoreKind
from upicker.propose.density import automatic_count
from upicker.propose.peaks import greedy_peaks, local_maxima, refined

BELOW, INSIDE, ABOVE = 4, 3, 4
# Default d_min and d_max, in particle diameters. The paper's are 0.8 and 1.25.
RANGE = (0.6, 1.3)


@dataclass(frozen=True, eq=False)
class FilterResponses:
    """The largest filter responses at each pixel.

    Attributes
    ----------
    best : np.ndarray
        `(h, w)` float32, LoG_best: the largest response of all filters.
    inside : np.ndarray
        `(h, w)` float32, the largest response of the filters inside the diameter range.
    inside_index : np.ndarray
        `(h, w)` uint8, the filter with that response: 0, 1 or 2.
    """

    best: np.ndarray
    inside: np.ndarray
    inside_index: np.ndarray


def filter_diameters(d_min: float, d_max: float) -> np.ndarray:
    """Return the diameters that the 11 filters are tuned to, in the unit of `d_min` and `d_max`.

    They form one geometric series, because the filters' bandwidth is a ratio, too. The three filters inside divide
    ``d_min..d_max`` so that the boundaries to the filters outside, halfway between two filters, are `d_min` and `d_max`
    themselves: the largest response to a disc is that of an inside filter exactly when its diameter is in the range.

    Returns
    -------
    np.ndarray
        `(11,)` float64, rising: 4 below `d_min`, 3 inside, 4 above `d_max`.
    """
    ratio = (d_max / d_min) ** (1 / INSIDE)
    return d_min * ratio ** (np.arange(-BELOW, INSIDE + ABOVE) + 0.5)


def log_filter(ky: np.ndarray, kx: np.ndarray, diameter_px: float) -> np.ndarray:
    """Return eq. (1), tuned to a diameter.

    Parameters
    ----------
    ky, kx : np.ndarray
        `(n,)`, `(m,)` frequencies in radians per pixel.
    diameter_px : float
        Diameter of the discs with the largest response.

    Returns
    -------
    np.ndarray
        `(n, m)` float32.
    """
    sigma = 2 * np.sqrt(2) / diameter_px
    y, x = (ky / sigma) ** 2, (kx / sigma) ** 2
    gauss = np.exp(-y / 2).astype(np.float32)[:, None] * np.exp(-x / 2).astype(np.float32)[None, :]
    return (y.astype(np.float32)[:, None] + x.astype(np.float32)[None, :]) * gauss


def responses(pixels: np.ndarray, diameters: np.ndarray, negative: bool = False) -> list[FilterResponses]:
    """Filter an image with the 11 LoG filters; eq. (1), in the Fourier domain.

    The image is padded with its median, the level of empty ice, so that its border is no edge that filters respond to,
    and the response to a particle cut off by the border lies inside. (Reflection would duplicate the particle, and
    centre it on the border.)

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32, particles bright.
    diameters : np.ndarray
        `(11,)` from `filter_diameters`, in pixels.
    negative : bool
        Also return the responses of the image with inverted contrast, at little extra cost.

    Returns
    -------
    list of FilterResponses
        Of the image and, if requested, of its negative; 2/e in the centre of a disc of contrast 1.
    """
    rows, columns = pixels.shape
    maxima = [
        FilterResponses(
            np.full((rows, columns), -np.inf, np.float32),
            np.full((rows, columns), -np.inf, np.float32),
            np.zeros((rows, columns), np.uint8),
        )
        for _ in range(1 + negative)
    ]
    for index, response in enumerate(_filtered(pixels, diameters, slice(None))):
        for sign, kept in zip((1, -1), maxima):
            signed = response if sign > 0 else -response
            np.maximum(kept.best, signed, out=kept.best)
            if BELOW <= index < BELOW + INSIDE:
                kept.inside_index[signed > kept.inside] = index - BELOW
                np.maximum(kept.inside, signed, out=kept.inside)
    return maxima


def _filtered(pixels: np.ndarray, diameters: np.ndarray, some: slice) -> Iterator[np.ndarray]:
    """Yield the image `(h, w)` filtered for some of the diameters, as if for all."""
    rows, columns = pixels.shape
    margin = min(round(float(diameters[-1])), rows, columns)
    shape = tuple(fft.next_fast_len(n + 2 * margin, real=True) for n in (rows, columns))
    pads = [(margin, total - n - margin) for total, n in zip(shape, (rows, columns))]
    spectrum = fft.rfft2(np.pad(pixels.astype(np.float32, copy=False), pads, constant_values=float(np.median(pixels))))
    ky, kx = 2 * np.pi * fft.fftfreq(shape[0]), 2 * np.pi * fft.rfftfreq(shape[1])
    for diameter in diameters[some]:
        response = fft.irfft2(log_filter(ky, kx, diameter) * spectrum, s=shape, overwrite_x=True)
        yield np.asarray(response)[margin : margin + rows, margin : margin + columns]


def sizes(prepared: Prepared, config: ProposeConfig, peaks: np.ndarray) -> np.ndarray:
    """Return d_best at peaks: the diameter, within d_min..d_max, of the LoG filter with the largest response.

    Between the filters, it is that of the vertex of a parabola through the responses of the best one and its
    neighbours, over the logarithm of the diameter.

    Parameters
    ----------
    prepared : Prepared
        `(h, w)` at the working scale.
    config : ProposeConfig
        d_min and d_max.
    peaks : np.ndarray
        `(n, 2)` row, column.

    Returns
    -------
    np.ndarray
        `(n,)` float64, raw pixels.
    """
    low, high = range_of(config)
    diameters = filter_diameters(low, high)
    scaled = diameters * prepared.working_diameter
    # Those inside the range, and one on either side.
    some = slice(BELOW - 1, BELOW + INSIDE + 1)
    heights = np.array([one[peaks[:, 0], peaks[:, 1]] for one in _filtered(prepared.pixels, scaled, some)], np.float64)
    best = 1 + heights[1:-1].argmax(0)
    each = np.arange(len(peaks))
    before, here, after = (heights[best + step, each] for step in (-1, 0, 1))
    bend = 2 * here - before - after
    step = np.where(bend > 0, (after - before) / (2 * np.where(bend > 0, bend, 1.0)), np.sign(after - before))
    found = diameters[some][best] * (diameters[1] / diameters[0]) ** np.clip(step, -1, 1)
    return np.clip(found, low, high) * prepared.diameter_px


def propose(
    prepared: Prepared, config: ProposeConfig, image: ImageConfig, usable: np.ndarray | None = None
) -> Particles:
    """Propose particles in a prepared micrograph.

    Parameters
    ----------
    prepared : Prepared
        `(h, w)` at the working scale.
    config : ProposeConfig
        d_min, d_max, theta, K and the three knobs of the module's description.
    image : ImageConfig
        Config of the preprocessing.
    usable : np.ndarray, optional
        `(h, w)` bool, True = usable ice; there are no proposals elsewhere, and theta is the mean inside.

    Returns
    -------
    Particles
        Raw pixels, by falling score. The score is LoG_best, less the penalty for a diameter out of range. The
        diameter is the nominal one, because labels and boxes cover the whole particle, d_best only its dark part; with
        ``propose.sizes`` it is d_best.

    Raises
    ------
    ConfigError
        If the range of diameters is empty.

    Notes
    -----
    With ``top_k="auto"`` `density.automatic_count` determines K from all peaks; theta, if it is given, applies as well.
    """
    limit = limit_of(config)
    low, high = range_of(config)
    diameters = filter_diameters(low * prepared.working_diameter, high * prepared.working_diameter)
    automatic = limit == "auto"
    filtered = responses(prepared.pixels, diameters, negative=automatic)
    allowed = np.ones(prepared.pixels.shape, bool) if usable is None else usable
    theta = config.threshold
    if automatic or (theta is None and not allowed.any()):
        theta = 0.0
    elif theta is None:
        theta = float(filtered[0].best[allowed].mean())
    peaks, heights, score = _peaks(filtered[0], allowed, theta, diameters, config)
    count = len(peaks)
    if automatic:
        count = automatic_count(heights, _peaks(filtered[1], allowed, 0.0, diameters, config)[1])
        count = min(count, above(heights, config.threshold))
    elif isinstance(limit, int):
        count = min(count, limit)
    xy = prepared.frame.to_raw(refined(score, peaks[:count])[:, ::-1])
    diameter_px = sizes(prepared, config, peaks[:count]) if config.sizes else prepared.diameter_px
    return Particles.of(xy, diameter_px, heights[:count], ScoreKind.FILTER_RESPONSE)


def above(heights: np.ndarray, threshold: float | None) -> int:
    """Return how many of the falling heights exceed a threshold; None: all."""
    return len(heights) if threshold is None else int((heights > threshold).sum())


def _peaks(
    filtered: FilterResponses, allowed: np.ndarray, theta: float, diameters: np.ndarray, config: ProposeConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return peaks `(n, 2)`, their heights `(n,)` and the score map `(h, w)`."""
    score = filtered.inside
    if np.isinf(config.range_penalty):
        allowed = allowed & (filtered.best <= filtered.inside)
    elif config.range_penalty > 0:
        score = score - np.float32(config.range_penalty) * (filtered.best - filtered.inside)
    candidates = allowed & (score > theta)
    if config.maxima:
        candidates &= local_maxima(score)
    discs = (config.disc_diameters * diameters[BELOW : BELOW + INSIDE])[filtered.inside_index]
    peaks = greedy_peaks(score, discs, candidates)
    return peaks, score[peaks[:, 0], peaks[:, 1]].astype(np.float64), score


def range_of(config: ProposeConfig) -> tuple[float, float]:
    """Return d_min and d_max in diameters; a missing end is taken from `RANGE`."""
    low = RANGE[0] if config.min_ratio is None else config.min_ratio
    return low, RANGE[1] if config.max_ratio is None else config.max_ratio


def limit_of(config: ProposeConfig) -> int | str:
    """Return K as a number, ``"all"`` or ``"auto"``; raises ConfigError as `propose`."""
    low, high = range_of(config)
    if not 0 < low < high < np.inf:
        raise ConfigError(
            "propose.min_ratio, propose.max_ratio",
            f"{low:g} to {high:g} particle diameters is an empty range",
            "The smallest diameter must be above 0, the largest above the smallest",
        )
    return config.top_k if config.top_k in ("all", "auto") else int(config.top_k)
