"""RELION 3.1 on simulated micrographs: its LoG picker beside ours, and 2-D classes of our picks.

    python benchmarks/relion.py log     runs/simulated/sim-10025-full
    python benchmarks/relion.py classes runs/simulated/sim-10025-full --picks PICKS --threshold 0.4
    python benchmarks/relion.py truth   runs/simulated/sim-10025-full --picks PICKS --threshold 0.4 --map MAP.mrc

`log` runs ``relion_autopick --LoG`` with diameters around the true one. The shift of its threshold is the best of
several on the labelled TRAINING micrographs, the same that fine-tuning learns from; the test micrographs are picked
with it, and with RELION's default.

`classes` extracts the picks with UPicker, with boxes reduced to `--box` pixels, adds the defocus that the
simulation knows (as a program for CTF estimation would), and lets ``relion_refine`` sort them on the CPU; the
class averages are drawn by falling population (--drawing).

`truth` gives the picks that found a particle its true orientation, without any refinement, and lets
``relion_reconstruct`` make a map of each half; prints where their FSC, and that with the known map, falls below .143
and .5. It shows what the picks' centres are worth, not what a refinement would reach.

Needs the programs of Debian's package ``relion``. What is finished is not done again.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import maps
import mrcfile
import numpy as np
import sets
from matplotlib.figure import Figure

from upicker import scoring
from upicker.draw import style
from upicker.io import star
from upicker.io.atomic import replacing
from upicker.io.pairing import pair_folder
from upicker.io.sources import Source
from upicker.particles import Particles
from upicker.run.extract import Extracting, even, extract_all
from upicker.simulate.specimens import density
from upicker.units import Length

# Shifts of the LoG picker's threshold, in standard deviations of its scores; positive: fewer picks.
SHIFTS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
# LoG diameters, in true diameters: RELION's advice is a range somewhat around it.
SMALLEST, LARGEST = 0.85, 1.15
# Boxes and mask, in diameters.
BOX_DIAMETERS, MASK_DIAMETERS = 1.5, 1.25
ANGLES = ("_rlnAngleRot", "_rlnAngleTilt", "_rlnAnglePsi")
DEFOCUS = ("_rlnDefocusU", "_rlnDefocusV", "_rlnDefocusAngle")


def run(*command: object, log: Path) -> None:
    """Run a program of RELION; ends the program, naming its log, if it fails or is not there."""
    words = [str(word) for word in command]
    if shutil.which(words[0]) is None:
        sys.exit(f"{words[0]} is not here: install RELION 3.1 (on Debian and Ubuntu the package 'relion')")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(words, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        tail = re.split(r"[\r\n]+", log.read_text(encoding="utf-8", errors="replace"))[-12:]
        sys.exit(f"{words[0]} ended with {done.returncode}; see {log}:\n" + "\n".join(tail))


def write_star(path: Path, optics: dict[str, object], table: str) -> None:
    """Write a STAR file of RELION 3.1: one optics group, and a table of micrographs or particles."""
    head = star.format_table("optics", list(optics), [list(optics.values())])
    with replacing(path) as temporary:
        temporary.write_text(f"# version 30001\n\n{head}\n# version 30001\n\n{table}", encoding="utf-8")


# --- LoG picking


def log_pick(folder: sets.SetFolder, paths: Sequence[Path], target: Path, shift: float) -> tuple[Path, float]:
    """Pick some micrographs with RELION's LoG; return the folder of the STAR files, and seconds a micrograph."""
    clock = target / "seconds.json"
    if (before := sets.remembered(clock)) is not None and before["micrographs"] == len(paths):
        return target / "picks", before["each"]
    pixel_size_A = folder.pixel_size_A()
    diameter_A = folder.diameter_px() * pixel_size_A
    target.mkdir(parents=True, exist_ok=True)
    listing = target / "micrographs.star"
    size = {"_rlnMicrographPixelSize": pixel_size_A, "_rlnMicrographOriginalPixelSize": pixel_size_A}
    optics = {"_rlnOpticsGroup": 1, "_rlnOpticsGroupName": "opticsGroup1", **size, **sets.truth_optics(folder)}
    table = star.format_table(
        "micrographs", ["_rlnMicrographName", "_rlnOpticsGroup"], [[path.as_posix(), 1] for path in paths]
    )
    write_star(listing, optics, table)
    began = time.perf_counter()
    run(
        *("relion_autopick", "--i", listing, "--odir", f"{target / 'out'}/", "--pickname", "autopick"),
        *("--LoG", "--angpix", f"{pixel_size_A:.5f}", "--LoG_adjust_threshold", shift),
        *("--LoG_diam_min", f"{SMALLEST * diameter_A:.1f}", "--LoG_diam_max", f"{LARGEST * diameter_A:.1f}"),
        log=target / "autopick.log",
    )
    seconds = (time.perf_counter() - began) / len(paths)
    (target / "picks").mkdir(exist_ok=True)
    for file in sorted((target / "out").rglob("*_autopick.star")):
        shutil.copyfile(file, target / "picks" / file.name)
    sets.remember(clock, {"micrographs": len(paths), "each": seconds})
    return target / "picks", seconds


