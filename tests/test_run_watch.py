"""A watch: files are written while it looks, by a clock of the test's own, so that nothing depends on the machine."""

import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from command_line import micrograph, stopped, upicker

from upicker.config import Config
from upicker.errors import ConfigError
from upicker.io import mrc
from upicker.io.arriving import Arriving
from upicker.io.micrographs import Reading
from upicker.run import entries, record
from upicker.run.find import find_all
from upicker.run.outputs import Outputs
from upicker.run.propose import Proposing
from upicker.run.watch import Left, Task, Terms, Watch
from upicker.units import Length

SETTLE = 30.0
CONFIG = Config().with_changes({"image.mask": False, "propose.mask": False, "propose.template": False})
Writer = Iterator[float]


@dataclass
class Clock:
    """A clock that goes on when it is slept by, and what happens meanwhile: writers, which yield their pauses."""

    now: float = 1000.0
    due: list[tuple[float, Writer]] = field(default_factory=list)

    def starts(self, writer: Writer, after_s: float = 0.0) -> None:
        self.due.append((self.now + after_s, writer))

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while self.due and (first := min(self.due, key=lambda one: one[0]))[0] <= end:
            self.due.remove(first)
            self.now = max(self.now, first[0])
            if (pause := next(first[1], None)) is not None:
                self.due.append((self.now + pause, first[1]))
        self.now = end


