"""From picks to a map: what RELION makes of the picks of several pickers, on simulated noisy micrographs.

    python benchmarks/reconstruct.py                          both specimens, all pickers; hours on one core
    python benchmarks/reconstruct.py --specimen sim-10025 --picker truth --picker log --symmetry D7
    python benchmarks/reconstruct.py --tables                 only what is finished: tables and drawings

One part after the other, each kept in OUT/SPECIMEN, so that what is finished is not done again:

1. ``upicker simulate``: two micrographs to train on, the others to test on.
2. picks of the test micrographs by `PICKERS`: the truth, ours (proposals, the general model, the general model
   fine-tuned on the two), RELION's LoG. Where a picker has no threshold of its own, that of the best F1 on the two.
3. ``upicker extract``: boxes of 1.5 diameters reduced to 64 px; defocus from the simulation, as CTF estimation would.
4. ``relion_refine``: 2-D classes; classes are kept by one rule for all pickers (`chosen`), which sees no truth.
5. ``relion_refine_mpi``: 3-D refinement of what is kept with gold-standard halves, twice from the true map low-passed
   to 40 A: over all orientations, then around those found. With each symmetry, and with shares drawn at random.

Resolutions are those of the unfiltered halves (FSC .143) and of their mean and the true map (FSC .5), within one soft
mask around the true map. Junk: particles with no true one within half a radius. One run of each, seed 7.

Needs the programs of Debian's packages ``relion`` and ``openmpi-bin``.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import maps
import mrcfile
import numpy as np
import reconstruct_tables
import relion
import sets
from scipy.spatial import KDTree

from upicker.io import coordinates, star
from upicker.io.atomic import replacing
from upicker.io.pairing import pair_folder
from upicker.simulate.specimens import specimen
from upicker.simulate.specimens.volume import Volume

PICKERS = {
    "truth": "truth",
    "finetuned": "UPicker, 2 labelled",
    "general": "UPicker, no label",
    "proposals": "UPicker's proposals",
    "log": "RELION's LoG",
}
TRAINING, SHARES = 2, (100, 50, 25)
CLASSES, ITERATIONS = 6, 12
# A class is kept if its resolution is at most this many times that of the best one, and it is large enough.
WORST_RESOLUTION, SMALLEST_CLASS = 1.5, 0.25
START_A = 40
# Iterations of a refinement over all orientations, before those around the ones found.
COARSE = 4


@dataclass(frozen=True)
class Case:
    """A specimen, how it is simulated, and its symmetries, the true one first."""

    structure: str
    simulate: str
    symmetries: tuple[str, ...]
    test: int


CASES = {
    "sim-10025": Case("3j9i.pdb.gz", "--preset sim-10025 --dose 2 --contamination some", ("D7", "C1"), 4),
    "channel": Case(
        "5gjv.mrc.gz", "--pixel-size 1.34A --shape 3838x3838 --particles 135 --dose 4 --contamination some", ("C1",), 4
    ),
}


@dataclass(frozen=True)
class Work:
    """One specimen's folder, and the options of the command line."""

    name: str
    options: argparse.Namespace

    @property
    def case(self) -> Case:
        """What is simulated."""
        return CASES[self.name]

    @property
    def root(self) -> Path:
        """Where all is kept."""
        return self.options.out.resolve() / self.name

    @property
    def structure(self) -> Path:
        """The file of atoms or the map."""
        return self.options.structures.resolve() / self.case.structure

    def boxes(self, picker: str) -> Path:
        """Return the folder of a picker's boxes, classes and maps."""
        return self.root / "boxes" / picker

    def folder(self) -> sets.SetFolder:
        """Return the simulated set."""
        return sets.open_set(self.root, TRAINING, self.case.test, TRAINING)


