"""Routes of labels and proposals."""

from __future__ import annotations

from functools import partial

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker.web.labelling.label_store import LabelStore
from upicker.web.labelling.proposals import Proposals
from upicker.web.responses import json_body, json_response


def label_routes(store: LabelStore) -> list[Route]:
    """Return the routes of labels; those that change them exist on the page for labelling only."""

    async def state(request: Request) -> Response:
        return json_response(await anyio.to_thread.run_sync(store.state, request.path_params["number"]))

    async def change(request: Request) -> Response:
        sent = await json_body(request)
        apply = partial(store.apply, request.path_params["number"], *map(sent.get, ("epoch", "revision", "changes")))
        return json_response(await anyio.to_thread.run_sync(apply))

    path = "/api/micrographs/{number:int}/labels"
    changing = [Route(path, change, methods=["POST"])] if store.project.mode == "label" else []
    return [Route(path, state, methods=["GET"]), *changing]


def proposal_routes(proposals: Proposals) -> list[Route]:
    """Return the route of proposals."""
    # Requests queue here rather than in threads, which other requests need.
    turn = anyio.CapacityLimiter(1)

    async def propose(request: Request) -> Response:
        number, source = request.path_params["number"], (await json_body(request)).get("source")
        said = ""
        if await anyio.to_thread.run_sync(proposals.unsized, number, source):
            async with turn:
                said = await anyio.to_thread.run_sync(proposals.sized, number)
        work = await anyio.to_thread.run_sync(proposals.wanted, number, source)
        found = await anyio.to_thread.run_sync(proposals.cached, number, work)
        if found is None:
            async with turn:
                # A user who went on to another micrograph no longer needs those of this one.
                if await request.is_disconnected():
                    return Response(status_code=204)
                found = await anyio.to_thread.run_sync(proposals.made, number, work)
        return json_response({**found, "diameter_px": work.diameter_px, "said": said})

    return [Route("/api/micrographs/{number:int}/proposals", propose, methods=["POST"])]
