"""RELION's STAR files: many micrographs in one, refined particles, optics groups, and lists of files."""

import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from upicker.errors import CoordinatesError, OutputError
from upicker.io import coordinates, mrc
from upicker.io.picks import Picks, ReadOptions
from upicker.particles import Particles

OPTICS = """data_optics
loop_
_rlnOpticsGroup #1
_rlnMicrographOriginalPixelSize #2
_rlnImagePixelSize #3
1 0.885 3.54
2 1.77 3.54

"""
REFINED = f"""# version 30001

{OPTICS}
data_particles

loop_
_rlnMicrographName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnOriginXAngst #4
_rlnOriginYAngst #5
_rlnOpticsGroup #6
_rlnClassNumber #7
_rlnAnglePsi #8
M/00123.mrc 100 200 1.77 -3.54 1 3 45
'M/a b.mrc' 100 200 1.77 -3.54 2 1 -999
M/00123.mrc 10 20 0 0 1 1 0
"""


def text_of(tmp_path: Path, text: str, name: str = "particles.star", **options: object) -> list[Picks]:
    (tmp_path / name).write_text(text)
    return coordinates.read_all(tmp_path / name, ReadOptions(**options))  # type: ignore[arg-type]


def test_refined_particles_lie_at_coordinate_minus_origin_in_pixels_of_the_micrograph(tmp_path: Path) -> None:
    first, second = text_of(tmp_path, REFINED)
    assert (first.micrograph, second.micrograph) == ("M/00123.mrc", "M/a b.mrc")
    # 1.77 A are 2 pixels of 0.885 A, not half a pixel of the extracted picture's 3.54 A.
    np.testing.assert_allclose(first.particles.xy, [(98, 204), (10, 20)])
    np.testing.assert_allclose(second.particles.xy, [(99, 202)])
    assert (first.pixel_size_A, second.pixel_size_A) == (0.885, 1.77)
    np.testing.assert_array_equal(first.particles.extra["class_number"], [3, 1])
    np.testing.assert_array_equal(first.particles.extra["psi_deg"], [45, 0])
    np.testing.assert_array_equal(second.particles.extra["psi_deg"], [np.nan])
    given, _ = text_of(tmp_path, REFINED, pixel_size_A=1.77)
    np.testing.assert_allclose(given.particles.xy, [(99, 202), (10, 20)])


def test_origins_in_angstrom_need_a_pixel_size(tmp_path: Path) -> None:
    text = REFINED.replace("_rlnMicrographOriginalPixelSize", "_rlnVoltage")
    with pytest.raises(CoordinatesError, match="--pixel-size"):
        text_of(tmp_path, text)
    first, _ = text_of(tmp_path, text.replace("1.77 -3.54", "0 0"))
    assert first.pixel_size_A is None


def test_origins_before_relion_3_1_are_in_pixels_of_the_extracted_picture(tmp_path: Path) -> None:
    text = (
        "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginX\n_rlnOriginY\n_rlnMagnification\n"
        "_rlnDetectorPixelSize\n100 200 1 -2 10000 3.54\n"
    )
    (rescaled,) = text_of(tmp_path, text, pixel_size_A=1.77)
    np.testing.assert_allclose(rescaled.particles.xy, [(98, 204)])
    (same,) = text_of(tmp_path, text)
    np.testing.assert_allclose(same.particles.xy, [(99, 202)])


def some(n: int = 3) -> Particles:
    random = np.random.default_rng(n)
    return Particles.of(random.uniform(0, 300, (n, 2)), np.nan, random.uniform(0, 1, n))


def test_a_picking_job_mirrors_the_micrographs_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["MotionCorr/job002/Movies/day 1/00123.mrc", "MotionCorr/job002/Movies/b.mrc", "/abs/../c.mrc"]
    picks = [Picks(name, some(i), (371, 533), 1.77) for i, name in enumerate(names)]
    files = coordinates.write_all(Path("AutoPick/job012"), picks, "relion")
    assert [str(file) for file in files] == [
        "AutoPick/job012/Movies/day 1/00123_autopick.star",
        "AutoPick/job012/Movies/b_autopick.star",
        "AutoPick/job012/abs/c_autopick.star",
        "AutoPick/job012/autopick.star",
    ]
    table = starfile.read(files[-1], parse_as_string=["rlnMicrographName"])
    assert list(table.columns) == ["rlnMicrographName", "rlnMicrographCoordinates"]
    assert list(table.rlnMicrographName) == names
    for where in (tmp_path, tmp_path / "AutoPick"):
        monkeypatch.chdir(where)
        again = coordinates.read_all(tmp_path / "AutoPick/job012/autopick.star")
        assert [p.micrograph for p in again] == names
        for one, other in zip(again, picks):
            np.testing.assert_allclose(one.particles.xy, other.particles.xy, atol=1e-6)
            assert one.shape == (371, 533)
    with pytest.raises(CoordinatesError, match="no columns _rlnCoordinateX"):
        coordinates.read(tmp_path / files[-1])
    with pytest.raises(OutputError, match="would share it"):
        coordinates.write_all(tmp_path, [Picks("job1/a.mrc", some()), Picks("job2/a.tif", some())], "relion")
    (tmp_path / "AutoPick/job012/Movies/b_autopick.star").unlink()
    with pytest.raises(CoordinatesError, match=r"line \d+: the coordinates of micrograph 'MotionCorr/job002/Movies/b"):
        coordinates.read_all(tmp_path / "AutoPick/job012/autopick.star")


