"""A run over very many micrographs: memory flat, each as fast as the first, and the record opened in seconds.

    python benchmarks/many.py --micrographs 20000

A few hundred small micrographs are simulated, and linked under as many names as wanted. `upicker propose` and
`upicker pick` (a network of toy size) run over all of them; the memory of the main process is read while they do. Then
the record is read, `upicker report` writes a report, and `upicker inspect` is started and asked for its first summary.
Prints

- the memory of the main process, after the start and at the end,
- seconds per micrograph, of the first and of the last thousand, by the times at which their entries were written; and
  CPU time, which is judged, as it does not depend on what else the machine does,
- seconds to read the record, to write a report, and until the first summary.

Exits with 1 if the last thousand take more than 10 % longer than the first, memory grows by more than 10 %, or one of
the last three takes more than 10 s.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import kills
import numpy as np
from kills_page import Page

from upicker.io import coordinates, folders, mrc
from upicker.run import record
from upicker.simulate.scene import Scene, make

TILE = Scene(shape=(192, 192), pixel_size_A=5.0, specimens=("globule",), particles=8, seed=7)
MOST_S, MOST_GROWTH = 10.0, 1.1


@dataclass(frozen=True)
class Run:
    """What was measured of one command.

    Attributes
    ----------
    first_s, last_s : float
        Seconds per micrograph, of the first and the last portion.
    first_cpu_s, last_cpu_s : float
        CPU time per micrograph, of all processes, which does not depend on what else the machine does.
    early_MB, late_MB : float
        Memory of the main process, after the first portion and at the end.
    """

    first_s: float
    last_s: float
    first_cpu_s: float
    last_cpu_s: float
    early_MB: float
    late_MB: float


class Seen(NamedTuple):
    """A run at one time."""

    entries: int
    at_s: float
    cpu_s: float
    MB: float


def linked(folder: Path, count: int, tiles: int) -> Path:
    """Simulate a few micrographs, and link them under many names."""
    made = []
    for number in range(min(tiles, count)):
        made.append(folder / "tiles" / f"tile{number:04d}.mrc")
        mrc.write(made[-1], make(TILE, number).micrograph.pixels, TILE.pixel_size_A)
    (folder / "mics").mkdir(parents=True)
    for number in range(count):
        os.link(made[number % len(made)], folder / "mics" / f"mic{number:06d}.mrc")
    return folder / "mics"


def watched(arguments: list[str], folder: Path, out: Path, count: int, portion: int) -> Run:
    """Run a command, and read its memory and its progress a few times a second."""
    process = kills.started(arguments, folder)
    seen: list[Seen] = []
    while process.poll() is None:
        time.sleep(0.2)
        seen.append(Seen(entries(out), time.monotonic(), cpu_s(process.pid), resident_mb(process.pid)))
    if process.returncode:
        raise RuntimeError(f"upicker {arguments[0]} ended with {process.returncode}: see {folder}.txt")
    # Those that have ended, and are not waited for yet, are missing for a moment.
    highest = np.maximum.accumulate([one.cpu_s for one in seen])
    seen = [one._replace(cpu_s=cpu) for one, cpu in zip(seen, highest, strict=True) if one.entries and one.MB]
    # Not from the first entry on: the processes start one after the other.
    start = seen[0].entries + portion // 4
    first, last = between(seen, start, start + portion), between(seen, count - portion, count)
    early = next(one.MB for one in seen if one.entries >= start)
    return Run(first[0], last[0], first[1], last[1], early, seen[-1].MB)


def threshold_of(few: list[str], folder: Path) -> str:
    """Return the threshold at which the network, hardly trained, picks as many particles as there are."""
    kills.run(["pick", *few, "--model", "weights.safetensors", "-o", "few", "--threshold", "0"], folder)
    scores = np.concatenate([coordinates.read(file).score for file in folders.stems(folder / "few").values()])
    return f"{np.sort(scores)[-TILE.particles * len(few) :][0]:.4f}"


def between(seen: list[Seen], low: int, high: int) -> tuple[float, float]:
    """Return seconds and CPU seconds per micrograph while their number rose from one to another."""
    inside = [one for one in seen if low <= one.entries <= high]
    first, last = inside[0], inside[-1]
    count = max(last.entries - first.entries, 1)
    return (last.at_s - first.at_s) / count, (last.cpu_s - first.cpu_s) / count


def cpu_s(leader: int) -> float:
    """Return the CPU time so far of the processes of a session, and of those that its leader has waited for."""
    ticks = 0
    for pid in kills.session(leader):
        with suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, words[11 : 15 if pid == leader else 13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def entries(out: Path) -> int:
    """Return how many entries were written so far."""
    return sum(file.read_bytes().count(b'{"name":') for file in (out / ".upicker").glob("run-*.jsonl"))


def resident_mb(pid: int) -> float:
    """Return the memory of a process; 0 if it has ended."""
    try:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def opened(folder: Path, out: Path, mics: Path) -> dict[str, float]:
    """Return the seconds that it takes to read the record, to write a report, and to inspect."""
    took = {}
    begun = time.monotonic()
    listed = record.read(out).micrographs
    took["read the record"] = time.monotonic() - begun
    assert len(listed) == len(list(mics.iterdir())), len(listed)
    took["report"] = kills.run(["report", out.name, "-o", "report.html"], folder)
    begun = time.monotonic()
    arguments = ["inspect", out.name, "--micrographs", str(mics), "--port", "0", "--no-browser"]
    page = Page(folder, arguments)
    while "loading" in page.get("/api/picks/summary"):
        time.sleep(0.05)
    took["inspect, first summary"] = time.monotonic() - begun
    page.process.terminate()
    page.process.wait()
    return took


def main() -> None:
    """Parse the command line, and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micrographs", type=int, default=20_000)
    parser.add_argument("--tiles", type=int, default=300)
    parser.add_argument(
        "--portion", type=int, default=1000, help="what is compared: so many first and last micrographs"
    )
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder, removed at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="many-") as temporary:
        sys.exit(measured((options.folder or Path(temporary)).resolve() / "many", options))


