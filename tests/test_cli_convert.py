"""``upicker convert``: between formats, frames and names; what it says, and what it refuses."""

import gzip
import inspect
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from command_line import environment, upicker

from upicker.cli.convert import convert
from upicker.errors import MicrographError
from upicker.io import coordinates, micrographs, mrc
from upicker.io.picks import FLIPS, Picks, ReadOptions
from upicker.particles import Particles

ROWS, COLUMNS = 230, 310
NAMES = ("mic001", "mic002")
XY = {
    "mic001": np.array([[50.25, 40.5], [150.0, 60.75], [260.5, 5.0]]),
    "mic002": np.array([[90.0, 170.0], [240.125, 228.5]]),
}
SCORES = {"mic001": np.array([0.5, 0.875, 0.25]), "mic002": np.array([0.125, 0.75])}


@pytest.fixture
def mics(tmp_path):
    folder = tmp_path / "MotionCorr" / "job002" / "Movies"
    folder.mkdir(parents=True)
    for i, name in enumerate(NAMES):
        mrc.write(folder / f"{name}.mrc", np.random.default_rng(i).normal(size=(ROWS, COLUMNS)), 2.0)
    return folder


@pytest.fixture
def picks(tmp_path):
    folder = tmp_path / "picks"
    folder.mkdir()
    for name in NAMES:
        coordinates.write(folder / f"{name}.csv", Particles.of(XY[name], 24.0, SCORES[name]), "csv")
    return folder


def read_all(target, **options) -> dict[str, Picks]:
    from pathlib import PurePosixPath

    return {PurePosixPath(p.micrograph).stem: p for p in coordinates.read_all(target, ReadOptions(**options))}


@pytest.mark.parametrize("format", coordinates.FORMATS)
def test_there_and_back(tmp_path, capsys, mics, picks, format):
    """Each format and back to CSV: positions to rounding, and scores unless the loss was announced."""
    there, back = tmp_path / "there", tmp_path / "back"
    code, out, err = upicker(capsys, "convert", picks, "--to", format, "-o", there, "--micrographs", mics)
    assert (code, out.split()[1:6]) == (0, ["5", "particles", "in", "2", "micrographs"])
    files = [path for path in there.iterdir() if path.suffix != ".csg"]
    code, _, _ = upicker(capsys, "convert", *files, "--to", "csv", "-o", back, "--micrographs", mics)
    assert code == 0
    for name in NAMES:
        particles = coordinates.read(back / f"{name}.csv")
        assert particles.xy == pytest.approx(XY[name], abs=0.001)
        lost = "scores" in err
        assert particles.score == pytest.approx(np.ones(len(XY[name])) if lost else SCORES[name])
        assert np.isnan(particles.diameter_px).all() == ("diameters" in err)
    carries = coordinates.format_of(format).carries
    assert ("scores" in err) == ("score" not in carries)
    assert ("diameters" in err) == ("diameter" not in carries)


def test_relion_job_mirrors_the_list(tmp_path, capsys, monkeypatch, mics, picks):
    """Picks named after the bare micrograph get the path that RELION's list has."""
    monkeypatch.chdir(tmp_path)
    listed = tmp_path / "micrographs.star"
    rows = "".join(f"MotionCorr/job002/Movies/{name}.mrc\n" for name in NAMES)
    listed.write_text(f"data_\n\nloop_\n_rlnMicrographName #1\n{rows}")
    arguments = ("--to", "relion", "-o", "AutoPick/job012", "--micrographs", listed)
    assert upicker(capsys, "convert", picks, *arguments)[0] == 0
    assert (tmp_path / "AutoPick/job012/Movies/mic001_autopick.star").is_file()
    found = coordinates.read_all(tmp_path / "AutoPick/job012/autopick.star")
    assert [p.micrograph for p in found] == [f"MotionCorr/job002/Movies/{name}.mrc" for name in NAMES]
    assert found[1].particles.xy == pytest.approx(XY["mic002"])
    # A job's folder stands for its list.
    assert "5 particles in 2" in upicker(capsys, "convert", "AutoPick/job012", "--to", "csv", "-o", "flat.csv")[1]


@pytest.mark.parametrize(("flip", "last"), [("upside-down", 1), ("cryosparc", 0), ("eman2", 1), ("tiff", 1)])
@pytest.mark.parametrize("option", ["--from-flip", "--flip"])
def test_flips_by_situation(tmp_path, capsys, mics, picks, flip, last, option):
    target = tmp_path / "out.csv"
    assert upicker(capsys, "convert", picks, "--to", "csv", "-o", target, option, flip, "--micrographs", mics)[0] == 0
    turned = read_all(target)["mic001"].particles.xy
    assert turned[:, 0] == pytest.approx(XY["mic001"][:, 0])
    assert turned[:, 1] == pytest.approx(ROWS - last - XY["mic001"][:, 1])