def test_lists_of_relion_3_1_find_the_files_beside_them(tmp_path: Path) -> None:
    names = ["MotionCorr/job002/Movies/00123.mrc", "MotionCorr/job002/Movies/b.mrc"]
    coordinates.write_all(tmp_path, [Picks(name, some(i + 1)) for i, name in enumerate(names)], "relion")
    (tmp_path / "autopick.star").unlink()
    rows = "".join(f"{name} 5 0.5\n" for name in names)
    (tmp_path / "summary.star").write_text(
        f"data_\n\nloop_ \n_rlnMicrographName #1 \n_rlnGroupNrParticles #2 \n_rlnAutopickFigureOfMerit #3 \n{rows}"
    )
    (tmp_path / "coords_suffix_autopick.star").write_text("CtfFind/job003/micrographs_ctf.star\n")
    summary = coordinates.read_all(tmp_path / "summary.star")
    suffix = coordinates.read_all(tmp_path / "coords_suffix_autopick.star")
    assert [p.micrograph for p in summary] == names
    assert [p.micrograph for p in suffix] == ["Movies/00123", "Movies/b"]
    for one, other in zip(summary, suffix):
        np.testing.assert_array_equal(one.particles.xy, other.particles.xy)


def test_a_list_names_no_device_and_no_list(tmp_path: Path) -> None:
    head = "data_coordinate_files\nloop_\n_rlnMicrographName\n_rlnMicrographCoordinates\n"
    for name in ("/dev/zero", str(tmp_path), "x" * 5000, "no.star"):
        with pytest.raises(CoordinatesError, match="line 5: the coordinates"):
            text_of(tmp_path, f"{head}a.mrc {name}\n", "autopick.star")
    with pytest.raises(CoordinatesError, match="no columns"):
        text_of(tmp_path, f"{head}a.mrc autopick.star\n", "autopick.star")


def test_particles_of_many_pixel_sizes_get_optics_groups(tmp_path: Path) -> None:
    picks = [Picks("a.mrc", some(2), None, 0.885), Picks("b.mrc", some(1), None, 1.77)]
    coordinates.write_all(tmp_path / "particles.star", picks, "particles")
    tables = starfile.read(tmp_path / "particles.star")
    assert list(tables["optics"].rlnMicrographPixelSize) == [0.885, 1.77]
    assert list(tables["particles"].rlnOpticsGroup) == [1, 1, 2]
    assert [p.pixel_size_A for p in coordinates.read_all(tmp_path / "particles.star")] == [0.885, 1.77]


def test_warp_as_others_read_it(tmp_path: Path) -> None:
    coordinates.write_all(tmp_path / "allparticles.star", [Picks("..\\average\\a.mrc", some(2))], "warp")
    table = starfile.read(tmp_path / "allparticles.star")
    assert list(table.rlnMicrographName) == ["..\\average\\a.mrc"] * 2
    np.testing.assert_allclose(table[["rlnCoordinateX", "rlnCoordinateY"]], some(2).xy, atol=1e-6)


def test_names_that_look_like_something_else_survive(tmp_path: Path) -> None:
    names = ["data_1.mrc", "loop_", "_x", "#a", "'q", 'a "b', "00123", "1e5"]
    files = coordinates.write_all(tmp_path, [Picks(name, some(1)) for name in names], "relion")
    assert [p.micrograph for p in coordinates.read_all(files[-1])] == names


@pytest.mark.parametrize(("format", "ending"), [("relion", "_autopick.star"), ("box", ".box")])
def test_relion_cuts_the_pixels_around_our_centres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relion: str, format: str, ending: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).normal(size=(371, 533)).astype(np.float32)
    mrc.write(Path("Mics/a.mrc"), pixels, 1.77)
    columns = "_rlnOpticsGroupName\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n_rlnVoltage\n_rlnSphericalAberration\n"
    Path("mics.star").write_text(
        f"# version 30001\n\ndata_optics\n\nloop_\n{columns}_rlnAmplitudeContrast\ng 1 1.77 300 2.7 0.1\n\n\n"
        "# version 30001\n\ndata_micrographs\n\nloop_\n_rlnMicrographName\n_rlnOpticsGroup\nMics/a.mrc 1\n"
    )
    centres = [(100, 200), (301, 50), (77, 333)]
    picks = [Picks("Mics/a.mrc", Particles.of(centres, 32, [0.1, 0.2, 0.3]), (371, 533), 1.77)]
    coordinates.write_all(Path("Pick") if format == "relion" else Path("Pick/Mics"), picks, format)
    command = [relion, "--i", "mics.star", "--coord_dir", "Pick/", "--coord_suffix", ending, "--extract"]
    command += ["--extract_size", "32", "--part_dir", "Cut/", "--part_star", "Cut/particles.star"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with mrcfile.open("Cut/Mics/a.mrcs") as stack:
        for (x, y), cut in zip(centres, stack.data):
            np.testing.assert_array_equal(cut, pixels[y - 16 : y + 16, x - 16 : x + 16])
