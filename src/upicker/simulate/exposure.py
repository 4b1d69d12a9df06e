"""Counting electrons: the noise-free image at a dose that is given, or at the dose that gives an SNR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from upicker.errors import ConfigError
from upicker.image.boxes import cut
from upicker.simulate.grid import Grid, fast_length
from upicker.simulate.microscope.detector import Detector, expose
from upicker.simulate.microscope.optics import Optics, aberration, envelope, interaction_rad_VA
from upicker.statistics import evenly_spaced

MEASURED = 48  # at most this many particles are used to measure an SNR
MAX_TRIES, TOLERANCE = 5, 0.03  # exposures to find the dose of an SNR; relative deviation of the SNR that is accepted


@dataclass(frozen=True, eq=False)
class ParticleSignals:
    """Noise-free signals of some particles, with which the SNR of an image is measured.

    Attributes
    ----------
    corners : np.ndarray
        `(m, 2)` int, row and column of the first pixel of the square around each particle's disc.
    signal : np.ndarray
        `(m, s, s)` float32, what the particles add to an image of mean 1.
    disc : np.ndarray
        `(s, s)` bool.
    """

    corners: np.ndarray
    signal: np.ndarray
    disc: np.ndarray

    def cut(self, pixels: np.ndarray) -> np.ndarray:
        """Return `(m, s, s)` the squares of an image."""
        return cut(pixels, self.corners[:, ::-1], self.disc.shape)

    def variance(self, squares: np.ndarray) -> float:
        """Return the variance within the discs, each about its own mean."""
        return float(squares[:, self.disc].var(1, dtype=np.float64).mean())

    @property
    def signal_variance(self) -> float:
        """That of the particles, in an image of mean 1."""
        return self.variance(self.signal)

    def snr(self, counts: np.ndarray, mean: float) -> float:
        """Return the SNR of an image of counts with this mean."""
        noise = self.variance(self.cut(counts) - np.float32(mean) * self.signal)
        return mean**2 * self.signal_variance / noise if noise > 0 else np.inf


def particle_signals(
    grid: Grid, slices_VA: np.ndarray, xy: np.ndarray, diameter_px: np.ndarray, optics: Optics
) -> ParticleSignals | None:
    """Image particles without background, to first order, around some that lie wholly in the image.

    Parameters
    ----------
    grid : Grid
        The pixels.
    slices_VA : np.ndarray
        `(slices, h, w)` complex64, see `projecting.Projected`.
    xy : np.ndarray
        `(n, 2)` centres of the particles in the image.
    diameter_px : np.ndarray
        `(n,)` of their discs; the mean is used.
    optics : Optics
        The microscope.

    Returns
    -------
    ParticleSignals or None
        None if no particle lies wholly in the image.
    """
    if not len(xy):
        return None
    half = int(np.ceil(diameter_px.mean() / 2))
    centre = np.rint(xy[:, ::-1]).astype(int)
    whole = ((centre >= half) & (centre < np.array(grid.image_shape) - half)).all(1)
    centre = centre[whole]
    if not len(centre):
        return None
    centre = centre[evenly_spaced(len(centre), MEASURED)]
    # Twice as wide as the disc, for the fringes of neighbours; those of particles further away are neglected.
    wide = fast_length(4 * half)
    shape = (wide, wide)
    transfer = envelope(shape, grid.pixel_size_A, optics) * np.exp(1j * aberration(shape, grid.pixel_size_A, optics))
    strength = interaction_rad_VA(optics.voltage_kV) * (1j - np.tan(np.arcsin(optics.amplitude_contrast)))
    signal = []
    for row, column in centre + grid.margin_px:
        top, left = row - wide // 2, column - wide // 2
        # The grid is periodic.
        rows, columns = ((np.arange(a, a + wide)) % n for a, n in zip((top, left), grid.shape, strict=True))
        wave = np.asarray(fft.fft2(slices_VA[:, rows[:, None], columns].sum(0) * np.complex64(strength)))
        intensity = 2 * np.real(np.asarray(fft.ifft2(wave * transfer)))
        first = wide // 2 - half
        signal.append(intensity[first : first + 2 * half + 1, first : first + 2 * half + 1])
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    disc = y**2 + x**2 <= (diameter_px.mean() / 2) ** 2
    return ParticleSignals(centre - half, np.stack(signal).astype(np.float32), disc)


@dataclass(frozen=True, eq=False)
class Counted:
    """An image of electron counts.

    Attributes
    ----------
    counts : np.ndarray
        `(h, w)` float32.
    dose_e_A2 : float
        Electrons that reached the camera.
    snr : float
        As measured; NaN without particles.
    """

    counts: np.ndarray
    dose_e_A2: float
    snr: float


@dataclass(frozen=True, eq=False)
class NoiseFree:
    """An image before electrons are counted.

    Attributes
    ----------
    intensity : np.ndarray
        `(h, w)` float32; 1 on average where only ice lies in the beam.
    detector : Detector
        The camera.
    pixel_size_A : float
        Of the image.
    signals : ParticleSignals or None
        With which the SNR is measured.
    """

    intensity: np.ndarray
    detector: Detector
    pixel_size_A: float
    signals: ParticleSignals | None


def count_at_dose(rng: np.random.Generator, image: NoiseFree, dose_e_A2: float) -> Counted:
    """Count electrons at a dose."""
    per_pixel = dose_e_A2 * image.pixel_size_A**2
    counts = expose(rng, image.intensity * np.float32(per_pixel), image.detector)
    snr = image.signals.snr(counts, per_pixel * image.detector.efficiency) if image.signals else float("nan")
    return Counted(counts, dose_e_A2, snr)


def count_at_snr(rng: np.random.Generator, image: NoiseFree, dose_e_A2: float, snr: float) -> Counted:
    """Count electrons at the dose that gives an SNR; the search starts at `dose_e_A2`.

    At a dose d the variance of the noise is A d from counting plus B d^2 from the structure of the ice, that of the
    signal S d^2. So the SNR grows with the dose, to at most S / B.

    Raises
    ------
    ConfigError
        If no dose gives that SNR.
    """
    signals = image.signals
    assert signals is not None
    signal, structure = signals.signal_variance, signals.variance(signals.cut(image.intensity) - signals.signal)
    if snr * structure >= 0.9 * signal:
        raise ConfigError(
            "snr",
            f"{snr:g} cannot be reached: at any dose the structure noise of the ice limits it to "
            f"{signal / structure:.2g}",
            "Give a smaller one, or a smaller ice.noise",
        )
    for _ in range(MAX_TRIES):
        counted = count_at_dose(rng, image, dose_e_A2)
        if abs(counted.snr / snr - 1) < TOLERANCE:
            break
        dose_e_A2 *= (signal / counted.snr - structure) / (signal / snr - structure)
    return counted
