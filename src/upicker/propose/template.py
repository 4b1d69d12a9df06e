"""A template of the particles, learned from the A-LoG proposals themselves, which finds particles more accurately.

The part of a particle with the largest response to a blob filter depends on its shape: the whole of a solid one, the
width of an elongated one, but the wall of a hollow one, away from its centre. The boxes of the strongest proposals,
however, have the particle in common: their median (robust against a few contaminants), of which the rotational mean is
kept, because the orientation is random, is the template. The correlation of the micrograph with it has peaks at the
particles' centres; the strongest of them give a better template, for a few iterations. (Many iterations would learn the
noise, since boxes picked for their similarity to the template reinforce it.)

With a wrong range of diameters, proposals are centred on varying parts of the particles, or on none. So several ranges
are tried (`upicker.propose.proposals`), and each template is judged by the energy that it explains: that in its peaks,
minus that in the peaks of the negative. A template of noise explains as much of one as of the other; if no template
does better, none is used.

This is not in the paper. It uses no labels and is learned anew for each data set.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

from upicker.image.boxes import cut
from upicker.image.prepare import Prepared
from upicker.propose.peaks import greedy_peaks, local_maxima

# Samples of a profile per diameter, and its end, in diameters from the centre.
STEPS, SUPPORT = 32, 0.75
# Half the side of the boxes, in diameters: beyond the template, they give the level of the surrounding ice.
REACH = 1.0
# Number of the strongest peaks used per micrograph; with fewer than the second in total, no template is learned.
STRONGEST, FEWEST = 50, 20
ROUNDS = 3
# Least distance of two particles, in diameters.
APART = 0.6


def radii() -> np.ndarray:
    """Return the distances from the centre, in diameters, at which a profile is sampled."""
    return np.arange(round(SUPPORT * STEPS) + 1) / STEPS


def learn(micrographs: Sequence[Prepared], centres: Sequence[np.ndarray]) -> np.ndarray | None:
    """Learn a template from proposals.

    Parameters
    ----------
    micrographs : sequence of Prepared
        Micrographs, all at the same working scale.
    centres : sequence of np.ndarray
        `(n, 2)` of each, working pixels, column and row, the strongest first.

    Returns
    -------
    np.ndarray or None
        `(25,)` float64, the template's values at `radii`, above the surrounding ice; None with too few proposals.
    """
    profile = _median_profile(micrographs, centres)
    for _ in range(ROUNDS - 1):
        if profile is None:
            return None
        profile = _median_profile(micrographs, [_strongest(micrograph, profile) for micrograph in micrographs])
    return profile


def correlate(pixels: np.ndarray, profile: np.ndarray, diameter: float) -> np.ndarray:
    """Correlate an image with a template.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32, particles bright; padded with 0, the level of empty ice.
    profile : np.ndarray
        `(25,)` from `learn`.
    diameter : float
        One particle diameter, in pixels.

    Returns
    -------
    np.ndarray
        `(h, w)` float32, in standard deviations of the correlation with white noise of unit variance.
    """
    half = int(np.ceil(SUPPORT * diameter))
    reach = np.arange(-half, half + 1)
    distance = np.hypot(reach[:, None], reach) / diameter
    inside = distance <= SUPPORT
    template = np.where(inside, np.interp(distance, radii(), profile), 0)
    template = np.where(inside, template - template[inside].mean(), 0)
    template /= max(float(np.linalg.norm(template)), 1e-12)
    shape = tuple(fft.next_fast_len(n + 2 * half, real=True) for n in pixels.shape)
    spectrum = np.asarray(fft.rfft2(np.pad(pixels.astype(np.float32, copy=False), half), shape))
    spectrum *= np.conj(np.asarray(fft.rfft2(template.astype(np.float32), shape)))
    return np.asarray(fft.irfft2(spectrum, shape))[: pixels.shape[0], : pixels.shape[1]]


def peaks(heights: np.ndarray, usable: np.ndarray | None, diameter: float, theta: float = 0.0) -> np.ndarray:
    """Return the `(n, 2)` rows and columns of the peaks of a correlation map above `theta`, the highest first."""
    discs = np.full(heights.shape, 2 * APART * diameter, np.float32)
    candidates = (heights > theta) & local_maxima(heights)
    return greedy_peaks(heights, discs, candidates if usable is None else candidates & usable)


def explained_energy(micrograph: Prepared, profile: np.ndarray) -> tuple[float, float]:
    """Return the energy that a template explains of a micrograph, and of its negative.

    The sum of the squared heights of the peaks, in variances of white noise. In pure noise the two are nearly equal,
    whatever the template.
    """
    heights = correlate(micrograph.pixels, profile, micrograph.working_diameter)

    def energy(signed: np.ndarray) -> float:
        at = peaks(signed, micrograph.usable, micrograph.working_diameter)
        return float((signed[at[:, 0], at[:, 1]].astype(np.float64) ** 2).sum())

    return energy(heights), energy(-heights)


def _strongest(micrograph: Prepared, profile: np.ndarray) -> np.ndarray:
    """Return the `(n, 2)` columns and rows of the highest peaks of a micrograph."""
    diameter = micrograph.working_diameter
    return peaks(correlate(micrograph.pixels, profile, diameter), micrograph.usable, diameter)[:, ::-1]


def _median_profile(micrographs: Sequence[Prepared], centres: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the rotational mean of the median box around the strongest centres."""
    diameter = micrographs[0].working_diameter
    half = round(REACH * diameter)
    boxes = np.concatenate([_boxes(one.pixels, xy, half) for one, xy in zip(micrographs, centres, strict=True)])
    if len(boxes) < FEWEST:
        return None
    reach = np.arange(-half, half + 1)
    distance = np.hypot(reach[:, None], reach)
    ring = distance.astype(int).ravel()
    area = np.bincount(ring)
    mean = np.bincount(ring, np.median(boxes, axis=0).ravel()) / area
    radius = np.bincount(ring, distance.ravel()) / area / diameter
    around = (radius > SUPPORT) & (radius <= REACH)
    mean -= np.average(mean[around], weights=area[around])
    return np.interp(radii(), radius, mean)


def _boxes(pixels: np.ndarray, xy: np.ndarray, half: int) -> np.ndarray:
    """Return `(n, 2 half + 1, 2 half + 1)` around the first `STRONGEST` centres whose boxes lie inside."""
    centres = np.rint(xy[:, ::-1]).astype(int)
    whole = np.all((centres >= half) & (centres < np.array(pixels.shape) - half), axis=1)
    return cut(pixels, centres[whole][:STRONGEST, ::-1] - half, (2 * half + 1, 2 * half + 1))
