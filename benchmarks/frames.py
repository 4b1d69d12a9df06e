"""How smoothly the page pans and zooms: frames a second, and what each frame costs the browser.

Run from the checkout::

    python benchmarks/frames.py [--screen 1400x900] [--seconds 5] [--picks 1000] [--folder DIR]

Opens a micrograph of 4096 x 4096 with 1,000 particles on both pages in Chromium without a graphics card, all in sight,
and pans and zooms with the mouse. Frames a second are those that the browser made while the mouse moved. Milliseconds
are processor time, from the browser's own trace, so that they hardly depend on who else works on the machine, and mean
something for machines with a graphics card:

``script``
    the page's own code: handlers of the mouse, and what is called before the next frame; median and 95th percentile;
``main``
    all of the thread that runs it: script, layout, recording what is drawn, and drawing it where no card does;
``compositing``
    bringing what is drawn together, in a thread of its own, which works while the first is at the next frame;
``others``
    all other threads of the page and the compositor.

Needs Playwright and Chromium. Prints markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from page import DIAMETER, machine, write

from upicker.io import coordinates
from upicker.particles import Particles

SHAPE, PIXEL_SIZE_A, DIAMETER_PX = (4096, 4096), 1.1, 172.0
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CATEGORIES = "devtools.timeline,toplevel,viz,cc,benchmark,input,disabled-by-default-devtools.timeline,__metadata"
PATIENCE_S = 240
READY = {
    "label": "() => document.querySelector('#count')?.textContent !== '' && !document.querySelector('.viewer.dim')"
    " && document.querySelector('.scalebar')?.hidden === false",
    "inspect": "() => document.body.dataset.ready === 'true' && document.querySelector('#kept').textContent"
    " && !document.querySelector('.viewer.dim')",
}
# Names of the trace's events that are code of the page.
SCRIPT = {"FireAnimationFrame", "EventDispatch", "FunctionCall", "TimerFire"}
EVENTS, UNANSWERED = 125, 6  # of the mouse: a second, and at most under way
UPDATE, DRAW, TASK = "ProxyMain::BeginMainFrame", "DirectRenderer::DrawFrame", "RunTask"
COLUMNS = ("frames/s", "script", "script 95 %", "main", "main 95 %", "compositing", "others")


def prepare(folder: Path, picks: int) -> None:
    """Write one micrograph, its labels, and picks of which nine in ten are right."""
    (mic, *_) = write(folder / "micrographs", SHAPE, PIXEL_SIZE_A, 1)
    rng = np.random.default_rng(5)
    side = math.ceil(math.sqrt(picks))
    places = (np.indices((side, side)).reshape(2, -1).T[:picks] + 0.5) * (np.array(SHAPE) / side)
    xy = places + rng.uniform(-25, 25, places.shape)
    (folder / "labels").mkdir()
    (folder / "picks").mkdir()
    coordinates.write(folder / f"labels/{mic.stem}.csv", Particles.of(xy, DIAMETER_PX), "csv")
    away = np.where(rng.random((picks, 1)) < 0.9, 5.0, 150.0) * rng.choice([-1, 1], (picks, 2))
    scored = Particles.of(np.clip(xy + away, 0, SHAPE[0] - 1), DIAMETER_PX, rng.uniform(0.3, 1, picks))
    coordinates.write(folder / f"picks/{mic.stem}.csv", scored, "csv")


@contextmanager
def serving(*arguments: str | Path) -> Iterator[str]:
    """Run the page's server; yield its address."""
    command = [sys.executable, "-m", "upicker", *map(str, arguments), "--no-browser", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "500"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://\S+token=[\w-]+", line):
                yield found[0]
                return
        raise SystemExit("the server did not start")
    finally:
        process.kill()
        process.wait()


def pan(middle: tuple[float, float], step: int) -> tuple[str, tuple[float, float]]:
    """Yield mouse positions that drag the micrograph round and round."""
    angle = 0.04 * step
    return "move", (middle[0] + 160 * math.cos(angle) - 160, middle[1] + 110 * math.sin(angle))


def zoom(middle: tuple[float, float], step: int) -> tuple[str, tuple[float, float]]:
    """Yield turns of the wheel, in and out."""
    return "wheel", (0, -20 if step // 60 % 2 == 0 else 20)


async def moving(page: Any, move: Callable[..., Any], middle: tuple[float, float], seconds: float) -> None:
    """Send events as often as a mouse does, or as fast as the browser takes them."""
    await page.mouse.move(*middle)
    if move is pan:
        await page.mouse.down(button="middle")
    free, tasks, began = asyncio.Semaphore(UNANSWERED), set(), time.monotonic()

    async def send(step: int) -> None:
        kind, values = move(middle, step)
        await getattr(page.mouse, kind)(*values)
        free.release()

    step = 0
    while (passed := time.monotonic() - began) < seconds:
        await free.acquire()
        tasks.add(asyncio.create_task(send(step)))
        step += 1
        await asyncio.sleep(max(0, step / EVENTS - passed))
    await asyncio.gather(*tasks)
    if move is pan:
        await page.mouse.up(button="middle")


def costs(events: list[dict[str, Any]]) -> dict[str, float]:
    """Return frames a second, and processor milliseconds a frame, from a trace."""
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    whole = [e for e in events if e.get("ph") == "X" and "dur" in e]
    at = {name: [e for e in whole if e["name"] == name] for name in (UPDATE, DRAW)}
    # A page in the background has a thread of its own, which hardly draws.
    thread = Counter((e["pid"], e["tid"]) for e in at[UPDATE]).most_common(1)[0][0]
    updates = np.array(sorted(e["ts"] for e in at[UPDATE] if (e["pid"], e["tid"]) == thread))
    drawn = np.array(sorted(e["ts"] for e in at[DRAW]))
    own = [e for e in whole if (e["pid"], e["tid"]) == thread]
    script = _by_frame(updates, [e for e in own if e["name"] in SCRIPT])
    main = _by_frame(updates, [e for e in own if e["name"] == TASK])
    others: Counter[str] = Counter()
    for event in whole:
        at_work = event["pid"], event["tid"]
        # The browser's own main thread is busy with the trace.
        if event["name"] == TASK and at_work != thread and names[at_work] != "CrBrowserMain":
            others[names[at_work]] += event.get("tdur", 0) / 1000 / len(drawn)
    return {
        "frames/s": 1e6 * (len(drawn) - 1) / np.ptp(drawn),
        "script": float(np.median(script)),
        "script 95 %": float(np.percentile(script, 95)),
        "main": float(np.median(main)),
        "main 95 %": float(np.percentile(main, 95)),
        "compositing": others["VizCompositorThread"],
        "others": sum(others.values()) - others["VizCompositorThread"],
    }


def _by_frame(edges: np.ndarray, events: list[dict[str, Any]]) -> np.ndarray:
    """Sum processor milliseconds between edges; what lies within another event is in it already."""
    total, end = np.zeros(len(edges)), -1.0
    for event in sorted(events, key=lambda e: (e["ts"], -e["dur"])):
        if event["ts"] < end:
            continue
        end = event["ts"] + event["dur"]
        total[max(np.searchsorted(edges, event["ts"], "right") - 1, 0)] += event.get("tdur", 0) / 1000
    return total


async def look(browser: Any, kind: str, address: str, options: argparse.Namespace) -> None:
    """Open one page, move, and print what it took."""
    width, height = map(int, options.screen.split("x"))
    page = await (await browser.new_context(viewport={"width": width, "height": height})).new_page()
    page.set_default_timeout(1000 * PATIENCE_S)
    await page.goto(address)
    while not await page.evaluate(READY[kind]):
        await page.wait_for_timeout(100)
    await page.wait_for_timeout(1500)  # tiles come
    box = await page.locator("#viewer").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for move in (pan, zoom):
        await browser.start_tracing(page=page, categories=CATEGORIES.split(","))
        await moving(page, move, middle, options.seconds)
        found = costs(json.loads(await browser.stop_tracing())["traceEvents"])
        print(f"| {kind} | {move.__name__} | {' | '.join(f'{found[name]:.1f}' for name in COLUMNS)} |", flush=True)
        if options.shots:
            await page.screenshot(path=options.shots / f"{kind}_{move.__name__}.png")
    await page.context.close()


async def measure(program: str, folder: Path, options: argparse.Namespace) -> None:
    """Print the table."""
    from playwright.async_api import async_playwright

    print(f"{machine()}; screen {options.screen}, {options.picks} picks\n")
    print(f"| page | movement | {' | '.join(COLUMNS)} |\n{'|---' * (2 + len(COLUMNS))}|", flush=True)
    prepare(folder, options.picks)
    shown = ["--micrographs", folder / "micrographs", "--labels", folder / "labels"]
    pages = {
        "label": [folder / "micrographs", *shown[2:], "--diameter", DIAMETER],
        "inspect": [folder / "picks", *shown],
    }
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        for kind, arguments in pages.items():
            with serving(kind, *arguments) as address:
                await look(browser, kind, address, options)
        await browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screen", default="1400x900", help="columns x rows of the window, in pixels")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each movement")
    parser.add_argument("--picks", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where files are written; by default a temporary folder")
    parser.add_argument("--shots", type=Path, help="folder for screenshots")
    options = parser.parse_args()
    program = next((found for name in PROGRAMS if (found := shutil.which(name))), None)
    if program is None or importlib.util.find_spec("playwright") is None:
        print("Skipped: this needs Chromium and the Python package playwright, and one of them is not here.")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        asyncio.run(measure(program, Path(name), options))


if __name__ == "__main__":
    main()
