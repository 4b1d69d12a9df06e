"""What many files and many workers cost: overhead of a task, throughput with more workers, and a folder of 50,000.

    python benchmarks/scale.py                         everything
    python benchmarks/scale.py overhead --tasks 20000  tasks that do nothing
    python benchmarks/scale.py throughput              picking with 1, 2 and 4 workers
    python benchmarks/scale.py entries --entries 50000 a folder with so many micrographs done

"overhead" and "throughput" do so with processes of this machine and with workers of a dask cluster on it (`--cluster
local`). "entries" makes a folder as a finished run leaves it, with small files, and measures what a command does before
and after its work there; benchmarks/many.py runs whole commands over as many micrographs. CPU seconds are of this
process and of all that it waited for. Prints markdown.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from upicker.cli.clusters import workers
from upicker.io import coordinates, mrc
from upicker.io.micrographs import Reading
from upicker.particles import Particles
from upicker.pick.picker import Picker
from upicker.report import page
from upicker.report.inputs import Inputs
from upicker.run import record, status
from upicker.run.batch import Workers, each
from upicker.run.entries import Entry, Journal
from upicker.run.find import find_all
from upicker.run.outputs import Outputs
from upicker.run.pick import Picking
from upicker.simulate.scene import Scene, make
from upicker.units import Length
from upicker.web.app import list_of
from upicker.web.inspecting.pick_store import PickStore
from upicker.web.parts import Parts
from upicker.web.project import inspecting
from upicker.web.tiles.images import MicrographImages

SCENE = Scene(shape=(1024, 1024), pixel_size_A=4.0, specimens=("globule",), particles=60, seed=1)
COUNTS = (1, 2, 4)


def nothing(path: Path) -> int:
    """Do no work."""
    return 0


class Spent:
    """Seconds of wall time, and of CPU time with processes that have ended."""

    wall_s = cpu_s = 0.0


@contextmanager
def measured() -> Iterator[Spent]:
    """Measure a block."""
    spent, wall, cpu = Spent(), time.perf_counter(), _cpu_s()
    yield spent
    spent.wall_s, spent.cpu_s = time.perf_counter() - wall, _cpu_s() - cpu


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def peak_mb() -> float:
    """Return the largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def crews(folder: Path) -> list[tuple[str | None, int, Callable]]:
    """Return who does the work: the kind, how many, and a function whose result, as a context, starts them."""
    return [
        (kind, count, lambda kind=kind, count=count: workers(kind, False, count, count, folder / "x"))
        for kind in (None, "local")
        for count in COUNTS
    ]


def named(kind: str | None) -> str:
    """Return a name for who does the work."""
    return "processes" if kind is None else f"--cluster {kind}"


def overhead(folder: Path, options: argparse.Namespace) -> None:
    """Do tasks that do nothing."""
    paths = [Path(f"mic{number:06d}.mrc") for number in range(options.tasks)]
    print(f"\n| {options.tasks} empty tasks | workers | ms a task | CPU-ms a task, all processes |\n|---|---|---|---|")
    for kind, count, start in crews(folder):
        with measured() as spent, start() as crew:
            done = sum(1 for _ in each(paths, nothing, crew))
        assert done == len(paths)
        each_ms = (1e3 * spent.wall_s / done, 1e3 * spent.cpu_s / done)
        print(f"| {named(kind)} | {count} | {each_ms[0]:.2f} | {each_ms[1]:.2f} |", flush=True)


