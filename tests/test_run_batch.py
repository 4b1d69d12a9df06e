"""The loop over many files: what fails stays alone, also when a process dies."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from command_line import environment
from failing_work import FailingToStart, Killed, Raising, Stepwise, Work, dying
from waiting import until

from upicker.errors import ConfigError, InputError, OutputError, UPickerWarning, collected_warnings, warn
from upicker.run import pool
from upicker.run.batch import Outcome, each, staying
from upicker.run.pool import _Process

PATHS = [Path(f"{name}.mrc") for name in ("a", "bad", "b", "bug", "c", "huge")]


def summary(outcomes: list[Outcome[str]]) -> dict[str, str]:
    return {o.path.stem: o.value or f"{type(o.error).__name__}: {o.error}" for o in outcomes}


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_file_has_its_outcome_and_failures_stop_nothing(jobs):
    outcomes = list(each(PATHS, Work(), jobs))
    found = summary(outcomes)
    assert sorted(o.path for o in outcomes) == sorted(PATHS)
    assert [found[stem] for stem in "abc"] == ["A", "B", "C"]
    assert found["bad"] == "MicrographError: bad.mrc: is broken. Mend it."
    assert "unexpected ZeroDivisionError in failing_work.py" in found["bug"]
    assert "not enough memory" in found["huge"]
    assert all(o.seconds >= 0 for o in outcomes)


def _noticing(path: Path) -> str:
    warn(UPickerWarning(path, "it is odd", "Look at it"))
    return path.stem


@pytest.mark.parametrize("jobs", [1, 2])
def test_warnings_come_with_the_outcome(jobs):
    for outcome in each(PATHS[:2], _noticing, jobs):
        [one] = outcome.warnings
        assert (one.where, one.found, one.remedy) == (str(outcome.path), "it is odd", "Look at it")
        assert str(one) == f"{outcome.path}: it is odd. Look at it."


def test_other_warnings_go_where_they_always_go():
    with collected_warnings() as noticed:
        with pytest.warns(RuntimeWarning, match="overflow"):
            warnings.warn("overflow", RuntimeWarning, stacklevel=1)
        for _ in range(2):
            warn(UPickerWarning("a", "b"))
    assert [str(one) for one in noticed] == ["a: b."] * 2


def test_warnings_are_those_of_their_thread():
    inside, left = threading.Event(), threading.Event()

    def other() -> list[UPickerWarning]:
        with collected_warnings() as noticed:
            inside.set()
            assert left.wait(60)
            warn(UPickerWarning("b", "of the other thread"))
        return noticed

    with ThreadPoolExecutor(1) as executor:
        with collected_warnings() as noticed:
            found = executor.submit(other)
            assert inside.wait(60)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warn(UPickerWarning("a", "of this one"))
        left.set()
        assert [str(one) for one in found.result()] == ["b: of the other thread."]
    assert [str(one) for one in noticed] == ["a: of this one."]


def test_the_death_of_a_process_is_laid_to_its_file():
    found = summary(list(each(PATHS, Work(killed=True), 2)))
    assert [found[stem] for stem in "abc"] == ["A", "B", "C"]
    assert "huge.mrc: the process working on it was killed, 2 times" in found["huge"]
    assert len(found) == len(PATHS)


def test_a_file_whose_process_dies_is_done_again_beside_the_others_and_named(tmp_path):
    paths = [Path(f"{name}.mrc") for name in ("a", "bad", *"bcdefgh")]
    outcomes = {outcome.path.stem: outcome for outcome in each(paths, Killed(tmp_path, 1), 2)}
    assert [stem for stem, outcome in outcomes.items() if outcome.error] == []
    [warning] = outcomes.pop("bad").warnings
    assert warning.where == "bad.mrc"
    assert "was killed" in warning.found
    assert not any(outcome.warnings for outcome in outcomes.values())
    # One process died, and one took its place: no more than that were started.
    pids = {pid for note in tmp_path.iterdir() for pid in note.read_text().split()}
    assert len(pids) <= 3
    assert len((tmp_path / "bad").read_text().split()) == 2


def test_a_file_at_which_two_processes_die_is_given_up(tmp_path):
    outcomes = {outcome.path.stem: outcome for outcome in each(PATHS[:3], Killed(tmp_path, 9), 2)}
    assert "2 times" in str(outcomes["bad"].error)
    assert [outcomes[stem].error for stem in "ab"] == [None, None]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("call", "count"), [("list(each([Path('a'), Path('b')], work, 2))", 2), ("Worker().do(work, Path('a'))", 1)]
)
def test_processes_end_when_only_the_main_process_is_killed(tmp_path, call, count):
    (notes := tmp_path / "notes").mkdir()
    (tmp_path / "main.py").write_text(
        "from pathlib import Path\nfrom failing_work import Endless\nfrom upicker.run.batch import each\n"
        "from upicker.run.worker import Worker\n"
        f"if __name__ == '__main__':\n    work = Endless(Path({str(notes)!r}))\n    {call}\n"
    )
    env = environment()
    env["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    with subprocess.Popen([sys.executable, tmp_path / "main.py"], env=env) as main:
        until(lambda: len(list(notes.iterdir())) == count or main.poll() is not None, "processes at work")
        assert main.poll() is None
        main.send_signal(signal.SIGKILL)
    for pid in notes.iterdir():
        until(lambda pid=pid: not _lives(int(pid.name)), "the end of the processes")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_who_stops_early_leaves_no_process(tmp_path):
    paths = [Path(f"{name}.mrc") for name in "abcdefgh"]
    with closing(each(paths, Killed(tmp_path, 0), 2)) as outcomes:
        next(outcomes)
    pids = {int(pid) for note in tmp_path.iterdir() for pid in note.read_text().split()}
    assert pids
    assert not any(_lives(pid) for pid in pids)
    assert len(list(tmp_path.iterdir())) < len(paths)


def test_work_that_a_process_cannot_receive_is_an_error():
    with pytest.raises(OutputError, match="is gone"):
        list(each(PATHS, FailingToStart(OutputError("weights", "is gone")), 2))


def test_too_many_open_files_are_an_error_that_tells_what_to_do(monkeypatch):
    def too_many() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(multiprocessing.get_context("spawn"), "Pipe", too_many)
    with pytest.raises(InputError, match=r"Too many open files.*fewer --jobs"):
        list(each(PATHS, Work(), 2))


def test_all_processes_start_before_the_first_is_sent_its_work(monkeypatch):
    """Large work is sent only as fast as a process reads, which it does once it has started."""
    events = []
    start, give = _Process.__init__, _Process.give

    def started(process: _Process, *arguments: Any) -> None:
        events.append("start")
        start(process, *arguments)

    def given(process: _Process, path: Path) -> bool:
        events.append("give")
        return give(process, path)

    monkeypatch.setattr(_Process, "__init__", started)
    monkeypatch.setattr(_Process, "give", given)
    assert len(list(each(PATHS[:3], Work(), 2))) == 3
    assert events == ["start", "start", "give", "give", "give"]


def test_processes_without_work_end_when_no_more_can_be_started(monkeypatch):
    context = multiprocessing.get_context("spawn")
    pipe, made = context.Pipe, []

    def two() -> tuple:
        if len(made) == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        made.append(pipe())
        return made[-1]

    monkeypatch.setattr(context, "Pipe", two)
    with pytest.raises(InputError, match="fewer --jobs"):
        list(each(PATHS, Work(), 3))
    assert multiprocessing.active_children() == []


def test_processes_that_die_before_they_take_large_work_are_not_started_for_ever(monkeypatch):
    monkeypatch.setattr(pool, "_serve", dying)
    started, start = [], _Process.__init__

    def counted(process: _Process, *arguments: Any) -> None:
        started.append(process)
        assert len(started) < 9, "for ever"
        start(process, *arguments)

    monkeypatch.setattr(_Process, "__init__", counted)
    work: Any = partial(len, bytes(2**21))
    found = list(pool.replies(PATHS[:2], work, 2))
    assert sorted((one.path, one.value, one.deaths) for one in found) == [(path, None, 2) for path in PATHS[:2]]


def _named_too_long(path: Path) -> str:
    try:
        raise OSError(errno.ENAMETOOLONG, "File name too long")
    except OSError as error:
        raise OutputError(path, "cannot be written (File name too long)") from error


def test_a_name_that_is_too_long_is_that_file_s():
    [first, second] = each(PATHS[:2], _named_too_long)
    assert isinstance(first.error, OutputError)
    assert isinstance(second.error, OutputError)


def test_files_are_done_in_order_and_one_at_a_time():
    done = []
    outcomes = each(PATHS[:3], lambda path: done.append(path) or path.stem)
    assert not done
    assert next(outcomes).path == PATHS[0]
    assert done == PATHS[:1]


@pytest.mark.parametrize(
    ("error", "jobs"),
    [
        (OutputError("out", "is full"), 1),
        (OutputError("out", "is full"), 2),
        (ConfigError("propose.top_k", "is no number"), 1),
    ],
)
def test_what_concerns_all_files_stops_all(jobs, error):
    with pytest.raises(type(error), match=str(error)):
        list(each(PATHS, Raising(error), jobs))


def test_a_config_error_that_names_the_file_is_that_file_s():
    [outcome] = each(PATHS[:1], Raising(ConfigError(PATHS[0], "its pixel size is not known")))
    assert isinstance(outcome.error, ConfigError)


def test_processes_that_are_kept_go_over_to_other_work_also_for_a_single_file(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with closing(pool.Crew(2)) as crew:
        assert all(outcome.error is None for outcome in each(PATHS[:4], Killed(first, 0), crew))
        pids = {int(pid) for note in first.iterdir() for pid in note.read_text().split()}
        assert all(_lives(pid) for pid in pids)
        [outcome] = each(PATHS[:1], Killed(second, 0), crew)
        assert outcome.value in pids
        assert [note.name for note in second.iterdir()] == ["a"]
        # One that dies at a file, or while it waits, is replaced.
        assert len(list(each(PATHS[:4], Killed(second, 1), crew))) == 4
        os.kill(crew.processes[0].process.pid, signal.SIGKILL)
        until(lambda: not crew.processes[0].process.is_alive(), "the end of a process that waits")
        assert all(outcome.error is None for outcome in each(PATHS[:1], Killed(second, 1), crew))
        pids = {process.process.pid for process in crew.processes}
    assert not any(_lives(pid) for pid in pids)


def test_work_in_two_steps_is_kept_too():
    with closing(staying(Stepwise(), 1)) as crew:
        for paths in (PATHS[:3], PATHS[3:5], PATHS[:1]):
            found = [outcome.value for outcome in each(paths, Stepwise(), crew)]
            assert found == [path.stem.upper() for path in paths]
