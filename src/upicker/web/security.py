"""The gate: which requests are admitted, from where and how large, and what a browser may do with the responses.

Threats, and the defences against them:

- Other users of the same machine can reach the port: a token is required, which only the terminal shows. The first
  visit turns it into a cookie that scripts cannot read. Browsers keep cookies in files: what the cookie holds is made
  from the token, and does not give it away.
- Another page in the user's browser sends requests here: the cookie is SameSite=Strict, every write must come from a
  page of this server (Origin), and the interface refuses requests that the browser marks as from another site.
- An attacker's host name that resolves to 127.0.0.1 (DNS rebinding): the Host header must be one of the known names.
- A file name or an image that contains code: the content security policy allows only this server's own files to run.
- Endless requests: the size of bodies is limited, whatever their header says.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upicker.web.responses import LARGEST_BODY, Refused, error_response, html_page, is_api

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Stands for any numeric address: these cannot be rebound.
ANY_ADDRESS = "*"
_READS = ("GET", "HEAD")
_WRITES = ("POST", "PUT", "DELETE")
_TICKET_SECONDS = 120.0
_LONGEST_TOKEN = 200
POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "style-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def new_token() -> str:
    """Return a new random secret of 192 bits."""
    return secrets.token_urlsafe(24)


def session_of(token: str) -> str:
    """Return what the cookie holds of those who know the token; the token cannot be found from it."""
    return hmac.digest(token.encode(), b"upicker cookie", "sha256").hex()


class Gate:
    """Checks the secret, and the host names of this server.

    Parameters
    ----------
    token : str
        The secret.
    names : frozenset of str
        Hosts by which a browser may address this server; `ANY_ADDRESS` adds all numeric addresses.
    """

    def __init__(self, token: str, names: frozenset[str] = LOOPBACK) -> None:
        self._token, self._session = token.encode(), session_of(token)
        self._names = frozenset(name.lower() for name in names - {ANY_ADDRESS})
        self._any_address = ANY_ADDRESS in names
        self._tickets: dict[bytes, tuple[float, Callable[[], object]]] = {}
        self._lock = threading.Lock()

    def ticket(self, used: Callable[[], object]) -> str:
        """Return a secret that admits one visit, within two minutes: for starting a browser.

        Parameters
        ----------
        used : callable
            Called when it was used.
        """
        made = new_token()
        with self._lock:
            self._tickets[made.encode()] = time.monotonic() + _TICKET_SECONDS, used
        return made

    def admits(self, given: str) -> bool:
        """Tell whether a secret is the token."""
        return hmac.compare_digest(_secret(given), self._token)

    def redeems(self, given: str) -> bool:
        """Tell whether a secret is a ticket, which is then used up."""
        with self._lock:
            now = time.monotonic()
            self._tickets = {ticket: found for ticket, found in self._tickets.items() if found[0] > now}
            found = self._tickets.pop(_secret(given), None)
        if found is not None:
            found[1]()
        return found is not None

    def knows(self, request: Request) -> bool:
        """Tell whether a request carries the right cookie."""
        given = request.cookies.get(cookie_name(request.headers), "")
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._session.encode())

    def cookie(self, headers: Headers) -> str:
        """Return the header that sets the cookie."""
        return f"{cookie_name(headers)}={self._session}; HttpOnly; SameSite=Strict; Path=/"

    def is_ours(self, host: str) -> bool:
        """Tell whether a Host header names this server."""
        name = _parts(host)[0]
        if name in self._names:
            return True
        if not self._any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def cookie_name(headers: Headers) -> str:
    """Return the name of the cookie, which includes the port as the browser sees it.

    Browsers store cookies by host, not by port: two servers would overwrite each other's cookie.
    """
    return f"upicker-{_parts(headers.get('host', ''))[1]}"


class Guard:
    """Passes on the requests that the gate admits, and adds security headers to every response."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
            await send(message)

        refusal = self._refusal(Request(scope))
        if refusal is not None:
            await refusal(scope, receive, send_guarded)
        else:
            await self.app(scope, _limited(receive), send_guarded)

    def _refusal(self, request: Request) -> Response | None:
        """Return the response to a request that is refused; None admits it."""
        headers, method, path = request.headers, request.method, request.scope["path"]
        host = headers.get("host", "")
        if not self._gate.is_ours(host):
            text = "Open the address that upicker printed in the terminal."
            return _refused(path, 403, "This server does not accept this host name", text)
        if path == "/" and method in _READS and not request.query_params.keys().isdisjoint(("token", "ticket")):
            return self._visit(request)
        if not self._gate.knows(request):
            text = "Open the address that upicker printed in the terminal; it ends with a token."
            return _refused(path, 401, "This page is locked", text, "Try again")
        site = headers.get("sec-fetch-site", "")
        if is_api(path) and site not in ("", "same-origin", "none"):
            return _refused(path, 403, "This request came from another site", "Use the page of this server.")
        if method in _READS:
            return None
        if method not in _WRITES:
            return _refused(path, 405, "This method is not supported", "Use the page of this server.")
        if not _is_from_here(headers, host):
            return _refused(path, 403, "This request did not come from the page of this server", "Use that page.")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and (kind or method != "DELETE"):
            return _refused(path, 415, "The body is not JSON", "Send Content-Type: application/json.")
        if _length(headers) > LARGEST_BODY:
            return error_response(_too_large())
        return None

    def _visit(self, request: Request) -> Response:
        """Set the cookie for a visit with the token or a ticket, and remove that from the address."""
        query, gate = request.query_params, self._gate
        # A browser that has the cookie may come back with a ticket that is used up.
        by_token = gate.admits(query.get("token", ""))
        if not (by_token or gate.knows(request) or gate.redeems(query.get("ticket", ""))):
            text = "This token is no longer valid. Open the address that upicker printed last in the terminal."
            return html_page(401, "This page is locked", text)
        cookie = {"Set-Cookie": gate.cookie(request.headers)}
        if by_token and request.headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return RedirectResponse("/", 303, cookie)
        # After a link from elsewhere, such as from a file, the browser sends no SameSite=Strict cookie where it is
        # redirected to, but only where a page of ours leads to.
        found = html_page(200, "UPicker", "This page is opened.", "Continue", going_on=True)
        found.headers.update(cookie)
        return found


