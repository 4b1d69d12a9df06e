"""The panel for training in a real browser: train, kill the server, find it again, suggestions, stop."""

import signal
from pathlib import Path
from typing import Any

import pytest
from browser import Server, make_micrographs, until_page, visit
from command_line import TOY

from upicker.io import coordinates
from upicker.particles import Particles
from upicker.web.jobs.job import read

SETTINGS = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]

pytestmark = pytest.mark.slow


@pytest.fixture
def server(tmp_path) -> Any:
    """Seven micrographs, five of them labelled."""
    mics = make_micrographs(tmp_path / "mics", 7)
    for number in range(5):
        xy = [(40.0 + 60 * step, 50.0 + 35 * step + number) for step in range(8)]
        coordinates.write(tmp_path / "labels" / f"mic{number:02d}.csv", Particles.of(xy, 20.0), "csv")
    arguments = ["label", *mics, "--labels", tmp_path / "labels", "--diameter", "20px", *SETTINGS]
    try:
        with Server(*arguments) as running:
            yield running
    finally:
        for record in (tmp_path / "labels").glob(".upicker/jobs/*/job.json"):
            found = read(record.parent)
            assert found is not None
            found.process.send(signal.SIGKILL)


def show_panel(page: Any) -> Any:
    panel = page.locator("details.panel", has=page.locator("> summary", has_text="Training"))
    if panel.get_attribute("open") is None:
        panel.locator("> summary").click()
    return panel


def text(page: Any, words: str) -> None:
    until_page(page, "(words) => document.querySelector('.jobs')?.innerText.includes(words)", words)


def test_a_model_is_trained_and_asked_from_the_page(server, chromium, tmp_path):
    shots = Path(tmp_path)
    with visit(chromium, server.url) as page:
        panel = show_panel(page)
        panel.get_by_role("button", name="Train on 5 micrographs").wait_for()
        text(page, "40 particles in 5 micrographs.")
        panel.screenshot(path=shots / "idle.png")
        panel.locator("summary", has_text="Options").click()
        panel.get_by_label("Steps").fill("6")
        panel.get_by_role("button", name="Train on").click()
        panel.get_by_role("button", name="Stop").wait_for()
        panel.screenshot(path=shots / "running.png")
    server.kill()
    server.start()
    with visit(chromium, server.url) as page:
        panel = show_panel(page)
        text(page, "Trained in")
        text(page, "On validation labels: F1")
        panel.screenshot(path=shots / "done.png")
        panel.get_by_role("button", name="Suggest the next micrograph").click()
        text(page, "uncertain of")
        panel.screenshot(path=shots / "suggested.png")
        panel.get_by_role("button", name="uncertain of").first.click()
        until_page(page, "() => ['mic05', 'mic06'].includes(document.querySelector('#name').textContent)")
        panel.get_by_role("button", name="Show its picks as proposals").click()
        until_page(page, "() => document.querySelector('input[name=proposals][value=model]').checked")
        assert page.mistakes == []


def test_a_training_is_stopped_from_the_page(server, chromium, tmp_path):
    with visit(chromium, server.url, 700, 800) as page:
        if page.locator("[data-fold=right]").is_visible():
            page.locator("[data-fold=right]").click()
        panel = show_panel(page)
        panel.locator("summary", has_text="Options").click()
        panel.get_by_label("Steps").fill("100000")
        panel.get_by_role("button", name="Train on").click()
        until_page(page, "() => /Step [1-9]/.test(document.querySelector('.jobs')?.innerText)")
        page.screenshot(path=Path(tmp_path) / "narrow.png")
        panel.get_by_role("button", name="Stop").click()
        text(page, "Stopped")
        panel.get_by_role("button", name="Train on").wait_for()
        panel.screenshot(path=Path(tmp_path) / "stopped.png")
        assert page.mistakes == []
    server.kill(signal.SIGINT)
