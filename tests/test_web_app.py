"""The application as a whole: its own routes, and every route against nonsense."""

import re

import pytest
import web_client
from starlette.routing import Route
from waiting import until
from web_client import PIXEL_SIZE_A, TOKEN, client, make_micrographs, make_project

from upicker import __version__
from upicker.io import mrc
from upicker.io.micrographs import Reading
from upicker.units import Length
from upicker.web.app import STATIC, assemble, make_app
from upicker.web.project import labelling
from upicker.web.security import Gate


@pytest.fixture
def visitor(tmp_path):
    """Somebody who labels three micrographs, of which two have labels."""
    with client(make_project(tmp_path)) as found:
        yield found


@pytest.fixture
def inspector(tmp_path):
    """Somebody who inspects the picks of three micrographs, of which two have labels."""
    with client(make_project(tmp_path, picks=True)) as found:
        yield found


# ---- pages and files


def test_the_start_leads_to_the_page_of_the_mode(visitor, inspector):
    assert visitor.get("/").headers["location"] == "/label"
    assert inspector.get("/").headers["location"] == "/inspect"
    for one, page in ((visitor, "/label"), (inspector, "/inspect")):
        found = one.get(page)
        assert found.status_code == 200
        assert found.headers["content-type"].startswith("text/html")
    assert visitor.get("/inspect").status_code == 404
    assert inspector.get("/label").status_code == 404


def test_pages_load_nothing_from_elsewhere(visitor, inspector):
    """What the policy would forbid: other hosts, scripts and styles inside the page."""
    for one, page in ((visitor, "/label"), (inspector, "/inspect")):
        text = one.get(page).text
        for place in re.findall(r"""(?:src|href)\s*=\s*["']?([^"' >]+)""", text):
            assert place.startswith(("/", "#", "data:")), place
            if place.startswith("/static/"):
                assert one.get(place).status_code == 200, place
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle\s*=|\son[a-z]+\s*=", text)


def test_own_files_are_served_and_no_others(visitor):
    for path in sorted(path for path in STATIC.rglob("*") if path.is_file()):
        found = visitor.get(f"/static/{path.relative_to(STATIC).as_posix()}")
        assert (found.status_code, found.headers["cache-control"]) == (200, "no-cache")
    for path in (
        "/static/",
        "/static/nothing.js",
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/js/../../app.py",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/%00",
        "/static/..%5capp.py",
        "/static/" + "x" * 3000,
    ):
        found = visitor.get(path)
        assert found.status_code in (404, 405), path
        assert "import" not in found.text
        assert "root:" not in found.text
    assert visitor.post("/static/js/api.js", json={}).status_code == 405


# ---- the session, and the list


def test_the_session_says_what_is_shown(tmp_path, visitor):
    assert visitor.get("/api/session").json() == {
        "mode": "label",
        "version": __version__,
        "diameter": "28px",
        "micrographs": 3,
        "labels": str(tmp_path / "labels"),
        "picks": None,
        "model": None,
        "pixel_size_A": PIXEL_SIZE_A,
    }


def test_the_diameter_is_set_from_the_page_and_remembered(tmp_path, visitor):
    found = visitor.put("/api/session/diameter", json={"diameter": "19 nm"})
    assert (found.status_code, found.json()["diameter"]) == (200, "190A")
    assert visitor.get("/api/session").json()["diameter"] == "190A"
    again = labelling(make_micrographs(tmp_path / "micrographs"), Reading(), tmp_path / "labels")
    assert again.diameter == Length(190.0, "A")
    assert again.diameter_px(0) == 95.0
    # The command line takes precedence.
    given = labelling(again.micrographs, Reading(), tmp_path / "labels", Length(50, "px"))
    assert given.diameter == Length(50, "px")


@pytest.mark.parametrize("value", ["", "x", "-3A", "0px", "190", None, [], {}, "1e999A", "nan", "9" * 5000])
def test_a_diameter_is_a_length(visitor, value):
    found = visitor.put("/api/session/diameter", json={"diameter": value})
    if value == "190":
        assert found.json()["diameter"] == "190A"
        return
    assert found.status_code == 400
    assert {*found.json()["error"]} == {"where", "found", "remedy"}
    assert visitor.get("/api/session").json()["diameter"] == "28px"
    assert visitor.put("/api/session/diameter", json={}).status_code == 400


def test_a_diameter_that_cannot_be_kept_is_not_taken(tmp_path, visitor):
    state = tmp_path / "labels" / ".upicker"
    for path in state.iterdir():
        path.unlink()
    state.rmdir()
    state.write_text("in the way")
    found = visitor.put("/api/session/diameter", json={"diameter": "77px"})
    assert found.status_code == 500
    assert visitor.get("/api/session").json()["diameter"] == "28px"


def test_the_list_counts_labels_and_picks(tmp_path):
    with client(make_project(tmp_path)) as visitor:
        found = visitor.get("/api/micrographs").json()
        assert [one["id"] for one in found] == [0, 1, 2]
        assert [one["name"] for one in found] == ["mic0", "mic1", "mic2"]
        assert [one["labels"] for one in found] == [len(web_client.centres(0)), len(web_client.centres(1)), 0]
        assert [one["picks"] for one in found] == [None, None, None]
        assert [one["opened"] for one in found] == [False, False, False]
        assert {one["coverage"] for one in found} <= {"complete", "partial", "regions", "unset"}
        assert not any(one["bad"] for one in found)


