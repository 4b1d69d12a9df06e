"""From a canvas to counts of electrons: through the lens, to the camera, at a dose that gives an SNR."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from upicker.errors import ConfigError
from upicker.image.boxes import cut
from upicker.simulate.canvas import Canvas, fast_length
from upicker.simulate.microscope.detector import Detector, expose
from upicker.simulate.microscope.optics import Optics, aberration, envelope, interaction_rad_VA
from upicker.statistics import evenly_spaced

MEASURED = 48  # particles that an SNR is measured on
TRIES, CLOSE = 5, 0.03  # at a dose that gives the SNR asked for; they end this close to it


@dataclass(frozen=True, eq=False)
class Patches:
    """Discs of particles, on which the SNR is measured.

    Attributes
    ----------
    corners : np.ndarray
        `(m, 2)` int, row and column in the picture of the squares around the discs.
    signal : np.ndarray
        `(m, s, s)` float32, what the particles add to a picture of mean 1.
    disc : np.ndarray
        `(s, s)` bool.
    """

    corners: np.ndarray
    signal: np.ndarray
    disc: np.ndarray

    def cut(self, picture: np.ndarray) -> np.ndarray:
        """Return `(m, s, s)` the squares of a picture."""
        return cut(picture, self.corners[:, ::-1], self.disc.shape)

    def variance(self, squares: np.ndarray) -> float:
        """Return the variance within the discs, each about its own mean."""
        return float(squares[:, self.disc].var(1, dtype=np.float64).mean())

    @property
    def signal_variance(self) -> float:
        """Of the particles, at a mean of 1."""
        return self.variance(self.signal)

    def snr(self, counts: np.ndarray, mean: float) -> float:
        """Return that of a picture of counts."""
        rest = self.variance(self.cut(counts) - np.float32(mean) * self.signal)
        return mean**2 * self.signal_variance / rest if rest > 0 else np.inf


def patches(
    canvas: Canvas, layers_VA: np.ndarray, xy: np.ndarray, diameter_px: np.ndarray, optics: Optics
) -> Patches | None:
    """Image particles alone, to first order, around some of them that lie wholly in the picture.

    Parameters
    ----------
    canvas : Canvas
        Where they are painted.
    layers_VA : np.ndarray
        `(slices, h, w)` complex64, see `painting.Painted`.
    xy : np.ndarray
        `(n, 2)` their centres in the picture.
    diameter_px : np.ndarray
        `(n,)` of their discs; the mean is taken.
    optics : Optics
        The microscope.

    Returns
    -------
    Patches or None
        None if no particle lies wholly in the picture.
    """
    if not len(xy):
        return None
    half = int(np.ceil(diameter_px.mean() / 2))
    centre = np.rint(xy[:, ::-1]).astype(int)
    whole = ((centre >= half) & (centre < np.array(canvas.picture) - half)).all(1)
    centre = centre[whole]
    if not len(centre):
        return None
    centre = centre[evenly_spaced(len(centre), MEASURED)]
    # Fringes of neighbours come in from the sides; those of what lies beyond half a diameter do not count.
    wide = fast_length(4 * half)
    shape = (wide, wide)
    transfer = envelope(shape, canvas.pixel_size_A, optics) * np.exp(
        1j * aberration(shape, canvas.pixel_size_A, optics)
    )
    strength = interaction_rad_VA(optics.voltage_kV) * (1j - np.tan(np.arcsin(optics.amplitude_contrast)))
    signal = []
    for row, column in centre + canvas.margin_px:
        top, left = row - wide // 2, column - wide // 2
        rows, columns = ((np.arange(a, a + wide)) % n for a, n in zip((top, left), canvas.shape, strict=True))
        wave = np.asarray(fft.fft2(layers_VA[:, rows[:, None], columns].sum(0) * np.complex64(strength)))
        picture = 2 * np.real(np.asarray(fft.ifft2(wave * transfer)))
        first = wide // 2 - half
        signal.append(picture[first : first + 2 * half + 1, first : first + 2 * half + 1])
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    disc = y**2 + x**2 <= (diameter_px.mean() / 2) ** 2
    return Patches(centre - half, np.stack(signal).astype(np.float32), disc)


@dataclass(frozen=True, eq=False)
class Exposed:
    """A picture as counted.

    Attributes
    ----------
    counts : np.ndarray
        `(h, w)` float32.
    dose_e_A2 : float
        Electrons that reached the camera.
    snr : float
        Measured; NaN without particles.
    """

    counts: np.ndarray
    dose_e_A2: float
    snr: float


@dataclass(frozen=True, eq=False)
class Shot:
    """What is counted.

    Attributes
    ----------
    picture : np.ndarray
        `(h, w)` float32, intensity; 1 on average where only ice lies in the beam.
    detector : Detector
        The camera.
    pixel_size_A : float
        Of the picture.
    seen : Patches or None
        What the SNR is measured on.
    """

    picture: np.ndarray
    detector: Detector
    pixel_size_A: float
    seen: Patches | None


def exposed(rng: np.random.Generator, shot: Shot, dose_e_A2: float) -> Exposed:
    """Count electrons at a dose."""
    per_pixel = dose_e_A2 * shot.pixel_size_A**2
    counts = expose(rng, shot.picture * np.float32(per_pixel), shot.detector)
    snr = shot.seen.snr(counts, per_pixel * shot.detector.efficiency) if shot.seen else float("nan")
    return Exposed(counts, dose_e_A2, snr)


def exposed_for_snr(rng: np.random.Generator, shot: Shot, dose_e_A2: float, snr: float) -> Exposed:
    """Count electrons at the dose that gives an SNR; the search begins at `dose_e_A2`.

    At a dose d the noise is A d of counting plus B d^2 of the ice's structure, the signal S d^2. So the SNR grows with
    the dose, to at most S / B.

    Raises
    ------
    ConfigError
        If no dose gives that SNR.
    """
    seen = shot.seen
    assert seen is not None
    signal, structure = seen.signal_variance, seen.variance(seen.cut(shot.picture) - seen.signal)
    if snr * structure >= 0.9 * signal:
        raise ConfigError(
            "snr",
            f"{snr:g} cannot be reached: with any number of electrons the ice's own structure leaves "
            f"{signal / structure:.2g}",
            "Ask for less, or for a smaller ice.noise",
        )
    for _ in range(TRIES):
        made = exposed(rng, shot, dose_e_A2)
        if abs(made.snr / snr - 1) < CLOSE:
            break
        dose_e_A2 *= (signal / made.snr - structure) / (signal / snr - structure)
    return made
