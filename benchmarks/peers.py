"""RELION's LoG, Topaz, crYOLO's published picks and ours in one table for each data set, by one scorer.

    python benchmarks/peers.py --topaz /path/to/topaz/bin/topaz
    python benchmarks/peers.py --set empiar10017 --method topaz-2 --topaz ... --updates 1000
    python benchmarks/peers.py tables                              from what is there, without running anything
    python benchmarks/peers.py figures                             docs/peers.png and docs/peers-boxes.png

The sets are those of `peers_data.py`; simulated ones are made before, by ``simulated_sets.py --stage simulate
--training 8 --test 4 --labelled 8``. The programs are those of `peers_programs.py`, each a whole process on one thread.
A program that is not installed has a line that says so.

Thresholds: RELION's, and its diameters, are the best of a grid on two labelled micrographs; the proposals' is the best
there, and so are Topaz's and the radius within which it keeps one pick; of our networks it is the one that is stored
with the weights. Nobody's picks count in the margin that the labels leave.

One file of results for each set and program, OUT/SET/METHOD.json, with its picks in OUT/SET/METHOD/; what is there is
not run again. The tables go to OUT/peers.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import peers_data
import sets
from experiment import publish, table
from peers_data import DataSet
from peers_programs import Method, Outcome, Tools, commit, methods
from training import SETS

from upicker import scoring
from upicker.errors import UPickerError
from upicker.io import coordinates

HEAD = (
    "method",
    "labelled",
    "P / R / F1",
    "best F1",
    "AP",
    "P / R / F1 by centre",
    "best F1 by centre",
    "AP by centre",
    "CPU-s",
    "wall s",
    "start, CPU-s",
    "peak GB",
    "model MB",
    "training, CPU",
)
FIGURES = ("precision", "recall", "f1", "best_f1", "average_precision")


def figures(of: DataSet, outcome: Outcome) -> dict:
    """Return all figures of an outcome, as they are kept."""
    chosen, every = of.pairs(outcome.picks, of.test), of.pairs(outcome.all_picks, of.test)
    numbers: dict = {}
    for by in scoring.CRITERIA:
        at = scoring.score(chosen, of.diameter_px, threshold=outcome.threshold, by=by)
        best = scoring.score(every, of.diameter_px, by=by)
        both = dataclasses.asdict(at) | {key: getattr(best, key) for key in FIGURES[3:]}
        numbers[by] = {key: both[key] for key in FIGURES}
    single = [scoring.score([pair], of.diameter_px, threshold=outcome.threshold) for pair in chosen]
    numbers["each"] = [{"precision": s.precision, "recall": s.recall, "F1": s.f1} for s in single]
    return numbers


def run(of: DataSet, method: Method, seed: int) -> dict:
    """Run one program on one set, unless that was done, and return its results."""
    file, folder = of.folder / f"{method.key}.json", of.folder / method.key
    if (before := sets.remembered(file)) is not None:
        return before
    if why := method.missing(of):
        return {"missing": why}
    try:
        outcome = method.run(of, folder)
    except (SystemExit, UPickerError) as error:
        print(f"{of.name}, {method.title}: {error}", file=sys.stderr)
        return {"missing": "failed"}
    for path in of.test:
        kept = outcome.picks.get(path.stem)
        if kept is not None:
            coordinates.write(folder / "picks" / f"{path.stem}.csv", kept, "csv")
    about = {"set": of.name, "method": method.key, "seed": seed, "commit": commit(), "margin_px": of.margin_px}
    taken = ("threshold", "chosen", "cost", "model_bytes", "training")
    return sets.remember(file, about | {key: getattr(outcome, key) for key in taken} | figures(of, outcome))


def row(method: Method, result: Mapping, labelled: int) -> list[str]:
    """Return a program's line of the table."""
    title, number = method.title, str(labelled) if labelled else ""
    if why := result.get("missing"):
        return [title, number, why, *[""] * (len(HEAD) - 3)]
    words = []
    for by in scoring.CRITERIA:
        p, r, f1, best, ap = (result[by][key] for key in FIGURES)
        words += [f"{p:.3f} / {r:.3f} / {f1:.3f}", f"{best:.3f}", f"{ap:.3f}"]
    cost, size, took = result["cost"], result["model_bytes"], result["training"]
    costs = [f"{cost[key]:.2f}" if cost else "" for key in ("cpu_s", "wall_s", "start_cpu_s", "peak_GB")]
    training = f"{took['steps']} steps, {took.get('cpu_s', took['wall_s']) / 60:.1f} min" if took else ""
    return [title, number, *words, *costs, f"{size / 1e6:.1f}" if size else "", training]


def tables(all_sets: Sequence[DataSet], some: Sequence[Method], result: Callable[[DataSet, Method], Mapping]) -> str:
    """Return a table for each set; a program that is not there has a line, too."""
    parts = []
    for of in all_sets:
        rows = [row(method, result(of, method), min(method.labelled, len(of.train))) for method in some]
        margin = f"; margin {of.margin_px:.0f} px" if of.margin_px else ""
        parts.append(f"**{of.name}**, {len(of.test)} test micrographs{margin}\n\n{table(HEAD, rows)}")
    return "\n".join(parts)


def main() -> None:
    """Parse the options and do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["run", "tables", "figures"], default="run")
    names = [*sorted(SETS), *peers_data.SIMULATED]
    parser.add_argument("--set", action="append", choices=names, help="default: all")
    parser.add_argument("--method", action="append", help="a program's key, as its file is named; default: all")
    parser.add_argument("--topaz", default="topaz", help="the program topaz, in its own environment")
    parser.add_argument("--updates", type=int, default=200, help="steps of Topaz's training")
    parser.add_argument("--seed", type=int, default=0, help="of our trainings")
    parser.add_argument(
        "--published", action="append", default=[], metavar="SET=FOLDER", help="crYOLO's picks of a set"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--simulated", type=Path, default=Path("runs/simulated"))
    parser.add_argument("--out", type=Path, default=Path("runs/peers"))
    parser.add_argument("--of", default="empiar10017", help="figures: the set of peers.png")
    parser.add_argument("--pictures", type=Path, default=Path("docs"), help="figures: where to")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    given = {name: Path(folder) for name, _, folder in (word.partition("=") for word in options.published)}
    some = methods(Tools(options.topaz, options.updates, options.seed, given))

    def opened(name: str) -> DataSet:
        return peers_data.opened(name, options.data, options.simulated, options.out.resolve())

    def kept(of: DataSet, method: Method) -> Mapping:
        found = sets.remembered(of.folder / f"{method.key}.json")
        return found or {"missing": method.missing(of) or "not run"}

    all_sets = [opened(name) for name in options.set or names]
    if options.what == "figures":
        import peers_figures

        peers_figures.crops(opened(options.of), some, kept, options.pictures / "peers.png")
        peers_figures.boxes(all_sets, some, kept, options.pictures / "peers-boxes.png")
        return
    if options.what == "run":
        for of in all_sets:
            for method in some:
                if options.method is None or method.key in options.method:
                    result = run(of, method, options.seed)
                    print(" | ".join((of.name, *row(method, result, method.labelled))), file=sys.stderr, flush=True)
    publish(options.out / "peers.md", f"Peers; commit {commit()}", tables(all_sets, some, kept))


if __name__ == "__main__":
    main()
