"""Density maps -> the potential of a particle above that of the ice.

Maps have arbitrary units, often with noise around the particle. So the envelope of the particle is found first; outside
the map is set to 0, inside it is scaled to the contrast of a particle.
"""

from __future__ import annotations

import gzip
import warnings
import zlib
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
from scipy import fft, ndimage

from upicker.errors import InputError
from upicker.io import mrc
from upicker.simulate.specimens.structure import CONTRAST_VA3_DA, MAX_SIDE, extension
from upicker.simulate.specimens.volume import Volume

SUFFIXES = (".mrc", ".map", ".ccp4")
# Mean potential above the ice inside an envelope as found here, which contains some water. With it, maps of the 20S
# proteasome and of a bacterial ribosome get the potential that their atoms have (2.61 V and 2.75 V).
CONTRAST_V = 2.68
_MAX_SIDE = 1024
_DETAIL_A = 3.0  # standard deviation of the smoothing before the envelope is found
_MIN_PART = 0.05  # parts smaller than this fraction of the largest are noise
_ANISOTROPY = 0.01  # relative difference of the voxel sizes along the axes that is allowed


def potential(path: Path, voxel_size_A: float | None = None, mass_kDa: float | None = None) -> Volume:
    """Read a map and scale it to a potential.

    Parameters
    ----------
    path : Path
        An MRC or CCP4 map, also gzipped; the particle has higher values than its surroundings.
    voxel_size_A : float, optional
        Instead of that in the header.
    mass_kDa : float, optional
        Of the particle, which determines the integral of the potential; by default the mean inside the envelope is
        `CONTRAST_V`.

    Returns
    -------
    Volume
        The particle, with its centre of mass at the origin.

    Raises
    ------
    InputError
        If it cannot be read, its voxel size is missing or anisotropic, or no particle stands out.
    """
    values, voxel = read(path, voxel_size_A)
    border = np.concatenate([np.take(values, (0, -1), axis).ravel() for axis in range(3)])
    values -= np.median(border)
    inside = envelope(values, voxel, float(border.std()), path)
    soft = ndimage.gaussian_filter(ndimage.binary_dilation(inside).astype(np.float32), 1.0, mode="constant")
    values *= soft
    if not values.sum() > 0:
        raise InputError(path, "no particle stands out in the map", "Give one whose particle is brighter than the rest")
    wanted_VA3 = inside.sum() * voxel**3 * CONTRAST_V if mass_kDa is None else mass_kDa * 1e3 * CONTRAST_VA3_DA
    values *= np.float32(wanted_VA3 / (values.sum(dtype=np.float64) * voxel**3))

    centre = np.array(ndimage.center_of_mass(values))
    points = (np.argwhere(inside) - centre)[:, ::-1] * voxel
    radius = float(np.linalg.norm(points, axis=1).max()) + 2 * voxel
    cube = _cut(values, centre, 2 * int(np.ceil(radius / voxel)) + 2)
    if len(cube) > MAX_SIDE:
        cube, voxel = _coarser(cube, MAX_SIDE), voxel * len(cube) / MAX_SIDE
    return Volume(path.name.split(".")[0], cube, voxel, extension(points) + voxel, radius)


