"""Contaminants on the ice: lumps, crystals, crystalline ice, speckles; and filaments in it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from upicker.errors import ConfigError
from upicker.simulate import knobs
from upicker.simulate.grid import Grid

LUMP_PATH_A = 700.0  # mean free path in lumps and crystals, which also scatter electrons outside the aperture
# A filament shows as much as ice of this fraction of its thickness, and hardly absorbs.
FILAMENT, FILAMENT_PATH_A = 0.25, 3000.0
LATTICE_A = 3.9, 3.67, 3.44  # lattice spacings of hexagonal ice; 3.67 also of cubic ice
_LEVELS = {"none": (0.0, 0.0, 0.0, 0.0), "some": (0.7, 0.3, 0.1, 0.2), "much": (3.0, 1.5, 0.5, 1.0)}


@dataclass(frozen=True)
class Contamination:
    """Mean numbers of contaminants in an image; those of each image are drawn from Poisson distributions.

    Attributes
    ----------
    blobs : dark roundish lumps of ice, 200 to 1000 A wide.
    crystals : hexagonal crystals with straight edges and diffraction stripes, 300 to 1200 A wide.
    patches : areas where the ice itself is crystalline: grains of different darkness, lattice fringes.
    speckles : areas with many small dark dots, as from ethane.
    filaments : long bent threads of protein or nucleic acid, 20 to 120 A thick.
    """

    blobs: float = 0.7
    crystals: float = 0.0
    patches: float = 0.0
    speckles: float = 0.0
    filaments: float = 0.0

    def __post_init__(self) -> None:
        knobs.not_negative(self, "blobs", "crystals", "patches", "speckles", "filaments")

    @classmethod
    def level(cls, name: str) -> Contamination:
        """Return the contamination of a level: ``"none"``, ``"some"`` or ``"much"``.

        Raises
        ------
        ConfigError
            If there is no such level.
        """
        if name not in _LEVELS:
            raise ConfigError("contamination", f"unknown level '{name}'", f"Choose one of: {', '.join(_LEVELS)}")
        return cls(*_LEVELS[name])


@dataclass(frozen=True, eq=False)
class Contaminants:
    """Contaminants on the grid.

    Attributes
    ----------
    height_A : np.ndarray
        `(h, w)` float32, their thickness, added to that of the ice.
    loss : np.ndarray
        `(h, w)` float32: they reduce the amplitude of the electrons by the factor exp(-loss).
    unusable : np.ndarray
        `(h, w)` bool, where the image cannot be used.
    """

    height_A: np.ndarray
    loss: np.ndarray
    unusable: np.ndarray


def draw(rng: np.random.Generator, contamination: Contamination, grid: Grid) -> Contaminants | None:
    """Return random contaminants of an image; None if there are none."""
    kinds = (_blob, _crystal, _patch, _speckles, _filament)
    wanted = (
        contamination.blobs,
        contamination.crystals,
        contamination.patches,
        contamination.speckles,
        contamination.filaments,
    )
    numbers = [int(rng.poisson(mean)) for mean in wanted]
    if not any(numbers):
        return None
    shape = grid.shape
    contaminants = Contaminants(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, bool))
    for kind, number in zip(kinds, numbers, strict=True):
        for one in rng.spawn(number):
            kind(one, grid, contaminants)
    return contaminants


def _blob(rng: np.random.Generator, grid: Grid, contaminants: Contaminants) -> None:
    """Add a roundish lump."""
    radius = np.exp(rng.uniform(np.log(100), np.log(500)))
    window, y, x = grid.window(grid.random_position(rng), 1.6 * radius / grid.pixel_size_A)
    outline = _outline(rng, np.arctan2(y, x), 0.12)
    profile = np.clip(1 - (y**2 + x**2) / (radius * outline) ** 2, 0, None) ** np.float32(0.75)
    height = np.float32(rng.uniform(0.4, 2) * radius) * profile
    _add_highest(contaminants, window, height, height / (2 * LUMP_PATH_A))


def _crystal(rng: np.random.Generator, grid: Grid, contaminants: Contaminants) -> None:
    """Add a tilted hexagonal plate, whose bent lattice diffracts in stripes."""
    radius = np.exp(rng.uniform(np.log(150), np.log(600)))
    window, y, x = grid.window(grid.random_position(rng), 1.25 * radius / grid.pixel_size_A)
    turn, slant = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.0)
    u, v = np.cos(turn) * x + np.sin(turn) * y, (np.cos(turn) * y - np.sin(turn) * x) / np.float32(slant)
    depth = np.full(u.shape, np.inf, np.float32)
    for side in range(6):
        angle = np.float32(np.pi / 3 * side)
        apothem = np.float32(radius * rng.uniform(0.7, 1.0))
        depth = np.minimum(depth, apothem - (np.cos(angle) * u + np.sin(angle) * v))
    bevel = np.float32(rng.uniform(0.05, 0.4) * radius)
    height = np.float32(rng.uniform(0.3, 1.2) * radius) * np.clip(depth / bevel, 0, 1)
    wave, bend = rng.uniform(40, 200), rng.uniform(0, 2e-3) / radius
    direction = rng.uniform(0, 2 * np.pi)
    along = (np.cos(direction) * u + np.sin(direction) * v).astype(np.float32)
    phase = 2 * np.pi * (along / np.float32(wave) + np.float32(bend * wave) * along**2 / np.float32(wave))
    stripes = 1 + np.float32(rng.uniform(0.1, 0.6)) * np.cos(phase + np.float32(rng.uniform(0, 6)))
    _add_highest(contaminants, window, height, height * stripes / (2 * LUMP_PATH_A))


def _patch(rng: np.random.Generator, grid: Grid, contaminants: Contaminants) -> None:
    """Add an area of crystalline ice: grains that diffract differently, at the same thickness of the ice."""
    radius = np.exp(rng.uniform(np.log(600), np.log(1800)))
    window, y, x = grid.window(grid.random_position(rng), 1.6 * radius / grid.pixel_size_A)
    if min(y.size, x.size) < 2:
        return
    shape = (y.size, x.size)
    size = rng.uniform(80, 250)
    count = max(8, int(y.size * x.size * grid.pixel_size_A**2 / size**2))
    seeds = rng.uniform((y.min(), x.min()), (y.max(), x.max()), (count, 2))
    # The grain of each pixel is found on a coarser grid: their borders need not be finer than a tenth of a grain.
    coarse = [np.linspace(a.min(), a.max(), max(2, int(np.ptp(a) / (0.1 * size)))) for a in (y, x)]
    points = np.stack(np.meshgrid(*coarse, indexing="ij"), -1)
    grain = np.asarray(KDTree(seeds).query(points)[1])
    rows, columns = (np.arange(n) * len(c) // n for n, c in zip(shape, coarse, strict=True))
    grain = grain[rows[:, None], columns[None, :]]
    strength = (rng.random(count) ** 2 * 0.14).astype(np.float32)[grain]
    inside = np.clip((_outline(rng, np.arctan2(y, x), 0.15) - np.sqrt(y**2 + x**2) / np.float32(radius)) * 6, 0, 1)
    loss = strength * inside
    height = np.zeros(shape, np.float32)
    spacing = rng.choice(LATTICE_A)
    if spacing > 2.2 * grid.pixel_size_A:
        angle = rng.uniform(0, np.pi, count)
        kx, ky = (2 * np.pi / spacing * f(angle).astype(np.float32)[grain] for f in (np.cos, np.sin))
        height = 40 * strength * inside * np.cos(kx * x + ky * y)
    contaminants.height_A[window] += height
    contaminants.loss[window] += ndimage.gaussian_filter(loss, 0.06 * size / grid.pixel_size_A)
    contaminants.unusable[window] |= inside > 0.1


def _speckles(rng: np.random.Generator, grid: Grid, contaminants: Contaminants) -> None:
    """Add small dots scattered over an area."""
    radius = np.exp(rng.uniform(np.log(400), np.log(1500)))
    centre = grid.random_position(rng)
    for _ in range(int(rng.integers(25, 90))):
        position = centre + rng.normal(0, radius / 2, 2) / grid.pixel_size_A
        if (position < 0).any() or (position >= grid.shape).any():
            continue
        dot = np.exp(rng.uniform(np.log(12), np.log(45)))
        # Within a dot's diameter of its centre the image is hardly usable, either.
        window, y, x = grid.window(position, 3 * dot / grid.pixel_size_A + 1)
        distance = np.sqrt(y**2 + x**2)
        height = np.float32(2 * dot) * np.sqrt(np.clip(1 - (distance / np.float32(dot)) ** 2, 0, None))
        _add_highest(contaminants, window, height, height / (2 * LUMP_PATH_A))
        contaminants.unusable[window] |= distance < max(2 * dot, grid.pixel_size_A)


def _filament(rng: np.random.Generator, grid: Grid, contaminants: Contaminants) -> None:
    """Add a thread: a random walk whose direction changes slowly."""
    radius_px = np.exp(rng.uniform(np.log(10), np.log(60))) / grid.pixel_size_A
    step_px, persistence_px = 2.0, rng.uniform(10, 300) * radius_px
    length = int(1.5 * sum(grid.shape) / step_px)
    turns = rng.normal(0, np.sqrt(2 * step_px / persistence_px), length)
    angle = rng.uniform(0, 2 * np.pi) + np.cumsum(turns)
    path = step_px * np.cumsum(np.stack([np.cos(angle), np.sin(angle)], 1), axis=0)
    path += grid.random_position(rng)[::-1] - path[length // 2]
    clear = np.ones(grid.shape, np.uint8)
    cv2.polylines(clear, [np.rint(path).astype(np.int32)], False, 0)
    distance = cv2.distanceTransform(clear, cv2.DIST_L2, 5)
    thick = 2 * np.sqrt(np.clip(radius_px**2 - distance**2, 0, None)) * np.float32(grid.pixel_size_A)
    everywhere = (slice(None), slice(None))
    height = (np.float32(FILAMENT) * thick).astype(np.float32)
    _add_highest(contaminants, everywhere, height, height / np.float32(FILAMENT_PATH_A))


def _outline(rng: np.random.Generator, angle: np.ndarray, strength: float) -> np.ndarray:
    """Return the radius at each angle, float32, of a roundish shape of mean radius 1."""
    outline = np.ones(angle.shape, np.float32)
    for m in range(1, 6):
        outline += np.float32(rng.normal(0, strength / m)) * np.cos(m * angle + np.float32(rng.uniform(0, 2 * np.pi)))
    return np.clip(outline, 0.5, 1.5)


def _add_highest(
    contaminants: Contaminants, window: tuple[slice, slice], height_A: np.ndarray, loss: np.ndarray
) -> None:
    """Add a contaminant where it is higher than those that are there; heights are not summed."""
    higher = height_A > contaminants.height_A[window]
    contaminants.height_A[window][higher] = height_A[higher]
    contaminants.loss[window][higher] = loss[higher]
    contaminants.unusable[window] |= height_A > 0
