"""The application: all routes, behind one gate."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

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
from upicker.web.inspecting.routes import pick_routes
from upicker.web.jobs.routes import job_routes
from upicker.web.labelling.routes import label_routes, proposal_routes
from upicker.web.parts import Parts
from upicker.web.project import Project
from upicker.web.responses import HTTPException, json_body, json_response, on_error, on_http, on_unexpected
from upicker.web.security import LOOPBACK, Gate, Guard
from upicker.web.tiles.routes import image_routes

STATIC = Path(__file__).parent / "static"
# Whoever asks for the labels or picks of a micrograph has opened it.
_OPENS = re.compile(r"/api/micrographs/(\d{1,9})/(?:labels|picks)")


def make_app(project: Project, token: str, names: frozenset[str] = LOOPBACK) -> ASGIApp:
    """Return the application for one project.

    Parameters
    ----------
    project : Project
        The project to serve.
    token : str
        The secret that admits a browser.
    names : frozenset of str
        Hosts by which a browser may address this server.
    """
    return assemble(project, Gate(token, names))


def assemble(project: Project, gate: Gate) -> ASGIApp:
    """Return the application for one project behind a given gate."""
    parts = Parts.of(project)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await anyio.to_thread.run_sync(parts.close)

    app = Starlette(
        routes=[*_page_routes(project), *_session_routes(project), *_list_routes(project, parts), *_routes(parts)],
        exception_handlers={UPickerError: on_error, HTTPException: on_http, Exception: on_unexpected},
        lifespan=lifespan,
    )
    # Outside of Starlette's own layers, so that the guard adds its headers to responses to unexpected errors, too.
    return Guard(OpenedTracker(app, project), gate)


def _routes(parts: Parts) -> list[Route]:
    """Return the routes of all parts that the page has."""
    routes = image_routes(parts.images)
    if parts.labels is not None:
        routes += label_routes(parts.labels)
    if parts.picks is not None:
        routes += pick_routes(parts.picks, parts.images)
    if parts.proposals is not None:
        routes += proposal_routes(parts.proposals)
    if parts.jobs is not None:
        routes += job_routes(parts.jobs)
    return routes


def _page_routes(project: Project) -> list[BaseRoute]:
    """Return the routes of the HTML page and its static files."""

    async def start(request: Request) -> Response:
        return RedirectResponse(f"/{project.mode}", 303)

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / f"{project.mode}.html", headers={"Cache-Control": "no-cache"})

    return [
        Route("/", start),
        Route(f"/{project.mode}", page),
        Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
    ]


def _session_routes(project: Project) -> list[BaseRoute]:
    """Return the routes that describe the project, and set its particle diameter."""

    def described() -> dict[str, object]:
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
        return json_response(await anyio.to_thread.run_sync(described))

    async def diameter(request: Request) -> Response:
        length = parse_length(str((await json_body(request)).get("diameter", "")))
        await anyio.to_thread.run_sync(project.set_diameter, length)
        return json_response(await anyio.to_thread.run_sync(described))

    return [Route("/api/session", session), Route("/api/session/diameter", diameter, methods=["PUT"])]


def list_of(project: Project, parts: Parts) -> list[dict[str, object]]:
    """Return what the list of micrographs shows of each."""
    unlabelled = {"labels": 0, "coverage": "unset", "bad": False}
    labels = parts.labels.counts() if parts.labels else [unlabelled] * len(project.micrographs)
    picks = parts.picks.counts() if parts.picks else [None] * len(project.micrographs)
    return [
        {
            "id": number,
            "name": project.name(number),
            **labels[number],
            "picks": picks[number],
            "opened": project.opened(number),
            "triage": None if (said := project.triage.get(project.name(number))) is None else asdict(said),
        }
        # More may arrive in between.
        for number in range(min(len(labels), len(picks)))
    ]


def _list_routes(project: Project, parts: Parts) -> list[BaseRoute]:
    """Return the route of the list of micrographs."""

    async def everything(request: Request) -> Response:
        return json_response(await anyio.to_thread.run_sync(list_of, project, parts))

    return [Route("/api/micrographs", everything)]


class OpenedTracker:
    """Records which micrographs a user has opened: those whose labels or picks were requested."""

    def __init__(self, app: ASGIApp, project: Project) -> None:
        self.app, self._project = app, project

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await self.app(scope, receive, send)
        if scope["type"] == "http" and scope["method"] == "GET" and (found := _OPENS.fullmatch(scope["path"])):
            number = int(found[1])
            if number < len(self._project.micrographs) and not self._project.opened(number):
                await anyio.to_thread.run_sync(self._project.note_opened, number)
