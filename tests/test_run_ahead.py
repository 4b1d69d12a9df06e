"""Files that are loaded in threads while another one is worked on: nothing changes but the time."""

import gc
import threading
import weakref
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from failing_work import Stepwise
from test_run_find import SCENE, picking, proposing
from waiting import until

from upicker.errors import ConfigError
from upicker.io import mrc
from upicker.run import pick, pool, propose
from upicker.run.ahead import TwoSteps, loaded_ahead
from upicker.run.batch import Outcome, each
from upicker.run.pick import readers
from upicker.simulate.scene import make

FAILING = [Path(f"{step}_{how}.mrc") for step in ("load", "finish") for how in ("bad", "bug", "huge")]
PATHS = [Path("a.mrc"), FAILING[0], FAILING[3], Path("b.mrc"), *FAILING[1:3], *FAILING[4:], Path("c.mrc")]


def about(outcome: Outcome[str]) -> tuple:
    return outcome.path, outcome.value, str(outcome.error), [str(one) for one in outcome.warnings]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("readers", [1, 3])
def test_outcomes_are_those_without_loading_ahead(jobs, readers):
    def by_path(outcomes: list[Outcome[str]]) -> list[Outcome[str]]:
        return sorted(outcomes, key=lambda outcome: outcome.path)

    expected = list(each(PATHS, Stepwise(0)))
    found = list(each(PATHS, Stepwise(readers), jobs))
    if jobs == 1:
        assert [one.path for one in found] == PATHS
    assert [about(one) for one in by_path(found)] == [about(one) for one in by_path(expected)]
    assert [one.value for one in expected if one.error is None] == ["A", "B", "C"]
    assert len(expected[0].warnings) == 2


def test_work_of_one_step_is_not_loaded_ahead():
    assert isinstance(Stepwise(), TwoSteps)
    assert not isinstance(about, TwoSteps)


@pytest.mark.parametrize("readers", [0, 1])
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("step", ["load", "finish"])
def test_what_concerns_all_files_stops_all_when_its_turn_has_come(tmp_path, readers, jobs, step):
    paths = [Path("a.mrc"), Path(f"{step}_knob.mrc"), *(Path(f"{letter}.mrc") for letter in "bcdefgh")]
    found = []
    with pytest.raises(ConfigError, match="is no number"):
        found.extend(outcome.value for outcome in each(paths, Stepwise(readers, tmp_path), jobs))
    if jobs == 1:
        assert found == ["A"]
        assert not (tmp_path / "finish b").exists()


def test_no_more_than_allowed_are_loaded_ahead_and_each_in_a_reader():
    loaded, finished = [], []

    class Recording:
        readers, gpus = 2, ()

        def load(self, path: Path) -> Path:
            assert threading.current_thread() is not threading.main_thread()
            loaded.append(path)
            assert len(loaded) <= len(finished) + 3
            return path

        def finish(self, path: Path) -> None:
            assert threading.current_thread() is threading.main_thread()
            until(lambda: len(loaded) == min(len(finished) + 3, 9), "files loaded ahead")
            finished.append(path)

        __call__ = finish

    paths = [Path(str(number)) for number in range(9)]
    assert [(one.path, one.error) for one in each(paths, Recording())] == [(path, None) for path in paths]
    assert finished == paths
    assert sorted(loaded) == paths


def test_what_was_loaded_is_kept_by_the_one_who_works_on_it_alone():
    class Thing:
        pass

    with closing(loaded_ahead([Path("a")], lambda _: Thing(), 1)) as loaded:
        thing = next(loaded)
        alive = weakref.ref(thing)
        del thing
        gc.collect()
        assert alive() is None


@pytest.mark.parametrize("readers", [1, 3])
def test_who_stops_early_leaves_no_thread(readers):
    before = threading.active_count()
    done = []
    with closing(loaded_ahead([Path(str(n)) for n in range(99)], done.append, readers)) as loaded:
        next(loaded)
    assert len(done) <= readers + 2
    until(lambda: threading.active_count() == before, "the end of the threads")


def test_ctrl_c_stops_after_what_is_being_loaded():
    loading, stop = threading.Event(), threading.Event()

    def load(path: Path) -> Path:
        if path.name == "1":
            loading.set()
            assert stop.wait(60)
        return path

    outcomes = loaded_ahead([Path("0"), Path("1"), Path("2")], load, 1)
    next(outcomes)
    assert loading.wait(60)
    threading.Timer(0.01, stop.set).start()
    with pytest.raises(KeyboardInterrupt):
        outcomes.throw(KeyboardInterrupt)


