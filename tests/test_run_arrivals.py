"""Which micrographs are whole: laws of the judgement, without a clock; and what a look tells of a file."""

import os
from pathlib import Path

import cv2
import mrcfile
import numpy as np
import pytest
import tifffile
from command_line import micrograph
from hypothesis import given
from hypothesis import strategies as st

from upicker.errors import ConfigError, InputError
from upicker.io.arriving import Arriving
from upicker.io.look import Look, look
from upicker.io.names import is_temporary
from upicker.run.arrivals import Arrivals, Seen

A, B = Path("a.mrc"), Path("b.mrc")
SETTLE = 30.0


def seen(arrivals: Arrivals, at: float, **looks: Look | None) -> Seen:
    return arrivals.see({Path(f"{name}.mrc"): one for name, one in looks.items() if one is not None}, at)


def done(arrivals: Arrivals, path: Path, at: float) -> None:
    known = arrivals.look_at(path)
    assert known is not None
    arrivals.tried(path, known, at, True)


states = st.tuples(st.sampled_from([3.0, 10.0, 29.0, 30.0, 41.0]), st.sampled_from([None, 1, 2]), st.booleans())


@given(st.lists(states, min_size=1, max_size=25))
def test_it_is_complete_once_it_was_the_same_and_whole_for_the_settle_time(history):
    """The oracle goes back through all looks at each time; what was done is left alone until it changes."""
    arrivals, at = Arrivals(SETTLE), 0.0
    looks: list[tuple[float, Look | None]] = []
    taken = None
    for pause, version, is_whole in history:
        at += pause
        now = None if version is None else Look(version, version, None if is_whole else "its end")
        looks.append((at, now))
        found = seen(arrivals, at, a=now)
        same = at
        for when, one in reversed(looks):
            if one != now:
                break
            same = when
        rests = now is not None and at - same >= SETTLE
        assert (A in found.complete) == (rests and is_whole and now != taken)
        assert found.arriving == (now is not None and not rests and now != taken)
        if found.complete:
            assert (A in found.again) == (taken is not None)
            done(arrivals, A, at)
            taken = now


def test_what_is_cut_short_is_told_once_it_rests_and_again_when_it_has_changed():
    arrivals = Arrivals(SETTLE)
    half, more, whole = Look(10, 1, "half"), Look(20, 2, "more than half"), Look(30, 3)
    assert seen(arrivals, 0, a=half) == Seen([], frozenset(), 1, {})
    assert seen(arrivals, 29, a=more) == Seen([], frozenset(), 1, {})
    assert seen(arrivals, 59, a=more) == Seen([], frozenset(), 0, {A: "more than half"})
    assert seen(arrivals, 99, a=more) == Seen([], frozenset(), 0, {})
    assert seen(arrivals, 100, a=half) == Seen([], frozenset(), 1, {})
    assert seen(arrivals, 130, a=half) == Seen([], frozenset(), 0, {A: "half"})
    seen(arrivals, 140, a=whole)
    assert seen(arrivals, 170, a=whole) == Seen([A], frozenset(), 0, {})


def test_what_was_done_and_vanishes_for_a_while_is_not_done_again():
    arrivals, one = Arrivals(SETTLE), Look(10, 1)
    seen(arrivals, 0, a=one)
    assert seen(arrivals, 30, a=one).complete == [A]
    done(arrivals, A, 31)
    for at in (40, 80):
        assert seen(arrivals, at) == Seen([], frozenset(), 0, {})
    for at in (90, 130):
        assert seen(arrivals, at, a=one, b=None) == Seen([], frozenset(), 0, {})


def test_what_an_earlier_run_did_is_done_unless_it_has_changed_since():
    arrivals, before, now = Arrivals(SETTLE), Look(10, 1), Look(10, 2)
    arrivals.known(A, before)
    arrivals.known(B, before)
    assert seen(arrivals, 0, a=before, b=now).arriving == 1
    assert seen(arrivals, 30, a=before, b=now) == Seen([B], frozenset({B}), 0, {})


def test_the_last_event_is_the_last_change_or_result():
    arrivals, one = Arrivals(SETTLE), Look(10, 1)
    seen(arrivals, 5)
    assert arrivals.last_event == 5
    seen(arrivals, 20, a=one)
    seen(arrivals, 90, a=one)
    assert arrivals.last_event == 20
    done(arrivals, A, 95)
    seen(arrivals, 99, a=one)
    assert arrivals.last_event == 95
    seen(arrivals, 120)
    assert arrivals.last_event == 120


def test_what_rests_is_named_so_that_it_need_not_be_opened():
    arrivals, one, half = Arrivals(SETTLE), Look(10, 1), Look(9, 1, "half")
    seen(arrivals, 0, a=one, b=half)
    assert arrivals.at_rest == {}
    seen(arrivals, 30, a=one, b=half)
    assert arrivals.at_rest == {A: one}
    done(arrivals, A, 30)
    seen(arrivals, 31, a=Look(11, 2), b=half)
    assert arrivals.at_rest == {}


PIXELS = np.random.default_rng(1).integers(1, 255, (120, 90)).astype(np.uint8)


def _mrc(path: Path) -> None:
    with mrcfile.new(path) as file:
        file.set_data(PIXELS.astype("i2"))
        file.set_extended_header(np.zeros(80, "V80")[:4])


def _tiff(path: Path) -> None:
    tifffile.imwrite(path, PIXELS)


