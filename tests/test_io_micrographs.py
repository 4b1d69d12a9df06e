"""Every format gives back the stored pixel at its row and column; every bad file is named with its fault."""

import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import mrcfile
import numpy as np
import pytest
import tifffile

from upicker.errors import InputError, MicrographError, UPickerWarning
from upicker.io import micrographs, mrc

ROWS, COLUMNS = 37, 53
MARK = (5, 41)


def marked(dtype: str) -> np.ndarray:
    """`(37, 53)`: a ramp that is the same under no flip or transposition, and one bright pixel."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    picture = (row + column / 2).astype(dtype)
    picture[MARK] = 120
    return picture


def put_mrc(path: Path, pixels: np.ndarray, pixel_size_A: float | None = None) -> Path:
    with warnings.catch_warnings(), mrcfile.new(path) as file:
        warnings.simplefilter("ignore", RuntimeWarning)  # of non-finite pixels
        file.set_data(pixels)
        if pixel_size_A:
            file.voxel_size = pixel_size_A
    return path


def put_png(path: Path, pixels: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def check(path: Path, expected: np.ndarray, tolerance: float = 0) -> None:
    found = micrographs.read(path)
    assert found.pixels.dtype == np.float32
    assert found.pixels.flags.c_contiguous
    assert found.pixels.flags.writeable
    assert found.shape == (ROWS, COLUMNS)
    assert np.unravel_index(found.pixels.argmax(), found.shape) == MARK
    np.testing.assert_allclose(found.pixels, expected, atol=tolerance)
    assert (found.name, found.path) == (path.stem, path)


@pytest.mark.parametrize(("mode", "dtype"), [(0, "i1"), (1, "i2"), (2, "f4"), (6, "u2"), (12, "f2")])
@pytest.mark.parametrize("order", ["<", ">"])
def test_mrc_of_every_mode_and_byte_order(tmp_path: Path, mode: int, dtype: str, order: str) -> None:
    picture = marked(dtype)
    path = put_mrc(tmp_path / "mic.00.mrc", picture.astype(np.dtype(dtype).newbyteorder(order)), 1.77)
    with mrcfile.open(path) as file:
        assert file.header.mode == mode
    check(path, picture)
    assert micrographs.read(path).pixel_size_A == 1.77


def test_mrc_stack_of_one_picture_with_an_extended_header(tmp_path: Path) -> None:
    path = tmp_path / "mic.mrcs"
    with mrcfile.new(path) as file:
        file.set_data(marked("f4")[None])
        file.set_image_stack()
        file.set_extended_header(np.zeros(128, "u1"))
        file.voxel_size = (0.66, 0.66, 1)
    check(path, marked("f4"))
    assert micrographs.read(path).pixel_size_A == 0.66


def test_a_written_mrc_is_read_again_and_valid(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mic.mrc"
    mrc.write(path, marked("f4"), 1.77)
    check(path, marked("f4"))
    assert micrographs.read(path).pixel_size_A == 1.77
    assert mrcfile.validate(path)


def test_old_mrc_without_the_word_map(tmp_path: Path) -> None:
    path = put_mrc(tmp_path / "old.mrc", marked("i2"))
    content = bytearray(path.read_bytes())
    content[208:216] = bytes(8)
    path.write_bytes(content)
    check(path, marked("i2"))


def test_old_imod_bytes_are_unsigned(tmp_path: Path) -> None:
    picture = marked("u1")
    picture[MARK] = 200
    path = put_mrc(tmp_path / "mic.mrc", picture.view("i1"))
    content = bytearray(path.read_bytes())
    content[152:160] = b"DOMI"[::-1] + bytes(4)
    path.write_bytes(content)
    check(path, picture)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f2", "f4", "f8"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff(tmp_path: Path, dtype: str, compression: str | None) -> None:
    path = tmp_path / "mic.tif"
    tifffile.imwrite(path, marked(dtype), compression=compression)
    check(path, marked(dtype))
    assert micrographs.read(path).pixel_size_A is None


def test_tiff_pixel_size_where_the_unit_is_certain(tmp_path: Path) -> None:
    picture, path = marked("f4"), tmp_path / "mic.tif"
    per_cm = 1e8 / 1.25
    kinds: list[tuple[dict, float | None]] = [
        ({"imagej": True, "resolution": (8, 8), "metadata": {"unit": "nm"}}, 1.25),
        ({"imagej": True, "resolution": (8, 8), "metadata": {"unit": "pixel"}}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.125, "PhysicalSizeXUnit": "nm"}}, 1.25),
        ({"resolution": (per_cm, per_cm), "resolutionunit": "CENTIMETER"}, 1.25),
        ({"resolution": (per_cm, per_cm), "resolutionunit": "NONE"}, None),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
    ]
    for options, expected in kinds:
        tifffile.imwrite(path, picture, **options)
        assert micrographs.read(path).pixel_size_A == (pytest.approx(expected, rel=1e-4) if expected else None)
        check(path, picture)


@pytest.mark.parametrize(
    ("unit", "size_A"),
    [
        (r"\u00C5", 0.125), (r"\u00c5", 0.125), (r"\u212B", 0.125), (r"\u00B5m", 1250), (r"\u03BCm", 1250),
        ("nm", 1.25), ("Angstrom", 0.125), (r"\u00C5x", None),
    ],
)  # fmt: skip
def test_imagejs_units_are_read_as_it_writes_them(tmp_path: Path, unit: str, size_A: float | None) -> None:
    # ImageJ's description is ASCII; 10 pixels per nm and per micrometre alike, or images would be too coarse.
    scale = 1000 if size_A == 1250 else 1
    path = tmp_path / "mic.tif"
    tifffile.imwrite(path, marked("f4"), imagej=True, resolution=(8 * scale, 8 * scale), metadata={"unit": unit})
    with tifffile.TiffFile(path) as file:
        assert f"unit={unit}" in file.pages[0].description
    assert micrographs.read(path).pixel_size_A == (pytest.approx(size_A / scale, rel=1e-4) if size_A else None)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "f4"])
def test_where_white_is_zero_bright_stays_bright(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "mic.tif"
    stored = (120 - marked("f4")).astype(dtype)  # The bright mark is the smallest value.
    tifffile.imwrite(path, stored, photometric="miniswhite")
    with pytest.warns(UPickerWarning, match=r"mic\.tif: white is zero"):
        found = micrographs.read(path).pixels
    np.testing.assert_allclose(found - found.min(), stored.max() - stored.astype(np.float32))
    assert np.unravel_index(found.argmax(), found.shape) == MARK


def test_all_frames_of_a_movie_are_inverted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upicker.io.movies.MIN_FRAME_SIDE", 16)
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, np.stack([250 - marked("u1")] * 3), photometric="miniswhite")
    with pytest.warns(UPickerWarning) as noticed:
        found = micrographs.read(path).pixels
    assert sum("white is zero" in str(one.message) for one in noticed) == 1
    np.testing.assert_array_equal(found, 3 * (5 + marked("f4").astype("u1").astype("f4")))


def test_where_the_tiff_does_not_say_what_zero_is_it_is_black(tmp_path: Path) -> None:
    path = tmp_path / "mic.tif"
    tifffile.imwrite(path, marked("u2"), photometric="miniswhite")
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags["PhotometricInterpretation"]
    content = bytearray(path.read_bytes())
    content[tag.offset : tag.offset + 2] = (40_000).to_bytes(2, "little")  # another tag in its place
    path.write_bytes(content)
    check(path, marked("u2"))


def test_of_pages_of_different_sizes_the_largest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mic.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(np.zeros((16, 20), "u2"))
        file.write(marked("u1"), resolution=(8e7, 8e7), resolutionunit="CENTIMETER")
        file.write(np.zeros((17, 21, 3), "u1"), photometric="rgb")
    with pytest.warns(UPickerWarning, match=r"20 x 16 \(uint16\) and 53 x 37 \(uint8\) and 21 x 17 .*the largest"):
        found = micrographs.read(path)
    np.testing.assert_array_equal(found.pixels, marked("u1"))
    assert found.pixel_size_A == pytest.approx(1.25)


def test_of_pages_of_one_size_and_several_kinds_none_is_guessed(tmp_path: Path) -> None:
    path = tmp_path / "mic.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(marked("u1"))
        file.write(marked("u2"))
    with pytest.raises(MicrographError, match=r"53 x 37 \(uint8\) and 53 x 37 \(uint16\)"):
        micrographs.read(path)


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_png(tmp_path: Path, dtype: str) -> None:
    picture = marked(dtype)
    check(put_png(tmp_path / "mic.png", picture), picture)


def test_jpg_in_grey_and_in_colours(tmp_path: Path) -> None:
    picture = cv2.GaussianBlur(marked("u1"), (0, 0), 1) + 0
    picture[MARK] = 90
    path = put_png(tmp_path / "mic.jpg", picture)
    check(path, picture, tolerance=20)
    rgb = put_png(tmp_path / "colour.jpg", np.stack([picture] * 3, -1))
    check(rgb, picture, tolerance=20)


def test_colours_become_luminance_the_same_in_png_and_tiff(tmp_path: Path) -> None:
    rgb = np.stack([marked("u1"), marked("u1") // 2, np.full((ROWS, COLUMNS), 7, "u1")], -1)
    expected = rgb @ np.array([0.299, 0.587, 0.114])
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb")
    tifffile.imwrite(tmp_path / "b.tif", np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate")
    put_png(tmp_path / "c.png", rgb[..., ::-1])
    opaque = np.full((ROWS, COLUMNS, 1), 255, "u1")
    put_png(tmp_path / "d.png", np.concatenate([rgb[..., ::-1], opaque], -1))
    for name in ("a.tif", "b.tif", "c.png", "d.png"):
        check(tmp_path / name, expected, tolerance=1e-4)


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    put_png(tmp_path / "a.png", marked("u1")).rename(tmp_path / "a.mrc")
    put_mrc(tmp_path / "b.mrc", marked("f4")).rename(tmp_path / "b.png")
    tifffile.imwrite(tmp_path / "c.dat", marked("f4"))
    for name in ("a.mrc", "b.png", "c.dat"):
        check(tmp_path / name, marked("f4").astype("u1") if name == "a.mrc" else marked("f4"))


def test_the_option_beats_the_header_and_an_implausible_header_counts_as_unknown(tmp_path: Path) -> None:
    path = put_mrc(tmp_path / "known.mrc", marked("f4"), 1.77)
    assert micrographs.read(path, 1.8).pixel_size_A == 1.8
    for i, size in enumerate((None, 1.0, 1e-3, 5000.0, np.inf, np.nan)):
        path = put_mrc(tmp_path / f"{i}.mrc", marked("f4"), size)
        assert micrographs.read(path).pixel_size_A is None
        assert micrographs.read(path, 1.0).pixel_size_A == 1.0


def test_some_non_finite_pixels_are_left_for_the_repair(tmp_path: Path) -> None:
    picture = marked("f4")
    picture[3, 4:7] = np.nan, np.inf, -np.inf
    found = micrographs.read(put_mrc(tmp_path / "mic.mrc", picture)).pixels
    np.testing.assert_array_equal(found, picture)


def _flat(path: Path) -> None:
    put_mrc(path, np.full((ROWS, COLUMNS), 3, "f4"))


def _nan(path: Path) -> None:
    put_mrc(path, np.full((ROWS, COLUMNS), np.nan, "f4"))


def _half_nan(path: Path) -> None:
    picture = marked("f4")
    picture[:20] = np.nan
    put_mrc(path, picture)


def _header(**changes: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        put_mrc(path, marked("f4"))
        with path.open("r+b") as file:
            for place, value in changes.items():
                file.seek({"nx": 0, "ny": 4, "nz": 8, "mode": 12, "nsymbt": 92}[place])
                file.write(np.int32(value).tobytes())

    return write


def _cut(write: Callable[[Path], object], keep: float) -> Callable[[Path], None]:
    def cut(path: Path) -> None:
        write(path)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])

    return cut


def _png(path: Path) -> None:
    put_png(path, marked("u2"))


def _broken_png(path: Path) -> None:
    content = bytearray(put_png(path, marked("u2")).read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def _transparent(path: Path) -> None:
    put_png(path, np.stack([marked("u1")] * 4, -1))


def _jpg(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (80, 90)).astype("u1")
    put_png(path, noise)


def _tiff(path: Path) -> None:
    tifffile.imwrite(path, marked("f4"))


def _movie(path: Path) -> None:
    tifffile.imwrite(path, np.stack([marked("f4")] * 3), photometric="minisblack")


def _broken_tiff(path: Path) -> None:
    tifffile.imwrite(path, marked("f4"), compression="zlib")
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        start = file.pages.first.dataoffsets[0]
    path.write_bytes(content[:start] + bytes(8) + content[start + 8 :])


def _jpg_of(rows: int, columns: int) -> Callable[[Path], None]:
    """A valid small JPG whose frame header claims another size."""

    def write(path: Path) -> None:
        content = bytearray(put_png(path, marked("u1")).read_bytes())
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = np.array([rows, columns], ">u2").tobytes()
        path.write_bytes(content)

    return write


def _old_four_bits(path: Path) -> None:
    content = bytearray(put_mrc(path, marked("i1")).read_bytes())
    content[152:160] = np.array([1146047817, 16], "<i4").tobytes()
    path.write_bytes(content)


def _ring(path: Path) -> None:
    """A movie whose last page names the first one as the next."""
    _movie(path)
    with tifffile.TiffFile(path) as file:
        last, first = file.pages[-1].offset, file.pages[0].offset
    content = bytearray(path.read_bytes())
    at = last + 2 + 12 * int.from_bytes(content[last : last + 2], "little")
    assert content[at : at + 4] == bytes(4)
    content[at : at + 4] = first.to_bytes(4, "little")
    path.write_bytes(content)


def _claims_too_many_tags(path: Path) -> None:
    tifffile.imwrite(path, marked("f4"), bigtiff=True, byteorder=">")
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].offset
    content = bytearray(path.read_bytes())
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)


def _palette(path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 65535, (3, 256)).astype("u2")
    tifffile.imwrite(path, marked("u1"), photometric="palette", colormap=colours)


def _png_header_of(rows: int, columns: int) -> Callable[[Path], None]:
    """A valid small PNG whose header, check sum included, claims another size."""

    def write(path: Path) -> None:
        content = bytearray(put_png(path, marked("u1")).read_bytes())
        content[16:24] = np.array([columns, rows], ">i4").tobytes()
        content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
        path.write_bytes(content)

    return write


BAD: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("mic.mrc", lambda path: None, "No such file"),
    "folder": ("mic.mrc", lambda path: path.mkdir(), "folder"),
    "empty": ("mic.mrc", lambda path: path.write_bytes(b""), "empty"),
    "header truncated": ("mic.mrc", _cut(_header(), 0.05), "truncated"),
    "data truncated": ("mic.mrc", _cut(_header(), 0.9), "truncated"),
    "one value": ("mic.mrc", _flat, "one value, 3"),
    "no finite pixel": ("mic.mrc", _nan, "100%"),
    "mostly not finite": ("mic.mrc", _half_nan, "54%"),
    "MRC movie": ("mic.mrc", lambda path: put_mrc(path, np.stack([marked("f4")] * 3)), "3 sections.*motion"),
    "one pixel": ("mic.mrc", lambda path: put_mrc(path, np.ones((1, 1), "f4")), "1 rows x 1 columns"),
    "too narrow": ("mic.png", lambda path: put_png(path, marked("u1")[:, :15]), "15 columns.*at least 16"),
    "huge MRC": ("mic.mrc", _header(nx=90_000, ny=90_000), "90000 columns.*40000"),
    "huge PNG": ("mic.png", _png_header_of(50_000, 90_000), "50000 rows x 90000 columns"),
    "huge TIFF": (
        "mic.tif",
        lambda path: tifffile.imwrite(path, np.zeros((16, 40_001), "u1")),
        "40001 columns",
    ),
    "negative size": ("mic.mrc", _header(nx=-5), "-5 x 37"),
    "complex": ("mic.mrc", _header(mode=4), "Fourier"),
    "colours": ("mic.mrc", _header(mode=16), "colours"),
    "old 4-bit": ("mic.mrc", _old_four_bits, "4-bit"),
    "volume": ("mic.mrc", lambda path: put_mrc(path, np.zeros((20, 20, 20), "f4")), "volume of 20 sections"),
    "particle stack": ("mic.mrcs", lambda path: put_mrc(path, np.zeros((9, 64, 64), "f4")), "9 sections of 64 x 64"),
    "unknown mode": ("mic.mrc", _header(mode=77), "mode 77"),
    "huge extended header": ("mic.mrc", _header(nsymbt=10**9), "truncated"),
    "text": ("mic.mrc", lambda path: path.write_text("x,y\n1,2\n" * 300), "of unknown format"),
    "gzip": ("mic.mrc", lambda path: path.write_bytes(b"\x1f\x8b" + bytes(2000)), "gzip"),
    "PNG truncated": ("mic.png", _cut(_png, 0.8), "truncated"),
    "PNG damaged": ("mic.png", _broken_png, "damaged"),
    "PNG transparent": ("mic.png", _transparent, "transparent"),
    "JPG truncated": ("mic.jpg", _cut(_jpg, 0.5), "truncated"),
    "JPG named MRC, broken": (
        "mic.mrc",
        lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(3000)),
        "JPG",
    ),
    "JPG of nonsense": ("mic.jpg", lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\0\1\xff\xd9"), "decoded"),
    "TIFF truncated": ("mic.tif", _cut(_tiff, 0.7), "truncated"),
    "TIFF header only": ("mic.tif", _cut(_tiff, 0.01), "cannot be read"),
    "TIFF damaged": ("mic.tif", _broken_tiff, "cannot be read"),
    "TIFF movie": ("mic.tif", _movie, "3 sections.*motion"),
    "JPG of a false size": ("mic.jpg", _jpg_of(30_000, 30_000), "cannot hold the 900000000 bytes"),
    "huge JPG": ("mic.jpg", _jpg_of(30_000, 50_000), "50000 columns"),
    "PNG of a false size": ("mic.png", _png_header_of(30_000, 30_000), "cannot hold"),
    "TIFF with pages in a ring": ("mic.tif", _ring, "earlier one after 3 pages"),
    "TIFF that claims too many tags": ("mic.tif", _claims_too_many_tags, "cannot be read"),
    "TIFF palette": ("mic.tif", _palette, "palette"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_named_with_what_was_found(tmp_path: Path, case: str) -> None:
    name, write, found = BAD[case]
    path = tmp_path / name
    write(path)
    with pytest.raises(MicrographError, match=found) as caught:
        micrographs.read(path)
    assert str(path) in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("compression", ["lzw", "zstd"])
def test_without_imagecodecs_the_error_says_what_to_install(tmp_path: Path, compression: str) -> None:
    pytest.importorskip("imagecodecs")
    path = tmp_path / "mic.tif"
    tifffile.imwrite(path, marked("f4"), compression=compression)
    check(path, marked("f4"))
    program = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from pathlib import Path; from upicker.io import micrographs\n"
        "try: micrographs.read(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("MicrographError")
    assert "pip install upicker[tiff]" in done.stdout
    assert str(path) in done.stdout


def test_find_takes_files_folders_and_globs_in_natural_order_each_once(tmp_path: Path) -> None:
    for name in ("mic10.mrc", "mic2.MRC", "mic1.png", "notes.txt", ".hidden.mrc", "deep/mic3.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    names = lambda *patterns: [path.name for path in micrographs.find(patterns)]  # noqa: E731
    assert names(tmp_path) == ["mic1.png", "mic2.MRC", "mic10.mrc"]
    assert names(f"{tmp_path}/*") == ["mic1.png", "mic2.MRC", "mic10.mrc"]
    assert names(f"{tmp_path}/**/mic*", tmp_path / "mic2.MRC") == [
        "mic3.tif",
        "mic1.png",
        "mic2.MRC",
        "mic10.mrc",
    ]
    assert names(f"{tmp_path}/*.txt") == ["notes.txt"]
    assert names(tmp_path / "deep", tmp_path / "deep" / "mic3.tif", f"{tmp_path}/deep/../deep/*") == ["mic3.tif"]


def test_find_takes_a_name_with_brackets_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "mic[1].mrc"
    path.write_text("")
    assert micrographs.find([path]) == [path]


def test_find_complains_about_patterns_without_a_match(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    for pattern in (tmp_path, tmp_path / "no.mrc", f"{tmp_path}/*.mrc"):
        with pytest.raises(InputError, match=r"\.mrc .*\.png") as caught:
            micrographs.find([pattern])
        assert str(pattern) in str(caught.value)
    with pytest.raises(InputError, match="none were given"):
        micrographs.find([])


def test_find_refuses_two_micrographs_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    first, second = tmp_path / "mic.mrc", tmp_path / "deep" / "mic.png"
    first.write_text("")
    second.write_text("")
    with pytest.raises(InputError) as caught:
        micrographs.find([first, second])
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_a_broken_link_is_found_and_named(tmp_path: Path) -> None:
    good = put_mrc(tmp_path / "a.mrc", marked("f4"))
    link = tmp_path / "b.mrc"
    link.symlink_to("gone/b.mrc")
    for pattern in (tmp_path, tmp_path / "*.mrc", tmp_path / "*"):
        assert micrographs.find([pattern]) == [good, link]
    assert micrographs.find([link]) == [link]
    for reader in (micrographs.read, micrographs.size):
        with pytest.raises(MicrographError, match=r"b\.mrc: it is a link to gone/b\.mrc, which does not exist"):
            reader(link)


def test_a_folder_of_folders_names_the_one_with_micrographs(tmp_path: Path) -> None:
    job = tmp_path / "MotionCorr" / "job002"
    (job / "Movies").mkdir(parents=True)
    with pytest.raises(InputError, match="there is no micrograph in this folder"):
        micrographs.find([job])
    put_mrc(job / "Movies" / "a.mrc", marked("f4"))
    with pytest.raises(InputError, match=r"its micrographs are in Movies\. Give .*job002/Movies, or a list"):
        micrographs.find([job])
    with pytest.raises(InputError, match=r"its micrographs are in job002/Movies"):
        micrographs.find([job.parent])


def test_two_micrographs_of_one_name_are_told_apart_by_their_folders_where_outputs_are(tmp_path: Path) -> None:
    paths = [tmp_path / folder / name for folder in ("one", "two") for name in ("mic.mrc", "other.mrc")][:3]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert [entry.path for entry in micrographs.entries(paths, by_path=True)] == paths
    beside = tmp_path / "one" / "mic.tif"
    beside.write_text("")
    with pytest.raises(InputError, match="apart from the suffix"):
        micrographs.entries([*paths, beside], by_path=True)


def test_real_micrographs(shared: Path) -> None:
    data = shared / "data"
    sizes = {"apoferritin": (1200, 1240), "empiar10017": (4096, 4096), "proteasome20s": (512, 512)}
    for name, shape in sizes.items():
        found = micrographs.read(micrographs.find([data / name / "micrographs"])[0])
        assert (found.shape, found.pixel_size_A) == (shape, None)
    contaminated = micrographs.read(data / "contamination" / "micrograph.mrc")
    assert (contaminated.shape, contaminated.pixel_size_A) == ((927, 959), None)
