"""JSON requests and responses, and the responses to errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from upicker.errors import OutputError, UPickerError
from upicker.web.project import NotFound

LARGEST_BODY = 4 * 1024 * 1024


class Refused(UPickerError):  # noqa: N818 - a response, not a failure
    """A request that is refused.

    Parameters
    ----------
    status : int
        The HTTP status, 4xx or 5xx.
    where, found, remedy
        As those of `UPickerError`.
    more : mapping, optional
        Fields of the response besides ``error``.
    """

    def __init__(
        self, status: int, where: str, found: str, remedy: str = "", more: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(where, found, remedy)
        self.status, self.more = status, dict(more or {})

    def __reduce__(self) -> tuple:
        return type(self), (self.status, self.where, self.found, self.remedy, self.more)


class _AsciiJSON(JSONResponse):
    """JSON in ASCII: file names may hold bytes that are not UTF-8."""

    def render(self, content: object) -> bytes:
        """Return the body."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def json_response(content: object, status: int = 200) -> JSONResponse:
    """Return a JSON response; numbers in `content` must be finite."""
    return _AsciiJSON(content, status)


async def json_body(request: Request) -> dict[str, Any]:
    """Return the JSON object in a request's body; an empty body is an empty object.

    Raises
    ------
    Refused
        400 if it is not a JSON object.
    """
    content = await request.body()
    try:
        found = json.loads(content, parse_constant=_reject_constant) if content.strip() else {}
    except (ValueError, RecursionError) as error:
        raise Refused(400, "request", "the body is not JSON", "Send a JSON object") from error
    if not isinstance(found, dict):
        raise Refused(400, "request", "the body is not a JSON object", "Send names and values in braces")
    return found


def error_response(error: UPickerError) -> JSONResponse:
    """Return the response for one of the package's errors."""
    content = {"error": {"where": error.where, "found": error.found, "remedy": error.remedy}}
    if isinstance(error, Refused):
        return json_response({**error.more, **content}, error.status)
    if isinstance(error, NotFound):
        return json_response(content, 404)
    return json_response(content, 500 if isinstance(error, OutputError) else 400)


async def on_error(request: Request, error: Exception) -> Response:
    """Respond to one of the package's errors, raised by any route."""
    assert isinstance(error, UPickerError)
    return error_response(error)


async def on_http(request: Request, error: Exception) -> Response:
    """Respond to what the router refuses: an unknown address, a method that an address does not support."""
    assert isinstance(error, HTTPException)
    words = {404: "there is nothing at this address", 405: "this address does not support this method"}
    found = words.get(error.status_code, error.detail)
    if is_api(request.scope["path"]):
        response: Response = error_response(Refused(error.status_code, request.scope["path"], found))
    else:
        response = html_page(error.status_code, "Not found", f"{found[:1].upper()}{found[1:]}.")
    response.headers.update(error.headers or {})
    return response


async def on_unexpected(request: Request, error: Exception) -> Response:
    """Respond to a bug in the package; the terminal shows the traceback."""
    remedy = "Please report it with the traceback in the terminal. Labels saved so far are safe"
    found = f"an unexpected {type(error).__name__} ({error})"
    return error_response(Refused(500, request.scope["path"], found, remedy))


def is_api(path: str) -> bool:
    """Tell whether an address belongs to the JSON interface rather than to a page."""
    return path == "/api" or path.startswith("/api/")


def html_page(status: int, title: str, text: str, link: str = "", going_on: bool = False) -> HTMLResponse:
    """Return a plain page with one message; `title`, `text` and `link` are trusted, never a user's.

    With `going_on`, the browser follows the link, to the start page, by itself.
    """
    refresh = '<meta http-equiv=refresh content="0;url=/">' if going_on else ""
    more = f'<p><a href="/">{link}</a></p>' if link else ""
    return HTMLResponse(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=color-scheme content=dark>"
        f'{refresh}<link rel=icon href="data:,"><title>{title} - UPicker</title>'
        f"<h1>{title}</h1><p>{text}</p>{more}",
        status,
    )


def _reject_constant(word: str) -> float:
    raise ValueError(word)
