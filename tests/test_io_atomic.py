"""Files appear whole or not at all."""

import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import environment

from upicker.errors import OutputError
from upicker.io.atomic import remove_stale, replacing, temporary_folder
from upicker.io.processes import Identity, token_has_ended


def test_the_file_appears_at_the_end_in_folders_made_for_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "picks.star"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent
        assert temporary.suffix == ".star"
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_keeps_the_previous_file_and_leaves_no_other(tmp_path: Path, error: type) -> None:
    path = tmp_path / "picks.csv"
    path.write_text("before")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("ha")
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_output_error_that_names_the_file(tmp_path: Path) -> None:
    def full() -> None:
        with replacing(tmp_path / "picks.csv") as temporary:
            temporary.write_text("ha")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"picks\.csv.*No space left"):
        full()
    assert list(tmp_path.iterdir()) == []


def test_a_parent_that_is_a_file_and_a_target_that_is_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "picks.csv", tmp_path):
        with pytest.raises(OutputError, match=str(path)), replacing(path) as temporary:
            temporary.write_text("ha")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_device_is_never_replaced() -> None:
    null = Path("/dev/null")
    with pytest.raises(OutputError, match="/dev/null"), replacing(null):
        pass
    assert not null.is_file()


def killed(script: str, folder: Path) -> None:
    """Run a script in a process that kills itself while it writes to a folder."""
    source = (
        f"import os, signal\nfrom pathlib import Path\nfrom upicker.io import atomic\nfolder = Path({str(folder)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", source + script], env=environment(), check=False)
    assert done.returncode == -signal.SIGKILL


WRITING = (
    "with atomic.replacing(folder / 'b.csv') as t:\n t.write_text('half')\n os.kill(os.getpid(), signal.SIGKILL)\n"
)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_the_next_writer_removes_what_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    others = [".upicker-notes", ".upicker-a-b-c-1-2-3.csv", ".hidden.csv", f".{'0' * 32}.csv"]
    for name in others:
        (tmp_path / name).write_text("not ours")
    killed(WRITING, tmp_path)
    left = [path for path in tmp_path.iterdir() if path.name not in others]
    assert len(left) == 1
    assert left[0].read_text() == "half"
    with replacing(tmp_path / "b.csv") as temporary:
        temporary.write_text("whole")
        assert remove_stale(tmp_path) == []  # this process lives
        assert temporary.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "b.csv"])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_temporary_folders_of_killed_processes_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed(
        "with atomic.temporary_folder() as t:\n (t / 'x').touch()\n os.kill(os.getpid(), signal.SIGKILL)\n", tmp_path
    )
    assert len(list(tmp_path.iterdir())) == 1
    with temporary_folder() as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "ended"),
    [
        ({}, False),
        ({"started": "1"}, True),  # its number was given to another process
        ({"pid": 2**22 + 1}, True),
        ({"boot": "before"}, True),
        ({"namespace": "a container"}, False),
        ({"host": "another"}, False),
        ({"machine": "another of the same name", "pid": 2**22 + 1}, False),
    ],
)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_process_is_stale_only_if_this_machine_can_prove_it(changes: dict, ended: bool) -> None:
    assert token_has_ended(replace(Identity.mine(), **changes).token) == ended


@pytest.mark.parametrize("token", ["", "a", "a-b-c-d-e", "1-2-3-4"])
def test_other_names_are_of_nobody(token: str) -> None:
    assert not token_has_ended(token)
