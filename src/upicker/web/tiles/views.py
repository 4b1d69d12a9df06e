"""Views of a micrograph as pyramids of 8-bit images: raw, low-passed, or as the model sees it.

Level pixels are areas. The pixel in column `k` of a level of scale `s` covers raw columns ``k s`` to ``k s + s - 1``,
so its centre is the raw position ``k s + (s - 1) / 2``; rows likewise. Images computed on other grids are resampled
onto this one. The last column or row of a level may extend beyond the micrograph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft

from upicker.config import ImageConfig
from upicker.errors import ConfigError
from upicker.image.mask import masked
from upicker.image.prepare import prepare
from upicker.particles import Micrograph
from upicker.statistics import robust
from upicker.units import Length, parse_length

TILE_PX = 512
KINDS = ("raw", "lowpass", "prepared")
# Grey levels span this many times the distance from the median to the 0.1 or 99.9 percentile, whichever is further,
WIDENED = 1.5
# but a percentile counts as at most this many robust standard deviations from the median.
_FURTHEST_SIGMA = 5.0
_SAMPLES = 3e5
# Blocks of rows that fit into the processor's cache.
_ROWS = 128
# The soft edge of the low-pass, in cut-off frequencies: 1 below the first, 0 above the second, a half at the cut-off.
_EDGE = (0.75, 1.25)
# An image is reduced before filtering as long as the cut-off length is at least this many of its pixels.
_FINEST_PX = 3.2
_SMALLEST_PX = 32
# Micrographs of more pixels are reduced at least once: a finer filter is not worth the seconds and gigabytes.
_LARGEST_WHOLE = 32_000_000
_THREADS = 2


@dataclass(frozen=True)
class View:
    """A view of a micrograph.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    cutoff : Length or None
        Of a low-pass: the length below which details are removed.
    """

    kind: str
    cutoff: Length | None = None

    def __str__(self) -> str:
        return self.kind if self.cutoff is None else f"{self.kind}-{self.cutoff}"

    @classmethod
    def parse(cls, text: str) -> View:
        """Read ``raw``, ``lowpass-20A``, ``lowpass-8px`` or ``prepared``.

        Raises
        ------
        ConfigError
            If it is none of these.
        """
        kind, dash, length = text.partition("-")
        if kind == "lowpass" and dash:
            return cls(kind, parse_length(length))
        if kind not in ("raw", "prepared") or dash:
            raise ConfigError("view", f"unknown view '{text[:40]}'", "Use raw, prepared, or e.g. lowpass-20A")
        return cls(kind)


@dataclass(frozen=True, eq=False)
class Levels:
    """The image pyramid of one view: finest level first, each half as fine as the one before, the last one tile.

    Attributes
    ----------
    shape : tuple of int
        Rows, columns of the micrograph.
    pixel_size_A : float or None
        Of the micrograph.
    scales : tuple of float
        Raw pixels per level pixel.
    shapes : tuple of tuple of int
        Rows, columns of each level.
    ranges : tuple of tuple of float
        The values that become 0 and 255 at each level; the median lies in the middle. Averaging reduces the noise, so
        coarser levels have narrower ranges: each fills its grey levels.
    planes : tuple of np.ndarray or None
        The images, uint8. None for the finest of several levels of the raw view, whose tiles are cut from the
        micrograph itself.
    cutoff_px : float or None
        Of a low-pass, in raw pixels; in very large micrographs coarser than requested.
    """

    shape: tuple[int, int]
    pixel_size_A: float | None
    scales: tuple[float, ...]
    shapes: tuple[tuple[int, int], ...]
    ranges: tuple[tuple[float, float], ...]
    planes: tuple[np.ndarray | None, ...]
    cutoff_px: float | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the planes."""
        return 4096 + sum(plane.nbytes for plane in self.planes if plane is not None)


def levels_of(view: View, micrograph: Micrograph, diameter_px: float | None, config: ImageConfig) -> Levels:
    """Compute a view of a micrograph.

    Parameters
    ----------
    view : View
        Which view.
    micrograph : Micrograph
        `(H, W)`; non-finite pixels become grey.
    diameter_px : float or None
        The particle diameter in raw pixels; required by the view ``prepared`` only.
    config : ImageConfig
        Settings of the view ``prepared``.

    Raises
    ------
    ConfigError
        If the diameter or the pixel size is required and unknown.
    InputError
        If the diameter does not fit the micrograph.
    """
    pixels, size_A = micrograph.pixels, micrograph.pixel_size_A
    where = str(micrograph.path or micrograph.name)
    if view.kind == "prepared":
        if diameter_px is None:
            raise ConfigError(where, "the particle diameter is unknown", "Set the diameter first")
        finest, scale = _prepared(micrograph, diameter_px, config)
        return _levels(finest, scale, micrograph)
    if view.cutoff is None:
        return _levels(filled(pixels), 1.0, micrograph, whole=max(pixels.shape) <= TILE_PX)
    asked_px = view.cutoff.to_px(size_A, where)
    finest, scale, cutoff_px = lowpass(filled(pixels), asked_px)
    return _levels(finest, scale, micrograph, cutoff_px=cutoff_px)


