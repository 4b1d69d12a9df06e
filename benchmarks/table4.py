"""The paper's Table 4: region proposals of several methods, and what pretraining on them is worth.

    python benchmarks/table4.py                                   proposals on the test micrographs, scored
    python benchmarks/table4.py --contrib runs/contrib/bin/python also EdgeBox and selective search
    python benchmarks/table4.py --train --labelled 2              and: pretrain on each, fine-tune on 2 labelled

Methods: `template`, our proposals; `alog`, the paper's, which it is learned from; `log`, the same without the mask;
`relion`, RELION's LoG picker, if Debian's package ``relion`` is there; `edgebox` and `selective` from OpenCV's
contributed modules, in an environment of their own described in `opencv_proposals.py`; `edgebox-sized` and
`selective-sized`, of these only boxes whose sides are in the range of diameters that A-LoG is given, too; `random`,
squares of diameters in that range; `none`, no pretraining.
All get the same preprocessed micrograph, except RELION, which gets the raw one. K: the 30, 50, 80 best, all, or `auto`,
A-LoG's own choice.

A box is right if it overlaps a label's square by IoU >= 0.5, one to one, best first: once as proposed, once as a square
of the nominal diameter around its centre, which is what training sees, since it gives all labels one diameter.
Pretraining on any method's boxes is the fine-tuning loop on them as labels, for `train.pretrain_steps`, all methods
alike. What is finished is not done again: boxes lie in OUT/SET/boxes, trainings in OUT/SET/seed-N.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import relion
from experiment import Experiment, add_options, config_of, experiments, publish, table
from scipy.spatial import KDTree

from upicker.config import ProposeConfig
from upicker.image.mask import usable
from upicker.image.prepare import Prepared, prepare
from upicker.io import coordinates, mrc, star
from upicker.io.atomic import replacing
from upicker.io.names import plain
from upicker.particles import Particles
from upicker.propose.alog import range_of
from upicker.propose.proposals import examples, propose, with_template

METHODS: tuple[str, ...] = (
    "template",
    "alog",
    "log",
    "relion",
    "edgebox",
    "edgebox-sized",
    "selective",
    "selective-sized",
    "random",
)
COUNTS = ("30", "50", "80", "all", "auto")
CONTRIB = {"edgebox", "selective"}
# Random boxes have no end; "all" has no meaning for them.
RANDOM_BOXES = 80
HERE = Path(__file__).resolve().parent


def boxes(of: Experiment, method: str, paths: Sequence[Path]) -> dict[Path, np.ndarray]:
    """Return each micrograph's boxes `(n, 5)`: centre x and y, width, height in raw pixels, score; best first."""
    base = method.removesuffix("-sized")
    folder = of.folder / "boxes" / base
    files = {path: folder / f"{plain(path)}.npy" for path in paths}
    missing = [path for path in paths if not files[path].exists()]
    if missing and base == "relion":
        relion_boxes(of, missing, folder)
    elif missing:
        began = time.monotonic()
        for number, path in enumerate(missing):
            keep(files[path], found_in(of, base, path))
            each = (time.monotonic() - began) / (number + 1)
            left = each * (len(missing) - number - 1)
            print(f"{base} {path.name}: {each:.1f} s each, {left / 60:.0f} min left", file=sys.stderr, flush=True)
    loaded = {path: np.load(file) for path, file in files.items()}
    if method == base:
        return loaded
    low, high = ratios(of)
    sides = {path: b[:, 2:4] / diameter_px(of, path) for path, b in loaded.items()}
    return {path: b[((sides[path] >= low) & (sides[path] <= high)).all(1)] for path, b in loaded.items()}


