"""Pictures for people: picks over a micrograph, precision over recall, the course of a training.

Drawn with matplotlib's objects, without its global state, so that threads and other programs are left in peace.
The colours (Okabe and Ito's) can be told apart by colour-blind eyes; misses are dashed besides.
"""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from upicker.errors import ConfigError, InputError, OutputError
from upicker.evaluate import Curve, match
from upicker.io.atomic import replacing
from upicker.particles import Micrograph, Particles

COLOURS = FOUND, MISSED, FALSE = "#56B4E9", "#F0E442", "#D55E00"
LOSSES = {
    "loss": ("total", "black"),
    "loss_class": ("class", "#0072B2"),
    "loss_l1": ("L1", "#E69F00"),
    "loss_giou": ("GIoU", "#009E73"),
    "loss_denoise": ("denoising", "#CC79A7"),
}
FIGURES = {"precision": "#0072B2", "recall": "#E69F00", "f1": "black"}

_DPI = 100
_LONGEST_PX, _NARROWEST_PX, _HEADER_PX, _FOOTER_PX, _RIM_PX = 1600, 900, 40, 64, 12
_WORDS_PX = 420
# As fine as the particle is looked at: a standard deviation of one pixel where a diameter has this many.
_SMOOTH_PX = 32
# The ice's level is taken over three diameters, at six pixels a diameter.
_LEVEL_PX, _LEVEL_SIGMA_PX = 6, 18


def overlay(
    micrograph: Micrograph,
    picks: Particles,
    path: Path,
    labels: Particles | None = None,
    diameter_px: float | None = None,
    by: str = "iou",
) -> None:
    """Draw picks over their micrograph, as in Fig. 4 of the paper.

    With labels: found particles, misses and false picks in three colours, and a bar that counts them. Without:
    the picks coloured by their score. The micrograph is smoothed until a person sees the particles.

    Parameters
    ----------
    micrograph : Micrograph
        The picture; non-finite pixels are allowed.
    picks, labels : Particles
        In its raw pixels.
    path : Path
        The PNG to write, at most 1600 pixels wide or high, apart from the title and the bar.
    diameter_px : float, optional
        Of all circles, and the side for matching; by default each particle's own.
    by : str
        The rule of matching, see `upicker.evaluate`.

    Raises
    ------
    ConfigError
        If no diameter is known.
    OutputError
        If the picture cannot be written.
    """
    typical_px = _typical_diameter(picks, labels, diameter_px)
    height, width = micrograph.shape
    scale = _display_scale(micrograph.shape)
    figure, picture, footer = _sheet(round(height * scale), round(width * scale))
    picture.imshow(
        _legible(micrograph.pixels, typical_px, scale),
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )
    circles = _Circles(picture, diameter_px, typical_px, scale)
    if labels is None:
        _draw_scores(figure, footer, picks, circles)
    else:
        _draw_matches(footer, picks, labels, diameter_px, by, circles)
    if micrograph.pixel_size_A:
        _scale_bar(picture, micrograph.shape, micrograph.pixel_size_A, scale)
    _title(figure, micrograph)
    _save(figure, path)


