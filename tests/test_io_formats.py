"""Every format gives back what went in, whichever comes after it, and each keeps its own program's frame."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from upicker.errors import ConfigError, CoordinatesError, OutputError
from upicker.io import coordinates
from upicker.io.formats import FORMATS
from upicker.io.picks import FLIPS, Picks, ReadOptions, WriteOptions, stem
from upicker.particles import Particles

SHAPE = (371, 533)
SIZE = 1.77


def carrying(*quantities: str) -> set[str]:
    """Return the names of formats that carry all of some quantities (a law that test_io_formats_law.py checks)."""
    return {format.name for format in FORMATS if format.carries >= set(quantities)} & set(coordinates.FORMATS)


# cryoSPARC's are float32.
DIAMETER, SCORE, EXTRA = carrying("diameter"), carrying("score"), carrying("class_number", "psi_deg")
SHAPED, NAMED = carrying("shape", "pixel_size"), carrying("micrograph")


def some(n: int = 7, seed: int = 3) -> Particles:
    random = np.random.default_rng(seed)
    xy = random.uniform(0, (SHAPE[1], SHAPE[0]), (n, 2))
    extra = {"class_number": random.integers(0, 9, n), "psi_deg": random.uniform(-180, 180, n)}
    return Particles(xy, random.uniform(20, 60, n), random.uniform(0, 1, n), extra)


def same(again: Particles, particles: Particles, formats: tuple[str, ...]) -> None:
    """Compare what all of `formats` can carry."""
    np.testing.assert_allclose(again.xy, particles.xy, atol=1e-3)
    if set(formats) <= DIAMETER:
        np.testing.assert_allclose(again.diameter_px, particles.diameter_px, rtol=1e-4)
    if set(formats) <= SCORE:
        np.testing.assert_allclose(again.score, particles.score, rtol=1e-6)
    if set(formats) <= EXTRA:
        np.testing.assert_array_equal(again.extra["class_number"], particles.extra["class_number"])
        np.testing.assert_allclose(again.extra["psi_deg"], particles.extra["psi_deg"], atol=1e-4)


@pytest.mark.parametrize("format", coordinates.FORMATS)
@pytest.mark.parametrize("n", [1, 7])
def test_round_trip_of_one_micrograph(tmp_path: Path, format: str, n: int) -> None:
    path = coordinates.output_path(tmp_path, "00123", format)
    coordinates.write(path, some(n), format, SIZE, SHAPE)
    same(coordinates.read(path), some(n), (format,))
    (picks,) = coordinates.read_all(path)
    assert stem(picks.micrograph) == "00123" or format not in NAMED
    if format in SHAPED:
        assert picks.shape == SHAPE
        assert picks.pixel_size_A == pytest.approx(SIZE)


@pytest.mark.parametrize("format", coordinates.FORMATS)
def test_no_particles_are_no_error(tmp_path: Path, format: str) -> None:
    path = coordinates.output_path(tmp_path, "mic", format)
    coordinates.write(path, Particles.of([]), format, SIZE, SHAPE)
    assert len(coordinates.read(path)) == 0


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_two_formats_in_a_row(tmp_path: Path, data: st.DataObject) -> None:
    first, second = (data.draw(st.sampled_from(coordinates.FORMATS)) for _ in range(2))
    flips = [data.draw(st.sampled_from(sorted(FLIPS))) for _ in range(2)]
    scales = [data.draw(st.sampled_from([1.0, 0.5, 2.0, 8.0])) for _ in range(2)]
    rows = data.draw(
        st.lists(st.tuples(st.floats(-9, 540), st.floats(-9, 400), st.floats(1, 90)), min_size=0, max_size=3)
    )
    # One in the middle: several within the first pixel would be fractions.
    table = np.array([(260.25, 190.5, 30.0), *rows])
    particles = Particles.of(table[:, :2], table[:, 2], np.linspace(0.125, 1, len(table)))
    picks = [Picks("mic", particles, SHAPE, SIZE)]
    for format, flip, scale in zip((first, second), flips, scales):
        write, read = WriteOptions(flip, scale), ReadOptions(lambda _: SHAPE, flip, scale)
        path = coordinates.write_all(tmp_path / f"{flip}{scale}", picks, format, write)[0]
        # cryoSPARC and COCO keep the binned picture's size, which is rounded.
        picks = [replace(p, shape=SHAPE, pixel_size_A=SIZE) for p in coordinates.read_all(path, read)]
        if not np.isfinite(picks[0].particles.diameter_px).all():
            picks = [replace(picks[0], particles=picks[0].particles.with_diameter(30))]
    again = picks[0].particles
    np.testing.assert_allclose(again.xy, particles.xy, atol=8e-3)
    if {first, second} <= DIAMETER:
        np.testing.assert_allclose(again.diameter_px, particles.diameter_px, atol=1e-3)
    if {first, second} <= SCORE:
        np.testing.assert_allclose(again.score, particles.score, rtol=1e-6)


@pytest.mark.parametrize("format", sorted(carrying("path")))
def test_many_micrographs_in_one_file(tmp_path: Path, format: str) -> None:
    names = ["M/00123.mrc", "M/a b.mrc", "deep/er/c'd.mrc"]
    picks = [Picks(name, some(i + 1, i), SHAPE, SIZE) for i, name in enumerate(names)]
    target = tmp_path / f"all{Path(coordinates.output_path(tmp_path, 'x', format)).suffix}"
    assert coordinates.write_all(target, picks, format)[0] == target
    again = coordinates.read_all(target)
    assert [p.micrograph for p in again] == names
    for one, other in zip(again, picks):
        same(one.particles, other.particles, (format,))
    with pytest.raises(CoordinatesError, match="3 micrographs"):
        coordinates.read(target)


@pytest.mark.parametrize("format", coordinates.FORMATS)
def test_a_folder_takes_a_file_per_micrograph_or_one_for_all(tmp_path: Path, format: str) -> None:
    picks = [Picks(f"M/{name}", some(), SHAPE, SIZE) for name in ("00123.mrc", "x.y.tif")]
    files = coordinates.write_all(tmp_path / "out", picks, format)
    assert all(file.is_file() for file in files)
    again = [p for file in files if file.suffix != ".csg" for p in coordinates.read_all(file)]
    assert {stem(p.micrograph) for p in again} == {"00123", "x.y"}
    if len(files) == 2 and format != "cs":
        twice = [*picks, Picks("N/00123.mrc", some(), SHAPE, SIZE)]
        with pytest.raises(OutputError, match=r"'M/00123.mrc' and 'N/00123.mrc'"):
            coordinates.write_all(tmp_path / "out", twice, format)


def test_names_with_line_breaks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="control characters"):
        coordinates.write_all(tmp_path, [Picks("a\nb", some())], "csv")


def test_threshold_and_pixel_size(tmp_path: Path) -> None:
    coordinates.write(tmp_path / "m.csv", Particles.of([(1, 2), (3, 4)], 5, [0.2, 0.8]), "csv", SIZE, SHAPE)
    (picks,) = coordinates.read_all(tmp_path / "m.csv", ReadOptions(threshold=0.5, pixel_size_A=0.9))
    np.testing.assert_array_equal(picks.particles.xy, [(3, 4)])
    assert picks.pixel_size_A == 0.9


# Frames. The picture has 371 rows; the particle's centre is pixel (10, 20).
@pytest.mark.parametrize(
    ("flip", "y"), [("none", 20), ("upside-down", 350), ("eman2", 350), ("tiff", 350), ("cryosparc", 351)]
)
def test_flips(tmp_path: Path, flip: str, y: float) -> None:
    (tmp_path / "m.csv").write_text("x,y\n10,20\n")
    (picks,) = coordinates.read_all(tmp_path / "m.csv", ReadOptions(lambda _: SHAPE, flip))
    np.testing.assert_array_equal(picks.particles.xy, [(10, y)])


def test_an_upside_down_picture_shows_the_same_pixel(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).normal(size=SHAPE)
    (tmp_path / "m.csv").write_text("x,y\n10,20\n")
    (picks,) = coordinates.read_all(tmp_path / "m.csv", ReadOptions(lambda _: SHAPE, "upside-down"))
    x, y = picks.particles.xy[0].astype(int)
    assert pixels[::-1][y, x] == pixels[20, 10]


def test_what_a_flip_or_scale_needs_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("x,y\n10,20\n")
    with pytest.raises(CoordinatesError, match=r"m\.csv.*size of micrograph 'm' is not known"):
        coordinates.read_all(tmp_path / "m.csv", ReadOptions(flip="eman2"))
    with pytest.raises(OutputError, match="size of micrograph"):
        coordinates.write_all(tmp_path, [Picks("m", some())], "csv", WriteOptions("eman2"))
    with pytest.raises(ConfigError, match=r"sideways.*upside-down"):
        ReadOptions(flip="sideways")
    for scale in (0, -1, np.nan, np.inf):
        with pytest.raises(ConfigError, match="--scale"):
            WriteOptions(scale=scale)


def test_picks_on_a_binned_picture_name_the_scale(tmp_path: Path) -> None:
    picks = [Picks("m", some(), SHAPE, SIZE)]
    path = coordinates.write_all(tmp_path, picks, "coco", WriteOptions(scale=4))[0]
    with pytest.raises(
        CoordinatesError, match=r"133 columns x 93 rows, but micrograph 'm' has 533 x 371.*--scale 3\.98"
    ):
        coordinates.read_all(path, ReadOptions(lambda _: SHAPE))
    (again,) = coordinates.read_all(path, ReadOptions(lambda _: SHAPE, scale=4))
    np.testing.assert_allclose(again.particles.xy, some().xy, atol=1e-3)
    assert again.shape == SHAPE
    assert again.pixel_size_A == pytest.approx(SIZE)


def test_the_record_of_the_frame_stands_in_what_is_written(tmp_path: Path) -> None:
    picks = [Picks("m", some(), (372, 532), SIZE)]
    options = WriteOptions("cryosparc", 2)
    star, cbox = (coordinates.write_all(tmp_path, picks, f, options)[0].read_text() for f in ("star", "cbox"))
    for text in (star, cbox):
        assert "picture 186 rows x 266 columns; pixel size 3.54 A; these pixels x 2 are raw pixels" in text
        assert "flipped for: cryosparc" in text
    table = coordinates.write_all(tmp_path, picks, "csv", options)[0].read_text().splitlines()
    assert table[0] == "x,y,diameter,score,class_number,psi_deg,rows,columns,pixel_size_A,flip,scale"
    assert table[1].endswith(",186,266,3.54,cryosparc,2")
    noted = json.loads(coordinates.write_all(tmp_path, picks, "eman2", options)[0].read_text())["upicker"]
    assert noted.items() >= {"rows": 186, "columns": 266, "flip": "cryosparc", "scale": 2}.items()


def read_text(tmp_path: Path, name: str, text: str, options: ReadOptions = ReadOptions()) -> list[Picks]:  # noqa: B008
    (tmp_path / name).write_text(text)
    return coordinates.read_all(tmp_path / name, options)


CBOX = """data_global

