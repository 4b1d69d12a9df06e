"""The gate: who may ask, from where, how much, and what a browser may do with the answers.

Threats, and what meets them:

- Others on the same machine, which many share, reach the port: a token, which only the terminal shows. The first visit
  turns it into a cookie that scripts cannot read.
- Another page in the user's browser sends requests here: the cookie is SameSite=Strict, every write must come from a
  page of this server (Origin), and the interface answers no request that a browser says comes from another.
- A name of the attacker's that points to 127.0.0.1 (DNS rebinding): the Host header must be one of the known names.
- A file name or a picture with code in it: the content security policy runs only what this server's own files say.
- Endless requests: bodies have a limit, whatever their header says.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import threading
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from upicker.web.answers import LARGEST_BODY, Refused, is_api, page, told

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Stands for any address written in numbers: these cannot be rebound.
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
    """Return a fresh secret of 192 bits."""
    return secrets.token_urlsafe(24)


class Gate:
    """Knows the secret, and the names that this server goes by.

    Parameters
    ----------
    token : str
        The secret.
    names : frozenset of str
        Hosts that a browser may know this server by; `ANY_ADDRESS` adds all addresses in numbers.
    """

    def __init__(self, token: str, names: frozenset[str] = LOOPBACK) -> None:
        self._token = token.encode()
        self._names = frozenset(name.lower() for name in names - {ANY_ADDRESS})
        self._any_address = ANY_ADDRESS in names
        self._tickets: dict[bytes, float] = {}
        self._lock = threading.Lock()

    def ticket(self) -> str:
        """Return a secret that lets in once, within two minutes.

        It is for starting a browser, whose command line everybody on the machine can read.
        """
        made = new_token()
        with self._lock:
            self._tickets[made.encode()] = time.monotonic() + _TICKET_SECONDS
        return made

    def admits(self, given: str) -> bool:
        """Tell whether a visitor brings the token, or a ticket, which is then used up."""
        secret = given.encode("utf-8", "surrogatepass")[:_LONGEST_TOKEN]
        if hmac.compare_digest(secret, self._token):
            return True
        with self._lock:
            now = time.monotonic()
            self._tickets = {ticket: end for ticket, end in self._tickets.items() if end > now}
            return self._tickets.pop(secret, None) is not None

    def knows(self, request: Request) -> bool:
        """Tell whether a request carries the cookie."""
        given = request.cookies.get(cookie_name(request.headers), "")
        return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token)

    def cookie(self, headers: Headers) -> str:
        """Return the header that gives a visitor the cookie."""
        return f"{cookie_name(headers)}={self._token.decode()}; HttpOnly; SameSite=Strict; Path=/"

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
    """Return the cookie's name, which says the port as the browser knows it.

    Browsers keep cookies by host, not by port: two servers would take each other's cookie away.
    """
    return f"upicker-{_parts(headers.get('host', ''))[1]}"


class Guard:
    """Lets through what the gate allows, and adds the headers that every answer carries."""

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
        """Return the answer to a request that goes no further; None lets it through."""
        headers, method, path = request.headers, request.method, request.scope["path"]
        host = headers.get("host", "")
        if not self._gate.is_ours(host):
            return _refused(path, 403, "This server does not go by this name", "Open the address that it printed.")
        if path == "/" and method in _READS and "token" in request.query_params:
            return self._visit(request)
        if not self._gate.knows(request):
            text = "Open the address that upicker printed in the terminal; it ends with a token."
            return _refused(path, 401, "This page is locked", text, "Try again")
        site = headers.get("sec-fetch-site", "")
        if is_api(path) and site not in ("", "same-origin", "none"):
            return _refused(path, 403, "Another page asked for this", "Use the page of this server.")
        if method in _READS:
            return None
        if method not in _WRITES:
            return _refused(path, 405, "There are no such requests here", "Use the page of this server.")
        if not _is_from_here(headers, host):
            return _refused(path, 403, "This did not come from the page of this server", "Use that page.")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and (kind or method != "DELETE"):
            return _refused(path, 415, "This is not JSON", "Send Content-Type: application/json.")
        if _length(headers) > LARGEST_BODY:
            return told(_too_large())
        return None

    def _visit(self, request: Request) -> Response:
        """Give the cookie to who brings the token, and take the token out of the address."""
        # Who is in already may come back with a ticket that is used up.
        if not (self._gate.knows(request) or self._gate.admits(request.query_params["token"])):
            text = "This token is of an earlier start. Open the address that upicker printed last in the terminal."
            return page(401, "This page is locked", text)
        return RedirectResponse("/", 303, {"Set-Cookie": self._gate.cookie(request.headers)})


def _is_from_here(headers: Headers, host: str) -> bool:
    """Tell whether a write comes from a page of this server: by its origin, or else by what the browser says."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site") == "same-origin"
    return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _limited(receive: Receive) -> Receive:
    """Return what reads a request's body, and no more of it than is allowed."""
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
    return Refused(413, "request", found, "Send less at once")


def _length(headers: Headers) -> int:
    """Return how long a body says it is; nothing is said by what is no number."""
    text = headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


def _refused(path: str, status: int, title: str, text: str, link: str = "") -> Response:
    """Say no: to programs in JSON, to people in words."""
    if is_api(path) or path.startswith("/static/"):
        return told(Refused(status, path, title[:1].lower() + title[1:], text.rstrip(".")))
    return page(status, title, text, link)


def _parts(host: str) -> tuple[str, str]:
    """Return name and port that a Host header says, in small letters; empty ones for nonsense."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return "", ""
    bare = parts.netloc == host and "@" not in host
    return (name.lower(), "" if port is None else str(port)) if bare else ("", "")