def precision_recall(curve: Curve, path: Path, label: str = "picks") -> None:
    """Draw precision over recall, with lines of equal F1 and the best point marked.

    Parameters
    ----------
    curve : Curve
        From `upicker.evaluate.curve`; may be empty.
    path : Path
        The PNG to write; OutputError is raised if that fails.
    label : str
        What the legend calls the curve.
    """
    figure = Figure(figsize=(6.4, 6.0), dpi=_DPI, layout="constrained")
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
        color="#0072B2",
        linewidth=2,
        label=f"{label}: average precision {curve.average_precision:.3f}",
    )
    if curve.best is not None:
        at = curve.best
        axes.plot(
            curve.recall[at],
            curve.precision[at],
            "o",
            color="#D55E00",
            markersize=9,
            markeredgecolor="white",
            label=f"best F1 {curve.f1[at]:.3f} (P {curve.precision[at]:.3f}, R {curve.recall[at]:.3f}) "
            f"at score {curve.thresholds[at]:.3g}",
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.set_aspect("equal")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", frameon=True, framealpha=0.9, edgecolor="none")
    _save(figure, path)


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
    figure = Figure(figsize=(11, 4.6), dpi=_DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    for name, (label, colour) in LOSSES.items():
        for stage in np.unique(log["stage"]):
            # A logarithm knows nothing below nought; the denoising loss may be nought throughout.
            known = (log["stage"] == stage) & (log[name] > 0)
            steps, values = log["step"][known], log[name][known]
            left.plot(steps, values, color=colour, alpha=0.18, linewidth=0.7)
            first = label if stage == 0 and len(values) else None
            left.plot(
                steps, _smoothed(values), color=colour, linewidth=2 if name == "loss" else 1.5, label=first
            )
    left.set(yscale="log", xlabel="step", ylabel="loss")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.yaxis.set_minor_formatter(NullFormatter())
    validated = np.isfinite(log["f1"])
    for name, colour in FIGURES.items():
        right.plot(
            log["step"][validated],
            log[name][validated],
            "o-",
            color=colour,
            markersize=3.5,
            linewidth=2 if name == "f1" else 1.3,
            label={"f1": "F1"}.get(name, name),
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
    _save(figure, path)


class _Circles:
    """Draws circles around particles, as thick as their size on the screen bears."""

    def __init__(self, axes: Axes, diameter_px: float | None, typical_px: float, scale: float) -> None:
        self.axes, self.diameter_px, self.typical_px = axes, diameter_px, typical_px
        self.line = float(np.clip(typical_px * scale / 28, 0.9, 2.0))

    def draw(self, particles: Particles, colours: object, style: str = "solid") -> None:
        own = np.where(np.isfinite(particles.diameter_px), particles.diameter_px, self.typical_px)
        size = own if self.diameter_px is None else np.full(len(particles), self.diameter_px)
        for colour, line, alpha in (("black", self.line + 1.0, 0.35), (colours, self.line, 1.0)):
            ring = EllipseCollection(
                size,
                size,
                np.zeros(len(size)),
                units="xy",
                offsets=particles.xy,
                transOffset=self.axes.transData,
            )
            ring.set(facecolor="none", edgecolor=colour, linewidth=line, linestyle=style)
            ring.set_alpha(alpha)
            self.axes.add_collection(ring, autolim=False)


def _typical_diameter(picks: Particles, labels: Particles | None, diameter_px: float | None) -> float:
    known = [] if labels is None else [labels.diameter_px]
    sizes = np.concatenate([*known, picks.diameter_px])
    sizes = sizes[np.isfinite(sizes)]
    if diameter_px is not None or not (len(picks) or (labels is not None and len(labels))):
        return diameter_px or float(_SMOOTH_PX)
    if not len(sizes):
        raise ConfigError(
            "--diameter", "the particles' diameter is not known", "Give it, e.g. --diameter 108px"
        )
    return float(np.median(sizes))


def _display_scale(shape: tuple[int, int]) -> float:
    """Return screen pixels per raw pixel: small pictures grow a little, large ones shrink."""
    return min(_LONGEST_PX / max(shape), max(1.0, _NARROWEST_PX / shape[1]))


def _sheet(height: int, width: int) -> tuple[Figure, Axes, Axes]:
    """Return a figure with room for a title, a picture of that many screen pixels, and a footer."""
    height, width = max(height, 1), max(width, 1)
    full = (max(width, _NARROWEST_PX) + 2 * _RIM_PX, height + _HEADER_PX + _FOOTER_PX)
    figure = Figure(figsize=(full[0] / _DPI, full[1] / _DPI), dpi=_DPI, facecolor="white")

    def room(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        return x / full[0], y / full[1], w / full[0], h / full[1]

    picture = figure.add_axes(room((full[0] - width) // 2, _FOOTER_PX, width, height))
    footer = figure.add_axes(room(_RIM_PX, 14, full[0] - 2 * _RIM_PX, _FOOTER_PX - 28))
    picture.set_axis_off()
    footer.set_axis_off()
    return figure, picture, footer


def _legible(pixels: np.ndarray, diameter_px: float, scale: float) -> np.ndarray:
    """Return the picture at screen size, smoothed, levelled and stretched to 0..1."""
    finite = np.isfinite(pixels)
    if not finite.all():
        pixels = np.where(finite, pixels, np.median(pixels[finite]) if finite.any() else 0)
    size = (max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shown = cv2.resize(pixels.astype(np.float32), size, interpolation=method)
    diameter = diameter_px * scale
    shown = cv2.GaussianBlur(shown, (0, 0), max(diameter / _SMOOTH_PX, 0.3))
    # The extremes are clipped before levelling, lest a dark contaminant is given a bright court; and the level
    # is slow enough to be computed on a picture of a few pixels a diameter.
    clipped = np.clip(shown, *np.percentile(shown, (2, 99.8)))
    small = (max(round(size[0] * _LEVEL_PX / diameter), 1), max(round(size[1] * _LEVEL_PX / diameter), 1))
    background = cv2.GaussianBlur(
        cv2.resize(clipped, small, interpolation=cv2.INTER_AREA), (0, 0), _LEVEL_SIGMA_PX
    )
    level = shown - cv2.resize(background, size, interpolation=cv2.INTER_CUBIC)
    # Bounds by the bulk of the picture: a contaminant may cover more than any percentile allows for.
    middle = np.median(level)
    spread = max(1.4826 * float(np.median(np.abs(level - middle))), 1e-12)
    low, high = np.percentile(level, (0.3, 99.7))
    low, high = max(low, middle - 6 * spread), min(high, middle + 4.5 * spread)
    return np.clip((level - low) / max(high - low, 1e-12), 0, 1)


def _draw_matches(
    footer: Axes, picks: Particles, labels: Particles, side_px: float | None, by: str, circles: _Circles
) -> None:
    matches = match(picks, labels, side_px, by)
    hit, missed = matches.hit, matches.missed
    circles.draw(picks.select(hit), FOUND)
    circles.draw(labels.select(missed), MISSED, "dashed")
    circles.draw(picks.select(~hit), FALSE)
    counts = [int(hit.sum()), int(missed.sum()), int((~hit).sum())]
    true, total = counts[0], max(sum(counts), 1)
    precision, recall = true / max(len(picks), 1), true / max(len(labels), 1)
    f1 = 2 * true / max(len(picks) + len(labels), 1)
    # The bar leaves room for the words beside it, whose width does not depend on the picture's.
    length = 1 - _WORDS_PX / (footer.get_position().width * footer.figure.get_figwidth() * _DPI)
    left = 0.0
    for k, (name, count, colour) in enumerate(
        zip(("found", "missed", "false"), counts, COLOURS, strict=True)
    ):
        share = length * count / total
        footer.add_patch(Rectangle((left, 0.62), share, 0.38, facecolor=colour, edgecolor="none"))
        left += share
        footer.add_patch(Rectangle((k * length / 4, 0.06), 0.012, 0.34, facecolor=colour, edgecolor="none"))
        footer.text(k * length / 4 + 0.018, 0.2, f"{count} {name}", va="center", size=12)
    figures = f"precision {precision:.3f}   recall {recall:.3f}"
    footer.text(length + 0.02, 0.8, figures, va="center", size=12)
    footer.text(1, 0.8, f"F1 {f1:.3f}", ha="right", va="center", size=15, weight="bold")
    rule = {"iou": "IoU of at least 0.5", "centre": "centres at most half a diameter apart"}[by]
    footer.text(1, 0.2, f"a match: {rule}", ha="right", va="center", size=10, color="0.4")
    footer.set(xlim=(0, 1), ylim=(0, 1))


def _draw_scores(figure: Figure, footer: Axes, picks: Particles, circles: _Circles) -> None:
    footer.set(xlim=(0, 1), ylim=(0, 1))
    footer.text(0, 0.5, f"{len(picks)} picks", va="center", size=13, weight="bold")
    finite = picks.score[np.isfinite(picks.score)]
    if not len(finite) or finite.min() == finite.max():
        circles.draw(picks, FOUND)
        return
    colours = ScalarMappable(Normalize(*np.percentile(finite, (1, 99))), "plasma")
    faint_first = picks.by_score().select(np.arange(len(picks))[::-1])
    circles.draw(faint_first, colours.to_rgba(faint_first.score))
    box = footer.get_position()
    bar = figure.add_axes(
        (box.x1 - 0.32 * box.width, box.y0 + 0.6 * box.height, 0.32 * box.width, 0.4 * box.height)
    )
    figure.colorbar(colours, cax=bar, orientation="horizontal").outline.set_visible(False)
    bar.tick_params(labelsize=9, length=2, pad=2)
    bar.xaxis.set_major_locator(MaxNLocator(5))
    footer.text(0.67, 0.8, "score", ha="right", va="center", size=12)


def _title(figure: Figure, micrograph: Micrograph) -> None:
    width, height = figure.get_size_inches() * _DPI
    y = 1 - _HEADER_PX / 2 / height
    rows, columns = micrograph.shape
    facts = f"{columns} × {rows} px"
    if micrograph.pixel_size_A:
        facts += f",  {micrograph.pixel_size_A:.4g} Å/px"
    room = int((width - 260) / 12)  # letters of the title's size that fit beside the facts
    name = micrograph.name if len(micrograph.name) <= room else f"{micrograph.name[: room - 1]}…"
    figure.text(_RIM_PX / width, y, name, va="center", size=14, weight="bold")
    figure.text(1 - _RIM_PX / width, y, facts, va="center", ha="right", size=11, color="0.4")


def _scale_bar(axes: Axes, shape: tuple[int, int], pixel_size_A: float, scale: float) -> None:
    """Draw a bar of a round length, about an eighth of the width, in the lower right corner."""
    height, width = shape
    wanted_nm = width * pixel_size_A / 10 / 8
    step = 10.0 ** np.floor(np.log10(wanted_nm))
    length_nm = step * max(factor for factor in (1, 2, 5) if factor * step <= wanted_nm)
    length, rim, thick = length_nm * 10 / pixel_size_A, 18 / scale, 6 / scale
    x, y = width - 0.5 - rim - length, height - 0.5 - rim - thick
    board = (x - rim / 2, y - 30 / scale)
    axes.add_patch(Rectangle(board, length + rim, 30 / scale + thick + rim / 2, facecolor="black", alpha=0.6))
    axes.add_patch(Rectangle((x, y), length, thick, facecolor="white"))
    axes.text(
        x + length / 2, y - 4 / scale, f"{length_nm:g} nm", color="white", ha="center", va="bottom", size=12
    )


def _read_log(path: Path) -> dict[str, np.ndarray]:
    """Return the log's columns of numbers, NaN where empty, and the stages as 0, 1, ...; steps go on over stages."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
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
    axes.axvline(steps[at], color="#D55E00", linewidth=1, linestyle=":")
    axes.plot(
        steps[at],
        f1[at],
        "o",
        color="#D55E00",
        markersize=8,
        label=f"best F1 {f1[at]:.3f} at step {steps[at]:g}",
    )


def _save(figure: Figure, path: Path) -> None:
    with replacing(Path(path)) as temporary:
        try:
            figure.savefig(temporary, dpi=_DPI)
        except ValueError as error:
            raise OutputError(
                path, f"there is no picture of this kind ({error})", "Give it the suffix .png"
            ) from error
