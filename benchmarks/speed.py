"""What a micrograph costs, of ours and of others, as whole processes and interleaved in one run; and its F1.

    python benchmarks/speed.py MODEL --before 9a91b22 --before-model OLD --topaz /path/to/topaz/bin/topaz --rounds 3

The four test micrographs of EMPIAR-10017 are written as MRC. Each program picks one of them, and all of them; the cost
of a micrograph is the difference by their number, that of one less it is the program's start. Each program computes on
one thread, so that CPU seconds hardly depend on what else is running; wall seconds are of the same processes, with
`--jobs` for ours. Of the rounds, the median counts. F1 is that at the threshold which the program takes by itself, best
F1 that of the best threshold.

Ours: `upicker pick` with 1, 2 and 4 views, and `upicker propose`; with --before the same `pick` of an older commit,
from git, with weights that it reads. RELION 3.1.3: `relion_autopick --LoG`, at full size and with
``--shrink 0 --lowpass 20``. Topaz 0.3.20: its general model, down-sampled by 8; in its environment torchvision, which
it hardly needs, can be an empty module. --plot draws F1 over seconds.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from upicker.io import coordinates, folders, micrographs, mrc
from upicker.particles import Particles
from upicker.scoring import score

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared/data/empiar10017"
DIAMETER_PX, PIXEL_SIZE_A, TEST = 108.0, 1.77, 4
THRESHOLDS = ("--threshold", "0.02")
# Down-sampling of Topaz's general model, and the radius within which it keeps one pick, in down-sampled pixels.
TOPAZ_SCALE, TOPAZ_RADIUS = 8, 7
LIST = """data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographPixelSize #3
_rlnMicrographOriginalPixelSize #4
_rlnVoltage #5
_rlnSphericalAberration #6
_rlnAmplitudeContrast #7
g 1 {size} {size} 300 2.0 0.1

data_micrographs

loop_
_rlnMicrographName #1
_rlnOpticsGroup #2
"""

Picks = dict[str, Particles]


@dataclass(frozen=True)
class Program:
    """A program that picks.

    Attributes
    ----------
    name : str
        For people.
    commands : callable
        Micrographs, and an empty folder -> the commands that pick them, one after the other.
    picks : callable
        That folder -> picks by micrograph, with scores as low as the program gives them.
    threshold : float
        The one that the program takes by itself.
    environment : dict
        Variables besides those of this process.
    """

    name: str
    commands: Callable[[Sequence[Path], Path], list[list[str]]]
    picks: Callable[[Path], Picks]
    threshold: float
    environment: dict[str, str]


@dataclass(frozen=True)
class Cost:
    """What a process and those that it started took: CPU and wall seconds, and the largest one's memory in GB."""

    cpu_s: float
    wall_s: float
    peak_GB: float


def measured(commands: list[list[str]], environment: dict[str, str], folder: Path) -> Cost:
    """Run commands one after the other; fails if one fails."""
    cpu, peak, began = 0.0, 0, time.perf_counter()
    for command in commands:
        with (folder / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **environment}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{' '.join(command)[:200]} failed:\n{(folder / 'log.txt').read_text()[-2000:]}")
        cpu, peak = cpu + usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss)
    return Cost(cpu, time.perf_counter() - began, peak / 1024**2)


def of_folder(folder: Path) -> Picks:
    return {name: coordinates.read(file) for name, file in folders.stems(folder).items()}


def ours(name: str, source: Path, arguments: list[str], threshold: float) -> Program:
    """`upicker` of some source tree."""

    def commands(paths: Sequence[Path], folder: Path) -> list[list[str]]:
        command, *more = arguments
        return [[sys.executable, "-m", "upicker", command, *map(str, paths), "-o", str(folder / "out"), *more]]

    return Program(name, commands, lambda folder: of_folder(folder / "out"), threshold, {"PYTHONPATH": str(source)})