def measured(folder: Path, options: argparse.Namespace) -> int:
    """Run all, print the figures, and return the exit code."""
    mics = linked(folder, options.micrographs, options.tiles)
    few = [str(path) for path in sorted(mics.iterdir())[:4]]
    kills.run(["pretrain", *few, "-o", "weights.safetensors", "--diameter", "150A", *kills.KNOBS], folder)
    threshold = threshold_of(few, folder)
    jobs, no_mask = ["--jobs", str(options.jobs)], ["--set", "propose.mask=false", "--set", "image.mask=false"]
    commands = {
        "propose": ["propose", "mics", "-o", "proposed", "--diameter", "150A", *jobs, *no_mask],
        "pick": ["pick", "mics", "--model", "weights.safetensors", "-o", "picked", "--threshold", threshold, *jobs],
    }
    bad = 0
    for name, arguments in commands.items():
        out = folder / arguments[arguments.index("-o") + 1]
        run = watched(arguments, folder, out, options.micrographs, min(options.portion, options.micrographs // 3))
        print(
            f"{name}: {1e3 * run.first_s:.1f} ms per micrograph at first, {1e3 * run.last_s:.1f} ms at last; "
            f"CPU time {1e3 * run.first_cpu_s:.1f} and {1e3 * run.last_cpu_s:.1f} ms; "
            f"{run.early_MB:.0f} MB at first, {run.late_MB:.0f} MB at last",
            flush=True,
        )
        bad += run.last_cpu_s > MOST_GROWTH * run.first_cpu_s
        bad += run.late_MB > MOST_GROWTH * run.early_MB
        for what, seconds in opened(folder, out, mics).items():
            print(f"{name}: {what}: {seconds:.1f} s", flush=True)
            bad += seconds > MOST_S
        print(f"{name}: {len(folders.stems(out))} files", flush=True)
    print(f"{bad} findings")
    return 1 if bad else 0


if __name__ == "__main__":
    main()
