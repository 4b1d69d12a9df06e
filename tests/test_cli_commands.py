"""The command line on small drawn micrographs: what it writes, what it says, how it exits."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import starfile
from command_line import CENTRES, DIAMETER, SHAPE, environment, micrograph, stopped, upicker

from upicker import __version__
from upicker.cli.app import USAGE, app, name_of
from upicker.errors import OutputError
from upicker.io import coordinates, mrc
from upicker.particles import Particles, ScoreKind
from upicker.run import record
from upicker.run.extract import Extracting, extract_all
from upicker.units import Length


@pytest.fixture
def mics(tmp_path, monkeypatch) -> Path:
    """A folder of two micrographs, inside a fresh working folder."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("one", "two.v2")):
        micrograph(tmp_path / "mics" / f"{name}.mrc", seed)
    return Path("mics")


def propose(capsys, *arguments: object) -> tuple[int, str, str]:
    return upicker(capsys, "propose", *arguments, "--diameter", "24px", "--top-k", 5, "--no-mask")


def test_propose_finds_the_discs_and_writes_them_in_every_format(capsys, mics, tmp_path):
    code, out, _ = propose(capsys, mics, "-o", "out", "--format", "csv,star,box")
    assert code == 0
    assert "10 particles in 2 of 2 micrographs" in out
    names = {p.name for p in (tmp_path / "out").iterdir()}
    for stem in ("one", "two.v2"):
        assert {f"{stem}.csv", f"{stem}_autopick.star", f"{stem}.box"} <= names
        for name in (f"{stem}.csv", f"{stem}_autopick.star", f"{stem}.box"):
            found = coordinates.read(tmp_path / "out" / name)
            distance = np.linalg.norm(found.xy[:, None] - CENTRES, axis=2)
            assert distance.min(0).max() < 2, name


@pytest.mark.parametrize(("template", "kind"), [("false", "filter_response"), ("true", "correlation")])
def test_files_and_run_toml_declare_what_the_scores_are(capsys, mics, template, kind):
    """Older readers see the same columns before; a program that knows none of it skips the comment."""
    with_profile = ("--set", f"propose.profile={','.join(['1'] * 16 + ['0'] * 9)}") if template == "true" else ()
    arguments = ("--set", f"propose.template={template}", *with_profile, "--format", "csv,star,box")
    assert propose(capsys, mics, "-o", "out", *arguments)[0] == 0
    lines = Path("out/one.csv").read_text().splitlines()
    assert lines[0] == "x,y,diameter,score,rows,columns,pixel_size_A,score_kind"
    assert all(line.endswith(f",{kind}") for line in lines[1:])
    kinds = [coordinates.read(Path("out") / name).score_kind for name in ("one.csv", "one_autopick.star", "one.box")]
    assert kinds == [kind, kind, "given"]
    assert len(starfile.read(Path("out/one_autopick.star"))) == 5
    assert [entry.score for entry in record.read(Path("out")).micrographs] == [kind, kind]


def test_sizes_in_angstrom_and_pixels_are_the_same(capsys, mics):
    propose(capsys, mics, "-o", "px")
    for size, folder in (("48A", "a"), ("48", "bare"), ("4.8nm", "nm")):
        assert upicker(capsys, "propose", mics, "-o", folder, "--diameter", size, "--top-k", 5, "--no-mask")[0] == 0
        assert Path(folder, "one.csv").read_text() == Path("px", "one.csv").read_text()


def test_the_pixel_size_option_beats_the_header(capsys, mics):
    propose(capsys, mics, "-o", "px")
    args = ("--diameter", "72A", "--pixel-size", "3A", "--top-k", 5, "--no-mask")
    assert upicker(capsys, "propose", mics, "-o", "a", *args)[0] == 0
    found, same = (coordinates.read(Path(folder, "one.csv")) for folder in ("a", "px"))
    np.testing.assert_array_equal(found.xy, same.xy)
    np.testing.assert_array_equal(found.diameter_px, same.diameter_px)


def test_several_processes_give_the_same_files(capsys, mics):
    propose(capsys, mics, "-o", "serial")
    propose(capsys, mics, "-o", "parallel", "--jobs", 2)
    for name in ("one.csv", "two.v2.csv"):
        assert Path("serial", name).read_bytes() == Path("parallel", name).read_bytes()


