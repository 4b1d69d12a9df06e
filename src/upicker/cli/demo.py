"""``upicker demo``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from upicker.cli.console import note, show
from upicker.cli.stages import Stages

if TYPE_CHECKING:
    from upicker.run.demo import Result


def demo(*, out: Path = Path("upicker-demo")) -> int:
    """Run the whole workflow on simulated micrographs: propose, pick, fine-tune, pick again, evaluate, extract.

    Takes a few minutes; prints a table of scores and draws an overlay.

    Parameters
    ----------
    out
        Output folder.
    """
    from upicker.run.demo import demo as run_demo

    _report(run_demo(out, Stages()))
    return 0


def _report(result: Result) -> None:
    """Print the table of scores, and the paths of the outputs."""
    from rich.table import Table

    caption = "AP and best F1 count only the picks above each method's threshold"
    table = Table(title="On held-out micrographs", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("")
    for heading in ("precision", "recall", "F1", "AP", "best F1"):
        table.add_column(heading, justify="right")
    for method, score in result.scores.items():
        figures = (score.precision, score.recall, score.f1, score.average_precision, score.best_f1)
        style = "bold" if method == list(result.scores)[-1] else None
        table.add_row(method, *(f"{figure:.3f}" for figure in figures), style=style)
    show(table)
    stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in result.seconds.items())
    note(f"{sum(result.seconds.values()):.0f} s in all: {stages}")
    for what, path in result.files.items():
        note(f"{what + ':':22} {path}")
