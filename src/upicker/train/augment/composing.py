"""Augmentation by composition: mosaics of micrographs, particles copied to empty positions, contaminants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import scipy.fft

from upicker.train.augment.blank import blank_mask
from upicker.train.augment.geometric import apply_symmetry
from upicker.train.sample import Sample

# The seams of a mosaic run in this part of its sides.
_SEAM = (0.3, 0.7)
# A particle is copied with a soft edge of this many diameters around its disc.
_EDGE = 0.15
# Smallest distance of another particle's centre from a particle that is copied, in its diameters.
_ISOLATED = 1.1
# Positions tried per particle to paste, and the largest change of its contrast.
_TRIES, _GAIN = 40, 1.5
# Contaminants: mean radius in diameters, fraction that is blanked as by the mask, peak in sigma, fraction that is
# bright.
_RADIUS, _BLANKED, _PEAK, _BRIGHT = (0.6, 2.0), 0.5, (1.5, 5.0), 0.8
# Lobes of the outline, their largest height, and the largest radius of the outline, in mean radii.
_LOBES, _LOBE, _FARTHEST = np.arange(2, 6), 0.12, 1.5


def mosaic(draw: Callable[[int, tuple[int, int]], Sample], shape: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Compose four views, two by two.

    Parameters
    ----------
    draw : callable
        Returns the view of quarter 0..3 (upper left, upper right, lower left, lower right) of a shape.
    shape : tuple of int
        Rows, columns of the whole.
    rng : np.random.Generator
        Draws the positions of the seams.

    Returns
    -------
    Sample
        `shape`, with the particles whose centres lie in their own quarter.
    """
    row, column = (round(n * rng.uniform(*_SEAM)) for n in shape)
    spans = [(slice(y0, y1), slice(x0, x1)) for y0, y1 in ((0, row), (row, shape[0])) for x0, x1 in
             ((0, column), (column, shape[1]))]  # fmt: skip
    pixels, xy, side, sure, sized = np.empty(shape, np.float32), [], [], [], True
    for quarter, (rows, columns) in enumerate(spans):
        part = draw(quarter, (rows.stop - rows.start, columns.stop - columns.start))
        pixels[rows, columns] = part.pixels
        xy.append(part.xy + np.array([columns.start, rows.start]))
        side.append(part.side)
        sure.append(part.levels)
        sized = sized and part.sized
    return Sample(pixels, np.concatenate(xy), np.concatenate(side), np.concatenate(sure), sized)


def pasted(tile: Sample, source: Sample, count: int, rng: np.random.Generator) -> Sample:
    """Copy labelled particles to empty positions, rotated at random, with soft edges (copy-paste augmentation).

    Pixels are moved as a whole, not interpolated, and in the soft edge the squares of both weights sum to 1: a copy has
    the noise of any other position, so that it differs from its surroundings by the particle only.

    Parameters
    ----------
    tile : Sample
        Target; not modified. The discs of its particles stay unchanged.
    source : Sample
        Source, in the same units.
    count : int
        Number of copies; fewer if there are not enough isolated particles or empty positions.
    rng : np.random.Generator
        The only source of randomness.

    Returns
    -------
    Sample
        The tile, the new particles after its own.
    """
    particles = np.flatnonzero(source.is_sure)
    if not count or not len(particles):
        return tile
    pixels, xy, side, sure = tile.pixels.copy(), tile.xy, tile.side, tile.levels
    done = 0
    for index in particles[rng.permutation(len(particles))[: 8 * count]]:
        if done == count:
            break
        particle = _cut_particle(source, int(index), rng)
        if particle is None:
            continue
        corner = _empty_position(Sample(pixels, xy, side), particle, rng)
        if corner is None:  # The tile is full.
            break
        _paste(pixels, particle, corner)
        xy = np.concatenate([xy, [particle.centre_xy + corner]])
        side, sure = np.append(side, particle.side), np.append(sure, np.int8(1))
        done += 1
    return replace(tile, pixels=pixels, xy=xy, side=side, sure=sure)


