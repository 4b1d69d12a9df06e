"""The built-in contamination mask: which parts of a prepared micrograph are usable ice.

It detects five things, all relative to the micrograph itself, so that neither the dose nor the camera matters: frames
(borders of repeated lines, as motion correction leaves them); blobs and lines that are far darker or brighter than
particles (contaminants, carbon edges, cracks); large areas off the ice's grey level (carbon, broken film); areas whose
fine structure is far stronger or weaker than elsewhere (carbon, holes, a patch of coarse crystalline ice); and small
areas that all of this cuts off from the rest (the film behind a carbon edge). It is classical image processing, not a
neural network: it cannot detect a faint contaminant with the size and darkness of a particle, or crystalline ice in
general (97 to 99 % of three such micrographs stays usable, benchmarks/RESULTS.md).
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from upicker.config import ImageConfig
from upicker.image.filters import robust
from upicker.image.prepare import Prepared
from upicker.statistics import median

GRID_PER_DIAMETER = 8
"""Resolution at which the mask is computed, in pixels per particle diameter."""

SCALES = (0.25, 0.5, 1.0)
"""Standard deviations, in diameters, of the Gaussians at which the darkness of blobs is compared."""

DARKER = 2.0
"""Blobs darker than this multiple of the particles' own 90 % quantile are not particles."""

BRIGHTER = 3.0
"""The same for bright blobs, since defocus rings of good particles are bright, too."""

LARGER, DOZEN_FACTOR = 2.0, 1.5
"""Blobs smaller than `LARGER` particles must be `DOZEN_FACTOR` times as dark as the twelfth darkest one."""

ROUGHER, SMOOTHER = 1.8, 0.4
"""Limits of ice: local standard deviation of the fine structure, relative to the micrograph's median."""

CUT_OFF = 0.25
"""Least size of a separate usable area, relative to the largest one."""

SURFACE_PIXELS = 12_500
"""About how many pixels a surface is fitted to."""

FRAME_FRACTION, FRAME_CONTRAST = 0.1, 0.35
"""Largest width of a frame, relative to the micrograph, and of the change between its lines, relative to the median."""


def usable(prepared: Prepared, config: ImageConfig) -> np.ndarray:
    """Mark usable ice by the built-in mask.

    Parameters
    ----------
    prepared : Prepared
        `(h, w)`; its `unflattened` image is used where there is one.
    config : ImageConfig
        Config of the preprocessing; `flatten_diameters` bounds what counts as background.

    Returns
    -------
    np.ndarray
        `(h, w)` bool, True = usable ice, at the working scale.
    """
    image = prepared.pixels if prepared.unflattened is None else prepared.unflattened
    rows, columns = image.shape
    diameter = prepared.working_diameter
    factor = min(1.0, GRID_PER_DIAMETER / diameter)
    size = max(8, round(columns * factor)), max(8, round(rows * factor))
    step = diameter * size[0] / columns
    framed = _frame(image)
    inner = cv2.resize(framed.astype(np.float32), size, interpolation=cv2.INTER_AREA) == 0
    if inner.sum() < 64:
        inner[:] = True
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    # The frame counts as ice from here on: its stripes must not leak into the good area next to it.
    small = np.where(inner, small - _surface(small, inner), np.float32(0))
    bad = _outstanding(small, inner, step)
    bad |= _textured(small, inner & ~_dilated(bad, 0.5 * step), step)
    bad = _dilated(bad, 0.5 * step)
    bad |= _cut_off(~bad & inner)
    bad = cv2.resize(bad.astype(np.float32), (columns, rows), interpolation=cv2.INTER_LINEAR) >= 0.5
    return ~(bad | framed)


def with_usable(prepared: Prepared, config: ImageConfig) -> Prepared:
    """Return the prepared micrograph with its usable area: by the built-in mask, and the user's if there is one."""
    found = usable(prepared, config)
    return replace(prepared, usable=found if prepared.usable is None else found & prepared.usable)


