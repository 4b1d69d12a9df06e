"""All that a picture shows besides the particles, and the picture of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upicker.simulate import carbon
from upicker.simulate.canvas import Canvas
from upicker.simulate.contamination import Litter
from upicker.simulate.ice import ICE_V, Fading, Ice, grain
from upicker.simulate.microscope.multislice import thick_intensity
from upicker.simulate.microscope.optics import Optics, intensity, interaction_rad_VA


@dataclass(frozen=True, eq=False)
class Ground:
    """What a picture's electrons pass besides the particles.

    Attributes
    ----------
    canvas : Canvas
        On which all is drawn.
    ice : Ice
        What the ice is like.
    ice_A : np.ndarray
        `(h, w)` float32, its thickness.
    litter : Litter or None
        What lies on it.
    carbon_A : np.ndarray or None
        `(h, w)` float32, thickness of the carbon film.
    """

    canvas: Canvas
    ice: Ice
    ice_A: np.ndarray
    litter: Litter | None
    carbon_A: np.ndarray | None

    @property
    def usable(self) -> np.ndarray:
        """`(h, w)` bool."""
        usable = np.ones(self.canvas.shape, bool)
        if self.litter is not None:
            usable &= ~self.litter.unusable
        if self.carbon_A is not None:
            usable &= self.carbon_A == 0
        return usable


def image(rng: np.random.Generator, ground: Ground, layers_VA: np.ndarray, optics: Optics, kept: Fading) -> np.ndarray:
    """Send electrons through particles, ice and what lies on it, and through the lens.

    Parameters
    ----------
    rng : np.random.Generator
        Of the grain of ice and carbon.
    ground : Ground
        All but the particles.
    layers_VA : np.ndarray
        `(slices, h, w)` complex64, the particles; see `painting.Painted`.
    optics : Optics
        The microscope.
    kept : Fading
        What the exposure leaves of the ice.

    Returns
    -------
    np.ndarray
        `(h, w)` float32, intensity; 1 where only smooth ice lies in the beam.
    """
    slices, pixel_size_A = len(layers_VA), ground.canvas.pixel_size_A
    strength = np.float32(interaction_rad_VA(optics.voltage_kV))
    loss = np.float32(np.tan(np.arcsin(optics.amplitude_contrast)))
    potential = np.empty(layers_VA.shape, np.float32)
    absorption = np.empty(layers_VA.shape, np.float32)
    for i, layer in enumerate(layers_VA):
        real = grain(rng, ground.ice, ground.canvas, ground.ice_A / slices, kept)
        real += layer.real
        # What lies on the specimen meets the beam first, in the highest slice.
        if i == 0 and ground.carbon_A is not None:
            real += carbon.grain(rng, ground.canvas, ground.carbon_A)
        potential[i] = real - loss * layer.imag
        absorption[i] = strength * (loss * real + layer.imag)
        if i == 0:
            _obstruct(ground, potential[i], absorption[i])
    if slices == 1:
        return intensity(strength * potential[0], absorption[0], pixel_size_A, optics)
    return thick_intensity(potential, ground.ice.thickness_A, pixel_size_A, optics, absorption)


def _obstruct(ground: Ground, potential_VA: np.ndarray, absorption: np.ndarray) -> None:
    """Add the mean potential and the losses of contaminants and carbon, in place."""
    if ground.litter is not None:
        potential_VA += np.float32(ICE_V) * ground.litter.height_A
        absorption += ground.litter.loss
    if ground.carbon_A is not None:
        potential_VA += np.float32(carbon.CARBON_V) * ground.carbon_A
        absorption += ground.carbon_A / np.float32(2 * carbon.CARBON_PATH_A)
