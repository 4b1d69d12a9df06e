"""Picks over their micrograph."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from upicker.draw.style import DPI, SKY, VERMILION, YELLOW, save
from upicker.errors import ConfigError
from upicker.image.filters import filled
from upicker.particles import Micrograph, Particles
from upicker.scoring import match
from upicker.statistics import robust

COLOURS = FOUND, MISSED, FALSE = SKY, YELLOW, VERMILION
_LONGEST_PX, _NARROWEST_PX, _HEADER_PX, _FOOTER_PX, _MARGIN_PX = 1600, 900, 40, 64, 12
_WORDS_PX = 420
# Smoothing for display: a standard deviation of one pixel for a diameter of this many.
_SMOOTH_PX = 32
# The ice's level is taken over three diameters, at six pixels a diameter.
_LEVEL_PX, _LEVEL_SIGMA_PX = 6, 18
# Of a uniform image, whose grey levels cannot be stretched.
_LEAST_SPREAD = 1e-12


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
        The micrograph; non-finite pixels are allowed.
    picks, labels : Particles
        In its raw pixels.
    path : Path
        The PNG to write, at most 1600 pixels wide or high, apart from the title and the bar.
    diameter_px : float, optional
        Of all circles, and the side for matching; by default each particle's own.
    by : str
        The rule of matching, see `upicker.scoring`.

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
    figure, axes, footer = _sheet(round(height * scale), round(width * scale))
    axes.imshow(
        legible(micrograph.pixels, typical_px, scale),
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )
    circles = Circles(axes, diameter_px, typical_px, scale)
    if labels is None:
        _draw_scores(figure, footer, picks, circles)
    else:
        _draw_matches(figure, footer, picks, labels, diameter_px, by, circles)
    if micrograph.pixel_size_A:
        _scale_bar(axes, micrograph.shape, micrograph.pixel_size_A, scale)
    _title(figure, micrograph)
    save(figure, path)


class Circles:
    """Draws circles around particles, as thick as their size on the screen bears."""

    def __init__(self, axes: Axes, diameter_px: float | None, typical_px: float, scale: float) -> None:
        self.axes, self.diameter_px, self.typical_px = axes, diameter_px, typical_px
        self.line = float(np.clip(typical_px * scale / 28, 0.9, 2.0))

    def draw(self, particles: Particles, colours: object, style: str = "solid") -> None:
        """Draw one around each particle, in one colour or in one for each."""
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
    every = Particles.concatenate([picks] if labels is None else [labels, picks])
    if diameter_px is not None or not len(every):
        return diameter_px or float(_SMOOTH_PX)
    typical = every.median_diameter_px
    if typical is None:
        raise ConfigError("--diameter", "the particles' diameter is not known", "Give it, e.g. --diameter 108px")
    return typical


def _display_scale(shape: tuple[int, int]) -> float:
    """Return screen pixels per raw pixel: small micrographs are enlarged a little, large ones reduced."""
    return min(_LONGEST_PX / max(shape), max(1.0, _NARROWEST_PX / shape[1]))


def _sheet(height: int, width: int) -> tuple[Figure, Axes, Axes]:
    """Return a figure with room for a title, a micrograph of that many screen pixels, and a footer."""
    height, width = max(height, 1), max(width, 1)
    full = (max(width, _NARROWEST_PX) + 2 * _MARGIN_PX, height + _HEADER_PX + _FOOTER_PX)
    figure = Figure(figsize=(full[0] / DPI, full[1] / DPI), dpi=DPI, facecolor="white")

    def room(x: float, y: float, w: float, h: float) -> tuple[float, float, float, float]:
        return x / full[0], y / full[1], w / full[0], h / full[1]

    axes = figure.add_axes(room((full[0] - width) // 2, _FOOTER_PX, width, height))
    footer = figure.add_axes(room(_MARGIN_PX, 14, full[0] - 2 * _MARGIN_PX, _FOOTER_PX - 28))
    axes.set_axis_off()
    footer.set_axis_off()
    return figure, axes, footer


def legible(pixels: np.ndarray, diameter_px: float, scale: float) -> np.ndarray:
    """Return the micrograph at screen size, smoothed, levelled and stretched to 0..1."""
    pixels = filled(pixels)
    size = (max(round(pixels.shape[1] * scale), 1), max(round(pixels.shape[0] * scale), 1))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shown = cv2.resize(pixels.astype(np.float32), size, interpolation=method)
    diameter = diameter_px * scale
    shown = cv2.GaussianBlur(shown, (0, 0), max(diameter / _SMOOTH_PX, 0.3))
    # Extremes are left out of the level, lest a dark contaminant is given a bright court; and the level changes
    # slowly enough to be computed on an image with a few pixels per diameter.
    middle, spread = robust(shown)
    spread = max(spread, _LEAST_SPREAD)
    clipped = np.where(np.abs(shown - middle) < 4 * spread, shown, np.float32(middle))
    small = (max(round(size[0] * _LEVEL_PX / diameter), 1), max(round(size[1] * _LEVEL_PX / diameter), 1))
    background = cv2.GaussianBlur(cv2.resize(clipped, small, interpolation=cv2.INTER_AREA), (0, 0), _LEVEL_SIGMA_PX)
    level = shown - cv2.resize(background, size, interpolation=cv2.INTER_CUBIC)
    # Grey levels from the bulk of the pixels: a contaminant may cover more than any percentile allows for.
    middle, spread = robust(level)
    spread = max(spread, _LEAST_SPREAD)
    low, high = np.percentile(level, (0.3, 99.7))
    low, high = max(low, middle - 6 * spread), min(high, middle + 4.5 * spread)
    return np.clip((level - low) / max(high - low, 1e-12), 0, 1)


def _draw_matches(
    figure: Figure, footer: Axes, picks: Particles, labels: Particles, side_px: float | None, by: str, circles: Circles
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
    # The bar leaves room for the words beside it, whose width does not depend on the micrograph's.
    length = 1 - _WORDS_PX / (footer.get_position().width * figure.get_figwidth() * DPI)
    left = 0.0
    for k, (name, count, colour) in enumerate(zip(("found", "missed", "false"), counts, COLOURS, strict=True)):
        fraction = length * count / total
        footer.add_patch(Rectangle((left, 0.62), fraction, 0.38, facecolor=colour, edgecolor="none"))
        left += fraction
        footer.add_patch(Rectangle((k * length / 4, 0.06), 0.012, 0.34, facecolor=colour, edgecolor="none"))
        footer.text(k * length / 4 + 0.018, 0.2, f"{count} {name}", va="center", size=12)
    figures = f"precision {precision:.3f}   recall {recall:.3f}"
    footer.text(length + 0.02, 0.8, figures, va="center", size=12)
    footer.text(1, 0.8, f"F1 {f1:.3f}", ha="right", va="center", size=15, weight="bold")
    rule = {"iou": "IoU of at least 0.5", "centre": "centres at most half a diameter apart"}[by]
    footer.text(1, 0.2, f"a match: {rule}", ha="right", va="center", size=10, color="0.4")
    footer.set(xlim=(0, 1), ylim=(0, 1))


def _draw_scores(figure: Figure, footer: Axes, picks: Particles, circles: Circles) -> None:
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
    bar = figure.add_axes((box.x1 - 0.32 * box.width, box.y0 + 0.6 * box.height, 0.32 * box.width, 0.4 * box.height))
    figure.colorbar(colours, cax=bar, orientation="horizontal").outline.set_visible(False)
    bar.tick_params(labelsize=9, length=2, pad=2)
    bar.xaxis.set_major_locator(MaxNLocator(5))
    footer.text(0.67, 0.8, picks.score_kind.words, ha="right", va="center", size=12)


def _title(figure: Figure, micrograph: Micrograph) -> None:
    width, height = figure.get_size_inches() * DPI
    y = 1 - _HEADER_PX / 2 / height
    rows, columns = micrograph.shape
    facts = f"{columns} × {rows} px"
    if micrograph.pixel_size_A:
        facts += f",  {micrograph.pixel_size_A:.4g} Å/px"
    room = int((width - 260) / 12)  # letters of the title's size that fit beside the facts
    name = micrograph.name if len(micrograph.name) <= room else f"{micrograph.name[: room - 1]}…"
    figure.text(_MARGIN_PX / width, y, name, va="center", size=14, weight="bold", parse_math=False)
    figure.text(1 - _MARGIN_PX / width, y, facts, va="center", ha="right", size=11, color="0.4")


def _scale_bar(axes: Axes, shape: tuple[int, int], pixel_size_A: float, scale: float) -> None:
    """Draw a bar of a round length, about an eighth of the width, in the lower right corner."""
    height, width = shape
    wanted_nm = width * pixel_size_A / 10 / 8
    step = 10.0 ** np.floor(np.log10(wanted_nm))
    length_nm = step * max(factor for factor in (1, 2, 5) if factor * step <= wanted_nm)
    length, margin, thick = length_nm * 10 / pixel_size_A, 18 / scale, 6 / scale
    x, y = width - 0.5 - margin - length, height - 0.5 - margin - thick
    board = (x - margin / 2, y - 30 / scale)
    axes.add_patch(Rectangle(board, length + margin, 30 / scale + thick + margin / 2, facecolor="black", alpha=0.6))
    axes.add_patch(Rectangle((x, y), length, thick, facecolor="white"))
    axes.text(x + length / 2, y - 4 / scale, f"{length_nm:g} nm", color="white", ha="center", va="bottom", size=12)
