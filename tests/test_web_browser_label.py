"""The page for labelling, used with mouse and keyboard in a real browser on a real server."""

import contextlib
import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import pytest
from waiting import until

from upicker.io.micrographs import Reading
from upicker.pick.picker import Picker
from upicker.run.size import find

pytestmark = pytest.mark.slow
SHAPE = (371, 533)
DIAMETER_PX = 20.0
AWAY = "() => document.querySelector('#save').dataset.state === 'away'"


@pytest.fixture(scope="module")
def micrographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return browser.make_micrographs(tmp_path_factory.mktemp("micrographs"), 3, SHAPE)


@pytest.fixture(scope="module")
def server(micrographs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Server]:
    folder = tmp_path_factory.mktemp("labels") / "labels"
    with browser.Server("label", *micrographs, "--labels", folder, "--diameter", "80A") as running:
        yield running


@pytest.fixture
def page(chromium: Any, server: browser.Server) -> Iterator[Any]:
    """The page at its first micrograph, without labels on any."""
    with browser.visit(chromium, f"{server.url}#0", before=clear) as opened:
        ready(opened, "mic00")
        assert not [*server.labels.glob("mic*.csv")]
        yield opened
        assert opened.mistakes == []


def clear(api: browser.Api) -> None:
    """Take back whatever was done to the three micrographs."""
    for number in range(3):
        state = api.get(f"/api/micrographs/{number}/labels")
        reset = [{"op": op, "value": value} for op, value in (("coverage", "unset"), ("regions", []), ("bad", False))]
        changes = [{"op": "remove", "key": key} for key, *_ in state["particles"]] + reset
        body = {"epoch": state["epoch"], "revision": state["revision"], "changes": changes}
        api.post(f"/api/micrographs/{number}/labels", body)


def ready(page: Any, name: str) -> None:
    """Wait until a micrograph is on the screen, fitted and sharp."""
    browser.until_page(
        page,
        "name => document.querySelector('#name')?.textContent === name && !document.querySelector('.viewer.dim')"
        " && document.querySelector('.scalebar')?.hidden === false",
        name,
    )


