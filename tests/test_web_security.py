"""The gate: who may ask, from where, how much; a server that others can reach must refuse all else."""

import json
import re

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from upicker.errors import InputError, OutputError, UPickerError
from upicker.web import security
from upicker.web.project import NotFound
from upicker.web.responses import LARGEST_BODY, Refused, error_response, json_body, json_response, on_error
from upicker.web.security import ANY_ADDRESS, LOOPBACK, Gate, Guard, new_token, session_of

TOKEN = "a-token-for-tests"
SESSION = session_of(TOKEN)
HOST = "127.0.0.1:8765"
ADDRESS = f"http://{HOST}"
JSON = {"Content-Type": "application/json"}


def app(gate: Gate) -> Guard:
    async def start(request: Request) -> PlainTextResponse:
        return PlainTextResponse("start")

    async def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse("read")

    async def write(request: Request):
        return json_response(await json_body(request))

    routes = [
        Route("/", start),
        Route("/label", read),
        Route("/static/x.js", read),
        Route("/api/x", read),
        Route("/api/write", write, methods=["POST", "PUT", "DELETE"]),
    ]
    return Guard(Starlette(routes=routes, exception_handlers={UPickerError: on_error}), gate)


def visitor(gate: Gate | None = None, address: str = ADDRESS) -> TestClient:
    return TestClient(app(gate or Gate(TOKEN)), base_url=address, follow_redirects=False)


@pytest.fixture
def known() -> TestClient:
    """A browser after its first visit."""
    client = visitor()
    assert client.get("/", params={"token": TOKEN}).status_code == 303
    return client


def test_the_first_visit_gives_a_cookie_and_takes_the_token_out_of_the_address():
    client = visitor()
    found = client.get("/", params={"token": TOKEN})
    assert (found.status_code, found.headers["location"]) == (303, "/")
    words = [word.strip() for word in found.headers["set-cookie"].split(";")]
    assert words[0] == f"upicker-8765={SESSION}"
    assert TOKEN not in str(found.headers)  # browsers keep cookies in files
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {*words}
    assert client.get("/").text == "start"
    assert found.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", ["/", "/label", "/static/x.js", "/api/x", "/nowhere", "/?token=", "/?token=wrong"])
def test_without_the_token_there_is_nothing(path):
    found = visitor().get(path)
    assert found.status_code == 401
    assert "set-cookie" not in found.headers
    assert TOKEN not in found.text


@pytest.mark.parametrize(
    "cookie",
    [
        "upicker-8765=wrong",
        "upicker-8765=",
        "upicker-8765=" + TOKEN,
        "upicker-8765=" + SESSION[:-1],
        "upicker-8765=" + SESSION + "x",
        "upicker=" + SESSION,
        "upicker-8766=" + SESSION,
        "x;=;;\x7f",
        "upicker-8765=\xff\xfe",
    ],
)
def test_a_wrong_cookie_opens_nothing(cookie):
    assert visitor().get("/api/x", headers={"Cookie": cookie.encode("latin-1")}).status_code == 401


def test_cookies_of_others_do_no_harm():
    """Every server on 127.0.0.1 shares them, and some write what is none."""
    cookie = f'a={{"b": "c d"}}; =; x; e[1]="; upicker-8765={SESSION}; z=\xff'.encode("latin-1")
    assert visitor().get("/api/x", headers={"Cookie": cookie}).status_code == 200


def test_a_token_in_other_places_opens_nothing():
    client = visitor()
    assert client.get("/label", params={"token": TOKEN}).status_code == 401
    assert client.get("/api/x", params={"token": TOKEN}).status_code == 401
    assert client.post("/", params={"token": TOKEN}, headers={"Origin": ADDRESS}).status_code == 401


def test_strange_tokens_are_wrong_ones():
    for token in ("%ff%fe", "\U0001f600", "x" * 5000, "a\0b"):
        for name in ("token", "ticket"):
            assert visitor().get("/", params={name: token}).status_code == 401
    assert not Gate(TOKEN).admits("\udcff")
    assert not Gate(TOKEN).redeems("\udcff")


