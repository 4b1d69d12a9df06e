"""Micrographs as images for the browser: tiles of a pyramid, thumbnails, boxes and pixel values."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable
from contextlib import nullcontext, suppress

import cv2
import numpy as np

from upicker import __version__
from upicker.errors import ConfigError, InputError, OutputError
from upicker.io import mrc
from upicker.io.atomic import replacing
from upicker.io.rasters import encode_jpeg
from upicker.particles import Micrograph
from upicker.web.project import NotFound, Project
from upicker.web.tiles import views
from upicker.web.tiles.boxes import cut
from upicker.web.tiles.cache import Cache
from upicker.web.tiles.prefetch import Prefetcher
from upicker.web.tiles.views import Levels, View

LIMIT_BYTES = 1 << 30
THUMBNAIL_PX = 256
RAW = View("raw")
# JPEG takes 0.4 ms a tile where WebP takes 20; at this quality its errors are a twentieth of the noise.
_QUALITY = 92
_THUMBNAIL_QUALITY = 85
# What is prefetched, or read for boxes only, is cached if it takes at most the limit divided by this.
_PREFETCH_DIVISOR, _BOXES_DIVISOR = 4, 8
# Micrographs that are read at the same time.
_READERS = 3
_NEIGHBOURS = (1, -1, 2)


class MicrographImages:
    """The micrographs of a project as images; safe to use from many threads.

    Parameters
    ----------
    project : Project
        The micrographs, and how they are read.
    limit_bytes : int
        Upper limit of the cache.

    Attributes
    ----------
    prefetcher : Prefetcher
        Prepares what will probably be requested next.
    """

    def __init__(self, project: Project, limit_bytes: int = LIMIT_BYTES) -> None:
        self._project = project
        self._cache = Cache(limit_bytes)
        self._readers = threading.BoundedSemaphore(_READERS)
        self._stamps: dict[int, tuple[int, int]] = {}
        self._visited = 0
        self.prefetcher = Prefetcher()

    @property
    def nbytes(self) -> int:
        """Bytes in the cache."""
        return self._cache.nbytes

    def close(self) -> None:
        """Stop prefetching."""
        self.prefetcher.close()

    def about(self, number: int, view: str = "raw") -> dict[str, object]:
        """Describe one view of a micrograph.

        A file that has changed since it was cached is read again.

        Returns
        -------
        dict
            ``shape`` (rows, columns of the micrograph), ``pixel_size_A``, ``diameter_px``, ``tile`` (side of a tile),
            ``view``, ``version`` (changes with the image), ``range`` (the values at grey levels 0 and 255 of the
            finest level), ``fractional`` (whether scales are not whole numbers), ``cutoff_px`` (of a low-pass, in raw
            pixels) and ``levels``, finest first, each with ``scale`` (raw pixels per level pixel), ``shape`` and its
            own ``range``. Pixel k of a level of scale s has its centre at the raw position ``k s + (s - 1) / 2``.
            Where the view cannot be computed, ``levels`` is empty and ``error`` gives the reason.

        Raises
        ------
        NotFound
            If there is no such micrograph.
        ConfigError
            If there is no such view.
        """
        wanted = View.parse(view)
        self._refresh(number)
        description: dict[str, object] = {
            "shape": None,
            "pixel_size_A": None,
            "diameter_px": None,
            "tile": views.TILE_PX,
            "view": view,
            "version": self.version(number, wanted),
            "range": None,
            "fractional": False,
            "cutoff_px": None,
            "levels": [],
        }
        try:
            levels = self._levels(number, wanted)
        except (InputError, ConfigError) as error:
            return {**description, "error": {"where": error.where, "found": error.found, "remedy": error.remedy}}
        return {
            **description,
            "shape": levels.shape,
            "pixel_size_A": levels.pixel_size_A,
            "diameter_px": self._diameter_px(levels.pixel_size_A),
            "range": levels.ranges[0],
            "fractional": not float(levels.scales[0]).is_integer(),
            "cutoff_px": levels.cutoff_px,
            "levels": [
                {"scale": scale, "shape": shape, "range": limits}
                for scale, shape, limits in zip(levels.scales, levels.shapes, levels.ranges)
            ],
        }

    def tile(self, number: int, view: str, level: int, column: int, row: int) -> bytes:
        """Return one tile as a grey JPEG; those at the right and lower edges are smaller.

        Raises
        ------
        NotFound
            If there is no such micrograph, level or tile.
        ConfigError, InputError
            If there is no such view, or the micrograph cannot be displayed.
        """
        wanted = View.parse(view)
        levels = self._levels(number, wanted)
        side = views.TILE_PX
        rows, columns = levels.shapes[level] if 0 <= level < len(levels.shapes) else (0, 0)
        if not (0 <= row * side < rows and 0 <= column * side < columns):
            raise NotFound(f"tile {level}/{column}/{row}", "there is no such tile", "Reload the page")
        window = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
        plane = levels.planes[level]
        if plane is None:
            pixels = self._micrograph(number).pixels[window]
            return encode_jpeg(views.grey(pixels, levels.ranges[level]), _QUALITY)
        return encode_jpeg(plane[window], _QUALITY)

    def value(self, number: int, x: float, y: float) -> float | None:
        """Return the value of the pixel at a raw position; None outside the micrograph, and where it is not finite.

        Raises
        ------
        NotFound
            If there is no such micrograph.
        MicrographError
            If it cannot be read.
        """
        pixels = self._micrograph(number).pixels
        column, row = math.floor(x + 0.5), math.floor(y + 0.5)
        if not (0 <= row < pixels.shape[0] and 0 <= column < pixels.shape[1]):
            return None
        value = float(pixels[row, column])
        return value if math.isfinite(value) else None

    def thumbnail(self, number: int) -> bytes:
        """Return a JPEG of at most 256 pixels a side, cached on disk until the file changes.

        Raises
        ------
        NotFound
            If there is no such micrograph.
        MicrographError
            If it cannot be read.
        """
        path = self._project.path(number)
        cached = self._project.state / "thumbnails" / f"{_digest(path, self._stamp(number))}.jpg"
        with suppress(OSError):
            return cached.read_bytes()
        levels = self._levels(number, RAW, most_bytes=0)
        level = max((i for i, shape in enumerate(levels.shapes) if max(shape) >= THUMBNAIL_PX), default=0)
        plane = levels.planes[level]
        assert plane is not None, "only levels of several tiles have none"
        factor = min(1.0, THUMBNAIL_PX / max(plane.shape))
        size = (max(1, round(plane.shape[1] * factor)), max(1, round(plane.shape[0] * factor)))
        small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        small = views.grey(small.astype(np.float32), views.narrowed((0.0, 255.0)))
        content = encode_jpeg(small, _THUMBNAIL_QUALITY)
        # Where the folder is read-only, it is computed again next time.
        with suppress(OutputError), replacing(cached) as temporary:
            temporary.write_bytes(content)
        return content

    def boxes(self, number: int, xy: np.ndarray, side_px: float, out_px: int) -> np.ndarray:
        """Return square boxes around positions; each pixel is the mean of the area that it covers.

        Parameters
        ----------
        number : int
            The micrograph.
        xy : np.ndarray
            `(n, 2)` centres x, y, raw pixels.
        side_px : float
            Side of the boxes, raw pixels.
        out_px : int
            Side of the images returned.

        Returns
        -------
        np.ndarray
            `(n, out_px, out_px)` float32: values of the micrograph, and its median outside of it; see `boxes.cut`.

        Raises
        ------
        NotFound
            If there is no such micrograph.
        MicrographError
            If it cannot be read.
        ConfigError
            If the sides are not positive.
        """
        centres = np.asarray(xy, np.float64).reshape(-1, 2)
        if self._cache.peek((number, "pixels")) is None:
            with self._readers, mrc.windows(self._project.path(number)) or nullcontext() as windows:
                # Only the rows of each box are read, as long as these are fewer than those of the micrograph.
                if windows is not None and len(centres) * side_px < windows.shape[0]:
                    return cut(windows, centres, side_px, out_px)
        micrograph = self._micrograph(number, self._cache.limit_bytes // _BOXES_DIVISOR)
        return cut(micrograph.pixels, centres, side_px, out_px)

    def visit(self, number: int, view: str) -> None:
        """Note that a micrograph is displayed, and prefetch what may come next: its pixels, then its neighbours."""
        order = _NEIGHBOURS if number >= self._visited else tuple(-step for step in _NEIGHBOURS)
        self._visited = number
        wanted = View.parse(view)
        count = len(self._project.micrographs)
        neighbours = [number + step for step in order if 0 <= number + step < count]
        tasks = [self._prefetching(neighbour, wanted) for neighbour in neighbours]
        self.prefetcher.replace([lambda stale: self._cache_pixels(number), *tasks])

    def version(self, number: int, view: View) -> str:
        """Return a token that changes when the images of a view do.

        Raises
        ------
        NotFound
            If there is no such micrograph.
        """
        stamp = self._stamps.get(number) or self._stamp(number)
        project = self._project
        more = (str(project.diameter), project.config.image, project.reading.masks) if view.kind == "prepared" else ()
        return _digest(self._project.path(number), stamp, str(view), *more)

    def _cache_pixels(self, number: int) -> None:
        """Cache the raw pixels, from which the finest level, pixel values and filters are computed."""
        self._micrograph(number)

    def _prefetching(self, number: int, view: View) -> Callable[[Callable[[], bool]], None]:
        def prefetch(stale: Callable[[], bool]) -> None:
            most = self._cache.limit_bytes // _PREFETCH_DIVISOR
            micrograph = None
            if self._cache.peek(self._key(number, view)) is None:
                micrograph = self._micrograph(number, most)
            if not stale():
                self._levels(number, view, None, micrograph)

        return prefetch

    def _micrograph(self, number: int, most_bytes: int | None = None) -> Micrograph:
        """Return a micrograph, from the cache or its file."""
        path = self._project.path(number)

        def read() -> _CachedMicrograph:
            with self._readers:
                return _CachedMicrograph(self._project.reading.read(path))

        return self._cache.get((number, "pixels"), read, most_bytes).micrograph

    def _levels(
        self, number: int, view: View, most_bytes: int | None = None, micrograph: Micrograph | None = None
    ) -> Levels:
        """Return the levels of a view; they and the micrograph are cached if each takes at most `most_bytes`."""

        def compute() -> Levels:
            read = micrograph or self._micrograph(number, most_bytes)
            diameter_px = self._diameter_px(read.pixel_size_A)
            return views.levels_of(view, read, diameter_px, self._project.config.image)

        return self._cache.get(self._key(number, view), compute, most_bytes)

    def _key(self, number: int, view: View) -> tuple[object, ...]:
        # The diameter may be changed while the server runs.
        return (number, view, self._project.diameter if view.kind == "prepared" else None)

    def _diameter_px(self, pixel_size_A: float | None) -> float | None:
        diameter = self._project.diameter
        if diameter is None or (diameter.unit != "px" and not pixel_size_A):
            return None
        return diameter.to_px(pixel_size_A)

    def _stamp(self, number: int) -> tuple[int, int]:
        """Return size and modification time of the file; zeros if there is none."""
        try:
            state = self._project.path(number).stat()
        except OSError:
            return 0, 0
        return state.st_size, state.st_mtime_ns

    def _refresh(self, number: int) -> None:
        stamp = self._stamp(number)
        if self._stamps.setdefault(number, stamp) != stamp:
            self._cache.drop(number)
            self._stamps[number] = stamp


class _CachedMicrograph:
    """A micrograph that reports its size to the cache."""

    def __init__(self, micrograph: Micrograph) -> None:
        self.micrograph = micrograph
        self.nbytes = micrograph.pixels.nbytes


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr((__version__, *parts)).encode()).hexdigest()[:24]