def place(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return where a raw position is on the screen while all of the micrograph is in view."""
    box = page.locator("#viewer").bounding_box()
    zoom = min((box["width"] - 16) / SHAPE[1], (box["height"] - 16) / SHAPE[0])
    left = box["x"] + box["width"] / 2 + (x - (SHAPE[1] - 1) / 2) * zoom
    return left, box["y"] + box["height"] / 2 + (y - (SHAPE[0] - 1) / 2) * zoom


def click(page: Any, x: float, y: float) -> None:
    page.mouse.click(*place(page, x, y))


def drag(page: Any, start: tuple[float, float], end: tuple[float, float], button: str = "left") -> None:
    page.mouse.move(*place(page, *start))
    page.mouse.down(button=button)
    page.mouse.move(*place(page, *[(a + b) / 2 for a, b in zip(start, end)]))
    page.mouse.move(*place(page, *end))
    page.mouse.up(button=button)


def saved(page: Any, count: int) -> None:
    """Wait until so many labels are shown, and the server has them."""
    browser.until_page(
        page,
        "count => document.querySelector('#count').textContent === String(count)"
        " && document.querySelector('#save').dataset.state === 'saved'",
        count,
    )


def on_disk(server: browser.Server, name: str = "mic00") -> list[tuple[float, float]]:
    """Return the places in a label file, in its order."""
    with (server.labels / f"{name}.csv").open() as file:
        return [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]


def coverage(server: browser.Server) -> dict[str, dict[str, str]]:
    with (server.labels / "coverage.csv").open() as file:
        return {row["name"]: row for row in csv.DictReader(file)}


def grid(count: int) -> list[tuple[float, float]]:
    """Return places further apart than a diameter, none of them symmetric to another."""
    return [(60 + 37 * (i % 7) + 3 * i, 50 + 80 * (i // 7) + 2 * (i % 7)) for i in range(count)]


def close(found: list[tuple[float, float]], wanted: list[tuple[float, float]], pixels: float = 0.7) -> bool:
    """Whether two lists hold the same places; the screen's pixels are a little smaller than the micrograph's."""
    return len(found) == len(wanted) and all(math.dist(a, b) < pixels for a, b in zip(found, wanted))


def written(server: browser.Server, wanted: list[tuple[float, float]], pixels: float = 0.7) -> None:
    """Wait until a label file holds these places."""
    until(lambda: close(on_disk(server), wanted, pixels), f"labels at {wanted}")


def test_twenty_particles_by_mouse_undo_and_reload(page: Any, server: browser.Server) -> None:
    places = grid(20)
    for x, y in places:
        click(page, x, y)
    saved(page, 20)
    assert close(on_disk(server), places)
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    saved(page, 18)
    assert close(on_disk(server), places[:18])
    page.keyboard.press("Control+Shift+z")
    saved(page, 19)
    before = (server.labels / "mic00.csv").read_bytes()
    assert close(on_disk(server), places[:19])
    page.reload()
    ready(page, "mic00")
    saved(page, 19)
    assert (server.labels / "mic00.csv").read_bytes() == before
    assert coverage(server)["mic00"]["coverage"] == "partial"
    # Undo has no end, but it ends where this page began.
    assert page.locator("#undo").is_disabled()


def test_a_click_removes_and_a_drag_moves(page: Any, server: browser.Server) -> None:
    for x, y in grid(3):
        click(page, x, y)
    click(page, grid(3)[1][0] + 4, grid(3)[1][1] - 3)
    saved(page, 2)
    drag(page, grid(3)[0], (200, 300))
    written(server, [(200, 300), grid(3)[2]])
    drag(page, (400, 200), (300, 150))  # beside particles the view moves; nothing is added
    drag(page, (300, 150), (400, 200))
    saved(page, 2)
    # A particle that is dragged with the right button stays: the view moves.
    drag(page, (200, 300), (230, 310), button="right")
    drag(page, (230, 310), (200, 300), button="right")
    assert close(on_disk(server), [(200, 300), grid(3)[2]])
    for _ in range(5):
        page.keyboard.press("Control+z")
    saved(page, 0)
    for _ in range(5):
        page.keyboard.press("Control+Shift+z")
    saved(page, 2)
    assert close(sorted(on_disk(server)), sorted([(200, 300), grid(3)[2]]))


def test_brush_and_box(page: Any, server: browser.Server) -> None:
    places = grid(14)
    for x, y in places:
        click(page, x, y)
    saved(page, 14)
    page.keyboard.press("e")
    drag(page, (places[0][0] - 30, places[0][1]), (places[2][0], places[2][1]))
    saved(page, 11)
    page.keyboard.press("s")
    drag(page, (0, places[7][1] - 15), (500, places[13][1] + 15))
    assert page.locator(".panel", has_text="7 selected").count() == 1
    page.keyboard.press("Delete")
    saved(page, 4)
    assert close(on_disk(server), places[3:7])
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    saved(page, 14)
    assert close(sorted(on_disk(server)), sorted(places))


def test_keyboard_alone(page: Any, server: browser.Server) -> None:
    page.locator("#viewer").focus()
    page.keyboard.press("c")
    for key in ["Enter", *["ArrowRight"] * 8, "Enter", *["ArrowDown"] * 6, "Enter"]:
        page.keyboard.press(key)
    saved(page, 3)
    middle = (SHAPE[1] - 1) / 2, (SHAPE[0] - 1) / 2
    step = DIAMETER_PX / 4
    right = middle[0] + 8 * step
    wanted = [middle, (right, middle[1]), (right, middle[1] + 6 * step)]
    assert close(on_disk(server), wanted, 0.02)
    for key in ["Space", *["ArrowLeft"] * 4, "Space"]:
        page.keyboard.press(key)
    written(server, [*wanted[:2], (right - 4 * step, middle[1] + 6 * step)], 0.02)
    for key in ["Escape", "1", "b", "n"]:
        page.keyboard.press(key)
    ready(page, "mic01")
    saved(page, 0)
    assert coverage(server)["mic00"]["coverage"] == "complete"
    assert (server.labels / ".upicker" / "bad.txt").read_text() == "mic00\n"
    page.keyboard.press("ArrowLeft")
    ready(page, "mic00")
    page.keyboard.press("u")
    ready(page, "mic01")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").count() == 1
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_value_under_the_pointer_is_of_the_micrograph_on_the_screen(page: Any) -> None:
    values, images = [], []
    page.route("**/value?*", lambda route: values.append(route))
    page.mouse.move(*place(page, 150, 100))
    until(lambda: values, "a value is asked for", lambda: page.wait_for_timeout(20))
    page.route("**/picture*", lambda route: images.append(route))
    page.keyboard.press("n")
    with contextlib.suppress(Exception):  # the page may have taken its request back
        values[0].fulfill(json={"value": 1234})
    until(lambda: images, "the next micrograph is asked for", lambda: page.wait_for_timeout(20))
    assert page.locator("#foot .value").text_content() == ""
    for route in images:
        route.continue_()
    page.unroute("**/picture*")
    ready(page, "mic01")


def test_value_is_not_asked_for_while_the_next_micrograph_is_fetched(page: Any) -> None:
    asked, images = [], []
    page.on("request", lambda request: "/value?" in request.url and asked.append(request.url))
    page.route("**/picture*", lambda route: images.append(route))
    page.mouse.move(*place(page, 150, 100))
    page.keyboard.press("n")
    page.wait_for_timeout(200)
    assert not [url for url in asked if "/micrographs/0/" not in url]
    for route in images:
        route.continue_()
    page.unroute("**/picture*")
    ready(page, "mic01")


def test_regions(page: Any, server: browser.Server) -> None:
    page.keyboard.press("r")
    drag(page, (60.3, 80.2), (300, 250))
    click(page, 450, 20)
    page.keyboard.press("a")
    click(page, 100, 100)
    saved(page, 1)
    row = coverage(server)["mic00"]
    assert row["coverage"] == "complete"
    corners = [float(row[name]) for name in ("x0", "y0", "x1", "y1")]
    assert all(abs(a - b) < 0.7 for a, b in zip(corners, (60.3, 80.2, 300, 250)))
    page.keyboard.press("r")
    drag(page, (300, 160), (350, 170))  # its right edge
    until(lambda: abs(float(coverage(server)["mic00"]["x1"]) - 350) < 0.7, "the edge is at 350")
    saved(page, 1)
    assert float(coverage(server)["mic00"]["y1"]) == corners[3]


def test_two_tabs_see_each_other(page: Any, server: browser.Server) -> None:
    other = page.context.new_page()
    browser.watched(other, f"{server.url.split('?')[0]}label#0")
    ready(other, "mic00")
    click(page, 100, 100)
    saved(page, 1)
    saved(other, 1)
    click(other, 200, 150)
    click(other, 100, 100)  # removes the first tab's
    saved(other, 1)
    saved(page, 1)
    # Both at once, neither knowing of the other's.
    click(page, 300, 100)
    click(other, 300, 200)
    saved(page, 3)
    saved(other, 3)
    assert close(sorted(on_disk(server)), [(200, 150), (300, 100), (300, 200)])
    page.keyboard.press("Control+z")
    saved(page, 2)
    saved(other, 2)
    assert close(on_disk(server), [(200, 150), (300, 200)])
    assert other.mistakes == []


def test_list_counts_and_filter(page: Any, server: browser.Server) -> None:
    click(page, 100, 100)
    saved(page, 1)
    assert page.locator(".item").first.inner_text().split() == ["mic00", "1"]
    page.get_by_label("Which micrographs").select_option("todo")
    page.get_by_label("Search micrographs").fill("02")
    page.locator(".item:visible", has_text="mic02").click()
    ready(page, "mic02")
    assert page.locator(".mark.partial").count() == 1


def test_proposals_are_accepted_and_rejected(page: Any, server: browser.Server) -> None:
    page.keyboard.press("g")
    accept = page.get_by_role("button", name="Accept")
    accept.wait_for()
    count = int(accept.inner_text().split()[1])
    assert count > 3
    page.keyboard.press(",")
    fewer = int(accept.inner_text().split()[1])
    assert 0 < fewer < count
    page.keyboard.press("s")
    drag(page, (0, 0), (SHAPE[1] / 2, SHAPE[0]))
    chosen = int(accept.inner_text().split()[1])
    assert 0 < chosen < fewer
    page.keyboard.press("x")
    page.get_by_role("button", name=f"Accept {fewer - chosen}", exact=True).wait_for()
    page.keyboard.press("Enter")
    saved(page, fewer - chosen)
    assert len(on_disk(server)) == fewer - chosen
    assert all(x > SHAPE[1] / 2 for x, y in on_disk(server))
    page.keyboard.press("Control+z")
    saved(page, 0)
    assert int(accept.inner_text().split()[1]) == fewer - chosen


def test_killed_server_loses_nothing(chromium: Any, micrographs: list[Path], tmp_path: Path) -> None:
    server = browser.Server("label", *micrographs, "--labels", tmp_path / "labels", "--diameter", "80A")
    places = grid(9)
    with server, browser.visit(chromium, f"{server.url}#0") as page:
        ready(page, "mic00")
        for x, y in places[:3]:
            click(page, x, y)
        server.kill()
        for x, y in places[3:6]:
            click(page, x, y)
        browser.until_page(page, AWAY)
        assert page.locator("#count").inner_text() == "6"
        server.start()
        again = page.context.new_page()
        browser.watched(again, f"{server.url}#1")  # the new server's address lets this browser in
        ready(again, "mic01")
        saved(page, 6)
        assert close(on_disk(server), places[:6])
        click(page, *places[6])
        saved(page, 7)
        # Once more; now the tab is closed before the server is back.
        server.kill()
        for x, y in places[7:]:
            click(page, x, y)
        browser.until_page(page, AWAY)
        again.close()
        page.close()
        server.start()
        fresh = browser.watched(page.context.new_page(), f"{server.url}#2")
        ready(fresh, "mic02")
        fresh.keyboard.press("p")
        ready(fresh, "mic01")
        fresh.keyboard.press("p")
        ready(fresh, "mic00")
        saved(fresh, 9)
        assert close(on_disk(server), places)
        assert fresh.mistakes == []


def test_diameter_is_asked_for_and_measured(chromium: Any, micrographs: list[Path], tmp_path: Path) -> None:
    server = browser.Server("label", *micrographs, "--labels", tmp_path / "labels")
    with server, browser.visit(chromium, f"{server.url}#0") as page:
        ready(page, "mic00")
        page.locator("#ask").wait_for()
        drag(page, (200, 100), (215, 100))  # from a particle's centre to its edge: 30 px across, 120 A
        browser.until_page(page, "() => Math.abs(document.querySelector('#diameter').value - 120) < 6")
        page.locator("#diameter-done").click()
        page.locator("#ask").wait_for(state="hidden")
        click(page, 250, 200)
        saved(page, 1)
        with (server.labels / "mic00.csv").open() as file:
            assert float(next(csv.DictReader(file))["diameter"]) == pytest.approx(30, abs=1.5)
        page.keyboard.press("n")
        ready(page, "mic01")
        assert float(page.locator("#diameter").input_value()) == pytest.approx(120, abs=6)
        page.locator("#diameter").fill("160")
        with page.expect_response(lambda answer: answer.url.endswith("/api/session/diameter")):
            page.keyboard.press("Enter")
        page.reload()
        ready(page, "mic01")
        assert page.locator("#diameter").input_value() == "160"


def test_proposals_estimate_a_diameter_that_nobody_has_told(
    chromium: Any, micrographs: list[Path], tmp_path: Path
) -> None:
    server = browser.Server("label", *micrographs, "--labels", tmp_path / "labels")
    with server, browser.visit(chromium, f"{server.url}#0") as page:
        ready(page, "mic00")
        page.locator("#ask").wait_for()
        page.keyboard.press("g")
        page.get_by_role("button", name="Accept").wait_for(timeout=60_000)
        page.locator("#ask").wait_for(state="hidden")
        diameter = float(page.locator("#diameter").input_value())
        # It is shown for a while only.
        page.get_by_text(f"diameter: {diameter / 4:.0f} px (").wait_for()
        said = find(Picker(None, {"pick.views": 1}), micrographs, Reading()).diameter  # as upicker size does
        assert (said.unit, diameter) == ("A", pytest.approx(said.value, rel=0.02))
        page.reload()
        ready(page, "mic00")
        assert float(page.locator("#diameter").input_value()) == diameter


def test_unreadable_micrograph_says_so(chromium: Any, micrographs: list[Path], tmp_path: Path) -> None:
    hostile = tmp_path / "<img src=x onerror=alert(1)>.mrc"
    hostile.write_bytes(b"not a micrograph")
    server = browser.Server("label", micrographs[0], hostile, "--labels", tmp_path / "labels", "--diameter", "80A")
    with server, browser.visit(chromium, f"{server.url}#0") as page:
        ready(page, "mic00")
        page.locator(".item").last.click()
        page.get_by_role("alert").wait_for()
        assert page.locator("#name").inner_text() == hostile.stem
        assert page.locator("img").count() == 0
        page.get_by_role("button", name="Previous micrograph").click()
        ready(page, "mic00")