_cbox_format_version 1.0

data_cryolo

loop_
_CoordinateX #1
_CoordinateY #2
_CoordinateZ #3
_Width #4
_Height #5
_Depth #6
_EstWidth #7
_EstHeight #8
_Confidence #9
_NumBoxes #10
_Angle #11
10 40 <NA> 10 6 <NA> 12 14 0.25 3 <NA>
100 200 <NA> 30 30 <NA> <NA> <NA> 0.75 1 <NA>


data_cryolo_include

loop_
_slice_index #1
"""


@pytest.mark.parametrize("name", ["mic.cbox", "mic.txt"])
def test_cryolo(tmp_path: Path, name: str) -> None:
    (picks,) = read_text(tmp_path, name, CBOX)
    np.testing.assert_array_equal(picks.particles.xy, [(15, 43), (115, 215)])
    np.testing.assert_array_equal(picks.particles.diameter_px, [13, 30])
    np.testing.assert_array_equal(picks.particles.score, [0.25, 0.75])
    with pytest.raises(CoordinatesError, match="tomogram"):
        read_text(tmp_path, name, CBOX.replace("40 <NA>", "40 1").replace("200 <NA>", "200 2"))
    with pytest.raises(CoordinatesError, match=r"tomogram \(column _CoordinateZ\)"):
        read_text(tmp_path, name, CBOX.replace("40 <NA>", "40 7").replace("200 <NA>", "200 7"))
    with pytest.raises(CoordinatesError, match="line 20 has a box without a size"):
        read_text(tmp_path, name, CBOX.replace("30 30", "30 0"))
    with pytest.raises(CoordinatesError, match="no columns"):
        read_text(tmp_path, name, CBOX.replace("_Height", "_Hight"))


VERTICES = """data_global

