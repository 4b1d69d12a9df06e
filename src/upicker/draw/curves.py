"""Precision over recall, and the course of a training."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from upicker.draw.style import BLACK, BLUE, DPI, GREEN, ORANGE, PURPLE, VERMILION, save
from upicker.errors import InputError
from upicker.scoring import Curve

LOSSES = {
    "loss": ("total", BLACK),
    "loss_class": ("class", BLUE),
    "loss_l1": ("L1", ORANGE),
    "loss_giou": ("GIoU", GREEN),
    "loss_denoise": ("denoising", PURPLE),
}
FIGURES = {"precision": ("precision", BLUE), "recall": ("recall", ORANGE), "f1": ("F1", BLACK)}


def precision_recall(curve: Curve, path: Path, label: str = "picks") -> None:
    """Draw precision over recall, with lines of equal F1 and the best point marked.

    Parameters
    ----------
    curve : Curve
        From `upicker.scoring.curve`; may be empty.
    path : Path
        The PNG to write; OutputError is raised if that fails.
    label : str
        What the legend calls the curve.
    """
    figure = Figure(figsize=(6.4, 6.0), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for f1 in np.arange(0.1, 1.0, 0.1):
        recall = np.linspace(f1 / (2 - f1), 1, 200)  # where precision, f1 r / (2 r - f1), is at most 1
        axes.plot(recall, f1 * recall / (2 * recall - f1), color="0.82", linewidth=0.8, zorder=1)
        axes.annotate(
            f"F1 {f1:.1f}",
            (1, f1 / (2 - f1)),
            (4, 0),
            textcoords="offset points",
            va="center",
            color="0.5",
            size=8,
        )
    axes.plot(
        curve.recall,
        curve.precision,
        color=BLUE,
        linewidth=2,
        label=f"{label}: average precision {curve.average_precision:.3f}",
    )
    if curve.best is not None:
        at = curve.best
        axes.plot(
            curve.recall[at],
            curve.precision[at],
            "o",
            color=VERMILION,
            markersize=9,
            markeredgecolor="white",
            label=f"best F1 {curve.f1[at]:.3f} (P {curve.precision[at]:.3f}, R {curve.recall[at]:.3f}) "
            f"at score {curve.thresholds[at]:.3g}",
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", frameon=True, framealpha=0.9, edgecolor="none")
    save(figure, path)


def training_curves(csv_path: Path, path: Path) -> None:
    """Draw the course of a training from its log.

    Parameters
    ----------
    csv_path : Path
        Columns ``step, stage, seconds, learning_rate, loss, loss_class, loss_l1, loss_giou, loss_denoise,
        precision, recall, f1, threshold``; the last four are empty where nothing was validated.
    path : Path
        The PNG to write.

    Raises
    ------
    InputError
        If the log has no rows or no such columns.
    OutputError
        If the picture cannot be written.
    """
    log = _read_log(csv_path)
    figure = Figure(figsize=(11, 4.6), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    for name, (label, colour) in LOSSES.items():
        for stage in np.unique(log["stage"]):
            # A logarithm knows nothing below nought; the denoising loss may be nought throughout.
            known = (log["stage"] == stage) & (log[name] > 0)
            steps, values = log["step"][known], log[name][known]
            left.plot(steps, values, color=colour, alpha=0.18, linewidth=0.7)
            first = label if stage == 0 and len(values) else None
            left.plot(steps, _smoothed(values), color=colour, linewidth=2 if name == "loss" else 1.5, label=first)
    left.set(yscale="log", xlabel="step", ylabel="loss")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.yaxis.set_minor_formatter(NullFormatter())
    validated = np.isfinite(log["f1"])
    for name, (label, colour) in FIGURES.items():
        right.plot(
            log["step"][validated],
            log[name][validated],
            "o-",
            color=colour,
            markersize=3.5,
            linewidth=2 if name == "f1" else 1.3,
            label=label,
        )
    right.set(ylim=(0, 1), xlabel="step", ylabel="on validation micrographs")
    if validated.any():
        _mark_best(right, log["step"][validated], log["f1"][validated])
    else:
        right.text(0.5, 0.5, "not validated yet", transform=right.transAxes, ha="center", color="0.5")
    for axes in (left, right):
        for start in log["step"][1:][np.diff(log["stage"]) > 0]:
            axes.axvline(start, color="0.6", linewidth=1)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, loc="upper right" if axes is left else "lower right")
    save(figure, path)


def _read_log(path: Path) -> dict[str, np.ndarray]:
    """Return the log's columns of numbers, NaN where empty, and the stages as 0, 1, ...; steps go on over these."""
    try:
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if None not in row.values()]  # none cut short by a kill
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read ({error})", "Give the CSV that training writes") from error
    columns = ["step", *LOSSES, *FIGURES]
    missing = [name for name in columns if not rows or name not in rows[0]]
    if missing:
        found = f"there is no column '{missing[0]}'" if rows else "there are no rows"
        raise InputError(path, found, "Give the CSV that training writes")
    log = {name: np.array([_number(row[name]) for row in rows]) for name in columns}
    # A stage that counts its steps from the start again is drawn behind the one before.
    again = np.diff(log["step"], prepend=log["step"][0]) < 0
    log["stage"] = np.cumsum(again)
    log["step"] += np.cumsum(np.where(again, np.roll(log["step"], 1), 0))
    return log


def _number(text: str | None) -> float:
    try:
        return float(text) if text else float("nan")
    except ValueError:
        return float("nan")


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Return the exponential moving average over about a thirtieth of the course, true from the first value on."""
    keep = 1 - 1 / max(len(values) / 30, 1)
    out, mean, weight = np.empty(len(values)), 0.0, 0.0
    for i, value in enumerate(values):
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + (1 - keep)
        out[i] = mean / weight
    return out


def _mark_best(axes: Axes, steps: np.ndarray, f1: np.ndarray) -> None:
    at = int(f1.argmax())
    axes.axvline(steps[at], color=VERMILION, linewidth=1, linestyle=":")
    axes.plot(
        steps[at],
        f1[at],
        "o",
        color=VERMILION,
        markersize=8,
        label=f"best F1 {f1[at]:.3f} at step {steps[at]:g}",
    )
