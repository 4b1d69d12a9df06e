"""The charts of a report: distribution of scores and counts, counts per micrograph, precision and recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from upicker.report.accuracy import Accuracy
from upicker.report.charts import Axis, Chart, axis_over
from upicker.report.findings import Findings, outlying

_BINS = 60
# Curves of equal F1 behind precision over recall.
_EQUAL_F1 = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class PerMicrograph:
    """Counts over the micrographs.

    Attributes
    ----------
    title : str
        What the order of the micrographs is.
    svg : str
        The chart.
    outlying : list of (str, int)
        Names and counts of micrographs whose count is far from the others, in the chart's order.
    """

    title: str
    svg: str
    outlying: list[tuple[str, int]]


def scores(findings: Findings) -> str | None:
    """Return the histogram of all finite scores, divided at the threshold; None if all scores are equal."""
    values = findings.scores
    if not len(values) or np.ptp(values) == 0:
        return None
    low, high = min(0.0, float(values.min())), max(1.0, float(values.max()))
    edges = np.linspace(low, high, _BINS + 1)
    heights = np.histogram(values, edges)[0]
    chart = Chart(
        Axis(low, high, findings.score_kind.words),
        axis_over(heights, "particles", 0.0, True),
        "How scores are distributed",
    )
    at = findings.threshold
    if at is None or not low <= at <= high:
        chart.bars(edges, heights, "kept")
    else:
        # The bar that holds the threshold is cut there.
        parts = {"left": edges[edges < at], "kept": edges[edges > at]}
        ends = {"left": np.append(parts["left"], at), "kept": np.insert(parts["kept"], 0, at)}
        for style, own in ends.items():
            chart.bars(own, heights[np.clip(np.searchsorted(edges, own[:-1], "right") - 1, 0, _BINS - 1)], style)
        chart.vertical(at, f"threshold {at:.3g}")
    return chart.svg()


def counts(findings: Findings) -> str:
    """Return the histogram of the number of particles in a micrograph."""
    values = findings.counts
    bins = min(40, int(np.ptp(values)) + 1, 2 * int(np.sqrt(len(values))) + 1)
    edges = np.histogram_bin_edges(values, bins)
    heights = np.histogram(values, edges)[0]
    across = Axis(float(edges[0]), float(edges[-1]), "particles in a micrograph", True)
    chart = Chart(across, axis_over(heights, "micrographs", 0.0, True), "How many particles micrographs hold")
    chart.bars(edges, heights, "kept")
    return chart.svg()


def per_micrograph(findings: Findings) -> PerMicrograph:
    """Return the counts by the time of the files if that is known, else in the order of the names."""
    values = findings.counts
    if findings.is_timed:
        order = np.argsort(findings.seconds, kind="stable")
        x = (findings.seconds[order] - findings.seconds[order[0]]) / 3600
        axis, title = Axis(0.0, float(x[-1]), "hours, by the times of the files"), "Particles over time"
    else:
        order = np.arange(len(values))
        x, title = order + 1.0, "Particles in the order of the files"
        axis = Axis(0.5, len(x) + 0.5, "micrograph, in the order of the names", True)
    values = values[order]
    far = outlying(findings.counts)[order]
    chart = Chart(axis, axis_over(values, "particles", 0.0, True), title, (1140, 260))
    size = "large" if len(x) < 300 else "small"
    chart.dots(x[~far], values[~far], f"usual {size}")
    chart.dots(x[far], values[far], f"far {size}")
    width = max(5, len(x) // 25)
    if len(x) > 5 * width:
        median = [np.median(values[max(0, i - width // 2) : i + width // 2 + 1]) for i in range(len(x))]
        chart.line(x, np.array(median), "median")
    names = np.array(list(findings.picks), object)[order][far]
    return PerMicrograph(title, chart.svg(), list(zip(names.tolist(), values[far].tolist())))


def precision_over_recall(accuracy: Accuracy) -> str:
    """Return precision over recall, with curves of equal F1 and the point of the threshold in use."""
    score, curve = accuracy.pooled, accuracy.curve
    chart = Chart(Axis(0, 1, "recall"), Axis(0, 1, "precision"), "Precision over recall", (560, 400))
    for f1 in _EQUAL_F1:
        recall = np.linspace(f1 / (2 - f1), 1, 60)
        chart.line(recall, f1 * recall / (2 * recall - f1), "equal")
    chart.line(curve.recall, curve.precision, "curve")
    if score.picks:
        chart.point(score.recall, score.precision, f"F1 {score.f1:.3f}")
    return chart.svg()


def over_threshold(accuracy: Accuracy, threshold: float | None) -> str:
    """Return precision, recall and F1 over the threshold."""
    curve = accuracy.curve
    chart = Chart(axis_over(curve.thresholds, "threshold"), Axis(0, 1, ""), "By the threshold", (560, 400))
    for values, style in ((curve.precision, "precision"), (curve.recall, "recall"), (curve.f1, "curve")):
        chart.line(curve.thresholds, values, style)
    if threshold is not None and len(curve.thresholds) and threshold >= curve.thresholds.min():
        chart.vertical(threshold, f"threshold {threshold:.3g}", below=True)
    return chart.svg()
