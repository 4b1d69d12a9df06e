"""Integers of MRC modes 0 and 1 without IMOD's stamp are signed or unsigned: all readers decide alike, by header or
histogram.
"""

import bz2
import gzip
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mrcfile.dtypes import HEADER_DTYPE

from upicker.errors import UPickerWarning
from upicker.io import micrographs, mrc

ROWS, COLUMNS = 90, 70


def noise(mean: float, low: int, high: int) -> np.ndarray:
    """`(90, 70)` float32, whole numbers about `mean`, none of them symmetric."""
    values = np.random.default_rng(7).normal(mean, 45, (ROWS, COLUMNS))
    return values.round().clip(low, high).astype(np.float32)


UNSIGNED, SIGNED = noise(136, 0, 255), noise(-9, -128, 127)


def put(
    path: Path, pixels: np.ndarray, statistics: tuple[float, float, float], order: str = "<", mode: int = 0
) -> Path:
    """Write mode 0 or 1 without a stamp, with dmin, dmax and dmean as given."""
    header = np.zeros((), HEADER_DTYPE.newbyteorder(order))
    header["ny"], header["nx"] = pixels.shape[-2:]
    header["nz"] = len(pixels) if pixels.ndim == 3 else 1
    header["mode"] = mode
    header["mapc"], header["mapr"], header["maps"], header["map"] = 1, 2, 3, b"MAP "
    header["machst"] = (0x44, 0x44, 0, 0) if order == "<" else (0x11, 0x11, 0, 0)
    header["dmin"], header["dmax"], header["dmean"] = statistics
    stored = pixels.astype(np.int64).astype(f"{order}u{1 + mode}")
    path.write_bytes(header.tobytes() + stored.tobytes())
    return path


def of(pixels: np.ndarray) -> tuple[float, float, float]:
    return float(pixels.min()), float(pixels.max()), float(pixels.mean())


WORDS, SIGNED_WORDS = UNSIGNED * 200, SIGNED * 250

