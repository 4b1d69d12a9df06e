"""Several micrographs on one sheet, to see at a glance what a data set is like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from upicker.draw.picks import FOUND, Circles, legible
from upicker.draw.style import DPI, save
from upicker.particles import Micrograph, Particles

_COLUMNS, _PANEL_PX, _TITLE_PX, _RIM_PX = 3, 620, 30, 10


@dataclass(frozen=True, eq=False)
class Panel:
    """One micrograph of a sheet.

    Attributes
    ----------
    micrograph : Micrograph
        What is drawn.
    diameter_px : float
        Of its particles, raw pixels: what the smoothing follows.
    title : str
        One line about it.
    circles : Particles or None
        What to draw circles around.
    """

    micrograph: Micrograph
    diameter_px: float
    title: str
    circles: Particles | None = None


def sheet(panels: Sequence[Panel], path: Path) -> None:
    """Draw micrographs side by side, three in a row, smoothed until a person sees the particles.

    Parameters
    ----------
    panels : sequence of Panel
        At least one; all are shown with the same width.
    path : Path
        The PNG to write.

    Raises
    ------
    OutputError
        If the picture cannot be written.
    """
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    tallest = max(panel.micrograph.shape[0] / panel.micrograph.shape[1] for panel in panels)
    height = round(_PANEL_PX * tallest)
    full = (columns * (_PANEL_PX + _RIM_PX) + _RIM_PX, rows * (height + _TITLE_PX) + _RIM_PX)
    figure = Figure(figsize=(full[0] / DPI, full[1] / DPI), dpi=DPI, facecolor="white")
    for place, panel in enumerate(panels):
        left = _RIM_PX + place % columns * (_PANEL_PX + _RIM_PX)
        top = full[1] - place // columns * (height + _TITLE_PX)
        figure.text(left / full[0], (top - _TITLE_PX / 2 - 4) / full[1], panel.title, va="center", size=10)
        box = (left / full[0], (top - _TITLE_PX - height) / full[1], _PANEL_PX / full[0], height / full[1])
        _draw(figure, box, panel)
    save(figure, path)


def _draw(figure: Figure, box: tuple[float, float, float, float], panel: Panel) -> None:
    """Draw one micrograph into a box, given in fractions of the figure."""
    rows, columns = panel.micrograph.shape
    scale = _PANEL_PX / columns
    axes = figure.add_axes(box, anchor="NW")
    axes.imshow(
        legible(panel.micrograph.pixels, panel.diameter_px, scale),
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
        interpolation="nearest",
    )
    axes.set_axis_off()
    if panel.circles is not None:
        Circles(axes, None, panel.diameter_px, scale).draw(panel.circles, FOUND)
