"""The microscope: wavelength, contrast transfer, and the image of an exit wave.

Signs: underfocus is positive, and what scatters more than the ice (a protein) is dark. The phase of a wave increases
with the potential, exp(+i sigma V); the lens adds exp(+i aberration).

`intensity` computes the full image, not the weak-phase approximation (1 plus twice the phase convolved with the CTF): a
specimen with 0.1 rad (root mean square) has a contrast of 0.13, of which that misses 0.012; contaminants and crystals
are not weak phase objects at all. The approximation would be twice as fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from upicker.errors import ConfigError
from upicker.simulate.microscope.filters import ROWS_AT_ONCE, frequencies, row_blocks

REST_ENERGY_KV = 510.998950
_HC_KV_A = 12.398420  # Planck's constant times the speed of light, in kiloelectronvolt times Angstrom
_FWHM = 2.354820  # full width at half maximum of a Gaussian, in standard deviations

# Ranges of the settings. A number outside was most likely meant in another unit.
_RANGES = {
    "voltage_kV": (20.0, 3000.0),
    "Cs_mm": (0.0, 100.0),
    "amplitude_contrast": (0.0, 0.99),
    "defocus_A": (-1e6, 1e6),
    "astigmatism_A": (0.0, 1e6),
    "astigmatism_deg": (-360.0, 360.0),
    "phase_plate_deg": (-360.0, 360.0),
    "Cc_mm": (0.0, 100.0),
    "energy_spread_eV": (0.0, 100.0),
    "voltage_ripple_ppm": (0.0, 1000.0),
    "lens_ripple_ppm": (0.0, 1000.0),
    "divergence_mrad": (0.0, 10.0),
    "envelope_B_A2": (0.0, 1e5),
}
_MICROMETRES_A = 10.0  # a defocus below this many Angstrom, but not 0, was meant in micrometres


@dataclass(frozen=True)
class Optics:
    """A microscope and its settings for one image. The defaults are those of a 300 kV field emission gun.

    Attributes
    ----------
    voltage_kV : acceleration voltage.
    Cs_mm : spherical aberration.
    amplitude_contrast : fraction of amplitude contrast, 0..1 (0.07 to 0.1 for protein in ice).
    defocus_A : mean defocus, underfocus positive.
    astigmatism_A : largest minus smallest defocus.
    astigmatism_deg : angle of the largest defocus, from the x axis (along columns) towards the y axis.
    phase_plate_deg : phase shift of the scattered wave by a phase plate; ideally 90.
    Cc_mm : chromatic aberration.
    energy_spread_eV : of the gun, full width at half maximum.
    voltage_ripple_ppm : of the acceleration voltage, standard deviation in parts per million.
    lens_ripple_ppm : of the objective lens current, standard deviation in parts per million.
    divergence_mrad : half angle of the illumination, at which the source has fallen to 1/e.
    envelope_B_A2 : other loss of contrast at high frequencies, exp(-B k^2 / 4): drift, charging, a thick specimen.

    Raises
    ------
    ConfigError
        If a value is impossible, or can only have been meant in another unit.
    """

    voltage_kV: float = 300.0
    Cs_mm: float = 2.7
    amplitude_contrast: float = 0.1
    defocus_A: float = 15000.0
    astigmatism_A: float = 0.0
    astigmatism_deg: float = 0.0
    phase_plate_deg: float = 0.0
    Cc_mm: float = 2.7
    energy_spread_eV: float = 0.7
    voltage_ripple_ppm: float = 0.07
    lens_ripple_ppm: float = 0.1
    divergence_mrad: float = 0.01
    envelope_B_A2: float = 60.0

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                unit = name.rpartition("_")[2] if "_" in name and name != "amplitude_contrast" else "a fraction, 0..1"
                remedy = f"Give a number from {low:g} to {high:g}; its unit: {unit}"
                raise ConfigError(name, f"{value:g} is out of range", remedy)
        if 0 < abs(self.defocus_A) < _MICROMETRES_A:
            remedy = "Give Angstrom: 1.5 micrometres are 15000"
            raise ConfigError("defocus_A", f"{self.defocus_A:g} looks like micrometres", remedy)


def wavelength_A(voltage_kV: float) -> float:  # noqa: N802
    """Return the relativistic wavelength of the electrons, hc / sqrt(eV (eV + 2 mc^2)); 0.0197 A at 300 kV."""
    return float(_HC_KV_A / np.sqrt(voltage_kV * (voltage_kV + 2 * REST_ENERGY_KV)))


def interaction_rad_VA(voltage_kV: float) -> float:  # noqa: N802
    """Return the interaction constant, the phase shift in radian per volt times Angstrom; 6.53e-4 at 300 kV."""
    relativistic = (REST_ENERGY_KV + voltage_kV) / (2 * REST_ENERGY_KV + voltage_kV)
    return float(2 * np.pi / (wavelength_A(voltage_kV) * voltage_kV * 1e3) * relativistic)


def speed2(voltage_kV: float) -> float:
    """Return the squared speed of the electrons relative to light, 0.603 at 300 kV; damage scales with its inverse."""
    return float(1 - (REST_ENERGY_KV / (REST_ENERGY_KV + voltage_kV)) ** 2)


def focus_spread_A(optics: Optics) -> float:  # noqa: N802
    """Return the standard deviation of the focus from fluctuations of energy and lens current, about 35 A.

    Cc sqrt((dE/E)^2 + (dV/V)^2 + (2 dI/I)^2), the former two with the relativistic factor
    (1 + E/mc^2) / (1 + E/2mc^2) (Reimer & Kohl, Transmission Electron Microscopy, 2008, chapters 2 and 6).
    """
    energy = optics.voltage_kV / REST_ENERGY_KV
    relativistic = (1 + energy) / (1 + energy / 2)
    gun = optics.energy_spread_eV / _FWHM / (optics.voltage_kV * 1e3)
    energy_spread = np.hypot(gun, optics.voltage_ripple_ppm * 1e-6) * relativistic
    return float(optics.Cc_mm * 1e7 * np.hypot(energy_spread, 2e-6 * optics.lens_ripple_ppm))


def aberration(shape: tuple[int, int], pixel_size_A: float, optics: Optics, half: bool = False) -> np.ndarray:
    """Return the phase shift of the lens, pi lambda df k^2 - pi/2 Cs lambda^3 k^4, and of the phase plate.

    The unscattered beam, frequency 0, is not shifted by the phase plate: there the phase is 0.

    Returns
    -------
    np.ndarray
        `(h, w)` float32, radian, at the frequencies of the full transform, or `(h, w // 2 + 1)`
        (`filters.frequencies`).
    """
    lens = _Lens(shape, pixel_size_A, optics, half)
    phase = lens.phase(slice(None))
    phase[0, 0] = 0
    return phase


def envelope(shape: tuple[int, int], pixel_size_A: float, optics: Optics, half: bool = False) -> np.ndarray:
    """Return the envelope of the contrast transfer.

    The product of three: spatial coherence, exp(-(pi alpha / lambda)^2 (lambda df k - Cs lambda^3 k^3)^2); temporal
    coherence, exp(-(pi lambda D)^2 k^4 / 2) with D the `focus_spread_A` (Wade & Frank, Optik 49, 1977); and
    exp(-B k^2 / 4). The first neglects astigmatism, which changes the exponent by a few per cent.

    Returns
    -------
    np.ndarray
        `(h, w)` float32 at the frequencies of the full transform, or `(h, w // 2 + 1)`; 1 at the origin.
    """
    return _Lens(shape, pixel_size_A, optics, half).envelope(slice(None))


def ctf(shape: tuple[int, int], pixel_size_A: float, optics: Optics, half: bool = False) -> np.ndarray:
    """Return the contrast transfer function, -sin(aberration + asin(amplitude contrast)), with its envelope.

    Returns
    -------
    np.ndarray
        `(h, w)` float32 at the frequencies of the full transform, or `(h, w // 2 + 1)`; negative near the origin:
        protein is dark.
    """
    lens = _Lens(shape, pixel_size_A, optics, half)
    columns = shape[1] // 2 + 1 if half else shape[1]
    transfer = np.empty((shape[0], columns), np.float32)
    for rows in row_blocks(shape[0]):
        np.sin(lens.phase(rows, np.arcsin(optics.amplitude_contrast)), out=transfer[rows])
        transfer[rows] *= lens.envelope(rows)
    transfer[0, 0] = optics.amplitude_contrast
    return np.negative(transfer, out=transfer)


def intensity(phase: np.ndarray, absorption: np.ndarray, pixel_size_A: float, optics: Optics) -> np.ndarray:
    """Return the image of the exit wave exp(i phase - absorption).

    For a weak particle of phase p, with absorption p tan(asin(amplitude contrast)), this is
    1 + 2 p / cos(asin(amplitude contrast)), the latter convolved with `ctf`; it also holds for thick ice and crystals,
    where this linear approximation fails. The image is periodic: leave a margin.

    Parameters
    ----------
    phase : np.ndarray
        `(h, w)` float32, radian: projected potential times `interaction_rad_VA`.
    absorption : np.ndarray
        `(h, w)` float32: the amplitude is reduced by exp(-absorption), the intensity by its square.
    pixel_size_A : float
        Of both.
    optics : Optics
        The microscope.

    Returns
    -------
    np.ndarray
        `(h, w)` float32; 1 where the potential is 0. What the envelope removes does not reach the image.
    """
    wave = np.ones(phase.shape, np.complex64)
    transmit(wave, phase, absorption)
    return wave_intensity(np.asarray(fft.fft2(wave, overwrite_x=True)), pixel_size_A, optics)


def transmit(wave: np.ndarray, phase: np.ndarray, absorption: np.ndarray) -> None:
    """Transmit a wave `(h, w)` complex64 through a thin slice, in place: times exp(i phase - absorption)."""
    factor = np.empty((min(len(wave), ROWS_AT_ONCE), wave.shape[1]), np.complex64)
    for rows in row_blocks(len(wave)):
        block = factor[: rows.stop - rows.start]
        amplitude = np.exp(-np.asarray(absorption[rows], np.float32))
        angle = np.asarray(phase[rows], np.float32)
        np.multiply(np.cos(angle), amplitude, out=block.real)
        np.multiply(np.sin(angle), amplitude, out=block.imag)
        wave[rows] *= block


def wave_intensity(spectrum: np.ndarray, pixel_size_A: float, optics: Optics) -> np.ndarray:
    """Return the image of a wave given by its transform.

    Parameters
    ----------
    spectrum : np.ndarray
        `(h, w)` complex64, `scipy.fft.fft2` of the wave in the plane to which `optics.defocus_A` refers; overwritten.
    pixel_size_A : float
        Of the wave.
    optics : Optics
        The microscope.

    Returns
    -------
    np.ndarray
        `(h, w)` float32.
    """
    lens = _Lens((spectrum.shape[0], spectrum.shape[1]), pixel_size_A, optics, half=False)
    unscattered = spectrum[0, 0]
    factor = np.empty((min(len(spectrum), ROWS_AT_ONCE), spectrum.shape[1]), np.complex64)
    for rows in row_blocks(len(spectrum)):
        block = factor[: rows.stop - rows.start]
        angle, envelope = lens.phase(rows), lens.envelope(rows)
        np.multiply(np.cos(angle), envelope, out=block.real)
        np.multiply(np.sin(angle), envelope, out=block.imag)
        spectrum[rows] *= block
    spectrum[0, 0] = unscattered
    wave = np.asarray(fft.ifft2(spectrum, overwrite_x=True))
    image = np.empty(wave.shape, np.float32)
    for rows in row_blocks(len(wave)):
        image[rows] = np.square(np.real(wave[rows])) + np.square(np.imag(wave[rows]))
    return image


class _Lens:
    """Phase and envelope of the lens for blocks of rows, as sums of a term per row and a term per column."""

    def __init__(self, shape: tuple[int, int], pixel_size_A: float, optics: Optics, half: bool) -> None:
        if not pixel_size_A > 0:
            raise ConfigError("pixel_size_A", f"{pixel_size_A:g} is not positive", "Give Angstrom per pixel")
        ky, kx = (k.astype(np.float64) for k in frequencies(shape, pixel_size_A, half))
        wavelength, cs_A = wavelength_A(optics.voltage_kV), optics.Cs_mm * 1e7
        # k^2 cos(2 (angle - axis)) is (kx^2 - ky^2) cos(2 axis) + 2 kx ky sin(2 axis): no angle is needed.
        axis, half_difference = np.deg2rad(2 * optics.astigmatism_deg), optics.astigmatism_A / 2
        pi_lambda = np.pi * wavelength
        self._y2, self._x2 = (ky**2).astype(np.float32), (kx**2).astype(np.float32)
        self._y_phase = (pi_lambda * (optics.defocus_A - half_difference * np.cos(axis)) * ky**2).astype(np.float32)
        self._x_phase = (pi_lambda * (optics.defocus_A + half_difference * np.cos(axis)) * kx**2).astype(np.float32)
        self._y_mixed = (pi_lambda * 2 * half_difference * np.sin(axis) * ky).astype(np.float32)
        self._x_mixed = kx.astype(np.float32)
        self._mixed = bool(np.any(self._y_mixed))
        self._spherical = np.float32(np.pi / 2 * cs_A * wavelength**3)
        self._plate = np.deg2rad(optics.phase_plate_deg)
        # All envelopes together are exp(q (a + q (b + q c))) in q = k^2.
        source = (np.pi * optics.divergence_mrad * 1e-3) ** 2
        bend = cs_A * wavelength**2
        self._a = np.float32(-optics.envelope_B_A2 / 4 - source * optics.defocus_A**2)
        self._b = np.float32(2 * source * optics.defocus_A * bend - (pi_lambda * focus_spread_A(optics)) ** 2 / 2)
        self._c = np.float32(-source * bend**2)

    def phase(self, rows: slice, shift: float = 0.0) -> np.ndarray:
        """Return aberration, phase plate and `shift` of some rows together, radian, float32; also at the origin."""
        q = self._y2[rows] + self._x2
        phase = np.square(q, out=q)
        phase *= -self._spherical
        phase += self._y_phase[rows] + np.float32(self._plate + shift)
        phase += self._x_phase
        if self._mixed:
            phase += self._y_mixed[rows] * self._x_mixed
        return phase

    def envelope(self, rows: slice) -> np.ndarray:
        """Return the envelope of some rows, float32."""
        q = self._y2[rows] + self._x2
        exponent = q * self._c
        exponent += self._b
        exponent *= q
        exponent += self._a
        exponent *= q
        return np.exp(exponent, out=exponent)
