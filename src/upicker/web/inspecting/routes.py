"""Routes of picks: counts at a threshold, one micrograph, rejections, galleries and exports."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker.io.rasters import encode_jpeg
from upicker.units import parse_length
from upicker.web.inspecting import exporting, summaries
from upicker.web.inspecting.gallery import CELL_PX, COLUMNS, Gallery
from upicker.web.inspecting.pick_store import PickStore
from upicker.web.responses import Refused, json_body, json_response
from upicker.web.tiles.images import MicrographImages

# Particles of a gallery, and of one of its images.
_MOST, _MOST_PER_IMAGE = 2000, 200
_JPEG_QUALITY = 88
_WHOLE = re.compile(r"[0-9]{1,9}")
_CELL = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")


def pick_routes(store: PickStore, images: MicrographImages) -> list[Route]:
    """Return all routes of picks."""
    return [*_score_routes(store), *_gallery_routes(store, images), *_export_routes(store)]


def _score_routes(store: PickStore) -> list[Route]:
    async def summary(request: Request) -> Response:
        return json_response(await anyio.to_thread.run_sync(summaries.summary, store))

    async def state(request: Request) -> Response:
        return json_response({"number": 0 if store.reading else store.found.number})

    async def counts(request: Request) -> Response:
        query = request.query_params

        def counted() -> dict[str, object]:
            return summaries.counts(store, _threshold(query, store), "detail" in query)

        return json_response(await anyio.to_thread.run_sync(counted))

    async def curve(request: Request) -> Response:
        return json_response(await anyio.to_thread.run_sync(summaries.curve, store))

    async def of_micrograph(request: Request) -> Response:
        threshold = _number(request.query_params.get("threshold"), -math.inf)
        number = request.path_params["number"]
        return json_response(await anyio.to_thread.run_sync(summaries.of_micrograph, store, number, threshold))

    async def reject(request: Request) -> Response:
        content = await json_body(request)
        changes, rejected = _rejections(content)
        seen = content.get("number") if _is_whole(content.get("number")) else None
        await anyio.to_thread.run_sync(store.reject, changes, rejected, seen)
        return json_response({"revision": store.revision, "rejected": await anyio.to_thread.run_sync(store.rejected)})

    return [
        Route("/api/picks/summary", summary),
        Route("/api/picks/state", state),
        Route("/api/picks/counts", counts),
        Route("/api/picks/curve", curve),
        Route("/api/picks/reject", reject, methods=["POST"]),
        Route("/api/micrographs/{number:int}/picks", of_micrograph),
    ]


def _gallery_routes(store: PickStore, images: MicrographImages) -> list[Route]:
    gallery = Gallery(store, images)

    def described(query: Mapping[str, str]) -> dict[str, object]:
        threshold, text = _threshold(query, store), query.get("count", "500")
        if not _WHOLE.fullmatch(text):
            raise Refused(400, "count", f"'{text[:40]}' is not a whole number", "Send one, e.g. count=500")
        cells = gallery.cells(query.get("kind", "highest"), threshold, min(int(text), _MOST))
        return {"cells": cells, "columns": COLUMNS, "cell_px": CELL_PX, "at_once": _MOST_PER_IMAGE}

    def drawn(query: Mapping[str, str]) -> bytes:
        lowpass = parse_length(query["lowpass"]) if query.get("lowpass") else None
        return encode_jpeg(gallery.image(_cells(query.get("cells", "")), lowpass), _JPEG_QUALITY)

    async def cells(request: Request) -> Response:
        return json_response(await anyio.to_thread.run_sync(described, request.query_params))

    async def image(request: Request) -> Response:
        content = await anyio.to_thread.run_sync(drawn, request.query_params)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    return [Route("/api/gallery", cells), Route("/api/gallery/sheet", image)]


def _export_routes(store: PickStore) -> list[Route]:
    async def options(request: Request) -> Response:
        folder = await anyio.to_thread.run_sync(exporting.suggested_folder, store)
        return json_response({"formats": exporting.formats(), "folder": folder})

    async def write(request: Request) -> Response:
        content = await json_body(request)
        format, folder, threshold = (content.get(name) for name in ("format", "folder", "threshold"))
        if not (isinstance(format, str) and isinstance(folder, str) and isinstance(threshold, float | int)):
            raise Refused(400, "request", "format, folder or threshold is missing", "Send all three")
        if isinstance(threshold, bool):
            raise Refused(400, "threshold", "it is not a number", "Send one, e.g. 0.3")
        overwrite = content.get("overwrite") is True
        export = (exporting.export, store, format, float(threshold), folder, overwrite)
        return json_response(await anyio.to_thread.run_sync(*export))

    return [Route("/api/export", options), Route("/api/export", write, methods=["POST"])]


def _threshold(query: Mapping[str, str], store: PickStore) -> float:
    """Return the threshold of a query, by default the initial one."""
    return _number(query.get("threshold"), store.found.initial_threshold)


def _number(text: str | None, default: float) -> float:
    """Parse a threshold in a query.

    Raises
    ------
    Refused
        400 if it is not a number.
    """
    if text is None or not text.strip():
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise Refused(400, "threshold", f"'{text[:40]}' is not a number", "Send one, e.g. threshold=0.3")
    return value


def _cells(text: str) -> np.ndarray:
    """Parse ``0.17,0.4,3.0`` to `(n, 2)`: micrographs, and indices in their files.

    Raises
    ------
    Refused
        400 if it is malformed, or too long.
    """
    words = text.split(",")
    if not 0 < len(words) <= _MOST_PER_IMAGE or not all(_CELL.fullmatch(word) for word in words):
        remedy = f"Send up to {_MOST_PER_IMAGE} as MICROGRAPH.INDEX, e.g. cells=0.17,0.4"
        raise Refused(400, "cells", "this is not a list of particles", remedy)
    return np.array([word.split(".") for word in words], np.int64)


def _rejections(content: Mapping[str, Any]) -> tuple[list[tuple[int, list[int] | None]], bool]:
    """Parse a request to reject: one micrograph and its picks, or ``changes`` with several of them.

    Raises
    ------
    Refused
        400 if it is malformed.
    """
    several = content.get("changes", [content])
    rejected = content.get("rejected", True)
    if isinstance(several, list) and isinstance(rejected, bool) and all(isinstance(one, dict) for one in several):
        changes = [(one.get("micrograph"), one.get("indices")) for one in several]
        if all(_is_whole(number) and (indices is None or _are_whole(indices)) for number, indices in changes):
            return changes, rejected
    raise Refused(400, "request", "it names no picks", "Send micrograph, indices and rejected")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def _are_whole(values: object) -> bool:
    return isinstance(values, list) and all(_is_whole(value) for value in values)
