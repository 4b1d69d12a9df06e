"""Several methods side by side: precision over recall, and how figures scatter over micrographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from upicker.draw.style import BLACK, BLUE, DPI, GREEN, ORANGE, PURPLE, SKY, VERMILION, YELLOW, save
from upicker.scoring import Curve

COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK, YELLOW)
METRICS: tuple[str, ...] = ("precision", "recall", "F1")


def precision_recall_lines(
    curves: Mapping[str, Sequence[Curve]],
    path: Path,
    points: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    title: str = "",
) -> None:
    """Draw precision over recall of several methods, each perhaps several times.

    Parameters
    ----------
    curves : mapping of str to sequence of Curve
        Method -> its curves, e.g. one for each seed; empty ones are left out.
    path : Path
        The picture to write; OutputError is raised if that fails.
    points : mapping of str to sequence of (float, float), optional
        Method -> recall and precision at its chosen threshold, marked.
    title : str
        Above the picture.
    """
    figure = Figure(figsize=(6.6, 6.2), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    _equal_f1(axes)
    for colour, (method, some) in zip(_colours(len(curves)), curves.items()):
        some = [curve for curve in some if len(curve.f1)]
        precision = [curve.average_precision for curve in some]
        label = f"{method} (AP {np.mean(precision):.3f})" if precision else f"{method} (no picks)"
        for number, curve in enumerate(some):
            label_here = label if number == 0 else None
            axes.plot(curve.recall, curve.precision, color=colour, linewidth=1.6, alpha=0.85, label=label_here)
        for recall, precision_ in (points or {}).get(method, ()):
            axes.plot(recall, precision_, "o", color=colour, markersize=7, markeredgecolor="white", zorder=4)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=title)
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
    if curves:
        axes.legend(loc="lower left", frameon=True, framealpha=0.9, edgecolor="none", fontsize=8)
    save(figure, path)


def boxes(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    path: Path,
    reference: Mapping[str, float] | None = None,
    title: str = "",
) -> None:
    """Draw box plots of figures over micrographs: a group for each metric, in it a box for each method.

    Boxes reach from the first to the third quartile, whiskers 1.5 times that range; the diamond is the mean.

    Parameters
    ----------
    values : mapping of str to mapping of str to sequence of float
        Method -> metric (of `METRICS`) -> one value for each micrograph.
    path : Path
        The picture to write; OutputError is raised if that fails.
    reference : mapping of str to float, optional
        Metric -> a value to draw a dashed line at, such as a published one.
    title : str
        Above the picture.
    """
    figure = Figure(
        figsize=(2.4 + 0.75 * len(METRICS) * max(1, len(values)) ** 0.7, 4.6), dpi=DPI, layout="constrained"
    )
    axes = figure.add_subplot()
    width = 0.8 / max(len(values), 1)
    for number, (colour, (method, metrics)) in enumerate(zip(_colours(len(values)), values.items())):
        positions = np.arange(len(METRICS)) + (number - (len(values) - 1) / 2) * width
        drawn = axes.boxplot(
            [np.asarray(metrics[metric], float) for metric in METRICS],
            positions=positions,
            widths=0.8 * width,
            patch_artist=True,
            showmeans=True,
            manage_ticks=False,
            flierprops={"markersize": 3, "markeredgecolor": colour},
            medianprops={"color": "black"},
            meanprops={"marker": "D", "markersize": 4, "markerfacecolor": "white", "markeredgecolor": "black"},
        )
        for box in drawn["boxes"]:
            box.set(facecolor=colour, alpha=0.65)
        drawn["boxes"][0].set_label(method)
    for at, metric in enumerate(METRICS):
        if reference and metric in reference:
            label = "published" if at == 0 else ""
            axes.hlines(reference[metric], at - 0.45, at + 0.45, color="0.3", linestyle="--", linewidth=1, label=label)
    axes.set_xticks(range(len(METRICS)), METRICS)
    axes.set(ylim=(0, 1.02), title=title, ylabel="per micrograph")
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if values:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    save(figure, path)


def _colours(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def _equal_f1(axes: Axes) -> None:
    """Draw lines of equal F1."""
    for f1 in np.arange(0.1, 1.0, 0.1):
        recall = np.linspace(f1 / (2 - f1), 1, 200)
        axes.plot(recall, f1 * recall / (2 * recall - f1), color="0.85", linewidth=0.8, zorder=1)
        at = (1, f1 / (2 - f1))
        axes.annotate(f"F1 {f1:.1f}", at, (4, 0), textcoords="offset points", va="center", color="0.5", size=8)
