"""The paper's Figure 3: what numbers of unlabelled and labelled micrographs, and of labels, are worth.

    python benchmarks/figure3.py grid    3a: F1 over labelled micrographs, a line for each number of unlabelled ones
    python benchmarks/figure3.py loss    3b: losses of fine-tuning, two-stage and from scratch; uses the grid's logs
    python benchmarks/figure3.py labels  3c: labels of 100, 50 and 10 % and few micrographs, two-stage and from scratch
    python benchmarks/figure3.py curves  3d: precision over recall of two-stage training, all data sets in one figure
    python benchmarks/figure3.py boxes   3e: precision, recall and F1 of each test micrograph, by method

For each data set (--set) and seed (--seeds) micrographs are divided as in `experiment.py`; fewer micrographs are a
part of more. 0 unlabelled micrographs: a random start. The labels that `labels` keeps are drawn by chance, and fewer
are a part of more; the others are background to the training, as in the paper, unless --partial tells it that labels
are not complete. `boxes` also takes picks of other programs: ``--picks SET:NAME=FOLDER``, files named after
micrographs, scored as they are.

Writes OUT/SET/figure3x.md and .png (3d: OUT/). What is finished is not trained again, and what was stopped goes on.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from experiment import Experiment, add_options, experiments, numbers, publish, table
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from upicker import scoring
from upicker.benchmark.trial import Trial
from upicker.draw import methods, style
from upicker.io import coordinates, folders
from upicker.io.names import plain
from upicker.io.pairing import match
from upicker.particles import Particles

UNLABELLED, LABELLED = [0, 4, 8], [1, 2, 4, 8]
# Micrographs (None: all) and share of their labels.
REDUCED = ((None, 1.0), (None, 0.5), (None, 0.1), (10, 1.0), (10, 0.1))
METRICS = ("precision", "recall", "f1")


def two_stage(of: Experiment, seed: int, labelled: int | None, unlabelled: int | None = None) -> Trial:
    """Train on that many micrographs and return the trial; its step is `step_of(unlabelled)`."""
    division = of.split(seed, labelled, unlabelled)
    u, n = len(division.unlabelled), len(division.labelled)
    initial = None
    if u:
        before = of.trial(f"U{u}", seed, of.split(seed, 0, unlabelled))
        before.pretrain()
        initial = before.weights("pretrain")
    trial = of.trial(f"U{u}-L{n}", seed, division)
    trial.finetune(step_of(u), initial)
    return trial


def step_of(unlabelled: int) -> str:
    """Return the name of the step that fine-tunes."""
    return "finetune" if unlabelled else "scratch"


def available(of: Experiment, counts: Sequence[int]) -> list[int]:
    """Return the counts that the data set has, larger ones cut to all, each once."""
    most = len(of.split(of.options.seeds[0]).labelled)
    return sorted({min(count, most) for count in counts})


# --- 3a


def grid(of: Experiment) -> None:
    """Train for each pair of numbers, and draw F1."""
    options = of.options
    us = sorted({min(u, len(of.split(options.seeds[0]).unlabelled)) for u in options.unlabelled})
    ls = available(of, options.labelled)
    f1 = np.array([[[_f1(two_stage(of, s, n, u), u) for s in options.seeds] for n in ls] for u in us])
    mean, sd = f1.mean(2), f1.std(2, ddof=1) if f1.shape[2] > 1 else np.zeros(f1.shape[:2])
    one = f1.shape[2] == 1
    rows = [
        (u, *(f"{m:.3f}" + ("" if one else f" ± {d:.3f}") for m, d in zip(*row))) for u, row in zip(us, zip(mean, sd))
    ]
    head = ("unlabelled \\ labelled", *map(str, ls))
    publish(of.folder / "figure3a.md", _title(of, "F1 by numbers of micrographs"), table(head, rows))
    figure = Figure((6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for colour, u, m, d in zip(methods.COLOURS, us, mean, sd):
        name = "from scratch" if u == 0 else f"{u} unlabelled"
        axes.errorbar(range(len(ls)), m, d, marker="o", capsize=3, color=colour, label=name)
    axes.set_xticks(range(len(ls)), list(map(str, ls)))
    axes.set(xlabel="labelled micrographs", ylabel="F1", title=of.data.name)
    _save(figure, of.folder / "figure3a.png")


def _f1(trial: Trial, unlabelled: int) -> float:
    figures = trial.done(step_of(unlabelled))
    assert figures is not None
    return figures["f1"]


# --- 3b


def loss(of: Experiment) -> None:
    """Draw the losses of fine-tuning on different numbers of micrographs, with and without pretraining."""
    options, rows = of.options, []
    most = min(max(options.unlabelled), len(of.split(options.seeds[0]).unlabelled))
    figure = Figure((7.2, 4.6), layout="constrained")
    axes = figure.add_subplot()
    for colour, n in zip(methods.COLOURS, available(of, options.labelled)):
        for u, line in ((most, "-"), (0, "--")):
            trials = [two_stage(of, seed, n, u) for seed in options.seeds]
            logs = [losses(trial.folder / f"{step_of(u)}.log.csv") for trial in trials]
            length = min(len(log) for log in logs)
            course = np.mean([log[:length] for log in logs], 0)
            name = f"{n} labelled, {'two-stage' if u else 'from scratch'}"
            axes.plot(np.arange(1, length + 1), smoothed(course), line, color=colour, label=name)
            tenth = max(1, length // 10)
            ends = (course[:tenth].mean(), course[-tenth:].mean())
            rows.append((n, "two-stage" if u else "from scratch", *(f"{end:.3f}" for end in ends), length))
    axes.set(xlabel="step of fine-tuning", ylabel="loss", title=of.data.name)
    axes.set_yscale("log")
    _save(figure, of.folder / "figure3b.png")
    head = ("labelled", "training", "loss, first tenth", "loss, last tenth", "steps")
    publish(of.folder / "figure3b.md", _title(of, "losses of fine-tuning"), table(head, rows))


def losses(log: Path) -> np.ndarray:
    """Return the loss of each step of a training's log."""
    with log.open(newline="", encoding="utf-8") as file:
        return np.array([float(row["loss"]) for row in csv.DictReader(file) if row["loss"]])


