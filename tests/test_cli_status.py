"""What scripts and people are told of a run: ``status``, ``--json``, ``--log-file``, ``-q`` and ``-v``."""

import json
import os
import shutil
from pathlib import Path

import pytest
from command_line import CENTRES, DIAMETER, TOY, environment, micrograph, upicker
from waiting import until

from upicker.cli.app import USAGE, name_of
from upicker.io import coordinates
from upicker.particles import Particles
from upicker.run import entries

PROPOSE = ("--diameter", f"{DIAMETER}px", "--set", "propose.mask=false", "--set", "image.mask=false")


@pytest.fixture
def mics(tmp_path: Path) -> Path:
    """Three micrographs, and a file that is none."""
    folder = tmp_path / "mics"
    for number in range(3):
        micrograph(folder / f"m{number}.mrc", number)
    (folder / "m3.mrc").write_bytes(b"nothing")
    return folder


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict, str]:
    """Run a command with --json: exit code, the object, and the standard error."""
    code, out, err = upicker(capsys, *arguments, "--json")
    assert out.count("\n") == 1

    def refused(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return code, json.loads(out, parse_constant=refused), err


def test_a_run_is_told_as_one_object_with_what_failed(mics, tmp_path, capsys):
    out = tmp_path / "out"
    code, found, err = told(capsys, "propose", mics, "-o", out, *PROPOSE)
    assert code == found["exit_code"] == 3
    assert found["result"] == "proposed"
    assert found["micrographs"] == {"total": 4, "done": 3, "failed": 1}
    assert found["particles"] == sum(len(coordinates.read(file)) for file in out.glob("*.csv"))
    assert [one["path"] for one in found["failures"]] == [str(mics / "m3.mrc")]
    assert found["failures"][0]["why"] in err
    assert "proposed: " in err


def test_status_tells_settings_counts_and_failures_until_they_are_mended(mics, tmp_path, capsys):
    out = tmp_path / "out"
    assert upicker(capsys, "propose", mics, "-o", out, *PROPOSE)[0] == 3
    code, found, _ = told(capsys, "status", out)
    assert code == 0
    assert (found["of"], found["total"], found["done"], found["running"]) == ("propose", 4, 3, [])
    assert found["about"]["diameter"] == f"{DIAMETER:g}px"
    assert found["knobs"]["propose.mask"] is False
    assert [one["path"] for one in found["failures"]] == [str(mics / "m3.mrc")]
    _, text, err = upicker(capsys, "status", out)
    assert "done: 3 of 4 micrographs" in text
    assert "failed: 1 micrographs" in err
    assert f"{mics / 'm3.mrc'}: " in err
    micrograph(mics / "m3.mrc", 3)
    assert upicker(capsys, "propose", mics, "-o", out, *PROPOSE, "--skip-existing")[0] == 0
    _, found, _ = told(capsys, "status", out)
    assert (found["total"], found["done"], found["failures"]) == (4, 4, [])


def test_status_tells_what_runs_now_and_notices_that_it_was_killed(mics, tmp_path, capsys):
    import signal
    import subprocess
    import sys

    out = tmp_path / "out"
    (mics / "m3.mrc").unlink()
    for number in range(3, 60):
        shutil.copy(mics / "m0.mrc", mics / f"m{number}.mrc")
    command = [sys.executable, "-m", "upicker", "propose", str(mics), "-o", str(out), *PROPOSE, "--overlay", "-q"]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
        until(lambda: len(list(out.glob("*.csv"))) > 3 or process.poll() is not None, "the first results")
        _, found, _ = told(capsys, "status", out)
        os.kill(process.pid, signal.SIGKILL)
    (one,) = found["running"]
    assert one["todo"] == found["total"] == 60
    assert 2 < one["done"] < 60
    assert one["seconds_left"] > 0
    assert told(capsys, "status", out)[1]["running"] == []


def test_a_run_of_another_machine_is_taken_for_ended_when_it_has_been_silent_for_long(mics, tmp_path, capsys):
    out = tmp_path / "out"
    assert upicker(capsys, "propose", mics / "m0.mrc", "-o", out, *PROPOSE)[0] == 0
    file = entries.files(out)[0]
    lines = [line for line in file.read_text().splitlines() if "ended" not in line]
    lines[0] = lines[0].replace('"todo": 1', '"todo": 9')
    other = file.with_name("run-20300101T000000.000000-elsewhere-000000.jsonl")
    other.write_text("\n".join(lines) + "\n")
    assert len(told(capsys, "status", out)[1]["running"]) == 1
    os.utime(other, (0, 0))
    assert told(capsys, "status", out)[1]["running"] == []


def test_where_nothing_ran_is_an_error(tmp_path, capsys):
    for where in (tmp_path, tmp_path / "none"):
        code, found, err = told(capsys, "status", where)
        assert code == found["exit_code"] == 1
        assert found["error"]["where"] == str(where)
        assert str(where) in err


def test_status_of_a_training(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        micrograph(Path("mics") / f"m{number}.mrc", number)
        coordinates.write(Path("labels") / f"m{number}.csv", Particles.of(CENTRES, DIAMETER), "csv")
    knobs = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]
    words = ["finetune", "mics", "--labels", "labels", "--init", "none", "-o", "w/m.safetensors", *knobs]
    assert upicker(capsys, *words)[0] == 0
    _, found, _ = told(capsys, "status", "w/m.safetensors")
    assert (found["kind"], found["state"], found["stage"]) == ("training", "finished", "finetune")
    assert found["step"] == found["steps"] == 4
    Path("w/m.checkpoint").touch()
    assert told(capsys, "status", "w")[1]["state"] == "interrupted"
    assert "--resume" in upicker(capsys, "status", "w/m.safetensors")[1]


def test_scores_are_told_without_what_json_lacks(tmp_path, capsys):
    for folder, some in (("labels", 5), ("picks", 4)):
        particles = Particles.of(CENTRES[:some], DIAMETER, 0.5 if folder == "picks" else 1.0)
        coordinates.write(tmp_path / folder / "m0.csv", particles, "csv")
    coordinates.write(tmp_path / "labels" / "m1.csv", Particles.of([]), "csv")
    code, found, _ = told(capsys, "evaluate", tmp_path / "labels", tmp_path / "picks")
    assert code == 0
    assert found["micrographs"]["m0"]["recall"] == 0.8
    assert found["all"]["labels"] == 5
    assert found["without_picks"] == ["m1"]


@pytest.mark.parametrize("words", [["propose", "--json"], ["propose", "nowhere", "-o", "x", *PROPOSE]])
def test_errors_are_told_as_an_object_too(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, found, _ = told(capsys, *words)
    assert code == found["exit_code"] in (1, 2)
    assert found["error"]["what"]


def test_the_log_file_has_what_is_printed_with_its_beginning_and_end(mics, tmp_path, capsys):
    log = tmp_path / "logs" / "upicker.log"
    for _ in range(2):
        code, text, err = upicker(capsys, "propose", mics, "-o", tmp_path / "out", *PROPOSE, "--log-file", log, "-v")
    lines = log.read_text().splitlines()
    assert "m0.mrc: 5 particles" in err or "m0.mrc: " in err
    for printed in (*text.splitlines(), *err.splitlines()):
        assert any(line.endswith(printed.rstrip()) for line in lines), printed
    assert sum("INFO    upicker " in line for line in lines) == 2
    assert sum(f"exit code {code} after" in line for line in lines) == 2
    assert any("ERROR   Skipped" in line for line in lines)


def test_a_log_file_that_cannot_be_written_is_an_error_before_the_work(mics, tmp_path, capsys):
    code, _, err = upicker(capsys, "propose", mics, "-o", tmp_path / "out", *PROPOSE, f"--log-file={mics}")
    assert code == 2
    assert f"{mics}: cannot be written" in err
    assert not (tmp_path / "out").exists()


def test_quiet_prints_results_and_errors_only(mics, tmp_path, capsys):
    code, text, err = upicker(capsys, "-q", "propose", mics, "-o", tmp_path / "out", *PROPOSE)
    assert code == 3
    assert text.startswith("proposed: ")
    assert "Skipped" in err


def test_commands_have_no_such_options_of_their_own(capsys):
    for command in USAGE:
        own = upicker(capsys, name_of(command), "--help")[1].rpartition("All commands:")[0]
        assert not {"-q", "-v", "--quiet", "--verbose", "--log-file"} & set(own.split())
