"""Precomputed projections: a specimen that is projected by interpolation.

A projection takes milliseconds, and a tile needs a hundred of them. A bank holds a specimen's projections along some
hundred beam directions. For any other orientation the nearest one is rotated in the plane and shifted by fractions of a
pixel, which takes tens of microseconds; the stored images have twice the sampling, so that interpolation loses little.
Each direction also serves for the opposite one, whose projection is the mirror image.
"""

from __future__ import annotations

import cv2
import numpy as np

from upicker.image.fourier import crop
from upicker.simulate.specimens.specimen import Specimen

FINER = 2  # pixels of the stored images per pixel; cubic interpolation then loses 2 % at the highest frequency
_FLIPPED = np.diag([1.0, -1.0, -1.0])


class Bank:
    """A specimen with precomputed projections at one pixel size; itself a `Specimen`.

    Parameters
    ----------
    specimen : Specimen
        What is projected; it is not stored.
    pixel_size_A : float
        Of all projections.
    views : int
        Number of beam directions, evenly distributed over a hemisphere, at least 1. With 128 the nearest of them and
        their opposites is at most about 10 degrees away.

    Attributes
    ----------
    name, diameter_A, radius_A
        Those of the specimen.
    pixel_size_A : float
        As given.
    """

    def __init__(self, specimen: Specimen, pixel_size_A: float, views: int = 128) -> None:
        self.name, self.diameter_A, self.radius_A = specimen.name, specimen.diameter_A, specimen.radius_A
        self.pixel_size_A = pixel_size_A
        self._beams = half_sphere(views)
        self._rotations = np.array([_towards(beam) for beam in self._beams])
        side = 2 * int(np.ceil(specimen.radius_A / pixel_size_A)) + 5
        self._centre = FINER * (side // 2)
        # Half precision keeps three digits, of numbers that noise will dominate.
        self._images = np.stack(
            [
                crop(specimen.projection(rotation, side, pixel_size_A), (FINER * side, FINER * side)).astype(np.float16)
                for rotation in self._rotations
            ]
        )

    def projection(
        self, rotation: np.ndarray, size: int, pixel_size_A: float, shift_px: tuple[float, float] = (0.0, 0.0)
    ) -> np.ndarray:
        """Return `Specimen.projection` with the nearest beam direction of the bank; the in-plane rotation is exact.

        Parameters
        ----------
        rotation : np.ndarray
            `(3, 3)`, turns the particle's frame into the microscope's.
        size : int
            Side of the image in pixels.
        pixel_size_A : float
            That of the bank.
        shift_px : tuple of float
            Offset of the origin from pixel size // 2: columns, rows.

        Returns
        -------
        np.ndarray
            `(size, size)` float32, rows y, columns x, volt times Angstrom.
        """
        assert abs(pixel_size_A / self.pixel_size_A - 1) < 1e-6, "a bank has one pixel size"
        along = self._beams @ rotation[2]
        view = int(np.abs(along).argmax())
        opposite = along[view] < 0
        stored = self._rotations[view]
        in_plane = rotation @ (_FLIPPED @ stored if opposite else stored).T
        angle = np.arctan2(in_plane[1, 0] - in_plane[0, 1], in_plane[0, 0] + in_plane[1, 1])
        # From a pixel of the result to one of the stored image: shifted, rotated back, mirrored, rescaled.
        back = FINER * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        if opposite:
            back[1] *= -1
        origin = size // 2 + np.asarray(shift_px, float)
        affine = np.column_stack([back, self._centre - back @ origin])
        image = self._images[view].astype(np.float32)
        return cv2.warpAffine(image, affine, (size, size), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def half_sphere(count: int) -> np.ndarray:
    """Return `(count, 3)` unit vectors that, with their opposites, are evenly distributed over the sphere."""
    k = np.arange(count)
    z = (k + 0.5) / count
    angle = k * np.pi * (3 - np.sqrt(5))  # the golden angle: successive ones are not neighbours
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), z], axis=1)


def _towards(beam: np.ndarray) -> np.ndarray:
    """Return a rotation `(3, 3)` that takes the unit vector `beam` of the particle to the z axis of the microscope."""
    x = np.cross(beam, np.eye(3)[np.abs(beam).argmin()])
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(beam, x), beam])