def test_run_toml_says_how_it_was_made_and_can_be_given_back(capsys, mics):
    propose(capsys, mics, "-o", "out", "--set", "image.clip_sigma=4", "--set", "pick.nms_iou=none")
    first = tomllib.loads(Path("out/run.toml").read_text())
    assert first["image"]["clip_sigma"] == 4.0
    assert first["propose"]["top_k"] == "5"
    assert first["run"]["command"] == "propose"
    assert first["run"]["version"] == __version__
    assert first["run"]["diameter"] == "24px"
    entry = record.read(Path("out")).micrographs[0]
    assert (entry.name, entry.rows, entry.columns) == ("one", *SHAPE)
    assert (entry.pixel_size_A, entry.diameter_px, entry.particles) == (2.0, DIAMETER, 5)
    code, *_ = upicker(capsys, "propose", mics, "-o", "again", "--diameter", "24px", "--config", "out/run.toml")
    assert code == 0
    again = tomllib.loads(Path("again/run.toml").read_text())
    assert {k: v for k, v in again.items() if k != "run"} == {k: v for k, v in first.items() if k != "run"}
    assert Path("again/one.csv").read_bytes() == Path("out/one.csv").read_bytes()


def test_the_command_line_beats_the_config_file_and_the_file_the_defaults(capsys, mics):
    Path("my.toml").write_text('[propose]\ntop_k = "3"\n[image]\nclip_sigma = 4.5\n')
    args = ("-o", "out", "--diameter", "24px", "--no-mask", "--config", "my.toml")
    assert upicker(capsys, "propose", mics, *args)[0] == 0
    assert len(coordinates.read(Path("out/one.csv"))) == 3
    assert upicker(capsys, "propose", mics, *args, "--set", "propose.top_k=2")[0] == 0
    assert len(coordinates.read(Path("out/one.csv"))) == 2
    assert upicker(capsys, "propose", mics, *args, "--set", "propose.top_k=2", "--top-k", 1)[0] == 0
    assert len(coordinates.read(Path("out/one.csv"))) == 1


def test_skip_existing_does_only_what_is_missing(capsys, mics):
    propose(capsys, mics / "one.mrc", "-o", "out")
    before = Path("out/one.csv").stat().st_mtime_ns
    code, out, _ = propose(capsys, mics, "-o", "out", "--skip-existing")
    assert code == 0
    assert "1 of 2 micrographs already have outputs" in out
    assert Path("out/one.csv").stat().st_mtime_ns == before
    assert Path("out/two.v2.csv").exists()
    assert [entry.name for entry in record.read(Path("out")).micrographs] == ["one", "two.v2"]


