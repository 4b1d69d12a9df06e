"""The label page under kill -9, see `kills.py`: labels that it acknowledged are in the files."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from upicker.io import coordinates, folders

NAME = "label"
SHAPE = (260, 300)
# Time from the first label to a kill.
LONGEST_S = 1.5
PATIENCE_S = 60.0


class Page:
    """A visitor of a server that is started in a folder."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        import kills

        self._log = Path(f"{folder}.txt")
        before = self._log.stat().st_size if self._log.exists() else 0
        self.process = kills.started(arguments, folder)
        found = _until(lambda: re.search(r"http://[\d.]+:\d+/\?token=\S+", self._log.read_text()[before:]))
        self._origin = found[0].partition("/?")[0]
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        self._opener.open(found[0], timeout=PATIENCE_S).read()

    def get(self, path: str) -> Any:
        """Return an answer."""
        with self._opener.open(f"{self._origin}{path}", timeout=PATIENCE_S) as answer:
            return json.load(answer)

    def post(self, path: str, content: object) -> Any:
        """Send a change, and return the answer."""
        headers = {"Content-Type": "application/json", "Origin": self._origin}
        request = urllib.request.Request(f"{self._origin}{path}", json.dumps(content).encode(), headers)
        with self._opener.open(request, timeout=PATIENCE_S) as answer:
            return json.load(answer)


def one_round(folder: Path, mics: Path, rng: random.Random, tally: Any) -> None:
    """Label, kill the server, go on, and look whether all labels are there."""
    import kills

    folder.mkdir(parents=True)
    tally.rounds += 1
    label = ["label", str(mics), "--labels", "labels", "--diameter", "150A", "--port", "0", "--no-browser"]
    names = [path.stem for path in sorted(mics.glob("*.mrc"))]
    acknowledged: set[tuple[str, float, float]] = set()
    sent: set[tuple[str, float, float]] = set()
    for _ in range(rng.randint(1, 3)):
        page = Page(folder, label)
        stop = threading.Event()
        arguments = (page, names, random.Random(rng.random()), acknowledged, sent, stop)
        clicking = threading.Thread(target=_click, args=arguments)
        clicking.start()
        time.sleep(rng.uniform(0.05, LONGEST_S))
        kills.killed(page.process, rng.random() < 0.5, tally)
        stop.set()
        clicking.join()
    page = Page(folder, label)
    _add(page, names, rng, acknowledged, sent)
    page.process.send_signal(signal.SIGINT)
    found = [] if page.process.wait(PATIENCE_S) == 0 else ["it did not end at Ctrl-C"]
    there = _labels(folder / "labels")
    found += [f"{len(acknowledged - there)} of {len(acknowledged)} acknowledged labels are lost"] * bool(
        acknowledged - there
    )
    found += [f"{len(there - sent)} labels that nobody set"] * bool(there - sent)
    hidden = [path for path in folder.rglob(".*") if path.name != ".upicker"]
    left = [*hidden, *(path for path in folder.rglob("*lock*")), *(folder / "tmp").iterdir()]
    found += [f"{path.relative_to(folder)} was left behind" for path in left]
    tally.findings += [f"round {tally.rounds}: {what}" for what in found]
    if not found:
        shutil.rmtree(folder)
        Path(f"{folder}.txt").unlink()


def _click(
    page: Page, names: list[str], rng: random.Random, acknowledged: set, sent: set, stop: threading.Event
) -> None:
    """Set labels until the server is gone."""
    while not stop.is_set():
        try:
            _add(page, names, rng, acknowledged, sent)
        except (OSError, ValueError, HTTPException):  # the server was killed
            return


def _add(page: Page, names: list[str], rng: random.Random, acknowledged: set, sent: set) -> None:
    """Set one label, which is acknowledged when this returns."""
    number = rng.randrange(len(names))
    address = f"/api/micrographs/{number}/labels"
    state = page.get(address)
    x, y = round(rng.uniform(0, SHAPE[1] - 1), 2), round(rng.uniform(0, SHAPE[0] - 1), 2)
    change = {"op": "add", "key": f"k{rng.randrange(10**9)}", "x": x, "y": y}
    sent.add((names[number], x, y))
    page.post(address, {"epoch": state["epoch"], "revision": state["revision"], "changes": [change]})
    acknowledged.add((names[number], x, y))


def _labels(folder: Path) -> set[tuple[str, float, float]]:
    """Return the labels in the files."""
    return {
        (name, round(float(x), 2), round(float(y), 2))
        for name, file in folders.stems(folder).items()
        for x, y in coordinates.read(file).xy
    }


def _until(check: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not (found := check()):
        if time.monotonic() > end:
            raise TimeoutError("the page did not start")
        time.sleep(0.02)
    return found
