"""RELION's STAR files: many micrographs in one, refined particles, optics groups, and lists of files."""

import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from upicker.errors import CoordinatesError, OutputError
from upicker.io import coordinates, mrc
from upicker.io.micrographs import entries
from upicker.io.picks import Picks, ReadOptions
from upicker.particles import Particles
from upicker.run.convert import Converting, convert

OPTICS = """data_optics
loop_
_rlnOpticsGroup #1
_rlnMicrographPixelSize #2
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


def test_origins_in_angstrom_need_the_micrographs_own_pixel_size(tmp_path: Path) -> None:
    # Motion correction may have binned the movie: its pixel size says nothing.
    for other in ("_rlnVoltage", "_rlnMicrographOriginalPixelSize"):
        text = REFINED.replace("_rlnMicrographPixelSize", other)
        with pytest.raises(
            CoordinatesError, match=r"pixel size of micrograph 'M/00123.mrc'.*--micrographs.*--pixel-size"
        ):
            text_of(tmp_path, text)
        first, _ = text_of(tmp_path, text.replace("1.77 -3.54", "0 0"))
        assert first.pixel_size_A is None
        given, _ = text_of(tmp_path, text, pixel_size_A=1.77)
        np.testing.assert_allclose(given.particles.xy, [(99, 202), (10, 20)])


def test_origins_of_picks_on_binned_micrographs(tmp_path: Path) -> None:
    """Coordinates on micrographs binned by 2 to 3.54 A: the scale holds for them, the raw pixel size for origins."""
    text = REFINED.replace("1 0.885 3.54", "1 3.54 3.54")
    for options in ({"scale": 2}, {"scale": 2, "pixel_size_A": 1.77}):
        first, _ = text_of(tmp_path, text, **options)
        np.testing.assert_allclose(first.particles.xy, [(199, 402), (20, 40)])
        assert first.pixel_size_A == 1.77


def test_origins_before_relion_3_1_are_in_pixels_of_the_extracted_picture(tmp_path: Path) -> None:
    text = (
        "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginX\n_rlnOriginY\n_rlnMagnification\n"
        "_rlnDetectorPixelSize\n100 200 1 -2 10000 3.54\n"
    )
    (rescaled,) = text_of(tmp_path, text, pixel_size_A=1.77)
    np.testing.assert_allclose(rescaled.particles.xy, [(98, 204)])
    (same,) = text_of(tmp_path, text, pixel_size_A=3.54)
    np.testing.assert_allclose(same.particles.xy, [(99, 202)])
    with pytest.raises(CoordinatesError, match="--pixel-size"):
        text_of(tmp_path, text)
    (unknown,) = text_of(tmp_path, text.replace("Magnification", "Voltage"))
    np.testing.assert_allclose(unknown.particles.xy, [(99, 202)])


MICS = """# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnMicrographOriginalPixelSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
og1 1 2.0 1.0 300 2.7 0.1


# version 30001

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
MotionCorr/job002/Movies/a.mrc 1
MotionCorr/job002/Movies/b.mrc 1