@dataclass(frozen=True, eq=False)
class _Particle:
    """A square cut around a particle.

    Attributes
    ----------
    pixels : `(s, s)`.
    centre_xy : `(2,)` the particle's centre in it.
    side : of its box.
    """

    pixels: np.ndarray
    centre_xy: np.ndarray
    side: float

    def distance(self) -> np.ndarray:
        """Return `(s, s)` distances of the pixels from the centre, in box sides."""
        x, y = (np.arange(len(self.pixels)) - c for c in self.centre_xy)
        return np.sqrt(np.add.outer(y**2, x**2)) / self.side


def _cut_particle(source: Sample, index: int, rng: np.random.Generator) -> _Particle | None:
    """Cut a particle with its soft edge, rotated; None if it is not isolated, or not complete."""
    centre, side = source.xy[index], float(source.side[index])
    which = int(rng.integers(8))
    distance = np.hypot(*(source.xy - centre).T)
    distance[index] = np.inf
    half = int(np.ceil(side * (0.5 + _EDGE))) + 1
    column, row = np.rint(centre).astype(int)
    rows, columns = source.pixels.shape
    if distance.min() < _ISOLATED * side or min(row, column, rows - 1 - row, columns - 1 - column) < half:
        return None
    pixels = np.asarray(source.pixels[row - half : row + half + 1, column - half : column + half + 1], np.float32)
    if blank_mask(pixels) is not None:
        return None
    pixels, position = apply_symmetry(pixels, (centre - (column, row) + half)[None], which)
    return _Particle(pixels, position[0], side)


def _empty_position(tile: Sample, particle: _Particle, rng: np.random.Generator) -> np.ndarray | None:
    """Return column and row of a square for a particle that touches no disc and no blank; None if none is found."""
    size = len(particle.pixels)
    last = np.array(tile.pixels.shape[::-1]) - size
    if last.min() < 0:
        return None
    corners = rng.integers(last + 1, size=(_TRIES, 2))
    distance = np.hypot(*np.moveaxis((corners + particle.centre_xy)[:, None] - tile.xy, -1, 0))
    free = (distance >= tile.side / 2 + particle.side * (0.5 + _EDGE)).all(1)
    for x, y in corners[free]:
        if blank_mask(tile.pixels[y : y + size, x : x + size]) is None:
            return np.array([x, y])
    return None


def _paste(pixels: np.ndarray, particle: _Particle, corner: np.ndarray) -> None:
    """Paste a particle into `pixels`, in place; level and contrast are adapted to the new surroundings."""
    x, y = corner
    size = len(particle.pixels)
    target, distance = pixels[y : y + size, x : x + size], particle.distance()
    around = distance >= 0.5
    level, new_level = particle.pixels[around].mean(), target[around].mean()
    gain = target[around].std() / max(float(particle.pixels[around].std()), 1e-6)
    gain = np.clip(gain, 1 / _GAIN, _GAIN)
    angle = np.pi / 2 * np.clip((0.5 + _EDGE - distance) / _EDGE, 0, 1).astype(np.float32)
    new = (particle.pixels - level) * np.float32(gain)
    target[:] = np.where(angle > 0, new_level + np.sin(angle) * new + np.cos(angle) * (target - new_level), target)


