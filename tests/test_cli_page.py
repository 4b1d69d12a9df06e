"""The commands that serve a page: what they say, how they live and end."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar

import numpy as np
import pytest
from command_line import _heeding_ctrl_c, environment, upicker
from web_client import DIAMETER_PX, make_labels, make_micrographs

from upicker.io import coordinates
from upicker.units import Length
from upicker.web import serve
from upicker.web.security import session_of
from upicker.web.serve import Address


def test_commands_say_what_is_wrong(tmp_path, capsys):
    mic = make_micrographs(tmp_path / "mics", 1)[0]
    labels, empty = tmp_path / "labels", tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for code, words, arguments in [
            (2, "no micrographs were given", ["label", "--labels", labels]),
            (2, "--labels", ["label", mic]),
            (1, "there is no micrograph in this folder", ["label", empty, "--labels", labels]),
            (1, "this is a file, not a folder", ["label", mic, "--labels", tmp_path / "file"]),
            (1, "labels cannot be kept there", ["label", mic, "--labels", tmp_path / "file" / "labels"]),
            (2, "this is not a length", ["label", mic, "--labels", labels, "--diameter", "wide"]),
            (2, "unknown 'image.no'", ["label", mic, "--labels", labels, "--set", "image.no=1"]),
            (1, "nothing.safetensors", ["label", mic, "--labels", labels, "--model", tmp_path / "nothing.safetensors"]),
            (2, "another program uses it", ["label", mic, "--labels", labels, "--port", port]),
            (2, "is not a port", ["label", mic, "--labels", labels, "--port", "70000"]),
            (2, "--host", ["label", mic, "--labels", labels, "--host", "not an address"]),
            (2, "it is empty", ["label", mic, "--labels", labels, "--host", ""]),
            (1, "there are no files of picks in this folder", ["inspect", empty, "--micrographs", mic]),
            (1, "there is no such folder or file of picks", ["inspect", tmp_path / "no", "--micrographs", mic]),
            (2, "--micrographs", ["inspect", empty]),
        ]:
            found, _, err = upicker(capsys, *arguments)
            assert (found, words in err) == (code, True), (arguments, err)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_what_the_commands_print(tmp_path, capsys, monkeypatch, host):
    mic = make_micrographs(tmp_path / "mics", 1)[0]
    make_labels(tmp_path / "picks", 1)
    seen = []

    def pretend(project, host, port, open_browser, tell, force):
        seen.append((project, port, open_browser))
        assert not force
        tell(Address(host, 4321, "SECRET"))

    monkeypatch.setattr(serve, "serve", pretend)
    label = ["label", mic, "--labels", tmp_path / "labels", "--diameter", "56A", "--set", "image.particles=bright"]
    code, out, err = upicker(capsys, *label, "--host", host, "--port", "4321", "--no-browser")
    assert code == 0
    assert ":4321/?token=SECRET\n" in out
    assert ("ssh -N -L 4321:127.0.0.1:4321 " in out) == (host == "127.0.0.1")
    assert out.endswith("Stopped. Everything is saved.\n")
    assert ("Anyone on the network" in err) == (host != "127.0.0.1")
    code, _, _ = upicker(capsys, "inspect", tmp_path / "picks", "--micrographs", mic, "--pixel-size", "3A")
    assert code == 0
    (first, port, browser), (second, no_port, also) = seen
    assert (first.mode, first.diameter, first.config.image.particles) == ("label", Length(56, "A"), "bright")
    assert (second.mode, second.diameter, second.pixel_size_A(0)) == ("inspect", Length(DIAMETER_PX, "px"), 3.0)
    assert ((port, browser), (no_port, also)) == ((4321, False), (None, True))


def _started(arguments: list[object]) -> tuple[subprocess.Popen, str]:
    """Start the real command; return the process and the address that it prints."""
    command = [sys.executable, "-m", "upicker", *map(str, arguments), "--port", "0", "--no-browser"]
    pipes: dict = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment(), preexec_fn=_heeding_ctrl_c, **pipes)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "token=" in line:
            return process, line.strip()
    raise AssertionError("".join(lines) + process.stderr.read())


@contextlib.contextmanager
def _running(*arguments: object) -> Iterator[tuple[subprocess.Popen, str, str]]:
    """Run the real command; yield the process, the address without its token, and a cookie header."""
    process, address = _started(list(arguments))
    try:
        origin, token = address.split("/?token=")
        yield process, origin, f"upicker-{origin.rsplit(':')[-1]}={session_of(token)}"
    finally:
        process.kill()
        process.communicate()


def _label(origin: str, cookie: str, epoch: str, key: str, x: float) -> None:
    """Add one label to the first micrograph."""
    change = {"op": "add", "key": key, "x": x, "y": 50.5}
    body = json.dumps({"epoch": epoch, "revision": 0, "changes": [change]}).encode()
    headers = {"Origin": origin, "Content-Type": "application/json", "Cookie": cookie}
    urllib.request.urlopen(
        urllib.request.Request(f"{origin}/api/micrographs/0/labels", body, headers), timeout=60
    ).close()


def _epoch(origin: str, cookie: str) -> str:
    asked = urllib.request.Request(f"{origin}/api/micrographs/0/labels", headers={"Cookie": cookie})
    with urllib.request.urlopen(asked, timeout=60) as found:
        return json.load(found)["epoch"]


@pytest.mark.parametrize("command", ["label", "inspect"])
def test_two_servers_of_one_folder_lose_nothing(tmp_path, capsys, command):
    """The second would write over what the first has acknowledged: it is refused, or takes over for good."""
    mics, folder = make_micrographs(tmp_path / "mics", 2), tmp_path / "labels"
    if command == "inspect":
        make_labels(folder, 2)
    inputs = ["--labels", folder] if command == "label" else [folder, "--micrographs"]
    arguments = [command, *mics, *inputs] if command == "label" else [command, *inputs, *mics]
    with _running(*arguments) as (first, origin, cookie):
        code, _, err = upicker(capsys, *arguments, "--port", "0", "--no-browser")
        assert code == 1
        assert f"{folder / '.upicker'}: upicker {command} (process {first.pid} on this machine, since " in err
        assert f", at {origin}) uses it. Go on there, or stop it first; --force takes it over." in err
        if command == "inspect":
            return
        epoch = _epoch(origin, cookie)
        _label(origin, cookie, epoch, "k1", 100.25)
        with _running(*arguments, "--force") as (_, second, its_cookie):
            with pytest.raises(urllib.error.HTTPError) as refused:
                _label(origin, cookie, epoch, "k2", 20.0)
            said = json.load(refused.value)["error"]["found"]
            assert f"at {second}) has taken it over" in said
            _label(second, its_cookie, _epoch(second, its_cookie), "k3", 30.0)
    np.testing.assert_allclose(coordinates.read(folder / "mic0.csv").xy, [[100.25, 50.5], [30.0, 50.5]])
    with _running(*arguments):  # both were killed, and have provably ended
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_command_lives_and_ends(tmp_path, number):
    mics = make_micrographs(tmp_path / "mics", 2)
    process, address = _started(["label", *mics, "--labels", tmp_path / "labels", "--diameter", "28px"])
    try:
        port = int(re.search(r":(\d+)/", address)[1])
        browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60)
        assert refused.value.code == 401
        refused.value.close()
        with browser.open(address, timeout=60) as page:
            assert page.url == f"http://127.0.0.1:{port}/label"
            assert "server" not in page.headers
        with browser.open(f"http://127.0.0.1:{port}/api/session", timeout=60) as found:
            assert json.load(found)["diameter"] == "28px"
        with browser.open(f"http://127.0.0.1:{port}/api/micrographs/0/labels", timeout=60) as found:
            state = json.load(found)
        change = {
            "epoch": state["epoch"],
            "revision": state["revision"],
            "changes": [{"op": "add", "key": "k1", "x": 100.25, "y": 50.5}],
        }
        headers = {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/json"}
        sent = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/micrographs/0/labels", json.dumps(change).encode(), headers
        )
        with browser.open(sent, timeout=60) as found:
            assert found.status == 200
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, err) == (0, "")
    assert out.endswith("Stopped. Everything is saved.\n")
    assert [path.name for path in (tmp_path / "labels" / ".upicker").iterdir()] == ["session.json"]  # no lock is left
    np.testing.assert_allclose(coordinates.read(tmp_path / "labels" / "mic0.csv").xy, [[100.25, 50.5]])
