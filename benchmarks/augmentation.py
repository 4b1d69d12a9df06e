"""What each augmentation costs, and how it looks.

    python benchmarks/augmentation.py                                          two simulated micrographs
    python benchmarks/augmentation.py --data ../shared/data/empiar10017        real ones, with labels in coords/
    python benchmarks/augmentation.py --set augment.scale=0.3 --out sheet.png

Prints a table of processor times for a tile (median of --repeat, one thread), and draws a contact sheet: a tile as it
is cut, then each augmentation alone at the strength shown, all together, and offline copies of a whole micrograph, with
the boxes that are trained on. Other strengths: --set.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from upicker.config import Config
from upicker.image.mask import masked
from upicker.image.prepare import prepare
from upicker.io import coordinates, micrographs
from upicker.particles import Micrograph, Particles
from upicker.simulate.scene import Scene, make
from upicker.train.augment.online import draw_tile
from upicker.train.dataset import sample_from
from upicker.train.offline import with_copies
from upicker.train.sample import Sample
from upicker.train.store import Store

# The strengths shown, each alone.
STRENGTHS: dict[str, object] = {
    "flip": True,
    "rotate_deg": 180,
    "scale": 0.2,
    "mosaic": 1,
    "paste": 6,
    "contaminants": 3,
    "gamma": 0.5,
    "defocus": 1,
    "blur_diameters": 0.06,
    "intensity": 0.2,
    "noise": 0.3,
}
OFF = {f"augment.{knob}": 0 for knob in STRENGTHS} | {"augment.keep_blank": True}
COLUMNS = 4


def read(folder: Path | None, count: int) -> list[tuple[Micrograph, Particles]]:
    """Return micrographs with labels: of a folder, or simulated ones."""
    if folder is None:
        made = [make(Scene(seed=3), index) for index in range(count)]
        return [(one.micrograph, one.particles) for one in made]
    paths = micrographs.find([folder / "micrographs"])[:count]
    return [(micrographs.read(path), coordinates.read(folder / "coords" / f"{path.stem}.csv")) for path in paths]


def samples_of(pairs: list[tuple[Micrograph, Particles]], config: Config) -> list[Sample]:
    """Bring micrographs to the working scale."""
    samples = []
    for micrograph, particles in pairs:
        prepared = prepare(micrograph, float(np.median(particles.diameter_px)), config.image)
        samples.append(sample_from(masked(prepared, config.image), particles))
    return samples


def milliseconds(work: Callable[[int], object], repeat: int) -> float:
    """Return the median processor time of a call, which is given its number; other work does not add to it."""
    work(0)
    took = []
    for number in range(repeat):
        began = time.process_time()
        work(number)
        took.append(1e3 * (time.process_time() - began))
    return float(np.median(took))


def show(axes: Axes, drawn: Sample, title: str) -> None:
    """Draw a training sample with its boxes."""
    axes.imshow(drawn.pixels, cmap="gray", vmin=-3, vmax=5, interpolation="nearest")
    for (x, y), side in zip(drawn.xy, drawn.side, strict=True):
        axes.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, fill=False, edgecolor="lime", linewidth=0.7))
    axes.set_title(f"{title} ({len(drawn.xy)} boxes)", fontsize=8)
    axes.set_axis_off()


def main() -> None:
    """Parse the options, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with micrographs/ and coords/; default: simulated ones")
    parser.add_argument("--out", type=Path, default=Path("runs/augmentation.png"))
    parser.add_argument("--set", action="append", default=[], metavar="augment.KNOB=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=int, default=30)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    given = {f"augment.{knob}": value for knob, value in STRENGTHS.items()}
    given |= dict(change.split("=", 1) for change in options.set)
    off = Config().with_changes(OFF)
    samples = samples_of(read(options.data, 2), off)
    cases = {"as cut": {}} | {f"{key.split('.')[1]} {value}": {key: value} for key, value in given.items()}
    cases |= {
        "all together": given,
        "the defaults": {f"augment.{knob}": v for knob, v in vars(Config().augment).items()},
    }
    tiles = {}
    print("| augmentation | ms a tile |\n|---|---|")
    for title, changes in cases.items():
        config = off.with_changes(changes)

        def work(number: int, config: Config = config) -> Sample:
            return draw_tile(samples, 0, config, np.random.default_rng((options.seed, number)))

        print(f"| {title} | {milliseconds(work, options.repeat):.2f} |", flush=True)
        tiles[title] = work(options.seed)
    copies = with_copies(samples[:1], off.with_changes({**given, "augment.offline": 2}), Store())[1:]
    tiles |= {f"offline copy {number}": copy for number, copy in enumerate(copies)}
    rows = -(-len(tiles) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(4 * COLUMNS, 4.2 * rows), layout="constrained")
    for one in axes.flat[len(tiles) :]:
        one.set_axis_off()
    for one, (title, tile) in zip(axes.flat, tiles.items(), strict=False):
        show(one, tile, title)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out, dpi=80)
    print(f"-> {options.out}")


if __name__ == "__main__":
    main()