def found_in(of: Experiment, method: str, path: Path) -> np.ndarray:
    """Propose in one micrograph."""
    micrograph = of.data.reading.read(path)
    config = config_of(of.options)
    if method == "random":
        rng = np.random.default_rng((0, of.data.labelled.index(path) if path in of.data.labelled else 10**6))
        rows, columns = micrograph.shape
        low, high = (ratio * diameter_px(of, path) for ratio in ratios(of))
        side = rng.uniform(low, high, RANDOM_BOXES)
        xy = rng.uniform(0, 1, (RANDOM_BOXES, 2)) * np.stack([columns - side, rows - side], 1) + side[:, None] / 2
        return np.column_stack([xy, side, side, np.linspace(1, 0, RANDOM_BOXES)])
    prepared = prepare(micrograph, diameter_px(of, path), config.image)
    if method in CONTRIB:
        return contributed(of, method, prepared)
    found = proposed(of, method, prepared, "all")
    return np.column_stack([found.xy, found.diameter_px, found.diameter_px, found.score])


def proposed(of: Experiment, method: str, prepared: Prepared, top_k: str) -> Particles:
    """Propose by our own means; `log` has no mask, only `template` has a template."""
    config = config_of(of.options)
    good = None if method == "log" else usable(prepared, config.image)
    return propose(prepared, replace(knobs(of, method == "template"), top_k=top_k), config.image, good)


@cache
def knobs(of: Experiment, template: bool) -> ProposeConfig:
    """Return how to propose, the template learned from a few of the micrographs."""
    config, some = config_of(of.options), []
    for path in examples(of.data.labelled) if template else []:
        prepared = prepare(of.data.reading.read(path), diameter_px(of, path), config.image)
        some.append(replace(prepared, usable=usable(prepared, config.image)))
    return with_template(replace(config.propose, template=template), some, config.image)


def diameter_px(of: Experiment, path: Path) -> float:
    """Return the nominal diameter in raw pixels."""
    return of.data.diameter.to_px(of.data.reading.size_of(path), str(path))


def ratios(of: Experiment) -> tuple[float, float]:
    """Return d_min and d_max, in diameters."""
    return range_of(config_of(of.options).propose)


def contributed(of: Experiment, method: str, prepared: Prepared) -> np.ndarray:
    """Ask the other environment, which has OpenCV's contributed modules."""
    with tempfile.TemporaryDirectory() as folder:
        image, boxes = Path(folder) / "image.npy", Path(folder) / "boxes.npy"
        np.save(image, prepared.pixels)
        words = (of.options.contrib, HERE / "opencv_proposals.py", method, image, prepared.working_diameter, boxes)
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{method}: {of.options.contrib} failed; see opencv_proposals.py\n{done.stderr[-2000:]}")
        x, y, width, height, score = np.load(boxes).astype(float).T
    scale_x, scale_y = prepared.frame.scale_xy
    centre = prepared.frame.to_raw(np.stack([x + (width - 1) / 2, y + (height - 1) / 2], 1))
    return np.column_stack([centre, width / scale_x, height / scale_y, score])


def relion_boxes(of: Experiment, paths: Sequence[Path], folder: Path) -> None:
    """Pick with RELION's LoG, all micrographs at once; its threshold is the default."""
    work = folder.with_name("relion-work")
    (work / "mics").mkdir(parents=True, exist_ok=True)
    listed = []
    for path in paths:
        micrograph = of.data.reading.read(path)
        target = work / "mics" / f"{plain(path)}.mrc"
        # In pixels of 1 A, so that its diameters are those of the labels.
        mrc.write(target, micrograph.pixels, 1.0)
        listed.append([target.as_posix(), 1])
    optics = {"_rlnOpticsGroup": 1, "_rlnOpticsGroupName": "opticsGroup1", "_rlnMicrographPixelSize": 1.0}
    optics |= {"_rlnMicrographOriginalPixelSize": 1.0, "_rlnVoltage": 300, "_rlnSphericalAberration": 2.7}
    listing = work / "micrographs.star"
    columns = ["_rlnMicrographName", "_rlnOpticsGroup"]
    relion.write_star(
        listing, {**optics, "_rlnAmplitudeContrast": 0.1}, star.format_table("micrographs", columns, listed)
    )
    nominal = diameter_px(of, paths[0])
    sizes = ("--LoG_diam_min", relion.SMALLEST * nominal, "--LoG_diam_max", relion.LARGEST * nominal)
    command = ("relion_autopick", "--i", listing, "--odir", f"{work / 'out'}/", "--pickname", "autopick", "--LoG")
    relion.run(*command, *sizes, "--angpix", 1.0, log=work / "autopick.log")
    for path in paths:
        files = sorted((work / "out").rglob(f"{plain(path)}_autopick.star"))
        picks = coordinates.read(files[0]).by_score() if files else Particles.of([])
        side = np.full(len(picks), nominal)
        keep(folder / f"{plain(path)}.npy", np.column_stack([picks.xy, side, side, picks.score]))


