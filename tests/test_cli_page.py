"""The commands that serve a page: what they say, how they live and end."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from http.cookiejar import CookieJar

import numpy as np
import pytest
from command_line import _heeding_ctrl_c, environment, upicker
from web_client import DIAMETER_PX, make_labels, make_micrographs

from upicker.io import coordinates
from upicker.units import Length
from upicker.web import serve
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

    def pretend(project, host, port, open_browser, tell):
        seen.append((project, port, open_browser))
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
    np.testing.assert_allclose(coordinates.read(tmp_path / "labels" / "mic0.csv").xy, [[100.25, 50.5]])
