"""The application: all routes, behind one gate."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from upicker import __version__
from upicker.errors import UPickerError
from upicker.units import parse_length
from upicker.web.answers import HTTPException, answer, body, on_error, on_http, on_mistake
from upicker.web.inspecting import exporting, gallery, picks
from upicker.web.jobs import jobs, suggest
from upicker.web.labelling import labels, proposals
from upicker.web.project import Project
from upicker.web.security import LOOPBACK, Gate, Guard
from upicker.web.tiles import micrographs as pictures

STATIC = Path(__file__).parent / "static"
_OPENS = re.compile(r"/api/micrographs/(\d{1,9})/(?:labels|picks)")


def make_app(project: Project, token: str, names: frozenset[str] = LOOPBACK) -> ASGIApp:
    """Return the application for one project.

    Parameters
    ----------
    project : Project
        What it shows.
    token : str
        The secret that lets a browser in.
    names : frozenset of str
        Hosts that a browser may know this server by.
    """
    return assemble(project, Gate(token, names))


def assemble(project: Project, gate: Gate) -> ASGIApp:
    """Return the application for one project behind a gate of its own."""
    parts: dict[str, Any] = {
        "labels": None if project.labels is None else labels.LabelStore(project),
        "pictures": pictures.Pictures(project),
        "picks": None,
        "jobs": None,
    }
    rooms = [pictures]
    if project.labels is not None:
        rooms += [labels]
    if project.picks is not None:
        parts["picks"] = picks.PickStore(project)
        rooms += [picks, gallery, exporting]
    if project.mode == "label":
        parts["jobs"] = jobs.Jobs(project)
        rooms += [proposals, jobs, suggest]
    routes: list[BaseRoute] = [*_pages(project), *_session(project), *_list(project, parts)]
    for room in rooms:
        routes += room.routes(project, parts)

    def close() -> None:
        with contextlib.ExitStack() as stack:
            for part in parts.values():
                if hasattr(part, "close"):
                    stack.callback(part.close)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(close)

    served = Starlette(
        routes=routes,
        exception_handlers={UPickerError: on_error, HTTPException: on_http, Exception: on_mistake},
        lifespan=lifespan,
    )
    # Outside of Starlette's own layers, so that every answer passes the guard, also those to mistakes.
    return Guard(Opened(served, project), gate)


def _pages(project: Project) -> list[BaseRoute]:
    """Return the pages themselves, and what they are made of."""

    async def start(request: Request) -> Response:
        return RedirectResponse(f"/{project.mode}", 303)

    async def shown(request: Request) -> Response:
        return FileResponse(STATIC / f"{project.mode}.html", headers={"Cache-Control": "no-cache"})

    return [
        Route("/", start),
        Route(f"/{project.mode}", shown),
        Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
    ]


def _session(project: Project) -> list[BaseRoute]:
    """Return what the page asks about itself."""

    def said() -> dict[str, object]:
        paths = {"labels": project.labels, "picks": project.picks, "model": project.model}
        return {
            "mode": project.mode,
            "version": __version__,
            "diameter": None if project.diameter is None else str(project.diameter),
            "micrographs": len(project.micrographs),
            "pixel_size_A": project.pixel_size_A(0),
            **{name: None if path is None else str(path) for name, path in paths.items()},
        }

    async def session(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(said))

    async def diameter(request: Request) -> Response:
        length = parse_length(str((await body(request)).get("diameter", "")))
        await anyio.to_thread.run_sync(project.set_diameter, length)
        return answer(await anyio.to_thread.run_sync(said))

    return [Route("/api/session", session), Route("/api/session/diameter", diameter, methods=["PUT"])]


def _list(project: Project, parts: Mapping[str, Any]) -> list[BaseRoute]:
    """Return the list of micrographs."""

    def listed() -> list[dict[str, object]]:
        unset = {"labels": 0, "coverage": "unset", "bad": False}
        counts = parts["labels"].counts() if parts["labels"] else [unset] * len(project.micrographs)
        picked = parts["picks"].counts() if parts["picks"] else [None] * len(project.micrographs)
        return [
            {
                "id": number,
                "name": project.name(number),
                **counts[number],
                "picks": picked[number],
                "opened": project.opened(number),
            }
            for number in range(len(project.micrographs))
        ]

    async def everything(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(listed))

    return [Route("/api/micrographs", everything)]


class Opened:
    """Notes which micrographs somebody has looked at: those whose labels or picks were asked for."""

    def __init__(self, app: ASGIApp, project: Project) -> None:
        self.app, self._project = app, project

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self.app(scope, receive, send)
        if scope["type"] == "http" and scope["method"] == "GET" and (found := _OPENS.fullmatch(scope["path"])):
            number = int(found[1])
            if number < len(self._project.micrographs) and not self._project.opened(number):
                await anyio.to_thread.run_sync(self._project.note_opened, number)