def read(path: Path, voxel_size_A: float | None = None) -> tuple[np.ndarray, float]:
    """Read a map as `(z, y, x)` float32, and its voxel size in Angstrom.

    Raises
    ------
    InputError
        If it is not a readable map, or its voxel size is missing or anisotropic.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(mrc.HEADER_BYTES)
        if not mrc.looks_like_mrc(head):
            raise InputError(path, "it has no header of a density map", "Give an MRC or CCP4 map")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with mrcfile.open(path, permissive=True, header_only=True) as file:
                header: Any = file.header
                sides = [int(header[key]) for key in ("nz", "ny", "nx")]
            if max(sides) > _MAX_SIDE:
                raise InputError(path, f"the map has a side of {max(sides)} voxels", f"Bin it to at most {_MAX_SIDE}")
            with mrcfile.open(path, permissive=True) as file:
                data, steps = file.data, file.voxel_size
                order = [int(header[key]) for key in ("maps", "mapr", "mapc")]
    except (OSError, ValueError, EOFError, zlib.error, MemoryError) as error:
        raise InputError(path, f"it cannot be read as a density map ({error})", "Give an MRC or CCP4 map") from error
    if data is None:
        raise InputError(path, "it is damaged or truncated", "Copy or download it again")
    if data.ndim != 3 or min(data.shape) < 4 or np.iscomplexobj(data):
        shape = " x ".join(map(str, data.shape))
        raise InputError(path, f"it holds {shape} values of type {data.dtype}, not a volume", "Give a density map")
    if sorted(order) == [1, 2, 3]:
        data = data.transpose([order.index(axis) for axis in (3, 2, 1)])
    if data.dtype.kind == "i":
        data = data.view(mrc.integer_dtype(path, head, data.reshape(-1, data.shape[-1])))
    values = data.astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(path, "it has values that are not finite", "Export the map again")
    return values, voxel_size_A or _voxel_size(path, [float(steps[axis]) for axis in "xyz"])


def _voxel_size(path: Path, steps: list[float]) -> float:
    if not all(np.isfinite(step) and step > 0 for step in steps):
        remedy = "Give it: --voxel-size 5A (voxel_size_A in Python)"
        raise InputError(path, "the map has no voxel size", remedy)
    if max(steps) > (1 + _ANISOTROPY) * min(steps):
        found = "voxels of {:.3g} x {:.3g} x {:.3g} A".format(*steps)
        raise InputError(path, f"the map has {found}", "Resample it to the same voxel size along all axes")
    return float(np.mean(steps))


def envelope(values: np.ndarray, voxel_size_A: float, noise: float, path: Path) -> np.ndarray:
    """Return the envelope of the particle in a map whose background is 0.

    Otsu's threshold is applied to the values above the noise in a smoothed map; small separate parts are left out.

    Returns
    -------
    np.ndarray
        Bool, of the map's shape.

    Raises
    ------
    InputError
        If no particle stands out; `path` is named.
    """
    smooth = ndimage.gaussian_filter(values, _DETAIL_A / voxel_size_A, mode="constant")
    above = smooth[smooth > max(3 * noise, 1e-3 * float(smooth.max()))]
    if len(above) < 8 or np.ptp(above) == 0:
        raise InputError(path, "no particle stands out in the map", "Give one whose particle is brighter than the rest")
    found: Any = ndimage.label(smooth > _otsu(above))
    parts = found[0]
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return np.isin(parts, np.flatnonzero(sizes >= max(_MIN_PART * sizes.max(), 1)))


def _otsu(values: np.ndarray) -> float:
    """Return the threshold that divides values into two classes of least variance."""
    counts, edges = np.histogram(values, 256)
    centres = (edges[:-1] + edges[1:]) / 2
    low = np.cumsum(counts)[:-1]
    low_sum = np.cumsum(counts * centres)[:-1]
    high = counts.sum() - low
    high_sum = (counts * centres).sum() - low_sum
    between = low * high * (high_sum / high - low_sum / np.maximum(low, 1)) ** 2
    return float(edges[1:-1][between.argmax()])


def _cut(values: np.ndarray, centre: np.ndarray, size: int) -> np.ndarray:
    """Cut out a cube, padded with 0, that has `centre` (z, y, x, also between voxels) at size // 2."""
    nearest = np.round(centre).astype(int)
    first = nearest - size // 2
    cube = np.zeros((size,) * 3, np.float32)
    source = tuple(slice(max(f, 0), max(f + size, 0)) for f in first)
    part = values[source]
    cube[tuple(slice(max(-f, 0), max(-f, 0) + n) for f, n in zip(first, part.shape, strict=True))] = part
    moved = ndimage.fourier_shift(np.asarray(fft.rfftn(cube)), nearest - centre, n=size)
    return np.asarray(fft.irfftn(moved, cube.shape)).astype(np.float32)


def _coarser(cube: np.ndarray, size: int) -> np.ndarray:
    """Reduce a cube by Fourier cropping; the origin stays at side // 2."""
    spectrum = fft.fftshift(np.asarray(fft.fftn(fft.ifftshift(cube))))
    first = len(cube) // 2 - size // 2
    inner = (slice(first, first + size),) * 3
    small = np.real(fft.fftshift(np.asarray(fft.ifftn(fft.ifftshift(spectrum[inner])))))
    return (small * (size / len(cube)) ** 3).astype(np.float32)
