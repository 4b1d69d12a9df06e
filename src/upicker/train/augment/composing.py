"""Putting pictures together: mosaics of micrographs, particles copied to empty places, contaminants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import scipy.fft

from upicker.train.augment.blank import blanked
from upicker.train.augment.geometric import turned
from upicker.train.sample import Sample

# The seams of a mosaic run in this part of its sides.
_SEAM = (0.3, 0.7)
# What is copied with a particle: its disc, and a soft edge of so many diameters around it.
_EDGE = 0.15
# No other particle's centre may be closer to a particle that is copied, in its diameters.
_ALONE = 1.1
# Places tried per particle to paste, and the largest change of its contrast.
_TRIES, _GAIN = 40, 1.5
# A contaminant: mean radius in diameters, share that is blanked as by the mask, peak in sigma, share that is bright.
_RADIUS, _BLANKED, _PEAK, _BRIGHT = (0.6, 2.0), 0.5, (1.5, 5.0), 0.8
# Lobes of its outline, their height at most, and how far the outline can reach, in mean radii.
_LOBES, _LOBE, _FARTHEST = np.arange(2, 6), 0.12, 1.5


def mosaic(draw: Callable[[int, tuple[int, int]], Sample], shape: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Put four views together, two by two.

    Parameters
    ----------
    draw : callable
        Returns the view of quarter 0..3 (upper left, upper right, lower left, lower right) of a shape.
    shape : tuple of int
        Rows, columns of the whole.
    rng : np.random.Generator
        Draws where the seams run.

    Returns
    -------
    Sample
        `shape`, with the particles whose centres lie in their own quarter.
    """
    row, column = (round(n * rng.uniform(*_SEAM)) for n in shape)
    spans = [(slice(y0, y1), slice(x0, x1)) for y0, y1 in ((0, row), (row, shape[0])) for x0, x1 in
             ((0, column), (column, shape[1]))]  # fmt: skip
    pixels, xy, side, sure = np.empty(shape, np.float32), [], [], []
    for quarter, (rows, columns) in enumerate(spans):
        part = draw(quarter, (rows.stop - rows.start, columns.stop - columns.start))
        pixels[rows, columns] = part.pixels
        xy.append(part.xy + np.array([columns.start, rows.start]))
        side.append(part.side)
        sure.append(part.known)
    return Sample(pixels, np.concatenate(xy), np.concatenate(side), np.concatenate(sure))


def pasted(tile: Sample, source: Sample, count: int, rng: np.random.Generator) -> Sample:
    """Copy labelled particles to empty places, turned at random, with soft edges.

    Pixels are moved as a whole, not interpolated, and in the soft edge the squares of both weights sum to 1: a copy's
    noise is that of any other place, so that nothing gives it away but the particle.

    Parameters
    ----------
    tile : Sample
        Where to; not modified. The discs of its particles stay as they are.
    source : Sample
        Where from, in the same units.
    count : int
        How many; fewer where there are not enough lonely particles or empty places.
    rng : np.random.Generator
        The only source of randomness.

    Returns
    -------
    Sample
        The tile with more particles, after those it had.
    """
    particles = np.flatnonzero(source.known)
    if not count or not len(particles):
        return tile
    pixels, xy, side, sure = tile.pixels.copy(), tile.xy, tile.side, tile.known
    done = 0
    for index in particles[rng.permutation(len(particles))[: 8 * count]]:
        if done == count:
            break
        particle = _lifted(source, int(index), rng)
        if particle is None:
            continue
        place = _empty_place(Sample(pixels, xy, side), particle, rng)
        if place is None:  # The tile is full.
            break
        _lay(pixels, particle, place)
        xy = np.concatenate([xy, [particle.centre_xy + place]])
        side, sure = np.append(side, particle.side), np.append(sure, True)
        done += 1
    return Sample(pixels, xy, side, sure)


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
        """Return `(s, s)`: how far each pixel is from the centre, in box sides."""
        x, y = (np.arange(len(self.pixels)) - c for c in self.centre_xy)
        return np.sqrt(np.add.outer(y**2, x**2)) / self.side


def _lifted(source: Sample, index: int, rng: np.random.Generator) -> _Particle | None:
    """Cut a particle with its soft edge, turned; None if it is not alone, or not whole."""
    centre, side = source.xy[index], float(source.side[index])
    which = int(rng.integers(8))
    distance = np.hypot(*(source.xy - centre).T)
    distance[index] = np.inf
    reach = int(np.ceil(side * (0.5 + _EDGE))) + 1
    column, row = np.rint(centre).astype(int)
    rows, columns = source.pixels.shape
    if distance.min() < _ALONE * side or min(row, column, rows - 1 - row, columns - 1 - column) < reach:
        return None
    pixels = np.asarray(source.pixels[row - reach : row + reach + 1, column - reach : column + reach + 1], np.float32)
    if blanked(pixels) is not None:
        return None
    pixels, place = turned(pixels, (centre - (column, row) + reach)[None], which)
    return _Particle(pixels, place[0], side)


