"""Picks as plain values for the page: totals, counts per micrograph, curves over the threshold, single micrographs."""

from __future__ import annotations

import math

import numpy as np

from upicker.particles import Particles
from upicker.web.inspecting.pick_store import PickStore
from upicker.web.inspecting.scores import outliers

_MOST_PROBLEMS = 20


def finite(values: np.ndarray, digits: int = 4) -> list[float | None]:
    """Return numbers for JSON, rounded; None for those that are not finite."""
    return [round(value, digits) if math.isfinite(value) else None for value in values.tolist()]


def summary(store: PickStore) -> dict[str, object]:
    """Return totals, the histogram of scores and the problems met in reading; while reading, how far that is."""
    if store.reading:
        return {"loading": store.loaded}
    found, curves = store.found, store.curves()
    scores, origin, kind = found.scores, found.origin, found.score_kind
    return {
        "number": found.number,
        "replaced": found.replaced,
        "threshold": origin.stored,
        "picked_at": origin.picked_at,
        "command": origin.command,
        "note": origin.note,
        "score": {"noun": kind.noun, "unit": kind.unit, "words": kind.words},
        "low": scores.low,
        "high": scores.high,
        "lowest": float(scores.score.min()) if len(scores) else None,
        "edges": curves.edges.tolist(),
        "histogram": curves.histogram.tolist(),
        "total": len(scores),
        "rejected": store.rejected(),
        "micrographs": int(found.picked.sum()),
        "labels": int(scores.labels[scores.labels >= 0].sum()),
        "labelled": int((scores.labels >= 0).sum()),
        "has_labels": bool((scores.labels >= 0).any()),
        "problems": found.problems[:_MOST_PROBLEMS],
        "more_problems": max(0, len(found.problems) - _MOST_PROBLEMS),
        "strangers": found.unmatched,
    }


def counts(store: PickStore, threshold: float, detail: bool) -> dict[str, object]:
    """Return the picks of each micrograph above a threshold, and the score; with `detail` mean scores and F1, too."""
    now = store.found
    scores, picked = now.scores, now.picked
    counted = scores.counts(threshold)
    unusual = outliers(counted, picked)
    found: dict[str, object] = {
        "counts": [count if has_file else None for count, has_file in zip(counted.tolist(), picked.tolist())],
        "total": int(counted.sum()),
        "outliers": list(unusual),
        "why": {str(number): word for number, word in unusual.items()},
    }
    pooled = scores.pooled(threshold)
    if pooled is not None:
        found["score"] = dict(zip(("precision", "recall", "f1"), pooled))
    if detail:
        found |= {"means": finite(scores.means(threshold)), "f1s": finite(scores.f1s(threshold))}
    return found


def curve(store: PickStore) -> dict[str, object]:
    """Return counts over thresholds, and precision, recall and F1 if there are labels."""
    curves = store.curves()
    found: dict[str, object] = {"thresholds": curves.edges.tolist(), "counts": curves.counts.tolist()}
    found["histogram"] = curves.histogram.tolist()
    for name, values in (("precision", curves.precision), ("recall", curves.recall), ("f1", curves.f1)):
        if values is not None:
            found[name] = finite(values, 6)
    return found


def of_micrograph(store: PickStore, number: int, threshold: float) -> dict[str, object]:
    """Return picks and labels of one micrograph; a diameter missing in the file is that of the project.

    ``picks`` has rows of index, x, y, score, diameter, whether it matches a label (1, 0; None if that is unknown), and
    whether it is rejected; ``labels`` of x, y, diameter, and the score of the matching pick. All in raw pixels.
    """
    one = store.one(number)
    diameter_px = store.project.diameter_px(number)
    particles = one.particles.with_diameter(diameter_px or math.nan, only_missing=True)
    kept = np.flatnonzero(particles.score >= threshold)
    hit = np.where(one.label >= 0, 1, 0)
    known = one.accepted[kept] & (one.labels is not None)
    columns = (
        kept.tolist(),
        *(finite(values) for values in particles.xy[kept].T),
        particles.score[kept].tolist(),
        finite(particles.diameter_px[kept], 2),
        [value if is_known else None for value, is_known in zip(hit[kept].tolist(), known.tolist())],
        (~one.accepted[kept]).tolist(),
    )
    labels = one.labels if one.labels is not None else Particles.of([])
    if diameter_px is not None or one.side_px is not None:
        labels = labels.with_diameter(one.side_px or diameter_px or math.nan, only_missing=True)
    found = one.found_at()
    rows = zip(*(finite(values) for values in labels.xy.T), finite(labels.diameter_px, 2), found.tolist())
    return {
        "picks": [list(row) for row in zip(*columns)],
        "labels": [[x, y, side, score if math.isfinite(score) else None] for x, y, side, score in rows],
        "has_labels": one.labels is not None,
        "picked": one.picks is not None,
        "diameter_px": diameter_px,
    }
