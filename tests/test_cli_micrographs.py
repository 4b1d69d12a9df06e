"""What commands take for micrographs: lists with pixel sizes, movies with a warning, names that programs changed."""

import gzip
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from command_line import CENTRES, DIAMETER, micrograph, upicker

from upicker.io import coordinates, mrc
from upicker.particles import Particles
from upicker.run import record


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two micrographs without a pixel size in their headers, and a list that knows it."""
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        micrograph(Path(f"Micrographs/m{number}.mrc"), number, None)
    write_list((1.5, 2.0))
    return tmp_path


def write_list(sizes_A: tuple[float, float]) -> None:
    rows = "".join(f"Micrographs/m{i}.mrc {size}\n" for i, size in enumerate(sizes_A, 1))
    Path("Ctf").mkdir(exist_ok=True)
    Path("Ctf/mics.star").write_text(f"data_\nloop_\n_rlnMicrographName\n_rlnMicrographPixelSize\n{rows}")


def diameters(folder: str) -> dict[str, float]:
    return {entry.name: entry.diameter_px for entry in record.read(Path(folder)).micrographs}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_list_s_pixel_sizes_count_for_each_micrograph(project: Path, capsys, jobs: int) -> None:
    code, _, err = upicker(capsys, "propose", "Ctf/mics.star", "-o", "out", "--diameter", "48A", "-j", jobs)
    assert code == 0, err
    assert diameters("out") == {"m1": 32.0, "m2": 24.0}
    code, _, err = upicker(capsys, "propose", "Ctf/mics.star", "-o", "o", "--diameter", "48A", "--pixel-size", "3A")
    assert (code, diameters("o")) == (0, {"m1": 16.0, "m2": 16.0})


def test_one_pixel_size_of_a_list_serves_lengths_of_both_units(project: Path, capsys) -> None:
    arguments = ("propose", "Ctf/mics.star", "-o", "out", "--diameter", "48A", "--min-diameter", "20px")
    assert upicker(capsys, *arguments)[0] == 2
    write_list((2.0, 2.0))
    assert upicker(capsys, *arguments)[0] == 0


def test_a_micrograph_of_the_list_that_is_missing_is_reported_and_the_rest_done(project: Path, capsys) -> None:
    Path("Micrographs/m1.mrc").unlink()
    code, _, err = upicker(capsys, "propose", "Ctf/mics.star", "-o", "out", "--diameter", "48A")
    assert code == 3
    assert "Micrographs/m1.mrc: cannot be read (No such file" in err
    assert list(diameters("out")) == ["m2"]


def test_a_movie_is_summed_and_the_summary_says_that_it_was_not_corrected(project: Path, capsys) -> None:
    rng = np.random.default_rng(0)
    frames = rng.poisson(9, (2, 1030, 1050)).astype("i1")
    for number in (1, 2):
        with mrcfile.new(f"movie{number}.mrcs") as file:
            file.set_data(frames)
            file.set_image_stack()
    mrc.write(Path("gain.mrc"), np.ones((1030, 1050)))
    movies = ("movie1.mrcs", "movie2.mrcs")
    code, _, err = upicker(capsys, "propose", *movies, "-o", "out", "--diameter", "60px", "--gain", "gain.mrc")
    assert code == 0, err
    assert "2 micrographs, e.g. movie1.mrcs: it is a movie" in err
    assert err.count("Correct the motion first") == 1
    mrc.write(Path("gain.mrc"), np.ones((1030, 1040)))
    code, _, err = upicker(capsys, "propose", *movies, "-o", "o2", "--diameter", "60px", "--gain", "gain.mrc")
    assert (code, "gain reference gain.mrc 1030 x 1040" in err) == (3, True)


UID = "012345678901234567890"


def put(folder: str, *names: str) -> None:
    for name in names:
        coordinates.write(Path(folder) / f"{name}.csv", Particles.of(CENTRES, DIAMETER), "csv")


def test_extract_and_evaluate_match_names_that_programs_changed(project: Path, capsys) -> None:
    put("picks", f"{UID}_m1_patch_aligned_doseweighted", "m2_DW", "elsewhere_3")
    put("labels", "m1", "m2", "m3")
    command = ("extract", "picks", "--micrographs", "Ctf/mics.star", "--box", "32px", "-o", "cut/particles.star")
    code, _, err = upicker(capsys, *command)
    assert code == 3
    assert "1 pick file without a micrograph, not extracted: elsewhere_3.csv" in err
    assert sorted(path.name for path in Path("cut/Particles").iterdir()) == ["m1.mrcs", "m2.mrcs"]
    command = ("evaluate", "labels", "picks", "--overlay", "drawn", "--micrographs", "Micrographs")
    code, out, err = upicker(capsys, *command)
    assert code == 0, err
    assert "all 3" in out
    assert "1 labelled micrograph without picks, all labels counted as missed: m3" in err
    assert "1 picked micrograph without labels, left out: elsewhere_3" in err
    assert sorted(path.name for path in Path("drawn").iterdir()) == ["m1_overlay.png", "m2_overlay.png"]


def test_names_that_leave_a_choice_are_refused(project: Path, capsys) -> None:
    put("picks", "m1_DW", "m1_noDW")
    put("labels", "m1")
    for command in (
        ("extract", "picks", "--micrographs", "Micrographs", "--box", "32px", "-o", "cut/particles.star"),
        ("evaluate", "labels", "picks"),
        ("finetune", "Micrographs", "--labels", "picks", "-o", "m.safetensors"),
    ):
        code, _, err = upicker(capsys, *command)
        assert code == 1
        assert "m1_DW" in err
        assert "m1_noDW" in err
    assert not Path("cut").exists()


def test_a_packed_micrograph_is_named_without_both_suffixes(project: Path, capsys) -> None:
    Path("m9.mrc.gz").write_bytes(gzip.compress(Path("Micrographs/m1.mrc").read_bytes()))
    command = ("propose", "m9.mrc.gz", "-o", "out", "--diameter", "24px", "--skip-existing")
    assert upicker(capsys, *command)[0] == 0
    assert Path("out/m9.csv").exists()
    assert "1 of 1 micrographs already have outputs" in "".join(upicker(capsys, *command)[1:])
