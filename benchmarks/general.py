"""A general model: score it on real sets that it never learned from, and store it as the one that is shipped.

    python benchmarks/general.py check [MODEL]            F1 on each set, with diameters given rightly and wrongly
    python benchmarks/general.py sizes [MODEL]            two specimens in one micrograph, 1 : 1.7
    python benchmarks/general.py structures [MODEL]       five that were left out: F1 at three doses, sizes of boxes,
                                                          and how far scores are from probabilities
    python benchmarks/general.py publish MODEL --name general-1 --commit 1234abc

MODEL is a file or the name of a shipped model, by default the shipped one. The sets are those of `training.py`, with
the margin that their labels leave; the last micrographs of each by name (4, of the proteasome 6) are told apart. The
working scale follows the particles as in `upicker pick`, unless --as-given says otherwise. `structures` simulates three
micrographs of each structure and dose, those of `size.py`, and keeps them in --work.
`publish` stores the weights in half the bytes, float16, beside those that are shipped.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from size import DOSES, simulated
from training import SETS, Data

from upicker import model as model_room
from upicker.calibration import expected_error
from upicker.cli import app as cli
from upicker.io import coordinates, micrographs
from upicker.io.micrographs import Reading
from upicker.model import weights
from upicker.particles import Particles
from upicker.pick.picker import Picker
from upicker.pick.shipped import DEFAULT
from upicker.run.size import follow
from upicker.scoring import Score, match, pooled, score
from upicker.train.labels import LabelledMicrograph, edge_margin, picks_margin, read_pair
from upicker.units import Length

# Low enough for a whole precision-recall curve.
EVERYTHING = 0.01
# Specimens of 1 : 1.7, none of them learned from.
TWO = ("4v1w", "6utj")
# Left out of training, too; and given diameters at which the sizes of boxes are told, as multiples of the true one.
LEFT_OUT, SIZED = ("1bxn", "2cg9", "3cf3", "3j9i", "5gjv"), (0.7, 1.0, 1.4)
# What further training starts with: with a start this good few steps suffice.
FURTHER = {"train.finetune_steps": 300, "train.finetune_learning_rate": 8e-4, "train.pretrain_steps": 300}
Pairs = Sequence[tuple[Particles, Particles]]


def check(model: str, data: Data, given: float, changes: Mapping[str, object]) -> None:
    """Print rows of figures of a set: all of it, the last micrographs, and the others."""
    picker = Picker(model, {"pick.sizes": True, **changes})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Labels outside the micrograph, in apoferritin.
        read = [read_pair(path, data.labels / f"{path.stem}.csv", data.diameter, Reading()) for path in data.paths]
    diameter_px = data.diameter.value
    as_given = [LabelledMicrograph(picker.prepared(one, diameter_px), labels) for one, labels in read]
    # A margin of labels is no matter of the diameter that is given.
    margin = picks_margin(edge_margin(as_given)) / given
    found = picker.changed({"pick.edge_diameters": margin})
    follow(found, data.paths, Reading(), Length(given * diameter_px, "px"))
    stored, found.threshold = picker.threshold, EVERYTHING
    pairs = [(found.picks(found.prepared(one, given * diameter_px), str(one.path)), labels) for one, labels in read]
    sizes = np.concatenate([one.diameter_px for one, _ in pairs]) / diameter_px
    at = f"given {given:g}, working scale of {given * found.relative_size:.2f}"
    print(f"{data.labels.parent.name}, {at}: boxes of {np.median(sizes):.2f} labelled diameters", flush=True)
    last = len(data.test)
    for name, some in (("all", pairs), ("first", pairs[:-last]), ("last", pairs[-last:])):
        at, best = score(some, diameter_px, threshold=stored), score(some, diameter_px)
        print(f"| {name} {len(some)} | {row(at, best, stored)} |", flush=True)


def two_sizes(model: str, structures: Path, folder: Path, dose: float) -> None:
    """Print rows of figures of two specimens in the same simulated micrographs, told apart by the size of the boxes."""
    words = ["--micrographs", 6, "--shape", "2048x2048", "--pixel-size", "2A", "--concentration", "300/um2"]
    specimens = [next(structures.glob(f"{name}.*")) for name in TWO]
    if cli.run(["simulate", *map(str, [*specimens, "-o", folder, *words, "--dose", dose, "--skip-existing"])]):
        raise SystemExit(1)
    paths = micrographs.find([folder / "micrographs"])
    truth = [coordinates.read(folder / "truth" / f"{path.stem}.csv") for path in paths]
    small, large = np.unique(np.round(np.concatenate([one.diameter_px for one in truth])))[[0, -1]]
    middle = float(np.sqrt(small * large))
    picker = Picker(model, {"pick.sizes": True, "pick.smallest": 0.5, "pick.largest": 2.0})
    stored, picker.threshold = picker.threshold, EVERYTHING
    picks = [picker.pick(micrographs.read(path), middle) for path in paths]
    for name, size, sign in ((TWO[0], small, 1), (TWO[1], large, -1)):
        pairs = [
            tuple(one.select(sign * one.diameter_px < sign * middle) for one in both)
            for both in zip(picks, truth, strict=True)
        ]
        at, best = score(pairs, size, threshold=stored), score(pairs, size)
        print(f"| {name}, {size:.0f} px, given {middle:.0f} px, {dose:g} e/A2 | {row(at, best, stored)} |", flush=True)


def structures(model: str, shared: Path, work: Path, changes: Mapping[str, object]) -> None:
    """Print a row for each structure, dose and given diameter, and for all structures together."""
    picker = Picker(model, {"pick.sizes": True, **changes})
    stored = picker.threshold
    head = "size: median (signed) | 90 % within | matched | calibration error"
    print(f"| | given | scale | F1 at {stored:.3f} | best F1 | {head} |")
    print("|---|---|---|---|---|---|---|---|---|")
    for dose in DOSES:
        f1: dict[float, list[float]] = {given: [] for given in SIZED}
        errors: dict[float, list[np.ndarray]] = {given: [] for given in SIZED}
        wrong: dict[float, list[float]] = {given: [] for given in SIZED}
        for name in LEFT_OUT:
            folder, true_px = simulated(shared / "structures", work, name, dose)
            paths = micrographs.find([folder])
            truth = [coordinates.read(folder.with_name("truth") / f"{path.stem}.csv") for path in paths]
            for given in SIZED:
                picker.threshold = EVERYTHING
                follow(picker, paths, Reading(), Length(given * true_px, "px"))
                pairs = [(picker.pick(micrographs.read(path), given * true_px), of) for path, of in zip(paths, truth)]
                at, best = score(pairs, true_px, threshold=stored), score(pairs, true_px)
                found = np.concatenate([size_errors(one.above(stored), of) for one, of in pairs])
                f1[given].append(at.f1)
                errors[given].append(found)
                wrong[given].append(expected_error(*pooled(pairs)))
                cells = f"{given:g} | {given * picker.relative_size:.2f} | {at.f1:.3f} | {best.best_f1:.3f}"
                cells += f" | {size_cells(found)} | {wrong[given][-1]:.3f}"
                print(f"| {name}, {true_px:.0f} px, {dose} e/A2 | {cells} |", flush=True)
        for given in SIZED:
            cells = f"{given:g} | | {np.mean(f1[given]):.3f} (mean) | | {size_cells(np.concatenate(errors[given]))}"
            cells += f" | {np.mean(wrong[given]):.3f} (mean)"
            print(f"| **all, {dose} e/A2** | {cells} |", flush=True)


def size_errors(picks: Particles, truth: Particles) -> np.ndarray:
    """Return `(n,)` relative errors of the sizes of the picks that match a true particle."""
    pick = match(picks, truth).label
    return picks.diameter_px[pick >= 0] / truth.diameter_px[pick[pick >= 0]] - 1


def size_cells(errors: np.ndarray) -> str:
    """Return the median error, the range that holds nine of ten, and how many there are, as cells of a table."""
    if not len(errors):
        return "| | 0"
    middle, most = np.quantile(np.abs(errors), [0.5, 0.9])
    return f"{middle:.1%} ({np.median(errors):+.1%}) | {most:.1%} | {len(errors)}"


def row(at: Score, best: Score, threshold: float) -> str:
    """Return figures as cells of a table."""
    return (
        f"F1 {at.f1:.3f} (P {at.precision:.3f} R {at.recall:.3f}) at {threshold:.3f} | best F1 {best.best_f1:.3f} "
        f"at {best.best_threshold:.3f} | AP {best.average_precision:.3f}"
    )


def publish(model: Path, name: str, commit: str) -> None:
    """Store weights beside the shipped ones, in float16."""
    network, header, config = weights.load(model)
    network, config = network.half(), config.with_changes(FURTHER)
    about = {"name": name, "sha256": weights.digest(network.state_dict()), "commit": commit}
    path = Path(model_room.__file__).with_name(f"{name}.safetensors")
    weights.save(path, network, replace(header, config=config.to_tables(), general=about))
    print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB, tensors' SHA-256 {about['sha256']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["check", "sizes", "structures", "publish"])
    parser.add_argument("model", nargs="?", default=DEFAULT)
    parser.add_argument("--sets", nargs="*", choices=sorted(SETS), default=sorted(SETS))
    parser.add_argument("--given", type=float, nargs="*", default=[1.0, 0.7, 1.3], help="as multiples of the labels'")
    parser.add_argument("--views", type=int, help="by default as many as users' picks")
    parser.add_argument("--as-given", action="store_true", help="the working scale is that of the given diameter")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("runs/general"), help="simulated micrographs go here")
    parser.add_argument("--name", default=DEFAULT)
    parser.add_argument("--commit", default="", help="of the training")
    options = parser.parse_args()
    if options.what == "publish":
        publish(Path(options.model), options.name, options.commit)
        return
    changes: dict[str, object] = {
        "pick.follow": not options.as_given,
        **({"pick.views": options.views} if options.views else {}),
    }
    if options.what == "structures":
        structures(options.model, options.data.parent, options.work, changes)
        return
    if options.what == "sizes":
        for dose in (40.0, 13.0):
            folder = options.work / f"{dose:g}"
            two_sizes(options.model, options.data.parent / "structures", folder, dose)
        return
    for name in options.sets:
        for given in options.given:
            check(options.model, Data(options.data, name), given, changes)


if __name__ == "__main__":
    main()
