"""Particles as small boxes, many in one picture: the best, the worst, those at the threshold, any, and false ones.

Which ones they are depends on the scores only, not on what is rejected, so that nothing moves while one looks at them.
A picture is made of as many as are asked for: the borderline ones of 1,000 micrographs lie in 1,000 files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import numpy as np
from scipy.ndimage import gaussian_filter
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker.errors import UPickerError
from upicker.units import Length, parse_length
from upicker.web.answers import Refused, answer
from upicker.web.inspecting.picks import PickStore, number_in
from upicker.web.inspecting.tally import Tally
from upicker.web.project import NotThere, Project

KINDS = ("highest", "lowest", "borderline", "random", "false")
COLUMNS, CELL_PX = 25, 64
_MOST, _MOST_AT_ONCE = 2000, 200
# A box shows the particle and some of its surroundings; more is read than is shown, so that filters have no rims.
_BOX_DIAMETERS = 1.6
_READ_PX = 96
# Grey values span this many standard deviations to either side.
_SIGMAS = 3.0
_EMPTY = 40
_WHOLE = re.compile(r"[0-9]{1,9}")
_CELL = re.compile(r"[0-9]{1,9}\.[0-9]{1,9}")
# A Gaussian of this standard deviation, in cut-off lengths, has fallen to one half at the cut-off frequency.
_HALF = math.sqrt(2 * math.log(2)) / (2 * math.pi)


def select(tally: Tally, kind: str, threshold: float, count: int) -> np.ndarray:
    """Choose picks to look at.

    Parameters
    ----------
    tally : Tally
        The scores of all picks.
    kind : str
        ``"highest"``, ``"lowest"``: of those with at least the threshold; ``"borderline"``: half of them just above
        the threshold, half just below, more where there are less of the others; ``"random"``: any above it, always the
        same; ``"false"``: the highest that found no label, in micrographs with labels.
    threshold : float
        See above.
    count : int
        How many at most.

    Returns
    -------
    np.ndarray
        `(k,)` int64, places in the tally's arrays: by falling score, ``lowest`` by rising.

    Raises
    ------
    Refused
        400 for another kind.
    """
    if kind not in KINDS:
        raise Refused(400, "kind", f"there is no kind '{kind[:40]}'", f"There are: {', '.join(KINDS)}")
    score = tally.score
    above = score >= threshold
    if kind == "borderline":
        kept, others = np.flatnonzero(above), np.flatnonzero(~above)
        half = max(count - count // 2, count - len(others))
        high = _top(-score, kept, half)[::-1]
        return np.concatenate([high, _top(score, others, count - len(high))])
    if kind == "false":
        above &= ~tally.hit & np.repeat(tally.labels >= 0, np.diff(tally.starts))
    among = np.flatnonzero(above)
    if kind == "random":
        chosen = np.random.default_rng(0).choice(among, min(count, len(among)), replace=False)
        return _top(score, np.sort(chosen), count)
    return _top(-score if kind == "lowest" else score, among, count)


def _top(value: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """Return the `count` of highest value, falling; equal ones in the order given."""
    values = value[among]
    if count < len(among):
        # All that are as high as the last one, so that it does not depend on the algorithm which are taken.
        kept = values >= np.partition(values, len(values) - count)[len(values) - count] if count else values < -np.inf
        among, values = among[kept], values[kept]
    return among[np.argsort(-values, kind="stable")][:count]


class Gallery:
    """Chooses particles and draws them.

    Parameters
    ----------
    store : PickStore
        The picks.
    pictures : Pictures
        Where boxes come from.
    """

    def __init__(self, store: PickStore, pictures: Any) -> None:
        self._store, self._pictures = store, pictures

    def cells(self, kind: str, threshold: float, count: int) -> list[dict[str, object]]:
        """Say which particles they are; arguments and errors as those of `select`."""
        tally = self._store.tally
        at = select(tally, kind, threshold, count)
        numbers, places = tally.micrograph(at).tolist(), tally.place[at].tolist()
        columns = zip(numbers, places, tally.score[at].tolist(), (~tally.alive[at]).tolist())
        return [
            {"micrograph": number, "index": place, "score": score, "rejected": rejected}
            for number, place, score, rejected in columns
        ]

    def sheet(self, which: np.ndarray, lowpass: Length | None) -> np.ndarray:
        """Draw particles, `COLUMNS` in a row.

        Parameters
        ----------
        which : np.ndarray
            `(n, 2)` int: micrograph, and place in its file.
        lowpass : Length or None
            Details smaller than this are smoothed away.

        Returns
        -------
        np.ndarray
            `(rows * 64, 25 * 64)` uint8. Micrographs that cannot be read leave their cells empty.

        Raises
        ------
        NotThere
            If there is no such particle.
        """
        cells = np.full((len(which), CELL_PX, CELL_PX), _EMPTY, np.uint8)
        for number in np.unique(which[:, 0]).tolist():
            here = np.flatnonzero(which[:, 0] == number)
            cells[here] = self._cells_of(number, which[here, 1], lowpass)
        return _tiled(cells)

    def _cells_of(self, number: int, places: np.ndarray, lowpass: Length | None) -> np.ndarray:
        project = self._store.project
        one = self._store.one(number)
        if places.max() >= len(one.particles):
            raise NotThere(f"a pick of micrograph {number}", "there is no such pick", "Reload the page")
        try:
            side = _BOX_DIAMETERS * _diameter_px(one.particles.diameter_px, project, number) * _READ_PX / CELL_PX
            boxes = self._pictures.boxes(number, one.particles.xy[places], side, _READ_PX)
            if lowpass is not None:
                sigma = _HALF * lowpass.to_px(project.pixel_size_A(number), "lowpass") * _READ_PX / side
                boxes = gaussian_filter(boxes, (0, sigma, sigma), mode="nearest")
        except UPickerError:
            return np.full((len(places), CELL_PX, CELL_PX), _EMPTY, np.uint8)
        rim = (_READ_PX - CELL_PX) // 2
        return _stretched(boxes[:, rim : rim + CELL_PX, rim : rim + CELL_PX])


def _diameter_px(own: np.ndarray, project: Project, number: int) -> float:
    """Return the diameter that boxes are measured by: the project's, else that of the picks, else a guess."""
    diameter = project.diameter_px(number)
    if diameter is not None:
        return diameter
    known = own[np.isfinite(own)]
    return float(np.median(known)) if len(known) else max(project.size(number)[0]) / 25


