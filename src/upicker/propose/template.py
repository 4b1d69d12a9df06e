"""A template of the particles, learned from the A-LoG proposals themselves, which finds them better.

What of a particle answers a blob filter best depends on its shape: a solid one as a whole, an elongated one by its
width, a hollow one by its wall, where its centre is not. The strongest proposals, though, have a picture in common, and
that is what to look for: the median of their boxes (a few contaminants must not make it), and of that only what does
not depend on the direction, because particles lie as they will. The picture, correlated with this template, has its
peaks where particles are, and at their centres; the strongest of those give a better template, and once more. (Many
rounds would learn the noise: what is picked because it looks like the template looks like it.)

Proposals of a wrong range of diameters are centred now on this, now on that part of the particles, or on no particles
at all. So several ranges are tried (`upicker.propose.proposals`), and each template is judged by what it explains: by
the energy in its peaks, less that in the peaks of the negative picture. A template of noise explains as much of the one
as of the other, and where no template does better, there is none.

This is not in the paper. Nothing is taken from labels: it is found anew in each data set.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

from upicker.image.boxes import cut
from upicker.image.prepare import Prepared
from upicker.propose.peaks import greedy_peaks, local_maxima

# A profile has so many steps to a diameter, and ends at so many diameters from the centre.
STEPS, SUPPORT = 32, 0.75
# Boxes reach so far, in diameters: beyond the template, they tell the level of the ice around.
REACH = 1.0
# So many of a micrograph's strongest peaks are looked at; with fewer in all than the second, nothing is told.
STRONGEST, FEWEST = 50, 20
ROUNDS = 3
# Two particles are at least so many diameters apart.
APART = 0.6


def radii() -> np.ndarray:
    """Return the distances from the centre, in diameters, where a profile is known."""
    return np.arange(round(SUPPORT * STEPS) + 1) / STEPS


def learned(pictures: Sequence[Prepared], centres: Sequence[np.ndarray]) -> np.ndarray | None:
    """Learn a template from proposals.

    Parameters
    ----------
    pictures : sequence of Prepared
        Micrographs, all at the same working scale.
    centres : sequence of np.ndarray
        `(n, 2)` of each, working pixels, column and row, the strongest first.

    Returns
    -------
    np.ndarray or None
        `(25,)` float64, the template's values at `radii`, above the ice around; None where there are too few proposals.
    """
    profile = _common(pictures, centres)
    for _ in range(ROUNDS - 1):
        if profile is None:
            return None
        profile = _common(pictures, [_strongest(picture, profile) for picture in pictures])
    return profile


def answers(pixels: np.ndarray, profile: np.ndarray, diameter: float) -> np.ndarray:
    """Correlate a picture with a template.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32, particles bright; continued by 0, the level of empty ice.
    profile : np.ndarray
        `(25,)` from `learned`.
    diameter : float
        One particle diameter, in pixels.

    Returns
    -------
    np.ndarray
        `(h, w)` float32, in standard deviations of what it would be in white noise of unit variance.
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
    """Return the `(n, 2)` rows and columns of the peaks of a map of answers above `theta`, the highest first."""
    discs = np.full(heights.shape, 2 * APART * diameter, np.float32)
    candidates = (heights > theta) & local_maxima(heights)
    return greedy_peaks(heights, discs, candidates if usable is None else candidates & usable)


def explained(picture: Prepared, profile: np.ndarray) -> tuple[float, float]:
    """Return the energy that a template explains of a micrograph, and of its negative.

    In variances of white noise: the sum of the squares of the peaks' heights. Where there is nothing but noise, the two
    are nearly equal, whatever the template.
    """
    heights = answers(picture.pixels, profile, picture.working_diameter)

    def energy(signed: np.ndarray) -> float:
        at = peaks(signed, picture.usable, picture.working_diameter)
        return float((signed[at[:, 0], at[:, 1]].astype(np.float64) ** 2).sum())

    return energy(heights), energy(-heights)


def _strongest(picture: Prepared, profile: np.ndarray) -> np.ndarray:
    """Return the `(n, 2)` columns and rows of the highest peaks of a micrograph."""
    diameter = picture.working_diameter
    return peaks(answers(picture.pixels, profile, diameter), picture.usable, diameter)[:, ::-1]


def _common(pictures: Sequence[Prepared], centres: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the profile of what the boxes around the strongest centres have in common."""
    diameter = pictures[0].working_diameter
    half = round(REACH * diameter)
    boxes = np.concatenate([_boxes(one.pixels, xy, half) for one, xy in zip(pictures, centres, strict=True)])
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
    """Return `(n, 2 half + 1, 2 half + 1)` around the first `STRONGEST` centres whose boxes are whole."""
    centres = np.rint(xy[:, ::-1]).astype(int)
    whole = np.all((centres >= half) & (centres < np.array(pixels.shape) - half), axis=1)
    return cut(pixels, centres[whole][:STRONGEST, ::-1] - half, (2 * half + 1, 2 * half + 1))