def test_the_list_of_inspecting_counts_picks_without_labels(tmp_path):
    with client(make_project(tmp_path, picks=True, labels=False)) as inspector:

        def counts() -> list[int | None]:
            return [one["picks"] for one in inspector.get("/api/micrographs").json()]

        until(lambda: None not in counts(), "counts of all micrographs")
        assert counts() == [len(web_client.centres(number)) + 3 for number in range(3)]
        found = inspector.get("/api/micrographs").json()
        assert [(one["labels"], one["coverage"], one["bad"]) for one in found] == [(0, "unset", False)] * 3


def test_what_was_looked_at_is_remembered(tmp_path):
    project = make_project(tmp_path)
    with client(project) as visitor:
        visitor.get("/api/micrographs/1/labels")
        visitor.get("/api/micrographs/7/labels")
        assert [one["opened"] for one in visitor.get("/api/micrographs").json()] == [False, True, False]
    again = labelling(project.micrographs, Reading(), tmp_path / "labels")
    assert [again.opened(number) for number in range(3)] == [False, True, False]


def test_hostile_names_are_data(tmp_path):
    names = [
        "<img src=x onerror=alert(1)>",
        '"; DROP TABLE',
        "back\\slash",
        "größe 5µm",
        "x" * 200,
        "${7*7}{{7*7}}",
        "caf\udce9",
    ]
    for number, name in enumerate(names):
        mrc.write(tmp_path / f"{name}.mrc", web_client.draw(number, (71, 93)), 2.0)
    paths = [tmp_path / f"{name}.mrc" for name in names]
    with client(labelling(paths, Reading(), tmp_path / "labels", Length(10, "px"))) as visitor:
        found = visitor.get("/api/micrographs")
        assert found.headers["content-type"] == "application/json"
        assert found.headers["x-content-type-options"] == "nosniff"
        assert [one["name"] for one in found.json()] == names
        for address in ("/nowhere/<script>alert(1)</script>", "/?<script>alert(1)</script>"):
            assert "<script>" not in visitor.get(address, follow_redirects=True).text


# ---- every route against nonsense


def _addresses(app) -> list[tuple[str, str]]:
    """Return method and address of all routes, with nonsense in place of what is variable."""
    found = []
    for route in app.app.app.routes:
        if isinstance(route, Route):
            for number in ("0", "3", "99999999999999999999"):
                address = re.sub(r"{\w+:int}", number, route.path)
                address = re.sub(r"{\w+(:path)?}", "..%2f..%2fetc", address)
                found += [(method, address) for method in route.methods or () if method != "HEAD"]
    return sorted({*found})


@pytest.mark.parametrize("picks", [False, True], ids=["label", "inspect"])
def test_no_route_opens_without_the_cookie_or_writes_for_others(tmp_path, picks):
    app = make_app(make_project(tmp_path, picks=picks), TOKEN)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with client(make_project(tmp_path / "other", picks=picks)) as known, web_client.stranger_of(app) as stranger:
        for method, address in _addresses(app):
            headers = {"Origin": web_client.ADDRESS, "Content-Type": "application/json"}
            assert stranger.request(method, address, headers=headers).status_code == 401, address
            if method != "GET":
                headers["Origin"] = "http://evil.example"
                assert known.request(method, address, headers=headers).status_code == 403, address
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if "other" not in path.parts}


@pytest.mark.parametrize("picks", [False, True], ids=["label", "inspect"])
def test_no_route_breaks_on_nonsense(tmp_path, picks):
    """Whatever is sent, the answer is an answer: none is a mistake of ours (which the client would raise)."""
    project = make_project(tmp_path, n=2, picks=picks)
    app = make_app(project, TOKEN)
    junk = [{}, {"changes": 7, "epoch": [], "revision": "x"}, {"kind": {}, "steps": -1, "folder": 3, "indices": "all"}]
    query = "?view=%00..%2f&threshold=nan&count=-5&x=inf&y=&kind=%3Cb%3E&source=x&cells=a,b&size=1e9"
    with client(project) as visitor:
        for method, address in _addresses(app):
            if method == "GET":
                found = [visitor.get(address), visitor.get(address + query)]
            else:
                found = [visitor.request(method, address, json=content) for content in junk]
            for one in found:
                assert one.status_code < 500 or one.status_code == 503, (method, address, one.text[:300])
                if one.status_code >= 400 and address.startswith("/api/"):
                    assert {*one.json()["error"]} == {"where", "found", "remedy"}, address


def test_mistakes_of_ours_are_answered_too(tmp_path, monkeypatch):
    project = make_project(tmp_path)
    with client(project) as visitor:
        visitor._transport.raise_server_exceptions = False
        monkeypatch.setattr(type(project), "opened", lambda self, number: 1 / 0)
        found = visitor.get("/api/micrographs")
    assert found.status_code == 500
    assert "ZeroDivisionError" in found.json()["error"]["found"]
    assert "content-security-policy" in found.headers


def test_unknown_addresses(visitor):
    found = visitor.get("/api/nothing")
    assert (found.status_code, {*found.json()}) == (404, {"error"})
    assert visitor.post("/api/session", json={}).status_code == 405
    assert visitor.get("/nothing").headers["content-type"].startswith("text/html")


def test_what_a_part_keeps_open_is_closed(tmp_path):
    app = assemble(make_project(tmp_path, picks=True), Gate(TOKEN))
    with web_client.stranger_of(app):
        pass
    # Closing twice, as a second Ctrl-C may, does no harm.
    with web_client.stranger_of(app):
        pass