def smoothed(values: np.ndarray) -> np.ndarray:
    """Return running means over a twentieth of the course."""
    width = max(1, len(values) // 20)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    first = np.maximum(np.arange(1, len(values) + 1) - width, 0)
    return (sums[1:] - sums[first]) / (np.arange(1, len(values) + 1) - first)


# --- 3c


def labels(of: Experiment) -> None:
    """Train with fewer labels, two-stage and from scratch; draw precision and recall."""
    options = of.options
    configurations = []
    for count, share in REDUCED:
        count = None if count is None else options.few
        n = len(of.split(options.seeds[0], count).labelled)
        configurations.append((n, share))
    configurations = list(dict.fromkeys(configurations))
    kinds, rows, means = ("two-stage", "from scratch"), [], {}
    for kind in kinds:
        for n, share in configurations:
            done = [_reduced(of, seed, n, share, kind == "two-stage") for seed in options.seeds]
            used = np.mean([one["used"] for one in done])
            values = np.array([[one[key] for key in METRICS] for one in done])
            means[kind, n, share] = (*values.mean(0), used)
            sd = f"{values[:, 2].std(ddof=1):.3f}" if len(values) > 1 else "-"
            shares = [f"{value:.3f}" for value in values.mean(0)]
            rows.append((kind, n, f"{share:.0%}", f"{used:.0f}", *shares, sd))
    head = ("training", "labelled micrographs", "of their labels", "labels", "precision", "recall", "F1", "sd of F1")
    publish(of.folder / "figure3c.md", _title(of, "reduced labels"), table(head, rows))
    figure = Figure((9.6, 4.4), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    names = [f"{n} micrographs\n{share:.0%}" for n, share in configurations]
    for axes, kind in zip(both, kinds):
        some = np.array([means[kind, n, share] for n, share in configurations])
        beside = axes.twinx()
        bars = beside.bar(range(len(names)), some[:, 3], color="0.9", zorder=0)
        beside.bar_label(bars, fmt="{:.0f}", label_type="center", fontsize=7, color="0.4")
        beside.set(yscale="log", ylim=(min(some[:, 3]) / 10, None), ylabel="labels" if axes is both[-1] else "")
        beside.yaxis.set_major_formatter("{x:g}")
        beside.yaxis.set_minor_formatter(NullFormatter())
        axes.set_zorder(beside.get_zorder() + 1)
        axes.patch.set_visible(False)
        for colour, key, values in zip(methods.COLOURS, METRICS, some.T):
            axes.plot(range(len(names)), values, "o-", color=colour, label=key.replace("f1", "F1"))
        axes.set_xticks(range(len(names)), names, fontsize=7)
        axes.set(ylim=(0, 1.02), title=f"{of.data.name}: {kind}")
    _save(figure, of.folder / "figure3c.png", both[0])


def _reduced(of: Experiment, seed: int, count: int, share: float, pretrained: bool) -> dict[str, float]:
    """Fine-tune on a share of the labels of some micrographs."""
    division = of.split(seed, count)
    folder, used = thinned(of, seed, division.labelled, share)
    initial = None
    if pretrained:
        before = of.trial(f"U{len(division.unlabelled)}", seed, of.split(seed, 0))
        before.pretrain()
        initial = before.weights("pretrain")
    step = "finetune" if pretrained else "scratch"
    known = "-known-partial" if of.options.partial and share < 1 else ""
    trial = of.trial(f"L{count}-{share * 100:.0f}pct{known}", seed, division, folder)
    trial = replace(trial, partial=bool(known))
    return {**trial.finetune(step, initial), "used": used}


def thinned(of: Experiment, seed: int, paths: Sequence[Path], share: float) -> tuple[Path, int]:
    """Write a share of the labels of some micrographs, at least one of each; return the folder, and how many."""
    folder, used = of.folder / f"seed-{seed}" / f"labels-{share * 100:.0f}pct", 0
    for path in paths:
        particles = of.data.truth(path)
        order = np.random.default_rng((seed, of.data.labelled.index(path))).permutation(len(particles))
        kept = particles.select(np.sort(order[: max(1, round(share * len(particles)))]))
        coordinates.write(folder / f"{plain(path)}.csv", kept, "csv")
        used += len(kept)
    return folder, used


# --- 3d and 3e


def curves(all_of: Sequence[Experiment]) -> None:
    """Draw precision over recall of two-stage training on all there is, every data set in one figure."""
    lines, points, rows = {}, {}, []
    for of in all_of:
        trials = [two_stage(of, seed, None) for seed in of.options.seeds]
        done = [trial.done("finetune") or {} for trial in trials]
        lines[of.data.name] = [scoring.curve(trial.pairs("finetune")) for trial in trials]
        points[of.data.name] = [(one["recall"], one["precision"]) for one in done]
        means = [f"{np.mean([one[key] for one in done]):.3f}" for key in (*METRICS, "best_f1", "ap")]
        rows.append((of.data.name, *means))
    options = all_of[0].options
    head = ("data set", "precision", "recall", "F1", "best F1", "AP")
    publish(options.out / "figure3d.md", f"Two-stage training, seeds {options.seeds}", table(head, rows))
    methods.precision_recall_lines(lines, options.out / "figure3d.png", points)


def boxes(of: Experiment) -> None:
    """Draw how figures scatter over test micrographs, by method."""
    values: dict[str, list[scoring.Score]] = {}
    for seed in of.options.seeds:
        two = two_stage(of, seed, None)
        before = of.trial(f"U{len(two.split.unlabelled)}", seed, of.split(seed, 0))
        scratch = two_stage(of, seed, None, 0)
        filter_ = of.trial("alog", seed, two.split)
        steps = (("A-LoG", filter_, "alog"), ("pretrained", before, "pretrain"))
        filter_.alog()
        for title, trial, step in (*steps, ("from scratch", scratch, "scratch"), ("two-stage", two, "finetune")):
            threshold = (trial.done(step) or {})["threshold"]
            values.setdefault(title, []).extend(
                scoring.score([pair], threshold=threshold) for pair in trial.pairs(step)
            )
        for name, folder in _others(of):
            values.setdefault(name, []).extend(scoring.score([pair]) for pair in _foreign(two, folder))
    numbers_ = {
        name: {"precision": [s.precision for s in some], "recall": [s.recall for s in some], "F1": [s.f1 for s in some]}
        for name, some in values.items()
    }
    rows = []
    for name, metrics in numbers_.items():
        quartiles = [np.quantile(metrics[metric], (0.25, 0.5, 0.75)) for metric in methods.METRICS]
        rows.append((name, len(metrics["F1"]), *(" / ".join(f"{q:.3f}" for q in three) for three in quartiles)))
    head = ("method", "micrographs", *(f"{metric}: quartiles" for metric in methods.METRICS))
    publish(of.folder / "figure3e.md", _title(of, "scatter over test micrographs"), table(head, rows))
    methods.boxes(numbers_, of.folder / "figure3e.png", title=of.data.name)


def _others(of: Experiment) -> list[tuple[str, Path]]:
    """Return names and folders of other programs' picks of this set."""
    found = []
    for word in of.options.picks:
        name, equals, folder = word.partition("=")
        data_set, colon, title = name.partition(":")
        if not equals or not colon:
            raise SystemExit(f"--picks {word}: write SET:NAME=FOLDER")
        if data_set == of.data.name:
            found.append((title, Path(folder)))
    return found


def _foreign(trial: Trial, folder: Path) -> list[tuple]:
    files = folders.stems(folder)
    pairs = match([plain(path) for path in trial.split.test], list(files)).pairs
    nothing = Particles.of([])
    picks = [coordinates.read(files[pairs[n]]) if (n := plain(p)) in pairs else nothing for p in trial.split.test]
    return [(some, trial.data.truth(path)) for some, path in zip(picks, trial.split.test, strict=True)]


def _title(of: Experiment, what: str) -> str:
    division = of.split(of.options.seeds[0])
    return f"{of.data.name}: {what}; {len(division.test)} test micrographs, seeds {of.options.seeds}"


def _save(figure: Figure, path: Path, legend_of: object = None) -> None:
    for axes in figure.axes:
        axes.spines[["top"]].set_visible(False)
        axes.grid(axis="y", color="0.92")
        if axes.get_legend_handles_labels()[0] and legend_of in (None, axes):
            axes.legend(frameon=False, fontsize=8)
    style.save(figure, path)


def main() -> None:
    """Parse the options and do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"grid": grid, "loss": loss, "labels": labels, "boxes": boxes}
    parser.add_argument("part", choices=[*parts, "curves"])
    add_options(parser, "runs/figure3")
    parser.add_argument("--unlabelled", type=numbers, default=UNLABELLED, metavar="N,N,...", help="of grid and loss")
    parser.add_argument("--labelled", type=numbers, default=LABELLED, metavar="N,N,...", help="of grid and loss")
    parser.add_argument("--few", type=int, default=10, help="the few micrographs of `labels`")
    parser.add_argument("--partial", action="store_true", help="labels: tell the training what is missing")
    parser.add_argument("--picks", action="append", default=[], metavar="SET:NAME=FOLDER", help="of boxes")
    options = parser.parse_args()
    all_of = experiments(options)
    if options.part == "curves":
        curves(all_of)
        return
    for of in all_of:
        parts[options.part](of)


if __name__ == "__main__":
    main()
