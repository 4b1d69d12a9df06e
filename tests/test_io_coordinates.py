"""Coordinates survive every format, and every bad file is named with its line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import starfile
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from upicker.errors import ConfigError, CoordinatesError, InputError, OutputError, UPickerWarning
from upicker.io import coordinates, folders, sources
from upicker.io.inside import check_inside
from upicker.io.picks import ReadOptions
from upicker.particles import Particles

SHAPE = (371, 533)
SIMPLE = ("csv", "star", "box")


def some(n: int = 7) -> Particles:
    random = np.random.default_rng(3)
    xy = random.uniform(0, (SHAPE[1], SHAPE[0]), (n, 2))
    return Particles.of(xy, random.uniform(20, 60, n), random.uniform(0, 1, n))


def read_text(tmp_path: Path, text: str, name: str = "mic.csv") -> Particles:
    path = tmp_path / name
    path.write_text(text)
    return coordinates.read(path)


@pytest.mark.parametrize("format", SIMPLE)
@pytest.mark.parametrize("n", [0, 1, 7])
def test_round_trip(tmp_path: Path, format: str, n: int) -> None:
    particles = some(n)
    path = coordinates.output_path(tmp_path, "mic", format)
    coordinates.write(path, particles, format, 1.77)
    again = coordinates.read(path)
    assert len(again) == n
    np.testing.assert_allclose(again.xy, particles.xy, atol=2e-4)
    np.testing.assert_allclose(again.score, particles.score, rtol=1e-7)
    if format == "star":
        assert np.isnan(again.diameter_px).all()
    else:
        np.testing.assert_allclose(again.diameter_px, particles.diameter_px, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(-1e4, 1e5), st.floats(-1e4, 1e5), st.floats(-1e3, 1e3)), max_size=5))
@example([(0.25, 0.5, 0.0)])
def test_round_trip_of_any_numbers(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    table = np.array(rows).reshape(-1, 3)
    assume(len(rows) < 2 or (np.abs(table[:, :2]) > 1).any())  # else fractions of the micrograph's size, refused
    particles = Particles.of(table[:, :2], 30, np.where(table[:, 2] == -999, 1, table[:, 2]))
    folder = tmp_path_factory.mktemp("any")
    for format in SIMPLE:
        path = folder / f"mic.{format}"
        coordinates.write(path, particles, format)
        again = coordinates.read(path)
        np.testing.assert_allclose(again.xy, particles.xy, atol=1e-3)
        np.testing.assert_allclose(again.score, particles.score, rtol=1e-7)


def test_unknown_diameters_stay_unknown_in_csv_and_are_refused_in_box(tmp_path: Path) -> None:
    particles = Particles.of([(1, 2), (3, 4)], [np.nan, 12])
    coordinates.write(tmp_path / "mic.csv", particles, "csv")
    np.testing.assert_array_equal(coordinates.read(tmp_path / "mic.csv").diameter_px, [np.nan, 12])
    with pytest.raises(OutputError, match=r"mic\.box.*--diameter"):
        coordinates.write(tmp_path / "mic.box", particles, "box")
    assert not (tmp_path / "mic.box").exists()


CSVS = [
    "x,y,diameter\n10.5,20,30\n",
    "\ufeffX-Coordinate,Y-Coordinate,Diameter\r\n10.5,20,30\r\n",
    "diameter;note;Y;X\n30;a b;20;10.5\n",
    "10.5,20,30\n",
    "# by hand\n\n10.5, 20, 30,\n",
    "x y diameter\n10.5 20 30\n",
    '"x","y","diameter"\n"10.5","20","30"\n',
]


@pytest.mark.parametrize("text", CSVS)
@pytest.mark.parametrize("name", ["mic.csv", "mic.star"])
def test_csv_columns_go_by_name_and_the_content_decides(tmp_path: Path, text: str, name: str) -> None:
    particles = read_text(tmp_path, text, name)
    np.testing.assert_array_equal(particles.xy, [(10.5, 20)])
    np.testing.assert_array_equal(particles.diameter_px, [30])
    np.testing.assert_array_equal(particles.score, [1])


def test_blank_cells_are_unknown_diameters_and_full_scores(tmp_path: Path) -> None:
    particles = read_text(tmp_path, "x,y,diameter,score\n1,2,,\n3,4,0,.5\n5,6,nan,.25\n7,8,,<NA>\n")
    assert np.isnan(particles.diameter_px).all()
    np.testing.assert_array_equal(particles.score, [1, 0.5, 0.25, 1])


OPTICS = "# version 30001\n\ndata_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnOpticsGroupName #2\n1 00123\n\n"
STARS = [
    "data_\n\nloop_ \n_rlnCoordinateX #1 \n_rlnCoordinateY #2 \n 10.5 20 \n 30 40.25 \n \n",
    "loop_\n_rlnCoordinateX\n_rlnCoordinateY\n10.5 20\n30 40.25\n",
    f"{OPTICS}data_particles\nloop_\n_rlnMicrographName #1\n_rlnCoordinateY #2\n_rlnCoordinateX #3\n"
    "00123 20 10.5 # good\n\n# the next\n00123\t40.25\t30\n",
    "data_images\r\nloop_\r\n_note\r\n_rlnCoordinateX\r\n_rlnCoordinateY\r\n"
    "'a b' 10.5 20\r\n\"c # d\" 30 40.25\r\n"
    "data_more\r\n_rlnOther 5\r\n",
    f"{OPTICS}data_x\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnAutopickFigureOfMerit\n"
    "10.5 20 -999.000000\n30 40.25 -999\n",
]


@pytest.mark.parametrize("text", STARS)
def test_star_columns_go_by_name_with_and_without_optics(tmp_path: Path, text: str) -> None:
    particles = read_text(tmp_path, text, "mic.star")
    np.testing.assert_array_equal(particles.xy, [(10.5, 20), (30, 40.25)])
    np.testing.assert_array_equal(particles.score, [1, 1])


def test_star_of_one_particle_without_a_loop(tmp_path: Path) -> None:
    text = "data_\n_rlnCoordinateX 10.5\n_rlnCoordinateY 20\n_rlnAutopickFigureOfMerit .5\n"
    particles = read_text(tmp_path, text, "mic.star")
    np.testing.assert_array_equal(particles.xy, [(10.5, 20)])
    np.testing.assert_array_equal(particles.score, [0.5])


def test_star_is_what_other_readers_expect(tmp_path: Path) -> None:
    particles = some()
    coordinates.write(tmp_path / "mic.star", particles, "star", 1.77)
    table = starfile.read(tmp_path / "mic.star")
    assert list(table.columns) == [
        "rlnCoordinateX",
        "rlnCoordinateY",
        "rlnAutopickFigureOfMerit",
        "rlnClassNumber",
        "rlnAnglePsi",
    ]
    np.testing.assert_allclose(table[["rlnCoordinateX", "rlnCoordinateY"]], particles.xy, atol=1e-6)
    assert (table.rlnClassNumber == 0).all()
    assert "1.77 A" in (tmp_path / "mic.star").read_text()


def test_box_centres_are_the_pixel_at_half_the_size(tmp_path: Path) -> None:
    # Columns 10..19 and rows 40..45: pixel 5 of the 10, pixel 3 of the 6.
    particles = read_text(tmp_path, "10\t40\t10\t6\n100 200 30 30\n", "mic.box")
    np.testing.assert_array_equal(particles.xy, [(15, 43), (115, 215)])
    np.testing.assert_array_equal(particles.diameter_px, [8, 30])
    np.testing.assert_array_equal(particles.score, [1, 1])
    scored = read_text(tmp_path, "10 40 10 10 0.25\n", "mic.csv")
    np.testing.assert_array_equal(scored.score, [0.25])


BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": ("mic.csv", b"", "empty"),
    "blank": ("mic.csv", b"\n \n", "no line with values"),
    "binary": ("mic.csv", b"x,y\n1,\0\xff\n", "not a text file"),
    "not utf-8": ("mic.csv", b"x,y\n1,\xff\xfe\n", "not a text file"),
    "other columns": ("mic.csv", b"step,loss,y\n1,2,3\n", "no column x, but: step, loss, y"),
    "one column": ("mic.csv", b"1\n2\n", "1 columns and no header"),
    "five columns": ("mic.csv", b"1,2,3,4,5\n", "5 columns and no header"),
    "nan": ("mic.csv", b"x,y\n1,2\n\nnan,4\n", "line 4 has 'nan'"),
    "infinite": ("mic.csv", b"x,y\n1,2\n3,inf\n", "line 3 has 'inf'"),
    "a word": ("mic.csv", b"x,y\n1,2\n3,four\n", "line 3 has 'four'"),
    "nan score": ("mic.csv", b"x,y,score\n1,2,0.5\n3,4,-inf\n", "line 3 has '-inf'"),
    "short row": ("mic.csv", b"x,y\n1,2\n3\n", "line 3 has 1 values, and the first line 2"),
    "star without coordinates": (
        "mic.star",
        b"data_\nloop_\n_rlnX\n1\n",
        "no columns _rlnCoordinateX.*_rlnX",
    ),
    "star without anything": ("mic.star", b"data_\n", "but: none"),
    "star row": (
        "mic.star",
        b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n3\n",
        "line 6 has 1 values for 2",
    ),
    "star nan": (
        "mic.star",
        b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\nnan 4\n",
        "line 6 has 'nan'",
    ),
    "many micrographs": (
        "mic.star",
        b"data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnMicrographName\n1 2 a\n3 4 b\n",
        "2 micrographs",
    ),
    "box without size": ("mic.box", b"1 2 10 10\n3 4 0 10\n", "line 2 has a box without a size"),
    "box word": ("mic.box", b"1 2 10 10\n3 four 10 10\n", "line 2 has 'four'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_what_was_found(tmp_path: Path, case: str) -> None:
    name, content, found = BAD[case]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CoordinatesError, match=found) as caught:
        coordinates.read(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "no.csv", tmp_path):
        with pytest.raises(CoordinatesError, match=str(path)):
            coordinates.read(path)


def test_an_unknown_format_is_named_with_the_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'dog'.*csv, tsv, star"):
        coordinates.output_path(tmp_path, "mic", "dog")
    with pytest.raises(ConfigError, match=r"'dog'.*csv, tsv, star"):
        coordinates.write(tmp_path / "mic.dog", some(), "dog")


def test_an_unwritable_output_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"mic\.csv"):
        coordinates.write(tmp_path / "file" / "mic.csv", some(), "csv")


def test_what_is_known_of_the_micrograph_holds_for_its_file(tmp_path: Path) -> None:
    """Origins in Angstrom by its pixel size; a file made on a binned picture is refused."""
    path = tmp_path / "mic.star"
    path.write_text("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginXAngst\n100 50 8\n")
    assert sources.read(path, SHAPE, 2.0).xy.tolist() == [[96, 50]]
    with pytest.raises(CoordinatesError, match=r"--pixel-size"):
        sources.read(path, SHAPE, None)
    coordinates.write(path, Particles.of([(10, 20)]), "star", 2.0, (SHAPE[0] // 2, SHAPE[1] // 2))
    with pytest.raises(CoordinatesError, match=r"made on an image of .*, but micrograph 'mic' has .*--scale 2"):
        sources.read(path, SHAPE, 1.0)


@pytest.mark.parametrize("format", ["csv", "star", "particles", "topaz"])
def test_positions_between_0_and_1_are_fractions_and_refused(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"mic{coordinates.output_path(tmp_path, '', format).suffix}"
    for fine in ([(0.25, 0.5)], [(0, 1), (1, 1)], [(0.25, 0.5), (0.5, 1.5)]):
        coordinates.write(path, Particles.of(fine, 30), format)
        np.testing.assert_allclose(coordinates.read(path).xy, fine)
    coordinates.write(path, Particles.of([(0.131, 0.4155), (0.64, 0.2155), (1, 0)], 30), format)
    with pytest.raises(CoordinatesError, match=r"between 0 and 1: they are fractions.*Multiply"):
        coordinates.read(path)


@pytest.mark.parametrize(
    ("row", "found"),
    [("1e13,3,30,4", "x 1e"), ("5,-3e38,30,4", "y -3e"), ("5,3,1e39,4", "diameter"), ("5,3,30,1e9", "angle")],
)
def test_numbers_of_no_particle_are_refused_with_their_file(tmp_path: Path, row: str, found: str) -> None:
    path = tmp_path / "mic.csv"
    path.write_text(f"x,y,diameter,psi_deg\n1,2,30,4\n{row}\n")
    with pytest.raises(CoordinatesError, match=rf"mic.csv: its particle 2 has the {found}.* not possible"):
        coordinates.read(path)


def test_numbers_that_a_scale_takes_beyond_all_bounds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mic.star"
    path.write_text("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOriginXAngst\n1e308 3 1e308\n")
    with pytest.raises(CoordinatesError, match=r"its particle 1 has the x inf, which is not possible"):
        coordinates.read(path, ReadOptions(scale=100, pixel_size_A=1e-3))


def test_few_centres_outside_are_dropped_and_many_are_an_error() -> None:
    inside = [(x, 300.0) for x in range(40)]
    kept, dropped = check_inside(Particles.of([*inside, (533.0, 100.0), (-0.4, -0.4)]), SHAPE, "mic.csv")
    assert (len(kept), dropped) == (41, 1)
    swapped = Particles.of([(y, x) for x, y in some(40).xy])
    with pytest.raises(CoordinatesError, match=r"labels/mic\.csv: \d+ of 40 .* 533 columns x 371 rows"):
        check_inside(swapped, SHAPE, "labels/mic.csv")
    kept, dropped = check_inside(Particles.of([]), SHAPE, "mic.csv")
    assert (len(kept), dropped) == (0, 0)


@pytest.mark.parametrize(
    ("others", "outside", "diameter", "is_refused"),
    [
        (9, [(536.2, 100)], 16, False),  # one of ten, shifted over the edge by refinement
        (9, [(100, -4), (536.2, 100)], 16, False),
        (7, [(100, -4), (536.2, 100), (-2, 100)], 16, True),  # many
        (9, [(560, 100)], 16, True),  # far
        (9, [(545, 100)], np.nan, False),
        (9, [(560, 100)], np.nan, True),
        (30, [(5000, 100)], 16, False),  # one of many
        (0, [(536.2, 100)], 16, False),
        (1, [(536.2, 100)], 16, False),
        (1, [(536.2, 100), (100, -4)], 16, True),
    ],
)
def test_one_of_few_centres_outside_is_dropped_unless_it_is_far(
    others: int, outside: list, diameter: float, is_refused: bool
) -> None:
    particles = Particles.of([*((x, 300.0) for x in range(others)), *outside], diameter)
    if is_refused:
        with pytest.raises(CoordinatesError, match=f"{len(outside)} of {len(particles)} centres lie outside"):
            check_inside(particles, SHAPE, "mic.csv")
    else:
        kept, dropped = check_inside(particles, SHAPE, "mic.csv")
        assert (len(kept), dropped) == (others, len(outside))


def test_files_are_found_by_the_micrographs_stem(tmp_path: Path) -> None:
    for format in ("box", "star", "csv"):
        coordinates.write(coordinates.output_path(tmp_path, "a.00", format), some(), format)
    coordinates.write(tmp_path / "b_autopick.star", some(), "star")
    coordinates.write(tmp_path / "b_manualpick.star", some(), "star")
    coordinates.write(tmp_path / "c.box", some(), "box")
    (tmp_path / "broken.csv").write_bytes(b"\0\1")
    (tmp_path / "empty.csv").write_bytes(b"")
    (tmp_path / "log.csv").write_text("step,loss\n1,2\n")
    (tmp_path / "summary.star").write_text("data_\nloop_\n_rlnMicrographName\na.mrc\n")
    (tmp_path / "notes.txt").write_text("x,y\n")
    (tmp_path / "folder.csv").mkdir()
    expected = {
        "a.00": "a.00.csv",
        "b": "b_manualpick.star",
        "broken": "broken.csv",
        "c": "c.box",
        "empty": "empty.csv",
    }
    # Only files of the same format are others for certain; one run may write several formats.
    with pytest.warns(UPickerWarning, match=r"b_autopick\.star is not used, because b_manualpick\.star") as warned:
        found = folders.stems(tmp_path)
    assert len(warned) == 1
    assert {stem: path.name for stem, path in found.items()} == expected
    with pytest.raises(InputError, match="no such folder"):
        folders.stems(tmp_path / "no")


def test_real_labels(shared: Path) -> None:
    for name, diameter, fewest in (
        ("empiar10017", 108, 392),
        ("apoferritin", 72, 152),
        ("proteasome20s", 24, 50),
    ):
        files = folders.stems(shared / "data" / name / "coords")
        assert len(files) >= 11
        for path in files.values():
            labels = coordinates.read(path)
            assert len(labels) >= fewest
            assert (labels.diameter_px == diameter).all()


def test_an_independent_scorer_reads_star_and_csv_alike(shared: Path, tmp_path: Path) -> None:
    scorer = shared / "tools" / "score.py"
    if not scorer.is_file():
        pytest.skip("the scorer is not here")
    labels = some(200)
    picks = Particles.of(labels.xy + np.random.default_rng(5).normal(0, 8, labels.xy.shape), 40, labels.score)
    printed = []
    for format in ("csv", "star"):
        coordinates.write(coordinates.output_path(tmp_path / "labels", "mic", "csv"), labels, "csv")
        coordinates.write(coordinates.output_path(tmp_path / format, "mic", format), picks, format)
        command = [sys.executable, scorer, tmp_path / "labels", tmp_path / format, "--diameter", "40"]
        printed.append(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert printed[0] == printed[1]
    assert "200 labels, 200 picks" in printed[0]