def test_a_ticket_lets_in_once(monkeypatch):
    gate, used = Gate(TOKEN), []
    ticket, late = gate.ticket(lambda: used.append("ticket")), gate.ticket(lambda: used.append("late"))
    assert TOKEN not in ticket
    client = visitor(gate)
    for wrong in ({"token": ticket}, {"ticket": TOKEN}, {"ticket": ""}):
        assert client.get("/", params=wrong).status_code == 401
    # A redirect would lose the cookie, which is SameSite=Strict: the visit comes from a file. A page of ours does not.
    found = client.get("/", params={"ticket": ticket})
    assert (found.status_code, used) == (200, ["ticket"])
    assert '<meta http-equiv=refresh content="0;url=/">' in found.text
    assert client.get("/").text == "start"
    assert visitor(gate).get("/", params={"ticket": ticket}).status_code == 401
    # Going back in the browser's history does not lock anybody out.
    assert client.get("/", params={"ticket": ticket}).status_code == 200
    now = security.time.monotonic()
    monkeypatch.setattr(security.time, "monotonic", lambda: now + 121)
    assert visitor(gate).get("/", params={"ticket": late}).status_code == 401
    assert used == ["ticket"]
    assert visitor(gate).get("/", params={"token": TOKEN}).status_code == 303


@pytest.mark.parametrize(("site", "status"), [("none", 303), ("same-origin", 303), ("cross-site", 200)])
def test_a_link_to_the_address_opens_the_page_from_anywhere(site, status):
    """A browser that follows a link from another site, say in a chat, sends no cookie to where it is redirected."""
    client = visitor()
    assert client.get("/", params={"token": TOKEN}, headers={"Sec-Fetch-Site": site}).status_code == status
    assert client.get("/").text == "start"


def test_servers_on_two_ports_do_not_take_each_others_cookie():
    """Browsers keep cookies by host, not by port."""
    one, other = visitor(Gate("one")), visitor(Gate("other"), "http://127.0.0.1:9000")
    one.get("/", params={"token": "one"})
    other.get("/", params={"token": "other"})
    cookies = "; ".join(f"{name}={value}" for jar in (one, other) for name, value in jar.cookies.items())
    one.cookies.clear()
    other.cookies.clear()
    for client in (one, other):
        assert client.get("/api/x", headers={"Cookie": cookies}).status_code == 200


def test_tokens_cannot_be_guessed():
    assert len({new_token() for _ in range(50)}) == 50
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", new_token())


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8765",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8765",
        "127.0.0.1@evil.example",
        "evil.example/127.0.0.1",
        "127.0.0.1/evil.example",
        "127.0.0.1#/label",
        "127.0.0.1?/label",
        "10.0.0.7:8765",
        "0.0.0.0:8765",
        "[::2]",
        "[",
        "127.0.0.1:port",
        "127.0.0.1:99999",
        "",
    ],
)
def test_other_names_are_refused(known, host):
    """A page of evil.example whose name now points to 127.0.0.1 is of the same origin, for the browser."""
    cookie = f"upicker-8765={SESSION}; upicker-={SESSION}"
    found = known.get("/api/x", headers={"Host": host, "Cookie": cookie})
    assert found.status_code == 403
    assert "set-cookie" not in known.get("/", params={"token": TOKEN}, headers={"Host": host}).headers


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:1", "LOCALHOST", "[::1]:8765", "127.0.0.1"])
def test_all_names_of_this_machine_are_good(host):
    found = visitor().get("/", params={"token": TOKEN}, headers={"Host": host})
    assert found.status_code == 303


def test_a_server_on_the_network_goes_by_its_names_and_addresses():
    gate = Gate(TOKEN, LOOPBACK | {"Node7", ANY_ADDRESS})
    for host in ("node7:80", "10.1.2.3:8765", "[fe80::1]:8765", "localhost"):
        assert gate.is_ours(host), host
    for host in ("evil.example", "node7.evil.example", "*", "*:8765", ""):
        assert not gate.is_ours(host), host


WRITES = [("POST", "/api/write"), ("PUT", "/api/write"), ("DELETE", "/api/write"), ("POST", "/nowhere")]


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1:8765.evil.example"},
        {"Origin": "file://127.0.0.1:8765"},
        {"Origin": "http://localhost:8765"},
        {"Origin": "http://["},
        {"Origin": ADDRESS + "/"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Referer": ADDRESS},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_writes_come_from_the_page_itself(known, method, path, headers):
    found = known.request(method, path, headers={**JSON, **headers}, content="{}")
    assert found.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ADDRESS},
        {"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Origin": f"https://{HOST}"},
    ],
)
def test_writes_of_the_page_pass(known, headers):
    found = known.post("/api/write", headers=headers, json={"a": [1]})
    assert (found.status_code, found.json()) == (200, {"a": [1]})