def _secret(given: str) -> bytes:
    return given.encode("utf-8", "surrogatepass")[:_LONGEST_TOKEN]


def _is_from_here(headers: Headers, host: str) -> bool:
    """Tell whether a write comes from a page of this server: by its Origin header, or else by Sec-Fetch-Site."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site") == "same-origin"
    return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _limited(receive: Receive) -> Receive:
    """Return a `receive` that raises once the body exceeds the limit."""
    read = 0

    async def limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > LARGEST_BODY:
            raise _too_large()
        return message

    return limited


def _too_large() -> Refused:
    found = f"it is larger than {LARGEST_BODY // 1024**2} MB"
    return Refused(413, "request", found, "Send less at a time")


def _length(headers: Headers) -> int:
    """Return the Content-Length of a request; 0 if it is missing or malformed."""
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _refused(path: str, status: int, title: str, text: str, link: str = "") -> Response:
    """Return a refusal: JSON for the interface, an HTML page for people."""
    if is_api(path) or path.startswith("/static/"):
        return error_response(Refused(status, path, title[:1].lower() + title[1:], text.rstrip(".")))
    return html_page(status, title, text, link)


def _parts(host: str) -> tuple[str, str]:
    """Return name and port of a Host header, in lower case; empty if it is malformed."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return "", ""
    bare = parts.netloc == host and "@" not in host
    return (name.lower(), "" if port is None else str(port)) if bare else ("", "")