def test_a_mask_of_another_size_keeps_proposals_out(capsys, mics):
    mask = np.zeros((SHAPE[0] // 2, SHAPE[1] // 2))
    mask[: 75 // 2] = 1  # the first three discs lie above row 75
    for stem in ("one", "two.v2"):
        mrc.write(Path("masks") / f"{stem}_mask.mrc", mask, None)
    args = (mics, "-o", "out", "--diameter", "24px", "--top-k", 2, "--no-mask")
    assert upicker(capsys, "propose", *args, "--mask", "masks")[0] == 0
    assert (coordinates.read(Path("out/one.csv")).xy[:, 1] > 75).all()
    mrc.write(Path("clean.mrc"), np.zeros(SHAPE), None)
    assert upicker(capsys, "propose", *args, "--mask", "clean.mrc")[0] == 0
    assert (coordinates.read(Path("out/one.csv")).xy[:, 1] > 0).all()


def test_a_missing_or_misshapen_mask_is_named(capsys, mics):
    mrc.write(Path("masks/one.mrc"), np.zeros((100, 100)), None)
    code, _, err = propose(capsys, mics, "-o", "out", "--mask", "masks")
    assert code == 3
    assert "masks/one.mrc: is 100 x 100 pixels" in err
    assert "holds no mask for two.v2" in err


def test_bad_micrographs_are_named_skipped_and_counted(capsys, mics):
    good = (mics / "one.mrc").read_bytes()
    (mics / "cut.mrc").write_bytes(good[:5000])
    (mics / "empty.png").write_bytes(b"")
    (mics / "text.mrc").write_text("not a picture")
    (mics / "nan.mrc").write_bytes(good[:1024] + np.full(SHAPE, np.nan, "<f4").tobytes())
    mrc.write(mics / "flat.mrc", np.zeros(SHAPE), 2.0)
    mrc.write(mics / "dot.mrc", np.zeros((1, 1)), 2.0)
    code, out, err = propose(capsys, mics, "-o", "out")
    assert code == 3
    assert "in 2 of 8 micrographs" in out
    for name in ("cut.mrc", "empty.png", "text.mrc", "nan.mrc", "flat.mrc", "dot.mrc"):
        assert f"Skipped mics/{name}: " in err
    assert "6 of 8 micrographs failed" in err
    assert sorted(p.name for p in Path("out").iterdir()) == [".upicker", "one.csv", "run.toml", "two.v2.csv"]


def test_a_lost_pixel_size_concerns_only_its_micrograph(capsys, mics):
    micrograph(mics / "unknown.mrc", pixel_size_A=None)
    code, _, err = upicker(capsys, "propose", mics, "-o", "out", "--diameter", "48A")
    assert code == 3
    assert "mics/unknown.mrc: the pixel size is not known" in err
    assert "--pixel-size" in err
    assert Path("out/one.csv").exists()


def test_a_diameter_larger_than_the_picture_is_an_error_of_that_picture(capsys, mics):
    code, _, err = upicker(capsys, "propose", mics, "-o", "out", "--diameter", "400px")
    assert code == 3
    assert "mics/one.mrc" in err
    assert "larger than the micrograph" in err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("propose", "mics", "-o", "out"), 2, "--diameter"),
        (("propose", "-o", "out", "--diameter", "24px"), 2, "no micrographs were given"),
        (("propose", "nowhere", "-o", "out", "--diameter", "24px"), 1, "nowhere: there is no such file"),
        (("propose", "mics", "-o", "out", "--diameter", "24ells"), 2, "24ells: this is not a length"),
        (("propose", "mics", "-o", "out", "--diameter", "-3"), 2, ""),
        (("propose", "mics", "-o", "out", "--diameter", "24px", "--pixel-size", "3px"), 2, "not in Angstrom"),
        (("propose", "mics", "-o", "out", "--diameter", "24px", "--min-diameter", "30px"), 2, "excludes"),
        (("propose", "mics", "-o", "out", "--diameter", "24px", "--top-k", "many"), 2, "propose.top_k"),
        (("propose", "mics", "-o", "out", "--diameter", "24px", "--format", "xml"), 2, "unknown format 'xml'"),
        (
            ("propose", "mics", "-o", "out", "--diameter", "24px", "--set", "image.clip_sgma=3"),
            2,
            "image.clip_sigma",
        ),
        (("propose", "mics", "-o", "out", "--diameter", "24px", "--set", "image"), 2, "expected ROOM.KNOB=VALUE"),
        (("propose", "mics", "-o", "out", "--diameter", "24px", "--config", "no.toml"), 2, "no.toml"),
        (
            ("propose", "mics", "-o", "mics/one.mrc", "--diameter", "24px"),
            1,
            "mics/one.mrc: cannot be written",
        ),
        (("propose", "mics", "-o", "out", "--diameter", "24px", "--masks", "m"), 2, "--masks"),
        (
            ("extract", "mics", "--micrographs", "mics", "--box", "32px", "-o", "p.star"),
            1,
            "there are no coordinate files for the 2",
        ),
        (("evaluate", "nowhere", "mics"), 1, "nowhere: there is no such folder"),
        (("evaluate", "mics", "mics"), 1, "mics: holds no coordinate files"),
        (("evaluate", "mics", "mics", "--by", "eye"), 2, "eye"),
        (("sing",), 2, "sing"),
    ],
)
def test_bad_input_gives_one_message_and_its_exit_code(capsys, mics, arguments, code, message):
    found, _, err = upicker(capsys, *arguments)
    assert found == code, err
    assert message in err
    assert "Traceback" not in err
    assert not list(Path().glob("out/*.csv"))


def test_the_same_reason_is_not_printed_over_and_over(capsys, mics):
    for number in range(6):
        micrograph(mics / f"u{number}.mrc", pixel_size_A=None)
    code, _, err = upicker(capsys, "propose", mics, "-o", "out", "--diameter", "48A")
    assert code == 3
    assert err.count("--pixel-size 1.77A") == 3
    assert all(f"u{number}.mrc" in err for number in range(6))


