"""The page for inspecting, used with mouse and keyboard in a real browser on a real server."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from waiting import until
from web_client import SHAPE, make_labels, make_micrographs, make_picks

from upicker import scoring
from upicker.io import coordinates
from upicker.particles import Particles

pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=alert(1)>"
N = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four micrographs with picks, the first two with labels; the fourth has a name that means harm."""
    folder = tmp_path_factory.mktemp("inspect")
    files = make_micrographs(folder / "micrographs", N)
    make_labels(folder / "labels", 2)
    make_picks(folder / "picks", N)
    files[3].rename(files[3].with_name(f"{HOSTILE}.mrc"))
    (folder / "picks/mic3.csv").rename(folder / f"picks/{HOSTILE}.csv")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[browser.Server]:
    micrographs = sorted((folder / "micrographs").iterdir())
    arguments = ["inspect", folder / "picks", "--labels", folder / "labels", "--micrographs", *micrographs]
    with browser.Server(*arguments) as running:
        yield running


@pytest.fixture
def page(chromium: Any, server: browser.Server, folder: Path) -> Iterator[Any]:
    """The page at mic1, nothing rejected."""
    everything = {"changes": [{"micrograph": i, "indices": None} for i in range(N)], "rejected": False}

    def accept(api: browser.Api) -> None:
        until(lambda: "loading" not in api.get("/api/picks/summary"), "picks are read")
        api.post("/api/picks/reject", everything)

    with browser.visit(chromium, f"{server.url}#m={names(folder).index('mic1')}", before=accept) as opened:
        ready(opened)
        yield opened
        assert opened.mistakes == []


def ready(page: Any) -> None:
    """Wait until picks are counted and the micrograph is on the screen."""
    page.wait_for_function(
        "() => document.body.dataset.ready === 'true' && document.querySelector('#kept').textContent"
        " && document.querySelector('.figures').textContent && !document.querySelector('.viewer.dim')"
        " && document.querySelector('.scalebar')?.hidden === false"
    )


def names(folder: Path) -> list[str]:
    return sorted(file.stem for file in (folder / "picks").glob("*.csv"))


def picks_of(folder: Path, name: str) -> Particles:
    return coordinates.read(folder / f"picks/{name}.csv")


def above(folder: Path, threshold: float) -> int:
    return sum(len(picks_of(folder, name).above(threshold)) for name in names(folder))


def shows(page: Any, count: int) -> None:
    """Wait until the page says that so many picks are kept."""
    page.wait_for_function("count => document.querySelector('#kept b')?.textContent === count", arg=str(count))


def table(page: Any) -> dict[str, list[str]]:
    """Return what the list says: full name -> picks, mean score, F1; in its order."""
    rows = page.eval_on_selector_all(
        ".picked .line",
        "lines => lines.map(line => [parseFloat(line.style.top), line.querySelector('.named').title,"
        " ...[...line.querySelectorAll('.number')].map(cell => cell.textContent)])",
    )
    return {name: values for _, name, *values in sorted(rows)}


