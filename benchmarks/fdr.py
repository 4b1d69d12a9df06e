"""Whether the share of false picks that decoys estimate is the true one, and what the threshold found by it is worth.

    python benchmarks/fdr.py                                              the shipped general model
    python benchmarks/fdr.py general.safetensors --out runs/other --set 1bxn --set apoferritin

Simulated micrographs (`SIMULATED`: structures that the weights must not have learned from, and noise, nothing else; a
third of the usual dose) and real ones with labels. For each set and each wanted share: the threshold that
`upicker pick --fdr` chooses on a few of them, the true share of false picks there on all, and F1, beside F1 at the best
threshold and at the stored one. Then the micrographs of `micassess`, most of which hold no particle: picks, decoys, and
what is decided. Picks near the edge do not count where labels leave a margin. What was simulated and detected is kept
in --out; delete it to repeat that. Prints markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from upicker import scoring
from upicker.geometry import Region
from upicker.io import coordinates, folders, micrographs
from upicker.io.micrographs import Reading
from upicker.particles import Particles
from upicker.pick.decoys import Chance, negated
from upicker.pick.detection import FLOOR
from upicker.pick.picker import Picker
from upicker.run.decoys import MICROGRAPHS, decided
from upicker.run.simulate import DataSet, simulate_all
from upicker.simulate.contamination import Contamination
from upicker.simulate.presets import DEFAULT, with_changes
from upicker.statistics import evenly_spaced
from upicker.train.labels import picks_margin
from upicker.units import Length, parse_length

SIMULATED = ("1bxn.mrc.gz", "3cf3.mrc.gz", "2cg9.mrc.gz", "5gjv.mrc.gz", "3j9i.pdb.gz")
# The diameter, and the margin that labels leave, in diameters.
REAL = {"apoferritin": ("72px", 0.0), "proteasome20s": ("24px", 0.66), "empiar10017": ("108px", 1.2)}
WITHOUT = ("3Empty_no_ice", "5Empty_ice_no_particles_but_vitreous_ice", "4Crystalline_ice")
SCENE = {
    "shape": (2000, 2400),
    "dose_e_A2": 13.0,
    "carbon": 0.0,
    "contamination": Contamination.level("none"),
    "particles": 78,
    "seed": 11,
}
LEVELS = (0.01, 0.05, 0.1, 0.2)


@dataclass(frozen=True, eq=False)
class Detected:
    """The picks of one micrograph, of any score, and its decoys.

    Attributes
    ----------
    picks, labels : Particles
        Raw pixels.
    decoys : np.ndarray
        `(m,)` scores.
    shape : tuple of int
        Of the micrograph.
    """

    picks: Particles
    decoys: np.ndarray
    labels: Particles
    shape: tuple[int, int]


def simulated(name: str, options: argparse.Namespace) -> tuple[list[Path], Path]:
    """Simulate what is not there yet; return the micrographs and the folder of their truth."""
    structure = options.shared / "structures" / name
    scene = with_changes(replace(DEFAULT.scene, specimens=(str(structure),)), SCENE)
    data = DataSet(scene, options.out / name.partition(".")[0], options.micrographs)
    for outcome in simulate_all(data.missing(data.paths), data, 1, resume=True):
        if outcome.error:
            raise SystemExit(str(outcome.error))
    return data.paths, data.folder / "truth"


def detected(picker: Picker, path: Path, diameter: Length | None, truth: Path | None, cache: Path) -> Detected:
    """Return the detections of one micrograph, which are kept in a file."""
    file = cache / f"{path.parent.parent.name}-{path.parent.name}-{path.stem}.npz"
    micrograph = Reading().read(path)
    labels = Particles.of([]) if truth is None else coordinates.read(truth)
    length = diameter or Length(float(np.median(labels.diameter_px)), "px")
    labels = labels.with_diameter(length.to_px(micrograph.pixel_size_A))
    if not file.exists():
        prepared = picker.prepared(micrograph, length.to_px(micrograph.pixel_size_A))
        both = [picker.picks(one, path) for one in (prepared, negated(prepared))]
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, xy=both[0].xy, score=both[0].score, diameter=both[0].diameter_px, decoys=both[1].score)
    kept = np.load(file)
    return Detected(Particles.of(kept["xy"], kept["diameter"], kept["score"]), kept["decoys"], labels, micrograph.shape)


def chance(found: Sequence[Detected]) -> Chance:
    """Return what `upicker pick --fdr` sees: a few of the micrographs."""
    few = [found[at] for at in evenly_spaced(len(found), MICROGRAPHS, ends=False)]
    return Chance.of(np.concatenate([one.picks.score for one in few]), np.concatenate([one.decoys for one in few]))


def inside(one: Detected, margin: float) -> tuple[Particles, Particles]:
    """Return the picks that count, and the labels; `margin` in diameters."""
    side = float(np.median(one.labels.diameter_px))
    kept = Region.inside(one.shape, picks_margin(margin) * side).contains(one.picks.xy)
    return one.picks.select(kept), one.labels


def rows(name: str, found: Sequence[Detected], margin: float, stored: float) -> None:
    """Print the rows of a set with labels."""
    pairs, known = [inside(one, margin) for one in found], chance(found)
    best, at_stored = scoring.score(pairs), scoring.score(pairs, threshold=stored)
    for level in LEVELS:
        choice = decided(known, level, stored)
        at = scoring.score(pairs, threshold=choice.threshold)
        print(
            f"| {name} | {level:g} | {choice.threshold:.3f} ({choice.by}) | {choice.estimate:.3f} | "
            f"{1 - at.precision:.3f} | {at.f1:.3f} | {best.best_f1:.3f} at {best.best_threshold:.3f} | "
            f"{at_stored.f1:.3f} | {best.average_precision:.3f} |",
            flush=True,
        )


def empty(options: argparse.Namespace, picker: Picker, stored: float) -> None:
    """Print the rows of micrographs without particles, each a run of its own."""
    print("\n| micrograph | picks / decoys of any score | at .1 | at .3 | decided at .05 |\n|---|---|---|---|---|")
    for kind in (*WITHOUT, "0Great", "1Decent", "2Contamination_Aggregate_Crack_Breaking_Drifting"):
        for path in micrographs.find([options.shared / "data/micassess" / kind]):
            one = detected(picker, path, Length(12, "px"), None, options.out / "detected")
            known = Chance.of(one.picks.score, one.decoys)
            counts = [" / ".join(str(int(number)) for number in known.counts(at)) for at in (0.0, 0.1, 0.3)]
            choice = decided(known, 0.05, stored)
            kept = int((one.picks.score >= choice.threshold).sum())
            print(f"| {kind[:12]} {path.stem[:20]} | {' | '.join(counts)} | {choice.by}, {kept} picks |", flush=True)


def main() -> None:
    """Parse the options, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="by default the shipped one")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path("runs/fdr"))
    parser.add_argument("--set", action="append", help="default: all")
    parser.add_argument("--micrographs", type=int, default=4, help="simulated ones of each structure")
    parser.add_argument("--change", action="append", default=[], metavar="ROOM.KNOB=VALUE")
    options = parser.parse_args()
    picker = Picker(options.model, dict(change.split("=", 1) for change in options.change))
    stored, picker.threshold = picker.threshold, FLOOR
    names = {name.partition(".")[0]: name for name in SIMULATED}
    print(
        "| set | asked | threshold | estimate | true share | F1 | best F1 | F1 at the stored threshold | AP |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for name in options.set or [*names, *REAL, "empty"]:
        if name == "empty":
            empty(options, picker, stored)
            continue
        if name in REAL:
            root = options.shared / "data" / name
            (diameter, margin), paths, truth = REAL[name], micrographs.find([root / "micrographs"]), root / "coords"
            length = parse_length(diameter)
        else:
            paths, truth = simulated(names[name], options)
            length, margin = None, 0.0
        labels, cache = folders.stems(truth), options.out / "detected"
        found = [detected(picker, path, length, labels[path.stem], cache) for path in paths if path.stem in labels]
        rows(name, found, margin, stored)


if __name__ == "__main__":
    main()
