"""Micrographs as pictures for the browser: tiles of a pyramid, thumbnails, boxes, values."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from typing import Any

import anyio
import anyio.to_thread
import cv2
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker import __version__
from upicker.errors import ConfigError, InputError, OutputError
from upicker.io import mrc
from upicker.io.atomic import replacing
from upicker.particles import Micrograph
from upicker.web.answers import Refused, answer
from upicker.web.project import NotThere, Project
from upicker.web.tiles import views
from upicker.web.tiles.boxes import cut
from upicker.web.tiles.memory import Ahead, Memory
from upicker.web.tiles.views import Levels, View

LIMIT_BYTES = 1 << 30
THUMBNAIL_PX = 256
_RAW = View("raw")
# JPEG takes 0.4 ms a tile where WebP takes 20; at this quality its errors are a twentieth of the noise.
_QUALITY = 92
_THUMBNAIL_QUALITY = 85
# Of micrographs that nobody looks at yet, what is this share of the memory or less is kept.
_SHARE_AHEAD, _SHARE_BOXES = 4, 8
# Micrographs that are read at once, and requests that are served at once: thumbnails must not hold up tiles.
_READERS, _SERVED, _THUMBNAILS = 3, 8, 1
_NEIGHBOURS = (1, -1, 2)


class Pictures:
    """The pictures of a project; safe to use from many threads.

    Parameters
    ----------
    project : Project
        The micrographs, and how they are read.
    limit_bytes : int
        Most that is kept in memory.
    """

    def __init__(self, project: Project, limit_bytes: int = LIMIT_BYTES) -> None:
        self._project = project
        self._memory = Memory(limit_bytes)
        self._readers = threading.BoundedSemaphore(_READERS)
        self._stamps: dict[int, tuple[int, int]] = {}
        self._visited = 0
        self.ahead = Ahead()

    @property
    def nbytes(self) -> int:
        """Bytes that are kept in memory."""
        return self._memory.nbytes

    def close(self) -> None:
        """Stop what is made ahead."""
        self.ahead.close()

    def about(self, number: int, view: str = "raw") -> dict[str, object]:
        """Describe one view of a micrograph.

        A file that has changed since is read again.

        Returns
        -------
        dict
            ``shape`` (rows, columns of the micrograph), ``pixel_size_A``, ``diameter_px``, ``tile`` (side of a tile),
            ``view``, ``version`` (changes when the pictures do), ``range`` (the values at grey levels 0 and 255 of the
            finest level), ``fractional`` (whether scales are no whole numbers), ``cutoff_px`` (of a low-pass, in raw
            pixels) and ``levels``, finest first, each with ``scale`` (raw pixels per pixel), ``shape`` and its own
            ``range``. Pixel k of a level of scale s has its centre at the raw position ``k s + (s - 1) / 2``.
            Where there is no such picture, ``levels`` is empty and ``error`` says why.

        Raises
        ------
        NotThere
            If there is no such micrograph.
        ConfigError
            If there is no such view.
        """
        wanted = View.parse(view)
        self._refresh(number)
        said: dict[str, object] = {
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
            return {**said, "error": {"where": error.where, "found": error.found, "remedy": error.remedy}}
        return {
            **said,
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
        """Return one tile as a JPEG, grey; those at the right and lower rim are smaller.

        Raises
        ------
        NotThere
            If there is no such micrograph, level or tile.
        ConfigError, InputError
            If there is no such view, or the micrograph cannot be shown.
        """
        wanted = View.parse(view)
        levels = self._levels(number, wanted)
        side = views.TILE_PX
        rows, columns = levels.shapes[level] if 0 <= level < len(levels.shapes) else (0, 0)
        if not (0 <= row * side < rows and 0 <= column * side < columns):
            raise NotThere(f"tile {level}/{column}/{row}", "the picture has no such tile", "Reload the page")
        window = np.s_[row * side : (row + 1) * side, column * side : (column + 1) * side]
        plane = levels.planes[level]
        if plane is None:
            return _jpeg(views.grey(self._micrograph(number).pixels[window], levels.ranges[level]), _QUALITY)
        return _jpeg(plane[window], _QUALITY)

    def value(self, number: int, x: float, y: float) -> float | None:
        """Return the value of the pixel at a raw position; None outside, and where it is not finite.

        Raises
        ------
        NotThere
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
        """Return a JPEG of at most 256 pixels a side; kept on disk for as long as the file does not change.

        Raises
        ------
        NotThere
            If there is no such micrograph.
        MicrographError
            If it cannot be read.
        """
        path = self._project.path(number)
        kept = self._project.state / "thumbnails" / f"{_digest(path, self._stamp(number))}.jpg"
        with suppress(OSError):
            return kept.read_bytes()
        levels = self._levels(number, _RAW, most_bytes=0)
        level = max((i for i, shape in enumerate(levels.shapes) if max(shape) >= THUMBNAIL_PX), default=0)
        plane = levels.planes[level]
        assert plane is not None, "only levels of several tiles are without"
        factor = min(1.0, THUMBNAIL_PX / max(plane.shape))
        size = (max(1, round(plane.shape[1] * factor)), max(1, round(plane.shape[0] * factor)))
        small = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        content = _jpeg(views.grey(small.astype(np.float32), views.narrowed((0.0, 255.0))), _THUMBNAIL_QUALITY)
        # Where nothing may be written, it is made again next time.
        with suppress(OutputError), replacing(kept) as temporary:
            temporary.write_bytes(content)
        return content

    def boxes(self, number: int, xy: np.ndarray, side_px: float, out_px: int) -> np.ndarray:
        """Cut squares around positions; each pixel is the mean of the area that it covers.

        Parameters
        ----------
        number : int
            The micrograph.
        xy : np.ndarray
            `(n, 2)` centres, column and row, raw pixels; need not be whole.
        side_px : float
            Side of the squares, raw pixels.
        out_px : int
            Side of the pictures.

        Returns
        -------
        np.ndarray
            `(n, out_px, out_px)` float32, the micrograph's values, its median outside of it; see `boxes.cut`.

        Raises
        ------
        NotThere
            If there is no such micrograph.
        MicrographError
            If it cannot be read.
        ConfigError
            If the sides are not positive.
        """
        centres = np.asarray(xy, np.float64).reshape(-1, 2)
        kept = self._memory.peek((number, "pixels"))
        if kept is None:
            with self._readers, mrc.windows(self._project.path(number)) or nullcontext() as windows:
                # Of each box, the rows are read; all together no more than the micrograph has.
                if windows is not None and len(centres) * side_px < windows.shape[0]:
                    return cut(windows, centres, side_px, out_px)
        micrograph = self._micrograph(number, self._memory.limit_bytes // _SHARE_BOXES)
        return cut(micrograph.pixels, centres, side_px, out_px)

    def visit(self, number: int, view: str) -> None:
        """Note that somebody looks at a micrograph, and get ready for what comes next: its finest level, neighbours."""
        order = _NEIGHBOURS if number >= self._visited else tuple(-step for step in _NEIGHBOURS)
        self._visited = number
        wanted = View.parse(view)
        count = len(self._project.micrographs)
        ahead = [number + step for step in order if 0 <= number + step < count]
        self.ahead.replace([lambda stale: self._hold(number), *(self._task(neighbour, wanted) for neighbour in ahead)])

    def version(self, number: int, view: View) -> str:
        """Return a word that changes when the pictures of a view do.

        Raises
        ------
        NotThere
            If there is no such micrograph.
        """
        stamp = self._stamps.get(number) or self._stamp(number)
        more = (str(self._project.diameter), self._project.config.image) if view.kind == "prepared" else ()
        return _digest(self._project.path(number), stamp, str(view), *more)

    def _hold(self, number: int) -> None:
        """Have the pixels at hand: for the finest level, values and filters."""
        self._micrograph(number)

    def _task(self, number: int, view: View) -> Callable[[Callable[[], bool]], None]:
        def look(stale: Callable[[], bool]) -> None:
            most = self._memory.limit_bytes // _SHARE_AHEAD
            micrograph = None
            if self._memory.peek(self._key(number, view)) is None:
                micrograph = self._micrograph(number, most)
            if not stale():
                self._levels(number, view, None, micrograph)

        return look

    def _micrograph(self, number: int, most_bytes: int | None = None) -> Micrograph:
        """Return a micrograph, read now if it is not kept."""
        path = self._project.path(number)

        def read() -> _Held:
            with self._readers:
                return _Held(self._project.reading.read(path))

        return self._memory.get((number, "pixels"), read, most_bytes).micrograph

    def _levels(
        self, number: int, view: View, most_bytes: int | None = None, micrograph: Micrograph | None = None
    ) -> Levels:
        """Return the levels of a view; `most_bytes` bounds what is kept of them and of the micrograph."""

        def make() -> Levels:
            read = micrograph or self._micrograph(number, most_bytes)
            diameter_px = self._diameter_px(read.pixel_size_A)
            return views.of(view, read, diameter_px, self._project.config.image)

        return self._memory.get(self._key(number, view), make, most_bytes)

    def _key(self, number: int, view: View) -> tuple[object, ...]:
        # The diameter may be changed while the server runs.
        return (number, view, self._project.diameter if view.kind == "prepared" else None)

    def _diameter_px(self, pixel_size_A: float | None) -> float | None:
        diameter = self._project.diameter
        if diameter is None or (diameter.unit != "px" and not pixel_size_A):
            return None
        return diameter.to_px(pixel_size_A)

    def _stamp(self, number: int) -> tuple[int, int]:
        """Return what changes when the file does."""
        try:
            state = self._project.path(number).stat()
        except OSError:
            return 0, 0
        return state.st_size, state.st_mtime_ns

    def _refresh(self, number: int) -> None:
        stamp = self._stamp(number)
        if self._stamps.setdefault(number, stamp) != stamp:
            self._memory.drop(number)
            self._stamps[number] = stamp


class _Held:
    """A micrograph that says how much memory it takes."""

    def __init__(self, micrograph: Micrograph) -> None:
        self.micrograph = micrograph
        self.nbytes = micrograph.pixels.nbytes


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr((__version__, *parts)).encode()).hexdigest()[:24]


