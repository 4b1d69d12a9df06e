"""The browser that the server opens: by a file that only its user can read."""

import signal
import stat
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from browser import Server, make_micrographs, visit
from browser import chromium as chromium_of
from waiting import until

chromium = pytest.fixture(scope="module")(chromium_of)


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server, and what its browser was started with."""
    words, temporary = tmp_path / "words", tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    script = tmp_path / "browser"
    script.write_text(f'#!/bin/sh\nprintf "%s" "$*" >"{words}.part"\nmv "{words}.part" "{words}"\n')
    script.chmod(0o755)
    files = make_micrographs(tmp_path / "mics", 1)
    with Server("label", *files, "--labels", tmp_path / "labels", browser=f"{script} %s") as server:
        until(words.exists, "the browser")
        yield server, words.read_text()


def file_of(url: str) -> Path:
    assert url.startswith("file:///")
    return Path(url.removeprefix("file://"))


def test_the_file_opens_the_page_once(chromium, launched):
    server, url = launched
    file = file_of(url)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    content, token = file.read_text(), server.url.rpartition("=")[2]
    ticket = content.partition("?ticket=")[2].partition('"')[0]
    assert token not in content
    assert token not in url
    assert ticket not in url  # which everybody on this machine can read, in the list of processes
    with visit(chromium, url) as page:
        page.wait_for_url(f"http://127.0.0.1:{server.port}/label")
        page.get_by_text("mic00").first.wait_for()
        cookies = page.context.cookies()
        assert [cookie["sameSite"] for cookie in cookies] == ["Strict"]
        assert token not in str(cookies)
        page.reload()
        page.get_by_text("mic00").first.wait_for()
        assert page.mistakes == []
    until(lambda: not file.exists(), "the removal of the file")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/?ticket={ticket}")


def test_a_browser_that_cannot_read_the_file_leaves_the_address_of_the_terminal(chromium, launched):
    server, url = launched
    file_of(url).unlink()
    with visit(chromium, server.url) as page:
        page.wait_for_url(f"http://127.0.0.1:{server.port}/label")
        page.get_by_text("mic00").first.wait_for()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_file_that_was_not_used_is_removed_at_the_end(launched, how):
    server, url = launched
    assert file_of(url).exists()
    server.kill(how)
    assert not file_of(url).exists()