_cbox_format_version 1.0

data_filament_vertices

loop_
_CoordinateX #1
_CoordinateY #2
_filamentid #3
_Width #4
_Height #5
100 100 0 40 40
300 300 0 40 40

data_cryolo

loop_
_CoordinateX #1
_CoordinateY #2
_filamentid #3
_Width #4
_Height #5
100 100 0 40 40
120 130 0 40 40
140 160 0 40 40
"""


def test_cryolo_on_filaments(tmp_path: Path) -> None:
    """The ends of the filaments, which have the same columns, are no picks, wherever they stand."""
    head, vertices, picked = VERTICES.partition("data_filament_vertices")
    ends, cryolo, picked = picked.partition("data_cryolo")
    for text in (VERTICES, head + cryolo + picked + "\n" + vertices + ends):
        (picks,) = read_text(tmp_path, "mic.cbox", text)
        np.testing.assert_array_equal(picks.particles.xy, [(120, 120), (140, 150), (160, 180)])
        assert picks.unread == ("filament numbers",)
    (picks,) = read_text(tmp_path, "mic.cbox", CBOX.replace("1 <NA>", "1 30.5"))
    assert picks.unread == ("angles",)
    assert read_text(tmp_path, "mic.cbox", CBOX)[0].unread == ()
    with pytest.raises(CoordinatesError, match=r"ends of filaments and no picks"):
        read_text(tmp_path, "mic.cbox", head + vertices + ends)
    with pytest.raises(CoordinatesError, match=r"2 tables of boxes \(from lines 5 and 31\).*file for each micrograph"):
        read_text(tmp_path, "mic.cbox", CBOX + CBOX)


def test_eman2(tmp_path: Path) -> None:
    (picks,) = read_text(tmp_path, "mic_info.json", '{"boxes": [[10, 20.5, "manual"], [30, 40, "auto", 0.5]], "x": 1}')
    assert picks.micrograph == "mic"
    np.testing.assert_array_equal(picks.particles.xy, [(10, 20.5), (30, 40)])
    np.testing.assert_array_equal(picks.particles.score, [1, 0.5])
    assert np.isnan(picks.particles.diameter_px).all()
    (picks,) = read_text(tmp_path, "mic.box", "10\t40\t10\t10\t-3\n20\t40\t10\t10\t-3\n")
    np.testing.assert_array_equal(picks.particles.score, [1, 1])


def test_eman2_in_tomograms(tmp_path: Path) -> None:
    with pytest.raises(CoordinatesError, match="positions in a tomogram"):
        read_text(tmp_path, "mic_info.json", '{"boxes": [], "boxes_3d": [[10, 20, 30, "manual", 0, 0]]}')
    assert read_text(tmp_path, "mic_info.json", '{"boxes": [[1, 2, "manual"]], "boxes_3d": []}')
    with pytest.raises(CoordinatesError, match=r"box 2 has a third number \(12\).*tomogram"):
        read_text(tmp_path, "mic_info.json", '{"boxes": [[1, 2, 0], [3, 4, 12]]}')


def test_columns_that_one_of_several_micrographs_has_are_kept(tmp_path: Path) -> None:
    plain = replace(some(), extra={})
    turned = replace(plain, extra={"psi_deg": np.linspace(10, 80, len(plain))})
    files = coordinates.write_all(tmp_path / "a.csv", [Picks("a", turned), Picks("b", plain)], "csv")
    first, second = coordinates.read_all(files[0])
    np.testing.assert_allclose(first.particles.extra["psi_deg"], turned.extra["psi_deg"])
    assert np.isnan(second.particles.extra["psi_deg"]).all()


def test_topaz_with_its_scale(tmp_path: Path) -> None:
    text = "image_name\tx_coord\ty_coord\tscore\n00123\t10\t20\t-1.5\nm b\t30\t40\t2\n00123\t50\t60\t0\n"
    first, second = read_text(tmp_path, "picks.txt", text, ReadOptions(scale=8))
    assert (first.micrograph, second.micrograph) == ("00123", "m b")
    np.testing.assert_array_equal(first.particles.xy, [(80, 160), (400, 480)])
    np.testing.assert_array_equal(first.particles.score, [-1.5, 0])


def test_cryoppp(tmp_path: Path) -> None:
    (picks,) = read_text(tmp_path, "m.csv", "X-Coordinate,Y-Coordinate,Diameter\n10,20,108\n")
    np.testing.assert_array_equal(picks.particles.xy, [(10, 20)])
    np.testing.assert_array_equal(picks.particles.diameter_px, [108])


def test_coco_boxes_are_edges(tmp_path: Path) -> None:
    """A box over columns 10..19 and rows 40..45 has its edges at 10, 20, 40 and 46, its middle at (14.5, 42.5)."""
    content = {
        "images": [{"id": 7, "file_name": "a.png", "width": 533, "height": 371}, {"id": "b", "file_name": "b.png"}],
        "annotations": [{"id": 1, "image_id": 7, "bbox": [10, 40, 10, 6], "category_id": 1}],
    }
    first, second = read_text(tmp_path, "labels.json", json.dumps(content))
    np.testing.assert_array_equal(first.particles.xy, [(14.5, 42.5)])
    assert (first.shape, first.micrograph) == (SHAPE, "a.png")
    assert (second.shape, second.micrograph, len(second.particles)) == (None, "b.png", 0)


def test_a_box_size_of_its_own(tmp_path: Path) -> None:
    particles = Particles.of([(100, 200)], 30)
    coordinates.write_all(tmp_path, [Picks("m", particles, SHAPE)], "box", WriteOptions(box_px=64))
    assert (tmp_path / "m.box").read_text() == "68\t168\t64\t64\t1\n"
    coordinates.write_all(tmp_path, [Picks("m", particles, SHAPE)], "cbox", WriteOptions(box_px=64))
    np.testing.assert_array_equal(coordinates.read(tmp_path / "m.cbox").diameter_px, [30])
    for format in ("box", "cbox", "coco"):
        with pytest.raises(OutputError, match="--diameter"):
            coordinates.write_all(tmp_path, [Picks("m", Particles.of([(1, 2)]))], format)


def test_stems_of_micrographs() -> None:
    for name in ("a.00.mrc", "x/a.00.TIF", "..\\average\\a.00.mrc.gz", "a.00"):
        assert stem(name) == "a.00"
    assert stem(".mrc") == ".mrc"
    assert stem("x/tab.tif.mrc") == "tab.tif"


def test_what_other_readers_see(tmp_path: Path) -> None:
    picks = [Picks("M/00123.mrc", some(), SHAPE, SIZE)]
    topaz = pd.read_csv(
        coordinates.write_all(tmp_path / "t.txt", picks, "topaz")[0], sep="\t", dtype={"image_name": str}
    )
    assert list(topaz.columns) == ["image_name", "x_coord", "y_coord", "score"]
    assert set(topaz.image_name) == {"00123"}
    np.testing.assert_allclose(topaz[["x_coord", "y_coord"]], some().xy, atol=1e-4)
    table = pd.read_csv(coordinates.write_all(tmp_path / "t.csv", picks, "csv")[0], dtype={"micrograph": str})
    np.testing.assert_allclose(table[["x", "y", "diameter"]].T, [*some().xy.T, some().diameter_px], atol=1e-4)
    assert (table[["rows", "columns", "pixel_size_A"]] == [*SHAPE, SIZE]).all(axis=None)
    cbox = starfile.read(coordinates.write_all(tmp_path, picks, "cbox")[0])
    assert set(cbox) >= {"global", "cryolo", "cryolo_include"}
    np.testing.assert_allclose(cbox["cryolo"].CoordinateX + cbox["cryolo"].Width / 2, some().xy[:, 0], atol=1e-4)


def _coco(folder: Path, annotations: list[dict], **more: object) -> Path:
    path = folder / "all.json"
    path.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.mrc"}], "annotations": annotations} | more))
    return path


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0.1, 0.2, 0.05, 0.05], [0, 0, 0.1, 0.1]], "all its boxes lie between 0 and 1: they are fractions"),
        ([[5, 5, 0, 8]], "annotation 1 has a box of size zero"),
    ],
)
def test_coco_boxes_have_a_size_in_pixels(tmp_path: Path, boxes: list[list[float]], message: str) -> None:
    with pytest.raises(CoordinatesError, match=message):
        coordinates.read_all(_coco(tmp_path, [{"image_id": 1, "bbox": box} for box in boxes]))


def test_coco_of_several_categories_names_them(tmp_path: Path) -> None:
    entries = [{"image_id": 1, "category_id": key, "bbox": [9, 9, 8, 8]} for key in (1, 2, 1)]
    categories = [{"id": 1, "name": "particle"}, {"id": 2, "name": "ice"}, {"id": 3, "name": "carbon"}]
    with pytest.raises(CoordinatesError, match="annotations are of 2 categories: particle, ice"):
        coordinates.read_all(_coco(tmp_path, entries, categories=categories))
    assert len(coordinates.read(_coco(tmp_path, entries[:1] * 2, categories=categories))) == 2


def test_coco_images_have_ids_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    images = [{"id": 1, "file_name": "a.mrc"}, {"id": 1, "file_name": "b.mrc"}]
    path.write_text(json.dumps({"images": images, "annotations": []}))
    with pytest.raises(CoordinatesError, match="image 2 has the id of an earlier one: 1"):
        coordinates.read_all(path)


@pytest.mark.parametrize(
    ("format", "message"),
    [
        ("csv", r"would share it\. Write one file of all: -o .*out\.csv"),
        ("box", r"would share it\. Convert the micrographs of each folder by themselves, into folders of their own"),
        ("topaz", r"would have the same name in it\. Convert the micrographs of each folder by themselves"),
    ],
)
def test_equal_names_in_two_folders_are_not_mixed(tmp_path: Path, format: str, message: str) -> None:
    picks = [Picks(f"{folder}/001.mrc", some(), SHAPE) for folder in "AB"]
    with pytest.raises(OutputError, match=rf"'A/001\.mrc' and 'B/001\.mrc' {message}"):
        coordinates.write_all(tmp_path / "out", picks, format)
    (written,) = coordinates.write_all(tmp_path / "out.csv", picks, "csv")
    assert len(coordinates.read_all(written)) == 2