@pytest.fixture
def labelled(mics) -> Path:
    """Labels for both micrographs."""
    for stem in ("one", "two.v2"):
        coordinates.write(Path("labels") / f"{stem}.csv", Particles.of(CENTRES, DIAMETER), "csv")
    return mics


def test_evaluate_prints_each_micrograph_and_all(capsys, labelled):
    propose(capsys, labelled, "-o", "picks")
    code, out, err = upicker(capsys, "evaluate", "labels", "picks")
    assert code == 0
    assert not err
    for name in ("one", "two.v2", "all 2"):
        assert any(line.split()[: len(name.split())] == name.split() for line in out.splitlines()), name
    assert out.count("1.000") >= 9
    assert "IoU" in out
    assert "centre distance" in upicker(capsys, "evaluate", "labels", "picks", "--by", "centre")[1]


def test_evaluate_tells_that_picks_were_cut_at_a_threshold(capsys, labelled):
    def said(scores, kind: ScoreKind, run: str = "") -> bool:
        particles = Particles.of(CENTRES, DIAMETER, np.linspace(*scores, len(CENTRES)), kind)
        for stem in ("one", "two.v2"):
            coordinates.write(Path("picks") / f"{stem}.csv", particles, "csv")
        Path("picks/run.toml").write_text(run)
        out = " ".join(upicker(capsys, "evaluate", "labels", "picks")[1].split())
        told = "count only the picks that were written" in out
        assert told == ("with scores of at least 0.31:" in out)
        return told

    assert said((0.9, 0.31), ScoreKind.PROBABILITY)
    assert said((0.9, 0.5), ScoreKind.PROBABILITY, "[run]\nthreshold = 0.31\n")
    assert said((9.0, 0.31), ScoreKind.CORRELATION)
    assert not said((0.9, 0.31), ScoreKind.PROBABILITY, "[run]\nthreshold = 0.02\n")
    assert not said((0.9, 0.02), ScoreKind.PROBABILITY)
    assert not said((0.9, 0.31), ScoreKind.GIVEN)


def test_evaluate_counts_missing_picks_as_misses_and_names_what_is_alone(capsys, labelled):
    propose(capsys, labelled, "-o", "picks")
    Path("picks/one.csv").rename("picks/other.csv")
    code, out, err = upicker(capsys, "evaluate", "labels", "picks")
    assert code == 0
    assert "1 labelled micrograph without picks, all labels counted as missed: one" in err
    assert "1 picked micrograph without labels, left out: other" in err
    pooled = next(line for line in out.splitlines() if "all 2" in line).split()
    assert pooled[2:7] == ["10", "5", "1.000", "0.500", "0.667"]


def test_evaluate_needs_a_diameter_from_somewhere(capsys, labelled):
    propose(capsys, labelled, "-o", "picks", "--format", "star")
    code, _, err = upicker(capsys, "evaluate", "picks", "picks")
    assert code == 2
    assert "--diameter" in err
    assert upicker(capsys, "evaluate", "picks", "picks", "--diameter", "24px")[0] == 0
    code, out, _ = upicker(capsys, "evaluate", "picks", "picks", "--diameter", "48A", "--pixel-size", "2A")
    assert code == 0
    assert "1.000" in out


def test_evaluate_draws_the_curve_and_the_overlays(capsys, labelled):
    propose(capsys, labelled, "-o", "picks")
    args = ("--plot", "out/pr.png", "--overlay", "out", "--micrographs", labelled)
    code, *_ = upicker(capsys, "evaluate", "labels", "picks", *args)
    assert code == 0
    assert sorted(p.name for p in Path("out").iterdir()) == [
        "one_overlay.png",
        "pr.png",
        "two.v2_overlay.png",
    ]
    assert upicker(capsys, "evaluate", "labels", "picks", "--overlay", "out")[0] == 2


def test_extract_writes_stacks_and_a_star_file_that_lists_them(capsys, labelled):
    args = ("labels", "--micrographs", labelled, "--box", "31px", "-o", "job/particles.star")
    code, out, err = upicker(capsys, "extract", *args)
    assert code == 0
    assert "10 particles in 2 of 2" in out
    assert not err
    tables = starfile.read("job/particles.star", always_dict=True)
    names = tables["particles"]["rlnImageName"].tolist()
    assert names[0] == "000001@job/Particles/one.mrcs"
    assert names[-1] == "000005@job/Particles/two.v2.mrcs"
    assert tables["optics"]["rlnImageSize"].tolist() == [32]  # the nearest even number
    assert tables["optics"]["rlnImagePixelSize"].tolist() == [2.0]
    header = np.fromfile("job/Particles/one.mrcs", "<i4", 3)
    assert header.tolist() == [32, 32, 5]