def throughput(folder: Path, options: argparse.Namespace) -> None:
    """Pick micrographs with more and more workers; those of a first round, while they start, are not counted."""
    mics = folder / "mics"
    for number in range(options.micrographs):
        mrc.write(mics / f"m{number:03d}.mrc", make(SCENE, number % 8).micrograph.pixels, SCENE.pixel_size_A)
    paths = sorted(mics.iterdir())
    print(f"\n| {len(paths)} micrographs of 1024 x 1024 | workers | micrographs a second | the first after |")
    print("|---|---|---|---|")
    for kind, count, start in crews(folder):
        picker = Picker(None, {"pick.views": 1, "train.threads": 1, "train.bfloat16": False})
        work = Picking(picker, Outputs(folder / f"{kind}-{count}"), Length(260, "A"), Reading())
        begun = time.perf_counter()
        with start() as crew:
            crew_: int | Workers = crew
            ends = [time.perf_counter() for _ in find_all(paths, work, crew_)]
        skipped = min(2 * count, len(ends) // 3)
        rate = (len(ends) - 1 - skipped) / (ends[-1] - ends[skipped])
        print(f"| {named(kind)} | {count} | {rate:.2f} | {ends[0] - begun:.1f} s |", flush=True)


def entries(folder: Path, options: argparse.Namespace) -> None:
    """Open a folder in which very many micrographs are done."""
    out, count = folder / "picks", options.entries
    names = [f"mic{number:06d}" for number in range(count)]
    paths = [folder / f"{name}.mrc" for name in names]
    picks = Particles.of([[10.0 * i, 5.0 * i] for i in range(20)], 20.0, 0.5)
    picker = Picker()
    work = Picking(picker, Outputs(out), Length(20, "px"))
    work.outputs.prepare()
    record.write(out, work.command, work.config, work.about())
    coordinates.write(out / f"{names[0]}.csv", picks, "csv")
    for name in names[1:]:
        os.link(out / f"{names[0]}.csv", out / f"{name}.csv")
    journal = Journal(out)
    journal.begin("pick", count, count)
    journal.append(Entry.of(path, name, (192, 192), 5.0, picks, 20.0) for path, name in zip(paths, names, strict=True))
    journal.close()
    stores: list[PickStore] = []
    steps: dict[str, Callable[[], object]] = {
        "read run.toml and its entries": lambda: record.read(out),
        "find what --skip-existing has to do": lambda: work.outputs.missing(paths),
        "begin a run in which all is done": lambda: list(find_all(paths, work, 1, [])),
        "upicker status": lambda: status.status(out),
        "upicker report, without pictures": lambda: page.write(Inputs(out), folder / "report.html", lambda *_: None),
        "upicker inspect, until the list of the page is served": lambda: served(paths, out, stores),
        "upicker inspect, until all picks are read": lambda: [store.wait(600) for store in stores],
    }
    print(f"\n| {count} micrographs done | seconds | CPU-s |\n|---|---|---|")
    for name, step in steps.items():
        with measured() as spent:
            step()
        print(f"| {name} | {spent.wall_s:.1f} | {spent.cpu_s:.1f} |", flush=True)
    print(f"| memory of the process, with the network | {peak_mb():.0f} MB | |")
    for store in stores:
        store.close()


def served(paths: list[Path], out: Path, stores: list[PickStore]) -> None:
    """Open the inspecting page of a folder, up to its list of micrographs; picks are then read in the background."""
    project = inspecting(paths, Reading(), out)
    stores.append(PickStore(project, None))
    assert len(list_of(project, Parts(MicrographImages(project), None, stores[-1]))) == len(paths)


def main() -> None:
    """Parse the command line, and run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"overhead": overhead, "throughput": throughput, "entries": entries}
    parser.add_argument("what", nargs="*", choices=[*parts, []], help="by default all")
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--micrographs", type=int, default=48)
    parser.add_argument("--entries", type=int, default=50_000)
    options = parser.parse_args()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    print(
        f"commit {commit.stdout.strip()}; {os.cpu_count()} cores, {platform.machine()}; load {os.getloadavg()[0]:.1f}"
    )
    for name in options.what or parts:
        with tempfile.TemporaryDirectory(prefix="scale-") as folder:
            parts[name](Path(folder), options)


if __name__ == "__main__":
    main()