@pytest.mark.parametrize("step", ["load", "finish"])
@pytest.mark.parametrize("times", [1, 9])
def test_files_whose_process_dies_are_tried_again_alone(tmp_path, step, times):
    paths = [Path(f"{name}.mrc") for name in ("a", "b", f"{step}_kill", *"cdefghijk")]
    outcomes = {outcome.path.stem: outcome for outcome in each(paths, Stepwise(2, tmp_path, times), 2)}
    assert len(outcomes) == len(paths)
    killer = outcomes.pop(f"{step}_kill")
    assert [stem for stem, outcome in outcomes.items() if outcome.error] == []
    assert (killer.error is None) == (times == 1)
    if times == 1:
        assert "was killed" in str(killer.warnings[0])
        assert len(killer.warnings) == 3
    else:
        assert "2 times" in str(killer.error)
    # Those beside it are done again, too, and say so; the rest were done once.
    again = [stem for stem, outcome in outcomes.items() if "was killed" in str(outcome.warnings[0])]
    assert len(again) <= 2
    for stem, outcome in outcomes.items():
        assert len(outcome.warnings) == 2 + (stem in again)
        if stem not in again:
            assert len((tmp_path / f"finish {stem}").read_text().splitlines()) == 1
    pids = {note.split()[0] for file in tmp_path.iterdir() for note in file.read_text().splitlines()}
    assert len(pids) <= 2 + min(times, 2)


def test_a_file_whose_process_died_has_none_beside_it():
    paths = [Path(name) for name in "abcd"]
    line = pool._Line(pool.deque(paths), 2)
    given = [line.next_for([]), line.next_for(paths[:1])]
    assert given == paths[:2]
    assert line.take_back(paths[:2], 0) == []
    assert [line.next_for([]), line.next_for(paths[2:3])] == paths[2:]
    assert line.next_for(paths[2:]) is None
    assert line.next_for([]) == paths[0]
    assert line.next_for(paths[:1]) is None
    assert line.take_back(paths[:1], 0) == paths[:1]
    assert line.next_for([]) == paths[1]


@pytest.fixture(scope="module")
def mics(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Simulated micrographs; one file is no micrograph."""
    folder = tmp_path_factory.mktemp("mics")
    for number in range(4):
        mrc.write(folder / f"m{number}.mrc", make(SCENE, number).micrograph.pixels, SCENE.pixel_size_A)
    (folder / "m2.mrc").write_bytes(b"no micrograph")
    return sorted(folder.iterdir())


@pytest.mark.parametrize(("readers", "jobs"), [(1, 1), (3, 1), (2, 2)])
@pytest.mark.parametrize("command", ["pick", "propose"])
def test_files_are_the_same_byte_for_byte(mics, tmp_path, command, readers, jobs):
    def run(readers: int, jobs: int) -> tuple[dict[str, bytes], list[str]]:
        out = tmp_path / str(readers)
        work = picking(out, tmp_path / "m.dat") if command == "pick" else proposing(out, template=False)
        work.outputs.prepare()
        outcomes = sorted(each(mics, replace(work, readers=readers), jobs), key=lambda one: one.path)
        files = {file.name: file.read_bytes() for file in out.iterdir()}
        return files, [f"{one.path.name} {one.value and one.value.particles} {one.error}" for one in outcomes]

    expected = run(0, 1)
    assert run(readers, jobs) == expected
    assert len(expected[0]) == 3
    assert min(content.count(b"\n") for content in expected[0].values()) > 3
    assert "None" in expected[1][2]


@pytest.mark.parametrize(
    ("device", "cores", "gib", "jobs", "expected"),
    [
        ("cpu", 1, 8, 1, 1),
        ("cpu", 64, 256, 64, 1),
        ("cpu", 64, 256, 1, 1),
        # Too little memory for the process itself, and just enough.
        ("cpu", 4, 1.5, 1, 0),
        ("cpu", 4, 7, 4, 0),
        ("cpu", 4, 8, 4, 1),
        # A GPU is faster than one thread; a core is left to the thread that feeds it.
        ("cuda", 1, 64, 1, 1),
        ("cuda", 4, 64, 1, 3),
        ("cuda", 16, 256, 1, 4),
        ("cuda", 16, 256, 8, 1),
        ("cuda", 16, 4, 1, 3),
        ("cuda", 16, 1, 1, 0),
    ],
)
def test_readers_follow_the_cores_and_the_memory(monkeypatch, tmp_path, device, cores, gib, jobs, expected):
    monkeypatch.setattr(pick, "cores", lambda: cores)
    monkeypatch.setattr(pick, "memory_bytes", lambda: int(gib * 2**30))
    picker = picking(tmp_path, tmp_path / "m.dat").picker
    picker.device = device
    assert readers(picker, jobs) == expected
    if device == "cpu":
        assert picking(tmp_path, tmp_path / "m.dat").for_processes(jobs).readers == expected
    monkeypatch.setattr(propose, "memory_bytes", lambda: int(gib * 2**30))
    assert proposing(tmp_path).for_processes(jobs).readers == min(1, expected)
