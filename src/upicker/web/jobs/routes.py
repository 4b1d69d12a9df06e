"""Routes of jobs and suggestions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker.web.jobs.job import Job, detail, summary
from upicker.web.jobs.jobs import KINDS, Jobs
from upicker.web.responses import Refused, json_body, json_response


def job_routes(jobs: Jobs) -> list[Route]:
    """Return the routes of jobs and suggestions."""

    async def listed(request: Request) -> Response:
        return json_response(await anyio.to_thread.run_sync(lambda: [summary(job) for job in jobs.all()]))

    async def begin(request: Request) -> Response:
        start = _requested(jobs, await json_body(request))
        return json_response(await anyio.to_thread.run_sync(lambda: summary(start())), 201)

    async def one(request: Request) -> Response:
        return json_response(await anyio.to_thread.run_sync(lambda: detail(_found(jobs.get, request))))

    async def stop(request: Request) -> Response:
        return json_response(await anyio.to_thread.run_sync(lambda: summary(_found(jobs.stop, request))))

    async def choices(request: Request) -> Response:
        return json_response(await anyio.to_thread.run_sync(jobs.choices))

    async def suggestions(request: Request) -> Response:
        return json_response(await anyio.to_thread.run_sync(jobs.suggestions))

    async def suggest(request: Request) -> Response:
        return json_response(await anyio.to_thread.run_sync(lambda: summary(jobs.suggest())), 201)

    return [
        Route("/api/jobs", listed, methods=["GET"]),
        Route("/api/jobs", begin, methods=["POST"]),
        Route("/api/jobs/{id}", one, methods=["GET"]),
        Route("/api/jobs/{id}", stop, methods=["DELETE"]),
        Route("/api/training", choices, methods=["GET"]),
        Route("/api/suggestions", suggestions, methods=["GET"]),
        Route("/api/suggestions", suggest, methods=["POST"]),
    ]


def _found(get: Callable[[str], Job], request: Request) -> Job:
    """Return the job that a request names, or refuse."""
    name = request.path_params["id"]
    try:
        return get(name)
    except KeyError as error:
        raise Refused(404, f"job {name[:40]}", "there is no such job", "Reload the page") from error


def _requested(jobs: Jobs, content: Mapping[str, Any]) -> Callable[[], Job]:
    """Return the function that starts the requested job, or refuse."""
    kind, steps, initial, partial = (content.get(name) for name in ("kind", "steps", "init", "partial"))
    if kind == "suggest":
        return jobs.suggest
    if kind != "finetune":
        raise Refused(400, "kind", f"unknown kind of job {str(kind)[:40]!r}", f"Use one of: {', '.join(KINDS)}")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int)):
        raise Refused(400, "steps", "it is not a whole number", "Send a number of steps, or null")
    if initial is not None and not isinstance(initial, str):
        raise Refused(400, "init", "it is not a file name", "Send the file of weights, or null")
    if not isinstance(partial, bool | None):
        raise Refused(400, "partial", "it is neither true nor false", "Send one of them")
    return functools.partial(jobs.finetune, steps, initial, bool(partial))
