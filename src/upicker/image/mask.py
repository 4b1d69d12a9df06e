"""The built-in contamination mask: which parts of a prepared micrograph are usable ice.

It looks for five things, all relative to the picture itself, so that neither the dose nor the camera
matters: frames (rims that only repeat their neighbours, as aligned movies have), blobs and lines that are far
darker or brighter than particles (contaminants, carbon edges, cracks), large areas off the ice's grey level
(carbon, broken film), areas whose fine structure is far stronger or weaker than elsewhere (crystalline
ice, carbon, holes), and small areas that all of this cuts off from the rest (the film behind a carbon edge).
It is classical image processing and no neural network: it cannot see a faint contaminant of the size and darkness
of a particle, nor tell that a whole picture is crystalline.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from upicker.config import ImageConfig
from upicker.image.filters import robust
from upicker.image.prepare import Prepared

GRID_PER_DIAMETER = 8
"""The mask is computed on a grid of so many pixels per particle diameter."""

SCALES = (0.25, 0.5, 1.0)
"""Widths (standard deviations, in diameters) at which the darkness of blobs is compared."""

DARKER = 2.0
"""So many times darker than the particles' own 90 % quantile is no particle."""

BRIGHTER = 3.0
"""The same towards bright, where defocus rings of good particles reach, too."""

LARGER, DOZEN_FACTOR = 2.0, 1.5
"""What covers less than so many particles must be so many times as dark as the twelfth darkest blob."""

ROUGHER, SMOOTHER = 1.8, 0.4
"""Local standard deviation of the fine structure, against the picture's median: beyond these it is no ice."""

CUT_OFF = 0.25
"""An area that what is unusable cuts off from a larger one must be at least so many times as large to count."""

FRAME_SHARE, FRAME_CONTRAST = 0.1, 0.35
"""A frame reaches at most so far into the picture, and its lines differ by less than so much of the usual."""


def usable(prepared: Prepared, config: ImageConfig) -> np.ndarray:
    """Mark usable ice.

    Parameters
    ----------
    prepared : Prepared
        `(h, w)`; its `unflattened` picture is looked at where there is one.
    config : ImageConfig
        The preparation's config; `flatten_diameters` bounds what counts as background.

    Returns
    -------
    np.ndarray
        `(h, w)` bool, True = usable ice, at the working scale.
    """
    picture = prepared.pixels if prepared.unflattened is None else prepared.unflattened
    rows, columns = picture.shape
    diameter = prepared.working_diameter
    factor = min(1.0, GRID_PER_DIAMETER / diameter)
    size = max(8, round(columns * factor)), max(8, round(rows * factor))
    step = diameter * size[0] / columns
    framed = _frame(picture)
    inner = cv2.resize(framed.astype(np.float32), size, interpolation=cv2.INTER_AREA) == 0
    if inner.sum() < 64:
        inner[:] = True
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    # The frame counts as ice from here on: its stripes must not leak into the good picture beside it.
    small = np.where(inner, small - _surface(small, inner), np.float32(0))
    bad = _outstanding(small, inner, step)
    bad |= _textured(small, inner & ~_dilated(bad, 0.5 * step), step)
    bad = _dilated(bad, 0.5 * step)
    bad |= _cut_off(~bad & inner)
    bad = cv2.resize(bad.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR) >= 0.5
    return ~(bad | framed)


def masked(prepared: Prepared, config: ImageConfig) -> Prepared:
    """Return the prepared micrograph with all that is not usable ice set to 0, the background (if `config.mask`).

    Stripes of a frame and strong contaminants would otherwise be picked, and would spoil the network's
    normalisation of the good ice beside them.
    """
    if not config.mask:
        return prepared
    return blanked(replace(prepared, usable=usable(prepared, config)))


