"""One process holds a lock; a dead one does not, as far as this machine can prove."""

import errno
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from upicker.errors import OutputError, UPickerWarning
from upicker.io import processes
from upicker.io.lock import Held, holder_of, lock
from upicker.io.processes import Identity

WORK = Path(__file__).parent / "lock_work.py"
MODES = pytest.mark.parametrize("words", [(), ("no-flock",)], ids=["flock", "no-flock"])
QUIET = pytest.mark.filterwarnings("ignore:.*does not support locks")


class Other:
    """Another process, as lock_work.py."""

    def __init__(self, path: Path, *words: str) -> None:
        arguments = [sys.executable, str(WORK), str(path), *words]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.says() == "ready"

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def others(path: Path, *words: str, count: int = 1) -> Iterator[list[Other]]:
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            found.append(Other(path, *words))
            stack.callback(found[-1].end)
        yield found


@pytest.fixture
def mode(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    if words:
        monkeypatch.setattr(fcntl, "flock", unsupported)
    return words


def unsupported(*_: object) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


@MODES
@QUIET
def test_the_second_is_refused_and_told_who_is_first(tmp_path, mode):
    path = tmp_path / "state" / "lock"
    with others(path, *mode) as [first]:
        first.go()
        assert first.says() == "held"
        who = rf"upicker test \(process {first.process.pid} on this machine, since .*, at http://127\.0\.0\.1:8765/\)"
        with pytest.raises(OutputError, match=rf"{path.parent}: {who} uses it.*--force"):
            lock(path, "another")
        first.go()
        first.process.wait()
        assert not path.exists()  # released at exit
    with lock(path, "another"):
        assert str(os.getpid()) in str(holder_of(path))
    assert list(path.parent.iterdir()) == []


@MODES
@QUIET
def test_a_killed_holder_has_provably_ended(tmp_path, mode):
    path = tmp_path / "lock"
    with others(path, *mode) as [first]:
        first.go()
        assert first.says() == "held"
        first.process.kill()
        os.waitid(os.P_PID, first.process.pid, os.WEXITED | os.WNOWAIT)  # a zombie: nobody has waited for it
        with lock(path, "another") as held:
            assert holder_of(path) == held.holder
    assert not path.exists()


@MODES
@QUIET
def test_of_many_at_the_same_moment_one_gets_it(tmp_path, mode):
    path = tmp_path / "lock"
    write_holder(path, replace(Identity.mine(), started="1"))  # one that has ended: all may take it
    with others(path, *mode, count=8) as contenders:
        for one in contenders:
            one.go()
        said = [one.says() for one in contenders]
        assert said.count("held") == 1, said


@MODES
@QUIET
def test_the_same_process_does_not_get_it_twice(tmp_path, mode):
    with lock(tmp_path / "lock", "first"), pytest.raises(OutputError, match="first"):
        lock(tmp_path / "lock", "second")


@MODES
@QUIET
def test_who_lost_it_by_force_learns_so_and_leaves_it_to_the_other(tmp_path, mode):
    path = tmp_path / "lock"
    with lock(path, "first") as held:
        held.check()
        with others(path, "force", *mode) as [second]:
            second.go()
            assert second.says() == "held"
            with pytest.raises(OutputError, match=f"process {second.process.pid} .* has taken it over"):
                held.check()
            held.release()
            found = holder_of(path)
            assert found is not None
            assert found.process.pid == second.process.pid


@MODES
@QUIET
@pytest.mark.parametrize(
    ("change", "free"),
    [
        ({"pid": 2**22 + 1}, True),  # beyond the largest process number
        ({"started": "1"}, True),  # another process has the number now
        ({"boot": "before"}, True),
        ({}, False),
        ({"host": "node7"}, False),
        ({"host": "node7", "boot": "before"}, False),
        ({"machine": "another machine of this name", "boot": "other"}, False),
        ({"namespace": "pid:[1]", "pid": 2**22 + 1}, False),  # a container, whose numbers mean nothing here
        ({"boot": ""}, False),
    ],
)
def test_stale_is_what_this_machine_can_prove(tmp_path, mode, change, free):
    path = tmp_path / "lock"
    before = replace(Identity.mine(), **change)
    assert before.has_ended == free
    write_holder(path, before)
    if free:
        lock(path, "me").release()
        return
    name = "on this machine" if before.is_here else f"on {before.host}"
    with pytest.raises(OutputError, match=rf"{name}, .*--force"):
        lock(path, "me")
    assert Identity.read(json.loads(path.read_text())["process"]) == before
    with lock(path, "me", force=True) as held:
        assert holder_of(path) == held.holder


def test_a_process_hidden_from_this_user_has_not_ended(monkeypatch):
    monkeypatch.setattr(processes, "start_ticks", lambda pid: None)  # /proc mounted with hidepid
    assert not replace(Identity.mine(), pid=os.getppid()).has_ended

    def denied(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", denied)
    assert not Identity.mine().has_ended


def test_without_proc_a_used_number_counts_as_running(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    monkeypatch.setattr(processes, "_BOOT", tmp_path)
    mine = Identity.mine()
    assert mine == Identity(socket.gethostname(), mine.machine, "", "", os.getpid(), "")
    assert not mine.has_ended
    assert replace(mine, pid=2**22 + 1).has_ended


def test_an_identity_survives_json():
    mine = Identity.mine()
    assert Identity.read(json.loads(json.dumps(mine.as_dict()))) == mine
    assert mine.is_here
    with pytest.raises((KeyError, TypeError)):
        Identity.read({"pid": 1})


def test_a_forked_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path):
    path = tmp_path / "lock"
    (read, write), (told, tell) = os.pipe(), os.pipe()
    held = lock(path, "parent")
    child = os.fork()
    if child == 0:
        os.close(write)
        os.write(tell, b"1")
        os.read(read, 1)  # until the parent has closed its end
        os._exit(0)
    os.close(read)
    os.read(told, 1)  # the child has begun
    held._close()  # what the end of the parent does
    write_holder(path, replace(held.holder.process, started="1"))
    lock(path, "next").release()
    for handle in (write, told, tell):
        os.close(handle)
    os.waitpid(child, 0)


@QUIET
@pytest.mark.parametrize("supported", [True, False])
def test_a_copied_folder_is_not_locked(tmp_path, monkeypatch, supported):
    if not supported:
        monkeypatch.setattr(fcntl, "flock", unsupported)
    with lock(tmp_path / "labels/lock", "first") as held:
        assert holder_of(held.path) == held.holder
        shutil.copytree(tmp_path / "labels", tmp_path / "copy")
        lock(tmp_path / "copy/lock", "second").release()
        with pytest.raises(Held):
            lock(held.path, "third")


def test_torn_content_of_a_file_that_nobody_locks_is_free(tmp_path):
    path = tmp_path / "lock"
    path.write_text('{"process": {"host": "n')
    lock(path, "me").release()


@pytest.mark.parametrize("field", ["pid", "inode"])
def test_a_number_beyond_all_bounds_says_nothing(tmp_path, field):
    path = tmp_path / "lock"
    write_holder(path, Identity.mine())
    content = json.loads(path.read_text())
    (content["process"] if field == "pid" else content)[field] = 1
    path.write_text(json.dumps(content).replace(f'"{field}": 1', f'"{field}": 1e999'))
    assert holder_of(path) is None
    lock(path, "me").release()


def test_without_a_machine_id_another_boot_may_be_another_machine(tmp_path, monkeypatch):
    """Containers may have equal host names and no machine id, on different machines."""
    monkeypatch.setattr(processes, "_MACHINE", tmp_path / "none")
    before = replace(Identity.mine(), boot="that of another machine")
    assert not before.has_ended
    assert not processes.token_has_ended(before.token)
    assert replace(Identity.mine(), started="1").has_ended


def test_without_flock_the_user_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.warns(UPickerWarning, match="this file system does not support locks"):
        held = lock(tmp_path / "lock", "me")
    held.release()
    monkeypatch.setattr("upicker.io.lock.fcntl", None)  # Windows
    with pytest.warns(UPickerWarning, match="this system does not support locks"):
        held = lock(tmp_path / "lock", "me")
    held.release()


def test_one_killed_while_it_took_the_lock_is_named_and_forced(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", unsupported)
    (tmp_path / "lock.taking").touch()
    with pytest.raises(OutputError, match=r"was killed while it did \(lock\.taking\).*--force"):
        lock(tmp_path / "lock", "me")
    with pytest.warns(UPickerWarning):
        lock(tmp_path / "lock", "me", force=True).release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file.*lock cannot be taken"):
        lock(tmp_path / "file" / "lock", "me")


def write_holder(path: Path, process: Identity) -> None:
    content = {"process": process.as_dict(), "what": "upicker test", "address": "", "since": "yesterday", "key": "k"}
    path.write_text(json.dumps(content))
