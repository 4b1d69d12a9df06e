"""``upicker completion``, typed into the shells; and the man page."""

import os
import pty
import re
import runpy
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT, environment, upicker
from waiting import until

from upicker.cli.app import USAGE, app, name_of

START = {
    "bash": (["bash", "--norc", "-i"], "source {}"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -u -D; source {}"),
}
# What is typed before the tab key -> what the line then is.
TYPED = {
    "upicker pi": "upicker pick ",
    "upicker relio": "upicker relion-job ",
    "upicker pick --skip": "upicker pick --skip-existing ",
    "upicker pick Micr": "upicker pick Micrographs/",
    "upicker inspect p --micrographs Micr": "upicker inspect p --micrographs Micrographs/",
    "upicker pick Micrographs -o Micr": "upicker pick Micrographs -o Micrographs/",
    "upicker completion f": "upicker completion fish ",
}


def script(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    code, out, err = upicker(capsys, "completion", shell)
    assert (code, err) == (0, "")
    path = folder / f"completion.{shell}"
    path.write_text(out, encoding="utf-8")
    return path


class Typing:
    """A shell on a terminal of its own, in which one types."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.handle, theirs = pty.openpty()
        given = os.environ | {"PS1": "$ ", "TERM": "dumb", "INPUTRC": os.devnull, "HOME": str(folder)}
        streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        self.process = subprocess.Popen(command, **streams, cwd=folder, env=given, start_new_session=True)
        os.close(theirs)
        self.shown = ""

    def type(self, keys: str, expected: str) -> str:
        """Type something, and wait until the shell shows what is expected; return what it shows."""
        self.shown = ""
        os.write(self.handle, keys.encode())
        until(lambda: expected in self._read(), f"{expected!r} after {keys!r}")
        return self.shown

    def _read(self) -> str:
        while select.select([self.handle], [], [], 0.01)[0]:
            self.shown += os.read(self.handle, 65536).decode(errors="replace")
        return self.shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.handle)


@pytest.mark.parametrize("shell", START)
def test_the_tab_key_completes_commands_options_and_files(shell, capsys, tmp_path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = script(shell, tmp_path, capsys)
    (tmp_path / "Micrographs").mkdir()
    command, load = START[shell]
    typing = Typing(command, tmp_path)
    try:
        typing.type(f"{load.format(path)}; echo loa''ded\n", "loaded")
        for typed, completed in TYPED.items():
            typing.type(f"{typed}\t", completed)
            typing.type("\x15echo do''ne\n", "done")
    finally:
        typing.close()


def test_fish_completes_commands_options_and_files(capsys, tmp_path):
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    path = script("fish", tmp_path, capsys)
    (tmp_path / "Micrographs").mkdir()
    for typed, completed in TYPED.items():
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source {path}; complete -C '{typed}'"],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env=os.environ | {"HOME": str(tmp_path)},
        )
        assert completed.split()[-1] in re.split(r"[\t\n]", done.stdout), typed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_its_shell_and_has_every_command(shell, capsys, tmp_path):
    path = script(shell, tmp_path, capsys)
    if shutil.which(shell):
        subprocess.run([shell, "-n", str(path)], check=True)
    text = path.read_text(encoding="utf-8")
    for command in USAGE:
        assert name_of(command) in text


def test_every_argument_in_zsh_completes_something(capsys, tmp_path):
    lines = script("zsh", tmp_path, capsys).read_text(encoding="utf-8").splitlines()
    for line in lines:
        # Options without a value, such as --json, end with their description.
        assert not re.match(r"\s+'[*\d]+:[^']*' \\$", line) or line.endswith(
            (":_files' \\", ")' \\", ":->args' \\", ":->cmds' \\")
        )
        assert not re.search(r"\]:[\w-]+' \\$", line), line


def test_an_unknown_shell_is_refused(capsys):
    code, _, err = upicker(capsys, "completion", "csh")
    assert code == 2
    assert '"bash", "zsh", "fish"' in err


def test_the_script_is_printed_without_heavy_imports(tmp_path):
    program = (
        "import sys; from upicker.cli.app import run; code = run(['completion', 'bash']); "
        "sys.exit(code or bool({'torch', 'numpy', 'scipy', 'cv2', 'matplotlib'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=environment(), cwd=tmp_path, capture_output=True)


def test_the_man_page_is_current():
    made = runpy.run_path(str(ROOT / "docs/manpage.py"))["page"]()
    assert (ROOT / "docs/upicker.1").read_text(encoding="utf-8") == made, "run: python docs/manpage.py"


def test_the_man_page_has_every_command_and_option_and_no_unknown_request():
    text = (ROOT / "docs/upicker.1").read_text(encoding="ascii")
    plain = text.replace("\\-", "-")
    for command in map(name_of, USAGE):
        _, _, part = plain.partition(f".SS upicker {command} ")
        part = re.split(r"^\.S[SH]", part, maxsplit=1, flags=re.M)[0]
        for argument in app[command].assemble_argument_collection(parse_docstring=True):
            # "*" is a group of options, which follow.
            assert argument.name == "*" or argument.name in part, (command, argument.name)
    requests = {line.split()[0] for line in text.splitlines() if line.startswith((".", "'"))}
    assert requests <= {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".I"}


def test_readers_of_man_pages_find_nothing_wrong(tmp_path):
    page = str(ROOT / "docs/upicker.1")
    if shutil.which("mandoc") is None:
        pytest.skip("mandoc is not installed")
    done = subprocess.run(["mandoc", "-Tlint", page], capture_output=True, text=True, check=False)
    assert [line for line in done.stdout.splitlines() if "missing date" not in line] == []
