"""A real server in a process of its own, and a real browser that looks at it."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import PATIENCE_S, until

from upicker.io import mrc

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> Iterator[Any]:
    """Yield a browser of Playwright's, for a fixture; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed (Debian's package chromium)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield browser
        browser.close()


class Server:
    """``upicker ARGUMENTS`` as a process, which serves a page; a context manager.

    Parameters
    ----------
    arguments : str or Path
        ``label`` or ``inspect``, and what follows on the command line.
    port : int
        0 takes any that is free; `start` takes the same again.
    browser : str or None
        A command that the server opens as the user's browser.
    open_files : int or None
        Limit of open files.
    """

    def __init__(
        self, *arguments: str | Path, port: int = 0, browser: str | None = None, open_files: int | None = None
    ) -> None:
        self.arguments, self.port, self.url = [str(each) for each in arguments], port, ""
        self._browser, self._open_files = browser, open_files
        self._process: subprocess.Popen | None = None

    @property
    def labels(self) -> Path:
        """The folder of labels that the arguments name."""
        return Path(self.arguments[self.arguments.index("--labels") + 1])

    def start(self) -> str:
        """Start it; return the address with its token."""
        command = [sys.executable, "-m", "upicker", *self.arguments, "--port", str(self.port)]
        command += ["--no-browser"] if self._browser is None else []
        if self._open_files is not None:
            command = ["sh", "-c", f'ulimit -n {self._open_files}; exec "$@"', "sh", *command]
        source = Path(__file__).resolve().parents[1] / "src"
        environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONUNBUFFERED": "1", "COLUMNS": "500"}
        if self._browser is not None:
            environment = {name: value for name, value in environment.items() if not name.startswith("SSH_")}
            environment |= {"BROWSER": self._browser, "DISPLAY": ":99"}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        self.url = self._address()
        self.port = int(re.findall(r":(\d+)/", self.url)[0])
        return self.url

    def _address(self) -> str:
        """Return the address that the server prints."""
        assert self._process is not None
        assert self._process.stdout is not None
        pipe, printed = self._process.stdout, ""

        def address() -> re.Match[str] | None:
            nonlocal printed
            assert self._process is not None
            if select.select([pipe], [], [], 0.5)[0]:
                printed += os.read(pipe.fileno(), 65536).decode()
            found = re.search(r"http://\S+token=[\w-]+(?=\s)", printed)
            assert found or self._process.poll() is None, f"the server did not start:\n{printed}"
            return found

        return until(address, lambda: f"the server's address in:\n{printed}")[0]

    def kill(self, how: int = signal.SIGKILL) -> str:
        """End it, at once by default; return what it printed after its address."""
        if self._process is None:
            return ""
        self._process.send_signal(how)
        printed, _ = self._process.communicate(timeout=PATIENCE_S)
        self._process = None
        return printed.decode()

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


class Api:
    """The server's routes for a visitor who has the cookie, without a page.

    Parameters
    ----------
    requests : APIRequestContext
        Playwright's, of the visitor.
    url : str
        The address with its token.
    """

    def __init__(self, requests: Any, url: str) -> None:
        self._requests, self._origin = requests, url.split("/?")[0]
        assert requests.get(url.split("#")[0]).ok

    def get(self, path: str) -> Any:
        """Return what is answered."""
        answer = self._requests.get(self._origin + path)
        assert answer.ok, answer.text()
        return answer.json()

    def post(self, path: str, body: object) -> Any:
        """Send something; return what is answered."""
        headers = {"Origin": self._origin, "Content-Type": "application/json"}
        answer = self._requests.post(self._origin + path, data=json.dumps(body), headers=headers)
        assert answer.ok, answer.text()
        return answer.json()


@contextlib.contextmanager
def visit(
    browser: Any, url: str, width: int = 1280, height: int = 860, before: Callable[[Api], None] | None = None
) -> Iterator[Any]:
    """Yield a page of a new visitor; fails if anything is written to its console as an error.

    `before` is called before the page is opened: to bring the server's files to a known state.
    """
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(120_000)
    try:
        if before:
            before(Api(context.request, url))
        yield watched(context.new_page(), url)
    finally:
        context.close()


def watched(page: Any, url: str) -> Any:
    """Open an address in a page; what goes wrong in its scripts is kept in ``page.mistakes``."""
    page.mistakes = []
    page.on("pageerror", lambda error: page.mistakes.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.mistakes.append(message_and_place(message)))
    page.goto(url)
    return page


def message_and_place(message: Any) -> str:
    """Return what a page wrote to its console, and the address that it is about."""
    return f"{message.text} ({message.location['url']})"


def until_page(page: Any, script: str, argument: object = None) -> None:
    """Wait until a JavaScript function returns true; Playwright's own way needs what the page's policy forbids."""
    until(lambda: page.evaluate(script, argument), f"{script} {argument}", lambda: page.wait_for_timeout(50))


def make_micrographs(folder: Path, count: int = 3, shape: tuple[int, int] = (371, 533), seed: int = 0) -> list[Path]:
    """Write small micrographs with dark discs in noise, 4 Angstrom a pixel; return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    files = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        pixels = rng.normal(10, 1, shape)
        for x, y in rng.uniform(20, 20 + np.array(shape[::-1]) - 40, (25, 2)):
            pixels -= 1.5 * (np.hypot(columns - x, rows - y) < 10)
        files.append(folder / f"mic{index:02d}.mrc")
        mrc.write(files[-1], pixels.astype(np.float32), 4.0)
    return files
