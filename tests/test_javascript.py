"""The page's JavaScript that needs no page: tests/js, run by node."""

import subprocess
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parent / "js").glob("*.test.js"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_in_node(node, file):
    done = subprocess.run([node, "--test", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout
    assert "# pass 0" not in done.stdout


def test_a_test_that_fails_is_seen(node, tmp_path):
    file = tmp_path / "sad.test.js"
    file.write_text('require("node:test").test("no", () => { throw new Error("no"); });\n')
    assert subprocess.run([node, "--test", file], capture_output=True, check=False).returncode != 0
