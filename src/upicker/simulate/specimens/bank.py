"""Projections kept for many uses: a specimen that answers from memory.

A projection costs milliseconds, and a tile wants a hundred of them. A bank holds a specimen's projections along
some hundred directions of the beam. Any other view is the nearest of them, turned in the plane and moved by
fractions of a pixel, which is interpolation on a picture that was made twice as fine: tens of microseconds. Every
direction serves for its opposite, too, whose projection is the mirror image.
"""

from __future__ import annotations

import cv2
import numpy as np

from upicker.image.fourier import crop
from upicker.simulate.specimens.specimen import Specimen

FINER = 2  # the kept pictures' pixels per pixel; cubic interpolation then loses 2 % at the highest frequency
_TURNED_OVER = np.diag([1.0, -1.0, -1.0])


class Bank:
    """A specimen whose projections at one pixel size come from memory; itself a `Specimen`.

    Parameters
    ----------
    specimen : Specimen
        What is projected; it is not kept.
    pixel_size_A : float
        Of all projections.
    views : int
        Directions of the beam, evenly spread over half a sphere, at least 1. With 128 the nearest (of them and
        their opposites) is at most about 10 degrees away.

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
        self._middle = FINER * (side // 2)
        # Half precision keeps three digits of numbers that are drowned in noise.
        self._pictures = np.stack(
            [
                crop(specimen.projection(rotation, side, pixel_size_A), (FINER * side, FINER * side)).astype(np.float16)
                for rotation in self._rotations
            ]
        )

    def projection(
        self, rotation: np.ndarray, size: int, pixel_size_A: float, shift_px: tuple[float, float] = (0.0, 0.0)
    ) -> np.ndarray:
        """Return `Specimen.projection` of about this rotation: the beam's direction is the nearest in the bank.

        Parameters
        ----------
        rotation : np.ndarray
            `(3, 3)`, turns the particle's frame into the microscope's.
        size : int
            Side of the picture in pixels.
        pixel_size_A : float
            That of the bank.
        shift_px : tuple of float
            Where the origin lies beside pixel size // 2: columns, rows.

        Returns
        -------
        np.ndarray
            `(size, size)` float32, rows y, columns x, volt times Angstrom.
        """
        assert abs(pixel_size_A / self.pixel_size_A - 1) < 1e-6, "a bank has one pixel size"
        along = self._beams @ rotation[2]
        view = int(np.abs(along).argmax())
        over = along[view] < 0
        kept = self._rotations[view]
        turn = rotation @ (_TURNED_OVER @ kept if over else kept).T
        angle = np.arctan2(turn[1, 0] - turn[0, 1], turn[0, 0] + turn[1, 1])
        # From a pixel here to one there: off the origin, turned back, mirrored if the beam comes from behind, finer.
        back = FINER * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        if over:
            back[1] *= -1
        origin = size // 2 + np.asarray(shift_px, float)
        affine = np.column_stack([back, self._middle - back @ origin])
        picture = self._pictures[view].astype(np.float32)
        return cv2.warpAffine(picture, affine, (size, size), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


def half_sphere(count: int) -> np.ndarray:
    """Return `(count, 3)` unit vectors that, with their opposites, are spread evenly over the sphere."""
    k = np.arange(count)
    z = (k + 0.5) / count
    angle = k * np.pi * (3 - np.sqrt(5))  # the golden angle: no two in a row lie side by side
    across = np.sqrt(1 - z**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), z], axis=1)


def _towards(beam: np.ndarray) -> np.ndarray:
    """Return a rotation `(3, 3)` that turns the unit vector `beam` of the particle into the microscope's z axis."""
    aside = np.cross(beam, np.eye(3)[np.abs(beam).argmin()])
    aside /= np.linalg.norm(aside)
    return np.stack([aside, np.cross(beam, aside), beam])