def relion(name: str, *more: str, diameter_px: float = DIAMETER_PX, pixel_size_A: float = PIXEL_SIZE_A) -> Program:
    """RELION's LoG; its threshold is in standard deviations above the mean, and what it writes is above it."""

    def commands(paths: Sequence[Path], folder: Path) -> list[list[str]]:
        for path in paths:
            (folder / path.name).symlink_to(path)
        rows = "".join(f"{path.name} 1\n" for path in paths)
        (folder / "list.star").write_text(LIST.format(size=pixel_size_A) + rows)
        length = diameter_px * pixel_size_A
        sizes = ["--LoG_diam_min", f"{0.8 * length:.1f}", "--LoG_diam_max", f"{1.25 * length:.1f}"]
        command = ["relion_autopick", "--i", "list.star", "--odir", "out/", "--pickname", "autopick", "--LoG", *sizes]
        return [[*command, *more]]

    return Program(name, commands, lambda folder: of_folder(folder / "out"), -np.inf, {})


def topaz(
    program: Path,
    model: Path | None = None,
    scale: int = TOPAZ_SCALE,
    radius: int = TOPAZ_RADIUS,
    diameter_px: float = DIAMETER_PX,
) -> Program:
    """Topaz with its general model, or with one of its own training."""

    def commands(paths: Sequence[Path], folder: Path) -> list[list[str]]:
        small = [str(folder / "small" / path.name) for path in paths]
        own = ["-m", str(model)] if model else []
        extract = [*own, "-r", str(radius), "-x", str(scale), "-j", "1", "-o", "out.txt", *small]
        return [topaz_preprocess(program, scale, paths), [str(program), "extract", *extract]]

    def picks(folder: Path) -> Picks:
        rows = [line.split("\t") for line in (folder / "out.txt").read_text().splitlines()[1:]]
        names = np.array([row[0] for row in rows])
        values = np.array([row[1:4] for row in rows], float)
        return {
            name: Particles.of(values[names == name, :2], diameter_px, values[names == name, 2]) for name in set(names)
        }

    return Program("Topaz 0.3.20, general model", commands, picks, 0.0, {})


def topaz_preprocess(program: Path, scale: int, paths: Sequence[Path]) -> list[str]:
    """Return Topaz's command that writes down-sampled, normalised micrographs to the folder ``small``."""
    return [str(program), "preprocess", "-s", str(scale), "-j", "1", "-o", "small", *map(str, paths)]


def stored_threshold(model: Path, views: int) -> float:
    from upicker.model.weights import read_header

    header = read_header(model)
    return header.thresholds.get(str(views), header.threshold or 0.3)


def programs(options: argparse.Namespace, before: Path | None) -> list[Program]:
    model, found = options.model.resolve(), []
    jobs = ["--jobs", str(options.jobs)]
    old = (options.before_model or model).resolve()
    common = ["--diameter", f"{DIAMETER_PX:g}px", "--set", "train.threads=1", *THRESHOLDS, *jobs]
    for views in (1, 2, 4):
        threshold = stored_threshold(model, views)
        arguments = ["pick", "--model", str(model), *common, "--set", f"pick.views={views}"]
        found.append(ours(f"UPicker, {views} view{'s' * (views > 1)}", ROOT / "src", arguments, threshold))
        if before is not None:
            found.append(
                ours(
                    f"UPicker {options.before}, {views} view{'s' * (views > 1)}",
                    before,
                    ["pick", "--model", str(old), *common, "--set", f"pick.views={views}"],
                    options.before_threshold or threshold,
                )
            )
    propose = ["propose", "--diameter", f"{DIAMETER_PX:g}px", *jobs]
    found.append(ours("UPicker, proposals", ROOT / "src", propose, -np.inf))
    if shutil.which("relion_autopick"):
        found += [
            relion("RELION LoG"),
            relion("RELION LoG, --shrink 0 --lowpass 20", "--shrink", "0", "--lowpass", "20"),
        ]
    else:
        print("relion_autopick is not here: left out", file=sys.stderr)
    return found + ([topaz(options.topaz)] if options.topaz else [])


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(*(float(np.median([getattr(cost, name) for cost in costs])) for name in ("cpu_s", "wall_s", "peak_GB")))


def pairs(picks: Picks, labels: Picks) -> list[tuple[Particles, Particles]]:
    nothing = Particles.of([])
    return [(picks.get(name, nothing), some) for name, some in labels.items()]


