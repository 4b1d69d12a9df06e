"""Work that outlives whoever started it: none begins without a record, and none is lost with its starter."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import environment
from waiting import until

from upicker.errors import OutputError
from upicker.run import detached
from upicker.run.detached import Process

# Starts a command that waits for the file "go" and then makes "done"; says its number, and dies before or after
# the command may begin.
STARTER = """
import os, signal, sys
from pathlib import Path
from upicker.run import detached

folder, when = Path(sys.argv[1]), sys.argv[2]

def record(process):
    print(process.pid, process.start_time, sep="\\t", flush=True)
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)

command = ["sh", "-c", f"while ! test -e {folder}/go; do sleep .02; done; touch {folder}/done; exit 7"]
detached.start(command, folder, record)
os.kill(os.getpid(), signal.SIGKILL)
"""


def ended_starter(folder: Path, when: str) -> Process:
    """Return the process that a starter started before it was killed."""
    command = [sys.executable, "-c", STARTER, str(folder), when]
    starter = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True, check=False)
    assert starter.returncode == -signal.SIGKILL
    pid, start_time = starter.stdout.strip().split("\t")
    return Process(int(pid), start_time)


def test_it_goes_on_when_its_starter_is_killed(tmp_path):
    process = ended_starter(tmp_path, "after")
    assert process.alive
    (tmp_path / "go").touch()
    until(lambda: not process.alive, "the end of the command")
    assert (tmp_path / "done").exists()
    assert detached.exit_code(tmp_path) == 7


def test_it_does_not_begin_if_its_starter_is_killed_before_the_record_is_complete(tmp_path):
    (tmp_path / "go").touch()
    process = ended_starter(tmp_path, "before")
    until(lambda: not process.alive, "the end of the shell")
    assert not (tmp_path / "done").exists()
    assert detached.exit_code(tmp_path) is None


def test_it_does_not_begin_without_a_record(tmp_path):
    started = []

    def record(process: Process) -> None:
        started.append(process)
        assert process.alive
        assert os.getsid(process.pid) == process.pid
        raise OutputError(tmp_path, "no room")

    with pytest.raises(OutputError, match="no room"):
        detached.start(["touch", str(tmp_path / "done")], tmp_path, record)
    until(lambda: not started[0].alive, "the end of the shell")
    assert not (tmp_path / "done").exists()


def test_the_command_reads_nothing(tmp_path):
    found = detached.start(["cat"], tmp_path, lambda process: None)
    until(lambda: not found.alive, "the end of cat")
    assert detached.exit_code(tmp_path) == 0
    assert (tmp_path / detached.LOG).read_bytes() == b""
