"""Damaged files of every format end in CoordinatesError, and in nothing else; what broke once stays here."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from work import calls

from upicker.errors import CoordinatesError
from upicker.io import coordinates
from upicker.io.picks import Picks
from upicker.particles import Particles

SHAPE = (371, 533)
TEXTS = tuple(format for format in coordinates.FORMATS if format != "cs")
STAR = "data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n"

# Whatever a file claims about itself, the work is bounded by its length; up to 16 000 and 7 a byte were seen.
MOST_CALLS, MOST_CALLS_PER_BYTE = 30_000, 12


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A whole file of each format."""
    folder = tmp_path_factory.mktemp("valid")
    random = np.random.default_rng(0)
    xy = random.uniform(0, SHAPE[::-1], (5, 2))
    extra = {"class_number": random.integers(0, 5, 5), "psi_deg": random.uniform(-180, 180, 5)}
    picks = [
        Picks("M/00123.mrc", Particles(xy, random.uniform(20, 40, 5), random.uniform(0, 1, 5), extra), SHAPE, 1.77)
    ]
    return {
        format: coordinates.write_all(folder / format, picks, format)[0].read_bytes() for format in coordinates.FORMATS
    }


def outcome(folder: Path, name: str, content: bytes) -> list[Picks] | CoordinatesError:
    path = folder / name
    path.write_bytes(content)
    found: list[Picks] | CoordinatesError = []

    def read() -> None:
        nonlocal found
        try:
            found = coordinates.read_all(path)
        except CoordinatesError as error:
            found = error

    calls(read, most=MOST_CALLS + MOST_CALLS_PER_BYTE * len(content))
    if isinstance(found, CoordinatesError):
        assert str(path) in str(found)
        assert found.remedy
        return found
    for picks in found:
        assert np.isfinite(picks.particles.xy).all()
        assert picks.particles.xy.shape == (len(picks.particles), 2)
    return found


def name_of(format: str) -> str:
    return coordinates.output_path(Path(), "mic", format).name


