"""What lies on the ice and does not belong there: lumps, crystals, crystalline ice, speckles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from upicker.errors import ConfigError
from upicker.simulate import knobs
from upicker.simulate.canvas import Canvas

LUMP_PATH_A = 700.0  # lumps of ice and crystals throw electrons out of the aperture, too
LATTICE_A = 3.9, 3.67, 3.44  # the first rings of hexagonal ice, and 3.67 of cubic ice, too
_LEVELS = {"none": (0.0, 0.0, 0.0, 0.0), "some": (0.7, 0.3, 0.1, 0.2), "much": (3.0, 1.5, 0.5, 1.0)}


@dataclass(frozen=True)
class Contamination:
    """Mean numbers of contaminants in a picture; each picture draws its own, after Poisson.

    Attributes
    ----------
    blobs : dark roundish lumps of ice, 200 to 1000 A wide.
    crystals : hexagonal crystals with straight edges and stripes of diffraction, 300 to 1200 A wide.
    patches : areas where the ice itself is crystalline: grains of unequal darkness, lattice fringes.
    speckles : areas strewn with small dark dots, as ethane leaves them.
    """

    blobs: float = 0.7
    crystals: float = 0.0
    patches: float = 0.0
    speckles: float = 0.0

    def __post_init__(self) -> None:
        knobs.not_negative(self, "blobs", "crystals", "patches", "speckles")

    @classmethod
    def level(cls, name: str) -> Contamination:
        """Return that of a level: ``"none"``, ``"some"`` or ``"much"``.

        Raises
        ------
        ConfigError
            If there is no such level.
        """
        if name not in _LEVELS:
            raise ConfigError("contamination", f"there is no level '{name}'", f"There are: {', '.join(_LEVELS)}")
        return cls(*_LEVELS[name])


@dataclass(frozen=True, eq=False)
class Litter:
    """Contaminants drawn on a canvas.

    Attributes
    ----------
    height_A : np.ndarray
        `(h, w)` float32, thickness of ice above the specimen's own.
    loss : np.ndarray
        `(h, w)` float32: it lowers the electrons' amplitude by exp(-loss).
    unusable : np.ndarray
        `(h, w)` bool, what the picture is lost to.
    """

    height_A: np.ndarray
    loss: np.ndarray
    unusable: np.ndarray


def litter(rng: np.random.Generator, contamination: Contamination, canvas: Canvas) -> Litter | None:
    """Draw a picture's contaminants; None if there are none."""
    kinds = (_blob, _crystal, _patch, _speckles)
    wanted = (contamination.blobs, contamination.crystals, contamination.patches, contamination.speckles)
    numbers = [int(rng.poisson(mean)) for mean in wanted]
    if not any(numbers):
        return None
    shape = canvas.shape
    drawn = Litter(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, bool))
    for kind, number in zip(kinds, numbers, strict=True):
        for one in rng.spawn(number):
            kind(one, canvas, drawn)
    return drawn


def _blob(rng: np.random.Generator, canvas: Canvas, drawn: Litter) -> None:
    """Draw a roundish lump."""
    radius = np.exp(rng.uniform(np.log(100), np.log(500)))
    window, y, x = canvas.window(canvas.random_place(rng), 1.6 * radius / canvas.pixel_size_A)
    outline = _outline(rng, np.arctan2(y, x), 0.12)
    profile = np.clip(1 - (y**2 + x**2) / (radius * outline) ** 2, 0, None) ** np.float32(0.75)
    height = np.float32(rng.uniform(0.4, 2) * radius) * profile
    _lay(drawn, window, height, height / (2 * LUMP_PATH_A))


def _crystal(rng: np.random.Generator, canvas: Canvas, drawn: Litter) -> None:
    """Draw a hexagonal plate, seen at a slant, whose bent lattice diffracts in stripes."""
    radius = np.exp(rng.uniform(np.log(150), np.log(600)))
    window, y, x = canvas.window(canvas.random_place(rng), 1.25 * radius / canvas.pixel_size_A)
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
    _lay(drawn, window, height, height * stripes / (2 * LUMP_PATH_A))


