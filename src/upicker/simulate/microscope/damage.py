"""Radiation damage and motion during the exposure: curves by which structure fades.

All are factors of the amplitude of a Fourier component, as a function of its frequency in 1 / A, for `filters.filtered`
or `filters.multiply` on a projected potential. They attenuate the signal, not the noise of counting.
"""

from __future__ import annotations

import numpy as np

from upicker.errors import ConfigError
from upicker.simulate.microscope.optics import speed2

# Grant & Grigorieff, eLife 4:e06980 (2015): critical exposure at 300 kV, a k^b + c, measured on rotavirus.
_GRANT = (0.24499, -1.6649, 2.8141)
_REFERENCE_KV = 300.0
# McMullan, Vinothkumar & Henderson, Ultramicroscopy 158, 26 (2015): mean squared displacement of a water molecule in
# space per electron per square Angstrom at 300 kV.
WATER_MOTION_A2 = 1.1


def critical_exposure_e_A2(k: np.ndarray, voltage_kV: float = 300.0) -> np.ndarray:  # noqa: N802
    """Return the critical exposure, at which the power of Fourier components of a protein has fallen to 1/e.

    0.24499 k^-1.6649 + 2.8141 at 300 kV (Grant & Grigorieff, eLife 4:e06980, 2015). Slower electrons deposit more
    energy, in inverse proportion to their squared speed, so that it is 0.80 of this at 200 kV, as the authors found.

    Parameters
    ----------
    k : np.ndarray
        Frequencies in 1 / A, any shape; infinity at 0.
    voltage_kV : float
        Acceleration voltage.

    Returns
    -------
    np.ndarray
        Electrons per square Angstrom, of the shape of `k`.
    """
    a, b, c = _GRANT
    with np.errstate(divide="ignore"):
        return (a * np.power(np.asarray(k, np.float64), b) + c) * (speed2(voltage_kV) / speed2(_REFERENCE_KV))


def damage_curve(
    k: np.ndarray, dose_e_A2: float, voltage_kV: float = 300.0, weighted: bool = False, before_e_A2: float = 0.0
) -> np.ndarray:
    """Return the factor by which radiation damage attenuates a protein in the sum of an exposure.

    An amplitude decays as exp(-N / 2 Ne) with the exposure N. In a plain sum it is the mean of that over the exposure.
    In a dose-weighted one, where each frame has a weight in proportion to its signal and the noise is kept constant, it
    is the root mean square, which is larger where both are small.

    Parameters
    ----------
    k : np.ndarray
        Frequencies in 1 / A, any shape.
    dose_e_A2 : float
        Exposure of the micrograph, electrons per square Angstrom, at a constant rate.
    voltage_kV : float
        Acceleration voltage.
    weighted : bool
        Whether frames were dose-weighted before they were summed.
    before_e_A2 : float
        Exposure of the specimen before the micrograph.

    Returns
    -------
    np.ndarray
        Of the shape of `k`, 0..1; 1 at frequency 0.

    Raises
    ------
    ConfigError
        If a dose is negative.
    """
    _not_negative("dose_e_A2", dose_e_A2, "electrons per square Angstrom")
    _not_negative("before_e_A2", before_e_A2, "electrons per square Angstrom")
    critical = critical_exposure_e_A2(k, voltage_kV)
    exponent = dose_e_A2 / (2 * critical)
    mean = np.sqrt(_mean_decay(2 * exponent)) if weighted else _mean_decay(exponent)
    return np.exp(-before_e_A2 / (2 * critical)) * mean


def motion_curve(k: np.ndarray, motion_A: float) -> np.ndarray:
    """Return the factor by which motion during the exposure attenuates a specimen, exp(-2 pi^2 k^2 s^2).

    Residual motion after its correction has any direction over a data set, so it is modelled by an isotropic Gaussian.
    This equals a B factor of 8 pi^2 s^2.

    Parameters
    ----------
    k : np.ndarray
        Frequencies in 1 / A, any shape.
    motion_A : float
        Standard deviation of the position along each axis of the image, over the exposure.

    Raises
    ------
    ConfigError
        If the motion is negative.
    """
    _not_negative("motion_A", motion_A, "Angstrom")
    return np.exp(-2 * (np.pi * motion_A * np.asarray(k, np.float64)) ** 2)


def water_curve(k: np.ndarray, dose_e_A2: float, voltage_kV: float = 300.0) -> np.ndarray:
    """Return the factor by which beam-induced motion attenuates the structure of ice in the sum of an exposure.

    Under the beam water molecules diffuse, 1.1 A^2 per electron per A^2 at 300 kV (McMullan et al., Ultramicroscopy
    158, 2015), a third of it along each axis. Images that are N electrons apart then correlate as exp(-c N),
    c = 2 pi^2 k^2 1.1/3, and the power of their mean is 2 (exp(-x) - 1 + x) / x^2 with x = c times the dose. So ice
    gets smoother with the dose, but more slowly than a structure that is destroyed.

    Parameters
    ----------
    k : np.ndarray
        Frequencies in 1 / A, any shape.
    dose_e_A2 : float
        Exposure of the micrograph.
    voltage_kV : float
        Acceleration voltage; the motion is inversely proportional to the squared speed of the electrons.

    Returns
    -------
    np.ndarray
        Of the shape of `k`, 0..1; 1 at frequency 0.

    Raises
    ------
    ConfigError
        If the dose is negative.
    """
    _not_negative("dose_e_A2", dose_e_A2, "electrons per square Angstrom")
    per_axis_A2 = WATER_MOTION_A2 / 3 * speed2(_REFERENCE_KV) / speed2(voltage_kV)
    x = 2 * np.pi**2 * np.square(np.asarray(k, np.float64)) * per_axis_A2 * dose_e_A2
    # For small x the closed form is a difference of nearly equal numbers: use its series.
    large = np.maximum(x, 1e-3)
    power = np.where(x < 1e-3, 1 - x / 3, 2 * (np.expm1(-large) + large) / large**2)
    return np.sqrt(power)


def _mean_decay(x: np.ndarray) -> np.ndarray:
    """Return the mean of exp(-t) over t from 0 to x."""
    safe = np.where(x > 0, x, 1.0)
    return np.where(x > 0, -np.expm1(-safe) / safe, 1.0)


def _not_negative(name: str, value: float, unit: str) -> None:
    if not 0 <= value < np.inf:
        raise ConfigError(name, f"{value:g} is negative or not finite", f"Give {unit}")