@pytest.mark.parametrize("format", coordinates.FORMATS)
def test_files_cut_anywhere(tmp_path: Path, valid: dict[str, bytes], format: str) -> None:
    content = valid[format]
    for end in range(0, len(content), max(1, len(content) // 30)):
        result = outcome(tmp_path, name_of(format), content[:end])
        assert isinstance(result, CoordinatesError) or sum(len(p.particles) for p in result) <= 5


@settings(
    max_examples=120, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(format=st.sampled_from(coordinates.FORMATS), data=st.data())
def test_files_with_a_piece_replaced(tmp_path: Path, valid: dict[str, bytes], format: str, data: st.DataObject) -> None:
    content = valid[format]
    start, length = data.draw(st.integers(0, len(content))), data.draw(st.integers(0, 30))
    words = [
        b"nan",
        b"1e400",
        b"-inf",
        b"loop_\n",
        b"data_x\n",
        b"\0",
        b'"',
        b"'",
        b"{",
        b"]",
        b"\r",
        b"#",
        b"\xff",
        b"<NA>",
    ]
    piece = data.draw(st.sampled_from(words) | st.binary(max_size=8) | st.text(max_size=8).map(str.encode))
    outcome(tmp_path, name_of(format), content[:start] + piece + content[start + length :])


@settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sampled_from(coordinates.FORMATS), st.binary(max_size=200))
@example("cs", b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O'}")
@example("csv", b"\x80\x04\x95.")
def test_binary_garbage(tmp_path: Path, format: str, content: bytes) -> None:
    outcome(tmp_path, name_of(format), content)


@pytest.mark.parametrize("format", TEXTS)
def test_line_endings_and_byte_order_marks_change_nothing(tmp_path: Path, valid: dict[str, bytes], format: str) -> None:
    (plain,) = coordinates.read_all(_put(tmp_path / name_of(format), valid[format]))
    for content in (valid[format].replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + valid[format]):
        (again,) = coordinates.read_all(_put(tmp_path / name_of(format), content))
        np.testing.assert_array_equal(again.particles.xy, plain.particles.xy)
        assert again.micrograph == plain.micrograph


def _put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("format", TEXTS)
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_named(tmp_path: Path, valid: dict[str, bytes], format: str, encoding: str) -> None:
    text = valid[format].decode().replace("00123", "Mö") if b"00123" in valid[format] else valid[format].decode() + "#ö"
    with pytest.raises(CoordinatesError, match=r"not a text file in UTF-8.*UTF-8"):
        coordinates.read_all(_put(tmp_path / name_of(format), text.encode(encoding)))


@pytest.mark.parametrize("format", sorted({"csv", "tsv", "topaz", "warp", "particles", "star", "box", "cbox"}))
@pytest.mark.parametrize("word", ["nan", "inf", "four", "1e400"])
def test_positions_that_are_no_numbers_are_named_by_line(
    tmp_path: Path, valid: dict[str, bytes], format: str, word: str
) -> None:
    lines = valid[format].decode().splitlines()
    at, cells = [(i, line.replace(",", " ").split()) for i, line in enumerate(lines) if line.count(".") > 2][-1]
    place = next(cell for cell in cells if "." in cell and cell[0].isdigit())
    lines[at] = lines[at].replace(place, word, 1)
    with pytest.raises(CoordinatesError, match=f"line {at + 1} has '{word}'"):
        coordinates.read_all(_put(tmp_path / name_of(format), "\n".join(lines).encode()))


BAD: dict[str, tuple[str, str, str]] = {
    "column twice in csv": ("m.csv", "x,y,X\n1,2,3\n", "two columns 'x'"),
    "column twice in star": ("m.star", f"{STAR}_rlnCoordinateX\n1 2 3\n", "line 5 names the column _rlnCoordinateX"),
    "column missing in topaz": ("m.txt", "image_name\tx_coord\tscore\na\t1\t2\n", "no column y, but: image_name"),
    "values outside of a loop": ("m.star", "data_\n_rlnCoordinateX 1\n_rlnCoordinateY 2\n3 4\n", "line 4 has values"),
    "row before the last label": ("m.star", "data_\n_rlnCoordinateX 1\n5\n_rlnCoordinateY 2\n", "line 3 has values"),
    "thousands of columns": ("m.star", "data_\nloop_\n" + "\n".join(f"_c{i}" for i in range(3000)), "column 2001"),
    "json that is nothing": ("m.json", "[1, 2]", "neither COCO's nor EMAN2's"),
    "json cut short": ("m.json", '{"boxes": [[1, 2', "line 1 is not valid JSON"),
    "json of many brackets": ("m.json", '{"boxes": ' + "[" * 100_000, "not JSON"),
    "json of many digits": ("m.json", '{"boxes": [[' + "9" * 9000 + ", 2]]}", "not JSON"),
    "json infinite": ("m.json", '{"boxes": [[1, 2], [1e999, 2]]}', "box 2 has 'inf'"),
    "json too large": ("m.json", '{"boxes": [[1, 1' + "0" * 400 + "]]}", "box 1 has"),
    "json true": ("m.json", '{"boxes": [[true, 2]]}', "box 1 has 'True'"),
    "json short box": ("m.json", '{"boxes": [[1]]}', "box 1 is not"),
    "json no list": ("m.json", '{"boxes": {"1": 2}}', "'boxes' is not a list"),
    "coco without names": ("m.json", '{"images": [{"id": 1}]}', "image 1 has no id or no file_name"),
    "coco of nothing": ("m.json", '{"images": [], "annotations": [{"image_id": [1]}]}', "annotation 1 belongs to no"),
    "coco box": (
        "m.json",
        '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "bbox": [1, 2, 3]}]}',
        "annotation 1 has no bbox",
    ),
    "coco negative": (
        "m.json",
        '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "bbox": [1, 2, -3, 4]}]}',
        "annotation 1 has a box of negative size",
    ),
    "long cell": ("m.csv", 'x,y\n1,"' + "9" * 200_000 + '"\n', "line 2 has"),
    "optics without numbers": (
        "m.star",
        "data_optics\nloop_\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n1 x\n" + STAR + "1 2\n",
        "line 5 has 'x'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_named_with_what_was_found(tmp_path: Path, case: str) -> None:
    name, text, found = BAD[case]
    result = outcome(tmp_path, name, text.encode())
    assert isinstance(result, CoordinatesError)
    assert found in str(result)


GOOD: dict[str, tuple[str, str]] = {
    "names of digits, quotes, comments": (
        "m.star",
        f"# a\n{STAR}_rlnMicrographName # b\n# c\n1 2 00123 # d\n\n3 4 'a b'\n5 6 \"00123\"\n",
    ),
    "names of digits and quotes": ("m.csv", '# a\nmicrograph,x,y\n00123,1,2\n\n"a b",3,4\n# b\n"00123",5,6\n'),
    "names between tabs": ("m.tsv", "micrograph\tx\ty\tnote\n00123\t1\t2\t\na b\t3\t4\tn\n00123\t5\t6\t\n"),
}


@pytest.mark.parametrize("case", GOOD)
def test_unusual_files_are_read(tmp_path: Path, case: str) -> None:
    name, text = GOOD[case]
    first, second = coordinates.read_all(_put(tmp_path / name, text.encode()))
    assert (first.micrograph, second.micrograph) == ("00123", "a b")
    np.testing.assert_array_equal(first.particles.xy, [(1, 2), (5, 6)])
    np.testing.assert_array_equal(second.particles.xy, [(3, 4)])


@pytest.mark.parametrize(
    "text", ["\n" * 200_000, "# \n" * 100_000, "x,y\n" + "\n" * 200_000, "' " * 100_000, '"' * 200_000]
)
def test_the_work_grows_with_the_length(tmp_path: Path, text: str) -> None:
    for name in ("m.csv", "m.star", "m.box", "coords_suffix_autopick.star"):
        outcome(tmp_path, name, text.encode())


def test_many_rows(tmp_path: Path) -> None:
    rows = [f"{i % 4096}.5 {i % 999} mic{i % 50}" for i in range(50_000)]
    text = f"{STAR}_rlnMicrographName\n" + "\n".join(rows)
    found = outcome(tmp_path, "m.star", text.encode())
    assert isinstance(found, list)
    assert [len(p.particles) for p in found] == [1000] * 50
    found = outcome(tmp_path, "m.csv", ("x,y,micrograph\n" + "\n".join(rows).replace(" ", ",")).encode())
    assert isinstance(found, list)
    assert [len(p.particles) for p in found] == [1000] * 50


def test_devices_and_odd_names_are_no_files() -> None:
    for path in (Path("/dev/zero"), Path("x" * 5000), Path("a\0b")):
        with pytest.raises(CoordinatesError, match=r"it is not a file|cannot be read"):
            coordinates.read_all(path)