def upicker(log: Path, *words: object) -> None:
    """Run a command of UPicker; ends the program, naming its log, if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "upicker", *map(str, words)]
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"{shlex.join(command[1:])} ended with {done.returncode}; see {log}")


def once(marker: Path, action: Callable[[], dict]) -> dict:
    """Return the figures of a part that is finished, or do it, and keep its figures and seconds."""
    if (before := sets.remembered(marker)) is not None:
        return before
    began = time.perf_counter()
    found = action()
    seconds = round(time.perf_counter() - began, 1)
    print(f"{marker}: {seconds:.0f} s {found}", flush=True)
    return sets.remember(marker, {**found, "seconds": seconds})


# --- micrographs, picks, boxes


def simulate(work: Work) -> dict:
    """Simulate the micrographs."""
    how = (*shlex.split(work.case.simulate), "--micrographs", TRAINING + work.case.test)
    where = ("-o", work.root, "--seed", work.options.seed, "--jobs", work.options.jobs, "--skip-existing")
    upicker(work.root / "simulate.log", "simulate", work.structure, *how, *where)
    return {}


def pick(work: Work, picker: str) -> dict:
    """Pick all micrographs; return the picks' folder, their threshold, and the figures on the test ones."""
    folder, target = work.folder(), work.root / "picks" / picker
    size = f"{folder.diameter_px() * folder.pixel_size_A():.2f}A"
    micrographs = work.root / "micrographs"
    log, own = target.with_suffix(".log"), None
    if picker == "truth":
        target, own = folder.truth, -np.inf
    elif picker == "log":
        target, _ = relion.log_pick(folder, [*folder.training, *folder.test], target, 0.0)
    elif picker == "proposals":
        upicker(log, "propose", micrographs, "--diameter", size, "-o", target, "--set", "propose.top_k=all")
    else:
        model = ("--model", finetune(work, size)) if picker == "finetuned" else ()
        upicker(log, "pick", micrographs, "--diameter", size, "-o", target, *model, "--skip-existing")
        own = -np.inf
    threshold = sets.scored(folder, folder.with_labels, target).best_threshold if own is None else own
    figures = sets.figures(sets.scored(folder, folder.test, target, threshold))
    return {"folder": str(target), "threshold": float(max(threshold, -1e9)), **figures}


def finetune(work: Work, size: str) -> Path:
    """Fine-tune the general model on the two training micrographs."""
    model = work.root / "finetuned.safetensors"
    how = ("--set", f"train.finetune_steps={work.options.steps}", "--set", f"train.seed={work.options.seed}")
    names = (*work.folder().training, "--labels", work.folder().truth, "--diameter", size)
    if not model.exists():
        upicker(model.with_suffix(".log"), "finetune", *names, "-o", model, *how)
    return model


def extract(work: Work, picker: str, picked: dict) -> dict:
    """Cut out the boxes of the test micrographs."""
    target = work.boxes(picker)
    options = argparse.Namespace(box=work.options.box, threshold=picked["threshold"], jobs=work.options.jobs)
    pairs = pair_folder(work.folder().test, Path(picked["folder"])).pairs
    optics, rows = relion.boxes(work.folder(), pairs, target / "Extract" / "particles.star", options)
    relion.write_particles(target / "particles.star", optics, rows)
    return {"boxes": len(rows), **junk(work, rows), "pixel_size_A": float(optics["_rlnImagePixelSize"])}


def junk(work: Work, rows: list[dict]) -> dict:
    """Return the share of particles with no true one within half a radius, and of how many true ones there is one."""
    folder, false, found = work.folder(), 0, 0
    for path in folder.test:
        own = [words for words in rows if Path(words["_rlnMicrographName"]).stem == path.stem]
        if own:
            at = [(float(words["_rlnCoordinateX"]), float(words["_rlnCoordinateY"])) for words in own]
            away, nearest = KDTree(coordinates.read(folder.truth / f"{path.stem}.csv").xy).query(at)
            right = np.asarray(away) <= folder.diameter_px() / 4
            false += int((~right).sum())
            found += len(np.unique(np.asarray(nearest)[right]))
    return {"junk": false / max(len(rows), 1), "true_particles": found}


# --- classes


