"""The microscope: wavelength, contrast transfer, and the picture that an exit wave makes.

Signs: underfocus is positive, and what scatters more than the ice (a protein) is dark in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

REST_ENERGY_KV = 510.998950
_HC_KV_A = 12.398420  # Planck's constant times the speed of light, in kiloelectronvolt times Angstrom


@dataclass(frozen=True)
class Optics:
    """A microscope and its setting for one picture.

    Attributes
    ----------
    voltage_kV : acceleration voltage.
    Cs_mm : spherical aberration.
    amplitude_contrast : the share of amplitude contrast, 0..1 (0.07 to 0.1 for protein in ice).
    defocus_A : mean defocus, underfocus positive.
    astigmatism_A : largest minus smallest defocus.
    astigmatism_deg : angle of the largest defocus, from the columns' axis towards the rows'.
    envelope_B_A2 : decay of the contrast with frequency, exp(-B k^2 / 4): coherence, motion, damage.
    """

    voltage_kV: float = 300.0
    Cs_mm: float = 2.7
    amplitude_contrast: float = 0.1
    defocus_A: float = 15000.0
    astigmatism_A: float = 0.0
    astigmatism_deg: float = 0.0
    envelope_B_A2: float = 120.0


def wavelength_A(voltage_kV: float) -> float:  # noqa: N802
    """Return the electrons' relativistic wavelength, hc / sqrt(eV (eV + 2 mc^2)); 0.0197 A at 300 kV."""
    return float(_HC_KV_A / np.sqrt(voltage_kV * (voltage_kV + 2 * REST_ENERGY_KV)))


def interaction_rad_VA(voltage_kV: float) -> float:  # noqa: N802
    """Return the phase in radian that one volt times one Angstrom of potential adds; 6.53e-4 at 300 kV."""
    relativistic = (REST_ENERGY_KV + voltage_kV) / (2 * REST_ENERGY_KV + voltage_kV)
    return float(2 * np.pi / (wavelength_A(voltage_kV) * voltage_kV * 1e3) * relativistic)


def frequencies(shape: tuple[int, int], pixel_size_A: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a full transform's frequencies along rows `(h, 1)` and columns `(1, w)`, float32, 1 / A."""
    rows, columns = (np.fft.fftfreq(n, pixel_size_A).astype(np.float32) for n in shape)
    return rows[:, None], columns[None, :]


def aberration(shape: tuple[int, int], pixel_size_A: float, optics: Optics) -> np.ndarray:
    """Return the phase of the lens, pi lambda df k^2 - pi/2 Cs lambda^3 k^4.

    Returns
    -------
    np.ndarray
        `(h, w)` float32, radian, on the full transform's frequencies (`frequencies`).
    """
    ky, kx = frequencies(shape, pixel_size_A)
    k2 = ky**2 + kx**2
    wavelength = wavelength_A(optics.voltage_kV)
    # k^2 cos(2 (angle - axis)), without the angle itself
    axis = np.deg2rad(2 * optics.astigmatism_deg)
    oblong = (kx**2 - ky**2) * np.float32(np.cos(axis)) + 2 * kx * ky * np.float32(np.sin(axis))
    defocus = np.pi * wavelength * (optics.defocus_A * k2 + optics.astigmatism_A / 2 * oblong)
    spherical = np.pi / 2 * optics.Cs_mm * 1e7 * wavelength**3 * k2**2
    return (defocus - spherical).astype(np.float32)


def envelope(shape: tuple[int, int], pixel_size_A: float, optics: Optics) -> np.ndarray:
    """Return exp(-B k^2 / 4) as `(h, w)` float32 on the full transform's frequencies."""
    ky, kx = frequencies(shape, pixel_size_A)
    return np.exp(-optics.envelope_B_A2 / 4 * (ky**2 + kx**2))


def ctf(shape: tuple[int, int], pixel_size_A: float, optics: Optics) -> np.ndarray:
    """Return the contrast transfer function, -sin(aberration + asin(amplitude contrast)), with its envelope.

    Returns
    -------
    np.ndarray
        `(h, w)` float32 on the full transform's frequencies; negative near the origin: protein is dark.
    """
    phase = aberration(shape, pixel_size_A, optics) + np.float32(np.arcsin(optics.amplitude_contrast))
    return -np.sin(phase) * envelope(shape, pixel_size_A, optics)


def intensity(phase: np.ndarray, absorption: np.ndarray, pixel_size_A: float, optics: Optics) -> np.ndarray:
    """Image an exit wave exp(i phase - absorption).

    For a weak particle of phase p, with absorption p tan(asin(amplitude contrast)), this is
    1 + 2 p / cos(asin(amplitude contrast)), the latter seen through `ctf`; thick ice and crystals, where that
    linear rule fails, come out right too. The picture is periodic: leave a margin.

    Parameters
    ----------
    phase : np.ndarray
        `(h, w)` float32, radian: projected potential times `interaction_rad_VA`.
    absorption : np.ndarray
        `(h, w)` float32: the amplitude falls to exp(-absorption), the intensity to its square.
    pixel_size_A : float
        Of both.
    optics : Optics
        The microscope.

    Returns
    -------
    np.ndarray
        `(h, w)` float32; 1 where nothing lies in the beam.
    """
    shape = (phase.shape[0], phase.shape[1])
    wave = fft.fft2(np.exp(np.float32(-1) * absorption + 1j * phase).astype(np.complex64))
    wave *= np.exp(1j * aberration(shape, pixel_size_A, optics)) * envelope(shape, pixel_size_A, optics)
    return np.square(np.abs(np.asarray(fft.ifft2(wave, overwrite_x=True))))
