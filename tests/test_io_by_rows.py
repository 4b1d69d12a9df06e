"""A micrograph that is read by rows is the one that is read at once, and few of its pixels are in memory."""

import gzip
import subprocess
import sys
from pathlib import Path

import cv2
import mrcfile
import numpy as np
import pytest
import tifffile

from upicker.config import ImageConfig
from upicker.errors import MicrographError, UPickerWarning
from upicker.image.prepare import prepare
from upicker.io import micrographs, mrc

SHAPE = (203, 331)


def pixels(dtype: str) -> np.ndarray:
    """An oblong image with a gradient, and one bright pixel."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    picture = np.random.default_rng(3).normal(60, 9, SHAPE) + x / 20 - y / 40
    picture[70, 200] = 120
    return picture.astype(dtype)


def put(path: Path, dtype: str) -> Path:
    """Write the image as its suffix says."""
    content = pixels(dtype)
    if path.suffix == ".mrc":
        with mrcfile.new(path) as file:
            file.set_data(content)
            file.voxel_size = 1.5
    elif path.suffix == ".tif":
        tifffile.imwrite(path, content)
    else:
        assert cv2.imwrite(str(path), content)
    return path


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2", "f2", ">f4"])
@pytest.mark.parametrize("name", ["m.mrc", "m.tif", "m.png", "m.jpg", "m.mrc.gz"])
def test_its_rows_are_those_of_the_whole(tmp_path: Path, name: str, dtype: str) -> None:
    if name in ("m.png", "m.jpg"):
        dtype = "u1"
    path = put(tmp_path / name.removesuffix(".gz"), dtype)
    if name.endswith(".gz"):
        path = path.with_name(name)
        path.write_bytes(gzip.compress((tmp_path / "m.mrc").read_bytes()))
    whole, opened = micrographs.read(path), micrographs.by_rows(path)
    assert (opened.name, opened.path, opened.shape) == (whole.name, whole.path, SHAPE)
    assert opened.pixel_size_A == whole.pixel_size_A
    for start, stop, step in ((0, 203, 1), (17, 140, 1), (2, 203, 5), (202, 203, 3)):
        found = opened.rows(start, stop, step)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, whole.pixels[start:stop:step])
    np.testing.assert_array_equal(opened.pixels, whole.pixels)
    one, other = (prepare(m, 40.0, ImageConfig()) for m in (whole, opened))
    np.testing.assert_array_equal(one.pixels, other.pixels)


def test_an_mrc_file_is_read_only_where_it_is_needed(tmp_path: Path) -> None:
    path = put(tmp_path / "m.mrc", "f4")
    opened = micrographs.by_rows(path)
    content = bytearray(path.read_bytes())
    content[1024 + 100 * 331 * 4 :] = bytes(len(content) - 1024 - 100 * 331 * 4)
    path.write_bytes(content)
    assert opened.rows(99, 100).any()
    assert not opened.rows(100, 101).any()


def test_a_file_that_is_cut_meanwhile_is_named(tmp_path: Path) -> None:
    path = put(tmp_path / "m.mrc", "f4")
    opened = micrographs.by_rows(path)
    with path.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(MicrographError, match=r"m\.mrc.*truncated"):
        prepare(opened, 40.0, ImageConfig())


def test_unsigned_bytes_are_told_from_signed_ones_with_the_same_warning(tmp_path: Path) -> None:
    path = put(tmp_path / "m.mrc", "i1")
    content = bytearray(path.read_bytes())
    content[1024:] = (pixels("u1") + np.uint8(100)).tobytes()
    path.write_bytes(content)
    with pytest.warns(UPickerWarning, match="unsigned"):
        opened = micrographs.by_rows(path)
    np.testing.assert_array_equal(opened.pixels, pixels("u1") + np.float32(100))


@pytest.mark.filterwarnings("ignore:Data array contains NaN")
@pytest.mark.parametrize(("value", "says"), [(7.0, "the same"), (np.nan, "not finite")])
def test_what_is_no_micrograph_is_refused_when_it_is_prepared(tmp_path: Path, value: float, says: str) -> None:
    mrc.write(tmp_path / "m.mrc", np.full(SHAPE, value, np.float32))
    with pytest.raises(MicrographError, match=says):
        prepare(micrographs.by_rows(tmp_path / "m.mrc"), 40.0, ImageConfig())


@pytest.mark.parametrize("name", ["missing.mrc", "cut.mrc", "small.mrc"])
def test_what_cannot_be_read_is_refused_as_when_it_is_read_at_once(tmp_path: Path, name: str) -> None:
    put(tmp_path / "m.mrc", "f4")
    (tmp_path / "cut.mrc").write_bytes((tmp_path / "m.mrc").read_bytes()[:9000])
    mrc.write(tmp_path / "small.mrc", pixels("f4")[:9])
    messages = []
    for read in (micrographs.read, micrographs.by_rows):
        with pytest.raises(MicrographError) as raised:
            read(tmp_path / name)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]


PEAK = """
import resource, sys
from pathlib import Path
from upicker.config import Config
from upicker.io import micrographs
from upicker.run.allocator import keep_freed_memory
from upicker.run.propose import Proposing
from upicker.run.outputs import Outputs
from upicker.units import Length
keep_freed_memory()
work = Proposing(Length(100, "px"), Outputs(Path("."), ()), Config())
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
work.prepared(Path(sys.argv[1]))
before = peak()
work.prepared(Path(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count in other units")
def test_preparing_takes_less_memory_than_the_raw_pixels(tmp_path: Path) -> None:
    large = np.random.default_rng(1).normal(size=(4096, 512)).astype(np.float32)
    mrc.write(tmp_path / "small.mrc", large[:512])
    mrc.write(tmp_path / "large.mrc", np.concatenate([large] * 8, axis=1))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "small.mrc"), str(tmp_path / "large.mrc")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # The raw image has 64 MB as floats; half its spectrum along rows, cropped, has 16 MB, a working image 4 MB.
    assert float(done.stdout) < 56