def keep(file: Path, found: np.ndarray) -> None:
    """Write boxes, whole or not at all."""
    with replacing(file) as temporary:
        np.save(temporary, found.astype(np.float32))


def best(of: Experiment, method: str, count: str, paths: Sequence[Path]) -> dict[Path, np.ndarray]:
    """Return the K best boxes of each micrograph."""
    found = boxes(of, method, paths)
    if count != "auto":
        return {path: b if count == "all" else b[: int(count)] for path, b in found.items()}
    config = config_of(of.options)
    numbers = {}
    for path in paths:
        prepared = prepare(of.data.reading.read(path), diameter_px(of, path), config.image)
        automatic = proposed(of, method, prepared, "auto")
        side = automatic.diameter_px
        numbers[path] = np.column_stack([automatic.xy, side, side, automatic.score])
    return numbers


def right(found: np.ndarray, labels: Particles) -> int:
    """Count boxes that find a label of their own, in their order; `found` as `boxes` gives them."""
    if not len(found) or not len(labels):
        return 0
    # An IoU of half needs centres within a side of the label's square.
    near = KDTree(found[:, :2]).sparse_distance_matrix(
        KDTree(labels.xy), float(labels.diameter_px.max()) * np.sqrt(2), output_type="ndarray"
    )
    box, label = near["i"], near["j"]
    sides, square = found[box, 2:4], labels.diameter_px[label, None]
    reach = (sides + square) / 2 - np.abs(found[box, :2] - labels.xy[label])
    common = np.clip(np.minimum(reach, np.minimum(sides, square)), 0, None).prod(1)
    iou = common / (sides.prod(1) + square[:, 0] ** 2 - common)
    box, label, iou = (values[iou >= 0.5] for values in (box, label, iou))
    used, taken = set(), set()
    for at in np.lexsort((label, -iou, box)):
        if box[at] not in used and label[at] not in taken:
            used.add(box[at])
            taken.add(label[at])
    return len(used)


def scored(of: Experiment, found: dict[Path, np.ndarray], nominal: bool) -> str:
    """Return precision, recall and F1, pooled; `nominal` makes squares of the labels' diameter of all boxes."""
    true = picks = total = 0
    for path, some in found.items():
        labels = of.data.truth(path)
        if nominal:
            some = np.column_stack([some[:, :2], np.full((len(some), 2), diameter_px(of, path)), some[:, 4:]])
        true, picks, total = true + right(some, labels), picks + len(some), total + len(labels)
    return f"{true / max(picks, 1):.3f} / {true / max(total, 1):.3f} / {2 * true / max(picks + total, 1):.3f}"


def counts_of(method: str) -> list[str]:
    """Return the K that make sense for a method."""
    skipped = {"random": {"all", "auto"}, "template": set(), "alog": set(), "log": set()}.get(method, {"auto"})
    return [count for count in COUNTS if count not in skipped]


def proposals(of: Experiment, methods: Sequence[str]) -> None:
    """Score proposals on the test micrographs."""
    test = of.split(of.options.seeds[0]).test
    rows = []
    for method in methods:
        for count in counts_of(method):
            found = best(of, method, count, test)
            number = np.mean([len(some) for some in found.values()])
            rows.append((method, count, f"{number:.0f}", scored(of, found, False), scored(of, found, True)))
    head = ("method", "K", "boxes a micrograph", "P / R / F1 as proposed", "P / R / F1 at the nominal size")
    title = f"{of.data.name}: proposals on {len(test)} test micrographs, diameter {of.data.diameter}"
    publish(of.folder / "table4-proposals.md", title, table(head, rows))