def particles(path: Path) -> tuple[dict, list[dict]]:
    """Read optics and particles of a STAR file."""
    tables = {table.name: table for table in star.parse(path.read_text(encoding="utf-8"), path)}
    group, listed = tables["optics"], tables["particles"]
    return dict(zip(group.columns, group.rows[0])), [dict(zip(listed.columns, words)) for words in listed.rows]


def common(work: Work) -> tuple[object, ...]:
    """Return the options that classification and refinement share."""
    diameter_A = work.folder().diameter_px() * work.folder().pixel_size_A()
    return (
        *("--ctf", "--particle_diameter", f"{relion.MASK_DIAMETERS * diameter_A:.1f}", "--flatten_solvent"),
        *("--zero_mask", "--norm", "--scale", "--oversampling", 1, "--offset_range", 5, "--offset_step", 2),
        *("--pad", 1, "--maxsig", 200, "--j", 1, "--pool", 30, "--preread_images", "--dont_combine_weights_via_disc"),
        *("--random_seed", work.options.seed),
    )


def classify(work: Work, picker: str) -> dict:
    """Sort particles into 2-D classes, and keep those of the chosen ones in ``kept.star``."""
    target = work.boxes(picker)
    root = target / "Class2D" / "run"
    last = root.with_name(f"run_it{ITERATIONS:03d}_data.star")
    if not last.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        relion.run(
            *("relion_refine", "--i", target / "particles.star", "--o", root, "--iter", ITERATIONS, "--K", CLASSES),
            *("--tau2_fudge", 2, "--psi_step", 12, *common(work)),
            log=target / "classes.log",
        )
    optics, rows = particles(target / "particles.star")
    of = {words["_rlnImageName"]: int(words["_rlnClassNumber"]) for words in particles(last)[1]}
    kept = chosen(last.with_name(last.name.replace("_data", "_model")))
    rows = [words for words in rows if of[words["_rlnImageName"]] in kept]
    relion.write_particles(target / "kept.star", optics, rows)
    return {"kept": len(rows), "classes": sorted(kept), **junk(work, rows)}


def chosen(model: Path) -> set[int]:
    """Return the classes that are kept, counted from 1: resolution near the best one's, and enough particles.

    At most `WORST_RESOLUTION` times the resolution of the best class of those large enough, and at least
    `SMALLEST_CLASS` times an equal share of the particles.
    """
    tables = star.parse(model.read_text(encoding="utf-8"), model)
    table = next(one for one in tables if one.name == "model_classes")
    columns = ("_rlnClassDistribution", "_rlnEstimatedResolution")
    shares, limits = (np.array([float(row[table.columns.index(name)]) for row in table.rows]) for name in columns)
    large = shares >= SMALLEST_CLASS / len(shares)
    return {int(at) + 1 for at in np.flatnonzero(large & (limits <= WORST_RESOLUTION * limits[large].min()))}


# --- maps


def reference(work: Work, pixel_size_A: float) -> Path:
    """Write the true map on the grid of the boxes, its axes of symmetry where RELION expects them."""
    target = work.root / "reference.mrc"
    if not target.exists():
        known = specimen.load(work.structure)
        assert isinstance(known, Volume)
        rotation = maps.on_axes(known.density_V, work.case.symmetries[0])
        grid = maps.resampled(known.density_V, known.voxel_size_A, work.options.box, pixel_size_A, rotation)
        with replacing(target) as temporary, mrcfile.new(temporary, overwrite=True) as file:
            file.set_data(grid)
            file.voxel_size = pixel_size_A
    return target


