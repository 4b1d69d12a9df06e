"""``upicker benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from upicker.cli.console import note, show
from upicker.cli.options import (
    Changes,
    ConfigFile,
    Flag,
    Jobs,
    Output,
    PixelSize,
    Size,
    changes,
    existing_labels,
    listed_micrographs,
)
from upicker.cli.stages import Stages
from upicker.cli.training import Backbone
from upicker.config import Config, over_preset
from upicker.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from upicker.benchmark.labelled import Source
    from upicker.benchmark.study import Report


def benchmark(
    *,
    output: Output,
    dataset: Annotated[Path | None, Parameter(negative="")] = None,
    micrographs: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)] = (),
    labels: Annotated[Path | None, Parameter(negative="")] = None,
    labelled: int | None = None,
    unlabelled: int | None = None,
    test: float = 0.2,
    seeds: int = 3,
    scratch: Annotated[bool, Flag] = False,
    diameter: Size | None = None,
    frame: Literal["auto", "as-is", "flipped"] = "auto",
    name: str | None = None,
    preset: str = "compact",
    backbone_weights: Backbone = "none",
    pixel_size: PixelSize = None,
    changes_: Changes = (),
    config: ConfigFile = None,
    jobs: Jobs = 1,
) -> int:
    """Benchmark on a labelled data set as in the paper: proposals, pretraining and fine-tuning, for several seeds.

    Each seed holds out other micrographs for testing. When the command is repeated, finished steps are skipped and
    interrupted trainings continue. Where the paper has figures for the data set, they are shown for comparison.

    Parameters
    ----------
    output
        Output folder for tables, figures, weights and picks.
    dataset
        CryoPPP data set: the folder with micrographs/ and ground_truth/particle_coordinates/.
    micrographs
        Instead of --dataset: micrographs, as files, folders, quoted patterns or lists.
    labels
        Instead of --dataset: folder of labels, in any format.
    labelled
        Number of micrographs for fine-tuning; by default all but the test micrographs. 0: pretrain only.
    unlabelled
        Number of micrographs for pretraining, without their labels; by default all but the test micrographs. 0: do not
        pretrain.
    test
        Fraction of the labelled micrographs to test on.
    seeds
        Number of repetitions, with seeds 0, 1, 2 ...
    scratch
        Also fine-tune from random weights, for comparison.
    diameter
        Particle diameter, e.g. 190A or 108px; by default the median of the labels.
    frame
        Orientation of the labels: "as-is", "flipped" top to bottom, or "auto", which measures it.
    name
        Name of the data set in tables; by default its folder's. With an EMPIAR number, the paper's figures are shown.
    preset
        "compact" or "paper".
    jobs
        Number of parallel processes, except in training.
    """
    from upicker.benchmark import labelled as data_sets
    from upicker.benchmark import study as work

    merged = Config().with_changes(over_preset(preset, changes(config, changes_)))
    if dataset is not None:
        if micrographs or labels:
            raise ConfigError("--dataset", "--micrographs or --labels were given, too", "Give one or the other")
        source = data_sets.cryoppp_source(dataset, diameter, frame, pixel_size)
    else:
        source = _source(micrographs, labels, diameter, frame, pixel_size)
    source = data_sets.renamed(source, name)
    data = data_sets.prepare(source, output / "labels", merged, jobs)
    for line in data.notes:
        note(f"{data.name}: {line}")
    numbers = {"labelled": labelled, "unlabelled": unlabelled, "test": test}
    backbone = None if backbone_weights == "none" else backbone_weights
    plan = work.Plan(
        data, output, merged, tuple(range(seeds)), **numbers, scratch=scratch, backbone=backbone, jobs=jobs
    )
    report = work.run(plan, Stages())
    _print(report, data.name)
    return 0


def _source(
    micrographs: tuple[str, ...], labels: Path | None, diameter: Size | None, frame: str, pixel_size: float | None
) -> Source:
    from upicker.benchmark.labelled import Source

    if not micrographs or labels is None:
        found = "no data set was given; it takes --dataset, or --micrographs and --labels"
        raise ConfigError("benchmark", found, "See upicker benchmark --help")
    paths, reading = listed_micrographs(micrographs, pixel_size, None)
    folder = existing_labels(labels)
    # Folders like 10017/coords and 10017/micrographs: the set's name is that of the folder around them.
    return Source(folder.resolve().parent.name, tuple(paths), folder, diameter, frame, reading=reading)


def _print(report: Report, name: str) -> None:
    """Print the table, the paper's figures, and the paths of the outputs."""
    show(_table(report, name))
    for what, path in report.files.items():
        note(f"{what + ':':22} {path}")


def _table(report: Report, name: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from upicker.benchmark.published import reported

    caption = "IoU at least 0.5; U unlabelled, L labelled micrographs"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption=caption, caption_justify="left")
    table.add_column("method")
    for heading in ("trained on", "seed", "prec.", "recall", "F1", "AP"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in report.rows:
        seed = "mean" if row.seed is None else str(row.seed)
        figures = [f"{row.figures[key]:.3f}" for key in ("precision", "recall", "f1", "ap")]
        if row.spread is not None:
            figures[2] += f" ± {row.spread:.3f}"
        table.add_row(row.title, row.learned, seed, *figures, style="bold" if row.seed is None else None)
    table.add_section()
    for method, figures in reported(name).items():
        table.add_row(f"paper: {method}", "", "", *(f"{value:.3f}" for value in figures), "")
    return table