def test_scales_of_both_sides(tmp_path, capsys, picks):
    small = tmp_path / "small.txt"
    assert upicker(capsys, "convert", picks, "--to", "topaz", "-o", small, "--to-scale", 8)[0] == 0
    assert read_all(small)["mic001"].particles.xy == pytest.approx(XY["mic001"] / 8, abs=1e-4)
    back = tmp_path / "back.csv"
    assert upicker(capsys, "convert", small, "--to", "csv", "-o", back, "--scale", 8)[0] == 0
    assert read_all(back)["mic002"].particles.xy == pytest.approx(XY["mic002"], abs=1e-3)


def test_names_are_matched_and_the_rest_is_told(tmp_path, capsys, mics, picks):
    (picks / "mic002.csv").rename(picks / "000123456789012345678_MIC2_patch_aligned_doseweighted.csv")
    coordinates.write(picks / "elsewhere.csv", Particles.of([[1, 2]]), "csv")
    mrc.write(mics / "mic003.mrc", np.random.default_rng(9).normal(size=(ROWS, COLUMNS)), 2.0)
    target = tmp_path / "out.cs"
    code, out, err = upicker(capsys, "convert", picks, "--to", "cs", "-o", target, "--micrographs", mics)
    assert code == 3
    assert "5 particles in 2 micrographs" in out
    assert "1 name without a micrograph, not converted: elsewhere" in err
    assert "1 micrograph without picks: mic003.mrc" in err
    found = {p.micrograph: p for p in coordinates.read_all(target)}
    assert sorted(found) == [str(mics / f"{name}.mrc") for name in NAMES]
    second = found[str(mics / "mic002.mrc")]
    assert second.shape == (ROWS, COLUMNS)
    assert second.particles.xy == pytest.approx(XY["mic002"], abs=0.001)


def test_endings_of_other_programs_are_seen_through_or_given(tmp_path, capsys, mics, picks):
    for name in NAMES:
        (picks / f"{name}.csv").rename(picks / f"{name}_extract.csv")
    arguments = ("--to", "csv", "-o", tmp_path / "out", "--micrographs", mics)
    code, out, err = upicker(capsys, "convert", picks, *arguments)
    assert (code, err) == (0, "")
    assert "names differ by '_extract'" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mic001.csv", "mic002.csv"]
    stacks = (picks, "--micrographs", mics, "--box", "8px", "-o", tmp_path / "particles.star")
    code, out, _ = upicker(capsys, "extract", *stacks)
    assert code == 0
    assert "names differ by '_extract'" in out
    assert len(coordinates.read_all(tmp_path / "particles.star")) == 2
    for name in NAMES:
        (picks / f"{name}_extract.csv").rename(picks / f"{name}_2.csv")
    code, _, err = upicker(capsys, "convert", picks, *arguments)
    assert code == 1
    assert "give --suffix _2" in err
    assert upicker(capsys, "convert", picks, *arguments, "--suffix", "_2")[0] == 0
    assert upicker(capsys, "extract", *stacks, "--suffix", "_2")[0] == 0
    frame = ("check-frame", picks, "--micrographs", mics, "--no-picture")
    assert "matches one of the 2 micrographs" in upicker(capsys, *frame)[2]
    assert "matches" not in upicker(capsys, *frame, "--suffix", "_2")[2]
    assert upicker(capsys, "evaluate", picks, tmp_path / "out")[0] == 1
    assert upicker(capsys, "evaluate", picks, tmp_path / "out", "--suffix", "_2")[0] == 0


def test_own_files_of_micrographs_with_two_suffixes(tmp_path, capsys, mics):
    for old, new in zip(NAMES, ("tab.tif.mrc", "x.mrc.mrc")):
        (mics / f"{old}.mrc").rename(mics / new)
    picks = tmp_path / "picks"
    code, _, err = upicker(capsys, "propose", mics, "-o", picks, "--diameter", "40px", "--format", "csv,star")
    assert (code, err) == (0, "")
    for arguments in (
        ("extract", picks, "--box", "8px", "-o", tmp_path / "particles.star"),
        ("convert", picks, "--to", "relion", "-o", tmp_path / "job"),
        ("convert", picks, "--to", "csv", "-o", tmp_path / "csv"),
        ("check-frame", picks, "--no-picture"),
    ):
        code, _, err = upicker(capsys, *arguments, "--micrographs", mics)
        assert code == 0, err
        assert "without" not in err
    assert sorted(path.name for path in (tmp_path / "csv").iterdir()) == ["tab.tif.csv", "x.mrc.csv"]


def test_ambiguous_names_are_refused(tmp_path, capsys, mics, picks):
    (picks / "mic002.csv").rename(picks / "mic01.csv")
    (picks / "mic001.csv").rename(picks / "mic1.csv")
    code, _, err = upicker(capsys, "convert", picks, "--to", "csv", "-o", tmp_path / "o", "--micrographs", mics)
    assert code == 1
    assert "mic1" in err
    assert "mic001.mrc" in err


def test_what_needs_micrographs_says_so(tmp_path, capsys, picks):
    target = tmp_path / "out"
    for more in (("--to", "cs"), ("--to", "csv", "--flip", "tiff"), ("--to", "csv", "--from-flip", "cryosparc")):
        code, _, err = upicker(capsys, "convert", picks, *more, "-o", target)
        assert code == 2
        assert "--micrographs" in err
        assert "mic001" in err
    assert not target.exists()