def refine(work: Work, picker: str, symmetry: str, share: int, pixel_size_A: float) -> dict:
    """Refine a share of the kept particles: some iterations over all orientations, then around those found.

    RELION alone decides by chance in an early iteration whether 7.5 degrees are fine enough; with a second run that
    begins at 1.9 degrees, the particles of all pickers are refined equally finely.
    """
    target, known = work.boxes(picker) / f"{symmetry}-{share}", reference(work, pixel_size_A)
    optics, rows = particles(work.boxes(picker) / "kept.star")
    drawn = np.random.default_rng(work.options.seed).permutation(len(rows))[: round(len(rows) * share / 100)]
    start, coarse = target / "particles.star", target / "coarse" / "run"
    relion.write_particles(start, optics, [rows[at] for at in sorted(drawn)])
    command = (
        *("mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", 3, "relion_refine_mpi"),
        *("--auto_refine", "--split_random_halves", "--ref", known, "--firstiter_cc", "--ini_high", START_A),
        *("--low_resol_join_halves", START_A, "--sym", symmetry, *common(work)),
    )
    found = coarse.with_name(f"run_it{COARSE:03d}_data.star")
    if not found.exists():
        how = ("--healpix_order", 2, "--auto_iter_max", COARSE)
        relion.run(*command, "--i", start, "--o", coarse, *how, log=coarse.with_suffix(".log"))
    if not all(half.exists() for half in reconstruct_tables.halves(target)):
        how = ("--healpix_order", 4, "--auto_local_healpix_order", 4)
        relion.run(*command, "--i", found, "--o", target / "run", *how, log=target / "refine.log")
    return {"particles": len(drawn)}


def everything(work: Work) -> None:
    """Do what is not done yet: all pickers' particles with the true symmetry, then shares of them, then C1."""
    options = work.options
    once(work.root / "simulate.json", lambda: simulate(work))
    pixels = {}
    for picker in options.picker or PICKERS:
        picked = once(work.root / f"{picker}-picks.json", lambda picker=picker: pick(work, picker))
        cut = once(
            work.root / f"{picker}-boxes.json", lambda picker=picker, picked=picked: extract(work, picker, picked)
        )
        once(work.root / f"{picker}-classes.json", lambda picker=picker: classify(work, picker))
        pixels[picker] = cut["pixel_size_A"]
        refined(work, picker, work.case.symmetries[0], 100, cut["pixel_size_A"])
    own, *others = work.case.symmetries
    wanted = [(own, share) for share in options.share or SHARES] + [(symmetry, 100) for symmetry in others]
    for symmetry, share in wanted:
        for picker, pixel_size_A in pixels.items():
            if symmetry in (options.symmetry or work.case.symmetries):
                refined(work, picker, symmetry, share, pixel_size_A)


def refined(work: Work, picker: str, symmetry: str, share: int, pixel_size_A: float) -> None:
    """Refine, unless it is done."""
    marker = work.root / f"{picker}-{symmetry}-{share}.json"
    once(marker, lambda: refine(work, picker, symmetry, share, pixel_size_A))


def main() -> None:
    """Parse the options and do what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structures", type=Path, default=Path("../shared/structures"))
    parser.add_argument("--out", type=Path, default=Path("runs/reconstruct"))
    parser.add_argument("--specimen", action="append", choices=list(CASES), help="default: all")
    parser.add_argument("--picker", action="append", choices=list(PICKERS), help="default: all")
    parser.add_argument("--symmetry", action="append", help="default: the specimen's own, and C1 with all particles")
    parser.add_argument("--share", action="append", type=int, help=f"of the particles, per cent; default: {SHARES}")
    parser.add_argument("--steps", type=int, default=200, help="of fine-tuning")
    parser.add_argument("--box", type=int, default=64, help="side of the reduced boxes, pixels")
    parser.add_argument("--jobs", type=int, default=1, help="processes of UPicker")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--tables", action="store_true", help="compute nothing; only tables and drawings")
    parser.add_argument("--drawings", type=Path, default=Path("docs"), help="folder of the drawings")
    options = parser.parse_args()
    roots = {}
    for name in options.specimen or CASES:
        work = Work(name, options)
        roots[name] = work.root
        if not options.tables:
            everything(work)
    reconstruct_tables.publish(roots, PICKERS, {name: CASES[name].symmetries for name in roots}, options.drawings)


if __name__ == "__main__":
    main()
