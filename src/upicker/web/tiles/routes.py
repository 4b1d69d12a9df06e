"""Routes of tiles, thumbnails and pixel values."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker.web.responses import Refused, json_response
from upicker.web.tiles.images import RAW, MicrographImages
from upicker.web.tiles.views import View

# Requests served at the same time: thumbnails must not delay tiles.
_SERVED, _THUMBNAILS = 8, 1


def image_routes(images: MicrographImages) -> list[Route]:
    """Return the routes of one project's micrographs as images."""
    limiters: dict[int, anyio.CapacityLimiter] = {}

    async def in_thread(work: Callable[..., Any], *args: object, at_once: int = _SERVED) -> Any:
        """Run `work` in a thread, few at once: this bounds the memory and leaves threads to the other routes."""
        # A limiter can be made only where an event loop runs.
        limiter = limiters.setdefault(at_once, anyio.CapacityLimiter(at_once))
        # Prefetching the next micrograph is more urgent than the thumbnails of a long list.
        with nullcontext() if at_once == _THUMBNAILS else images.prefetcher.paused():
            return await anyio.to_thread.run_sync(work, *args, limiter=limiter)

    async def description(request: Request) -> Response:
        number, view = request.path_params["number"], request.query_params.get("view", "raw")
        found = await in_thread(images.about, number, view)
        images.visit(number, view)
        return json_response(found)

    async def tile(request: Request) -> Response:
        address = [request.path_params[name] for name in ("number", "view", "level", "column", "row")]
        version = await in_thread(images.version, address[0], View.parse(address[1]))
        if (unchanged := _not_modified(request, version)) is not None:
            return unchanged
        return _jpeg_response(await in_thread(images.tile, *address), version)

    async def thumbnail(request: Request) -> Response:
        number = request.path_params["number"]
        version = await in_thread(images.version, number, RAW)
        if (unchanged := _not_modified(request, version)) is not None:
            return unchanged
        return _jpeg_response(await in_thread(images.thumbnail, number, at_once=_THUMBNAILS), version)

    async def value(request: Request) -> Response:
        try:
            x, y = (float(request.query_params[name]) for name in ("x", "y"))
        except (KeyError, ValueError):
            x = y = math.nan
        if not (math.isfinite(x) and math.isfinite(y)):
            raise Refused(400, "request", "x and y are not a position", "Send x and y in raw pixels")
        return json_response({"value": await in_thread(images.value, request.path_params["number"], x, y)})

    one = "/api/micrographs/{number:int}"
    return [
        Route(one + "/picture", description),
        Route(one + "/tiles/{view}/{level:int}/{column:int}/{row:int}", tile),
        Route(one + "/thumbnail", thumbnail),
        Route(one + "/value", value),
    ]


def _not_modified(request: Request, version: str) -> Response | None:
    """Return 304 (not modified) for a browser that holds this version of the image; None for the others."""
    tags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers=_cache_headers(version)) if f'"{version}"' in tags else None


def _jpeg_response(content: bytes, version: str) -> Response:
    return Response(content, media_type="image/jpeg", headers=_cache_headers(version))


def _cache_headers(version: str) -> dict[str, str]:
    """Let the browser cache an image but revalidate it: tomorrow the same number may mean another file."""
    return {"Cache-Control": "private, no-cache", "ETag": f'"{version}"'}
