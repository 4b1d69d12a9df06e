"""How soon the page shows a micrograph: the server's share, without a browser.

Run from the checkout::

    python benchmarks/page.py [--screen 1400x900] [--folder DIR]

A first view is the description of the micrograph and all tiles of the level that fills the screen, four at a time as
the page requests them. Micrographs are first written to a temporary folder: 4096 x 4096 (67 MB), 11520 x 8184 (377 MB),
32-bit floats. Wall-clock and processor seconds differ where the disk is waited for, where two cores work at once, and
where others work on the same machine. Prints markdown.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from upicker.io import mrc
from upicker.io.micrographs import Reading
from upicker.units import parse_length
from upicker.web.project import Project, labelling
from upicker.web.tiles.images import MicrographImages

SIZES = {"4096 x 4096": ((4096, 4096), 1.1), "11520 x 8184": ((8184, 11520), 0.5)}
# The first is opened; two are prefetched then; to the last one jumps.
PICTURES = 4
DIAMETER = "190A"
PARALLEL = 4
LARGEST_ZOOM = 1.25


def write(folder: Path, shape: tuple[int, int], pixel_size_A: float, count: int = PICTURES) -> list[Path]:
    """Write noise with some large structure."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(17)
    ice = cv2.resize(rng.normal(0, 1, (40, 56)).astype(np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    ice += 10 + 3 * rng.standard_normal(shape, dtype=np.float32)
    paths = [folder / f"{shape[1]}_{number}.mrc" for number in range(count)]
    for path in paths:
        mrc.write(path, ice, pixel_size_A)
    return paths


def forget(paths: list[Path]) -> None:
    """Take files out of the system's cache, where the system does that."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def first_view(images: MicrographImages, number: int, view: str, screen: tuple[int, int]) -> int:
    """Ask for what the page asks for; return the number of bytes."""
    about = images.about(number, view)
    assert "error" not in about, about
    levels, (rows, columns) = about["levels"], about["shape"]
    zoom = min(screen[0] / columns, screen[1] / rows)
    level = max((i for i, one in enumerate(levels) if one["scale"] * zoom <= LARGEST_ZOOM), default=0)
    size = levels[level]["shape"]
    places = [(c, r) for r in range(-(-size[0] // about["tile"])) for c in range(-(-size[1] // about["tile"]))]
    with ThreadPoolExecutor(PARALLEL) as pool:
        tiles = list(pool.map(lambda place: images.tile(number, view, level, *place), places))
    return sum(map(len, tiles))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall-clock and processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def settle(images: MicrographImages) -> None:
    """Wait until nothing is made ahead any more."""
    while images.prefetcher.working:
        time.sleep(0.05)


def measure(project: Project, screen: tuple[int, int], name: str) -> None:
    paths = list(project.micrographs)
    images = MicrographImages(project)

    def row(what: str, work: Callable[[], object]) -> None:
        wall, processor = timed(work)
        print(f"| {name} | {what} | {wall:.2f} | {processor:.2f} |", flush=True)

    def view(number: int, kind: str = "raw") -> Callable[[], object]:
        return lambda: first_view(images, number, kind, screen)

    forget(paths)
    row("first, from the disk", view(0))
    for path in paths:
        path.read_bytes()
    images = MicrographImages(project)
    row("first, file in the system's cache", view(0))
    visit = timed(lambda: images.visit(0, "raw"))
    settle(images)
    row("next, prefetched", view(1))
    images.visit(1, "raw")
    settle(images)
    print(f"| | (kept in memory then: {images.nbytes / 1e6:.0f} MB; planning took {visit[0] * 1e3:.1f} ms) | | |")
    images = MicrographImages(project)
    row("another one, not prefetched", view(3))
    row("  its finest level, one tile", lambda: images.tile(3, "raw", 0, 3, 3))
    for kind in ("lowpass-20A", "lowpass-10A", "lowpass-40px", "prepared"):
        row(f"  {kind}", view(3, kind))
    row("  thumbnail, of what is open", lambda: images.thumbnail(3))
    row("  500 boxes of 380 A", lambda: images.boxes(3, _positions(project), 380 / project.size(3)[1], 64))
    images.close()


def _positions(project: Project) -> np.ndarray:
    rows, columns = project.size(3)[0]
    return np.random.default_rng(2).uniform((0, 0), (columns, rows), (500, 2))


def machine() -> str:
    """Say on what this ran."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        named = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = named[0] if named else model
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{model}, {len(os.sched_getaffinity(0))} cores{load}, {platform.system()}, OpenCV {cv2.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--screen", default="1400x900", help="columns x rows of the window, in pixels")
    parser.add_argument("--folder", type=Path, help="where micrographs are written; by default a temporary folder")
    options = parser.parse_args()
    columns, rows = map(int, options.screen.split("x"))
    print(f"{machine()}; screen {columns} x {rows}\n")
    print("| micrograph | view | s | processor s |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name, (shape, pixel_size_A) in SIZES.items():
            paths = write(Path(folder), shape, pixel_size_A)
            project = labelling(paths, Reading(), Path(folder) / "labels", parse_length(DIAMETER))
            measure(project, (columns, rows), name)


if __name__ == "__main__":
    main()