def filled(pixels: np.ndarray) -> np.ndarray:
    """Return an image with the median in place of non-finite pixels; the image itself if all are finite."""
    if all(bool(np.isfinite(pixels[top : top + _ROWS]).all()) for top in range(0, len(pixels), _ROWS)):
        return pixels
    finite = np.isfinite(pixels)
    low, high = span(pixels)
    return np.where(finite, pixels, np.float32((low + high) / 2))


def span(pixels: np.ndarray) -> tuple[float, float]:
    """Choose the values that become 0 and 255, such that neither hot pixels nor contaminants use up the contrast.

    Parameters
    ----------
    pixels : np.ndarray
        `(h, w)` float32; of a large image a regular sample is used. Non-finite pixels are ignored.

    Returns
    -------
    tuple of float
        Symmetric around the median, so that all levels of a pyramid have the same brightness.
    """
    step = int(np.sqrt(pixels.size / _SAMPLES)) | 1
    sample = pixels[step // 2 :: step, step // 2 :: step]
    sample = sample[np.isfinite(sample)].astype(np.float64)
    if not len(sample):
        return 0.0, 1.0
    low, high = np.percentile(sample, [0.1, 99.9]).tolist()
    middle, sigma = robust(sample)
    reach = max(middle - low, high - middle)
    # More than half of the pixels may be equal, as in counting mode at a low dose: then sigma is 0.
    reach = min(reach, _FURTHEST_SIGMA * sigma) if sigma > 0 else reach
    reach = max(reach or float(np.abs(sample - middle).max()) or 1.0, 1e-6 * abs(middle))
    return middle - WIDENED * reach, middle + WIDENED * reach


def narrowed(limits: tuple[float, float]) -> tuple[float, float]:
    """Return a range as it was before it was widened: for images whose contrast cannot be adjusted."""
    middle, reach = (limits[0] + limits[1]) / 2, (limits[1] - limits[0]) / 2 / WIDENED
    return middle - reach, middle + reach


def grey(pixels: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Map `(..., w)` values to uint8 grey levels: 0 at the first limit, 255 at the second, 128 where not finite."""
    out = np.empty(pixels.shape, np.uint8)
    factor = 255 / (limits[1] - limits[0])
    with np.errstate(over="ignore", invalid="ignore"):
        for top in range(0, len(pixels), _ROWS):
            block = (pixels[top : top + _ROWS] - np.float32(limits[0])) * np.float32(factor)
            block = np.where(np.isfinite(block), np.clip(block, 0, 255), np.float32(127.5))
            out[top : top + _ROWS] = (block + np.float32(0.5)).astype(np.uint8)
    return out


def halved(pixels: np.ndarray) -> np.ndarray:
    """Average 2 x 2 pixels, fewer at an odd edge: `(h, w)` to `((h + 1) // 2, (w + 1) // 2)` float32."""
    rows, columns = pixels.shape
    y, x = rows // 2, columns // 2
    out = np.empty(((rows + 1) // 2, (columns + 1) // 2), np.float32)
    if x and y:
        out[:y, :x] = cv2.resize(pixels[: 2 * y, : 2 * x], (x, y), interpolation=cv2.INTER_AREA)
    if columns % 2:
        out[:y, x] = pixels[: 2 * y, -1].reshape(y, 2).mean(1)
    if rows % 2:
        out[y, :x] = pixels[-1, : 2 * x].reshape(x, 2).mean(1)
    if rows % 2 and columns % 2:
        out[y, x] = pixels[-1, -1]
    return out


def lowpass(pixels: np.ndarray, cutoff_px: float) -> tuple[np.ndarray, float, float]:
    """Low-pass an image in Fourier space.

    The image is first reduced as far as the cut-off allows, by a binomial filter whose frequency response is known
    and divided out afterwards; it is padded by reflection, so that opposite edges do not mix.

    Parameters
    ----------
    pixels : np.ndarray
        `(H, W)` float32, finite.
    cutoff_px : float
        Wavelength at which the transfer function is one half; 1 from 1.33 times, and 0 below 0.8 times this length.

    Returns
    -------
    np.ndarray
        `(h, w)` float32, on the grid of a level.
    float
        Its scale, raw pixels per pixel; a power of two.
    float
        The cut-off used.
    """
    if pixels.size > _LARGEST_WHOLE:
        cutoff_px = max(cutoff_px, 2 * _FINEST_PX)
    coarsest = max(0, int(math.log2(max(1.0, min(pixels.shape) / _SMALLEST_PX))))
    steps = min(coarsest, max(0, int(math.log2(cutoff_px / _FINEST_PX))))
    for _ in range(steps):
        pixels = cv2.pyrDown(pixels)
    return _filtered(pixels, steps, cutoff_px), float(2**steps), cutoff_px


def _filtered(pixels: np.ndarray, steps: int, cutoff_px: float) -> np.ndarray:
    """Low-pass an image that `cv2.pyrDown` has reduced `steps` times, and shift it onto the grid of a level."""
    rows, columns = pixels.shape
    scale = 2**steps
    # The extent of the filter: a few wavelengths of its cut-off.
    border = min(math.ceil(2.5 * cutoff_px / scale), 2 * max(rows, columns))
    size = [fft.next_fast_len(n + 2 * border, real=True) or n for n in (rows, columns)]
    below, right = size[0] - rows - border, size[1] - columns - border
    middle = float(pixels.mean(dtype=np.float64))
    padded = cv2.copyMakeBorder(pixels - np.float32(middle), border, below, border, right, cv2.BORDER_REFLECT_101)
    spectrum = np.asarray(fft.rfft2(padded, workers=_THREADS, overwrite_x=True))
    down, across = np.fft.fftfreq(size[0]), np.fft.rfftfreq(size[1])
    ratio = np.hypot(down.astype(np.float32)[:, None], across.astype(np.float32)) * np.float32(cutoff_px / scale)
    edge = np.clip((ratio - np.float32(_EDGE[0])) / np.float32(_EDGE[1] - _EDGE[0]), 0, 1)
    spectrum *= np.float32(0.5) + np.float32(0.5) * np.cos(np.float32(np.pi) * edge)
    spectrum *= _onto_grid(down, steps)[:, None]
    spectrum *= _onto_grid(across, steps)
    out = np.asarray(fft.irfft2(spectrum, s=size, workers=_THREADS, overwrite_x=True))
    return out[border : border + rows, border : border + columns] + np.float32(middle)


def _onto_grid(frequency: np.ndarray, steps: int) -> np.ndarray:
    """Return the factors, complex64, that undo the filter of `cv2.pyrDown` and the positions of its samples.

    The frequency response of its filter, 1 4 6 4 1 over 16, is the fourth power of a cosine. It keeps the first sample
    in place, while the first pixel of a level has its centre further in: by half its width less half a raw pixel.
    """
    scale = 2**steps
    response = np.ones_like(frequency)
    for step in range(steps):
        response *= np.cos(np.pi * frequency * 2**step / scale) ** 4
    return (np.exp(2j * np.pi * frequency * (scale - 1) / (2 * scale)) / response).astype(np.complex64)


def _prepared(micrograph: Micrograph, diameter_px: float, config: ImageConfig) -> tuple[np.ndarray, float]:
    """Return the model's input on the grid of a level, and its scale, which is not a whole number.

    The first working pixel lies on that of the micrograph, and the scales of rows and columns may differ slightly;
    both are accounted for here, at the price of one interpolation with a windowed sinc.
    """
    found = masked(prepare(micrograph, diameter_px, config), config)
    scale = 1 / found.frame.scale
    rows, columns = (max(1, math.ceil(n / scale - 1e-6)) for n in micrograph.shape)
    factor = found.frame.scale_xy
    first = (scale - 1) / 2
    affine = np.array([[scale * factor[0], 0, first * factor[0]], [0, scale * factor[1], first * factor[1]]])
    flags = cv2.INTER_LANCZOS4 | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(found.pixels, affine, (columns, rows), flags=flags, borderMode=cv2.BORDER_REFLECT), scale


def _levels(
    finest: np.ndarray, scale: float, micrograph: Micrograph, whole: bool = True, cutoff_px: float | None = None
) -> Levels:
    """Compute all levels; with `whole`, the plane of the finest, too."""
    scales, shapes, ranges, planes = [], [], [], []
    level = finest
    while True:
        limits = span(level)
        scales.append(scale)
        shapes.append((level.shape[0], level.shape[1]))
        ranges.append(limits)
        planes.append(grey(level, limits) if whole or len(scales) > 1 else None)
        if max(level.shape) <= TILE_PX:
            break
        level, scale = halved(level), 2 * scale
    return Levels(
        micrograph.shape,
        micrograph.pixel_size_A,
        tuple(scales),
        tuple(shapes),
        tuple(ranges),
        tuple(planes),
        cutoff_px,
    )
