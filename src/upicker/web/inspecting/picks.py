"""What the page asks about picks: how many at which threshold, which in a micrograph, and rejecting them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker.particles import Particles
from upicker.web.answers import Refused, answer, body
from upicker.web.inspecting.pickstore import PickStore
from upicker.web.inspecting.tally import outliers
from upicker.web.project import Project

__all__ = ["PickStore", "finite", "number_in", "routes"]


def number_in(text: str | None, default: float) -> float:
    """Read a number of an address; nothing gives the default.

    Raises
    ------
    Refused
        400 if it is no number.
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


def finite(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Return numbers for JSON, rounded; None for what is not finite."""
    return [round(value, digits) if math.isfinite(value) else None for value in values.tolist()]


def routes(project: Project, parts: Mapping[str, Any]) -> list[Route]:
    """Return what the page asks about picks."""
    store: PickStore = parts["picks"]

    async def summary(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(_summary, store))

    async def counts(request: Request) -> Response:
        query = request.query_params
        return answer(await anyio.to_thread.run_sync(_counts, store, query.get("threshold"), "detail" in query))

    async def curve(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(_curve, store))

    async def of_one(request: Request) -> Response:
        threshold = number_in(request.query_params.get("threshold"), -math.inf)
        return answer(await anyio.to_thread.run_sync(_of_one, store, request.path_params["number"], threshold))

    async def reject(request: Request) -> Response:
        changes, rejected = _changes(await body(request))
        await anyio.to_thread.run_sync(store.reject, changes, rejected)
        return answer({"revision": store.revision, "rejected": await anyio.to_thread.run_sync(store.rejected)})

    return [
        Route("/api/picks/summary", summary),
        Route("/api/picks/counts", counts),
        Route("/api/picks/curve", curve),
        Route("/api/picks/reject", reject, methods=["POST"]),
        Route("/api/micrographs/{number:int}/picks", of_one),
    ]


def _summary(store: PickStore) -> dict[str, object]:
    if store.reading:
        return {"loading": store.loaded}
    tally, spread, origin = store.tally, store.spread(), store.origin
    return {
        "threshold": origin.stored,
        "picked_at": origin.picked_at,
        "command": origin.command,
        "note": origin.note,
        "low": tally.low,
        "high": tally.high,
        "lowest": float(tally.score.min()) if len(tally) else None,
        "edges": spread.edges.tolist(),
        "histogram": spread.histogram.tolist(),
        "total": len(tally),
        "rejected": store.rejected(),
        "micrographs": int(store.picked().sum()),
        "labels": int(tally.labels[tally.labels >= 0].sum()),
        "labelled": int((tally.labels >= 0).sum()),
        "has_labels": bool((tally.labels >= 0).any()),
        "problems": store.problems[:20],
        "more_problems": max(0, len(store.problems) - 20),
        "strangers": store.strangers,
    }


def _counts(store: PickStore, text: str | None, detail: bool) -> dict[str, object]:
    threshold = number_in(text, store.first_threshold)
    tally, picked = store.tally, store.picked()
    counts = tally.counts(threshold)
    marked = outliers(counts, picked)
    found: dict[str, object] = {
        "counts": [count if there else None for count, there in zip(counts.tolist(), picked.tolist())],
        "total": int(counts.sum()),
        "outliers": list(marked),
        "why": {str(number): word for number, word in marked.items()},
    }
    score = tally.pooled(threshold)
    if score is not None:
        found["score"] = dict(zip(("precision", "recall", "f1"), score))
    if detail:
        found |= {"means": finite(tally.means(threshold)), "f1s": finite(tally.f1s(threshold))}
    return found


def _curve(store: PickStore) -> dict[str, object]:
    spread = store.spread()
    found: dict[str, object] = {"thresholds": spread.edges.tolist(), "counts": spread.counts.tolist()}
    found["histogram"] = spread.histogram.tolist()
    for name, values in (("precision", spread.precision), ("recall", spread.recall), ("f1", spread.f1)):
        if values is not None:
            found[name] = finite(values, 6)
    return found


def _of_one(store: PickStore, number: int, threshold: float) -> dict[str, object]:
    """Say all of one micrograph; diameters that the file does not give are the project's."""
    one = store.one(number)
    diameter_px = store.project.diameter_px(number)
    particles = one.particles.with_diameter(diameter_px or math.nan, only_missing=True)
    kept = np.flatnonzero(particles.score >= threshold)
    verdict = np.where(one.label >= 0, 1, 0)
    known = one.alive[kept] & (one.labels is not None)
    columns = (
        kept.tolist(),
        *(finite(values) for values in particles.xy[kept].T),
        particles.score[kept].tolist(),
        finite(particles.diameter_px[kept], 2),
        [value if there else None for value, there in zip(verdict[kept].tolist(), known.tolist())],
        (~one.alive[kept]).tolist(),
    )
    labels = one.labels if one.labels is not None else Particles.of([])
    if diameter_px is not None or one.side_px is not None:
        labels = labels.with_diameter(one.side_px or diameter_px or math.nan, only_missing=True)
    found = one.found_at()
    rows = zip(*(finite(values) for values in labels.xy.T), finite(labels.diameter_px, 2), found.tolist())
    return {
        "picks": [list(row) for row in zip(*columns)],
        "labels": [[x, y, side, score if math.isfinite(score) else None] for x, y, side, score in rows],
        "has_labels": one.labels is not None,
        "picked": one.picks is not None,
        "diameter_px": diameter_px,
    }


def _changes(content: Mapping[str, Any]) -> tuple[list[tuple[int, list[int] | None]], bool]:
    """Read a request to reject: one micrograph and its picks, or ``changes`` with several of them.

    Raises
    ------
    Refused
        400 if it makes no sense.
    """
    several = content.get("changes", [content])
    rejected = content.get("rejected", True)
    if isinstance(several, list) and isinstance(rejected, bool) and all(isinstance(one, dict) for one in several):
        changes = [(one.get("micrograph"), one.get("indices")) for one in several]
        if all(_whole(number) and (which is None or _all_whole(which)) for number, which in changes):
            return changes, rejected
    raise Refused(400, "request", "it does not say which picks", "Send micrograph, indices and rejected")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31


def _all_whole(values: object) -> bool:
    return isinstance(values, list) and all(_whole(value) for value in values)