# What is stored, and what the header says of it.
CASES = {
    "header of unsigned bytes": (UNSIGNED, of(UNSIGNED)),
    "header of signed bytes": (SIGNED, of(SIGNED)),
    "no statistics, unsigned": (UNSIGNED, (0, 0, 0)),
    "no statistics, signed": (SIGNED, (0, 0, 0)),
    "statistics undetermined as in MRC2014": (UNSIGNED, (0, -1, -2)),
    "statistics not finite": (UNSIGNED, (np.nan, np.inf, np.nan)),
    "only the mean": (UNSIGNED, (0, 0, 136)),
    "statistics of floats before": (UNSIGNED, (-3.5, 4.2, 0)),
    "statistics of floats before, signed": (SIGNED, (-3.5, 4.2, 0)),
    "a wide range whose mean tells": (UNSIGNED, (-300, 300, 136)),
    "a wide range whose mean tells, signed": (SIGNED, (-300, 300, -9)),
    "dark unsigned, one bright pixel": (np.where(np.arange(COLUMNS) == 3, 200, 20 + UNSIGNED // 8), (0, 200, 40)),
    "statistics of the signed reading": (UNSIGNED, (-128, 127, 0)),
}
# The same in 16 bits.
CASES_OF_WORDS = {
    "header of unsigned integers": (WORDS, (0, 51000, 27000)),
    "no statistics, unsigned": (WORDS, (0, 0, 0)),
    "statistics undetermined, unsigned": (WORDS, (0, -1, -2)),
    "statistics of the signed reading": (WORDS, (-32768, 32767, 0)),
    "dark unsigned, hot pixels": (np.where(WORDS > 42000, WORDS, 900 + WORDS // 64), (0, 51000, 1500)),
    "header of signed integers": (SIGNED_WORDS, of(SIGNED_WORDS)),
    "no statistics, signed": (SIGNED_WORDS, (0, 0, 0)),
    "no statistics, all of the signed range": (np.arange(-32768, 32768)[: 64 * 1024].reshape(1024, 64), (0, 0, 0)),
    "no statistics, few negative": (np.where(WORDS > 42000, -20000, WORDS // 2), (0, 0, 0)),
    "no statistics, borders of the lowest value": (np.where(np.arange(COLUMNS) < 9, -32768, 25000 + SIGNED), (0, 0, 0)),
    "statistics of floats before, signed": (SIGNED_WORDS // 50, (0, 60000, 30000)),
}


ALL = [(case, 0) for case in CASES] + [(case, 1) for case in CASES_OF_WORDS]


@pytest.mark.parametrize(("case", "mode"), ALL)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.filterwarnings("ignore::upicker.errors.UPickerWarning")
def test_every_reader_reads_integers_alike(tmp_path: Path, case: str, mode: int, order: str) -> None:
    pixels, statistics = (CASES_OF_WORDS if mode else CASES)[case]
    path = put(tmp_path / "mic.mrc", pixels, statistics, order, mode)
    np.testing.assert_array_equal(micrographs.read(path).pixels, pixels)
    assert micrographs.size(path)[0] == pixels.shape
    windows = mrc.windows(path)
    assert windows is not None
    with windows:
        np.testing.assert_array_equal(windows[20:61, 11:50].astype(np.float32), pixels[20:61, 11:50])
    for suffix, compress in ((".gz", gzip.compress), (".bz2", bz2.compress)):
        compressed = tmp_path / f"mic.mrc{suffix}"
        compressed.write_bytes(compress(path.read_bytes()))
        np.testing.assert_array_equal(micrographs.read(compressed).pixels, pixels)


def test_unsigned_bytes_are_named_in_a_warning_and_signed_ones_are_not(tmp_path: Path) -> None:
    path = put(tmp_path / "mic.mrc", UNSIGNED, of(UNSIGNED))
    with pytest.warns(UPickerWarning, match=r"mic\.mrc: it holds unsigned bytes in MRC mode 0"):
        micrographs.read(path)
    with pytest.warns(UPickerWarning, match=r"it holds unsigned 16-bit integers in MRC mode 1, .* as 0\.\.65535"):
        micrographs.read(put(tmp_path / "words.mrc", WORDS, (0, 0, 0), mode=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        micrographs.read(put(tmp_path / "signed_words.mrc", SIGNED_WORDS, (0, 0, 0), mode=1))
        micrographs.read(put(tmp_path / "signed.mrc", SIGNED, of(SIGNED)))
        # Below 128 both readings are the same.
        micrographs.read(put(tmp_path / "low.mrc", UNSIGNED.clip(0, 127), (0, 127, 100)))


def test_the_frames_of_a_movie_are_read_like_its_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upicker.io.movies.MIN_FRAME_SIDE", 16)
    frames = np.stack([UNSIGNED, UNSIGNED[::-1], UNSIGNED[:, ::-1].clip(0, 127)])
    path = put(tmp_path / "movie.mrc", frames, (0, 0, 0))
    with pytest.warns(UPickerWarning) as noticed:
        np.testing.assert_array_equal(micrographs.read(path).pixels, frames.sum(0))
    assert sum("unsigned bytes" in str(one.message) for one in noticed) == 1


def test_the_stamp_of_imod_decides(tmp_path: Path) -> None:
    path = put(tmp_path / "mic.mrc", SIGNED, of(UNSIGNED))
    content = bytearray(path.read_bytes())
    content[152:160] = b"DOMI"[::-1] + b"\1\0\0\0"
    path.write_bytes(content)
    np.testing.assert_array_equal(micrographs.read(path).pixels, SIGNED)


def _volume(path: Path) -> np.ndarray:
    from upicker.simulate.specimens.density import read

    return read(path, 2.0)[0]


@pytest.mark.parametrize(
    ("values", "mode"),
    [(UNSIGNED, 0), (SIGNED, 0), (WORDS, 1), (SIGNED_WORDS, 1)],
    ids=["unsigned", "signed", "unsigned, 16 bits", "signed, 16 bits"],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_density_map_of_integers(tmp_path: Path, values: np.ndarray, mode: int, order: str) -> None:
    reader: Callable[[Path], np.ndarray] = _volume
    block = np.stack([values[:40, :30], values[40:80, :30], values[20:60, 30:60], values[5:45, 35:65]])
    np.testing.assert_array_equal(reader(put(tmp_path / "map.mrc", block, (0, 0, 0), order, mode)), block)
