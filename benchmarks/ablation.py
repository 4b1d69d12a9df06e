"""The paper's Table 5: what each part of the training is worth, by leaving one out at a time.

    python benchmarks/ablation.py --seeds 0,1,2                     empiar10017 and apoferritin, 2, 5, 10 labelled
    python benchmarks/ablation.py --set apoferritin --labelled 2    one set, one number of labelled micrographs
    python benchmarks/ablation.py --part full --part hybrid --change train.finetune_steps=400
    python benchmarks/ablation.py --set runs/simulated/sim-10025-full       a set of `simulated_sets.py`

full              pretrained on all micrographs but the test ones, fine-tuned on the labelled ones, with the defaults
no-preprocessing  without repair, background, clipping and mask; scale and normalisation stay, the network needs them
no-pretraining    fine-tuned from a random start
no-fine-tuning    pretrained only; the same for each number of labelled micrographs
no-denoising      without contrastive denoising queries, in both stages
no-class-loss     lambda_c = 0, in both stages
no-augmentation   tiles as they are cut, in both stages
hybrid            fine-tuned with every augmentation, online and offline, at the strengths of `HYBRID`

Data sets, divisions and seeds are those of `experiment.py`: numbers larger than a set are cut to it, fewer labelled
micrographs are a part of more. Figures are at the threshold that each training stored. Writes OUT/SET/table5.md and
table5.png. What is finished is not trained again (OUT/SET/seed-N/PART), and what was stopped goes on; after another
--change name another --out.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from experiment import Experiment, add_options, experiments, numbers, publish, table
from matplotlib.figure import Figure

from upicker.benchmark.trial import Figures
from upicker.draw import style

LABELLED = [2, 5, 10]
HYBRID: dict[str, object] = {
    "augment.offline": 2,
    "augment.rotate_deg": 180,
    "augment.scale": 0.1,
    "augment.mosaic": 0.25,
    "augment.paste": 3,
    "augment.contaminants": 0.5,
    "augment.gamma": 0.3,
    "augment.defocus": 0.5,
    "augment.blur_diameters": 0.04,
    "augment.keep_blank": True,
}


@dataclass(frozen=True)
class Part:
    """One row of the table.

    Attributes
    ----------
    both : dict
        Knobs of pretraining and fine-tuning that differ from `full`.
    tuning : dict
        Knobs of fine-tuning alone.
    pretrained, tuned : bool
        Which stages there are.
    """

    both: dict[str, object] = field(default_factory=dict)
    tuning: dict[str, object] = field(default_factory=dict)
    pretrained: bool = True
    tuned: bool = True


PARTS = {
    "full": Part(),
    "no-preprocessing": Part(
        {"image.repair": False, "image.flatten": False, "image.mask": False, "image.clip_sigma": 1e6}
    ),
    "no-pretraining": Part(pretrained=False),
    "no-fine-tuning": Part(tuned=False),
    "no-denoising": Part({"denoise.groups": 0}),
    "no-class-loss": Part({"loss.class_weight": 0}),
    "no-augmentation": Part({"augment.online": False}),
    "hybrid": Part(tuning=HYBRID),
}


def figures_of(of: Experiment, name: str, seed: int, labelled: int) -> Figures:
    """Train what one cell of the table needs, unless that is done, and return its figures."""
    part, initial = PARTS[name], None
    if part.pretrained:
        # Parts that pretrain alike share the weights.
        shared = name if part.both else "full"
        before = of.trial(f"{shared}-pretrained", seed, of.split(seed, 0), None, **part.both)
        figures = before.pretrain()
        initial = before.weights("pretrain")
        if not part.tuned:
            return figures
    trial = of.trial(f"{name}-L{labelled}", seed, of.split(seed, labelled), None, **part.both, **part.tuning)
    return trial.finetune(initial=initial)


def ablate(of: Experiment) -> None:
    """Fill the table of one data set, and draw it."""
    options = of.options
    most = len(of.split(options.seeds[0]).labelled)
    counts = sorted({min(count, most) for count in options.labelled})
    names = [name for name in PARTS if name in (options.part or PARTS)]
    found: dict[tuple[str, int], list[Figures]] = {}
    for count in counts:
        for seed in options.seeds:
            for name in names:
                found.setdefault((name, count), []).append(figures_of(of, name, seed, count))
    division = of.split(options.seeds[0])
    title = (
        f"{of.data.name}: parts left out; {len(division.unlabelled)} unlabelled, {len(division.test)} test "
        f"micrographs, seeds {options.seeds}"
    )
    rows = [row(name, count, found) for count in counts for name in names]
    head = ("part", "labelled", "P / R / F1 ± sd", "F1 against full", "AP")
    publish(of.folder / "table5.md", title, table(head, rows))
    draw(of, counts, names, found)


def row(name: str, count: int, found: dict[tuple[str, int], list[Figures]]) -> tuple[str, ...]:
    """Return a row: means over seeds, and the mean of the differences seed by seed."""
    some, full = found[name, count], found.get(("full", count))
    means = " / ".join(f"{np.mean([one[key] for one in some]):.3f}" for key in ("precision", "recall", "f1"))
    spread = f" ± {np.std(f1_of(some), ddof=1):.3f}" if len(some) > 1 else ""
    against = "" if full is None or name == "full" else f"{np.mean(np.subtract(f1_of(some), f1_of(full))):+.3f}"
    return name, str(count), means + spread, against, f"{np.mean([one['ap'] for one in some]):.3f}"


def f1_of(some: Sequence[Figures]) -> list[float]:
    """Return F1 of each seed."""
    return [one["f1"] for one in some]


def draw(of: Experiment, counts: Sequence[int], names: Sequence[str], found: dict) -> None:
    """Draw F1: a row for each part, a colour for each number of labelled micrographs, a dot for each seed."""
    figure = Figure(figsize=(7, 0.9 + 0.45 * len(names)), dpi=style.DPI, layout="constrained")
    axes = figure.add_subplot()
    colours = (style.ORANGE, style.BLUE, style.GREEN, style.VERMILION, style.PURPLE, style.SKY, style.BLACK)
    for place, count in enumerate(counts):
        offset = 0.6 * ((place + 0.5) / len(counts) - 0.5)
        colour = colours[place % len(colours)]
        for at, name in enumerate(names):
            f1 = f1_of(found[name, count])
            axes.plot(f1, np.full(len(f1), at + offset), ".", color=colour, alpha=0.6)
            label = f"{count} labelled" if at == 0 else None
            axes.plot(np.mean(f1), at + offset, "|", color=colour, markersize=11, markeredgewidth=2.5, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel=f"F1 on {len(of.split(of.options.seeds[0]).test)} test micrographs", title=of.data.name)
    axes.set_xlim(0, 1)
    axes.grid(axis="x", color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    style.save(figure, of.folder / "table5.png")


def main() -> None:
    """Parse the options and do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "runs/ablation")
    parser.add_argument("--labelled", type=numbers, default=LABELLED, metavar="N,N,...", help="micrographs with labels")
    parser.add_argument("--part", action="append", choices=list(PARTS), help="default: all")
    for of in experiments(parser.parse_args()):
        ablate(of)


if __name__ == "__main__":
    main()
