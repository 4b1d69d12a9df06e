"""Preprocessing: a raw micrograph -> the image that everything else uses, of one scale, contrast and polarity.

The order, and why: repair first (one NaN would spread over a whole Fourier transform); then the Fourier crop, so that
all later steps are cheap; then background subtraction, because the standard deviation of a micrograph with a gradient
is not that of its ice; then robust normalisation, which defines the unit of the filters' edges; equalisation last.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upicker.config import ImageConfig
from upicker.errors import InputError, MicrographError
from upicker.geometry import Frame
from upicker.image.filters import background, bilateral, clahe, equalized, robust
from upicker.image.fourier import resample
from upicker.image.repair import finite_fraction, repaired, sampled
from upicker.particles import Micrograph

SMALLEST_IMAGE_PX = 16
SMALLEST_DIAMETER_PX = 4.0
LARGEST_WORKING_PX = 64_000_000


@dataclass(frozen=True, eq=False)
class Prepared:
    """A micrograph at the working scale.

    Attributes
    ----------
    pixels : np.ndarray
        `(h, w)` float32; particles bright, background about 0, robust standard deviation about 1.
    frame : Frame
        Maps it to the raw micrograph.
    diameter_px : float
        One particle diameter, in raw pixels.
    unflattened : np.ndarray or None
        `(h, w)` float32 in the same units and polarity (median 0), but with the background, without clipping
        and without filters, for the contamination mask. None where only `pixels` is known.
    usable : np.ndarray or None
        `(h, w)` bool, True = usable ice: by the user's mask, and where it was asked for by the built-in one. None
        without a mask.
    """

    pixels: np.ndarray
    frame: Frame
    diameter_px: float
    unflattened: np.ndarray | None = None
    usable: np.ndarray | None = None

    @property
    def usable_share(self) -> float | None:
        """The share of its area that is usable ice, rounded; None without a mask."""
        return None if self.usable is None else round(float(self.usable.mean()), 3)

    @property
    def working_diameter(self) -> float:
        """One particle diameter in working pixels."""
        return self.diameter_px * self.frame.scale


def prepare(micrograph: Micrograph, diameter_px: float, config: ImageConfig) -> Prepared:
    """Bring a micrograph to the working scale, contrast and polarity.

    The result does not depend on the offset and the (positive) scale of the raw pixels. The micrograph is not
    modified.

    Parameters
    ----------
    micrograph : Micrograph
        `(H, W)` raw pixels, perhaps with non-finite values.
    diameter_px : float
        One particle diameter, in raw pixels.
    config : ImageConfig
        The switches.

    Returns
    -------
    Prepared
        `(h, w)` with ``working = raw * frame.scale_xy``.

    Raises
    ------
    MicrographError
        If the micrograph is not two-dimensional, tiny, constant, or mostly non-finite.
    InputError
        If the diameter does not fit the micrograph.

    Notes
    -----
    The paper's "Preprocessing": normalisation, bilateral filter, (adaptive) histogram equalisation and
    down-sampling. Normalisation stays in floating point: with 8-bit grey levels, outliers would determine the range.
    Non-finite pixels are always repaired: one alone would spread over the whole micrograph.
    """
    where = str(micrograph.path or micrograph.name)
    frame = _frame(micrograph.shape, diameter_px, config, where)
    sample = sampled(micrograph)
    if finite_fraction(micrograph, sample) < 0.5:
        raise MicrographError(where, "most of its pixels are not finite numbers", "Export the micrograph again")
    bands = repaired(micrograph, sample, hot=config.repair)
    image = resample(bands, frame.raw_shape, frame.working_shape)
    sign = -1.0 if config.particles == "dark" else 1.0
    diameter = diameter_px * frame.scale
    pixels = image
    if config.flatten:
        pixels = background(image, config.flatten_diameters * diameter)
        np.subtract(image, pixels, out=pixels)
    centre, sigma = robust(pixels)
    middle, _ = robust(image)
    if sigma <= 1e-6 * abs(middle) or sigma == 0:
        raise MicrographError(where, "all its pixels are the same", "Export the micrograph again")
    # In place where nobody else has the array: an image of small particles is nearly as large as the raw one.
    pixels = pixels - np.float32(centre)
    pixels *= np.float32(sign / sigma)
    image -= np.float32(middle)
    image *= np.float32(sign / sigma)
    usable = None if micrograph.unusable is None else ~sampled_mask(micrograph.unusable, frame.working_shape)
    return Prepared(_filtered(pixels, diameter, config), frame, float(diameter_px), image, usable)


def sampled_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a mask of another size with the same view: its nearest pixels, `(h, w)` bool.

    Parameters
    ----------
    mask : np.ndarray
        `(r, c)` bool.
    shape : tuple of int
        Rows and columns `(h, w)` to be returned.
    """
    rows, columns = (_nearest(n, m) for n, m in zip(shape, mask.shape, strict=True))
    return mask[np.ix_(rows, columns)]


def _nearest(length: int, source: int) -> np.ndarray:
    """Return `(length,)` indices of the nearest of `source` samples; the first samples of both coincide."""
    return np.minimum(np.rint(np.arange(length) * (source / length)).astype(np.intp), source - 1)


def _filtered(pixels: np.ndarray, diameter: float, config: ImageConfig) -> np.ndarray:
    """Clip (in place), denoise and equalise a normalised micrograph; `(h, w)` float32 with robust sigma 1 again."""
    limit = config.clip_sigma
    np.clip(pixels, -limit, limit, out=pixels)
    if config.bilateral:
        pixels = bilateral(pixels, diameter)
    if config.equalize == "histogram":
        pixels = equalized(pixels)
    elif config.equalize == "clahe":
        pixels = clahe(pixels, diameter, limit)
    if config.bilateral or config.equalize != "none":
        centre, sigma = robust(pixels)
        pixels = np.clip((pixels - np.float32(centre)) / np.float32(sigma or 1.0), -limit, limit)
    return pixels


def _frame(shape: tuple[int, ...], diameter_px: float, config: ImageConfig, where: str) -> Frame:
    """Choose the working shape; raises as `prepare`."""
    if len(shape) != 2 or min(shape) < SMALLEST_IMAGE_PX:
        raise MicrographError(where, f"an image of {shape} pixels is not a micrograph", "Give a single, larger image")
    if not diameter_px >= SMALLEST_DIAMETER_PX:
        raise InputError(
            where,
            f"a particle diameter of {diameter_px:g} px is too small",
            f"Check the diameter and the pixel size; the diameter must be at least {SMALLEST_DIAMETER_PX:g} px",
        )
    if diameter_px > min(shape):
        raise InputError(
            where,
            f"the diameter of {diameter_px:g} px is larger than the micrograph ({shape[1]} x {shape[0]} px)",
            "Check the diameter's unit (A or px) and the pixel size",
        )
    scale = config.working_diameter_px / diameter_px
    rows, columns = (max(2, round(n * scale)) for n in shape)
    if rows * columns > LARGEST_WORKING_PX:
        raise InputError(
            where,
            f"with a diameter of {diameter_px:g} px the micrograph at the working scale would be {columns} x {rows} px",
            "Check the diameter's unit (A or px) and the pixel size, or lower image.working_diameter_px",
        )
    return Frame((int(shape[0]), int(shape[1])), (rows, columns))
