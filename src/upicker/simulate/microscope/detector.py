"""The camera: from expected electrons to counted electrons.

After Vulovic et al., J. Struct. Biol. 183 (2013): the expected image is filtered by MTF / NTF, electrons are counted
(Poisson), and the result is filtered by NTF. So contrast is transferred by the MTF, the power of the noise is NTF^2
times the counts, and the ratio of both is DQE(0) (MTF / NTF)^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upicker.errors import ConfigError
from upicker.simulate.microscope.cameras import IDEAL, Camera, find
from upicker.simulate.microscope.filters import filtered, row_blocks

_HOT = 30.0  # mean value of a hot pixel, as a multiple of the mean of the image
_COLUMN_ERROR = 0.2  # standard deviation of a bad column's gain
# From this mean on counts are drawn by a formula (see `count`), 4 times as fast.
_MANY = 20.0


@dataclass(frozen=True)
class Detector:
    """A camera and its state.

    Attributes
    ----------
    camera : ``"ideal"``, one of `cameras.CAMERAS`, or a file of a modulation transfer function.
    voltage_kV : acceleration voltage, which selects the camera's table.
    binning : size of the image's pixels in pixels of the camera, at least 1: 2 after Fourier cropping to half the size,
        which keeps the lower half of the camera's frequencies.
    dqe0 : detective quantum efficiency at frequency 0, 0..1; None: that of the camera.
    gain_error : standard deviation of the gain of the pixels about 1, after the gain reference.
    hot_pixels : mean number per million pixels.
    dead_pixels : mean number per million pixels; their value is 0.
    bad_columns : mean number per image; their gain is wrong by a fifth.

    Raises
    ------
    ConfigError
        If there is no such camera, a value is outside its range, or the camera's table does not cover the frequencies.
    """

    camera: str = "k3"
    voltage_kV: float = 300.0
    binning: float = 1.0
    dqe0: float | None = None
    gain_error: float = 0.005
    hot_pixels: float = 1.0
    dead_pixels: float = 1.0
    bad_columns: float = 0.0

    def __post_init__(self) -> None:
        for name in ("gain_error", "hot_pixels", "dead_pixels", "bad_columns"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ConfigError(
                    name, f"{getattr(self, name):g} is negative or not finite", "Give a positive number, or 0"
                )
        if self.gain_error >= 0.5:
            raise ConfigError("gain_error", f"{self.gain_error:g} is too large", "Give a fraction, such as 0.005")
        if not self.binning > 0:
            raise ConfigError("binning", f"{self.binning:g} is not positive", "Give 1 for the camera's own pixels")
        if self.dqe0 is not None and not 0 < self.dqe0 <= 1:
            raise ConfigError("dqe0", f"{self.dqe0:g} is not in (0, 1]", "Give more than 0 and at most 1")
        last = self.table.last
        if 0.5 / self.binning > last * 1.001:
            raise ConfigError(
                "binning",
                f"{self.binning:g} needs {0.5 / self.binning:g} cycles per pixel of {self.camera}, whose table ends "
                f"at {last:g}",
                f"Give {0.5 / last:g} or more",
            )

    @property
    def table(self) -> Camera:
        """The transfer of contrast and noise by the camera."""
        return find(self.camera, self.voltage_kV)

    @property
    def efficiency(self) -> float:
        """The fraction of the electrons that is counted: DQE(0)."""
        return self.table.dqe0 if self.dqe0 is None else self.dqe0


def expose(rng: np.random.Generator, electrons_per_px: np.ndarray, detector: Detector) -> np.ndarray:
    """Count electrons with a camera.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator: equal ones give equal counts, gains and hot pixels.
    electrons_per_px : np.ndarray
        `(h, w)` float32: expected number of electrons in each pixel, without noise, not negative.
    detector : Detector
        The camera.

    Returns
    -------
    np.ndarray
        `(h, w)` float32 counts. Their mean is `detector.efficiency` times that of the expected electrons (apart from
        hot, dead and bad pixels); integers only if the noise is white and the gain uniform.

    Raises
    ------
    ConfigError
        If an expected number is negative or not finite.
    """
    lowest = float(electrons_per_px.min())
    if not lowest >= 0:
        raise ConfigError("electrons_per_px", f"{lowest:g} electrons are expected in a pixel", "Give 0 or more")
    camera, efficiency = detector.table, detector.efficiency
    mean = efficiency * np.asarray(electrons_per_px, np.float32)
    if camera != IDEAL:
        mean = filtered(mean, detector.binning, lambda f: camera.transfer(f) / camera.noise(f))
    counts = count(rng, np.maximum(mean, 0, out=mean))
    if camera.ntf_nyquist != 1:
        counts = filtered(counts, detector.binning, camera.noise)
    _add_defects(rng, counts, detector)
    return counts


def count(rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
    """Return Poisson random numbers, fast where the mean is at least 20.

    There the number is m + z sqrt(m - 5/36) + (z^2 - 1) / 6, rounded, for a normal z: the Cornish-Fisher expansion to
    the skewness, less the variance that the square and the rounding add (1/18 and 1/12). Mean and variance are those
    of a Poisson distribution to 3e-4, the skewness to 1 %; one of a thousand numbers would have to differ.

    Parameters
    ----------
    rng : np.random.Generator
        Random generator.
    mean : np.ndarray
        `(h, w)` float32, not negative.

    Returns
    -------
    np.ndarray
        `(h, w)` float32, integers.
    """
    counts = np.empty(mean.shape, np.float32)
    for rows in row_blocks(len(mean)):
        block = np.asarray(mean[rows], np.float32)
        z = rng.standard_normal(block.shape, np.float32)
        drawn = np.sqrt(np.maximum(block - np.float32(5 / 36), 0))
        drawn += z * np.float32(1 / 6)
        drawn *= z
        drawn += block
        drawn -= np.float32(1 / 6)
        np.rint(drawn, out=counts[rows])
        few = block < _MANY
        if few.any():
            counts[rows][few] = rng.poisson(block[few])
    return counts


def _add_defects(rng: np.random.Generator, counts: np.ndarray, detector: Detector) -> None:
    """Apply gain errors, bad columns, hot and dead pixels, in place."""
    mean = float(counts.mean())
    if detector.gain_error > 0:
        for rows in row_blocks(len(counts)):
            gain = rng.standard_normal(counts[rows].shape, np.float32)
            gain *= np.float32(detector.gain_error)
            gain += 1
            counts[rows] *= gain
    bad = rng.integers(counts.shape[1], size=rng.poisson(detector.bad_columns))
    counts[:, bad] *= np.maximum(rng.normal(1, _COLUMN_ERROR, len(bad)), 0).astype(np.float32)
    for per_million, value in ((detector.hot_pixels, _HOT * mean), (detector.dead_pixels, 0.0)):
        number = rng.poisson(per_million * 1e-6 * counts.size)
        values = value * rng.exponential(size=number).astype(np.float32)
        counts.flat[rng.integers(counts.size, size=number)] = values
