"""Maps of particles, `(n, n, n)` with axes z, y, x and the origin at voxel n // 2: masks, grids, symmetry axes, FSC."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def fsc(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the Fourier shell correlation of two cubes `(n, n, n)`, by shell from 0 to n / 2 - 1."""
    n = len(one)
    axis, last = np.fft.fftfreq(n, 1 / n), np.arange(n // 2 + 1)
    shell = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + last**2).round().astype(int).ravel()
    a, b = np.fft.rfftn(one).ravel(), np.fft.rfftn(other).ravel()
    sums = [np.bincount(shell, weights)[: n // 2] for weights in ((a * b.conj()).real, abs(a) ** 2, abs(b) ** 2)]
    return sums[0] / np.sqrt(np.maximum(sums[1] * sums[2], 1e-30))


def crossing(curve: np.ndarray, level: float, box_A: float) -> float:
    """Return the resolution in Angstrom at which a curve first falls below `level`, between two shells by a line.

    Nyquist's if it never does; the side of the box if it does at once.
    """
    below = np.flatnonzero(curve[1:] < level) + 1
    if not len(below):
        return box_A / len(curve)
    last = below[0] - 1
    if last == 0:
        return box_A
    return float(box_A / (last + (curve[last] - level) / (curve[last] - curve[last + 1])))


def ball(box: int, diameter: float) -> np.ndarray:
    """Return a ball with an edge of 3 voxels, `(box, box, box)`."""
    axis = np.arange(box) - box // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    return np.clip((diameter / 2 + 3 - radius) / 3, 0, 1).astype(np.float32)


def soft_mask(known: np.ndarray, blur: float = 2.0, share: float = 0.1, edge: float = 5.0) -> np.ndarray:
    """Return a mask around a map: where it is blurred and above a share of its maximum, with a cosine edge outside.

    Parameters
    ----------
    known : np.ndarray
        The particle is bright; about 0 around it.
    blur, edge : float
        Standard deviation of the blur, and width of the edge, in voxels.
    share : float
        Of the blurred map's maximum.
    """
    smooth = ndimage.gaussian_filter(known, blur)
    away = np.asarray(ndimage.distance_transform_edt(smooth < share * smooth.max()))
    return (0.5 + 0.5 * np.cos(np.pi * np.clip(away / edge, 0, 1))).astype(np.float32)


def resampled(
    known: np.ndarray, voxel_A: float, box: int, pixel_size_A: float, rotation: np.ndarray | None = None
) -> np.ndarray:
    """Bring a map to another grid, turned around the origin, which stays the origin.

    Detail that the grid cannot hold is taken away before.

    Parameters
    ----------
    known : np.ndarray
        On cubic voxels of `voxel_A`.
    box, pixel_size_A : int, float
        The grid wanted.
    rotation : np.ndarray, optional
        `(3, 3)`, ``rotation @ point`` with points x, y, z.

    Returns
    -------
    np.ndarray
        `(box, box, box)` float32, 0 beyond the map.
    """
    step = pixel_size_A / voxel_A
    back = np.eye(3) if rotation is None else rotation.T[::-1, ::-1]
    smooth = low_passed(known, len(known) / 2 / step) if step > 1 else known.astype(np.float32)
    offset = np.array(known.shape) // 2 - step * back @ np.full(3, box // 2)
    return ndimage.affine_transform(smooth, step * back, offset, (box,) * 3, order=3)  # pyright: ignore[reportArgumentType]


def on_axes(known: np.ndarray, symmetry: str) -> np.ndarray:
    """Return the rotation that brings the axes of a map to where RELION expects those of its symmetry.

    Parameters
    ----------
    known : np.ndarray
        A map.
    symmetry : str
        "C1", or "D" and the order: that axis comes to z, a twofold one to x.

    Returns
    -------
    np.ndarray
        `(3, 3)`, for `resampled`.
    """
    if symmetry == "C1":
        return np.eye(3)
    weights = np.clip(ndimage.gaussian_filter(known, 1.0), 0, None).ravel()
    points = np.indices(known.shape)[::-1].reshape(3, -1)
    lengths, vectors = np.linalg.eigh(np.cov(points, aweights=weights))
    # The two moments across the main axis are equal.
    main = 0 if lengths[1] - lengths[0] > lengths[2] - lengths[1] else 2
    frame = np.stack([vectors[:, (main + 1) % 3], vectors[:, (main + 2) % 3], vectors[:, main]])
    frame[0] *= np.sign(np.linalg.det(frame))
    half_turn = np.diag([1.0, -1.0, -1.0])

    def likeness(angle: float) -> float:
        turned = resampled(known, 1, len(known), 1, about_z(angle) @ frame)
        return float((turned * resampled(turned, 1, len(known), 1, half_turn)).sum())

    degrees = np.arange(0, 360 / int(symmetry[1:]) / 2, 1.0)
    best = max(degrees, key=likeness)
    return about_z(best) @ frame


def about_z(degrees: float) -> np.ndarray:
    """Return the rotation about z, `(3, 3)`."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def low_passed(known: np.ndarray, shells: float) -> np.ndarray:
    """Return a cube without what lies beyond a number of shells, with a soft edge."""
    n = len(known)
    axis, last = np.fft.fftfreq(n, 1 / n), np.arange(n // 2 + 1)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + last**2)
    return np.fft.irfftn(np.fft.rfftn(known) / (1 + (radius / shells) ** 16), known.shape, (0, 1, 2)).astype(np.float32)
