"""Connections without a request: anybody can open them, and the server stays reachable."""

import asyncio
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.cookiejar import CookieJar

import pytest
from browser import Server
from starlette.types import Receive, Scope, Send
from waiting import PATIENCE_S, until
from web_client import make_micrographs

from upicker.web import connections
from upicker.web.connections import Limits
from upicker.web.serve import _server

HALF = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-"


@contextmanager
def served(limits: Limits) -> Iterator[tuple[str, int]]:
    """Run a server, whose answers take three times the time for a header; yield its address."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for name in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{name}.complete"})
            return
        if scope["path"] == "/slow":
            await asyncio.sleep(3 * limits.header_s)
        if scope["path"] != "/refused":
            while (await receive()).get("more_body"):
                pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    ready = threading.Event()
    server = _server(app, ready.set, limits)
    server.config.timeout_keep_alive = round(PATIENCE_S)  # as far as the limits do not end a connection earlier
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            assert ready.wait(PATIENCE_S)
            yield listening.getsockname()
        finally:
            server.should_exit = True
            thread.join()


def connected(address: tuple[str, int], sent: bytes = b"") -> socket.socket:
    found = socket.create_connection(address, timeout=PATIENCE_S)
    with suppress(ConnectionError):  # It may be closed already.
        found.sendall(sent)
    return found


def received(connection: socket.socket) -> bytes:
    """Return what a server sends until it closes the connection."""
    found = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(4096):
            found += part
    return found


def answered(connection: socket.socket) -> bool:
    """Receive one answer; tell whether there is one."""
    found = b""
    while not found.endswith(b"\r\n\r\nok") and (part := connection.recv(4096)):
        found += part
    return found.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HALF,
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + HALF,  # the second request is not complete
        b"POST /refused HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nhalf",  # nor is a refused body
    ],
    ids=["nothing", "half a header", "half a second header", "half a body"],
)
def test_a_connection_without_a_request_is_closed(sent):
    with served(Limits(most=100, header_s=0.2)) as address, connected(address, sent) as waiting:
        assert received(waiting).count(b"200 OK") == sent.count(b"\r\n\r\n")


def test_a_header_that_comes_byte_by_byte_does_not_put_off_its_end():
    with served(Limits(most=100, header_s=0.2)) as address, connected(address, HALF) as waiting:

        def cut() -> bool:
            try:
                waiting.sendall(b"x")
            except OSError:
                return True
            return False

        until(cut, "the end of the connection")


def test_a_slow_response_is_not_cut():
    with served(Limits(most=100, header_s=0.2)) as address:
        assert urllib.request.urlopen(f"http://127.0.0.1:{address[1]}/slow", timeout=PATIENCE_S).read() == b"ok"


def test_the_oldest_without_a_request_makes_room():
    limits = Limits(most=3, header_s=PATIENCE_S)
    with served(limits) as address, ExitStack() as stack:
        used = stack.enter_context(connected(address, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
        assert answered(used)
        waiting = [stack.enter_context(connected(address, HALF)) for _ in range(6)]
        for closed in waiting[:4]:
            assert received(closed) == b""
        # Those that remain get their answers, and the one that has been used goes last.
        for left in (used, *waiting[4:]):
            left.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" if left is used else b"a: b\r\nConnection: close\r\n\r\n")
            assert answered(left)
    assert limits.told == {"More than 3 connections are open: those without a request are closed."}


@pytest.mark.skipif(connections.os.name != "posix", reason="limits of POSIX")
@pytest.mark.parametrize(("files", "most"), [(256, 96), (1024, 256), (64, 16), (10**6, 256), (-1, 256)])
def test_the_limit_follows_that_of_open_files(monkeypatch, files, most):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    monkeypatch.setattr(resource, "RLIM_INFINITY", -1)
    assert connections.most_connections() == most


def test_a_shortage_of_file_handles_is_said_once(caplog):
    limits, loop, others = Limits(3), asyncio.new_event_loop(), []
    loop.default_exception_handler = others.append  # type: ignore[method-assign]
    connections.quiet_accept(limits, loop)
    shortage = {"message": "socket.accept() out of system resource", "exception": OSError(24, "Too many open files")}
    for _ in range(100):
        loop.call_exception_handler(shortage)
    loop.call_exception_handler({"message": "something else"})
    loop.close()
    assert [record.getMessage() for record in caplog.records] == [
        "No connection can be accepted: [Errno 24] Too many open files. Close some, or raise ulimit -n."
    ]
    assert others == [{"message": "something else"}]


def test_idle_half_requests_leave_the_page_reachable(tmp_path):
    """300 of them, in a process that may open 256 files."""
    mic = make_micrographs(tmp_path / "mics", 1)[0]
    server = Server("label", mic, "--labels", tmp_path / "labels", open_files=256)
    with server, ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        for _ in range(300):
            stack.enter_context(connected(address, HALF))
        for _ in range(3):
            visitor = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
            with visitor.open(server.url, timeout=PATIENCE_S) as page:
                assert (page.status, b"This page needs JavaScript" in page.read()) == (200, True)
        printed = server.kill()
    said = [line for line in printed.splitlines() if "connection" in line]
    assert said == ["ERROR:    More than 96 connections are open: those without a request are closed."], printed
    assert "Traceback" not in printed
