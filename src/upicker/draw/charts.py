"""Small charts as SVG, to stand in a page: sharp on any screen and on paper, a few kB each, without a script.

Colours and type come from the page's style sheet, by the classes that the marks are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 26, 14, 42
# Points beyond what a small chart can show are thinned.
MOST_POINTS = 600


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes
    ----------
    low, high : float
        What it spans.
    title : str
        What stands at it.
    whole : bool
        Whether it counts: between whole numbers nothing is written.
    """

    low: float
    high: float
    title: str
    whole: bool = False

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the low end and 1 at the high one."""
        return (value - self.low) / (self.high - self.low or 1.0)

    def ticks(self, about: int) -> list[float]:
        """Return round values on it, about so many."""
        return [value for value in ticks(self.low, self.high, about) if not self.whole or value == round(value)]


class Chart:
    """A chart that grows by marks, and is then written.

    Parameters
    ----------
    x, y : Axis
        The axes.
    title : str
        Said to those who cannot see it.
    size : (int, int)
        Width and height, in the page's pixels; the page may scale it.
    """

    def __init__(self, x: Axis, y: Axis, title: str, size: tuple[int, int] = (560, 240)) -> None:
        self._x, self._y, self._title, self._size = x, y, title, size
        self._marks: list[str] = []

    def bars(self, edges: np.ndarray, heights: np.ndarray, style: str) -> None:
        """Draw bars between `(n + 1,)` edges, of `(n,)` heights; those without height are left out."""
        base = self._at_y(self._y.low)
        path = "".join(
            f"M{self._at_x(left):.1f} {base:.1f}V{self._at_y(height):.1f}H{self._at_x(right):.1f}V{base:.1f}Z"
            for left, right, height in zip(edges[:-1], edges[1:], heights)
            if height > self._y.low
        )
        self._marks.append(f'<path class="bars {style}" d="{path}"/>')

    def line(self, x: np.ndarray, y: np.ndarray, style: str) -> None:
        """Draw a line through `(n,)` points, thinned to what can be seen."""
        kept = np.unique(np.linspace(0, max(len(x) - 1, 0), min(len(x), MOST_POINTS)).astype(int))
        points = [f"{self._at_x(a):.1f} {self._at_y(b):.1f}" for a, b in zip(x[kept].tolist(), y[kept].tolist())]
        if points:
            self._marks.append(f'<path class="line {style}" d="M{"L".join(points)}"/>')

    def dots(self, x: np.ndarray, y: np.ndarray, style: str) -> None:
        """Draw `(n,)` dots; those that would cover another one exactly are left out."""
        places = dict.fromkeys(f"M{self._at_x(a):.0f} {self._at_y(b):.0f}h0" for a, b in zip(x, y))
        self._marks.append(f'<path class="dots {style}" d="{"".join(places)}"/>')

    def upright(self, x: float, text: str, below: bool = False) -> None:
        """Draw a line from top to bottom, with words at its upper end, or at its lower one."""
        place = self._at_x(x)
        left, words = self._x.share(x) > 0.6, self._at_y(self._y.low) - 9 if below else _TOP + 11
        self._marks.append(
            f'<path class="upright" d="M{place:.1f} {_TOP}V{self._at_y(self._y.low):.1f}"/>'
            f'<text class="note" x="{place + (-5 if left else 5):.1f}" y="{words:.1f}"'
            f' text-anchor="{"end" if left else "start"}">{escape(text)}</text>'
        )

    def point(self, x: float, y: float, text: str) -> None:
        """Draw one large dot, with words beside it."""
        across, down = self._at_x(x), self._at_y(y)
        self._marks.append(
            f'<circle class="point" cx="{across:.1f}" cy="{down:.1f}" r="5"/><text class="note" text-anchor="end"'
            f' x="{across - 9:.1f}" y="{down + 16:.1f}">{escape(text)}</text>'
        )

    def svg(self) -> str:
        """Return the chart."""
        width, height = self._size
        axes = [*self._axis_x(), *self._axis_y()]
        return (
            f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(self._title)}">'
            f"{''.join(axes)}{''.join(self._marks)}</svg>"
        )

    def _axis_x(self) -> list[str]:
        bottom = self._size[1] - _BOTTOM
        middle = (_LEFT + self._size[0] - _RIGHT) / 2
        parts = [f'<path class="axis" d="M{_LEFT} {bottom}H{self._size[0] - _RIGHT}"/>']
        for value in self._x.ticks(7):
            place = self._at_x(value)
            parts.append(f'<text class="tick" x="{place:.1f}" y="{bottom + 16}" text-anchor="middle">{value:,g}</text>')
        title = escape(self._x.title)
        return [*parts, f'<text class="title" x="{middle}" y="{bottom + 35}" text-anchor="middle">{title}</text>']

    def _axis_y(self) -> list[str]:
        parts = []
        for value in self._y.ticks(5):
            place = self._at_y(value)
            parts.append(f'<path class="grid" d="M{_LEFT} {place:.1f}H{self._size[0] - _RIGHT}"/>')
            parts.append(f'<text class="tick" x="{_LEFT - 7}" y="{place + 4:.1f}" text-anchor="end">{value:,g}</text>')
        middle = (_TOP + self._size[1] - _BOTTOM) / 2
        turned = f'transform="rotate(-90 12 {middle})"'
        title = escape(self._y.title)
        return [*parts, f'<text class="title" x="12" y="{middle}" text-anchor="middle" {turned}>{title}</text>']

    def _at_x(self, value: float) -> float:
        return _LEFT + self._x.share(float(value)) * (self._size[0] - _LEFT - _RIGHT)

    def _at_y(self, value: float) -> float:
        bottom = self._size[1] - _BOTTOM
        return bottom - self._y.share(float(value)) * (bottom - _TOP)


def ticks(low: float, high: float, about: int) -> list[float]:
    """Return round values, 1, 2 or 5 times a power of ten apart, about so many between two others."""
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return [low] if math.isfinite(low) else []
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def spanning(values: Sequence[float] | np.ndarray, title: str, least: float | None = None, whole: bool = False) -> Axis:
    """Return an axis that holds all values, from `least` on if it is given, and a little more."""
    low, high = (float(np.min(values)), float(np.max(values))) if len(values) else (0.0, 1.0)
    low = low if least is None else least
    room = 0.05 * (high - low) or 0.5
    return Axis(low if least is not None else low - room, high + room, title, whole)
