"""Damaged image files and lists: each must be refused with a clear error, quickly and in little memory.

    python benchmarks/fuzz_images.py --inputs 100000 --seed 0

Small good files of each kind are damaged (numbers in headers replaced, bytes changed, pieces cut out, doubled or
exchanged between kinds) and read. Printed are, for each kind, how many were read and refused, and each finding: an
unexpected error, a warning, more than `--seconds` of the processor, or more than `--megabytes`. Inputs with a
finding are kept in `--keep`.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import resource
import signal
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType

import cv2
import mrcfile
import numpy as np
import tifffile

from upicker.errors import UPickerError, collected_warnings
from upicker.io import lists, micrographs

INTERESTING = (0, 1, -1, 2, 16, 255, 1024, 32_767, 40_000, 65_535, 65_536, 2**20, 2**31 - 1, -(2**31))
SHAPE = (33, 41)
PATIENCE_S = 20


def seeds(folder: Path) -> dict[str, bytes]:
    """Make one good file of each kind."""
    rng = np.random.default_rng(0)
    image = rng.normal(100, 9, SHAPE)
    made: dict[str, bytes] = {}

    def keep(name: str) -> None:
        made[name] = (folder / name).read_bytes()

    for name, dtype in (("b.mrc", "i1"), ("h.mrc", "i2"), ("f.mrc", "f4"), ("u.mrc", "u2"), ("e.mrc", "f2")):
        with mrcfile.new(folder / name, overwrite=True) as file:
            file.set_data(image.astype(dtype))
        keep(name)
    made["g.mrc.gz"], made["b.mrc.bz2"] = gzip.compress(made["h.mrc"]), bz2.compress(made["h.mrc"])
    options: dict[str, dict] = {
        "plain.tif": {},
        "zlib.tif": {"compression": "zlib", "predictor": True},
        "lzw.tif": {"compression": "lzw"},
        "zstd.tif": {"compression": "zstd"},
        "tiles.tif": {"tile": (16, 16)},
        "ome.tif": {"ome": True, "metadata": {"PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "nm"}},
        "imagej.tif": {"imagej": True, "resolution": (8, 8), "metadata": {"unit": "nm"}},
        "big.tif": {"bigtiff": True, "byteorder": ">"},
    }
    for name, how in options.items():
        tifffile.imwrite(folder / name, image.astype("u2"), **how)
        keep(name)
    tifffile.imwrite(folder / "movie.tif", np.stack([image.astype("u1")] * 3), photometric="minisblack")
    tifffile.imwrite(folder / "rgb.tif", np.stack([image.astype("u1")] * 3, -1), photometric="rgb")
    for name in ("p.png", "p.jpg"):
        cv2.imwrite(str(folder / name), image.astype("u1"))
    for name in ("movie.tif", "rgb.tif", "p.png", "p.jpg"):
        keep(name)
    table = np.array([(7, b"m.mrc", (33, 41), 1.5)] * 2, [("uid", "<u8"), ("micrograph_blob/path", "S9"),
        ("micrograph_blob/shape", "<u4", (2,)), ("micrograph_blob/psize_A", "<f4")])  # fmt: skip
    with (folder / "x.cs").open("wb") as file:
        np.save(file, table)
    keep("x.cs")
    made["x.star"] = (
        b"data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 1.77\n\ndata_micrographs\n\nloop_\n"
        b"_rlnMicrographName #1\n_rlnOpticsGroup #2\n_rlnDefocusU #3\nf.mrc 1 10000.0\n'b.mrc' 1 11000.0\n"
    )
    made["x.txt"] = b'# list\nf.mrc\n"b.mrc"\r\n'
    return made


def damaged(content: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """Return the content with one to four faults."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        # Headers lie in front, and those of TIFF files at the end; half of the faults go there.
        size = max(1, len(data))
        at = (int(rng.integers(size)), int(rng.integers(min(size, 256))), max(0, size - 1 - int(rng.integers(400))))
        at = at[int(rng.integers(3))]
        match int(rng.integers(7)):
            case 0:
                data[at : at + 1] = bytes([int(rng.integers(256))])
            case 1 | 2:
                at -= at % 4
                width, order = int(rng.choice([2, 4, 8])), str(rng.choice(["little", "big"]))
                value = int(rng.choice(INTERESTING)) % 256**width
                data[at : at + width] = value.to_bytes(width, order)  # type: ignore[arg-type]
            case 3:
                del data[at:]
            case 4:
                del data[at : at + int(rng.integers(1, 64))]
            case 5:
                data[at:at] = data[at : at + int(rng.integers(1, 64))] * int(rng.integers(1, 9))
            case 6:
                other = others[int(rng.integers(len(others)))]
                data[at : at + 64] = other[: int(rng.integers(64))]
    return bytes(data)


class Endless(BaseException):
    """Reading took so long that it was given up."""


def give_up(signal_number: int, frame: FrameType | None) -> None:
    """Raise where the program is."""
    raise Endless(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else "?")


def try_one(path: Path, name: str) -> str:
    """Read one file; return what came of it."""
    signal.setitimer(signal.ITIMER_PROF, PATIENCE_S)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with collected_warnings():
                lists.read(path) if name.startswith("x.") else micrographs.read(path)
    except UPickerError as error:
        return "refused" if str(path) in str(error) else f"the file is not named: {error}"
    except Endless as error:
        return f"no end in sight after {PATIENCE_S} s, in {error}"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(frame.filename).name}:{frame.lineno}: {str(error)[:80]}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "read"


def main() -> int:
    """Run; return 1 if there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--megabytes", type=float, default=50.0)
    parser.add_argument("--only", default="", help="of the kinds, those with this in the name")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    signal.signal(signal.SIGPROF, give_up)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    findings: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = {kind: content for kind, content in seeds(folder).items() if options.only in kind}
        counts = {kind: Counter() for kind in made}
        tracemalloc.start()
        for number in range(options.inputs):
            if number % 5000 == 0:
                print(f"{number} of {options.inputs}", file=sys.stderr, flush=True)
            rng = np.random.default_rng((options.seed, number))
            kind = list(made)[number % len(made)]
            content = damaged(made[kind], list(made.values()), rng)
            path = folder / f"damaged_{kind}"
            path.write_bytes(content)
            tracemalloc.reset_peak()
            start = time.process_time()
            result = try_one(path, kind)
            if (seconds := time.process_time() - start) > options.seconds:
                result = f"slow, {result}"
            if (peak := tracemalloc.get_traced_memory()[1] / 1e6) > options.megabytes:
                result = f"large, {result}"
            short = result if result in ("read", "refused") else "found"
            counts[kind][short] += 1
            if short == "found":
                findings[f"{kind}: {result}"] += 1
                if findings[f"{kind}: {result}"] == 1:
                    print(f"{kind} {number}: {result} ({seconds:.2f} s, {peak:.0f} MB)", flush=True)
                    if options.keep:
                        options.keep.mkdir(parents=True, exist_ok=True)
                        (options.keep / f"{number}_{kind}").write_bytes(content)
    for kind, count in counts.items():
        print(f"{kind:12} {dict(count)}")
    print(f"{options.inputs} inputs, {len(findings)} kinds of findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