def test_a_write_without_the_cookie_is_refused():
    assert visitor().post("/api/write", headers={"Origin": ADDRESS}, json={}).status_code == 401


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_other_pages_cannot_ask_the_interface(known, site):
    assert known.get("/api/x", headers={"Sec-Fetch-Site": site}).status_code == 403
    # A link to the page is fine: the browser leaves the cookie away, or it is the user who follows it.
    assert known.get("/label", headers={"Sec-Fetch-Site": site}).status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"]
)
def test_writes_are_json(known, kind):
    headers = {"Origin": ADDRESS, "Content-Type": kind}
    for method in ("POST", "PUT", "DELETE"):
        assert known.request(method, "/api/write", headers=headers, content="{}").status_code == 415
    assert known.post("/api/write", headers={"Origin": ADDRESS}, content="{}").status_code == 415
    assert known.delete("/api/write", headers={"Origin": ADDRESS}).status_code == 200
    assert known.post("/api/write", headers={"Origin": ADDRESS, "Content-Type": "application/json; charset=utf-8"})


@pytest.mark.parametrize("method", ["OPTIONS", "PATCH", "TRACE", "PROPFIND", "CONNECT"])
def test_other_methods_are_refused(known, method):
    headers = {"Origin": ADDRESS, **JSON}
    assert known.request(method, "/api/x", headers=headers).status_code == 405


def test_nothing_allows_other_origins(known):
    found = known.get("/api/x", headers={"Origin": "http://evil.example"})
    assert not [name for name in found.headers if name.startswith("access-control")]


def test_bodies_have_a_limit(known):
    headers = {"Origin": ADDRESS, **JSON}
    room = LARGEST_BODY - len(b'{"a": ""}')
    assert known.post("/api/write", headers=headers, content=b'{"a": "%s"}' % (b"x" * room)).status_code == 200
    found = known.post("/api/write", headers=headers, content=b'{"a": "%s"}' % (b"x" * (room + 1)))
    assert (found.status_code, found.json()["error"]["found"]) == (413, "it is larger than 4 MB")

    def endless():
        for _ in range(6):
            yield b"x" * 1024**2

    # Sent in chunks: no header says how long it is.
    assert known.post("/api/write", headers=headers, content=endless()).status_code == 413


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"1", b'"x"', b"null", b"\xff", b'{"a": NaN}', b'{"a": Infinity}', b"[" * 100_000, b"{} {}"],
)
def test_bodies_are_json_objects(known, content):
    found = known.post("/api/write", headers={"Origin": ADDRESS, **JSON}, content=content)
    assert found.status_code == 400
    assert {*found.json()["error"]} == {"where", "found", "remedy"}


def test_every_answer_carries_the_headers(known):
    answers = [
        known.get("/"),
        known.get("/api/x"),
        known.get("/nowhere"),
        known.post("/api/write"),
        visitor().get("/"),
        visitor().get("/", params={"token": TOKEN}),
        visitor().get("/", headers={"Host": "evil.example"}),
    ]
    for found in answers:
        policy = dict(part.strip().split(" ", 1) for part in found.headers["content-security-policy"].split(";"))
        assert policy["default-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in str(policy)
        assert "http" not in str(policy)
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"
        assert found.headers["cross-origin-resource-policy"] == "same-origin"
        assert found.headers["cache-control"] == "no-store"
    assert known.get("/static/x.js").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError("a", "b", "c"), 400),
        (OutputError("a", "b", "c"), 500),
        (NotFound("a", "b", "c"), 404),
        (Refused(409, "a", "b", "c", {"state": {"epoch": "e"}}), 409),
    ],
)
def test_errors_become_json(error, status):
    found = error_response(error)
    content = json.loads(bytes(found.body))
    assert (found.status_code, content.pop("error")) == (status, {"where": "a", "found": "b", "remedy": "c"})
    assert content == ({"state": {"epoch": "e"}} if status == 409 else {})
    assert str(error) == "a: b. c."
