"""The edge of a hole in the carbon film."""

from __future__ import annotations

import numpy as np

from upicker.simulate.grid import Grid

HOLE_RADIUS_A = (4000.0, 10000.0)  # of the holes in common support films
FILM_THICKNESS_A = (120.0, 300.0)
CARBON_V = 9.0  # mean potential of amorphous carbon
CARBON_PATH_A = 1500.0  # mean free path of electrons lost to the image: inelastic, or stopped by the aperture
# 0.1 atoms per cubic Angstrom at 2 g/cm^3, each with 47.88 V A^2 times its scattering length of 2.5 A. They are treated
# as independent: the order of their bonds lowers the power at low frequencies, the pores of evaporated films (density
# 1.8 to 2.0 against graphite's 2.26) raise it again.
CARBON_ATOMS_A3, ATOM_VA3 = 0.1, 120.0
ATOM_A = 2.0  # width of an atom, above whose frequency the power falls


def edge(rng: np.random.Generator, grid: Grid) -> np.ndarray:
    """Return `(h, w)` float32, the film's thickness in Angstrom; it covers an eighth to a half of the image.

    The edge is a part of a circle, the hole, and slightly rough.
    """
    rows, columns = grid.image_shape
    pixel = grid.pixel_size_A
    radius = rng.uniform(*HOLE_RADIUS_A)
    angle = rng.uniform(0, 2 * np.pi)
    towards = np.array([np.sin(angle), np.cos(angle)])
    # Along `towards` the image ends at the largest projection of its corners; the hole ends before.
    end = (np.abs(towards) * np.array([rows, columns])).sum() / 2 * pixel
    reach = end - 2 * end * rng.uniform(0.2, 0.5)
    centre = grid.margin_px + np.array([rows, columns]) / 2 + towards * (reach - radius) / pixel
    y, x = ((np.arange(n, dtype=np.float32) - c) * pixel for n, c in zip(grid.shape, centre, strict=True))
    y, x = y.astype(np.float32)[:, None], x.astype(np.float32)[None, :]
    distance = np.sqrt(y**2 + x**2)
    along = (np.float32(-towards[1]) * y + np.float32(towards[0]) * x) / np.float32(radius)
    for waves in (3, 7, 13):
        distance += np.float32(rng.normal(0, 25)) * np.sin(
            np.float32(2 * waves) * along + np.float32(rng.uniform(0, 6))
        )
    # The film gets thinner towards its edge, within a few hundred Angstrom.
    slope = np.clip((distance - np.float32(radius)) / np.float32(rng.uniform(100, 300)), 0, 1)
    return np.float32(rng.uniform(*FILM_THICKNESS_A)) * slope * slope * (3 - 2 * slope)


def structure_noise(rng: np.random.Generator, grid: Grid, thickness_A: np.ndarray) -> np.ndarray:
    """Return `(h, w)` float32 volt times Angstrom: the projected potential of the film, less its mean."""
    strength = ATOM_VA3 / grid.pixel_size_A * np.sqrt(CARBON_ATOMS_A3)

    def amplitude(k: np.ndarray) -> np.ndarray:
        return strength * np.exp(-((np.pi * ATOM_A * k) ** 2) / 2)

    noise = grid.coloured_noise(rng, amplitude)
    noise *= np.sqrt(thickness_A)
    return noise