def _movie(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        for _ in range(3):
            file.write(PIXELS, contiguous=False, metadata=None)


def _picture(path: Path) -> None:
    assert cv2.imwrite(str(path), PIXELS)


WRITERS = {"a.mrc": _mrc, "a.tif": _tiff, "movie.tif": _movie, "a.png": _picture, "a.jpg": _picture}


@pytest.mark.parametrize("name", WRITERS)
def test_a_look_tells_a_file_that_is_cut_short_or_not_filled(tmp_path, name):
    path = tmp_path / name
    WRITERS[name](path)
    content = path.read_bytes()
    at = look(path)
    assert at == Look(len(content), path.stat().st_mtime_ns)
    for part in (0, 1, 500, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:part])
        found = look(path)
        assert found is not None
        assert found.lacks, part
    path.write_bytes(content[: len(content) // 3].ljust(len(content) + 5000, b"\0"))
    found = look(path)
    assert found is not None
    assert "reserved" in str(found.lacks)
    path.unlink()
    assert look(path) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_yet_is_there(tmp_path):
    path = micrograph(tmp_path / "a.mrc")
    path.chmod(0)
    found = look(path)
    assert found is not None
    assert "Permission denied" in str(found.lacks)


def test_names_of_files_that_are_not_finished():
    for name in (".a.mrc", ".a.mrc.Xq3", "a.mrc.part", "a.tmp.mrc", "~a.mrc", "a.mrc~", "a.TEMP.tif"):
        assert is_temporary(name), name
    for name in ("a.mrc", "part.mrc", "tmp_1.mrc", "a.b.mrc"):
        assert not is_temporary(name), name


def names(source: Arriving, at: float = 0.0) -> list[str]:
    return [path.name for path in source.looks({}, at)]


def test_a_folder_that_vanishes_names_nothing_and_comes_back(tmp_path):
    mics = tmp_path / "mics"
    micrograph(mics / "m10.mrc")
    micrograph(mics / "m2.mrc")
    source = Arriving([str(mics)], tmp_path / "out", SETTLE)
    assert names(source) == ["m2.mrc", "m10.mrc"]
    mics.rename(tmp_path / "away")
    assert names(source) == []
    (tmp_path / "away").rename(mics)
    (mics / "m3.mrc").touch()
    assert names(source) == ["m2.mrc", "m3.mrc", "m10.mrc"]


def test_outputs_within_the_watched_folder_and_temporary_files_are_passed_over(tmp_path):
    for name in ("mics/a.mrc", "mics/out/a_overlay.png", "mics/.b.mrc", "mics/c.part.mrc", "mics/d.mrc.filepart"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        micrograph(tmp_path / name)
    source = Arriving([str(tmp_path / "mics"), str(tmp_path / "**" / "*")], tmp_path / "mics" / "out", SETTLE)
    assert names(source) == ["a.mrc"]


HEAD = "data_\nloop_\n_rlnMicrographName\n_rlnDefocusU\n"


def test_a_list_that_is_written_again_and_again_gives_its_finished_rows(tmp_path):
    for name in "abc":
        micrograph(tmp_path / f"{name}.mrc")
    listed = tmp_path / "micrographs_ctf.star"
    listed.write_text(HEAD + "a.mrc 15000\n")
    source = Arriving([str(listed)], tmp_path / "out", SETTLE)
    assert names(source, 0) == ["a.mrc"]
    whole = HEAD + "a.mrc 15000\nb.mrc 14000\nc.mrc 16000\n"
    for count in range(len(whole)):  # Also where it is cut within a word: nothing is lost, and no name is half of one.
        listed.write_text(whole[:count])
        assert set(names(source, count / 1000)) <= {"a.mrc", "b.mrc", "c.mrc"}
        assert "a.mrc" in names(source, count / 1000)
        assert not source.unread
    listed.write_text(whole)
    assert names(source, 1) == ["a.mrc", "b.mrc", "c.mrc"]
    assert {float((one.ctf or {})["_rlnDefocusU"]) for one in source.entries.values()} == {14000, 15000, 16000}


def test_a_list_that_stays_broken_is_told_and_one_without_a_last_line_end_is_read_when_it_rests(tmp_path):
    micrograph(tmp_path / "a.mrc")
    micrograph(tmp_path / "b.mrc")
    listed = tmp_path / "list.star"
    listed.write_text(HEAD + "a.mrc 1\nb.mrc 2")
    source = Arriving([str(listed)], tmp_path / "out", SETTLE)
    assert names(source, 0) == names(source, 29) == []
    assert names(source, 30) == ["a.mrc", "b.mrc"]
    listed.write_text(HEAD + "a.mrc 1 7 7 7\n")
    assert names(source, 40) == ["a.mrc", "b.mrc"]
    assert not source.unread
    names(source, 70)
    assert "values for 2 columns" in str(source.unread[listed])
    listed.write_text(HEAD + "a.mrc 1\n")
    names(source, 71)
    assert not source.unread


def test_a_watch_on_one_file_on_nothing_and_on_its_own_output_is_refused(tmp_path):
    path = micrograph(tmp_path / "mics" / "a.mrc")
    with pytest.raises(ConfigError, match=r"one micrograph.*pattern in quotes"):
        Arriving([str(path)], tmp_path / "out", SETTLE)
    for missing in ("mic", "mic/*.mrc", "list.star"):
        with pytest.raises(InputError, match="no such file or folder"):
            Arriving([str(tmp_path / missing)], tmp_path / "out", SETTLE)
    for pattern in ("mics", "mics/*.mrc"):
        with pytest.raises(ConfigError, match="the folder that is watched"):
            Arriving([str(tmp_path / pattern)], tmp_path / "mics", SETTLE)
    Arriving([str(tmp_path / "mics" / "*.tif")], tmp_path / "out", SETTLE)