def masked(prepared: Prepared, config: ImageConfig) -> Prepared:
    """Return the prepared micrograph with everything but usable ice set to 0, the background level.

    Stripes of a frame and strong contaminants would otherwise be picked, and would distort the network's
    normalisation of the good ice around them. The built-in mask counts if `config.mask`, the user's always.
    """
    return blanked(with_usable(prepared, config) if config.mask else prepared)


def blanked(prepared: Prepared) -> Prepared:
    """Return the prepared micrograph with 0, the background level, where it is known not to be usable."""
    if prepared.usable is None:
        return prepared
    return replace(prepared, pixels=np.where(prepared.usable, prepared.pixels, np.float32(0)))


def is_usable(prepared: Prepared, xy: np.ndarray) -> np.ndarray:
    """Return, as `(n,)` bool, which `(n, 2)` raw positions lie in usable ice; all of them without a mask."""
    if prepared.usable is None:
        return np.ones(len(xy), bool)
    rows, columns = prepared.usable.shape
    x, y = np.rint(prepared.frame.to_working(xy)).astype(int).T
    return prepared.usable[np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)]


def _frame(image: np.ndarray) -> np.ndarray:
    """Find borders of repeated lines, as motion correction leaves them; `(h, w)` bool, True = frame."""
    rows, columns = image.shape
    framed = np.zeros(image.shape, bool)
    down = np.median(np.abs(np.diff(image[:, ::3], axis=0)), axis=1)
    across = np.median(np.abs(np.diff(image[::3], axis=1)), axis=0)
    framed[: _depth(down)] = True
    framed[rows - _depth(down[::-1]) :] = True
    framed[:, : _depth(across)] = True
    framed[:, columns - _depth(across[::-1]) :] = True
    return framed


def _depth(change: np.ndarray) -> int:
    """Return how many of the first lines belong to a frame, from the change between neighbouring lines.

    The first three lines are ignored: there the Fourier crop rings with the opposite border.
    """
    low = change[: int(FRAME_FRACTION * len(change))] < FRAME_CONTRAST * np.median(change)
    if len(low) < 6:
        return 0
    fraction = np.cumsum(low[3:]) / np.arange(1, len(low) - 2)
    deep = np.flatnonzero(low[3:] & (fraction >= 0.7))
    return int(deep[-1]) + 3 + 3 if len(deep) and deep[-1] >= 1 else 0


def _surface(small: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Fit a quadratic surface, robust against outliers: the ice thickness over the whole micrograph.

    `SURFACE_PIXELS` of its pixels, on a regular grid, determine the six numbers as well as all.
    """
    step = max(1, int(np.sqrt(small.size / SURFACE_PIXELS)))
    sample = np.s_[::step, ::step]
    y, x = (np.linspace(-1, 1, n) for n in small.shape)
    terms, some = _quadratic(y[sample[0]], x[sample[1]]), small[sample]
    allowed = inner[sample] if inner[sample].sum() >= 64 else np.ones(some.shape, bool)
    good, surface = allowed, np.zeros(6)
    for _ in range(6):
        chosen = terms[good]
        ridge = 1e-9 * len(chosen) * np.eye(terms.shape[-1])
        surface = np.linalg.solve(chosen.T @ chosen + ridge, chosen.T @ some[good])
        residual = some - terms @ surface
        centre, sigma = robust(residual[good][:, None])
        near = allowed & (np.abs(residual - centre) < 2.5 * sigma)
        if near.sum() < 64:
            break
        good = near
    return _quadratic(y.astype(np.float32), x.astype(np.float32)) @ surface.astype(np.float32)


def _quadratic(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`(h)`, `(w)` -> `(h, w, 6)`: the terms of a quadratic surface."""
    x, y = np.broadcast_arrays(x, y[:, None])
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)


