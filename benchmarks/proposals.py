"""Proposals, with the learned template and without, against labels: F1, automatic K, seconds a micrograph.

Run from the checkout::

    OMP_NUM_THREADS=1 python benchmarks/proposals.py [--data ../shared/data] [--set room.knob=value ...]

Knobs were chosen on the training micrographs only (EMPIAR-10017: the first 8 by name; apoferritin: 7;
proteasome: 9); the test micrographs are the others. A true positive overlaps its label by IoU > 0.5 (squares
of one nominal diameter), one to one. CPU seconds count reading, preparing, masking and proposing; with one thread
they are the wall time of an idle machine. Prints markdown.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from upicker import scoring
from upicker.config import Config
from upicker.image.mask import usable
from upicker.image.prepare import prepare
from upicker.io import coordinates, micrographs
from upicker.particles import Particles
from upicker.propose.proposals import examples, propose, with_template
from upicker.run.propose import at_working_scale


@dataclass(frozen=True)
class DataSet:
    """A labelled folder: `micrographs/`, `coords/`; the first `training` by name were tuned on."""

    name: str
    folder: str
    diameter_px: float
    training: int
    changes: dict[str, object]


# The filter without the template that is learned from its proposals; and the diameters that suit hollow particles.
ALONE = {"propose.template": False}
HOLLOW = {"propose.min_ratio": 1.0, "propose.max_ratio": 1.4}
SETS = (
    DataSet("EMPIAR-10017", "empiar10017", 108, 8, {}),
    DataSet("EMPIAR-10017, A-LoG alone", "empiar10017", 108, 8, ALONE),
    DataSet("apoferritin", "apoferritin", 72, 7, {}),
    DataSet("apoferritin, A-LoG alone", "apoferritin", 72, 7, ALONE),
    DataSet("apoferritin, A-LoG alone, 72-100 px", "apoferritin", 72, 7, {**ALONE, **HOLLOW}),
    DataSet("20S proteasome", "proteasome20s", 24, 9, {}),
    DataSet("20S proteasome, A-LoG alone", "proteasome20s", 24, 9, ALONE),
)


def proposals(path: Path, diameter_px: float, config: Config) -> tuple[list[Particles], float]:
    """Return all proposals, those above the default theta, the automatic ones; and the first's CPU seconds."""
    start = time.process_time()
    prepared = at_working_scale(micrographs.read(path), diameter_px, config)
    mask = prepared.usable
    every = replace(config.propose, top_k="all", threshold=0.0)
    found = [propose(prepared, every, config.image, mask)]
    seconds = time.process_time() - start
    for knobs in ({"top_k": "all", "threshold": None}, {"top_k": "auto", "threshold": None}):
        found.append(propose(prepared, replace(config.propose, **knobs), config.image, mask))
    return found, seconds


def evaluated(data: Path, of: DataSet, part: slice, config: Config) -> str:
    """Score one part of a data set; a row of the table."""
    config = config.with_changes(of.changes)
    pairs: list[list[tuple[Particles, Particles]]] = [[], [], []]
    seconds = []
    paths = micrographs.find([data / of.folder / "micrographs"])
    pictures = [
        at_working_scale(micrographs.read(path), of.diameter_px, config) for path in examples(paths[: of.training])
    ]
    config = replace(config, propose=with_template(config.propose, pictures, config.image))
    for path in paths[part]:
        found, took = proposals(path, of.diameter_px, config)
        labels = coordinates.read(data / of.folder / "coords" / f"{path.stem}.csv")
        seconds.append(took)
        for into, picks in zip(pairs, found):
            into.append((picks, labels))
    best = scoring.score(pairs[0], of.diameter_px)
    theta, auto = (scoring.score(p, of.diameter_px) for p in pairs[1:])
    labels = sum(len(b) for _, b in pairs[0])
    return (
        f"{labels} | {best.best_f1:.3f} | {best.average_precision:.3f} | {best.recall:.3f} | "
        f"{theta.f1:.3f} ({theta.picks}) | {auto.f1:.3f} ({auto.precision:.2f}/{auto.recall:.2f}, "
        f"{auto.picks}) | {np.median(seconds):.2f}"
    )


def contamination(data: Path, config: Config) -> None:
    """Compare the mask with the reference mask of a contaminated micrograph."""
    micrograph = micrographs.read(data / "contamination" / "micrograph.mrc")
    reference = micrographs.read(data / "contamination" / "mask.mrc").pixels > 0.5
    prepared = prepare(micrograph, 26, config.image)
    bad = ~usable(prepared, config.image)
    rows, columns = (
        np.minimum((np.arange(n) * (m / n)).astype(int), m - 1) for n, m in zip(bad.shape, reference.shape)
    )
    reference = reference[np.ix_(rows, columns)]
    both, either = (bad & reference).sum(), (bad | reference).sum()
    auto = replace(config.propose, top_k="20", template=False)
    best20 = [propose(prepared, auto, config.image, mask) for mask in (None, ~bad)]
    on = []
    for found in best20:
        at = prepared.frame.to_working(found.xy).round().astype(int)
        at = np.clip(at, 0, np.array(bad.shape[::-1]) - 1)
        on.append(int(reference[at[:, 1], at[:, 0]].sum()))
    print(
        f"\nContamination: recall {both / reference.sum():.3f}, IoU {both / either:.3f}, good ice kept "
        f"{(~bad & ~reference).sum() / (~reference).sum():.3f}; of the 20 best proposals {on[0]} lie on the "
        f"contaminant without the mask, {on[1]} with it."
    )


def classes(data: Path, diameter_px: float, config: Config) -> None:
    """Count automatic proposals by class of micrograph."""
    print(f"\n| class (particle diameter {diameter_px:g} px) | automatic K | usable |\n|---|---|---|")
    for folder in sorted((data / "micassess").iterdir()):
        counts, kept = [], []
        for path in micrographs.find([folder]):
            prepared = prepare(micrographs.read(path), diameter_px, config.image)
            mask = usable(prepared, config.image)
            counts.append(len(propose(prepared, replace(config.propose, top_k="auto"), config.image, mask)))
            kept.append(f"{mask.mean():.2f}")
        print(f"| {folder.name} | {', '.join(map(str, counts))} | {', '.join(kept)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--set", action="append", default=[], metavar="room.knob=value")
    parser.add_argument("--first", type=int, default=None, help="at most this many micrographs of each part")
    options = parser.parse_args()
    config = Config().with_changes(dict(change.split("=", 1) for change in options.set))
    print("| data set | part | labels | best F1 | AP | recall of all | F1 at theta = mean (picks) ", end="")
    print("| F1 at automatic K (P/R, picks) | CPU seconds |\n|---|---|---|---|---|---|---|---|---|")
    for of in SETS:
        for part, where in (("training", slice(0, of.training)), ("test", slice(of.training, None))):
            stop = where.stop if options.first is None else (where.start or 0) + options.first
            row = evaluated(options.data, of, slice(where.start, stop), config)
            print(f"| {of.name} | {part} | {row} |", flush=True)
    contamination(options.data, config)
    classes(options.data, 12, config)


if __name__ == "__main__":
    main()
