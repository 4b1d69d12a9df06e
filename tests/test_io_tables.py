"""Tables that are damaged as tables are, in rows and columns: none is read by half. More: benchmarks/fuzz_tables.py."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upicker.errors import CoordinatesError
from upicker.io import coordinates, delimited
from upicker.io.picks import Picks
from upicker.particles import Particles

BOXES = "_CoordinateX\n_CoordinateY\n_Width\n_Height\n"
STAR = "data_\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\ndata_0/a.mrc 1 2\n"

HALVES = {
    # Each would give another place, or fewer particles than there are rows.
    "no number.star": ("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n1_0 20\n", "line 6 has '1_0'"),
    "arabic.star": ("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n\u0663 20\n", "line 6"),
    "cut.star": (STAR + "data_1/a.mrc", "line 7 has 1 values for 3 columns"),
    "cut twice.star": (STAR + "data_1/a.mrc\n\n" + STAR, "line 7 has 1 values for 3 columns"),
    "other delimiter.star": (STAR.replace("a.mrc 1 2", "a.mrc;1;2"), "1 values for 3 columns"),
    "cut loop.star": (STAR + "loop_", "last loop_, in the table from line 7, has no columns"),
    "joined.cbox": (
        f"data_cryolo\nloop_\n{BOXES}1 2 30 30\ndata_other\nloop_\n{BOXES}5 6 30 30\n9 9 30 30\n",
        r"2 tables of boxes \(from lines 1 and 8\)",
    ),
    "two programs.star": (f"{STAR}data_cryolo\nloop_\n{BOXES}1 2 30 30\n", "RELION and boxes of crYOLO .from line 7"),
    "short first row.box": ("100 200\n100 300 30 30\n", "line 2 has 4 values, and the first line 2"),
    "two rows in a line.box": ("1 2 30 30\n5 6 30 30 9 9 30 30\n", "line 2 has 8 values, and the first line 4"),
    "two rows in a line.csv": ("x,y,score\n1,2,1\n5,6,1,9,9,1\n", "line 3 has 6 values, and the first line 3"),
    "cut.csv": ("x,y,score\n1,2,1\n5,6", "line 3 has 2 values, and the first line 3"),
    "cut without a header.csv": ("1,2,40,.5\n5,6,40,\n7,8,40", "line 3 has 3 values, and the first line 4"),
    "cut.txt": ("image_name\tx_coord\ty_coord\tscore\na\t1\t2\t3\nb\t3\t4\n", "line 3 has 3 values"),
    "cut.box": ("1 2 30 30 0.5\n5 6 30 30\n", "line 2 has 4 values, and the first line 5"),
    "not named.csv": ("micrograph,x,y\na,1,2\n,3,4\n", "line 3 names no micrograph"),
    "names of rows.csv": ("x,y\na,1,2\nb,3,4\n", "line 2 has 3 values, and the first line 2"),
}


@pytest.mark.parametrize("name", HALVES)
def test_a_file_is_not_read_by_half(tmp_path: Path, name: str) -> None:
    content, words = HALVES[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(CoordinatesError, match=words):
        coordinates.read_all(tmp_path / name)


@pytest.mark.parametrize("between", [",", ", ", ";", "\t", " "])
def test_boxes_are_boxes_whatever_stands_between_their_numbers(tmp_path: Path, between: str) -> None:
    path = tmp_path / "a.box"
    path.write_text("".join(between.join(row) + "\n" for row in (["10", "20", "30", "30"], ["50", "60", "30", "30"])))
    particles = coordinates.read(path)
    np.testing.assert_array_equal(particles.xy, [[25, 35], [65, 75]])
    np.testing.assert_array_equal(particles.diameter_px, 30)


def test_what_was_readable_stays_so(tmp_path: Path) -> None:
    """Blank cells behind the last column, comments behind a row, an empty table, and a block after a name."""
    for name, content, count in [
        ("a.csv", "x,y\n1,2,,\n3,4,\n", 2),
        ("b.txt", "1 2 30 30\n3 4 30 30 # good\n", 2),
        ("c.star", STAR + "data_images\nloop_\n_rlnImageName\n", 1),
        ("d.star", "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n", 0),
    ]:
        (tmp_path / name).write_text(content)
        assert sum(len(picks.particles) for picks in coordinates.read_all(tmp_path / name)) == count, name


def test_damaged_tables_are_refused_or_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "benchmarks")
    import fuzz_tables  # type: ignore[import-not-found]

    for kind, documents in fuzz_tables.seeds().items():
        results = set()
        for index in range(300):
            document = fuzz_tables.changed(kind, np.random.default_rng((7, index)), documents)
            path = tmp_path / document.file
            path.write_bytes(fuzz_tables.text(kind, document).encode())
            results.add(fuzz_tables.outcome(path, kind, document))
            path.unlink()  # a list of micrographs finds the files beside it
        assert results == {"read", "refused"}


@pytest.mark.parametrize(
    "word", ["image", "mic", "micname", "_micName", "image_id", "slice", "mrc", "filename", "Micrograph Filename"]
)
def test_micrographs_are_told_apart_whatever_their_column_is_called(tmp_path: Path, word: str) -> None:
    path = tmp_path / "all.csv"
    path.write_text(f"{word},x,y\na,1,2\nb,3,4\na,5,6\n")
    first, second = coordinates.read_all(path)
    assert (first.micrograph, second.micrograph) == ("a", "b")
    np.testing.assert_array_equal(first.particles.xy, [(1, 2), (5, 6)])
    assert first.unread == second.unread == ()


@pytest.mark.parametrize("word", ["z", "Z", "coordinate_z", "Z-Coordinate", "z_coord"])
def test_positions_in_tomograms_are_refused(tmp_path: Path, word: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"x,y,{word}\n1,2,0\n3,4,12\n")
    with pytest.raises(CoordinatesError, match=rf"positions in tomograms \(column {word}\)"):
        coordinates.read(path)
    path.write_text(f"x,y,{word}\n1,2,0\n3,4,\n")
    assert len(coordinates.read(path)) == 2


@pytest.mark.parametrize("word", ["fom", "probability", "confidence"])
def test_scores_of_other_names_are_read(tmp_path: Path, word: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"x,y,{word}\n1,2,.5\n3,4,.25\n")
    np.testing.assert_array_equal(coordinates.read(path).score, [0.5, 0.25])


def test_columns_that_are_not_read_are_named(tmp_path: Path) -> None:
    for text, unread in [
        ("x,y,diameter_A,psi\n1,2,180,30\n", ("columns diameter_A, psi",)),
        ("x,y,score,fom\n1,2,1,.5\n", ("column fom",)),
        ("micrograph,image,x,y\na,1,2,3\nb,1,2,3\n", ("column image",)),
        (",x,y,note\n0,1,2,\n", ()),  # an index without a name, and nothing in a column
        ("x,y,diameter,score,flip,scale,score_kind\n1,2,9,.5,eman2,2,probability\n", ()),  # our own
        ("image_name\tx_coord\ty_coord\tscore\na\t1\t2\t3\n", ()),
    ]:
        (tmp_path / "a.csv").write_text(text)
        assert all(picks.unread == unread for picks in coordinates.read_all(tmp_path / "a.csv")), text


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "None"])
def test_a_score_that_is_no_number_is_not_the_best_one(tmp_path: Path, word: str) -> None:
    cbox = f"data_cryolo\nloop_\n{BOXES}_Confidence\n1 2 30 30 0.5\n1 2 30 30 {word}\n"
    topaz = f"image_name\tx_coord\ty_coord\tscore\n\na\t1\t2\t3\n\n\n\n\na\t3\t4\t{word}\n"
    for name, text, line in [
        ("a.csv", f"x,y,score\n1,2,.5\n3,4,{word}\n", 3),
        ("a.txt", topaz, 8),
        ("a.cbox", cbox, 9),
        ("a.box", f"1 2 30 30 .5\n1 2 30 30 {word}\n", 2),
    ]:
        (tmp_path / name).write_text(text)
        with pytest.raises(CoordinatesError, match=f"line {line} has '{word}'"):
            coordinates.read(tmp_path / name)


def test_a_name_that_begins_like_a_comment_is_kept(tmp_path: Path) -> None:
    picks = [Picks("#1.mrc", Particles.of([(1, 2)])), Picks("b.mrc", Particles.of([(3, 4)]))]
    for format in ("csv", "tsv"):
        coordinates.write_all(tmp_path / f"all.{format}", picks, format)
        assert [p.micrograph for p in coordinates.read_all(tmp_path / f"all.{format}")] == ["#1.mrc", "b.mrc"]


@given(st.text(alphabet=st.sampled_from('1.5xy,;# "\t\n\r\x0b\x1c\x85\u2028_-'), max_size=60))
def test_plain_tables_are_split_in_a_faster_way_to_the_same_rows(text):
    found = list(delimited.rows(text, ","))
    # A quote that is never read as one, in a comment at the end, keeps it from the faster way.
    assert found == list(delimited.rows(f'{text}\n# "', ","))