def training(of: Experiment, methods: Sequence[str]) -> None:
    """Pretrain on each method's proposals, fine-tune on a few labelled micrographs, score on the test micrographs."""
    config = config_of(of.options)
    rows = []
    for method in ("none", *methods):
        wanted = ["-"] if method == "none" else [k for k in counts_of(method) if k in of.options.counts]
        for count in wanted:
            f1: dict[str, list[dict]] = {"alone": [], "tuned": []}
            for seed in of.options.seeds:
                division = of.split(seed, of.options.labelled)
                name = method if method == "none" else f"{method}-{count}"
                name = f"{name}-L{len(division.labelled)}"
                trial = of.trial(name, seed, division)
                initial = None
                if method != "none":
                    labels = pseudo_labels(of, method, count, division.unlabelled, trial.folder / "proposals")
                    steps = {"train.finetune_steps": config.train.pretrain_steps}
                    on_proposals = replace(division, labelled=division.unlabelled)
                    before = of.trial(name, seed, on_proposals, labels, **steps)
                    f1["alone"].append(before.finetune("pretrain"))
                    initial = before.weights("pretrain")
                f1["tuned"].append(trial.finetune("finetune", initial))
            rows.append((method, count, *(spread(f1[key]) for key in ("alone", "tuned"))))
    head = ("pretrained on", "K", "pretrained alone: P / R / F1 ± sd", "fine-tuned: P / R / F1 ± sd")
    division = of.split(of.options.seeds[0], of.options.labelled)
    title = (
        f"{of.data.name}: {len(division.unlabelled)} unlabelled, {len(division.labelled)} labelled, "
        f"{len(division.test)} test micrographs, seeds {of.options.seeds}"
    )
    publish(of.folder / "table4.md", title, table(head, rows))


def pseudo_labels(of: Experiment, method: str, count: str, paths: Sequence[Path], folder: Path) -> Path:
    """Write proposals where labels are looked for."""
    for path, some in best(of, method, count, paths).items():
        particles = Particles.of(some[:, :2], diameter_px(of, path), 1.0)
        coordinates.write(folder / f"{plain(path)}.csv", particles, "csv")
    return folder


def spread(figures: Sequence[dict]) -> str:
    """Return means over seeds, and, if there are several, the standard deviation of F1."""
    if not figures:
        return "-"
    mean = [np.mean([one[key] for one in figures]) for key in ("precision", "recall", "f1")]
    text = " / ".join(f"{value:.3f}" for value in mean)
    return text if len(figures) == 1 else f"{text} ± {np.std([one['f1'] for one in figures], ddof=1):.3f}"


def possible(options: argparse.Namespace) -> list[str]:
    """Return the methods that can be run here; says which cannot."""
    chosen = list(options.method or METHODS)
    if shutil.which("relion_autopick") is None and "relion" in chosen:
        chosen.remove("relion")
        print("relion: relion_autopick is not here, left out", file=sys.stderr)
    if options.contrib is None:
        for method in [method for method in chosen if method.removesuffix("-sized") in CONTRIB]:
            chosen.remove(method)
            print(f"{method}: left out without --contrib, see opencv_proposals.py", file=sys.stderr)
    return chosen


def main() -> None:
    """Parse the options and do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, "runs/table4")
    parser.add_argument("--contrib", type=Path, help="a Python with opencv-contrib-python-headless")
    parser.add_argument("--method", action="append", choices=METHODS, help="default: all that can be run")
    parser.add_argument("--train", action="store_true", help="pretrain and fine-tune, too; takes hours")
    parser.add_argument("--labelled", type=int, default=2, help="micrographs to fine-tune on")
    parser.add_argument("--counts", type=lambda text: text.split(","), default=["50", "auto"], help="K of --train")
    options = parser.parse_args()
    methods = possible(options)
    for of in experiments(options):
        proposals(of, methods)
        if options.train:
            training(of, methods)


if __name__ == "__main__":
    main()