def _empty_place(tile: Sample, particle: _Particle, rng: np.random.Generator) -> np.ndarray | None:
    """Return column and row where a particle's square touches no disc and no blank; None if none is found."""
    size = len(particle.pixels)
    room = np.array(tile.pixels.shape[::-1]) - size
    if room.min() < 0:
        return None
    places = rng.integers(room + 1, size=(_TRIES, 2))
    apart = np.hypot(*np.moveaxis((places + particle.centre_xy)[:, None] - tile.xy, -1, 0))
    free = (apart >= tile.side / 2 + particle.side * (0.5 + _EDGE)).all(1)
    for x, y in places[free]:
        if blanked(tile.pixels[y : y + size, x : x + size]) is None:
            return np.array([x, y])
    return None


def _lay(pixels: np.ndarray, particle: _Particle, place: np.ndarray) -> None:
    """Lay a particle into `pixels`, in place; level and contrast of its surroundings follow those of the place."""
    x, y = place
    size = len(particle.pixels)
    there, distance = pixels[y : y + size, x : x + size], particle.distance()
    around = distance >= 0.5
    level, new_level = particle.pixels[around].mean(), there[around].mean()
    gain = there[around].std() / max(float(particle.pixels[around].std()), 1e-6)
    gain = np.clip(gain, 1 / _GAIN, _GAIN)
    angle = np.pi / 2 * np.clip((0.5 + _EDGE - distance) / _EDGE, 0, 1).astype(np.float32)
    new = (particle.pixels - level) * np.float32(gain)
    there[:] = np.where(angle > 0, new_level + np.sin(angle) * new + np.cos(angle) * (there - new_level), there)


def contaminated(tile: Sample, diameter: float, count: int, rng: np.random.Generator) -> Sample:
    """Lay contaminants into a tile: some as they look, some as the mask leaves them, blank.

    Parameters
    ----------
    tile : Sample
        Not modified.
    diameter : float
        One particle diameter, in pixels.
    count : int
        How many.
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
        reach = radius * _FARTHEST
        x0, y0 = np.ceil(centre - reach).astype(int).clip(0)
        x1, y1 = np.floor(centre + reach).astype(int) + 1
        span = slice(y0, y1), slice(x0, x1)
        depth = _depth(pixels[span].shape, centre - (x0, y0), radius, rng)
        blank, height = rng.uniform() < _BLANKED, rng.uniform(*_PEAK) * (1 if rng.uniform() < _BRIGHT else -1)
        there = pixels[span]
        if blank:
            there[depth > 0] = 0
        else:
            _cover(there, depth, radius, height, rng)
        covered[span] |= depth > 0
    column, row = np.rint(tile.xy).astype(int).T
    last_row, last_column = tile.pixels.shape[0] - 1, tile.pixels.shape[1] - 1
    return replace(tile, pixels=pixels).select(~covered[row.clip(0, last_row), column.clip(0, last_column)])


def _cover(there: np.ndarray, depth: np.ndarray, radius: float, height: float, rng: np.random.Generator) -> None:
    """Lay a contaminant over `there`, in place, where it is not blank; the edge is as soft as a twelfth of the radius.

    What lies beneath must not be seen any more, because it is not to be picked: texture of the same power spectrum, but
    of random phases, takes its place, under weights whose squares sum to 1.
    """
    soft = (1 / (1 + np.exp(-np.clip(depth * (12 / radius), -30, 30)))).astype(np.float32)
    level = there.mean()
    noise = np.asarray(scipy.fft.rfft2(rng.standard_normal(there.shape, np.float32)))
    power = np.abs(np.asarray(scipy.fft.rfft2(there - level)))
    texture = scipy.fft.irfft2(noise * (power / np.maximum(np.abs(noise), 1e-6)), s=there.shape)
    new = level + np.float32(height) * soft + np.sqrt(soft) * texture + np.sqrt(1 - soft) * (there - level)
    there[:] = np.where((there != 0) & (soft > 0.01), new, there)


def _depth(shape: tuple[int, ...], centre_xy: np.ndarray, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Return, for a lobed blob, about how far each pixel lies inside its outline (negative: outside)."""
    x = np.arange(shape[1], dtype=np.float32) - np.float32(centre_xy[0])
    y = np.arange(shape[0], dtype=np.float32) - np.float32(centre_xy[1])
    distance, angle = cv2.cartToPolar(np.tile(x, (shape[0], 1)), np.tile(y[:, None], (1, shape[1])))
    height, phase = rng.uniform(0, _LOBE, len(_LOBES)), rng.uniform(0, 2 * np.pi, len(_LOBES))
    # By degrees, which is finer than pixels are here.
    degrees = np.deg2rad(np.arange(361))
    outline = radius * (1 + height @ np.cos(np.multiply.outer(_LOBES, degrees) + phase[:, None]))
    return outline.astype(np.float32)[np.rad2deg(angle).astype(np.intp)] - distance


def shuffled(samples: Sequence[Sample], first: int, rng: np.random.Generator) -> list[Sample]:
    """Return four micrographs for a mosaic: the `first`, then others, different ones as far as there are.

    Micrographs are drawn by area, as tiles are.
    """
    others = [index for index in range(len(samples)) if index != first]
    if not others:
        return [samples[first]] * 4
    area = np.array([samples[index].pixels.size for index in others], float)
    drawn = rng.choice(others, 3, replace=len(others) < 3, p=area / area.sum())
    return [samples[first], *(samples[index] for index in drawn)]