def test_extract_refuses_picks_on_a_binned_picture_and_converts_origins(capsys, labelled):
    more = ("--micrographs", labelled, "--box", "20px", "-o", "p.star")
    coordinates.write(Path("labels/one.csv"), Particles.of(CENTRES / 2, DIAMETER / 2), "csv", shape=(75, 100))
    _, _, err = upicker(capsys, "extract", "labels", *more)
    assert "one.csv: it was made on an image of 100 columns x 75 rows" in " ".join(err.split())
    Path("labels/one.csv").unlink()
    rows = "".join(f"{x + 4} {y} 8\n" for x, y in CENTRES)  # 8 A are 4 pixels of 2 A
    Path("labels/one.star").write_text(f"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginXAngst\n{rows}")
    assert upicker(capsys, "extract", "labels", *more)[0] == 0
    particles = starfile.read("p.star", always_dict=True)["particles"]
    assert particles["rlnCoordinateX"].tolist()[:5] == pytest.approx([x for x, _ in CENTRES])


def test_extract_scales_pads_and_goes_on_where_it_stopped(capsys, labelled):
    args = ("labels", "--micrographs", labelled, "--box", "90px", "--scale", "30px", "--pad", "-o", "p.star")
    assert upicker(capsys, "extract", *args)[0] == 0
    first = starfile.read("p.star", always_dict=True)
    assert len(first["particles"]) == 10
    assert first["optics"]["rlnImagePixelSize"].tolist() == [6.0]
    written = {path: path.stat().st_mtime_ns for path in Path("Particles").iterdir()}
    Path("p.star").unlink()
    os.utime("labels/two.v2.csv")  # its content is the same
    assert upicker(capsys, "extract", *args, "--skip-existing")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in Path("Particles").iterdir()} == written
    again = starfile.read("p.star", always_dict=True)
    assert again["particles"].equals(first["particles"])
    assert again["optics"].equals(first["optics"])
    coordinates.write(Path("labels/one.csv"), Particles.of(CENTRES[:2], DIAMETER), "csv")
    assert upicker(capsys, "extract", *args, "--skip-existing")[0] == 0
    assert len(starfile.read("p.star", always_dict=True)["particles"]) == 7
    code, _, err = upicker(capsys, "extract", *args[:-4], "30A", "-o", "p.star")
    assert code == 2
    assert "--scale 64px" in err


def test_extract_leaves_out_what_reaches_beyond_and_says_so(capsys, labelled):
    args = ("labels", "--micrographs", labelled, "-o", "p.star")
    code, out, err = upicker(capsys, "extract", *args, "--box", "90px")
    assert code == 0
    assert "8 particles in 2 of 2" in out
    assert "2 particles discarded" in err
    code, _, err = upicker(capsys, "extract", *args, "--box", "200px", "--threshold", "0.5")
    assert code == 1
    assert "p.star was not written: no particle" in err


def test_extract_counts_what_lies_outside_and_takes_repeated_positions_once(capsys, labelled):
    xy = [*CENTRES, CENTRES[0], (-2.0, 90.0)]
    coordinates.write(Path("labels/one.csv"), Particles.of(xy, DIAMETER), "csv")
    for more in ((), ("--pad",), ("--pad", "--skip-existing")):
        args = ("labels", "--micrographs", labelled, "--box", "30px", "-o", "p.star", *more)
        code, _, err = upicker(capsys, "extract", *args)
        assert code == 0
        assert len(starfile.read("p.star", always_dict=True)["particles"]) == 2 * len(CENTRES)
        assert "1 particles lie outside their micrographs, not extracted" in err
        assert "1 position stands twice in one.csv, each extracted once" in err
        assert "discarded" not in err