def appended(path: Path, content: bytes, pieces: int, pause: float) -> Writer:
    """Write a file piece by piece."""
    size = -(-len(content) // pieces)
    for start in range(0, len(content), size):
        with path.open("ab") as file:
            file.write(content[start : start + size])
        yield pause


def reserved(path: Path, content: bytes, pieces: int, pause: float) -> Writer:
    """Reserve the space of a file, then fill it from the front."""
    with path.open("wb") as file:
        file.truncate(len(content))
    yield pause
    size = -(-len(content) // pieces)
    for start in range(0, len(content), size):
        with path.open("r+b") as file:
            file.seek(start)
            file.write(content[start : start + size])
        yield pause


def renamed(path: Path, content: bytes, pieces: int, pause: float) -> Writer:
    """Write to a temporary file, and rename it at the end."""
    temporary = path.with_name(f"{path.stem}.tmp{path.suffix}")
    yield from appended(temporary, content, pieces, pause)
    temporary.rename(path)


def at_once(path: Path, content: bytes) -> Writer:
    path.write_bytes(content)
    yield 0.0


@dataclass
class Run:
    """A watch of a folder, and what it said."""

    folder: Path
    out: Path
    clock: Clock = field(default_factory=Clock)
    idle_s: float = 600.0
    config: Config = CONFIG
    least: int = 1
    jobs: int = 1
    rounds: list[list[str]] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: Left = field(default_factory=Left)
    after: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.work = Proposing(Length(24, "px"), Outputs(self.out), self.config)

    def task(self) -> Task:
        return Task(
            Arriving([str(self.folder)], self.out, SETTLE),
            lambda listed: self.work.outputs,
            lambda there, first: (self.work, self.jobs),
            lambda work, listed: work,
            self.least,
            lambda listed: self.after.append([one.path.stem for one in listed]),
        )

    def watch(self, each: Callable[[str], object] = lambda name: None) -> None:
        terms = Terms(10.0, SETTLE, self.idle_s, self.out / "STOP")
        watch = Watch(self.task(), terms, lambda: self.clock.now, self.clock.sleep)
        for one in watch.rounds():
            self.again += [path.stem for path in one.again]
            outcomes = []
            for outcome in one.outcomes:
                self.failed.pop(outcome.path.stem, None)
                if outcome.error is None:
                    outcomes.append(outcome.path.stem)
                else:
                    self.failed[outcome.path.stem] = str(outcome.error)
                each(outcome.path.stem)
            self.rounds.append(outcomes)
        self.left = watch.left


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The bytes of eight small micrographs."""
    folder = tmp_path_factory.mktemp("made")
    return {f"m{i}": micrograph(folder / f"m{i}.mrc", i).read_bytes() for i in range(8)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "mics").mkdir()
    return Run(tmp_path / "mics", tmp_path / "out")


def picked(folder: Path) -> dict[str, bytes]:
    return {file.stem: file.read_bytes() for file in folder.glob("*.csv")}


def plain(contents: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """What a run over the whole files writes."""
    for name, content in contents.items():
        (folder / "whole").mkdir(parents=True, exist_ok=True)
        (folder / "whole" / f"{name}.mrc").write_bytes(content)
    work = Proposing(Length(24, "px"), Outputs(folder / "plain"), CONFIG)
    assert all(one.error is None for one in find_all(sorted((folder / "whole").iterdir()), work))
    return picked(folder / "plain")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each micrograph is read."""
    counts, by_rows = Counter(), Reading.by_rows

    def counted(reading: Reading, path: Path) -> object:
        counts[path.stem] += 1
        return by_rows(reading, path)

    monkeypatch.setattr(Reading, "by_rows", counted)
    return counts


def test_no_writer_is_ever_read_half(run, contents, tmp_path, reads):
    """Each writes for much longer than the settle time, and pauses for less."""
    writers = (appended, reserved, renamed)
    for number, (name, content) in enumerate(contents.items()):
        writer = writers[number % 3](run.folder / f"{name}.mrc", content, 9 + number, 29.0)
        run.clock.starts(writer, 17.0 * number)
    run.watch()
    assert run.failed == {}
    assert run.again == []
    assert reads == dict.fromkeys(contents, 1)
    assert sorted(name for one in run.rounds for name in one) == sorted(contents)
    assert Counter(entry.name for entry in entries.read(run.out)) == dict.fromkeys(contents, 1)
    assert picked(run.out) == plain(contents, tmp_path)
    assert run.after[-1] == [name for one in run.rounds for name in one]


def test_a_file_that_is_cut_short_is_told_when_it_rests_and_done_when_it_is_whole(run, contents, reads):
    path = run.folder / "m0.mrc"

    def writer() -> Writer:
        yield from appended(path, contents["m0"][:-5000], 4, 20.0)
        assert not run.failed
        yield 2 * SETTLE
        assert "truncated" in run.failed["m0"]
        with path.open("ab") as file:
            file.write(contents["m0"][-5000:])

    run.clock.starts(writer())
    run.watch()
    assert run.failed == {}
    assert run.rounds == [[], ["m0"]]
    assert reads == {"m0": 1}


def test_a_file_that_changes_after_it_was_done_is_done_again_and_said(run, contents, tmp_path):
    path = run.folder / "m0.mrc"

    def writer() -> Writer:
        path.write_bytes(contents["m1"])
        yield 100.0
        assert run.rounds == [["m0"]]
        yield from reserved(path, contents["m0"], 5, 20.0)

    run.clock.starts(writer())
    run.watch()
    assert (run.rounds, run.again, run.failed) == ([["m0"], ["m0"]], ["m0"], {})
    assert picked(run.out) == plain({"m0": contents["m0"]}, tmp_path)


def test_a_file_that_is_cut_short_while_it_is_read_is_tried_again(run, contents, tmp_path, monkeypatch):
    path, by_rows = run.folder / "m0.mrc", Reading.by_rows
    cuts = [1, 2]

    def cutting(reading: Reading, file: Path) -> object:
        if cuts:
            path.write_bytes(contents["m0"][: -100 * cuts.pop()])
            run.clock.starts(at_once(path, contents["m0"]), 5.0)
        return by_rows(reading, file)

    monkeypatch.setattr(Reading, "by_rows", cutting)
    run.clock.starts(at_once(path, contents["m0"]))
    run.watch()
    assert not cuts
    assert run.failed == {}
    assert [one for one in run.rounds if one] == [["m0"]]
    assert picked(run.out) == plain({"m0": contents["m0"]}, tmp_path)


def test_a_file_that_fails_is_told_and_left_alone_until_it_changes(run, contents, reads):
    path = run.folder / "m0.mrc"
    mrc.write(path, np.ones((10, 10)))

    def mended() -> Writer:
        assert "10 rows" in run.failed["m0"]
        path.write_bytes(contents["m0"])
        yield 0.0

    run.clock.starts(mended(), 200.0)
    run.watch()
    assert (run.failed, reads["m0"]) == ({}, 2)
    assert run.again == []


def test_a_folder_that_vanishes_is_waited_for(run, contents):
    away = run.folder.with_name("away")

    def meanwhile() -> Writer:
        run.folder.rename(away)
        yield 100.0
        away.rename(run.folder)
        (run.folder / "m1.mrc").write_bytes(contents["m1"])

    (run.folder / "m0.mrc").write_bytes(contents["m0"])
    run.clock.starts(meanwhile(), 100.0)
    run.watch()
    assert (run.rounds, run.failed, run.again) == ([["m0"], ["m1"]], {}, [])


def test_it_does_not_end_while_a_file_is_written_nor_before_its_time(run, contents):
    run.idle_s = 45.0
    start = run.clock.now
    run.clock.starts(appended(run.folder / "m0.mrc", contents["m0"], 40, 25.0))
    run.watch()
    assert run.rounds == [["m0"]]
    assert 40 * 25 + SETTLE <= run.clock.now - start <= 40 * 25 + SETTLE + 45 + 30


def test_the_stop_file_ends_it_when_what_is_there_is_done(run, contents):
    run.idle_s = 1e6

    def stop() -> Writer:
        (run.folder / "m0.mrc").write_bytes(contents["m0"])
        (run.out / "STOP").touch()
        run.clock.starts(at_once(run.folder / "m1.mrc", contents["m1"]), 25.0)
        yield 0.0

    run.clock.starts(stop(), 100.0)
    run.watch()
    assert run.rounds == [["m0"]]
    assert run.left == Left(1, 0, 0)
    assert not (run.out / "STOP").exists()
    (run.out / "STOP").touch()
    with pytest.raises(ConfigError, match="Remove it"):
        run.watch()


def test_a_first_round_waits_for_enough_and_a_template_is_frozen(run, contents, tmp_path):
    run.config, run.least = CONFIG.with_changes({"propose.template": True}), 5
    run.__post_init__()
    for number, (name, content) in enumerate(contents.items()):
        run.clock.starts(at_once(run.folder / f"{name}.mrc", content), 100.0 * number)
    run.watch()
    assert [len(one) for one in run.rounds] == [5, 1, 1, 1]
    profile = record.read(run.out).knobs["propose.profile"]
    assert isinstance(profile, list)
    assert profile
    work = Proposing(Length(24, "px"), Outputs(tmp_path / "first"), run.config)
    list(find_all([run.folder / f"m{i}.mrc" for i in range(5)], work))
    assert record.read(tmp_path / "first").knobs["propose.profile"] == profile
    few = Run(run.folder, tmp_path / "few", least=9)
    few.watch()
    assert [len(one) for one in few.rounds] == [8], "no more came"


def test_two_names_that_share_an_output_are_told(run, contents):
    run.clock.starts(at_once(run.folder / "m0.mrc", contents["m0"]))
    run.clock.starts(at_once(run.folder / "m0.map", contents["m1"]), 100.0)
    run.watch()
    assert run.rounds == [["m0"], []]
    assert "those of" in run.failed["m0"]
    assert "same name" in run.failed["m0"]


def test_restarted_it_goes_on_and_notices_what_has_changed_meanwhile(run, contents, tmp_path, reads):
    for name in ("m0", "m1", "m2"):
        (run.folder / f"{name}.mrc").write_bytes(contents[name])

    def killed(name: str) -> None:
        if name == "m1":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.watch(killed)
    assert run.after[-1] == ["m0", "m1", "m2"]
    assert set(picked(run.out)) == {"m0", "m1"}
    (run.folder / "m0.mrc").write_bytes(contents["m3"] + b"1")
    more = Run(run.folder, run.out, run.clock)
    more.watch()
    assert more.rounds == [["m0", "m2"]]
    assert more.again == ["m0"]
    assert (reads["m0"], reads["m1"]) == (2, 1)
    now = {"m0": contents["m3"], "m1": contents["m1"], "m2": contents["m2"]}
    assert picked(run.out) == plain(now, tmp_path)


def test_rounds_share_their_processes(run, contents, monkeypatch):
    """Each round is done by the same two processes, also one of a single micrograph."""
    from upicker.run import pool

    started, start = [], pool.Crew.start
    monkeypatch.setattr(pool.Crew, "start", lambda crew, *more: started.append(1) or start(crew, *more))
    run.jobs = 2
    for number, (name, content) in enumerate(contents.items()):
        run.clock.starts(at_once(run.folder / f"{name}.mrc", content), 100.0 * max(0, number - 3))
    run.watch()
    assert [len(one) for one in run.rounds] == [4, 1, 1, 1, 1]
    assert len(started) == 2
    assert run.failed == {}
    assert set(picked(run.out)) == set(contents)


WATCH = ("--watch", "--poll", "50ms", "--settle", "200ms")
PROPOSE = ("propose", "mics", "-o", "out", "--diameter", "24px", "--no-mask", "--set", "propose.template=false")


@pytest.fixture
def mics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("mics").mkdir()
    for name, content in contents.items():
        Path(f"mics/{name}.mrc").write_bytes(content)
    return tmp_path / "mics"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_by_a_signal_and_started_again_it_goes_on(capsys, mics, contents, tmp_path, number):
    code, err = stopped([*PROPOSE, *WATCH], number, lambda: Path("out/m3.csv").exists())
    assert code == {signal.SIGINT: 0, signal.SIGTERM: 143, signal.SIGKILL: -9}[number], err
    assert "Traceback" not in err
    code, out, err = upicker(capsys, *PROPOSE, *WATCH, "--idle", "500ms")
    assert code == 0, err
    assert "were done before" in out
    assert picked(tmp_path / "out") == plain(contents, tmp_path)
    assert [entry.name for entry in record.read(tmp_path / "out").micrographs] == sorted(contents)
