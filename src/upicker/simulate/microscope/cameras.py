"""Cameras: how they transfer contrast and noise, from tables of the manufacturers, or from a user's file.

Frequencies are in cycles per pixel of the camera, up to its Nyquist frequency, 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from upicker.errors import ConfigError


@dataclass(frozen=True)
class Camera:
    """A camera at one voltage.

    Attributes
    ----------
    mtf : modulation transfer function, at evenly spaced frequencies from 0 to `last`; 1 at 0.
    dqe0 : detective quantum efficiency at frequency 0: the fraction of the electrons that are counted.
    ntf_nyquist : noise transfer function at frequency 0.5 (see `noise`).
    last : highest frequency of `mtf`.
    """

    mtf: tuple[float, ...]
    dqe0: float
    ntf_nyquist: float
    last: float = 0.5

    def transfer(self, frequency: np.ndarray) -> np.ndarray:
        """Return the modulation transfer function at frequencies in cycles per camera pixel, any shape."""
        return np.interp(frequency, np.linspace(0, self.last, len(self.mtf)), self.mtf)

    def noise(self, frequency: np.ndarray) -> np.ndarray:
        """Return the noise transfer function, NTF(f) = NTF(0.5)^(4 f^2); the noise power is its square.

        A counting camera assigns each electron to one pixel, so that its noise is white. But coinciding electrons are
        counted once, which makes the counts of neighbours a little more uniform: relative to the lowest frequencies,
        noise rises by a few per cent (Li et al., J. Struct. Biol. 184, 2013). Where the signal of an electron extends
        over several pixels, noise decreases towards Nyquist as the signal does, but less. One Gaussian, rising or
        falling, describes both to the accuracy with which they are known.
        """
        return self.ntf_nyquist ** np.square(2 * np.asarray(frequency, np.float64))

    def dqe(self, frequency: np.ndarray) -> np.ndarray:
        """Return the detective quantum efficiency, DQE(0) (MTF / NTF)^2."""
        return self.dqe0 * np.square(self.transfer(frequency) / self.noise(frequency))


# Modulation transfer at 0, 0.025 .. 0.5 cycles per pixel: sampled from the tables that Gatan (K2 and K3, one dose
# rate), Thermo Fisher (Falcon 3EC and 4, counting) and RELION (DE-20, integrating) provide for post-processing.
# DQE(0) and the noise at Nyquist are not from tables but approximate published values: about 0.8 for counting cameras
# and half of it for integrating ones (McMullan et al., Ultramicroscopy 147, 2014), where the noise of a K2 is white,
# and a DQE at Nyquist of 0.3 to 0.4 of that at 0. A better value of a camera can be given as `dqe0`.
_K2_300 = (1.0, 0.995, 0.988, 0.978, 0.966, 0.952, 0.937, 0.919, 0.9, 0.88, 0.858)
_K2_300 += (0.836, 0.812, 0.788, 0.763, 0.738, 0.712, 0.686, 0.66, 0.633, 0.607)
_K2_200 = (1.0, 0.993, 0.984, 0.971, 0.957, 0.94, 0.921, 0.9, 0.878, 0.854, 0.829)
_K2_200 += (0.803, 0.776, 0.748, 0.72, 0.691, 0.662, 0.632, 0.603, 0.574, 0.545)
_K3_300 = (1.0, 0.992, 0.985, 0.978, 0.971, 0.962, 0.951, 0.939, 0.924, 0.908, 0.889)
_K3_300 += (0.868, 0.846, 0.822, 0.797, 0.771, 0.745, 0.718, 0.69, 0.663, 0.636)
_K3_200 = (1.0, 0.988, 0.976, 0.965, 0.953, 0.94, 0.926, 0.911, 0.894, 0.875, 0.855)
_K3_200 += (0.833, 0.81, 0.785, 0.76, 0.733, 0.706, 0.678, 0.65, 0.622, 0.594)
_K3_CDS_300 = (1.0, 0.998, 0.995, 0.989, 0.982, 0.974, 0.964, 0.953, 0.941, 0.928, 0.914)
_K3_CDS_300 += (0.898, 0.882, 0.865, 0.847, 0.827, 0.808, 0.787, 0.766, 0.744, 0.721)
_K3_CDS_200 = (1.0, 0.987, 0.976, 0.967, 0.957, 0.947, 0.935, 0.923, 0.908, 0.892, 0.874)
_K3_CDS_200 += (0.854, 0.832, 0.81, 0.786, 0.762, 0.736, 0.711, 0.685, 0.66, 0.635)
_FALCON3EC_300 = (1.0, 0.99, 0.97, 0.939, 0.9, 0.854, 0.805, 0.749, 0.692, 0.633, 0.572)
_FALCON3EC_300 += (0.514, 0.461, 0.408, 0.352, 0.298, 0.251, 0.213, 0.181, 0.162, 0.147)
_FALCON3EC_200 = (1.0, 0.987, 0.958, 0.918, 0.876, 0.832, 0.781, 0.723, 0.665, 0.606, 0.552)
_FALCON3EC_200 += (0.499, 0.436, 0.376, 0.323, 0.284, 0.242, 0.2, 0.164, 0.143, 0.131)
_FALCON4_300 = (1.0, 0.989, 0.962, 0.931, 0.893, 0.836, 0.784, 0.731, 0.667, 0.592, 0.535)
_FALCON4_300 += (0.468, 0.411, 0.36, 0.305, 0.248, 0.213, 0.173, 0.141, 0.112, 0.083)
_FALCON4_200 = (1.0, 0.982, 0.942, 0.892, 0.845, 0.788, 0.729, 0.664, 0.606, 0.536, 0.476)
_FALCON4_200 += (0.407, 0.354, 0.297, 0.252, 0.205, 0.168, 0.135, 0.106, 0.083, 0.062)
_DE20_300 = (1.0, 0.948, 0.912, 0.87, 0.826, 0.781, 0.737, 0.694, 0.652, 0.611, 0.57)
_DE20_300 += (0.529, 0.488, 0.448, 0.409, 0.37, 0.333, 0.298, 0.265, 0.233, 0.204)

CAMERAS: dict[str, dict[int, Camera]] = {
    "k2": {300: Camera(_K2_300, 0.80, 1.03), 200: Camera(_K2_200, 0.78, 1.03)},
    "k3": {300: Camera(_K3_300, 0.85, 1.03), 200: Camera(_K3_200, 0.83, 1.03)},
    "k3-cds": {300: Camera(_K3_CDS_300, 0.88, 1.02), 200: Camera(_K3_CDS_200, 0.86, 1.02)},
    "falcon3ec": {300: Camera(_FALCON3EC_300, 0.80, 0.30), 200: Camera(_FALCON3EC_200, 0.78, 0.30)},
    "falcon4": {300: Camera(_FALCON4_300, 0.90, 0.16), 200: Camera(_FALCON4_200, 0.88, 0.12)},
    "de20": {300: Camera(_DE20_300, 0.45, 0.37)},
}
IDEAL = Camera((1.0, 1.0), 1.0, 1.0, last=1e6)
_TOLERANCE = 0.2  # relative difference of the voltage up to which a table is used


def find(name: str, voltage_kV: float) -> Camera:
    """Return a camera by its name, or from a file of its modulation transfer function.

    Parameters
    ----------
    name : str
        ``"ideal"`` (every electron is counted where it arrives), one of `CAMERAS`, or a file for `read`.
    voltage_kV : float
        Acceleration voltage; ignored for a file.

    Raises
    ------
    ConfigError
        If there is no such camera or file, or no table near that voltage.
    """
    if name == "ideal":
        return IDEAL
    if name in CAMERAS:
        known = CAMERAS[name]
        nearest = min(known, key=lambda kV: abs(kV - voltage_kV))
        if abs(nearest - voltage_kV) > _TOLERANCE * nearest:
            has = " and ".join(f"{kV} kV" for kV in known)
            raise ConfigError(
                "camera", f"{name} has tables for {has}, not for {voltage_kV:g} kV", "Give a file, or ideal"
            )
        return known[nearest]
    if Path(name).is_file():
        return read(Path(name))
    names = ", ".join(["ideal", *CAMERAS])
    raise ConfigError("camera", f"{name} is neither a camera nor a file", f"Known cameras: {names}")


def read(path: Path) -> Camera:
    """Read a modulation transfer function: a STAR file such as RELION's `mtf.star`, or two columns of text.

    Columns are the frequency, in cycles per pixel from 0 to about 0.5, and the value there. Every electron is
    assumed to be counted, and the noise to be white.

    Raises
    ------
    ConfigError
        If the file has no such table.
    """
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        words = line.split("#")[0].replace(",", " ").split()
        try:
            rows.append([float(word) for word in words[:2]])
        except ValueError:  # a heading
            continue
    rows = [row for row in rows if len(row) == 2]
    frequency, value = np.array(rows).T if rows else (np.empty(0), np.empty(0))
    usable = len(rows) > 1 and (np.diff(frequency) > 0).all() and frequency[0] < 0.1 and 0.4 < frequency[-1] < 2
    if not usable or not ((value > 0) & (value < 1.5)).all():
        remedy = "Give two columns: ascending cycles per pixel from 0 to 0.5, and the transfer there, 0..1"
        raise ConfigError(path, f"its {len(rows)} rows of two numbers are not a modulation transfer function", remedy)
    last = max(float(frequency[-1]), 0.5)
    even = np.interp(np.linspace(0, last, 201), frequency, value)
    return Camera(tuple((even / even[0]).tolist()), 1.0, 1.0, last)