def place(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return where a raw position is on the screen while all of the micrograph is in view."""
    box = page.locator("#viewer").bounding_box()
    zoom = min((box["width"] - 16) / SHAPE[1], (box["height"] - 16) / SHAPE[0])
    left = box["x"] + box["width"] / 2 + (x - (SHAPE[1] - 1) / 2) * zoom
    return left, box["y"] + box["height"] / 2 + (y - (SHAPE[0] - 1) / 2) * zoom


def test_counts_and_figures_follow_the_threshold(page, folder):
    both = [(picks_of(folder, name), coordinates.read(folder / f"labels/{name}.csv")) for name in ("mic0", "mic1")]

    def agree(threshold: float) -> None:
        shows(page, above(folder, threshold))
        expected = scoring.score(both, threshold=threshold)
        page.wait_for_function(
            "f1 => document.querySelector('.figures').lastChild.textContent === f1", arg=f"{expected.f1:.3f}"
        )
        figures = page.locator(".figures").inner_text().split("\n")
        assert f"{expected.precision:.3f}" in figures
        assert f"{expected.recall:.3f}" in figures
        mine = scoring.score([both[1]], threshold=threshold)
        assert {f"{mine.precision:.3f}", f"{mine.recall:.3f}", f"{mine.f1:.3f}"} <= set(figures)
        listed = table(page)
        for name in names(folder):
            assert listed[name][0] == str(len(picks_of(folder, name).above(threshold))), name

    agree(-np.inf)
    page.fill("#threshold", "0.62")
    page.keyboard.press("Enter")
    agree(0.62)
    page.keyboard.press("]")
    agree(0.622)
    box = page.locator(".graph").bounding_box()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 80)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 90, steps=5)
    page.mouse.up()
    dragged = float(page.input_value("#threshold"))
    assert 0.7 < dragged < 0.9
    agree(dragged)
    page.wait_for_function("text => location.hash.includes(text)", arg=f"t={dragged}")
    page.fill("#threshold", "high")
    page.keyboard.press("Enter")
    assert page.get_attribute("#threshold", "aria-invalid") == "true"
    shows(page, above(folder, dragged))


def test_rejected_in_the_gallery_is_left_out_of_the_export(page, folder):
    page.fill("#threshold", "0.5")
    page.keyboard.press("Enter")
    page.keyboard.press("g")
    page.check("input[name=gallery-kind][value=lowest]", force=True)
    everything = [(name, i, score) for name in names(folder) for i, score in enumerate(picks_of(folder, name).score)]
    lowest = sorted((one for one in everything if one[2] >= 0.5), key=lambda one: one[2])
    page.wait_for_function("count => document.querySelectorAll('.cell').length === count", arg=len(lowest))
    page.wait_for_function("() => document.querySelector('.cell').style.backgroundImage.startsWith('url')")
    cell = page.locator(".cell")
    cell.nth(0).click()
    cell.nth(2).click()
    cell.nth(6).click(modifiers=["Shift"])
    cell.nth(9).click()
    shows(page, len(lowest) - 7)
    page.keyboard.press("Control+z")
    shows(page, len(lowest) - 6)
    page.reload()
    ready(page)
    shows(page, len(lowest) - 6)
    assert page.locator(".cell.rejected").count() == 6

    target = folder / "picks_selected"
    shutil.rmtree(target, ignore_errors=True)
    page.keyboard.press("e")
    page.locator("input[name=format][value=star]").check()
    assert page.input_value("#export-folder") == str(target)
    page.click("#export-write")
    page.wait_for_selector(".toast")
    gone = {lowest[i][:2] for i in (0, 2, 3, 4, 5, 6)}
    for name in names(folder):
        picks = picks_of(folder, name)
        kept = [i for i in range(len(picks)) if picks.score[i] >= 0.5 and (name, i) not in gone]
        written = coordinates.read(target / f"{name}_autopick.star")
        np.testing.assert_allclose(written.xy, picks.xy[kept], atol=1e-3)
        np.testing.assert_allclose(written.score, picks.score[kept], atol=1e-6)

    page.keyboard.press("e")
    page.fill("#export-folder", str(target))
    page.click("#export-write")
    page.wait_for_selector("#export-replace")
    assert "contains files already" in page.locator(".export .warn").inner_text()
    page.check("#export-replace")
    page.click("#export-write")
    page.wait_for_function("() => !document.querySelector('dialog[open]')")
    page.mistakes.clear()  # the browser reports the refusal, which was asked for


def test_a_click_on_a_pick_rejects_it(page, folder):
    picks = picks_of(folder, "mic1")
    all_ = above(folder, 0)
    target = place(page, *picks.xy[0])
    page.mouse.click(*target)
    shows(page, all_ - 1)
    page.mouse.click(*target)
    shows(page, all_)
    page.mouse.click(*place(page, 1.0, SHAPE[0] / 2))
    page.mouse.click(*target)
    shows(page, all_ - 1)
    page.click("#undo")
    shows(page, all_)


def test_the_list_is_sorted_and_searched(page, folder):
    page.fill("#threshold", "0.7")
    page.keyboard.press("Enter")
    counts = {name: len(picks_of(folder, name).above(0.7)) for name in names(folder)}
    shows(page, sum(counts.values()))
    page.click(".picked .head button >> text=Picks")
    assert [int(row[0]) for row in table(page).values()] == sorted(counts.values(), reverse=True)
    page.click(".picked .head button >> text=F1")
    f1s = [row[2] for row in table(page).values()]
    assert f1s[:2] == sorted(f1s[:2])
    assert f1s[2:] == ["", ""]
    page.fill(".picked input[type=search]", "MIC0")
    assert list(table(page)) == ["mic0"]
    page.click(".picked .line")
    page.wait_for_function("() => document.querySelector('#name').textContent === 'mic0'")
    page.fill(".picked input[type=search]", "")
    page.focus(".picked .rows")
    page.keyboard.press("End")
    page.wait_for_function("() => document.querySelector('#name').textContent !== 'mic0'")


def test_hostile_names_are_shown_as_text(page, folder):
    assert HOSTILE in table(page)
    assert page.locator("img[src=x]").count() == 0


def test_a_narrow_window_has_all_of_it(chromium, server):
    with browser.visit(chromium, server.url, width=480, height=800) as page:
        ready(page)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 480
        assert not page.locator(".picked").is_visible()
        page.click("[data-fold=left]")
        assert page.locator(".picked").is_visible()
        page.click("[data-fold=right]")
        assert page.locator(".figures").is_visible()
        assert page.locator("#export").is_visible()
        assert page.mistakes == []


def test_without_labels_there_are_no_verdicts(chromium, folder, tmp_path):
    shutil.copytree(folder / "picks", tmp_path / "picks")
    (tmp_path / "picks/run.toml").write_text('[run]\ncommand = "pick"\nthreshold = 0.31\n')
    with (
        browser.Server("inspect", tmp_path / "picks", "--micrographs", folder / "micrographs/mic0.mrc") as server,
        browser.visit(chromium, server.url) as page,
    ):
        ready(page)
        assert page.input_value("#threshold") == "0.31"
        assert "pick again with --threshold 0.05" in page.locator(".remark").inner_text()
        assert "precision" not in page.locator(".figures").inner_text()
        assert not page.locator(".of-right").is_visible()
        shows(page, len(picks_of(folder, "mic0").above(0.31)))
        page.keyboard.press("g")
        page.wait_for_selector(".cell")
        assert page.locator("input[name=gallery-kind][value=false]").count() == 0
        assert page.mistakes == []


def test_micrographs_are_filtered_and_sorted_by_what_triage_says(chromium, tmp_path):
    """A micrograph that is not in the table has no class, and comes last."""
    make_micrographs(tmp_path / "micrographs", N)
    make_picks(tmp_path / "picks", N)
    rows = ("mic0.mrc,usable,0.97,particles", f"mic1.mrc,no ice,0.01,{HOSTILE}", "mic2.mrc,no ice,0.3,no Thon rings")
    (tmp_path / "good_triage.csv").write_text("\n".join(["micrograph,class,score,reason", *rows, ""]))
    arguments = ["inspect", tmp_path / "picks", "--micrographs", *sorted((tmp_path / "micrographs").iterdir())]
    with browser.Server(*arguments) as server, browser.visit(chromium, server.url) as page:
        ready(page)
        assert {name: values[-1] for name, values in table(page).items()} == {
            "mic0": "0.97", "mic1": "0.01", "mic2": "0.30", "mic3": "",
        }  # fmt: skip
        said = page.eval_on_selector_all(".picked .why", "all => all.map(one => [one.textContent, one.title])")
        assert ["no ice", HOSTILE] in [[text.split(" · ")[-1], title] for text, title in said]
        page.click(".picked .head button:text('Usable')")
        assert list(table(page)) == ["mic1", "mic2", "mic0", "mic3"]
        page.select_option(".picked select", label="no ice (2)")
        assert list(table(page)) == ["mic1", "mic2"]
        page.select_option(".picked select", label="usable (1)")
        assert list(table(page)) == ["mic0"]
        assert page.mistakes == []