def contaminated(tile: Sample, diameter: float, count: int, rng: np.random.Generator) -> Sample:
    """Add contaminants to a tile: some as they appear, some as the mask leaves them, blank.

    Parameters
    ----------
    tile : Sample
        Not modified.
    diameter : float
        One particle diameter, in pixels.
    count : int
        Number of contaminants.
    rng : np.random.Generator
        The only source of randomness.

    Returns
    -------
    Sample
        Without the particles whose centres are covered.
    """
    if not count:
        return tile
    pixels, covered = tile.pixels.copy(), np.zeros(tile.pixels.shape, bool)
    for _ in range(count):
        rows, columns = tile.pixels.shape
        centre = rng.uniform(-0.5, (columns - 0.5, rows - 0.5))
        radius = diameter * _RADIUS[0] * (_RADIUS[1] / _RADIUS[0]) ** rng.uniform()
        extent = radius * _FARTHEST
        x0, y0 = np.ceil(centre - extent).astype(int).clip(0)
        x1, y1 = np.floor(centre + extent).astype(int) + 1
        span = slice(y0, y1), slice(x0, x1)
        depth = _depth(pixels[span].shape, centre - (x0, y0), radius, rng)
        blank, height = rng.uniform() < _BLANKED, rng.uniform(*_PEAK) * (1 if rng.uniform() < _BRIGHT else -1)
        target = pixels[span]
        if blank:
            target[depth > 0] = 0
        else:
            _cover(target, depth, radius, height, rng)
        covered[span] |= depth > 0
    column, row = np.rint(tile.xy).astype(int).T
    last_row, last_column = tile.pixels.shape[0] - 1, tile.pixels.shape[1] - 1
    return replace(tile, pixels=pixels).select(~covered[row.clip(0, last_row), column.clip(0, last_column)])


def _cover(target: np.ndarray, depth: np.ndarray, radius: float, height: float, rng: np.random.Generator) -> None:
    """Cover `target` with a contaminant, in place, where it is not blank; its edge is a twelfth of the radius wide.

    Covered particles must not be visible, because they are not targets any more: they are replaced by texture with the
    same power spectrum but random phases, blended with weights whose squares sum to 1.
    """
    soft = (1 / (1 + np.exp(-np.clip(depth * (12 / radius), -30, 30)))).astype(np.float32)
    level = target.mean()
    noise = np.asarray(scipy.fft.rfft2(rng.standard_normal(target.shape, np.float32)))
    power = np.abs(np.asarray(scipy.fft.rfft2(target - level)))
    texture = scipy.fft.irfft2(noise * (power / np.maximum(np.abs(noise), 1e-6)), s=target.shape)
    new = level + np.float32(height) * soft + np.sqrt(soft) * texture + np.sqrt(1 - soft) * (target - level)
    target[:] = np.where((target != 0) & (soft > 0.01), new, target)


def _depth(shape: tuple[int, ...], centre_xy: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Return, for a lobed blob, the approximate depth of each pixel inside its outline (negative: outside)."""
    x = np.arange(shape[1], dtype=np.float32) - np.float32(centre_xy[0])
    y = np.arange(shape[0], dtype=np.float32) - np.float32(centre_xy[1])
    distance, angle = cv2.cartToPolar(np.tile(x, (shape[0], 1)), np.tile(y[:, None], (1, shape[1])))
    height, phase = rng.uniform(0, _LOBE, len(_LOBES)), rng.uniform(0, 2 * np.pi, len(_LOBES))
    # In steps of a degree, which is finer than a pixel here.
    degrees = np.deg2rad(np.arange(361))
    outline = radius * (1 + height @ np.cos(np.multiply.outer(_LOBES, degrees) + phase[:, None]))
    return outline.astype(np.float32)[np.rad2deg(angle).astype(np.intp)] - distance


def mosaic_sources(samples: Sequence[Sample], first: int, rng: np.random.Generator) -> list[Sample]:
    """Return four micrographs for a mosaic: the `first`, then others, all different if there are enough.

    Micrographs are drawn by area, as tiles are.
    """
    others = [index for index in range(len(samples)) if index != first]
    if not others:
        return [samples[first]] * 4
    area = np.array([samples[index].pixels.size for index in others], float)
    drawn = rng.choice(others, 3, replace=len(others) < 3, p=area / area.sum())
    return [samples[first], *(samples[index] for index in drawn)]
