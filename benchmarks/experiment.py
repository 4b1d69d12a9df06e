"""What `table4.py` and `figure3.py` share: data sets by name, divisions, trials that go on where they were stopped.

A data set is a folder, looked for in --data and then as it is named, that holds ``micrographs/`` and labels in
``coords/`` (the real sets), ``truth/`` (sets of `simulated_sets.py`) or ``ground_truth/particle_coordinates/``
(CryoPPP's). Of the first two kinds the last `LAST` micrographs by name are tested on, of others a fifth by chance of
the seed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import sets

from upicker.benchmark.labelled import Data, Source, cryoppp_source, prepare
from upicker.benchmark.trial import Split, Trial, remember, remembered, split
from upicker.cli.progress import TrainingBar
from upicker.config import Config, preset
from upicker.io import cryoppp, micrographs
from upicker.io.atomic import replacing
from upicker.run.batch import Outcome

LAST = {"coords": 4, "truth": sets.TEST}


class Watch:
    """Tells the standard error what is done; the standard output is for tables."""

    def stage(self, title: str) -> None:
        """Print a title."""
        print(title, file=sys.stderr, flush=True)

    def training(self) -> TrainingBar:
        """Return a new bar."""
        return TrainingBar()

    def follow(self, title: str, outcomes: Generator[Outcome, None, None], total: int, target: Path) -> int:
        """Go through a batch; name what failed."""
        failed = 0
        for outcome in outcomes:
            if outcome.error is not None:
                failed += 1
                print(f"{outcome.path}: {outcome.error}", file=sys.stderr)
        print(f"{title}: {total - failed} of {total} -> {target}", file=sys.stderr, flush=True)
        return 3 if failed else 0


@dataclass(frozen=True, eq=False)
class Experiment:
    """A data set, and how it is tested.

    Attributes
    ----------
    data : Data
        The data set.
    folder : Path
        For all outputs of this set.
    test : tuple of Path or None
        The micrographs to test on; None: a fifth, by chance.
    options : argparse.Namespace
        Of the command line.
    """

    data: Data
    folder: Path
    test: tuple[Path, ...] | None
    options: argparse.Namespace

    def split(self, seed: int, labelled: int | None = None, unlabelled: int | None = None) -> Split:
        """Return a seed's division; numbers larger than the set are cut to it."""
        whole = split(self.data, seed, 0.2 if self.test is None else self.test)
        return Split(whole.unlabelled[:unlabelled], whole.labelled[:labelled], whole.test)

    def trial(self, name: str, seed: int, division: Split, labels: Path | None = None, **changes: object) -> Trial:
        """Return a trial with a folder of its own; `labels` are others than the data set's."""
        config = config_of(self.options).with_changes({"train.seed": seed, **changes})
        folder = self.folder / f"seed-{seed}" / name
        return Trial(self.data, division, folder, config, Watch(), labels, jobs=self.options.jobs)


def add_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Add what all experiments ask."""
    parser.add_argument("--set", action="append", metavar="NAME|FOLDER", help="default: empiar10017 and apoferritin")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="the folder of data sets")
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--seeds", type=numbers, default=[0, 1, 2], metavar="N,N,...")
    parser.add_argument("--preset", default="compact")
    parser.add_argument("--change", action="append", default=[], metavar="ROOM.KNOB=VALUE")
    parser.add_argument("--jobs", type=int, default=1, help="processes for proposals")


def numbers(text: str) -> list[int]:
    """Read ``0,1,2``."""
    return [int(word) for word in text.split(",")]


def config_of(options: argparse.Namespace) -> Config:
    """Return the config of the command line."""
    return preset(options.preset).with_changes(dict(change.split("=", 1) for change in options.change))


def experiments(options: argparse.Namespace) -> list[Experiment]:
    """Open the data sets that the command line names; ends the program where one is none."""
    return [opened(name, options) for name in options.set or ("empiar10017", "apoferritin")]


def opened(name: str, options: argparse.Namespace) -> Experiment:
    """Open one data set."""
    folder = options.data / name if (options.data / name).is_dir() else Path(name)
    out = options.out / folder.resolve().name
    config = config_of(options)
    _refuse_other_knobs(out / "knobs.json", config)
    if (folder / cryoppp.COORDINATES).is_dir():
        data = prepare(cryoppp_source(folder, None, "auto", None), out / "labels", config, options.jobs)
        return Experiment(data, out, None, options)
    kind = next((kind for kind in LAST if (folder / kind).is_dir()), None)
    if kind is None or not (folder / "micrographs").is_dir():
        raise SystemExit(f"{name}: no folder with micrographs and labels, neither there nor in {options.data}")
    paths = tuple(micrographs.find([folder / "micrographs"]))
    source = Source(folder.resolve().name, paths, folder / kind, frame="as-is")
    data = prepare(source, out / "labels", config, options.jobs)
    return Experiment(data, out, data.labelled[-LAST[kind] :], options)


def _refuse_other_knobs(file: Path, config: Config) -> None:
    """End the program where boxes and weights of other knobs lie: they would be taken for these."""
    knobs = {room: {name: str(value) for name, value in table.items()} for room, table in config.to_tables().items()}
    if (remembered(file) or remember(file, knobs)) != knobs:
        raise SystemExit(f"{file.parent}: holds results of other knobs; choose another --out")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row)) + " |" for row in rows), ""])


def publish(path: Path, title: str, text: str) -> None:
    """Print a table, and keep it."""
    with replacing(path) as temporary:
        temporary.write_text(f"# {title}\n\n{text}", encoding="utf-8")
    print(f"{title}\n\n{text}", flush=True)