def _stretched(boxes: np.ndarray) -> np.ndarray:
    """Give each box its mean in the middle of the greys, and all of one micrograph the same contrast."""
    if not len(boxes):
        return boxes.astype(np.uint8)
    spread = float(np.median(boxes.std((1, 2)))) or 1.0
    values = (boxes - boxes.mean((1, 2), keepdims=True)) / (2 * _SIGMAS * spread) + 0.5
    return (np.clip(values, 0, 1) * 255).astype(np.uint8)


def _tiled(cells: np.ndarray) -> np.ndarray:
    """Lay `(n, s, s)` cells out in rows of `COLUMNS`."""
    rows = max(1, math.ceil(len(cells) / COLUMNS))
    sheet = np.full((rows * COLUMNS, CELL_PX, CELL_PX), _EMPTY, np.uint8)
    sheet[: len(cells)] = cells
    tiled = sheet.reshape(rows, COLUMNS, CELL_PX, CELL_PX).transpose(0, 2, 1, 3)
    return tiled.reshape(rows * CELL_PX, COLUMNS * CELL_PX)


def routes(project: Project, parts: Mapping[str, Any]) -> list[Route]:
    """Return what the page asks about galleries."""
    gallery = Gallery(parts["picks"], parts["pictures"])

    def described(query: Mapping[str, str]) -> dict[str, object]:
        threshold = number_in(query.get("threshold"), parts["picks"].first_threshold)
        text = query.get("count", "500")
        if not _WHOLE.fullmatch(text):
            raise Refused(400, "count", f"'{text[:40]}' is not a whole number", "Send one, e.g. count=500")
        cells = gallery.cells(query.get("kind", "highest"), threshold, min(int(text), _MOST))
        return {"cells": cells, "columns": COLUMNS, "cell_px": CELL_PX, "at_once": _MOST_AT_ONCE}

    def drawn(query: Mapping[str, str]) -> bytes:
        import cv2  # slow to import

        lowpass = parse_length(query["lowpass"]) if query.get("lowpass") else None
        sheet = gallery.sheet(_named(query.get("cells", "")), lowpass)
        return cv2.imencode(".jpg", sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()

    async def cells(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(described, request.query_params))

    async def sheet(request: Request) -> Response:
        content = await anyio.to_thread.run_sync(drawn, request.query_params)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    return [Route("/api/gallery", cells), Route("/api/gallery/sheet", sheet)]


def _named(text: str) -> np.ndarray:
    """Read ``0.17,0.4,3.0``: micrographs, and places in their files.

    Raises
    ------
    Refused
        400 if it is something else, or too many.
    """
    words = text.split(",")
    if not 0 < len(words) <= _MOST_AT_ONCE or not all(_CELL.fullmatch(word) for word in words):
        raise Refused(400, "cells", "it does not name particles", f"Send up to {_MOST_AT_ONCE}, e.g. cells=0.17,0.4")
    return np.array([word.split(".") for word in words], np.int64)
