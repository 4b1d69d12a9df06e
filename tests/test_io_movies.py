"""Movies are summed frame by frame, packed files read as they are; what is too large or no movie is refused."""

import bz2
import gzip
import struct
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from upicker.errors import MicrographError, UPickerWarning, collected_warnings
from upicker.io import compression, micrographs
from upicker.io.micrographs import Reading

ROWS, COLUMNS, FRAMES = 1040, 1025, 3


def movie(dtype: str) -> np.ndarray:
    """`(3, 1040, 1025)`: frames that differ, the same under no flip; few counts, as a camera gives."""
    row, column = np.mgrid[:ROWS, :COLUMNS]
    first = (row // 150 + column // 400).astype(dtype)
    return np.stack([first, first // 2, (column % 3).astype(dtype)])


def put_mrc(path: Path, pixels: np.ndarray) -> Path:
    with warnings.catch_warnings(), mrcfile.new(path, overwrite=True) as file:
        warnings.simplefilter("ignore", RuntimeWarning)
        file.set_data(pixels)
        file.voxel_size = 0.83
    return path


def read(path: Path, gain: Path | None = None) -> tuple[np.ndarray, list[UPickerWarning]]:
    with collected_warnings() as noticed:
        found = micrographs.read(path, gain=gain)
    return found.pixels, noticed


@pytest.mark.parametrize("kind", ["i1", "i2", "f2", "mrcs.gz", "tiff", "zlib"])
def test_a_movie_is_summed_and_whoever_reads_it_is_warned(tmp_path: Path, kind: str) -> None:
    frames = movie(kind if kind in ("i1", "i2", "f2") else "i1")
    path = tmp_path / ("movie.tif" if kind in ("tiff", "zlib") else "movie.mrcs")
    if path.suffix == ".tif":
        options = {"compression": "zlib"} if kind == "zlib" else {}
        tifffile.imwrite(path, frames, photometric="minisblack", **options)
    else:
        put_mrc(path, frames)
    if kind == "mrcs.gz":
        (tmp_path / "movie.mrcs.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path = tmp_path / "movie.mrcs.gz"
    pixels, [warning] = read(path)
    np.testing.assert_array_equal(pixels, frames.astype("f4").sum(0))
    assert pixels.dtype == np.float32
    assert (warning.where, "3 frames" in warning.found, "motion" in warning.remedy) == (str(path), True, True)
    assert micrographs.plain(path) == "movie"


def test_a_single_picture_gives_no_warning_and_takes_no_gain(tmp_path: Path) -> None:
    picture = movie("f4")[0]
    path = put_mrc(tmp_path / "mic.mrcs", picture[None])
    pixels, noticed = read(path, gain=tmp_path / "missing.mrc")
    np.testing.assert_array_equal(pixels, picture)
    assert not noticed


def gains() -> np.ndarray:
    gain = 1 + np.arange(ROWS * COLUMNS, dtype=np.float32).reshape(ROWS, COLUMNS) / (ROWS * COLUMNS)
    gain[3, 7], gain[5, 9], gain[8, 1] = 0, np.nan, -1
    return gain


@pytest.mark.parametrize(("movie_in", "gain_in"), [("mrc", "mrc"), ("mrc", "tif"), ("tif", "mrc"), ("tif", "tif")])
def test_a_gain_reference_multiplies_and_lies_as_its_format_does(tmp_path: Path, movie_in: str, gain_in: str) -> None:
    frames, gain = movie("i1") + np.int8(1), gains()
    path, reference = tmp_path / f"movie.{movie_in}", tmp_path / f"gain.{gain_in}"
    # One camera: the last row of an MRC file is the first one of a TIFF file.
    for target, stack, form in ((path, frames, movie_in), (reference, gain, gain_in)):
        if form == "mrc":
            put_mrc(target, stack)
        else:
            tifffile.imwrite(target, stack[..., ::-1, :], photometric="minisblack")
    pixels, _ = read(path, reference)
    expected = frames.astype("f4").sum(0) * np.where(np.nan_to_num(gain) > 0, gain, np.nan)
    assert np.isnan(expected).sum() == 3
    np.testing.assert_array_equal(pixels, expected[::-1] if movie_in == "tif" else expected)


def test_a_gain_reference_of_another_shape_is_refused(tmp_path: Path) -> None:
    path = put_mrc(tmp_path / "movie.mrcs", movie("i1"))
    gain = put_mrc(tmp_path / "gain.mrc", gains()[1:])
    with pytest.raises(MicrographError, match=r"1040 rows x 1025 columns, the gain reference .*gain\.mrc 1039 x 1025"):
        read(path, gain)


def test_no_more_than_two_frames_of_a_movie_are_held(tmp_path: Path) -> None:
    path = put_mrc(tmp_path / "movie.mrcs", np.tile(movie("f4"), (7, 1, 1)))
    frame = ROWS * COLUMNS * 4
    read(path)
    tracemalloc.start()
    read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3.2 * frame


def four_bits(pixels: np.ndarray) -> bytes:
    """Pack `(rows, columns)` two pixels a byte, row by row."""
    padded = np.pad(pixels, ((0, 0), (0, pixels.shape[1] % 2))).astype("u1")
    return (padded[:, ::2] | padded[:, 1::2] << 4).tobytes()


@pytest.mark.parametrize("columns", [52, 53])
def test_four_bit_pixels(tmp_path: Path, columns: int) -> None:
    picture = np.random.default_rng(0).integers(0, 16, (37, columns))
    path = put_mrc(tmp_path / "mic.mrc", picture.astype("i1"))
    head = bytearray(path.read_bytes()[:1024])
    head[12:16] = struct.pack("<i", 101)
    path.write_bytes(head + four_bits(picture))
    np.testing.assert_array_equal(micrographs.read(path).pixels, picture)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MicrographError, match="truncated"):
        micrographs.read(path)


# ---- packed files


def packed(tmp_path: Path, pack: Callable[[bytes], bytes], name: str, keep: float = 1.0) -> Path:
    picture = np.random.default_rng(0).normal(size=(37, 53)).astype("f4")
    content = pack(put_mrc(tmp_path / "plain.mrc", picture).read_bytes())
    path = tmp_path / name
    path.write_bytes(content[: int(len(content) * keep)])
    return path


@pytest.mark.parametrize(("pack", "name"), [(gzip.compress, "mic.mrc.gz"), (bz2.compress, "mic.MRC.bz2")])
def test_a_packed_picture_is_the_plain_one(tmp_path: Path, pack: Callable[[bytes], bytes], name: str) -> None:
    found = micrographs.read(packed(tmp_path, pack, name))
    np.testing.assert_array_equal(found.pixels, micrographs.read(tmp_path / "plain.mrc").pixels)
    assert (found.name, found.pixel_size_A) == ("mic", 0.83)
    assert micrographs.find([tmp_path])[0].name == name


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
@pytest.mark.parametrize("keep", [0.001, 0.05, 0.5, 0.99, 0.9995])
def test_a_packed_picture_cut_short_is_refused(tmp_path: Path, pack: Callable[[bytes], bytes], keep: float) -> None:
    with pytest.raises(MicrographError):
        micrographs.read(packed(tmp_path, pack, "mic.mrc.gz", keep))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_what_a_packed_header_promises_must_fit_the_file(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    head = bytearray(put_mrc(tmp_path / "plain.mrc", np.ones((20, 20), "f4")).read_bytes()[:1024])
    head[:8] = struct.pack("<ii", 39_000, 39_000)
    path = tmp_path / "bomb.mrc"
    path.write_bytes(pack(bytes(head) + bytes(3_000_000)))
    tracemalloc.start()
    with pytest.raises(MicrographError, match="cannot hold the 6084001024 bytes"):
        micrographs.read(path)
    # An extended header of 2 GB is read over, not into memory, and not at all if it cannot be there.
    head[:8], head[92:96] = struct.pack("<ii", 40, 40), struct.pack("<i", 2**31 - 1)
    path.write_bytes(pack(bytes(head) + bytes(3_000_000)))
    with pytest.raises(MicrographError):
        micrographs.read(path)
    assert tracemalloc.get_traced_memory()[1] < 30_000_000
    tracemalloc.stop()


def test_a_packed_file_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mic.tif.gz"
    tifffile.imwrite(tmp_path / "mic.tif", movie("u1")[0])
    path.write_bytes(gzip.compress((tmp_path / "mic.tif").read_bytes()))
    with pytest.raises(MicrographError, match="gzip file, whose content is not MRC"):
        micrographs.read(path)


def test_the_check_sum_of_a_packed_picture_is_compared(tmp_path: Path) -> None:
    path = packed(tmp_path, gzip.compress, "mic.mrc.gz")
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    with pytest.raises(MicrographError, match="gzip file cannot be decompressed"):
        micrographs.read(path)


# ---- EER: a BigTIFF whose frames list the gaps between electrons, 7 bits each, and 4 bits for the place in the pixel


def eer_frame(counts: np.ndarray, rng: np.random.Generator) -> bytes:
    """Encode a picture of 0 and 1 as the camera does."""
    bits: list[int] = []

    def put(value: int, width: int) -> None:
        bits.extend(value >> i & 1 for i in range(width))

    last = 0
    for place in [*np.flatnonzero(counts), counts.size]:
        gap = int(place) - last
        for _ in range(gap // 127):
            put(127, 7)
        put(gap % 127, 7)
        put(int(rng.integers(16)), 4)
        last = int(place) + 1
    bits += [0] * (-len(bits) % 64)
    return np.packbits(np.array(bits, "u1"), bitorder="little").tobytes()


def put_eer(path: Path, frames: np.ndarray, compression: int = 65001) -> Path:
    """Write a BigTIFF of one strip a frame, with the metadata of the first."""
    rng = np.random.default_rng(0)
    rows, columns = frames.shape[1:]
    metadata = b'<metadata><item name="sensorPixelSize.width" unit="m">7.1e-11</item></metadata>'
    content = bytearray(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16))
    for number, frame in enumerate(frames):
        data = eer_frame(frame, rng)
        tags = [(256, 4, 1, columns), (257, 4, 1, rows), (258, 3, 1, 1), (259, 3, 1, compression), (262, 3, 1, 1)]
        start = len(content) + 8 + 20 * 9 + 8
        tags += [(273, 16, 1, start + len(metadata)), (277, 3, 1, 1), (278, 4, 1, rows), (279, 16, 1, len(data))]
        if number == 0:
            tags = [*tags, (65001, 7, len(metadata), start + 20)]
            tags[5] = (273, 16, 1, start + 20 + len(metadata))
        content += struct.pack("<Q", len(tags)) + b"".join(struct.pack("<HHQQ", *tag) for tag in tags)
        following = len(content) + 8 + len(metadata) + len(data)
        content += struct.pack("<Q", 0 if number == len(frames) - 1 else following) + metadata + data
    path.write_bytes(content)
    return path


def electrons(rows: int = 64, columns: int = 96) -> np.ndarray:
    return np.random.default_rng(1).random((5, rows, columns)) < 0.05


def test_eer_frames_are_summed_at_the_camera_s_pixels(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    counts = electrons()
    path = put_eer(tmp_path / "movie.eer", counts)
    with collected_warnings() as noticed:
        found = micrographs.read(path)
    np.testing.assert_array_equal(found.pixels, counts.sum(0))
    assert found.pixel_size_A == pytest.approx(0.71)
    assert "5 frames" in noticed[0].found


def test_an_eer_gain_divides_but_a_gain_file_multiplies(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    counts, gain = electrons(), np.linspace(0.5, 2, 64 * 96, dtype="f4").reshape(64, 96)
    path = put_eer(tmp_path / "movie.eer", counts)
    total = counts.sum(0, dtype="f4")
    np.testing.assert_array_equal(read(path, put_mrc(tmp_path / "gain.mrc", gain))[0], total / gain)
    tifffile.imwrite(tmp_path / "gain.gain", gain)
    np.testing.assert_array_equal(read(path, tmp_path / "gain.gain")[0], total * gain)
    tifffile.imwrite(tmp_path / "gain.tif", gain)
    np.testing.assert_array_equal(read(path, tmp_path / "gain.tif")[0], total / gain[::-1])


def test_eer_needs_imagecodecs_and_says_so(tmp_path: Path) -> None:
    path = put_eer(tmp_path / "movie.eer", electrons())
    program = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from pathlib import Path; from upicker.io import micrographs\n"
        "try: micrographs.read(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("MicrographError")
    assert "pip install upicker[tiff]" in done.stdout


def test_a_damaged_eer_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs")
    content = put_eer(tmp_path / "movie.eer", electrons()).read_bytes()
    path = tmp_path / "cut.eer"
    for keep in (0.2, 0.9):
        path.write_bytes(content[: int(len(content) * keep)])
        with pytest.raises(MicrographError):
            read(path)


# ---- how a run reads


def test_the_option_beats_the_list_and_the_list_beats_the_header(tmp_path: Path) -> None:
    path = put_mrc(tmp_path / "mic.mrc", movie("f4")[0])
    other = put_mrc(tmp_path / "other.mrc", movie("f4")[0])
    reading = Reading(listed={path: 1.5})
    assert [reading.read(one).pixel_size_A for one in (path, other)] == [1.5, 0.83]
    assert Reading(2.0, {path: 1.5}).read(path).pixel_size_A == 2.0


def test_a_size_without_growth_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(1000))
    compression.check_expansion(path, 1_100_000)
    with pytest.raises(MicrographError, match="1000 bytes cannot hold"):
        compression.check_expansion(path, 3_000_000)


@pytest.mark.parametrize("more", [0, 1, 3, 40, 5000])
def test_a_movie_in_tiff_that_is_cut_short_between_frames_is_no_shorter_movie(tmp_path: Path, more: int) -> None:
    """Each page says where the next one is: where that lies beyond the end, frames are missing."""
    path = tmp_path / "movie.tif"
    with tifffile.TiffWriter(path) as file:
        for frame in movie("u1"):
            file.write(frame, contiguous=False, metadata=None)
    whole, _ = read(path)
    assert whole.sum() == movie("u1").sum()
    with tifffile.TiffFile(path) as file:
        last = file.pages[FRAMES - 1].offset
    path.write_bytes(path.read_bytes()[: last + more])
    with pytest.raises(MicrographError, match="truncated"):
        read(path)
