"""The pictures of `peers.py`: a part of one test micrograph by every method, and F1 of each test micrograph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from peers_data import DataSet
from peers_programs import Method
from PIL import Image

from upicker.draw import style
from upicker.draw.picks import FALSE, FOUND, MISSED, Circles, legible
from upicker.io import coordinates, micrographs
from upicker.particles import Particles
from upicker.scoring import match

CROP_DIAMETERS = 9.0
# Pixels of a panel.
PANEL_PX = 330
COLOURS = {"R": style.ORANGE, "c": style.BLACK, "T": style.PURPLE, "U": style.BLUE}
Kept = Callable[[DataSet, Method], Mapping]


def title(of: DataSet, method: Method) -> str:
    """Return a method's name with the number of its labelled micrographs."""
    return f"{method.title}, {min(method.labelled, len(of.train))} labelled" if method.labelled else method.title


def crops(of: DataSet, some: Sequence[Method], kept: Kept, path: Path, number: int = 0, across: int = 5) -> None:
    """Draw the same part of a test micrograph by method, as the paper's Fig. 4: found, missed and false, and counts.

    Picks are matched in the whole micrograph. Methods without results are left out.
    """
    there = [method for method in some if "missing" not in kept(of, method)]
    source = of.test[number]
    pixels, side = micrographs.read(source).pixels, CROP_DIAMETERS * of.diameter_px
    corner = ((np.array(of.shape[::-1]) - side) / 2).round()
    scale = PANEL_PX / side
    shown = legible(pixels, of.diameter_px, scale)
    down = -(-len(there) // across)
    figure = Figure((across * 2.5, down * 3.1 + 0.4), dpi=style.DPI, layout="constrained")
    for axes in (grid := figure.subplots(down, across, squeeze=False).ravel())[len(there) :]:
        axes.set_axis_off()
    height, width = of.shape
    for axes, method in zip(grid, there):
        axes.imshow(shown, cmap="gray", extent=(-0.5, width - 0.5, height - 0.5, -0.5))
        file = of.folder / method.key / "picks" / f"{source.stem}.csv"
        picks = of.inside(coordinates.read(file)) if file.exists() else Particles.of([])
        picks, labels = picks.above(kept(of, method)["threshold"]), of.truth(source)
        _panel(axes, of, picks, labels, corner, side)
        axes.set_title(title(of, method), fontsize=9)
    kinds = (("TP: found", FOUND), ("FN: missed", MISSED), ("FP: false", FALSE))
    handles = [Patch(color=colour, label=name) for name, colour in kinds]
    figure.legend(handles=handles, loc="outside lower right", ncols=3, frameon=False, fontsize=9)
    style.save(figure, path)
    with Image.open(path) as picture:  # A palette takes half the bytes.
        few = picture.convert("RGB").quantize(128)
    few.save(path, optimize=True)


def _panel(axes: Axes, of: DataSet, picks: Particles, labels: Particles, corner: np.ndarray, side: float) -> None:
    """Draw found, missed and false particles, and a bar of their numbers in the part that is shown."""
    matches = match(picks, labels, of.diameter_px)
    kinds = (
        ("TP", picks.select(matches.hit), FOUND, "solid"),
        ("FN", labels.select(matches.missed), MISSED, "dashed"),
        ("FP", picks.select(~matches.hit), FALSE, "solid"),
    )
    circles = Circles(axes, of.diameter_px, of.diameter_px, PANEL_PX / side)
    counts = []
    for _, some, colour, line in kinds:
        circles.draw(some, colour, line)
        counts.append(int(((some.xy >= corner) & (some.xy < corner + side)).all(1).sum()))
    x, y = corner
    axes.set(xlim=(x, x + side), ylim=(y + side, y), xticks=[], yticks=[])
    bar = axes.inset_axes((0, -0.1, 1, 0.07))
    left = 0
    for (name, _, colour, _), count in zip(kinds, counts):
        bar.barh(0, count, left=left, color=colour, height=1)
        share = count / max(sum(counts), 1)
        if share > 0.04:
            words = f"{name} {count}" if share > 0.13 else f"{count}"
            bar.text(left + count / 2, -0.04, words, ha="center", va="center", fontsize=8)
        left += count
    bar.set(xlim=(0, max(left, 1)), ylim=(-0.5, 0.5))
    bar.set_axis_off()


def boxes(all_sets: Sequence[DataSet], some: Sequence[Method], kept: Kept, path: Path) -> None:
    """Draw F1 of each test micrograph, as the paper's Fig. 3e: a panel for each set, a box for each method.

    Boxes reach from the first to the third quartile; dots are micrographs.
    """
    figure = Figure((3.0 + 2.1 * len(all_sets), 3.6), dpi=style.DPI, layout="constrained")
    panels = figure.subplots(1, len(all_sets), sharey=True, squeeze=False).ravel()
    there = [method for method in some if any("missing" not in kept(of, method) for of in all_sets)]
    for axes, of in zip(panels, all_sets):
        low = 1.0
        for at, method in enumerate(reversed(there)):
            result = kept(of, method)
            if "missing" in result:
                axes.text(
                    0.5, at, result["missing"], transform=axes.get_yaxis_transform(), ha="center", va="center", size=7
                )
                continue
            f1 = [one["F1"] for one in result["each"]]
            low = min(low, *f1)
            colour = COLOURS[method.title[0]]
            drawn = axes.boxplot(f1, positions=[at], widths=0.6, vert=False, patch_artist=True, showfliers=False)
            drawn["boxes"][0].set(facecolor=colour, alpha=0.4)
            drawn["medians"][0].set_color("black")
            axes.plot(f1, np.full(len(f1), at), "o", color=colour, markersize=3.5)
        axes.set(xlim=(max(0, low - 0.05), 1.01), ylim=(-0.6, len(there) - 0.4), title=of.name)
        axes.title.set_fontsize(9)
        axes.set_yticks(range(len(there)), [_tick(method) for method in reversed(there)], fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="x", color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("F1 of each test micrograph (IoU of at least 0.5)", fontsize=9)
    style.save(figure, path)


def _tick(method: Method) -> str:
    return f"{method.title}, {method.labelled}" if method.labelled else method.title
