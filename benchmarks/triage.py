"""How well `upicker triage` tells usable micrographs from others: simulated ones, which its cuts are of, and real ones.

    python benchmarks/triage.py [WEIGHTS] --shared ../shared [--work DIR] [--only NAME...] [--rows]

Simulated micrographs are of structures that were left out of training. `sparse` has 8 to 40 particles a micrograph, at
doses of 4 to 30. Of `micassess`, great and decent are usable, the others are not. The other real sets are usable.
Then: which error a cut makes on micassess that is fitted to the other micrographs there (leave one out), and what
other cuts keep.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from upicker.errors import UPickerError
from upicker.io import micrographs, mrc
from upicker.io.micrographs import Reading
from upicker.pick.picker import Picker
from upicker.pick.triage import KINDS, LEAST_SCORE
from upicker.run.triage import Triaged, Triaging
from upicker.simulate.contamination import Contamination
from upicker.simulate.ice import Ice
from upicker.simulate.scene import Scene, make

LEFT_OUT = ("3j9i", "6utj", "3ipm", "4v1w", "5gjv", "1bxn", "3cf3", "2cg9")
SOME, NONE = Contamination.level("some"), Contamination.level("none")
REAL = ("empiar10017", "apoferritin", "proteasome20s")
MICASSESS = {
    "0Great": "usable", "1Decent": "usable", "2Contamination": "contaminated", "3Empty_no_ice": "no ice",
    "4Crystalline": "crystalline", "5Empty_ice": "empty",
}  # fmt: skip
# Class of each set of simulated micrographs.
SIMULATED = {
    "particles": "usable", "particles and carbon": "usable", "sparse": "usable", "ice alone": "empty",
    "no ice": "no ice", "carbon": "carbon", "crystalline": "crystalline", "crystalline, particles": "crystalline",
    "contaminated": "contaminated", "contaminated, particles": "contaminated",
}  # fmt: skip


def scene(name: str, number: int, structures: Path) -> Scene:
    """Return what the micrograph of that number in a set shows."""
    rng = np.random.default_rng([number, *name.encode()])
    pixel_size = float(rng.choice([3.0, 4.0, 5.0]))
    area_um2 = 960 * 1024 * (pixel_size * 1e-4) ** 2
    specimen = sorted(structures.glob(f"{LEFT_OUT[number % len(LEFT_OUT)]}.*"))[0]
    plain = Scene(
        specimens=(str(specimen),),
        pixel_size_A=pixel_size,
        particles=int(area_um2 * rng.uniform(100, 600)),
        dose_e_A2=float(np.exp(rng.uniform(np.log(8), np.log(50)))),
        defocus_A=(8000.0, 26000.0),
        contamination=(NONE, SOME)[number % 2],
        ice=Ice(float(rng.uniform(250, 700)), noise=float(rng.uniform(0.8, 3)), film=float(rng.uniform(2, 8))),
        measured=False,
        seed=number,
    )
    empty = replace(plain, particles=0)
    grains, much = Contamination(1, 2, 14), Contamination(25, 8, 0, 12)
    match name:
        case "particles and carbon":
            return replace(plain, carbon=1.0)
        case "sparse":
            few, dose = int(rng.integers(8, 40)), float(np.exp(rng.uniform(np.log(4), np.log(30))))
            return replace(plain, particles=few, dose_e_A2=dose, defocus_A=(6000.0, 20000.0))
        case "ice alone":
            return empty
        case "no ice":
            return replace(empty, contamination=NONE, ice=Ice(5.0, 0.0, 0.3, 0.0))
        case "carbon":
            return replace(empty, carbon=1.0, contamination=NONE)
        case "crystalline":
            return replace(empty, contamination=grains)
        case "crystalline, particles":
            return replace(plain, contamination=grains)
        case "contaminated":
            return replace(empty, contamination=much)
        case "contaminated, particles":
            return replace(plain, particles=plain.particles // 8, contamination=much)
    return plain


def simulated(name: str, number: int, structures: Path, work: Path) -> Path:
    """Return a simulated micrograph, made unless it is there."""
    path = work / name.replace(", ", "-").replace(" ", "-") / f"{number:02}.mrc"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        one = make(scene(name, number, structures)).micrograph
        mrc.write(path, one.pixels, one.pixel_size_A)
    return path


def sets(args: argparse.Namespace, work: Path) -> Iterator[tuple[str, str, list[Path]]]:
    """Yield the name, the true class and the micrographs of each set."""

    def wanted(name: str) -> bool:
        return not args.only or name.startswith(tuple(args.only))

    for name, kind in SIMULATED.items():
        if wanted(f"simulated {name}"):
            paths = [simulated(name, number, args.shared / "structures", work) for number in range(args.micrographs)]
            yield f"simulated {name}", kind, paths
    for name, kind in MICASSESS.items():
        if wanted(f"micassess {name}"):
            (folder,) = (args.shared / "data/micassess").glob(f"{name}*")
            yield f"micassess {name}", kind, micrographs.find([folder])
    for name in REAL:
        if wanted(name):
            yield name, "usable", micrographs.find([args.shared / "data" / name / "micrographs"])
    if wanted("contamination"):
        yield "contamination", "usable", [args.shared / "data/contamination/micrograph.mrc"]


def measured(work: Triaging, paths: Sequence[Path]) -> Iterator[Triaged]:
    """Yield what is measured of each micrograph."""
    for path in paths:
        try:
            yield work(path)
        except UPickerError as error:
            print(error)


def leave_one_out(found: Sequence[tuple[float, bool]]) -> int:
    """Return how many micrographs are right by a cut that is fitted to the others."""
    right = 0
    for at, (score, usable) in enumerate(found):
        others = [*found[:at], *found[at + 1 :]]
        scores = sorted({one for one, _ in others})
        middles = [(a + b) / 2 for a, b in zip([0.0, *scores], [*scores, 1.0])]
        wrong = [sum((one >= cut) != is_usable for one, is_usable in others) for cut in middles]
        best = [cut for cut, number in zip(middles, wrong) if number == min(wrong)]
        right += (score >= best[len(best) // 2]) == usable
    return right


def main() -> None:
    """Print the confusion table, and what other cuts would do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="?", help="by default the shipped ones")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--work", type=Path, help="simulated micrographs are kept here")
    parser.add_argument("--micrographs", type=int, default=16, help="simulated ones of each set")
    parser.add_argument("--only", nargs="*", default=[], help="sets whose names begin so")
    parser.add_argument("--rows", action="store_true", help="print each micrograph, too")
    args = parser.parse_args()
    work = Triaging(Picker(args.weights, {"pick.views": 1}), Reading())
    scores: dict[str, list[tuple[float, bool]]] = {"simulated": [], "micassess": [], "real": []}
    print(f"| set | truth | {' | '.join(KINDS)} | usable or not: right | lowest, median, highest excess | s each |")
    print("|---" * (len(KINDS) + 5) + "|")
    with tempfile.TemporaryDirectory() as temporary:
        for name, kind, paths in sets(args, args.work or Path(temporary)):
            start = time.monotonic()
            found = list(measured(work, paths))
            seconds = (time.monotonic() - start) / len(paths)
            said = [one.verdict(LEAST_SCORE) for one in found]
            counts = Counter(one.kind for one in said)
            right = sum((one.kind == "usable") == (kind == "usable") for one in said)
            excess = np.quantile([one.signs.excess for one in found], [0, 0.5, 1])
            cells = [str(counts[one] or "") for one in KINDS]
            cells += [f"{right} of {len(paths)}", ", ".join(f"{value:.2f}" for value in excess), f"{seconds:.1f}"]
            print(f"| {name} | {kind} | {' | '.join(cells)} |", flush=True)
            for one, verdict in zip(found, said) if args.rows else ():
                print(f"  {one.path.stem[:40]:40} {verdict.kind:12} {verdict.score:.2f} {verdict.reason}; {one.signs}")
            group = name.split()[0] if name.split()[0] in scores else "real"
            scores[group] += [(one.score, kind == "usable") for one in said]
    for cut in (0.05, 0.1, 0.25, 0.5, 0.75):
        for group, pairs in scores.items():
            usable = [score >= cut for score, is_usable in pairs if is_usable]
            others = [score >= cut for score, is_usable in pairs if not is_usable]
            shares = ", ".join(f"{sum(of)} of {len(of)}" for of in (usable, others))
            print(f"kept with a score of {cut:g}, {group}: usable ones, others: {shares}")
    if len(scores["micassess"]) > 1:
        print(f"micassess, a cut fitted to the others: {leave_one_out(scores['micassess'])} right")


if __name__ == "__main__":
    main()