def _outstanding(small: np.ndarray, inner: np.ndarray, step: float) -> np.ndarray:
    """Find areas that are far darker or brighter than particles at some scale, and what is connected with them.

    In a nearly empty micrograph a good particle is far darker than the usual blob, which is noise. So an area no larger
    than a few particles must also be darker than the micrograph's darkest dozen, and that dozen must be particles:
    darker than noise is bright.
    """
    bad = np.zeros(small.shape, bool)
    for scale in SCALES:
        few_particles = LARGER * np.pi / 4 * ((1 + scale) * step) ** 2
        # Blank what was found, or a strong blob would grow with every wider Gaussian.
        small = np.where(_dilated(bad, SCALES[0] * step), np.float32(0), small)
        smooth = _blurred(small, scale * step)
        smooth = smooth - np.float32(median(smooth[inner]))
        edges = _blurred(small, scale / 2 * step)
        levels = {sign: _peak_levels(sign * smooth, inner) for sign in (1, -1)}
        for sign, factor in ((1, DARKER), (-1, BRIGHTER)):
            usual, dozenth = levels[sign]
            level = factor * usual
            seeds = sign * smooth > level
            if seeds.any():
                # The smooth image detects an area, a finer one locates its edge. Half the dozenth height separates
                # particles that nearly touch.
                reach = max(level, dozenth) / 2
                wide = (sign * smooth > reach) & (sign * edges > reach / 2)
                crowded = dozenth > DOZEN_FACTOR * levels[-sign][1]
                # Far above the noise, even a particle's flanks are wide: use its area at half its height.
                extent = wide if crowded else _upper_halves(sign * smooth, wide)
                bad |= _components(extent, seeds & extent, few_particles)
                # At a whole diameter, two neighbours resemble one particle of twice the darkness.
                if scale < 1 and crowded:
                    bad |= _components(wide, seeds & (sign * smooth > DOZEN_FACTOR * dozenth), 0)
    return bad


def _peak_levels(smooth: np.ndarray, inner: np.ndarray) -> tuple[float, float]:
    """Return the height that one in ten of the blobs exceeds (at least 3 sigma), and the 12th highest."""
    top = (smooth >= cv2.dilate(smooth, np.ones((3, 3), np.uint8))) & (smooth > 0) & inner
    _, sigma = robust(smooth[inner][:, None])
    heights = np.sort(smooth[top])[::-1]
    if len(heights) < 12:
        return 3 * sigma, 3 * sigma
    return max(float(np.quantile(heights, 0.9)), 3 * sigma), float(heights[11])


def _textured(small: np.ndarray, inner: np.ndarray, step: float) -> np.ndarray:
    """Find areas whose fine structure is far stronger or weaker than the micrograph's median.

    Areas known not to be ice have no weight: the edge of a contaminant must not affect the ice next to it.
    """
    if inner.sum() < 64:
        return np.zeros(small.shape, bool)
    fine = small - _blurred(small, step)
    _, sigma = robust(fine[inner][:, None])
    energy = _blurred(np.where(inner, np.minimum(fine * fine, (3 * sigma) ** 2), np.float32(0)), 1.5 * step)
    weight = _blurred(inner.astype(np.float32), 1.5 * step)
    energy = energy / np.maximum(weight, 1e-3)
    local = np.sqrt(np.maximum(energy, 0) / max(median(energy[inner]), 1e-12))
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


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), max(sigma, 0.3), borderType=cv2.BORDER_REFLECT)


def _dilated(bad: np.ndarray, radius: float) -> np.ndarray:
    """Widen an area by `radius` pixels."""
    if not bad.any():
        return bad
    return cv2.distanceTransform((~bad).astype(np.uint8), cv2.DIST_L2, 5) <= radius


def _upper_halves(heights: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Keep of each connected part of `wide` what is higher than half its highest pixel."""
    parts = np.asarray(cv2.connectedComponents(wide.astype(np.uint8), connectivity=8)[1], np.int32)
    highest = np.zeros(parts.max() + 1, np.float32)
    np.maximum.at(highest, parts[wide], heights[wide])
    return wide & (heights > highest[parts] / 2)


def _components(wide: np.ndarray, seeds: np.ndarray, area: float) -> np.ndarray:
    """Keep the connected parts of `wide` that hold a seed and more than `area` pixels."""
    parts = np.asarray(cv2.connectedComponents(wide.astype(np.uint8), connectivity=8)[1], np.int32)
    kept = np.zeros(parts.max() + 1, bool)
    kept[parts[seeds & wide]] = True
    return (kept & (np.bincount(parts.ravel()) > area))[parts]