def blanked(prepared: Prepared) -> Prepared:
    """Return the prepared micrograph with 0, the background, where it is known not to be usable."""
    if prepared.usable is None:
        return prepared
    return replace(prepared, pixels=np.where(prepared.usable, prepared.pixels, np.float32(0)))


def is_usable(prepared: Prepared, xy: np.ndarray) -> np.ndarray:
    """Tell, as `(n,)` bool, which `(n, 2)` raw positions lie in usable ice; all, where nobody has looked."""
    if prepared.usable is None:
        return np.ones(len(xy), bool)
    rows, columns = prepared.usable.shape
    x, y = np.rint(prepared.frame.to_working(xy)).astype(int).T
    return prepared.usable[np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)]


def _frame(picture: np.ndarray) -> np.ndarray:
    """Find rims made of repeated lines, as motion correction leaves them; `(h, w)` bool, True = frame."""
    rows, columns = picture.shape
    framed = np.zeros(picture.shape, bool)
    down = np.median(np.abs(np.diff(picture[:, ::3], axis=0)), axis=1)
    across = np.median(np.abs(np.diff(picture[::3], axis=1)), axis=0)
    framed[: _depth(down)] = True
    framed[rows - _depth(down[::-1]) :] = True
    framed[:, : _depth(across)] = True
    framed[:, columns - _depth(across[::-1]) :] = True
    return framed


def _depth(change: np.ndarray) -> int:
    """How many first lines of a picture belong to its frame, from the change between neighbouring lines.

    The first three lines are ignored: there the Fourier crop rings against the opposite rim.
    """
    low = change[: int(FRAME_SHARE * len(change))] < FRAME_CONTRAST * np.median(change)
    if len(low) < 6:
        return 0
    share = np.cumsum(low[3:]) / np.arange(1, len(low) - 2)
    deep = np.flatnonzero(low[3:] & (share >= 0.7))
    return int(deep[-1]) + 3 + 3 if len(deep) and deep[-1] >= 1 else 0


