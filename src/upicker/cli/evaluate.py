"""``upicker evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from upicker.cli.batches import Failures, show_warnings
from upicker.cli.console import as_json, note, result, show, warning
from upicker.cli.options import Json, PixelSize, Size, Suffix, entries

if TYPE_CHECKING:
    from rich.table import Table

    from upicker.run.compare import Comparison, Overlaying
    from upicker.scoring import Score


def evaluate(
    labels: Path,
    picks: Path,
    *,
    by: Literal["iou", "centre"] = "iou",
    diameter: Size | None = None,
    threshold: float | None = None,
    plot: Path | None = None,
    overlay: Path | None = None,
    micrographs: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)] = (),
    suffix: Suffix = "",
    pixel_size: PixelSize = None,
    json: Json = False,
) -> int:
    """Score picks against labels: precision, recall, F1 and average precision after one-to-one matching.

    Parameters
    ----------
    labels
        Folder of labels, one file for each micrograph, or a file with those of many.
    picks
        Folder or file of picks; they are matched by the micrograph's name.
    by
        Matching criterion: "iou", boxes with an IoU of at least 0.5; or "centre", the centre-distance criterion (half a
        diameter).
    diameter
        Particle diameter, the side of the boxes, e.g. 108px; by default that of each label.
    threshold
        Count only picks with at least this score.
    plot
        PNG file for the precision-recall curve.
    overlay
        Folder for drawings of the micrographs with true positives, false positives and misses; needs --micrographs.
    micrographs
        Micrographs for --overlay: files, folders, quoted patterns or lists.
    """
    from upicker.io.pairing import Endings
    from upicker.run import compare

    as_json(json)
    comparison = compare.load(labels, picks, Endings(suffix), pixel_size)
    side_px = None if diameter is None else diameter.to_px(pixel_size, "--diameter")
    scores, pooled = compare.scores(comparison, side_px, by, threshold)
    show(score_table(scores, pooled))
    if (cut := compare.cut_at(comparison, picks)) is not None:
        note(f"{compare.cut_sentence(cut)}.")
    _warn_of_unmatched(comparison)
    if plot is not None:
        compare.plot(plot, comparison, side_px, by)
        note(f"curve -> {plot}")
    result(
        {
            "result": "evaluate",
            "by": by,
            "micrographs": {name: _values(score) for name, score in scores.items()},
            "all": {"micrographs": pooled.micrographs, **_values(pooled)},
            "without_picks": sorted(map(str, comparison.without_picks)),
            "without_labels": sorted(map(str, comparison.without_labels)),
        }
    )
    return 0 if overlay is None else _draw(micrographs, compare.Overlaying(comparison, overlay, side_px, by, threshold))


def _draw(micrographs: tuple[str, ...], work: Overlaying) -> int:
    """Draw the overlays; return the exit code."""
    from upicker.io.pairing import unmatched
    from upicker.run import compare

    paths = [entry.path for entry in entries(micrographs)]
    pairing = compare.with_micrographs(work.comparison, paths)
    failures, noticed = Failures(), []
    for outcome in compare.overlays(pairing, work):
        noticed += outcome.warnings
        if outcome.error is not None:
            failures.add(outcome.path, outcome.error)
    show_warnings(noticed)
    note(f"overlays -> {work.folder}")
    if undrawn := sorted(pairing.unmatched_files):
        warning(unmatched(undrawn, "label file", "a micrograph among --micrographs, not drawn"))
    return 3 if failures.paths else 0


def score_table(scores: dict[str, Score], pooled: Score) -> Table:
    """Return a table with a row per micrograph, and one for all of them together."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    criterion = "IoU at least 0.5" if pooled.by == "iou" else "centre distance at most half a diameter"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=criterion, caption_justify="left")
    table.add_column("micrograph", overflow="fold")
    for heading in ("labels", "picks", "prec.", "recall", "F1", "AP", "best F1", "at"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, score in scores.items():
        table.add_row(name, *_figures(score))
    table.add_section()
    table.add_row(f"all {pooled.micrographs}", *_figures(pooled), style="bold")
    return table


def _values(score: Score) -> dict[str, object]:
    return {
        "labels": score.labels,
        "picks": score.picks,
        "precision": score.precision,
        "recall": score.recall,
        "f1": score.f1,
        "average_precision": score.average_precision,
        "best_f1": score.best_f1,
        "best_threshold": score.best_threshold,
    }


def _figures(score: Score) -> list[str]:
    figures = (
        score.precision,
        score.recall,
        score.f1,
        score.average_precision,
        score.best_f1,
        score.best_threshold,
    )
    return [str(score.labels), str(score.picks), *(f"{figure:.3f}" for figure in figures)]


def _warn_of_unmatched(comparison: Comparison) -> None:
    from upicker.io.pairing import unmatched
    from upicker.io.sources import repeats

    if comparison.differing:
        note(comparison.differing)
    if told := repeats(comparison.repeated, "counted once"):
        warning(told)
    if comparison.without_picks:
        warning(unmatched(comparison.without_picks, "labelled micrograph", "picks, all labels counted as missed"))
    if comparison.without_labels:
        warning(unmatched(comparison.without_labels, "picked micrograph", "labels, left out"))
