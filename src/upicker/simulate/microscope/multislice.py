"""Thick specimens: the multislice method."""

from __future__ import annotations

import numpy as np
from scipy import fft

from upicker.errors import ConfigError
from upicker.simulate.microscope.filters import frequencies, row_blocks
from upicker.simulate.microscope.optics import Optics, interaction_rad_VA, transmit, wave_intensity, wavelength_A


def exit_wave(
    slices_VA: np.ndarray,
    thickness_A: float,
    pixel_size_A: float,
    optics: Optics,
    absorption: np.ndarray | None = None,
) -> np.ndarray:
    """Return the exit wave of a specimen by the multislice method (Cowley & Moodie, Acta Cryst. 10, 1957).

    Each slice is a thin phase object in its middle, exp(i sigma V - absorption); between them the wave propagates
    through vacuum, exp(-i pi lambda dz k^2) in Fourier space (Kirkland, Advanced Computing in Electron Microscopy,
    chapter 6). At the end it is propagated back to the middle of the specimen, on which a lens without defocus is
    focused: a thin object at height z, downstream positive, has the defocus `defocus_A` + z. The image is periodic:
    leave a margin.

    Parameters
    ----------
    slices_VA : np.ndarray
        `(n, h, w)`, volt times Angstrom: the potential of each slice, integrated along the beam, in the order
        in which the beam passes them.
    thickness_A : float
        Of all slices together; they are equally thick.
    pixel_size_A : float
        Angstrom per pixel.
    optics : Optics
        Only voltage and amplitude contrast are used.
    absorption : np.ndarray, optional
        `(n, h, w)`: each slice reduces the amplitude by exp(-absorption); by default the phase shift times
        tan(asin(amplitude contrast)).

    Returns
    -------
    np.ndarray
        `(h, w)` complex64; 1 where the potential is 0.

    Raises
    ------
    ConfigError
        If there are no slices, or a length is not positive.
    """
    spectrum = _spectrum(slices_VA, thickness_A, pixel_size_A, optics, absorption)
    return np.asarray(fft.ifft2(spectrum, overwrite_x=True))


def thick_intensity(
    slices_VA: np.ndarray,
    thickness_A: float,
    pixel_size_A: float,
    optics: Optics,
    absorption: np.ndarray | None = None,
) -> np.ndarray:
    """Return the image of a thick specimen: that of its `exit_wave`.

    Returns
    -------
    np.ndarray
        `(h, w)` float32; 1 where the potential is 0. Equal to `optics.intensity` for one slice.

    Raises
    ------
    ConfigError
        As `exit_wave`.
    """
    return wave_intensity(_spectrum(slices_VA, thickness_A, pixel_size_A, optics, absorption), pixel_size_A, optics)


def _spectrum(
    slices_VA: np.ndarray, thickness_A: float, pixel_size_A: float, optics: Optics, absorption: np.ndarray | None
) -> np.ndarray:
    """Return the transform of the exit wave, focused on the middle of the specimen."""
    if slices_VA.ndim != 3 or not slices_VA.size:
        raise ConfigError("slices_VA", f"an array of shape {slices_VA.shape} has no slices", "Give (n, rows, columns)")
    for name, value in (("thickness_A", thickness_A), ("pixel_size_A", pixel_size_A)):
        if not value > 0:
            raise ConfigError(name, f"{value:g} is not positive", "Give Angstrom")
    count = len(slices_VA)
    step_A = thickness_A / count
    strength = np.float32(interaction_rad_VA(optics.voltage_kV))
    loss = np.float32(np.tan(np.arcsin(optics.amplitude_contrast)))
    wave = np.ones(slices_VA.shape[1:], np.complex64)
    for number, potential in enumerate(slices_VA):
        phase = strength * np.asarray(potential, np.float32)
        transmit(wave, phase, loss * phase if absorption is None else absorption[number])
        wave = np.asarray(fft.fft2(wave, overwrite_x=True))
        if number + 1 < count:
            _propagate(wave, step_A, pixel_size_A, optics)
            wave = np.asarray(fft.ifft2(wave, overwrite_x=True))
    _propagate(wave, -step_A * (count - 1) / 2, pixel_size_A, optics)
    return wave


def _propagate(spectrum: np.ndarray, distance_A: float, pixel_size_A: float, optics: Optics) -> None:
    """Propagate a wave given by its transform, in place: times exp(-i pi lambda distance k^2)."""
    if distance_A == 0:
        return
    factor = -1j * np.pi * wavelength_A(optics.voltage_kV) * distance_A
    ky, kx = frequencies((spectrum.shape[0], spectrum.shape[1]), pixel_size_A)
    along_rows, along_columns = (np.exp(factor * np.square(k, dtype=np.float64)).astype(np.complex64) for k in (ky, kx))
    for rows in row_blocks(len(spectrum)):
        spectrum[rows] *= along_rows[rows] * along_columns
