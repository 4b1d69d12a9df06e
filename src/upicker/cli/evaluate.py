"""``upicker evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from upicker.cli.batches import Failures, tell
from upicker.cli.console import note, out, warning
from upicker.cli.options import PixelSize, Size, entries

if TYPE_CHECKING:
    from rich.table import Table

    from upicker.run.compare import Comparison, Overlaying
    from upicker.scoring import Score


def evaluate(
    labels_dir: Path,
    picks_dir: Path,
    *,
    by: Literal["iou", "centre"] = "iou",
    diameter: Size | None = None,
    threshold: float | None = None,
    plot: Path | None = None,
    overlay: Path | None = None,
    micrographs: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)] = (),
    pixel_size: PixelSize = None,
) -> int:
    """Score picks against labels: one-to-one matching, precision, recall, F1, average precision.

    Parameters
    ----------
    labels_dir
        The folder of labels, one file for each micrograph.
    picks_dir
        The folder of picks; files belong together by the micrograph's name.
    by
        A pick is right if its box and the label's have an IoU of at least 0.5 ("iou"), or if its centre is at
        most half a diameter away ("centre").
    diameter
        Side of the boxes, e.g. 108px; by default each label's own diameter.
    threshold
        Count only picks with at least this score.
    plot
        Draw the precision-recall curve to this PNG.
    overlay
        Draw each micrograph with right picks, misses and false picks to this folder; needs --micrographs.
    micrographs
        The micrographs, for --overlay: files, folders, quoted patterns.
    """
    from upicker.run import compare

    comparison = compare.load(labels_dir, picks_dir)
    side_px = None if diameter is None else diameter.to_px(pixel_size, "--diameter")
    scores, pooled = compare.scores(comparison, side_px, by, threshold)
    out.print(score_table(scores, pooled))
    _tell_unmatched(comparison)
    if plot is not None:
        compare.plot(plot, comparison, side_px, by)
        note(f"curve -> {plot}")
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
    tell(noticed)
    note(f"overlays -> {work.folder}")
    if undrawn := sorted(pairing.unmatched_files):
        warning(unmatched(undrawn, "label file", "a micrograph among --micrographs, not drawn"))
    return 3 if failures.paths else 0


def score_table(scores: dict[str, Score], pooled: Score) -> Table:
    """Return a table with a row per micrograph, and one for all of them together."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    rule = "box IoU at least 0.5" if pooled.by == "iou" else "centres at most half a diameter apart"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=rule, caption_justify="left")
    table.add_column("micrograph", overflow="fold")
    for heading in ("labels", "picks", "prec.", "recall", "F1", "AP", "best F1", "at"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, score in scores.items():
        table.add_row(name, *_figures(score))
    table.add_section()
    table.add_row(f"all {pooled.micrographs}", *_figures(pooled), style="bold")
    return table


def _figures(score: Score) -> list[str]:
    shares = (
        score.precision,
        score.recall,
        score.f1,
        score.average_precision,
        score.best_f1,
        score.best_threshold,
    )
    return [str(score.labels), str(score.picks), *(f"{share:.3f}" for share in shares)]


def _tell_unmatched(comparison: Comparison) -> None:
    from upicker.io.pairing import unmatched

    if comparison.without_picks:
        warning(unmatched(comparison.without_picks, "labelled micrograph", "picks, all labels counted as missed"))
    if comparison.without_labels:
        warning(unmatched(comparison.without_labels, "picked micrograph", "labels, left out"))