def test_extract_tells_once_what_it_does_not_keep(capsys, labelled):
    columns = "_rlnCoordinateX\n_rlnCoordinateY\n_rlnAnglePsi\n_rlnClassNumber\n_rlnHelicalTubeID\n_rlnAnglePsiPrior\n"
    for name in ("one", "two.v2"):
        Path(f"labels/{name}.csv").unlink()
        rows = "".join(f"{x} {y} 12.5 2 1 33\n" for x, y in CENTRES)
        Path(f"labels/{name}.star").write_text(f"data_\nloop_\n{columns}{rows}")
    for more in ((), ("--skip-existing",)):
        args = ("labels", "--micrographs", labelled, "--box", "30px", "-o", "p.star", *more)
        code, _, err = upicker(capsys, "extract", *args)
        assert code == 0
        told = "Not kept: filament numbers, angle priors (RELION's helical extraction needs them), classes, angles"
        assert " ".join(err.split()).count(told) == 1


def test_evaluate_and_convert_tell_of_repeated_positions(capsys, labelled):
    coordinates.write(Path("picks/one.csv"), Particles.of(CENTRES, DIAMETER), "csv")
    coordinates.write(Path("picks/two.v2.csv"), Particles.of(CENTRES, DIAMETER), "csv")
    coordinates.write(Path("labels/one.csv"), Particles.of([*CENTRES, *CENTRES[:2]], DIAMETER), "csv")
    code, out, err = upicker(capsys, "evaluate", "labels", "picks")
    assert code == 0
    assert "2 positions stand twice in one.csv, counted once" in err
    assert out.count("1.000") >= 9
    code, out, err = upicker(capsys, "convert", "labels", "--to", "star", "-o", "stars")
    assert code == 0
    assert "2 positions stand twice in one.csv, kept" in err
    assert f"{2 * len(CENTRES) + 2} particles" in out


def test_evaluate_takes_files_of_many_micrographs(capsys, labelled):
    propose(capsys, labelled, "-o", "picks")
    expected = upicker(capsys, "evaluate", "labels", "picks")[1]
    for folder in ("labels", "picks"):
        code, _, _ = upicker(capsys, "convert", folder, "--to", "csv", "-o", f"{folder}.csv", "--micrographs", labelled)
        assert code == 0
    for arguments in (("labels.csv", "picks"), ("labels.csv", "picks.csv"), ("labels", "picks.csv")):
        assert upicker(capsys, "evaluate", *arguments) == (0, expected, "")
    code, _, err = upicker(capsys, "evaluate", "nowhere.csv", "picks")
    assert (code, "nowhere.csv: there is no such folder or file" in err) == (1, True)


def test_extract_names_picks_and_micrographs_that_stay_alone(capsys, labelled):
    Path("labels/one.csv").rename("labels/other.csv")
    code, _, err = upicker(capsys, "extract", "labels", "--micrographs", labelled, "--box", "32px", "-o", "p.star")
    assert code == 3
    assert "1 micrograph without picks: one.mrc" in err
    assert "1 pick file without a micrograph, not extracted: other.csv" in err
    assert len(starfile.read("p.star", always_dict=True)["particles"]) == 5


def test_picks_of_another_picture_are_refused(capsys, labelled):
    coordinates.write(Path("labels/one.csv"), Particles.of(CENTRES * 4, DIAMETER), "csv")
    code, _, err = upicker(capsys, "extract", "labels", "--micrographs", labelled, "--box", "32px", "-o", "p.star")
    assert code == 3
    assert "labels/one.csv" in err
    assert "outside the micrograph" in err


def test_extract_makes_a_stack_again_that_is_shorter_than_its_header_says(capsys, labelled):
    args = ("labels", "--micrographs", labelled, "--box", "30px", "-o", "p.star")
    assert upicker(capsys, "extract", *args)[0] == 0
    whole = Path("Particles/one.mrcs").read_bytes()
    Path("Particles/one.mrcs").write_bytes(whole[:-100])
    assert upicker(capsys, "extract", *args, "--skip-existing")[0] == 0
    assert Path("Particles/one.mrcs").read_bytes() == whole


def test_stacks_that_vanish_meanwhile_are_an_error(tmp_path):
    micrographs = {}
    for name in "ab":
        coordinates.write(tmp_path / f"{name}.csv", Particles.of(CENTRES, DIAMETER), "csv")
        micrographs[micrograph(tmp_path / f"{name}.mrc")] = tmp_path / f"{name}.csv"
    work = Extracting(micrographs, tmp_path / "job/p.star", Length(30, "px"))
    outcomes = extract_all(list(micrographs), work)
    next(outcomes)
    shutil.rmtree(tmp_path / "job")
    with pytest.raises(OutputError, match=r"a\.mrcs: it was removed"):
        list(outcomes)
    assert len(starfile.read(tmp_path / "job/p.star", always_dict=True)["particles"]) == 5


