"""What the beam does to the specimen while it is watched: curves that fade its structure.

All are factors on the amplitude of a Fourier component, over its frequency in 1 / A, for `filters.filtered` or
`filters.multiply` on a projected potential. They fade what is scattered; the noise of counting has no part in them.
"""

from __future__ import annotations

import numpy as np

from upicker.errors import ConfigError
from upicker.simulate.microscope.optics import speed2

# Grant & Grigorieff, eLife 4:e06980 (2015): critical exposure at 300 kV, a k^b + c, measured on rotavirus.
_GRANT = (0.24499, -1.6649, 2.8141)
_REFERENCE_KV = 300.0
# McMullan, Vinothkumar & Henderson, Ultramicroscopy 158, 26 (2015): mean square of a water molecule's way in space
# for each electron per square Angstrom at 300 kV.
WATER_MOTION_A2 = 1.1


def critical_exposure_e_A2(k: np.ndarray, voltage_kV: float = 300.0) -> np.ndarray:  # noqa: N802
    """Return the exposure after which a protein's Fourier components have fallen to 1/e in power.

    0.24499 k^-1.6649 + 2.8141 at 300 kV (Grant & Grigorieff, eLife 4:e06980, 2015). Slower electrons leave more
    energy, as one over the square of their speed, so that 200 kV allow 0.80 of it, the authors' own figure.

    Parameters
    ----------
    k : np.ndarray
        Frequencies in 1 / A, any shape; infinity at 0.
    voltage_kV : float
        Acceleration voltage.

    Returns
    -------
    np.ndarray
        Of the shape of `k`, electrons per square Angstrom.
    """
    a, b, c = _GRANT
    with np.errstate(divide="ignore"):
        return (a * np.power(np.asarray(k, np.float64), b) + c) * (speed2(voltage_kV) / speed2(_REFERENCE_KV))


def damage_curve(
    k: np.ndarray, dose_e_A2: float, voltage_kV: float = 300.0, weighted: bool = False, before_e_A2: float = 0.0
) -> np.ndarray:
    """Return what radiation damage leaves of a protein's structure in the sum of an exposure.

    An amplitude falls as exp(-N / 2 Ne) with the exposure N. A plain sum has the mean of that over the exposure.
    A dose-weighted one, which weighs each frame by what is left in it and keeps the noise as it was, has the root of
    its mean square: more, where both are small.

    Parameters
    ----------
    k : np.ndarray
        Frequencies in 1 / A, any shape.
    dose_e_A2 : float
        Exposure of the picture, electrons per square Angstrom, evenly spread over its time.
    voltage_kV : float
        Acceleration voltage.
    weighted : bool
        Whether frames were weighted by dose before they were summed.
    before_e_A2 : float
        Exposure of the specimen before the picture.

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
    faded = dose_e_A2 / (2 * critical)
    left = np.sqrt(_mean_decay(2 * faded)) if weighted else _mean_decay(faded)
    return np.exp(-before_e_A2 / (2 * critical)) * left


def motion_curve(k: np.ndarray, motion_A: float) -> np.ndarray:
    """Return what is left of a specimen that moved during the exposure, exp(-2 pi^2 k^2 s^2).

    Motion has one direction in one place, and any direction over a data set and after the correction for it: a
    Gaussian stands for what remains. It equals a B factor of 8 pi^2 s^2.

    Parameters
    ----------
    k : np.ndarray
        Frequencies in 1 / A, any shape.
    motion_A : float
        Standard deviation of the place along each axis of the picture, over the exposure.

    Raises
    ------
    ConfigError
        If the motion is negative.
    """
    _not_negative("motion_A", motion_A, "Angstrom")
    return np.exp(-2 * (np.pi * motion_A * np.asarray(k, np.float64)) ** 2)


def water_curve(k: np.ndarray, dose_e_A2: float, voltage_kV: float = 300.0) -> np.ndarray:
    """Return what is left of the ice's own structure in the sum of an exposure.

    Under the beam water molecules walk at random, 1.1 A^2 for each electron per A^2 at 300 kV (McMullan et al.,
    Ultramicroscopy 158, 2015), a third of it along each axis. Two moments N electrons apart then correlate as
    exp(-c N), c = 2 pi^2 k^2 1.1/3, and the power of their mean is 2 (exp(-x) - 1 + x) / x^2 with x = c times the dose.
    So ice becomes smooth, but never as fast as a structure that is lost for good.

    Parameters
    ----------
    k : np.ndarray
        Frequencies in 1 / A, any shape.
    dose_e_A2 : float
        Exposure of the picture.
    voltage_kV : float
        Acceleration voltage; slower electrons move more, as one over the square of their speed.

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
    # Where x is small the closed form is a difference of nearly equal numbers: its series instead.
    large = np.maximum(x, 1e-3)
    power = np.where(x < 1e-3, 1 - x / 3, 2 * (np.expm1(-large) + large) / large**2)
    return np.sqrt(power)


def _mean_decay(x: np.ndarray) -> np.ndarray:
    """Return the mean of exp(-t) over t from 0 to x."""
    safe = np.where(x > 0, x, 1.0)
    return np.where(x > 0, -np.expm1(-safe) / safe, 1.0)


def _not_negative(name: str, value: float, unit: str) -> None:
    if not 0 <= value < np.inf:
        raise ConfigError(name, f"{value:g} is not a number of 0 or more", f"Give {unit}")