def log_picking(folder: sets.SetFolder, out: Path) -> None:
    """Choose the threshold's shift on labelled training micrographs, pick the test micrographs, print rows."""
    f1 = {}
    for shift in SHIFTS:
        picks, _ = log_pick(folder, folder.with_labels, out / f"training{shift:+.1f}", shift)
        f1[shift] = sets.scored(folder, folder.with_labels, picks).f1
    best = max(f1, key=lambda shift: f1[shift])
    print("F1 on labelled training micrographs by threshold: " + ", ".join(f"{s:+.1f}: {f:.3f}" for s, f in f1.items()))
    name, _, dose = folder.root.name.rpartition("-")
    print(sets.HEAD)
    for shift in dict.fromkeys((0.0, best)):
        picks, seconds = log_pick(folder, folder.test, out / f"test{shift:+.1f}", shift)
        numbers = sets.figures(sets.scored(folder, folder.test, picks))
        what = f"RELION 3.1 LoG, threshold {shift:+.1f}" + (" (best on training)" if shift == best else " (default)")
        print(sets.row((name, dose), what, {**numbers, "took": f"{seconds:.1f} a micrograph"}), flush=True)


# --- particles for RELION


def particles(folder: sets.SetFolder, options: argparse.Namespace) -> tuple[Path, float]:
    """Extract the picks, reduce the boxes, and write ``particles.star`` with all that RELION asks for.

    Returns
    -------
    Path, float
        The STAR file, and the reduced pixel size in Angstrom.
    """
    target = options.out / "particles.star"
    if target.exists():
        print(f"{target} is there, and taken as it is")
        optics = star.parse(target.read_text(encoding="utf-8"), target)[0]
        return target, float(optics.rows[0][optics.columns.index("_rlnImagePixelSize")])
    picks = pair_folder([*folder.training, *folder.test], options.picks).pairs
    optics, rows = boxes(folder, picks, options.out / "Extract" / "particles.star", options)
    for path in picks:
        _with_angles(folder, path, [words for words in rows if Path(words["_rlnMicrographName"]).stem == path.stem])
    write_particles(target, optics, rows)
    return target, float(optics["_rlnImagePixelSize"])


