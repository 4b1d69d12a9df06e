"""The output of a benchmark: its table in Markdown and CSV, results per micrograph, curves and box plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from upicker import scoring
from upicker.benchmark.labelled import Data
from upicker.benchmark.published import reported
from upicker.benchmark.trial import Figures, Trial
from upicker.io.atomic import replacing
from upicker.io.names import plain

COLUMNS = (
    "precision",
    "recall",
    "f1",
    "best_f1",
    "ap",
    "threshold",
    "picks",
    "labels",
    "steps",
    "training_s",
    "took_s",
)


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes
    ----------
    step, title : str
        The step, as an identifier and for people.
    learned : str
        From what: U unlabelled, L labelled micrographs.
    seed : int or None
        None: the row is the mean over seeds.
    figures : dict
        Values of `COLUMNS`.
    spread : float or None
        Standard deviation of F1 over seeds, of a mean.
    """

    step: str
    title: str
    learned: str
    seed: int | None
    figures: Figures
    spread: float | None = None


def write(
    folder: Path, data: Data, rows: Sequence[Row], trials: Mapping[int, Trial], titles: Mapping[str, str]
) -> dict[str, Path]:
    """Write all tables and plots.

    Parameters
    ----------
    folder : Path
        The output folder.
    data : Data
        The data set.
    rows : sequence of Row
        The table.
    trials : mapping of int to Trial
        Seed -> its experiment.
    titles : mapping of str to str
        Step -> its name in legends.

    Returns
    -------
    dict
        Description -> path of each file.

    Raises
    ------
    OutputError
        If something cannot be written.
    """
    from upicker.draw import methods  # matplotlib takes half a second

    files = {
        "table": folder / "benchmark.md",
        "table as CSV": folder / "benchmark.csv",
        "per micrograph": folder / "micrographs.csv",
        "precision over recall": folder / "precision-recall.png",
        "box plots": folder / "boxes.png",
    }
    steps = list(dict.fromkeys(row.step for row in rows))
    pairs = {(seed, step): trial.pairs(step) for seed, trial in trials.items() for step in steps}
    single = {(row.seed, row.step): row.figures for row in rows if row.seed is not None}
    each = {key: _each(some, single[key]["threshold"]) for key, some in pairs.items()}
    _text(files["table"], markdown(data, rows))
    _text(files["table as CSV"], _csv(rows))
    _text(files["per micrograph"], _micrographs(trials, each))
    curves = {titles[step]: [scoring.curve(pairs[seed, step]) for seed in trials] for step in steps}
    points = {
        titles[step]: [(single[seed, step]["recall"], single[seed, step]["precision"]) for seed in trials]
        for step in steps
    }
    methods.precision_recall_lines(curves, files["precision over recall"], points, data.name)
    values = {titles[step]: _metrics([score for seed in trials for score in each[seed, step]]) for step in steps}
    paper = reported(data.name).get("UPicker")
    reference = None if paper is None else dict(zip(methods.METRICS, paper, strict=True))
    methods.boxes(values, files["box plots"], reference, data.name)
    return files


def markdown(data: Data, rows: Sequence[Row]) -> str:
    """Return the table, with the paper's results on that set if it has some."""
    total = len(data.labelled) + len(data.unlabelled)
    lines = [
        f"# {data.name}: {len(data.labelled)} labelled of {total} micrographs, diameter {data.diameter}",
        "",
        *(f"- {note}" for note in data.notes),
        "- a true positive overlaps its label by IoU >= 0.5, one to one; U unlabelled, L labelled micrographs",
        "",
        "| method | learned from | seed | precision | recall | F1 | best F1 | AP | threshold | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        seed = "mean" if row.seed is None else str(row.seed)
        spread = "" if row.spread is None else f" ± {row.spread:.3f}"
        numbers = row.figures
        cells = [row.title, row.learned, seed, *(f"{numbers[key]:.3f}" for key in ("precision", "recall"))]
        cells += [f"{numbers['f1']:.3f}{spread}", *(f"{numbers[key]:.3f}" for key in ("best_f1", "ap", "threshold"))]
        cells.append(f"{numbers['took_s'] / 60:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    paper = reported(data.name)
    for method, figures in paper.items():
        cells = [f"paper: {method}", "", "", *(f"{value:.3f}" for value in figures), "", "", "", ""]
        lines.append(f"| {' | '.join(cells)} |")
    if not paper:
        lines += ["", "The paper's Table 2 has no row for this data set."]
    return "\n".join([*lines, ""])


def _csv(rows: Sequence[Row]) -> str:
    table = [["method", "learned_from", "seed", *COLUMNS, "f1_sd"]]
    for row in rows:
        numbers = [f"{row.figures[key]:.6g}" if key in row.figures else "" for key in COLUMNS]
        seed = "mean" if row.seed is None else str(row.seed)
        table.append([row.title, row.learned, seed, *numbers, "" if row.spread is None else f"{row.spread:.6g}"])
    return _lines(table)


def _micrographs(trials: Mapping[int, Trial], each: Mapping[tuple[int, str], list[scoring.Score]]) -> str:
    table = [["seed", "step", "micrograph", "labels", "picks", "precision", "recall", "f1", "ap"]]
    for (seed, step), scores in each.items():
        for path, score in zip(trials[seed].split.test, scores, strict=True):
            metrics = (score.precision, score.recall, score.f1, score.average_precision)
            numbers = [str(score.labels), str(score.picks), *(f"{value:.6g}" for value in metrics)]
            table.append([str(seed), step, plain(path), *numbers])
    return _lines(table)


def _each(pairs: scoring.Pairs, threshold: float) -> list[scoring.Score]:
    return [scoring.score([pair], threshold=threshold) for pair in pairs]


def _metrics(scores: Sequence[scoring.Score]) -> dict[str, list[float]]:
    """Return the values for box plots."""
    return {
        "precision": [score.precision for score in scores],
        "recall": [score.recall for score in scores],
        "F1": [score.f1 for score in scores],
    }


def _lines(table: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()


def _text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