def routes(project: Project, parts: Mapping[str, Any]) -> list[Route]:
    """Return what the page asks about pictures."""
    pictures: Pictures = parts["pictures"]
    limiters: dict[int, anyio.CapacityLimiter] = {}

    async def away(work: Callable[..., Any], *args: object, at_once: int = _SERVED) -> Any:
        """Work in a thread, few at once: the memory is bounded by it, and the other routes' threads stay free."""
        # A limiter can be made only where an event loop runs.
        limiter = limiters.setdefault(at_once, anyio.CapacityLimiter(at_once))
        # The next micrograph is more urgent than a long list's thumbnails.
        with nullcontext() if at_once == _THUMBNAILS else pictures.ahead.waiting():
            return await anyio.to_thread.run_sync(work, *args, limiter=limiter)

    async def picture(request: Request) -> Response:
        number, view = request.path_params["number"], request.query_params.get("view", "raw")
        said = await away(pictures.about, number, view)
        pictures.visit(number, view)
        return answer(said)

    async def tile(request: Request) -> Response:
        place = [request.path_params[name] for name in ("number", "view", "level", "column", "row")]
        version = await away(pictures.version, place[0], View.parse(place[1]))
        if (same := _unchanged(request, version)) is not None:
            return same
        return _image(await away(pictures.tile, *place), version)

    async def thumbnail(request: Request) -> Response:
        number = request.path_params["number"]
        version = await away(pictures.version, number, _RAW)
        if (same := _unchanged(request, version)) is not None:
            return same
        return _image(await away(pictures.thumbnail, number, at_once=_THUMBNAILS), version)

    async def value(request: Request) -> Response:
        try:
            x, y = (float(request.query_params[name]) for name in ("x", "y"))
        except (KeyError, ValueError):
            x = y = math.nan
        if not (math.isfinite(x) and math.isfinite(y)):
            raise Refused(400, "request", "x and y are no position", "Send x and y in raw pixels")
        return answer({"value": await away(pictures.value, request.path_params["number"], x, y)})

    one = "/api/micrographs/{number:int}"
    return [
        Route(one + "/picture", picture),
        Route(one + "/tiles/{view}/{level:int}/{column:int}/{row:int}", tile),
        Route(one + "/thumbnail", thumbnail),
        Route(one + "/value", value),
    ]


def _unchanged(request: Request, version: str) -> Response | None:
    """Return the answer for a browser that has the picture already."""
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers=_caching(version)) if f'"{version}"' in known else None


def _image(content: bytes, version: str) -> Response:
    return Response(content, media_type="image/jpeg", headers=_caching(version))


def _caching(version: str) -> dict[str, str]:
    """Let the browser keep a picture, but ask whether it is still the right one: numbers mean other files tomorrow."""
    return {"Cache-Control": "private, no-cache", "ETag": f'"{version}"'}
