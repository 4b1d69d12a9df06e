"""The background of a micrograph, everything but the particles; and the image of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upicker.simulate import carbon
from upicker.simulate.contamination import Contaminants
from upicker.simulate.grid import Grid
from upicker.simulate.ice import ICE_V, Attenuation, Ice, structure_noise
from upicker.simulate.microscope.multislice import thick_intensity
from upicker.simulate.microscope.optics import Optics, intensity, interaction_rad_VA


@dataclass(frozen=True, eq=False)
class Background:
    """What scatters electrons besides the particles.

    Attributes
    ----------
    grid : Grid
        The pixels.
    ice : Ice
        Properties of the ice.
    ice_A : np.ndarray
        `(h, w)` float32, its thickness.
    contaminants : Contaminants or None
        What lies on it.
    carbon_A : np.ndarray or None
        `(h, w)` float32, thickness of the carbon film.
    """

    grid: Grid
    ice: Ice
    ice_A: np.ndarray
    contaminants: Contaminants | None
    carbon_A: np.ndarray | None

    @property
    def usable(self) -> np.ndarray:
        """`(h, w)` bool: neither contaminated nor carbon."""
        usable = np.ones(self.grid.shape, bool)
        if self.contaminants is not None:
            usable &= ~self.contaminants.unusable
        if self.carbon_A is not None:
            usable &= self.carbon_A == 0
        return usable


def image(
    rng: np.random.Generator, background: Background, slices_VA: np.ndarray, optics: Optics, attenuation: Attenuation
) -> np.ndarray:
    """Return the image of particles and background, before electrons are counted.

    Parameters
    ----------
    rng : np.random.Generator
        Of the structure noise of ice and carbon.
    background : Background
        All but the particles.
    slices_VA : np.ndarray
        `(slices, h, w)` complex64, the particles; see `projecting.Projected`.
    optics : Optics
        The microscope.
    attenuation : Attenuation
        What the exposure leaves of the structure of the ice.

    Returns
    -------
    np.ndarray
        `(h, w)` float32, intensity; 1 where only smooth ice lies in the beam.
    """
    slices, pixel_size_A = len(slices_VA), background.grid.pixel_size_A
    strength = np.float32(interaction_rad_VA(optics.voltage_kV))
    loss = np.float32(np.tan(np.arcsin(optics.amplitude_contrast)))
    potential = np.empty(slices_VA.shape, np.float32)
    absorption = np.empty(slices_VA.shape, np.float32)
    for i, particles in enumerate(slices_VA):
        real = structure_noise(rng, background.ice, background.grid, background.ice_A / slices, attenuation)
        real += particles.real
        # Carbon and contaminants lie on top: they belong to the highest slice, which the beam passes first.
        if i == 0 and background.carbon_A is not None:
            real += carbon.structure_noise(rng, background.grid, background.carbon_A)
        potential[i] = real - loss * particles.imag
        absorption[i] = strength * (loss * real + particles.imag)
        if i == 0:
            _add_obstacles(background, potential[i], absorption[i])
    if slices == 1:
        return intensity(strength * potential[0], absorption[0], pixel_size_A, optics)
    return thick_intensity(potential, background.ice.thickness_A, pixel_size_A, optics, absorption)


def _add_obstacles(background: Background, potential_VA: np.ndarray, absorption: np.ndarray) -> None:
    """Add the mean potential and the losses of contaminants and carbon, in place."""
    if background.contaminants is not None:
        potential_VA += np.float32(ICE_V) * background.contaminants.height_A
        absorption += background.contaminants.loss
    if background.carbon_A is not None:
        potential_VA += np.float32(carbon.CARBON_V) * background.carbon_A
        absorption += background.carbon_A / np.float32(2 * carbon.CARBON_PATH_A)
