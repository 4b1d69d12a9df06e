"""The page that follows a run."""

import shutil
from pathlib import Path

import pytest
from command_line import DIAMETER, micrograph, upicker

from upicker.report import live
from upicker.run import entries
from upicker.run.entries import Entry, Journal

PROPOSE = ("--diameter", f"{DIAMETER}px", "--set", "propose.mask=false")


@pytest.fixture
def out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder in which a micrograph was done, and one has failed."""
    micrograph(tmp_path / "mics" / "m0.mrc")
    (tmp_path / "mics" / "bad.mrc").write_bytes(b"<script>")
    assert upicker(capsys, "propose", tmp_path / "mics", "-o", tmp_path / "out", *PROPOSE)[0] == 3
    return tmp_path / "out"


def test_a_run_that_has_ended_is_shown_once(out, tmp_path, capsys):
    page = tmp_path / "live.html"
    code, text, _ = upicker(capsys, "report", out, "-o", page, "--live")
    assert code == 0
    assert f"-> {page}" in text
    content = page.read_text()
    assert "Nothing runs any more" in content
    assert "of 2" in content
    assert "bad.mrc" in content
    assert 'http-equiv="refresh"' not in content
    assert "<script" not in content
    assert "http" not in content.replace("http-equiv", "")


def test_while_a_run_goes_on_the_browser_loads_it_anew(out, tmp_path):
    journal = Journal(out)
    journal.begin("propose", 9, 9)
    journal.append([Entry("m0", path="m0.mrc", particles=7)])
    found = live.follow(out, tmp_path / "live.html", 30)
    assert found.is_running
    content = (tmp_path / "live.html").read_text()
    assert '<meta http-equiv="refresh" content="30">' in content
    assert "of 9" in content
    journal.close()
    assert not live.follow(out, tmp_path / "live.html", 30).is_running


def test_micrographs_are_in_the_order_in_which_they_were_done_last(out):
    journal = Journal(out)
    journal.append([Entry(name, particles=number) for number, name in enumerate(("z", "a", "m0", "z"))])
    journal.close()
    assert [(one.name, one.particles) for one in entries.in_order(out)] == [("a", 1), ("m0", 2), ("z", 3)]


def test_scores_and_usable_area_are_noted(tmp_path, capsys):
    micrograph(tmp_path / "mics" / "m0.mrc")
    words = ("propose", tmp_path / "mics", "-o", tmp_path / "out", "--diameter", f"{DIAMETER}px")
    assert upicker(capsys, *words)[0] == 0
    (one,) = entries.read(tmp_path / "out")
    assert one.median_score is not None
    assert one.usable is not None
    assert 0 < one.usable <= 1
    content = live.render(live.follow(tmp_path / "out", tmp_path / "x.html", 9), 9)
    for title in ("Particles of each micrograph", "Median score", "Usable area"):
        assert title in content


def test_ctrl_c_ends_it_without_an_error_and_a_folder_that_vanishes_with_one(out, tmp_path, capsys, monkeypatch):
    from upicker.cli import live as following

    journal = Journal(out)
    journal.begin("propose", 9, 9)
    journal.append([Entry("m0", particles=7)])

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(following.time, "sleep", interrupted)
    assert upicker(capsys, "report", out, "-o", tmp_path / "a.html", "--live")[0] == 0
    monkeypatch.setattr(following.time, "sleep", lambda seconds: shutil.rmtree(out))
    code, _, err = upicker(capsys, "report", out, "-o", tmp_path / "b.html", "--live")
    assert code == 1
    assert f"{out}: it was removed" in err


def test_it_waits_for_a_folder_and_refuses_what_cannot_be_written(out, tmp_path, capsys, monkeypatch):
    from upicker.cli import live as following

    later = tmp_path / "later"
    monkeypatch.setattr(following.time, "sleep", lambda seconds: shutil.copytree(out, later))
    code, _, err = upicker(capsys, "report", later, "-o", tmp_path / "a.html", "--live")
    assert code == 0
    assert f"waiting for a run in {later}" in err
    code, _, err = upicker(capsys, "report", out, "-o", tmp_path, "--live")
    assert code == 1
    assert "it is a folder" in err
