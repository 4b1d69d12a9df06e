"""The ice: its thickness, and its structure noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upicker.simulate import knobs
from upicker.simulate.grid import Grid
from upicker.simulate.microscope.filters import Curve

ICE_V = 4.6  # mean potential of vitreous ice
ICE_MOLECULES_A3 = 0.0314  # water molecules per cubic Angstrom at 0.94 g/cm^3
WATER_VA3 = ICE_V / ICE_MOLECULES_A3  # one molecule's potential, integrated
MEAN_FREE_PATH_A = 3100.0  # of inelastic scattering in ice at 300 kV: these electrons are lost to the image
# Molecules keep a distance: at low frequencies they scatter this fraction of the power of independent ones (density
# times k T times compressibility of water is 0.06, somewhat more in glass); their order gives a ring at 1 / 3.1 A.
ICE_ORDER, RING_A, RING_WIDTH, RING = 0.07, 3.1, 0.055, 1.4
# Both surfaces carry a film of unfolded protein and other solutes, with this correlation length.
FILM_A = 9.0
MOLECULE_K = 0.6  # 1 / A: where a molecule's own width leaves 1 / e of its power


@dataclass(frozen=True)
class Attenuation:
    """What an exposure leaves of the amplitude at each frequency, on average over its duration.

    Attributes
    ----------
    protein : Curve
        After radiation damage.
    water : Curve
        After beam-induced motion of water molecules.
    """

    protein: Curve
    water: Curve


@dataclass(frozen=True)
class Ice:
    """The ice of a micrograph.

    Attributes
    ----------
    thickness_A : mean thickness.
    gradient : largest change of the thickness across the image, as a fraction of the mean.
    noise : strength of the structure noise; 1: physical, 0: none.
    film : power of the films on its surfaces at low frequencies, as a multiple of that of `thickness_A` of ice.
    slices : number of depths at which electrons scatter; 1: projection, more: multislice.
    """

    thickness_A: float = 450.0
    gradient: float = 0.3
    noise: float = 1.0
    film: float = 4.0
    slices: int = 1

    def __post_init__(self) -> None:
        knobs.positive(self, "thickness_A", "slices")
        knobs.not_negative(self, "gradient", "noise", "film")


def thickness(rng: np.random.Generator, ice: Ice, grid: Grid) -> np.ndarray:
    """Return `(h, w)` float32 Angstrom: a slope, and ice that is thinner in the middle of the hole."""
    rows, columns = (np.linspace(-0.5, 0.5, n, dtype=np.float32) for n in grid.shape)
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1)
    # Only vectors so far: the full array is made in float32.
    down = (1 - bend / 2) * np.sin(angle) * rows + bend * rows**2 - bend / 6
    across = (1 - bend / 2) * np.cos(angle) * columns + bend * columns**2
    relative = 1 + np.float32(ice.gradient) * (down[:, None] + across[None, :]).astype(np.float32)
    return np.float32(ice.thickness_A) * np.clip(relative, np.float32(0.1), None)


def structure_noise(
    rng: np.random.Generator, ice: Ice, grid: Grid, thickness_A: np.ndarray, attenuation: Attenuation
) -> np.ndarray:
    """Return `(h, w)` float32 volt times Angstrom: the projected potential of ice and its films, less its mean.

    Independent molecules would give white noise of variance (molecules per pixel) x (potential of one)^2. Their order,
    their motion under the beam and the films shape its spectrum.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator.
    ice : Ice
        Strength and films.
    grid : Grid
        The pixels.
    thickness_A : np.ndarray
        `(h, w)`.
    attenuation : Attenuation
        What the exposure leaves of moving water and of protein.
    """

    def amplitude(k: np.ndarray) -> np.ndarray:
        water = structure_factor(k) * attenuation.water(k) ** 2
        films = ICE_ORDER * ice.film * film_power(k) * attenuation.protein(k) ** 2
        return np.sqrt((water + films) * np.exp(-((k / MOLECULE_K) ** 2)))

    noise = grid.coloured_noise(rng, amplitude)
    noise *= np.sqrt(thickness_A * np.float32(ICE_MOLECULES_A3))
    noise *= np.float32(ice.noise * WATER_VA3 / grid.pixel_size_A)
    return noise


def structure_factor(k: np.ndarray) -> np.ndarray:
    """Return the structure factor of vitreous water, `(n,)`, at frequencies in 1 / A: 1 for independent molecules."""
    rise = 1 / (1 + np.exp(-(k - 0.25) / 0.015))
    ring = RING * np.exp(-(((k - 1 / RING_A) / RING_WIDTH) ** 2) / 2)
    return ICE_ORDER + (1 - ICE_ORDER) * rise * (0.6 + ring) / 1.6


def film_power(k: np.ndarray) -> np.ndarray:
    """Return the power spectrum of the surface films, `(n,)`, at frequencies in 1 / A: 1 at the lowest."""
    return 1 / (1 + (2 * np.pi * FILM_A * k) ** 2)
