"""Damaged files by the ten thousand: every reader returns what it reads, or raises the error of its kind.

    python benchmarks/fuzz.py --inputs 100000 --seed 0 --keep /tmp/findings

For each reader valid files are made, then cut, spliced, repeated, and sprinkled with words that have broken readers
before; every tenth input is random bytes. An input is a finding if reading it raises anything but CoordinatesError,
takes more CPU time than --seconds, needs more than --memory GiB, or gives positions that are not finite.

The reader "weights" checks weights files (WeightsError) without building a network; most of its inputs are damaged in
the JSON of their headers (`fuzz_weights.py`).
"""

from __future__ import annotations

import argparse
import collections
import io
import json
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_weights
import numpy as np

from upicker.errors import CoordinatesError, WeightsError
from upicker.io import coordinates
from upicker.io.picks import Picks
from upicker.particles import Particles

SHAPE = (371, 533)
# fmt: off
WORDS = [
    "nan", "inf", "-inf", "1e400", "-1e308", "1_0", "0x1", "٣", "-999", "999999999999999999999", "data_", "data_x",
    "loop_", "_rln", "_rlnCoordinateX", "_rlnMicrographName", "_rlnOpticsGroup", "_CoordinateX", "#", "'", '"', ",",
    ";", "<NA>", "x,y", '"boxes"', '"images"', '"bbox"', "null", "true", "{}", "[]", "[[", '{"', "'descr'", "'shape'",
    "|O", "<f4", "<f8", "S0", "U9", "(1000000000000,)", "(-1,)", "location/center_x_frac", "uid", "\\u0000", "1e5",
    "00123",
]
# fmt: on
BYTES = [word.encode() for word in WORDS]
BYTES += [
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\r",
    b"\n",
    b"\t",
    b" ",
    b"\x85",
    b"\xe2\x80\xa8",
    b"\x93NUMPY",
]
BYTES += [b"[" * 3000, b'"' * 300, b"9" * 5000, b"\n" * 2000, b"x " * 3000, b"' " * 300]
LISTS = {
    "relion list": ("autopick.star", b"data_coordinate_files\nloop_\n_rlnMicrographName\n_rlnMicrographCoordinates\n"),
    "summary": ("summary.star", b"data_\nloop_\n_rlnMicrographName #1\n_rlnGroupNrParticles #2\nM/a.mrc 3\n"),
    "coords_suffix": ("coords_suffix_autopick.star", b"CtfFind/job003/micrographs_ctf.star\n"),
}
REFINED = b"""data_optics
loop_
_rlnOpticsGroup #1
_rlnMicrographOriginalPixelSize #2
_rlnImagePixelSize #3
1 0.885 3.54
2 1.77 3.54

data_particles
loop_
_rlnMicrographName #1
_rlnCoordinateX #2
_rlnCoordinateY #3
_rlnOriginXAngst #4
_rlnOriginYAngst #5
_rlnOpticsGroup #6
_rlnClassNumber #7
M/00123.mrc 10.5 20 1.77 -3.54 1 2
'M/a b.mrc' 30 40 0 0 2 1
"""


def seeds(folder: Path) -> dict[str, tuple[str, list[bytes]]]:
    """Return, by reader, the name of its files and valid contents."""
    random = np.random.default_rng(0)
    all_picks = []
    for name, n in (("M/00123.mrc", 4), ("M/b.mrc", 1), ("c d.mrc", 0)):
        xy = random.uniform(0, SHAPE[::-1], (n, 2))
        extra = {"class_number": random.integers(0, 5, n), "psi_deg": random.uniform(-180, 180, n)}
        particles = Particles(xy, random.uniform(20, 40, n), random.uniform(0, 1, n), extra)
        all_picks.append(Picks(name, particles, SHAPE, 1.77))
    found: dict[str, tuple[str, list[bytes]]] = {}
    for format in coordinates.FORMATS:
        files = []
        for k in range(1, len(all_picks) + 1):
            files += coordinates.write_all(folder / f"{format}{k}", all_picks[:k], format)
        contents = {file.read_bytes() for file in files if file.suffix != ".csg"}
        found[format] = coordinates.output_path(folder, "a", format).name, sorted(contents)
    found["star"][1].append(REFINED)
    found["cs"][1].extend([*found["cs"][1] * 60, *tables()])
    for format in ("eman2", "coco"):
        found[format][1].extend(text for content in list(found[format][1]) for text in trees(json.loads(content)))
    found["box"][1].append(b"10 40 10 10 -3\r\n100\t200\t30\t30\t-3\r\n")
    groups = (file.read_text().replace(">", f">{file.parent}/") for file in folder.glob("cs*/*.csg"))
    found["csg"] = "a.csg", [text.encode() for text in groups]
    for name, (file, content) in LISTS.items():
        tail = f"M/a.mrc {folder}/star1/00123_autopick.star\n".encode() if name == "relion list" else b""
        found[name] = file, [content + tail]
    found["weights"] = "a.safetensors", fuzz_weights.seeds(folder / "weights")
    return found


def trees(content: Any) -> list[bytes]:
    """Return a JSON content with each of its parts replaced by something else, and removed."""
    found: list[bytes] = []

    def visit(node: Any) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            old = node[key]
            for new in (None, True, -1, 0, 10**400, 1e308, float("nan"), "x", [], {}, [[]], [1, 2, 3, 4]):
                node[key] = new
                found.append(json.dumps(content).encode())
            node[key] = old
            visit(old)

    visit(content)
    return found