def boxes(
    folder: sets.SetFolder, picks: dict[Path, Source], target: Path, options: argparse.Namespace
) -> tuple[dict, list[dict]]:
    """Extract picks into boxes of `BOX_DIAMETERS`, reduced to `options.box` pixels, with the micrographs' mean defocus.

    Returns
    -------
    dict, list of dict
        The optics group, and for each particle column -> word, as RELION 3.1 asks for them.
    """
    raw_px = even(BOX_DIAMETERS * folder.diameter_px())
    box = min(even(options.box), raw_px)
    work = Extracting(picks, target, Length(raw_px, "px"), threshold=options.threshold, scale_px=box)
    for outcome in extract_all(list(picks), work, options.jobs):
        if outcome.error:
            sys.exit(str(outcome.error))
    group, listed = star.parse(target.read_text(encoding="utf-8"), target)
    rows: list[dict] = [dict(zip(listed.columns, words)) for words in listed.rows]
    for path in picks:
        truth = sets.truth_table(folder, path)
        defocus = {name: float(np.mean(truth[name])) for name in DEFOCUS}
        for words in rows:
            if Path(words["_rlnMicrographName"]).stem == path.stem:
                words.update(defocus)
    return {**dict(zip(group.columns, group.rows[0])), **sets.truth_optics(folder)}, rows


def write_particles(path: Path, optics: dict, rows: Sequence[dict]) -> None:
    """Write a STAR file of particles, one dict of column -> word each."""
    write_star(path, optics, star.format_table("particles", list(rows[0]), [list(words.values()) for words in rows]))


def _with_angles(folder: sets.SetFolder, path: Path, own: Sequence[dict]) -> None:
    """Add the true angles to those of a micrograph's picks that are a particle."""
    truth = sets.truth_table(folder, path)
    picks = Particles.of([(float(w["_rlnCoordinateX"]), float(w["_rlnCoordinateY"])) for w in own])
    labels = Particles.of(np.stack([truth["_rlnCoordinateX"], truth["_rlnCoordinateY"]], 1))
    for words, at in zip(own, scoring.match(picks, labels, folder.diameter_px()).label):
        words.update({name: float(truth[name][at]) if at >= 0 else 0.0 for name in ANGLES})
        # Subset 0, of false picks, takes part in no reconstruction.
        words["_rlnRandomSubset"] = 0 if at < 0 else 1 + at % 2


# --- 2-D classes


def classes(folder: sets.SetFolder, options: argparse.Namespace) -> None:
    """Classify the picks, and draw the averages."""
    source, pixel_size_A = particles(folder, options)
    diameter_A = folder.diameter_px() * folder.pixel_size_A()
    root = options.out / "Class2D" / "run"
    last = root.with_name(f"run_it{options.iterations:03d}_model.star")
    if not last.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        began = time.perf_counter()
        run(
            *("relion_refine", "--i", source, "--o", root, "--iter", options.iterations, "--K", options.classes),
            *("--ctf", "--tau2_fudge", 2, "--particle_diameter", f"{MASK_DIAMETERS * diameter_A:.1f}"),
            *("--flatten_solvent", "--zero_mask", "--norm", "--scale", "--oversampling", 1, "--psi_step", 12),
            *("--offset_range", 5, "--offset_step", 2, "--pad", 2, "--random_seed", options.seed),
            *("--j", options.jobs, "--pool", 30, "--preread_images", "--dont_combine_weights_via_disc"),
            log=options.out / "classes.log",
        )
        print(f"classification: {(time.perf_counter() - began) / 60:.1f} min")
    table = next(t for t in star.parse(last.read_text(encoding="utf-8"), last) if t.name == "model_classes")
    shares = [float(words[table.columns.index("_rlnClassDistribution")]) for words in table.rows]
    limits = [float(words[table.columns.index("_rlnEstimatedResolution")]) for words in table.rows]
    count = sum(len(t.rows) for t in star.parse(source.read_text(encoding="utf-8"), source) if t.name == "particles")
    order = [at for at in np.argsort(shares)[::-1] if shares[at] > 0]
    averages = np.atleast_3d(mrcfile.read(last.with_name(last.name.replace("_model.star", "_classes.mrcs"))))
    draw([(averages[at], f"{shares[at] * count:.0f}, {limits[at]:.0f} Å") for at in order], options.drawing)
    box = averages.shape[-1]
    print(f"{count} particles, box {box} px of {pixel_size_A:.2f} A, {len(order)} of {len(shares)} classes hold some")
    print("particles (resolution): " + ", ".join(f"{shares[at] * count:.0f} ({limits[at]:.1f} A)" for at in order))
    print(f"drawing: {options.drawing}")