def compare(options: argparse.Namespace, before: Path | None, work: Path) -> None:
    """Run all programs in turn, and print a row for each."""
    images, labels = [], {}
    for path in micrographs.find([DATA / "micrographs"])[-TEST:]:
        images.append(work / "mics" / f"{path.stem}.mrc")
        images[-1].parent.mkdir(exist_ok=True)
        mrc.write(images[-1], micrographs.read(path).pixels, PIXEL_SIZE_A)
        labels[path.stem] = coordinates.read(folders.stems(DATA / "coords")[path.stem])
    costs: dict[tuple[str, int], list[Cost]] = {}
    found: dict[str, Picks] = {}
    some = programs(options, before)
    for number in range(options.rounds):
        for program in some:
            for paths in (images[:1], images):
                folder = work / f"{number}-{re.sub(r'[^a-zA-Z0-9]+', '-', program.name)}-{len(paths)}"
                folder.mkdir()
                cost = measured(program.commands(paths, folder), program.environment, folder)
                costs.setdefault((program.name, len(paths)), []).append(cost)
            found[program.name] = program.picks(folder)
    print("| program | CPU-s a micrograph | wall s | start, CPU-s | peak GB | F1 | best F1 | AP |\n|" + "---|" * 8)
    points = []
    for program in some:
        one, all_ = (median(costs[program.name, n]) for n in (1, len(images)))
        each, wall = ((getattr(all_, name) - getattr(one, name)) / (len(images) - 1) for name in ("cpu_s", "wall_s"))
        result = score(pairs(found[program.name], labels), DIAMETER_PX, threshold=program.threshold)
        figures = (result.f1, result.best_f1, result.average_precision)
        cells = [
            f"{each:.2f}",
            f"{wall:.2f}",
            f"{one.cpu_s - each:.1f}",
            f"{all_.peak_GB:.2f}",
            *(f"{f:.3f}" for f in figures),
        ]
        print(f"| {program.name} | {' | '.join(cells)} |", flush=True)
        points.append((each, result.f1, program.name))
    if options.plot:
        draw(points, options.plot)


def draw(points: Sequence[tuple[float, float, str]], path: Path) -> None:
    """Draw F1 over CPU seconds; numbers of views are joined by a line."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    lines: dict[str, list[tuple[float, float, str]]] = {}
    for seconds, f1, name in points:
        program, _, views = name.partition(", ")
        line = program if "view" in views else name
        lines.setdefault(line, []).append((seconds, f1, views.split()[0] if "view" in views else ""))
    for name, line in lines.items():
        seconds, f1, views = zip(*line)
        drawn = axes.plot(seconds, f1, "o-", label=f"{name}, {', '.join(views)} views" if any(views) else name)[0]
        for one in line:
            axes.annotate(one[2], one[:2], xytext=(4, 5), textcoords="offset points", color=drawn.get_color())
    axes.set(xscale="log", xlabel="CPU seconds a micrograph (4096 x 4096)", ylabel="F1 (IoU 0.5), EMPIAR-10017, 4 test")
    axes.grid(color="0.92")
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="weights of upicker finetune")
    parser.add_argument("--before", help="a commit of this repository to compare with")
    parser.add_argument("--before-model", type=Path, help="weights for that commit, if it does not read MODEL")
    parser.add_argument("--before-threshold", type=float, help="the threshold that is stored with them")
    parser.add_argument("--topaz", type=Path, help="the program topaz, in its own environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="processes of ours")
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    commit = subprocess.run(
        ["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
    )
    print(f"commit {commit.stdout.strip()}, {options.rounds} rounds, {options.jobs} processes of ours")
    with tempfile.TemporaryDirectory() as text:
        work, before = Path(text), None
        if options.before:
            tree = work / "before"
            subprocess.run(["git", "-C", ROOT, "worktree", "add", "-q", "--detach", tree, options.before], check=True)
            before = tree / "src"
        try:
            compare(options, before, work)
        finally:
            if before is not None:
                subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", before.parent], check=True)


if __name__ == "__main__":
    main()