def tables() -> list[bytes]:
    """Return .cs tables whose fields are missing, doubled in size, of other kinds, empty or pickled."""
    names = [f"location/{name}" for name in ("micrograph_path", "micrograph_shape", "center_x_frac", "center_y_frac")]
    names += [
        "location/micrograph_psize_A",
        "location/min_dist_A",
        "pick_stats/ncc_score",
        "pick_stats/angle_rad",
        "uid",
    ]
    usual: list[object] = ["S9", ("<u4", (2,)), "<f4", "<f4", "<f4", "<f4", "<f4", "<f4", "<u8"]
    others = ["U5", "<f2", "<f8", ">i2", "?", "<c8", "V3", "O", "M8[s]", ("<f4", (2, 2)), ("<i8", (2,)), "S0", "<f16"]
    found = []
    for n in (0, 3):
        for place in range(len(names)):
            for kind in (None, *others):
                kinds = [*usual[:place], kind, *usual[place + 1 :]]
                fields = [(name, *(k if isinstance(k, tuple) else (k,))) for name, k in zip(names, kinds) if k]
                table = np.zeros(n, fields)  # type: ignore[call-overload]
                stream = io.BytesIO()
                np.save(stream, table, allow_pickle=True)
                found.append(stream.getvalue())
    return found


def changed(random: np.random.Generator, data: bytes, contents: list[bytes]) -> bytes:
    """Return a file after one change."""
    a, b = sorted(int(v) for v in random.integers(0, len(data) + 1, 2))
    # Most of the cuts are short, so that most of the file stays what it was.
    b = min(b, a + int(random.integers(1, 9))) if random.random() < 0.7 else b
    other = contents[random.integers(len(contents))]
    c, d = sorted(int(v) for v in random.integers(0, len(other) + 1, 2))
    digits = bytes(random.choice(list(b"0123456789.-e \t"), b - a).tolist())
    noise, few = random.bytes(b - a), random.bytes(int(random.integers(1, 5)))
    word = BYTES[random.integers(len(BYTES))]
    flipped = bytes([data[a] ^ 1 << int(random.integers(8))]) if a < len(data) else b""
    cut, twice = (b, len(data), b""), (a, a, data[a:b])
    # Same-length noise keeps the tables of binary files in place; in texts it would spoil UTF-8 and nothing else.
    noise = noise if data[:1] == b"\x93" else data[a:b][::-1]
    changes = [cut, twice, (a, b, b""), (a, b, other[c:d]), (a, a, word), (a, b, word), (a, a + 1, flipped)]
    changes += [(a, a, few), (a, b, digits), (a, b, digits), (a, b, noise), (a, b, noise)]
    # What shifts a binary table spoils all of it: mostly the last three, which do not.
    binary = data[:1] == b"\x93" and random.random() < 0.8
    start, stop, new = changes[-1 - random.integers(3) if binary else random.integers(len(changes))]
    return data[:start] + new + data[stop:]


def mutated(random: np.random.Generator, contents: list[bytes]) -> bytes:
    """Return a damaged file."""
    data = contents[random.integers(len(contents))]
    if random.random() < 0.1:
        return data[: random.integers(0, 12)] + random.bytes(int(random.integers(0, 400)))
    for _ in range(min(5, int(random.geometric(0.5)) - (random.random() < 0.4))):
        data = changed(random, data, contents)
    return data


def outcome(path: Path, read: Callable[[Path], object]) -> str:
    """Return "read", "refused", or what went wrong and where."""
    try:
        found = read(path)
    except (CoordinatesError, WeightsError) as error:
        return "refused" if str(error.where) and error.remedy else "a message without where or remedy"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:80]} ({Path(last.filename).name}, line {last.lineno})"
    finite = all(np.isfinite(p.particles.xy).all() and np.isfinite(p.particles.score).all() for p in found)  # type: ignore[attr-defined]
    return "read" if finite else "positions that are not finite"


def alarmed(*_: object) -> None:
    raise TimeoutError("too slow")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="*", help="some of them; default: all")
    parser.add_argument("--seconds", type=float, default=5.0, help="most CPU time an input may take")
    parser.add_argument("--memory", type=float, default=4.0, help="GiB of address space")
    parser.add_argument("--keep", type=Path, help="folder for the inputs of findings")
    options = parser.parse_args()
    limit = int(options.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGPROF, alarmed)
    bad = 0
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        for number, (reader, (file, contents)) in enumerate(seeds(folder).items()):
            if options.readers and reader not in options.readers:
                continue
            damaged, read = (
                (fuzz_weights.mutated, fuzz_weights.read) if reader == "weights" else (mutated, coordinates.read_all)
            )
            path = folder / "damaged" / file
            path.parent.mkdir(exist_ok=True)
            counts: collections.Counter[str] = collections.Counter()
            start, longest = time.perf_counter(), 0.0
            for index in range(options.inputs):
                content = damaged(np.random.default_rng((options.seed, number, index)), contents)
                path.write_bytes(content)
                before = time.process_time()
                signal.setitimer(signal.ITIMER_PROF, options.seconds)
                result = outcome(path, read)
                signal.setitimer(signal.ITIMER_PROF, 0)
                longest = max(longest, time.process_time() - before)
                counts[result] += 1
                if result not in ("read", "refused") and options.keep and counts[result] <= 3:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / f"{reader}-{options.seed}-{index}").write_bytes(content)
            path.unlink(missing_ok=True)
            findings = {what: n for what, n in counts.items() if what not in ("read", "refused")}
            bad += len(findings)
            spent = time.perf_counter() - start
            print(
                f"{reader:13s} {options.inputs} inputs: {counts['read']} read, {counts['refused']} refused,"
                f" {len(findings)} findings; slowest {longest * 1e3:.0f} ms; {spent:.0f} s",
                flush=True,
            )
            for what, n in findings.items():
                print(f"    {n} x {what}", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