def test_threshold_diameter_and_box(tmp_path, capsys, mics, picks):
    (picks / "mic001.csv").write_text("x,y,score\n10,20,0.9\n30,40,0.1\n")
    (picks / "mic002.csv").unlink()
    more = ("--threshold", 0.5, "--diameter", "48A", "--micrographs", mics)
    assert upicker(capsys, "convert", picks, "--to", "box", "-o", tmp_path / "a", *more)[0] == 0
    assert (tmp_path / "a" / "mic001.box").read_text().split() == ["-2", "8", "24", "24", "0.9"]
    upicker(capsys, "convert", picks, "--to", "box", "-o", tmp_path / "b", "--box", "80A", *more)
    assert (tmp_path / "b" / "mic001.box").read_text().split()[2:4] == ["40", "40"]
    code, _, err = upicker(capsys, "convert", picks, "--to", "box", "-o", tmp_path / "c")
    assert code == 1
    assert "--diameter" in err


def test_particles_outside_are_told(tmp_path, capsys, mics, picks):
    (picks / "mic001.csv").write_text("x,y\n10,20\n10,2000\n")
    _, _, err = upicker(capsys, "convert", picks, "--to", "csv", "-o", tmp_path / "o", "--micrographs", mics)
    assert "1 particles lie outside" in err


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (("--to", "xyz"), 2, "Choose one of: csv"),
        (("--to", "csv", "--flip", "mirror"), 2, "upside-down"),
        (("--to", "csv", "--scale", "0"), 2, "--scale"),
        (("--to", "csv", "--micrographs", "nowhere/*.mrc"), 1, "nowhere"),
    ],
)
def test_wrong_options(tmp_path, capsys, picks, more, code, words):
    found, _, err = upicker(capsys, "convert", picks, *more, "-o", tmp_path / "o")
    assert found == code
    assert words in err


def test_size_is_that_of_the_picture(tmp_path, mics):
    """What is read of a header alone is what reading all gives."""
    mrc_file = mics / "mic001.mrc"
    (tmp_path / "packed.mrc.gz").write_bytes(gzip.compress(mrc_file.read_bytes()))
    cv2.imwrite(str(tmp_path / "picture.png"), np.arange(60 * 40, dtype=np.uint16).reshape(60, 40))
    for path in (mrc_file, tmp_path / "packed.mrc.gz", tmp_path / "picture.png"):
        micrograph = micrographs.read(path)
        assert micrographs.size(path) == (micrograph.shape, micrograph.pixel_size_A)
    assert micrographs.size(mrc_file, 1.5) == ((ROWS, COLUMNS), 1.5)
    with pytest.raises(MicrographError, match="cannot be read"):
        micrographs.size(tmp_path / "none.mrc")


def test_two_files_of_one_micrograph(tmp_path, capsys, picks):
    (tmp_path / "mic001.box").write_text("1 2 24 24\n")
    code, _, err = upicker(capsys, "convert", picks, tmp_path / "mic001.box", "--to", "csv", "-o", tmp_path / "o")
    assert code == 1
    assert "Give one of the two" in err


def test_a_damaged_micrograph_stops_nothing(tmp_path, capsys, mics, picks):
    (mics / "mic002.mrc").write_bytes(b"")
    more = ("--to", "coco", "-o", tmp_path / "all.json", "--micrographs", mics)
    code, out, err = upicker(capsys, "convert", picks, *more)
    assert code == 3
    assert "3 particles in 1" in out
    assert "mic002.mrc" in err


def test_help_names_all_formats_and_flips(capsys):
    text = inspect.getdoc(convert) or ""
    assert all(f'"{name}"' in text for name in FLIPS if name != "none")
    code, out, _ = upicker(capsys, "convert", "--help")
    assert code == 0
    listed = out[out.index("Formats ─") :]
    assert re.findall(r"^│ (\S+)  ", listed, re.M) == list(coordinates.TARGETS)


def test_a_file_that_is_not_used_is_named_in_one_line(tmp_path):
    for ending in ("manualpick", "autopick"):
        coordinates.write(tmp_path / "in" / f"a_{ending}.star", Particles.of([(1, 2)]), "star")
    command = [sys.executable, "-m", "upicker", "convert", tmp_path / "in", "--to", "csv", "-o", tmp_path / "out"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[0] == (
        f"{tmp_path / 'in'}: a_autopick.star is not used, because a_manualpick.star is of the same micrograph."
        " Give a folder with one of them."
    )


def test_what_is_not_read_of_a_table_is_named(tmp_path, capsys):
    (tmp_path / "a.csv").write_text("x,y,psi,radius_A\n1,2,30,90\n")
    code, _, err = upicker(capsys, "convert", tmp_path / "a.csv", "--to", "star", "-o", tmp_path / "out")
    assert code == 0
    assert "Not kept: columns psi, radius_A" in err