def _surface(small: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Fit a quadratic surface that outliers do not pull: the ice's thickness over the whole picture."""
    rows, columns = small.shape
    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    good = inner.copy()
    fitted = np.zeros(small.shape)
    for _ in range(6):
        chosen = terms[good]
        ridge = 1e-9 * len(chosen) * np.eye(terms.shape[-1])
        fitted = terms @ np.linalg.solve(chosen.T @ chosen + ridge, chosen.T @ small[good])
        residual = small - fitted
        centre, sigma = robust(residual[good][:, None])
        near = inner & (np.abs(residual - centre) < 2.5 * sigma)
        if near.sum() < 64:
            break
        good = near
    return fitted.astype(np.float32)


def _outstanding(small: np.ndarray, inner: np.ndarray, step: float) -> np.ndarray:
    """Find what is far darker or brighter than particles at some scale, and what hangs together with it.

    In a nearly empty picture a good particle is far darker than the usual blob, which is noise. So what is no larger
    than a few particles must also be darker than the picture's darkest dozen, and that dozen must be particles:
    darker than noise is bright.
    """
    bad = np.zeros(small.shape, bool)
    for scale in SCALES:
        few_particles = LARGER * np.pi / 4 * ((1 + scale) * step) ** 2
        # What is found is taken out: else a strong blob would grow with every wider Gaussian.
        small = np.where(_dilated(bad, SCALES[0] * step), np.float32(0), small)
        smooth = _blurred(small, scale * step)
        smooth = smooth - np.float32(np.median(smooth[inner]))
        edges = _blurred(small, scale / 2 * step)
        levels = {sign: _peak_levels(sign * smooth, inner) for sign in (1, -1)}
        for sign, factor in ((1, DARKER), (-1, BRIGHTER)):
            usual, dozenth = levels[sign]
            level = factor * usual
            seeds = sign * smooth > level
            if seeds.any():
                # The smooth picture says that there is something, a finer one where its edge is. Half the dozenth
                # height keeps apart particles that nearly touch.
                reach = max(level, dozenth) / 2
                wide = (sign * smooth > reach) & (sign * edges > reach / 2)
                crowded = dozenth > DOZEN_FACTOR * levels[-sign][1]
                # Far above the noise, even a particle's skirts are wide: there its area at half its height counts.
                extent = wide if crowded else _upper_halves(sign * smooth, wide)
                bad |= _components(extent, seeds & extent, few_particles)
                # At a whole diameter two neighbours look like one of twice the darkness.
                if scale < 1 and crowded:
                    bad |= _components(wide, seeds & (sign * smooth > DOZEN_FACTOR * dozenth), 0)
    return bad


def _peak_levels(smooth: np.ndarray, inner: np.ndarray) -> tuple[float, float]:
    """Return the height that one in ten of the picture's blobs exceeds (at least 3 sigma), and the 12th highest."""
    top = (smooth >= cv2.dilate(smooth, np.ones((3, 3), np.uint8))) & (smooth > 0) & inner
    _, sigma = robust(smooth[inner][:, None])
    heights = np.sort(smooth[top])[::-1]
    if len(heights) < 12:
        return 3 * sigma, 3 * sigma
    return max(float(np.quantile(heights, 0.9)), 3 * sigma), float(heights[11])


def _textured(small: np.ndarray, inner: np.ndarray, step: float) -> np.ndarray:
    """Find areas whose fine structure is far stronger or weaker than that of the picture's median.

    What is known to be no ice has no weight: the edge of a contaminant must not spoil what lies beside it.
    """
    if inner.sum() < 64:
        return np.zeros(small.shape, bool)
    fine = small - _blurred(small, step)
    _, sigma = robust(fine[inner][:, None])
    energy = _blurred(np.where(inner, np.minimum(fine * fine, (3 * sigma) ** 2), np.float32(0)), 1.5 * step)
    weight = _blurred(inner.astype(np.float32), 1.5 * step)
    energy = energy / np.maximum(weight, 1e-3)
    local = np.sqrt(np.maximum(energy, 0) / max(float(np.median(energy[inner])), 1e-12))
    return ((local > ROUGHER) | (local < SMOOTHER)) & (weight > 0.1) & inner


def _cut_off(good: np.ndarray) -> np.ndarray:
    """Find parts of the usable area that are much smaller than its largest one.

    A carbon edge stands out as a line; the film behind it has the grey level of the ice when the background is
    flattened, and a texture that looks like particles.
    """
    parts = np.asarray(cv2.connectedComponents(good.astype(np.uint8), connectivity=4)[1], np.int32)
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return good & (areas < CUT_OFF * areas.max())[parts]


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), max(sigma, 0.3), borderType=cv2.BORDER_REFLECT)


def _dilated(bad: np.ndarray, radius: float) -> np.ndarray:
    """Widen an area by `radius` pixels."""
    if not bad.any():
        return bad
    return cv2.distanceTransform((~bad).astype(np.uint8), cv2.DIST_L2, 5) <= radius


def _upper_halves(heights: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Keep of each connected part of `wide` what is higher than half its highest pixel."""
    parts = np.asarray(cv2.connectedComponents(wide.astype(np.uint8), connectivity=8)[1], np.int32)
    highest = np.zeros(parts.max() + 1, np.float32)
    np.maximum.at(highest, parts.ravel(), heights.ravel())
    return wide & (heights > highest[parts] / 2)


def _components(wide: np.ndarray, seeds: np.ndarray, area: float) -> np.ndarray:
    """Keep the connected parts of `wide` that hold a seed and more than `area` pixels."""
    parts = np.asarray(cv2.connectedComponents(wide.astype(np.uint8), connectivity=8)[1], np.int32)
    kept = np.zeros(parts.max() + 1, bool)
    kept[parts[seeds & wide]] = True
    return (kept & (np.bincount(parts.ravel()) > area))[parts]
