"""JSON in and out: what a request says, what is answered, and what becomes of errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from upicker.errors import OutputError, UPickerError
from upicker.web.project import NotThere

LARGEST_BODY = 4 * 1024 * 1024


class Refused(UPickerError):  # noqa: N818 - an answer, not a failure
    """A request that is not served.

    Parameters
    ----------
    status : int
        The HTTP status, 4xx or 5xx.
    where, found, remedy
        As those of `UPickerError`.
    more : mapping, optional
        What the answer holds beside ``error``.
    """

    def __init__(
        self, status: int, where: str, found: str, remedy: str = "", more: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(where, found, remedy)
        self.status, self.more = status, dict(more or {})

    def __reduce__(self) -> tuple:
        return type(self), (self.status, self.where, self.found, self.remedy, self.more)


class _Json(JSONResponse):
    """JSON in ASCII: names of files may hold bytes that are no UTF-8."""

    def render(self, content: object) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def answer(content: object, status: int = 200) -> JSONResponse:
    """Return JSON; numbers in it must be finite."""
    return _Json(content, status)


async def body(request: Request) -> dict[str, Any]:
    """Return the JSON object that a request brings; an empty body is an empty object.

    Raises
    ------
    Refused
        400 if it is no JSON object.
    """
    content = await request.body()
    try:
        found = json.loads(content, parse_constant=_no_constant) if content.strip() else {}
    except (ValueError, RecursionError) as error:
        raise Refused(400, "request", "this is not JSON", "Send a JSON object") from error
    if not isinstance(found, dict):
        raise Refused(400, "request", "this is no JSON object", "Send names and values in braces")
    return found


def told(error: UPickerError) -> JSONResponse:
    """Return the answer for an error of ours."""
    content = {"error": {"where": error.where, "found": error.found, "remedy": error.remedy}}
    if isinstance(error, Refused):
        return answer({**error.more, **content}, error.status)
    if isinstance(error, NotThere):
        return answer(content, 404)
    return answer(content, 500 if isinstance(error, OutputError) else 400)


async def on_error(request: Request, error: Exception) -> Response:
    """Answer for an error of ours, raised by any route."""
    assert isinstance(error, UPickerError)
    return told(error)


async def on_http(request: Request, error: Exception) -> Response:
    """Answer for what the router refuses: an unknown address, a method that is not served."""
    assert isinstance(error, HTTPException)
    words = {404: "there is nothing at this address", 405: "this address does not serve such requests"}
    found = words.get(error.status_code, error.detail)
    if is_api(request.scope["path"]):
        response: Response = told(Refused(error.status_code, request.scope["path"], found))
    else:
        response = page(error.status_code, "Nothing here", f"In this server {found}.")
    response.headers.update(error.headers or {})
    return response


async def on_mistake(request: Request, error: Exception) -> Response:
    """Answer for a mistake of our own; the terminal shows where it happened."""
    remedy = "The terminal where upicker runs says more; please report it. Labels saved so far are safe"
    return told(
        Refused(500, request.scope["path"], f"a mistake inside UPicker ({type(error).__name__}: {error})", remedy)
    )


def is_api(path: str) -> bool:
    """Tell whether programs, not people, ask for an address."""
    return path == "/api" or path.startswith("/api/")


def page(status: int, title: str, text: str, link: str = "") -> HTMLResponse:
    """Return a plain page that says one thing; `title`, `text` and `link` are ours, never a user's."""
    more = f'<p><a href="/">{link}</a></p>' if link else ""
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=color-scheme content=dark>"
        f"<title>{title} - UPicker</title><h1>{title}</h1><p>{text}</p>{more}",
        status,
    )


def _no_constant(word: str) -> float:
    raise ValueError(word)