def draw(tiles: list[tuple[np.ndarray, str]], path: Path, across: int = 6) -> None:
    """Draw class averages `(b, b)` in rows, each with its caption above."""
    down = -(-len(tiles) // across)
    figure = Figure((1.5 * min(across, len(tiles)), 1.75 * down), layout="constrained")
    axes = figure.subplots(down, min(across, len(tiles)), squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, (average, caption) in zip(axes, tiles):
        axis.imshow(average, cmap="gray", vmin=np.percentile(average, 1), vmax=np.percentile(average, 99.9))
        axis.set_title(caption, fontsize=9)
    style.save(figure, path)


# --- the true orientations


def reconstruct(folder: sets.SetFolder, options: argparse.Namespace) -> None:
    """Reconstruct both halves with the true angles; print the resolution."""
    source, pixel_size_A = particles(folder, options)
    halves = []
    for half in (1, 2):
        target = options.out / f"half{half}.mrc"
        if not target.exists():
            command = ("relion_reconstruct", "--i", source, "--o", target, "--ctf", "--sym", options.symmetry)
            run(*command, "--subset", half, log=options.out / f"half{half}.log")
        halves.append(mrcfile.read(target))
    mask = maps.ball(halves[0].shape[0], MASK_DIAMETERS * folder.diameter_px() * folder.pixel_size_A() / pixel_size_A)
    curve = maps.fsc(halves[0] * mask, halves[1] * mask)
    box_A = len(halves[0]) * pixel_size_A
    print(f"halves: FSC below .143 at {maps.crossing(curve, 0.143, box_A):.1f} A (Nyquist {2 * pixel_size_A:.1f} A)")
    if options.map:
        known, voxel_A = density.read(options.map)
        if known.shape != halves[0].shape:
            known = maps.resampled(known, voxel_A, len(halves[0]), pixel_size_A)
        against = maps.fsc((halves[0] + halves[1]) * mask, known * mask)
        print(f"known map: FSC below .5 at {maps.crossing(against, 0.5, box_A):.1f} A")


def main() -> None:
    """Parse the options and do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["log", "classes", "truth"])
    parser.add_argument("set", type=Path, help="the folder of a set that simulated_sets.py made")
    parser.add_argument("--picks", type=Path, help="classes, truth: a folder of picks (default: the truth itself)")
    parser.add_argument("--threshold", type=float, help="classes, truth: leave out picks with a lower score")
    parser.add_argument("--out", type=Path, help="default: relion-log, relion-particles in the set's folder")
    parser.add_argument("--box", type=int, default=64, help="side of the reduced boxes, pixels")
    parser.add_argument("--classes", type=int, default=12)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--drawing", type=Path, default=Path("docs/class2d.png"))
    parser.add_argument("--symmetry", default="C1", help="truth: e.g. D7, where the structure lies on RELION's axes")
    parser.add_argument("--map", type=Path, help="truth: the known map")
    parser.add_argument("--jobs", type=int, default=2, help="threads of relion_refine")
    parser.add_argument("--seed", type=int, default=1)
    sets.add_sizes(parser)
    options = parser.parse_args()
    folder = sets.open_set(options.set, options.training, options.test, options.labelled)
    if options.what == "log":
        log_picking(folder, options.out or folder.root / "relion-log")
        return
    options.picks = options.picks or folder.truth
    options.out = options.out or folder.root / "relion-particles"
    {"classes": classes, "truth": reconstruct}[options.what](folder, options)


if __name__ == "__main__":
    main()