"""


def converted(inputs: Path, micrographs: Path, **reading: object) -> dict[str, Picks]:
    work = Converting("csv", inputs.with_suffix(".out.csv"), ReadOptions(**reading))  # type: ignore[arg-type]
    convert([inputs], work, entries([micrographs]))
    return {Path(picks.micrograph).stem: picks for picks in coordinates.read_all(work.output)}


def test_relion_recentres_particles_of_binned_movies_at_the_same_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, relion: str
) -> None:
    """Movies of 1 A, micrographs of 2 A, images of 4 A: RELION extracts, "refines", and extracts again, recentred."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    for name in "ab":
        pixels = random.normal(size=(230, 310)).astype(np.float32)
        mrc.write(Path(f"MotionCorr/job002/Movies/{name}.mrc"), pixels, 2.0)
        centres = random.integers(60, 150, (4, 2))
        picks = [Picks(f"Movies/{name}.mrc", Particles.of(centres, 24.0), (230, 310), 2.0)]
        coordinates.write_all(Path("Pick/Movies"), picks, "star")
    Path("mics.star").write_text(MICS)
    extracting = [relion, "--i", "mics.star", "--extract", "--extract_size", "40"]
    command = [*extracting, "--coord_dir", "Pick/", "--coord_suffix", "_autopick.star", "--scale", "20"]
    command += ["--part_dir", "Extract/", "--part_star", "Extract/particles.star"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    text = Path("Extract/particles.star").read_text()
    assert "_rlnMicrographOriginalPixelSize" in text
    assert "_rlnMicrographPixelSize" not in text
    head, optics, table = text.partition("data_particles")
    lines = table.rstrip().splitlines()
    labels = [line for line in lines if line.startswith("_")]
    rows = [line for line in lines if "@" in line]
    new = [f"_rlnOrigin{axis}Angst #{len(labels) + i}" for i, axis in enumerate("XY", 1)]
    origins = random.uniform(-24, 24, (len(rows), 2)).round(3)
    refined = [f"{row} {x} {y}" for row, (x, y) in zip(rows, origins)]
    Path("run_data.star").write_text("\n".join([head + optics, "", "loop_", *labels, *new, *refined, "", ""]))
    again = [*extracting, "--reextract_data_star", "run_data.star", "--recenter"]
    again += ["--part_dir", "Again/", "--part_star", "Again/particles.star"]
    subprocess.run(again, check=True, capture_output=True, timeout=60)
    theirs = starfile.read("Again/particles.star")["particles"]
    # RELION recentres by whole pixels, and leaves the rest in the new origins.
    rest = theirs[["rlnOriginXAngst", "rlnOriginYAngst"]].to_numpy() / 2.0
    centres = theirs[["rlnCoordinateX", "rlnCoordinateY"]].to_numpy() - rest
    found = converted(Path("run_data.star"), Path("mics.star"))
    names = [Path(name).stem for name in theirs.rlnMicrographName]
    for name in "ab":
        at = [i for i, other in enumerate(names) if other == name]
        np.testing.assert_allclose(found[name].particles.xy, centres[at], atol=2e-3)
        assert found[name].pixel_size_A == 2.0


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


HEAD = "data_{}\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n"
NAMED = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnMicrographName #3\n"


def test_tables_one_behind_the_other_are_read_whole(tmp_path: Path) -> None:
    """Files that were joined by ``cat``, each micrograph in one of them or in both."""
    parts = [f"# version 30001\n\n{NAMED}10 20 a.mrc\n11 21 b.mrc\n", f"{NAMED}", f"{NAMED}30 40 b.mrc\n31 41 c.mrc\n"]
    found = {picks.micrograph: picks.particles.xy.tolist() for picks in text_of(tmp_path, "".join(parts))}
    assert found == {"a.mrc": [[10, 20]], "b.mrc": [[11, 21], [30, 40]], "c.mrc": [[31, 41]]}


def test_each_of_several_tables_has_the_optics_before_it(tmp_path: Path) -> None:
    columns = "_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnMicrographName #3\n_rlnOriginXAngst #4\n_rlnOpticsGroup #5\n"
    parts = [
        f"data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 {size}\n\n"
        f"data_particles\n\nloop_\n{columns}100 50 {name} 4 1\n\n"
        for name, size in (("a.mrc", 1.0), ("b.mrc", 2.0))
    ]
    first, second = text_of(tmp_path, "".join(parts))
    assert (first.particles.xy[0, 0], second.particles.xy[0, 0]) == (96, 98)
    assert (first.pixel_size_A, second.pixel_size_A) == (1.0, 2.0)


def test_tables_without_names_one_behind_the_other_are_refused(tmp_path: Path) -> None:
    text = f"{HEAD.format('m1')}10 20\n11 21\n\n{HEAD.format('m2')}30 40\n"
    with pytest.raises(CoordinatesError, match=r"it holds 2 tables of coordinates \(from lines 1 and 9\)"):
        text_of(tmp_path, text)
    with pytest.raises(CoordinatesError, match="it holds 2 tables of coordinates"):
        text_of(tmp_path, f"{HEAD.format('m1')}10 20\n\n{NAMED}30 40 a.mrc\n")
    (only,) = text_of(tmp_path, f"{HEAD.format('none')}\n{HEAD.format('all')}30 40\n")
    np.testing.assert_array_equal(only.particles.xy, [(30, 40)])


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ("_rlnCoordinateZ _rlnTomoName", ("100 90 20 TS_1", "100 90 40 TS_2")),
        ("_rlnTomoName", ("100 90 TS_1",)),
        ("_rlnCoordinateZ _rlnMicrographName", ("100 120 45 a", "100 120 145 a")),
        ("_rlnCoordinateZ", ("0.131 0.4155 0.18", "0.64 0.2155 0.58")),
    ],
)
def test_positions_in_tomograms_are_refused(tmp_path: Path, columns: str, rows: tuple[str, ...]) -> None:
    labels = ["_rlnCoordinateX", "_rlnCoordinateY", *columns.split()]
    text = "\n".join(["data_", "loop_", *labels, *rows, ""])
    with pytest.raises(CoordinatesError, match=rf"positions in tomograms \(column {columns.split()[-1]}|tomograms"):
        text_of(tmp_path, text)


def test_a_z_of_nothing_but_zeros_is_a_micrographs(tmp_path: Path) -> None:
    text = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n100 90 0\n50 60 0.0\n"
    np.testing.assert_array_equal(text_of(tmp_path, text)[0].particles.xy, [(100, 90), (50, 60)])