def _patch(rng: np.random.Generator, canvas: Canvas, drawn: Litter) -> None:
    """Draw an area of crystalline ice: grains that diffract unequally, the ice's thickness staying what it is."""
    radius = np.exp(rng.uniform(np.log(600), np.log(1800)))
    window, y, x = canvas.window(canvas.random_place(rng), 1.6 * radius / canvas.pixel_size_A)
    if min(y.size, x.size) < 2:
        return
    shape = (y.size, x.size)
    size = rng.uniform(80, 250)
    count = max(8, int(y.size * x.size * canvas.pixel_size_A**2 / size**2))
    seeds = rng.uniform((y.min(), x.min()), (y.max(), x.max()), (count, 2))
    # Which grain holds a pixel is looked up on a coarse grid: borders need not be finer than a tenth of a grain.
    coarse = [np.linspace(a.min(), a.max(), max(2, int(np.ptp(a) / (0.1 * size)))) for a in (y, x)]
    grid = np.stack(np.meshgrid(*coarse, indexing="ij"), -1)
    grain = np.asarray(KDTree(seeds).query(grid)[1])
    rows, columns = (np.arange(n) * len(c) // n for n, c in zip(shape, coarse, strict=True))
    grain = grain[rows[:, None], columns[None, :]]
    strength = (rng.random(count) ** 2 * 0.14).astype(np.float32)[grain]
    inside = np.clip((_outline(rng, np.arctan2(y, x), 0.15) - np.sqrt(y**2 + x**2) / np.float32(radius)) * 6, 0, 1)
    loss = strength * inside
    height = np.zeros(shape, np.float32)
    spacing = rng.choice(LATTICE_A)
    if spacing > 2.2 * canvas.pixel_size_A:
        angle = rng.uniform(0, np.pi, count)
        kx, ky = (2 * np.pi / spacing * f(angle).astype(np.float32)[grain] for f in (np.cos, np.sin))
        height = 40 * strength * inside * np.cos(kx * x + ky * y)
    drawn.height_A[window] += height
    drawn.loss[window] += ndimage.gaussian_filter(loss, 0.06 * size / canvas.pixel_size_A)
    drawn.unusable[window] |= inside > 0.1


def _speckles(rng: np.random.Generator, canvas: Canvas, drawn: Litter) -> None:
    """Strew small dots over an area."""
    radius = np.exp(rng.uniform(np.log(400), np.log(1500)))
    middle = canvas.random_place(rng)
    for _ in range(int(rng.integers(25, 90))):
        place = middle + rng.normal(0, radius / 2, 2) / canvas.pixel_size_A
        if (place < 0).any() or (place >= canvas.shape).any():
            continue
        dot = np.exp(rng.uniform(np.log(12), np.log(45)))
        # What is within a dot's width of it is hardly usable, either.
        window, y, x = canvas.window(place, 3 * dot / canvas.pixel_size_A + 1)
        distance = np.sqrt(y**2 + x**2)
        height = np.float32(2 * dot) * np.sqrt(np.clip(1 - (distance / np.float32(dot)) ** 2, 0, None))
        _lay(drawn, window, height, height / (2 * LUMP_PATH_A))
        drawn.unusable[window] |= distance < max(2 * dot, canvas.pixel_size_A)


def _outline(rng: np.random.Generator, angle: np.ndarray, strength: float) -> np.ndarray:
    """Return the radius at each angle, float32, of a roundish thing of mean radius 1."""
    outline = np.ones(angle.shape, np.float32)
    for m in range(1, 6):
        outline += np.float32(rng.normal(0, strength / m)) * np.cos(m * angle + np.float32(rng.uniform(0, 2 * np.pi)))
    return np.clip(outline, 0.5, 1.5)


def _lay(drawn: Litter, window: tuple[slice, slice], height_A: np.ndarray, loss: np.ndarray) -> None:
    """Put a lump beside or upon what is there: the higher counts, not the sum."""
    higher = height_A > drawn.height_A[window]
    drawn.height_A[window][higher] = height_A[higher]
    drawn.loss[window][higher] = loss[higher]
    drawn.unusable[window] |= height_A > 0
