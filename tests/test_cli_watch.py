"""``--watch`` on the command line; the time is the test's own, see tests/test_run_watch.py."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import starfile
from command_line import micrograph, upicker
from test_run_watch import Clock, Writer, appended, at_once, reserved

from upicker.io import coordinates
from upicker.report import live
from upicker.run import decoys, record, relion
from upicker.run import watch as run_watch
from upicker.run.watch import Watch
from upicker.units import Length


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Clock:
    one = Clock()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_watch, "Watch", lambda task, terms: Watch(task, terms, lambda: one.now, one.sleep))
    Path("mics").mkdir()
    return one


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("made")
    return {f"m{i}": micrograph(folder / f"m{i}.mrc", i).read_bytes() for i in range(8)}


def arriving(clock: Clock, contents: dict[str, bytes], every_s: float = 100.0) -> None:
    for number, (name, content) in enumerate(contents.items()):
        clock.starts(at_once(Path(f"mics/{name}.mrc"), content), every_s * number)


PICK = ("pick", "mics", "-o", "out", "--fast", "--watch", "--idle", "10min")


def test_picks_as_they_arrive_are_those_of_a_run_over_all(capsys, clock, contents):
    arriving(clock, contents)
    clock.starts(appended(Path("mics/m8.mrc"), contents["m1"], 12, 25.0))
    clock.starts(reserved(Path("mics/m9.mrc"), contents["m2"], 12, 25.0))
    code, out, err = upicker(capsys, *PICK, "--diameter", "24px", "--jobs", 1)
    assert (code, err) == (0, "")
    assert "in 10 micrographs -> out" in out
    assert upicker(capsys, "pick", "mics", "-o", "all", "--fast", "--diameter", "24px", "--jobs", 1)[0] == 0
    for file in [*Path("all").glob("*.csv"), *Path("all").glob("*.star")]:
        assert (Path("out") / file.name).read_bytes() == file.read_bytes()
    assert len(record.read(Path("out")).micrographs) == 10
    code, out, _ = upicker(capsys, *PICK, "--diameter", "24px")
    assert code == 0
    assert "10 were done before" in out


def test_a_report_follows_and_says_when_it_has_ended(capsys, clock, contents, monkeypatch):
    written: list[tuple[int, bool]] = []

    def follow(folder: Path, path: Path, every_s: float) -> live.Following:
        found = live_follow(folder, path, every_s)
        written.append((found.status.done, found.is_running))
        return found

    live_follow = live.follow
    monkeypatch.setattr(live, "follow", follow)
    arriving(clock, {name: contents[name] for name in ("m0", "m1", "m2")})
    arguments = ("propose", "mics", "-o", "out", "--diameter", "24px", "--set", "propose.template=false", "--jobs", 1)
    arguments += ("--watch", "--idle", "10min", "--report", "live.html")
    assert upicker(capsys, *arguments)[::2] == (0, "")
    assert written == [(1, True), (2, True), (3, True), (3, False)]
    assert 'http-equiv="refresh"' not in Path("live.html").read_text()
    Path("live.html").unlink()
    Path("live.html").mkdir()
    clock.starts(at_once(Path("mics/m6.mrc"), contents["m6"]))
    code, out, err = upicker(capsys, *arguments)
    assert code == 0
    assert "live.html" in err
    assert "The watch goes on" in err
    assert "3 were done before" in out


def test_diameter_and_threshold_are_found_once_by_the_first_ones(capsys, clock, contents, monkeypatch):
    looked_at: list[int] = []

    def found(picker: object, paths: list[Path], reading: object) -> SimpleNamespace:
        looked_at.append(len(paths))
        return SimpleNamespace(diameter=Length(24, "px"))

    def choose(work: object, paths: list[Path], fdr: float, tell: object) -> decoys.Choice:
        looked_at.append(len(paths))
        return decoys.Choice(fdr, 0.25, decoys.WANTED, 0.01, 90, 1, 8)

    monkeypatch.setattr("upicker.cli.size.followed", found)
    monkeypatch.setattr(decoys, "choose", choose)
    some = {name: contents[name] for name in ("m0", "m1", "m2", "m3", "m4", "m5")}
    arriving(clock, some)
    code, out, err = upicker(capsys, *PICK)
    assert (code, err, looked_at) == (0, "", [5])
    assert "5 micrographs" in out
    assert record.read(Path("out")).diameter == Length(24, "px")
    clock.starts(at_once(Path("mics/m6.mrc"), contents["m6"]))
    code, out, err = upicker(capsys, *PICK)
    assert (code, err, looked_at) == (0, "", [5])
    assert "7 micrographs" in out or "6 were done before" in out
    arriving(clock, contents)
    again = [word if word != "out" else "fdr" for word in PICK]
    code, out, err = upicker(capsys, *again, "--diameter", "24px", "--fdr", "0.05")
    assert (code, looked_at) == (0, [5, 8]), err
    assert record.read(Path("fdr")).threshold == 0.25


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["mics", "-o", "out", "--poll", "5s"], 2, "--poll: it has no effect without --watch"),
        (["mics", "-o", "out", "--watch", "--settle", "30"], 2, "has no unit"),
        (["mics", "-o", "mics", "--watch"], 2, "the folder that is watched"),
        (["mics/m0.mrc", "-o", "out", "--watch"], 2, "one micrograph"),
        (["mic", "-o", "out", "--watch"], 1, "no such file or folder"),
    ],
)
def test_a_watch_that_cannot_be_is_refused(capsys, clock, contents, arguments, code, message):
    Path("mics/m0.mrc").write_bytes(contents["m0"])
    found, _, err = upicker(capsys, "propose", *arguments, "--diameter", "24px")
    assert found == code
    assert message in err


def test_other_settings_than_those_of_the_folder_are_refused_at_once(capsys, clock, contents):
    Path("mics/m0.mrc").write_bytes(contents["m0"])
    propose = ("propose", "mics", "-o", "out", "--no-mask", "--top-k", 5, "--watch", "--idle", "10min")
    assert upicker(capsys, *propose, "--diameter", "24px")[0] == 0
    code, _, err = upicker(capsys, *propose, "--diameter", "30px")
    assert code == 2
    assert "--watch: out holds results with another diameter" in err


def test_failures_that_stay_are_counted_and_those_that_were_mended_are_not(capsys, clock, contents):
    def writer() -> Writer:
        Path("mics/m0.mrc").write_bytes(contents["m0"][:-9])
        Path("mics/m1.mrc").write_bytes(contents["m1"][:-9])
        yield 100.0
        Path("mics/m1.mrc").write_bytes(contents["m1"])

    clock.starts(writer())
    propose = ("propose", "mics", "-o", "out", "--no-mask", "--diameter", "24px", "--watch", "--idle", "10min")
    code, out, err = upicker(capsys, *propose)
    assert code == 3
    assert "Skipped mics/m1.mrc" in err
    assert "1 micrographs failed: m0.mrc" in err
    assert "in 1 micrographs -> out" in out


HEAD = "data_\nloop_\n_rlnMicrographName\n_rlnMicrographPixelSize\n"
JOB = ("relion-job", "--in_mics", "ctf.star", "--o", "External/job012/", "--model", "none", "--diameter", "48A")


def lists(job: Path) -> list[str]:
    table = starfile.read(job / "autopick.star", always_dict=True)["coordinate_files"]
    return [] if table.empty else table.rlnMicrographName.tolist()


def test_a_job_of_relion_follows_its_list_and_lists_what_is_done_after_each_round(capsys, clock, contents, monkeypatch):
    job, listed = Path("External/job012"), []
    write = relion.write_lists
    monkeypatch.setattr(relion, "write_lists", lambda one: write(one) or listed.append(lists(job)))
    names = [f"mics/{name}.mrc" for name in contents]

    def writer() -> Iterator[float]:
        for count in range(1, len(names) + 1):
            Path(names[count - 1]).write_bytes(contents[Path(names[count - 1]).stem])
            rows = "".join(f"{name} {2 if name < 'mics/m6' else 3}.0\n" for name in names[:count])
            Path("ctf.star").write_text(HEAD + rows[:-9])  # cut within a row
            yield 12.0
            Path("ctf.star").write_text(HEAD + rows)
            yield 50.0

    Path("ctf.star").touch()
    clock.starts(writer())
    code, _, err = upicker(capsys, *JOB, "--watch", "--idle", "10min", "--set", "propose.template=false")
    assert (code, err) == (0, "")
    assert listed == [names[:count] for count in (*range(1, 9), 8)]
    assert (job / relion.SUCCESS).exists()
    sizes = {entry.name: entry.pixel_size_A for entry in record.read(job).micrographs}
    assert sizes == {name: 2.0 if name < "m6" else 3.0 for name in contents}
    assert all(len(coordinates.read(job / f"mics/{name}_autopick.star")) for name in contents)


def test_a_job_of_relion_that_is_aborted_while_it_waits_stops(capsys, clock, contents):
    def writer() -> Iterator[float]:
        yield 100.0
        Path("External/job012", relion.ABORT_NOW).touch()

    Path("mics/m0.mrc").write_bytes(contents["m0"])
    Path("ctf.star").write_text(f"{HEAD}mics/m0.mrc 2.0\n")
    clock.starts(writer())
    code, _, _ = upicker(capsys, *JOB, "--watch", "--set", "propose.template=false")
    assert code == 1
    job = Path("External/job012")
    assert (job / relion.ABORTED).exists()
    assert lists(job) == ["mics/m0.mrc"]
    code, _, err = upicker(capsys, *JOB, "--watch", "--redo")
    assert code == 2
    assert "--redo" in err
