"""``upicker suggest``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from upicker.cli.batches import watch
from upicker.cli.console import note, problem, show, warning
from upicker.cli.options import (
    NO_MASKS,
    Changes,
    ConfigFile,
    Gain,
    Jobs,
    Masking,
    Micrographs,
    Model,
    PixelSize,
    Size,
    changes,
    existing_labels,
    listed_micrographs,
)
from upicker.cli.size import known, settle
from upicker.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from upicker.run.ranking import Suggestion


def suggest(
    *mics: Micrographs,
    model: Model | None = None,
    labels: Annotated[Path | None, Parameter(negative="", show_default=False)] = None,
    output: Annotated[Path | None, Parameter(name=("--output", "-o"), negative="", show_default=False)] = None,
    top: int = 20,
    diameter: Size | None = None,
    jobs: Jobs | None = None,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
    masking: Masking = NO_MASKS,
) -> int:
    """Rank micrographs by the benefit of labelling them.

    Detects particles with the weights, and ranks micrographs by the fraction of uncertain detections (probability near
    one half). Prints a table of the first ones.

    Parameters
    ----------
    model
        Weights from "upicker finetune", "pretrain" or "train"; by default the general model, "general-1".
    labels
        Folder or file of labels. Completely labelled micrographs calibrate the probabilities, and are not ranked.
    output
        CSV file for the whole ranking.
    top
        Number of micrographs to print.
    diameter
        Particle diameter, e.g. 190A; by default that of the weights, or if they know none what "upicker size"
        finds.
    jobs
        Number of parallel processes; by default one per core, or one with a GPU.
    """
    if top < 1:
        raise ConfigError("--top", f"must be at least 1, found {top}", "Give e.g. --top 20")
    merged = changes(config, changes_)
    paths, reading = listed_micrographs(mics, pixel_size, gain, masking.masks)

    from upicker.run.suggest import divide

    calibrating, paths = divide(paths, None if labels is None else existing_labels(labels))

    from dataclasses import replace

    from upicker.run.pick import processes
    from upicker.run.ranking import Ranking
    from upicker.run.suggest import Detecting, suggest_all

    work = replace(Detecting.of(model, merged, diameter, reading), labels=calibrating)
    every = [*calibrating, *paths]
    work = replace(work, diameter=known(work.picker, every, reading, diameter))
    settle(work.picker, every, reading, diameter)
    ranking, total = Ranking(work.threshold), len(every)
    outcomes = suggest_all(paths, work, ranking, output, jobs or processes(total, work.picker))
    batch = watch("suggest", outcomes, total, "detections")
    found = ranking.suggestions()
    if found and not work.picker.has_threshold and not ranking.fitted:
        warning(
            f"{work.picker.path}: no threshold is stored with these weights, as they were not validated: "
            f"doubt is measured from {work.threshold:g}. Give --labels."
        )
    if found and work.threshold >= 1 and not ranking.fitted:
        warning(
            f"{work.picker.path}: these weights found no particle in validation, so that this order tells nothing. "
            "Train longer."
        )
    if found:
        calibrated = "" if ranking.fitted else "not "
        show(_table(found[:top], f"probabilities are {calibrated}calibrated on labelled micrographs"))
        target = "" if output is None else f" -> {output}"
        more = f"; {len(found) - top} more are not shown" if len(found) > top else ""
        note(f"suggest: {len(found)} of {len(paths)} micrographs ranked{more}{target} ({batch.seconds:.0f} s)")
    code = batch.exit_code()
    if not found:
        problem("No micrograph could be ranked.")
        return 1
    return code


def _table(found: Sequence[Suggestion], caption: str) -> Table:
    """Return a table with a row for each micrograph."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("micrograph", overflow="fold")
    for heading in ("uncertain", "expected", "score"):
        table.add_column(heading, justify="right", no_wrap=True)
    for rank, one in enumerate(found, 1):
        numbers = (str(one.uncertain), f"{one.expected:.0f}", f"{one.score:.3f}")
        table.add_row(str(rank), one.micrograph.name, *numbers)
    return table