def test_lists_one_behind_the_other_are_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lists = [
        coordinates.write_all(Path(f"AutoPick/job{i}"), [Picks(f"Movies/{name}.mrc", some(i))], "relion")[-1]
        for i, name in enumerate("ab", 1)
    ]
    Path("autopick.star").write_text("".join(path.read_text() for path in lists))
    found = coordinates.read_all(Path("autopick.star"))
    assert [picks.micrograph for picks in found] == ["Movies/a.mrc", "Movies/b.mrc"]


def test_an_end_of_names_that_fits_no_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CoordinatesError, match=r"no coordinates files \*_autopick.star"):
        text_of(tmp_path, "CtfFind/job003/micrographs_ctf.star\n", "coords_suffix_autopick.star")


@pytest.mark.parametrize("word", ["_rlnCoordinateX", "data_", "loop_", "_rlnMicrographName"])
def test_a_damaged_end_of_names_is_not_followed(tmp_path: Path, word: str) -> None:
    coordinates.write_all(tmp_path, [Picks("a.mrc", some())], "star")
    with pytest.raises(CoordinatesError, match=r"no columns( _rlnCoordinateX|\.)|before the first data_ line"):
        text_of(tmp_path, f"{word}\n", "coords_suffix_autopick.star")


HELIX = """data_particles

loop_
_rlnCoordinateX #1
_rlnCoordinateY #2
_rlnMicrographName #3
_rlnHelicalTubeID #4
_rlnAngleTiltPrior #5
_rlnAnglePsiPrior #6
_rlnHelicalTrackLengthAngst #7
_rlnAnglePsiFlipRatio #8
60 60 Movies/a.mrc 1 90.0 -45.0 0.00 0.5
70 70 Movies/a.mrc 1 90.0 -45.0 28.30 0.5
"""


@pytest.mark.parametrize("format", ["particles", "relion", "star", "csv"])
def test_what_is_not_kept_of_filaments_is_told_and_no_angle_invented(tmp_path: Path, format: str) -> None:
    (tmp_path / "helix.star").write_text(HELIX)
    report = convert([tmp_path / "helix.star"], Converting(format, tmp_path / "out"))
    assert report.lost == ["filament numbers, angle priors (RELION's helical extraction needs them)"]
    for path in report.written[:1] if format != "csv" else ():
        table = starfile.read(path)
        assert (table.rlnAnglePsi == -999).all()


def test_angles_of_refined_particles_are_told(tmp_path: Path) -> None:
    text = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnAngleRot\n_rlnAngleTilt\n10 20 {}\n30 40 -999 -999\n"
    (tilted,) = text_of(tmp_path, text.format("0 35.5"))
    (flat,) = text_of(tmp_path, text.format("0 0"))
    assert (tilted.unread, flat.unread) == (("rot and tilt angles",), ())


def test_a_size_of_one_micrograph_is_not_noted_for_all(tmp_path: Path) -> None:
    """Warp's table has one comment for all micrographs."""
    picks = [Picks("a.mrc", some(2), (371, 533), 1.0), Picks("b.mrc", some(2), (600, 400), 2.0)]
    (path,) = coordinates.write_all(tmp_path / "all.star", picks, "warp")
    assert [(p.shape, p.pixel_size_A) for p in coordinates.read_all(path)] == [(None, None)] * 2
    alike = [Picks(name, some(2), (371, 533), 1.5) for name in ("a.mrc", "b.mrc")]
    (path,) = coordinates.write_all(tmp_path / "all.star", alike, "warp")
    assert [(p.shape, p.pixel_size_A) for p in coordinates.read_all(path)] == [((371, 533), 1.5)] * 2
    joined = tmp_path / "joined.star"
    joined.write_text(path.read_text() + path.read_text().replace("a.mrc", "c.mrc").replace("371 rows", "600 rows"))
    assert {p.shape for p in coordinates.read_all(joined)} == {None}


def test_stacks_name_the_micrographs_where_nothing_else_does(tmp_path: Path) -> None:
    head = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnImageName\n"
    rows = (
        "10 20 000001@Extract/job003/a.mrcs\n30 40 000001@Extract/job003/b.mrcs\n50 60 000002@Extract/job003/a.mrcs\n"
    )
    first, second = text_of(tmp_path, head + rows)
    assert [Path(picks.micrograph).stem for picks in (first, second)] == ["a", "b"]
    np.testing.assert_array_equal(first.particles.xy, [(10, 20), (50, 60)])
    (only,) = text_of(tmp_path, head + rows.splitlines()[0] + "\n", "mic.star")
    assert only.micrograph == "mic"


@pytest.mark.parametrize("blank", ['""', '" "', "''"])
def test_a_micrograph_without_a_name_is_refused(tmp_path: Path, blank: str) -> None:
    head = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnMicrographName\n"
    with pytest.raises(CoordinatesError, match="line 7 has no name in _rlnMicrographName"):
        text_of(tmp_path, f"{head}10 20 a.mrc\n30 40 {blank}\n")