def test_ctrl_c_leaves_whole_files_and_the_rest_can_be_done_later(capsys, mics):
    for number in range(60):
        (mics / f"copy{number:02}.mrc").write_bytes((mics / "one.mrc").read_bytes())
    args = ["propose", "mics", "-o", "out", "--diameter", "24px", "--no-mask", "--top-k", "5"]
    code, err = stopped(args, signal.SIGINT, lambda: Path("out/copy03.csv").exists())
    assert code == 130
    assert "Traceback" not in err
    names = {path.name for path in Path("out").iterdir()} - {".upicker"}
    assert not any(name.startswith(".") for name in names)
    done = [path for path in Path("out").glob("*.csv") if len(coordinates.read(path)) == 5]
    assert len(done) == len(names) - 1
    listed = record.read(Path("out")).micrographs
    assert {entry.name for entry in listed} <= {path.stem for path in done}
    code, out, _ = upicker(capsys, *args, "--skip-existing")
    assert code == 0
    assert len(record.read(Path("out")).micrographs) == 62
    assert f"{len(done)} of 62 micrographs already have outputs" in out
    assert len(list(Path("out").glob("*.csv"))) == 62


@pytest.mark.parametrize("command", [name_of(command) for command in USAGE])
def test_every_option_is_explained(capsys, command):
    code, out, _ = upicker(capsys, command, "--help")
    assert code == 0
    assert f"Usage: upicker {command}" in out
    arguments = app[command].assemble_argument_collection(parse_docstring=True)
    assert not [one.name for one in arguments if one.name != "*" and not one.parameter.help]


def test_help_answers_without_heavy_imports(tmp_path):
    heavy = {"torch", "numpy", "scipy", "cv2", "matplotlib", "mrcfile", "tifffile"}
    program = (
        "import json, sys; from upicker.cli.app import run; "
        "codes = [run(['--help']), run(['pick', '--help']), run(['--version'])]; "
        "print(json.dumps([codes, sorted(sys.modules)]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
        cwd=tmp_path,
    )
    codes, modules = json.loads(done.stdout.splitlines()[-1])
    assert codes == [0, 0, 0]
    assert not heavy & set(modules)
    assert __version__ in done.stdout


def test_the_module_runs_as_a_program_and_exits_with_its_code(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "upicker", "propose", "no.mrc", "-o", "x", "--diameter", "9px"],
        capture_output=True, text=True, check=False, env=environment(), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no.mrc: there is no such file" in done.stderr
    assert not done.stdout


def test_sizes_that_were_found_are_in_the_files_that_hold_diameters(capsys, mics):
    assert propose(capsys, mics, "-o", "out", "--set", "propose.sizes=true", "--format", "csv,box")[0] == 0
    sizes = coordinates.read(Path("out/one.csv")).diameter_px
    assert len(set(sizes)) == 5
    assert sizes == pytest.approx(np.full(5, DIAMETER), rel=0.15)


def test_a_range_of_diameters_is_refused_beside_a_template_that_is_given(capsys, mics):
    profile = f"propose.profile={','.join(['1'] * 16 + ['0'] * 9)}"
    code, _, err = propose(capsys, mics, "-o", "out", "--set", profile, "--max-diameter", "30px")
    assert code == 2
    assert "--max-diameter: it has no effect" in err
    more = ("--set", profile, "--max-diameter", "30px", "--set", "propose.template=false")
    assert propose(capsys, mics, "-o", "out", *more)[0] == 0


def test_too_little_memory_is_told_without_a_traceback(capsys, monkeypatch, tmp_path):
    def no_memory(*_: object) -> None:
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("upicker.train.stages.pretrain", no_memory)
    path = micrograph(tmp_path / "mic.mrc")
    code, _, err = upicker(capsys, "pretrain", path, "-o", tmp_path / "m.safetensors", "--diameter", "24px")
    assert code == 1
    assert "not enough memory (Unable to allocate 9 TiB). Use a larger machine" in " ".join(err.split())
