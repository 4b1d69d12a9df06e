"""Small charts as SVG, to stand in an HTML page: sharp on any screen and on paper, a few kB each, without a script.

Colours and fonts come from the page's style sheet, by the classes that the elements are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from upicker.statistics import evenly_spaced

_LEFT, _RIGHT, _TOP, _BOTTOM = 74, 26, 14, 42
# Points beyond what a small chart can show are thinned.
MAX_POINTS = 600


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes
    ----------
    low, high : float
        Its range.
    title : str
        Its label.
    whole : bool
        Whether it counts things: only whole numbers get ticks.
    """

    low: float
    high: float
    title: str
    whole: bool = False

    def fraction(self, value: float) -> float:
        """Return where a value lies: 0 at the low end, 1 at the high end."""
        return (value - self.low) / (self.high - self.low or 1.0)

    def ticks(self, about: int) -> list[float]:
        """Return round values on the axis, approximately `about` of them."""
        return [value for value in ticks(self.low, self.high, about) if not self.whole or value == round(value)]


class Chart:
    """A chart; methods add bars, lines and points, and `svg` returns it.

    Parameters
    ----------
    x, y : Axis
        The axes.
    title : str
        Description for screen readers.
    size : (int, int)
        Width and height in CSS pixels; the page may scale it.
    """

    def __init__(self, x: Axis, y: Axis, title: str, size: tuple[int, int] = (560, 240)) -> None:
        self._x, self._y, self._title, self._size = x, y, title, size
        self._marks: list[ElementTree.Element] = []

    def bars(self, edges: np.ndarray, heights: np.ndarray, style: str) -> None:
        """Draw bars between `(n + 1,)` edges, of `(n,)` heights; bars of no height are left out."""
        base = self._at_y(self._y.low)
        path = "".join(
            f"M{self._at_x(left):.1f} {base:.1f}V{self._at_y(height):.1f}H{self._at_x(right):.1f}V{base:.1f}Z"
            for left, right, height in zip(edges[:-1], edges[1:], heights)
            if height > self._y.low
        )
        self._marks.append(_path(f"bars {style}", path))

    def line(self, x: np.ndarray, y: np.ndarray, style: str) -> None:
        """Draw a line through `(n,)` points, thinned to `MAX_POINTS`."""
        kept = evenly_spaced(len(x), MAX_POINTS)
        points = [f"{self._at_x(a):.1f} {self._at_y(b):.1f}" for a, b in zip(x[kept].tolist(), y[kept].tolist())]
        if points:
            self._marks.append(_path(f"line {style}", "M" + "L".join(points)))

    def dots(self, x: np.ndarray, y: np.ndarray, style: str) -> None:
        """Draw `(n,)` dots; of dots at the same pixel one is drawn."""
        positions = dict.fromkeys(f"M{self._at_x(a):.0f} {self._at_y(b):.0f}h0" for a, b in zip(x, y))
        self._marks.append(_path(f"dots {style}", "".join(positions)))

    def vertical(self, x: float, text: str, below: bool = False) -> None:
        """Draw a vertical line over the whole height, with text at its upper end, or at its lower one."""
        at, bottom = self._at_x(x), self._at_y(self._y.low)
        is_left, baseline = self._x.fraction(x) > 0.6, bottom - 9 if below else _TOP + 11
        self._marks.append(_path("vertical", f"M{at:.1f} {_TOP}V{bottom:.1f}"))
        anchor = "end" if is_left else "start"
        self._marks.append(_text("note", at + (-5 if is_left else 5), baseline, text, anchor))

    def point(self, x: float, y: float, text: str) -> None:
        """Draw one large dot, with text beside it."""
        across, down = self._at_x(x), self._at_y(y)
        attributes = {"class": "point", "cx": f"{across:.1f}", "cy": f"{down:.1f}", "r": "5"}
        self._marks.append(ElementTree.Element("circle", attributes))
        self._marks.append(_text("note", across - 9, down + 16, text, "end"))

    def svg(self) -> str:
        """Return the chart as an ``<svg>`` element."""
        width, height = self._size
        attributes = {"class": "chart", "viewBox": f"0 0 {width} {height}", "role": "img", "aria-label": self._title}
        root = ElementTree.Element("svg", attributes)
        root.extend([*self._axis_x(), *self._axis_y(), *self._marks])
        return ElementTree.tostring(root, encoding="unicode")

    def _axis_x(self) -> list[ElementTree.Element]:
        bottom = self._size[1] - _BOTTOM
        middle = (_LEFT + self._size[0] - _RIGHT) / 2
        parts = [_path("axis", f"M{_LEFT} {bottom}H{self._size[0] - _RIGHT}")]
        parts += [_text("tick", self._at_x(value), bottom + 16, f"{value:,g}") for value in self._x.ticks(7)]
        return [*parts, _text("title", middle, bottom + 35, self._x.title)]

    def _axis_y(self) -> list[ElementTree.Element]:
        parts = []
        for value in self._y.ticks(5):
            at = self._at_y(value)
            parts.append(_path("grid", f"M{_LEFT} {at:.1f}H{self._size[0] - _RIGHT}"))
            parts.append(_text("tick", _LEFT - 7, at + 4, f"{value:,g}", "end"))
        middle = (_TOP + self._size[1] - _BOTTOM) / 2
        title = _text("title", 12, middle, self._y.title)
        title.set("transform", f"rotate(-90 12 {middle})")
        return [*parts, title]

    def _at_x(self, value: float) -> float:
        return _LEFT + self._x.fraction(float(value)) * (self._size[0] - _LEFT - _RIGHT)

    def _at_y(self, value: float) -> float:
        bottom = self._size[1] - _BOTTOM
        return bottom - self._y.fraction(float(value)) * (bottom - _TOP)


def _path(style: str, d: str) -> ElementTree.Element:
    return ElementTree.Element("path", {"class": style, "d": d})


def _text(style: str, x: float, y: float, text: str, anchor: str = "middle") -> ElementTree.Element:
    attributes = {"class": style, "x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    element = ElementTree.Element("text", attributes)
    element.text = text
    return element


def ticks(low: float, high: float, about: int) -> list[float]:
    """Return round values in a range, 1, 2 or 5 times a power of ten apart, approximately `about` of them."""
    if not (math.isfinite(low) and math.isfinite(high) and high > low):
        return [low] if math.isfinite(low) else []
    raw = (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def axis_over(values: Sequence[float] | np.ndarray, title: str, low: float | None = None, whole: bool = False) -> Axis:
    """Return an axis over all values with a margin of 5 %; it begins exactly at `low` if that is given."""
    first, last = (float(np.min(values)), float(np.max(values))) if len(values) else (0.0, 1.0)
    first = first if low is None else low
    margin = 0.05 * (last - first) or 0.5
    return Axis(first if low is not None else first - margin, last + margin, title, whole)
