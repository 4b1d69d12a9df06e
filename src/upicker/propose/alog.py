"""Adaptive-LoG proposals: particles without labels (the paper's "A-LoG region proposal generator").

What eq. (1) does, and its unit. ``LoG(k) = k^2/sigma^2 exp(-k^2 / 2 sigma^2)`` is, with `k` in radians per
pixel, the scale-normalised Laplacian ``-s^2 lap G_s`` of a Gaussian of ``s = 1/sigma`` pixels. In the
centre of a disc of radius `r` and contrast 1 it answers ``2 u exp(-u)`` with ``u = r^2 / (2 s^2)``, which is
highest, ``2/e``, at ``u = 1``, i.e. ``s = r / sqrt(2) = d / (2 sqrt(2))``. So the filter that answers best
to diameter `d` has ``sigma = 2 sqrt(2) / d`` radians per pixel. The paper prints ``sigma = 2/d``, which
answers best to discs of ``d sqrt(2)``. (That is not without sense: in white noise, where the answer to noise
falls with `s`, ``2/d`` has the highest signal-to-noise ratio for a disc of `d`.) Drawn discs decided.

Three things differ from the letter of the paper, each a knob, because real micrographs score better so:

- A diameter outside the range does not forbid a pixel but costs (`range_penalty`): inside a noisy particle
  some small filter nearly always answers best. With ``inf`` the rule is the paper's.
- Only local maxima are taken (`maxima`). Else the flank of a particle, just beside the zeroed disc, is the
  next highest pixel.
- The zeroed disc is 1.5 d_best wide (`disc_diameters`): neighbours cannot be nearer than one diameter, and
  d_best tends to be smaller than the whole particle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from upicker.config import ImageConfig, ProposeConfig
from upicker.errors import ConfigError
from upicker.image.prepare import Prepared
from upicker.particles import Particles
from upicker.propose.density import automatic_count
from upicker.propose.peaks import greedy_peaks, local_maxima, refined

BELOW, INSIDE, ABOVE = 4, 3, 4
# d_min and d_max in diameters where the config gives none. The paper's are 0.8 and 1.25.
RANGE = (0.6, 1.3)


@dataclass(frozen=True, eq=False)
class Answers:
    """What the filters say, pixel by pixel.

    Attributes
    ----------
    best : np.ndarray
        `(h, w)` float32, LoG_best: the highest answer of all filters.
    inside : np.ndarray
        `(h, w)` float32, the highest answer of the filters inside the diameter range.
    inside_index : np.ndarray
        `(h, w)` uint8, which of those it was: 0, 1 or 2.
    """

    best: np.ndarray
    inside: np.ndarray
    inside_index: np.ndarray


def filter_diameters(d_min: float, d_max: float) -> np.ndarray:
    """Return the diameters that the 11 filters are tuned to, in the unit of `d_min` and `d_max`.

    They form one geometric series, because the width of the filters' tuning is a ratio, too. Its three middle
    members divide ``d_min..d_max`` so that the borders between in- and outside, halfway between two
    filters, fall on `d_min` and `d_max` themselves: a disc answers best at an inside filter just when its
    diameter is in the range.

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
        Diameter of the discs it answers best to.

    Returns
    -------
    np.ndarray
        `(n, m)` float32.
    """
    sigma = 2 * np.sqrt(2) / diameter_px
    y, x = (ky / sigma) ** 2, (kx / sigma) ** 2
    gauss = np.exp(-y / 2).astype(np.float32)[:, None] * np.exp(-x / 2).astype(np.float32)[None, :]
    return (y.astype(np.float32)[:, None] + x.astype(np.float32)[None, :]) * gauss


def responses(pixels: np.ndarray, diameters: np.ndarray, mirrored: bool = False) -> list[Answers]:
    """Filter a picture with the 11 LoG filters; eq. (1), in the Fourier domain.

    The picture is continued by its median, the level of empty ice: its rim is no edge to answer to, and a particle
    that the rim cuts answers inside. (Reflection would double it, and put its middle on the rim.)

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32, particles bright.
    diameters : np.ndarray
        `(11,)` from `filter_diameters`, in pixels.
    mirrored : bool
        Answer for the picture with its contrast turned over, too, at hardly more cost.

    Returns
    -------
    list of Answers
        Of the picture and, if wanted, of the mirrored one; 2/e in the centre of a disc of contrast 1.
    """
    rows, columns = pixels.shape
    margin = min(round(float(diameters[-1])), rows, columns)
    shape = tuple(fft.next_fast_len(n + 2 * margin, real=True) for n in (rows, columns))
    pads = [(margin, total - n - margin) for total, n in zip(shape, (rows, columns))]
    spectrum = fft.rfft2(np.pad(pixels.astype(np.float32, copy=False), pads, constant_values=float(np.median(pixels))))
    ky, kx = 2 * np.pi * fft.fftfreq(shape[0]), 2 * np.pi * fft.rfftfreq(shape[1])
    all_answers = [
        Answers(
            np.full((rows, columns), -np.inf, np.float32),
            np.full((rows, columns), -np.inf, np.float32),
            np.zeros((rows, columns), np.uint8),
        )
        for _ in range(1 + mirrored)
    ]
    for index, diameter in enumerate(diameters):
        answer = fft.irfft2(log_filter(ky, kx, diameter) * spectrum, s=shape, overwrite_x=True)
        answer = np.asarray(answer)[margin : margin + rows, margin : margin + columns]
        for sign, kept in zip((1, -1), all_answers):
            signed = answer if sign > 0 else -answer
            np.maximum(kept.best, signed, out=kept.best)
            if BELOW <= index < BELOW + INSIDE:
                kept.inside_index[signed > kept.inside] = index - BELOW
                np.maximum(kept.inside, signed, out=kept.inside)
    return all_answers


def propose(
    prepared: Prepared, config: ProposeConfig, image: ImageConfig, usable: np.ndarray | None = None
) -> Particles:
    """Propose particles in a prepared micrograph.

    Parameters
    ----------
    prepared : Prepared
        `(h, w)` at the working scale.
    config : ProposeConfig
        d_min, d_max, theta, K and the three knobs above.
    image : ImageConfig
        The preparation's config.
    usable : np.ndarray, optional
        `(h, w)` bool, True = usable ice; proposals elsewhere are left out, and theta is the mean inside.

    Returns
    -------
    Particles
        Raw pixels, by falling score. The score is LoG_best, less what a diameter out of range costs. The
        diameter is the nominal one: labels and boxes mean the whole particle, d_best what is dark in it.

    Raises
    ------
    ConfigError
        If the range of diameters is empty.

    Notes
    -----
    With ``top_k="auto"`` `density.automatic_count` chooses the count, and theta applies only if it is given.
    """
    limit = limit_of(config)
    low, high = range_of(config)
    diameters = filter_diameters(low * prepared.working_diameter, high * prepared.working_diameter)
    automatic = limit == "auto"
    answers = responses(prepared.pixels, diameters, mirrored=automatic)
    allowed = np.ones(prepared.pixels.shape, bool) if usable is None else usable
    theta = config.threshold
    if theta is None:
        theta = 0.0 if automatic or not allowed.any() else float(answers[0].best[allowed].mean())
    peaks, heights, score = _peaks(answers[0], allowed, theta, diameters, config)
    count = len(peaks)
    if automatic:
        count = automatic_count(heights, _peaks(answers[1], allowed, 0.0, diameters, config)[1])
    elif isinstance(limit, int):
        count = min(count, limit)
    xy = prepared.frame.to_raw(refined(score, peaks[:count])[:, ::-1])
    return Particles.of(xy, prepared.diameter_px, heights[:count])


def _peaks(
    answers: Answers, allowed: np.ndarray, theta: float, diameters: np.ndarray, config: ProposeConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return peaks `(n, 2)`, their heights `(n,)` and the map `(h, w)` they were found in."""
    score = answers.inside
    if np.isinf(config.range_penalty):
        allowed = allowed & (answers.best <= answers.inside)
    elif config.range_penalty > 0:
        score = score - np.float32(config.range_penalty) * (answers.best - answers.inside)
    candidates = allowed & (score > theta)
    if config.maxima:
        candidates &= local_maxima(score)
    discs = (config.disc_diameters * diameters[BELOW : BELOW + INSIDE])[answers.inside_index]
    peaks = greedy_peaks(score, discs, candidates)
    return peaks, score[peaks[:, 0], peaks[:, 1]].astype(np.float64), score


def range_of(config: ProposeConfig) -> tuple[float, float]:
    """Return d_min and d_max in diameters; half a range that is given is completed from `RANGE`."""
    low = RANGE[0] if config.min_ratio is None else config.min_ratio
    return low, RANGE[1] if config.max_ratio is None else config.max_ratio


def limit_of(config: ProposeConfig) -> int | str:
    """Return K as a number, ``"all"`` or ``"auto"``; raises ConfigError as `propose`."""
    low, high = range_of(config)
    if not 0 < low < high < np.inf:
        raise ConfigError(
            "propose.min_ratio, propose.max_ratio",
            f"{low:g} to {high:g} particle diameters is no range",
            "Give a smallest diameter above 0 and a largest one above that",
        )
    return config.top_k if config.top_k in ("all", "auto") else int(config.top_k)
