"""The programs that `peers.py` compares: how each is trained, picks, and has its threshold chosen.

Every program picks the labelled micrographs on which its threshold is chosen (`peers_data.CHOSEN_ON`), and then the
test micrographs, each time as a whole process on one thread. A micrograph costs the difference by their number.

Weights lie in ``OUT/SET/weights`` under names that say what they learned from, and beside each a JSON file that says
what its training took; what is there is not trained again.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import sets
import speed
from peers_data import DataSet, Picks
from relion import SHIFTS
from speed import ROOT, Cost, Program, measured

from upicker import scoring
from upicker.config import Config
from upicker.io import coordinates, folders
from upicker.pick import shipped

# Topaz's networks see 71 pixels, and its guides reduce particles to about this many pixels (EMPIAR-10025: 16 times).
TOPAZ_DIAMETER_PX = 13.5
# Topaz keeps one pick within a radius; tried, in radii of the particle.
TOPAZ_RADII = (1.0, 1.5)
# A few particles lack a label even where an expert labelled all: what Topaz is told to expect, as a multiple of the
# labels. With no more than the labels it takes all else for background.
TOPAZ_EXPECTED = 1.1
# Tried as the middle of RELION's range of diameters, in diameters.
RELION_SIZES = (0.8, 1.0, 1.3)
# As RELION's window calls it.
LOG = ("--shrink", "0", "--lowpass", "20")
# In place of torchvision, of which Topaz needs no more, and which does not load beside every torch.
SHIM = """
import math
from torch import tensor
from torch.nn.functional import affine_grid, grid_sample


def rotate(image, angle):
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = tensor([[[c, s, 0.0], [-s, c, 0.0]]], dtype=image.dtype)
    grid = affine_grid(turn, [1, *image.shape], align_corners=False)
    return grid_sample(image[None], grid, mode="nearest", align_corners=False)[0]


def hflip(image):
    return image.flip(-1)


def vflip(image):
    return image.flip(-2)
"""


@dataclass(frozen=True)
class Tools:
    """What was asked for.

    Attributes
    ----------
    topaz : str
        The program.
    updates : int
        Steps of Topaz's training.
    seed : int
        Of our trainings; Topaz takes none.
    published : mapping of str to Path
        Set -> a folder of published picks.
    """

    topaz: str
    updates: int
    seed: int
    published: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a program found in the test micrographs.

    Attributes
    ----------
    all_picks : mapping of str to Particles
        Down to the lowest scores, for curves.
    picks : mapping of str to Particles
        Those that the chosen threshold is applied to: the same, but where the threshold is told to the program.
    threshold : float
        The lowest score among `picks` that is kept.
    chosen : str
        How it was chosen.
    cost : dict
        Of a micrograph (``cpu_s``, ``wall_s``), the start (``start_cpu_s``) and the largest process (``peak_GB``).
    model_bytes : int
        Size of the weights; 0: there are none.
    training : dict
        What the training took.
    """

    all_picks: Picks
    picks: Picks
    threshold: float
    chosen: str
    cost: dict[str, float] = field(default_factory=dict)
    model_bytes: int = 0
    training: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A line of the table: its file, its title, its number of labelled micrographs, why it cannot be had, if so."""

    key: str
    title: str
    labelled: int
    run: Callable[[DataSet, Path], Outcome]
    missing: Callable[[DataSet], str] = lambda of: ""


def commit() -> str:
    """Return the commit of this checkout."""
    words = ["git", "-C", ROOT, "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def picked(of: DataSet, program: Program, test: bool, folder: Path) -> tuple[Picks, Cost]:
    """Let a program pick the test micrographs, or those that a threshold is chosen on."""
    paths = [of.as_mrc(path) for path in (of.test if test else of.chosen_on)]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as text:
        work = Path(text)
        cost = measured(program.commands(paths, work), program.environment, work)
        return program.picks(work), cost


def cost_of(of: DataSet, few: Cost, many: Cost) -> dict[str, float]:
    """Return what a micrograph costs, from what those that a threshold is chosen on and the test ones took together."""
    more = len(of.test) - len(of.chosen_on)
    cpu, wall = (many.cpu_s - few.cpu_s) / more, (many.wall_s - few.wall_s) / more
    start = max(few.cpu_s - cpu * len(of.chosen_on), 0.0)
    return {"cpu_s": cpu, "wall_s": wall, "start_cpu_s": start, "peak_GB": many.peak_GB}


def run_program(of: DataSet, program: Program, folder: Path, stored: float | None = None) -> Outcome:
    """Pick, and take the threshold that is stored with the weights, or the best on labelled micrographs."""
    learned, few = picked(of, program, False, folder)
    found, many = picked(of, program, True, folder)
    threshold, how = (of.best_threshold(learned), "best on labelled") if stored is None else (stored, "stored")
    return Outcome(found, found, threshold, how, cost_of(of, few, many))


# --- RELION


def relion_log(of: DataSet, folder: Path) -> Outcome:
    """RELION's LoG; its diameters, and then its threshold, are the best of a grid."""

    def program(size: float, shift: float) -> Program:
        units = {"diameter_px": size * of.diameter_px, "pixel_size_A": of.pixel_size_A}
        return speed.relion("RELION LoG", *LOG, "--LoG_adjust_threshold", f"{shift:g}", **units)

    def learned(size: float, shift: float) -> tuple[scoring.Score, Cost]:
        picks, cost = picked(of, program(size, shift), False, folder)
        return scoring.score(of.pairs(picks, of.chosen_on), of.diameter_px), cost

    size = max(RELION_SIZES, key=lambda size: learned(size, min(SHIFTS))[0].best_f1)
    grid = {shift: learned(size, shift) for shift in SHIFTS}
    best = max(grid, key=lambda shift: grid[shift][0].f1)
    everything, _ = picked(of, program(size, min(SHIFTS)), True, folder)
    found, many = picked(of, program(size, best), True, folder)
    how = f"diameters x {size:g}, shift {best:+g}: best of a grid on labelled"
    return Outcome(everything, found, float("-inf"), how, cost_of(of, grid[best][1], many))


# --- Topaz


def topaz_environment(tools: Tools, folder: Path) -> dict[str, str]:
    """Return variables with which Topaz runs, with a stand-in for torchvision where there is no whole one."""
    python = Path(tools.topaz).with_name("python")
    check = "from torchvision.transforms.functional import rotate; assert rotate"
    if python.exists() and subprocess.run([python, "-c", check], capture_output=True, check=False).returncode:
        package = folder / "shim" / "torchvision"
        (package / "transforms").mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").write_text("import torchvision.transforms\n")
        (package / "transforms" / "__init__.py").write_text("from torchvision.transforms import functional\n")
        (package / "transforms" / "functional.py").write_text(SHIM)
        return {"PYTHONPATH": str(package.parent.resolve())}
    return {"PYTHONPATH": ""}


def topaz(of: DataSet, folder: Path, tools: Tools, labelled: int) -> Outcome:
    """Topaz: its general model, or one that it trains on labels, from its own pretrained weights as by default."""
    scale = max(1, round(of.diameter_px / TOPAZ_DIAMETER_PX))
    environment = topaz_environment(tools, of.folder)
    model, training = topaz_trained(of, tools, labelled, scale, environment) if labelled else (None, {})
    grid = {}
    for factor in TOPAZ_RADII:
        radius = max(1, round(factor * of.diameter_px / scale / 2))
        program = speed.topaz(Path(tools.topaz), model, scale, radius, of.diameter_px)
        program = dataclasses.replace(program, environment=environment)
        learned, few = picked(of, program, False, folder)
        score = scoring.score(of.pairs(learned, of.chosen_on), of.diameter_px)
        grid[score.best_f1] = program, few, score.best_threshold, f"best on labelled, radius {radius} of {scale}-fold"
    program, few, threshold, how = grid[max(grid)]
    found, many = picked(of, program, True, folder)
    size = (model or topaz_shipped(tools)).stat().st_size
    return Outcome(found, found, threshold, how, cost_of(of, few, many), size, training)


def topaz_shipped(tools: Tools) -> Path:
    """Return the file of Topaz's general model."""
    found = Path(tools.topaz).parents[1].glob("lib/python*/site-packages/topaz/pretrained/detector/resnet16_u64.sav")
    return next(found)


def topaz_trained(
    of: DataSet, tools: Tools, labelled: int, scale: int, environment: dict[str, str]
) -> tuple[Path, dict]:
    """Train Topaz's resnet8 on the labels of the first micrographs; return the weights and what that took."""
    learn = of.train[:labelled]
    target = of.folder / "weights" / f"topaz-resnet8-{len(learn)}labelled-{tools.updates}updates.sav"
    about = target.with_suffix(".json")
    if target.exists() and (before := sets.remembered(about)) is not None:
        return target.resolve(), before
    target.parent.mkdir(parents=True, exist_ok=True)
    labels = {path.stem: of.truth(path).xy / scale for path in learn}
    expected = TOPAZ_EXPECTED * sum(map(len, labels.values())) / len(labels)
    with tempfile.TemporaryDirectory(dir=target.parent) as text:
        work = Path(text)
        rows = [f"{stem}\t{round(x)}\t{round(y)}\n" for stem, xy in labels.items() for x, y in xy]
        (work / "targets.txt").write_text("image_name\tx_coord\ty_coord\n" + "".join(rows))
        train = ["train", "--train-images", "small", "--train-targets", "targets.txt", "-n", f"{expected:.0f}"]
        train += ["-m", "resnet8", "-d", "-1", "-j", "1", "--epoch-size", str(tools.updates), "--num-epochs", "1"]
        train += ["--save-prefix", "model", "-o", "curve.txt"]
        preprocess = speed.topaz_preprocess(Path(tools.topaz), scale, [of.as_mrc(path) for path in learn])
        cost = measured([preprocess, [tools.topaz, *train]], environment, work)
        shutil.move(next(work.glob("model_epoch*.sav")), target)
    took = {"steps": tools.updates, "cpu_s": cost.cpu_s, "wall_s": cost.wall_s, "expected": expected, "scale": scale}
    return target.resolve(), sets.remember(about, {**took, "learned_from": [path.name for path in learn]})


# --- ours


def proposals(of: DataSet, folder: Path) -> Outcome:
    """A-LoG and template, without a network."""
    words = ["propose", "--diameter", f"{of.diameter_px:g}px", "--jobs", "1", "--set", "propose.top_k=all"]
    return run_program(of, speed.ours("proposals", ROOT / "src", words, 0.0), folder)


def ours(of: DataSet, folder: Path, model: Path, training: dict | None = None) -> Outcome:
    """`upicker pick` with weights, and the threshold that is stored with them."""
    from upicker.pick.picker import Picker  # torch takes seconds

    words = ["pick", "--model", str(model.resolve()), "--diameter", f"{of.diameter_px:g}px", "--jobs", "1"]
    program = speed.ours("ours", ROOT / "src", [*words, "--set", "train.threads=1", *speed.THRESHOLDS], 0.0)
    stored, size = Picker(model).threshold, model.stat().st_size
    outcome = run_program(of, program, folder, stored)
    return dataclasses.replace(outcome, model_bytes=size, training=training or {})


def trained(of: DataSet, folder: Path, tools: Tools, labelled: int) -> Outcome:
    """Ours, trained from the general model: on labels or, with none of them, on all micrographs' proposals."""
    from upicker.train import stages
    from upicker.train.job import Job

    what = f"{min(labelled, len(of.train))}labelled" if labelled else "pretrained"
    model = of.folder / "weights" / f"ours-general-1-{what}-seed{tools.seed}.safetensors"
    about = model.with_suffix(".json")
    if not model.exists() or sets.remembered(about) is None:
        job = Job(model, Config().with_changes({"train.seed": tools.seed, "train.threads": 1}), resume=True)
        start, paths, began = shipped.path_of(shipped.DEFAULT), [*of.train, *of.test], time.process_time()
        if labelled:
            result = stages.finetune(of.train[:labelled], of.labels, job, start, of.diameter)
        else:
            result = stages.pretrain(paths, of.diameter, job, start)
        cpu_s = time.process_time() - began
        sets.remember(about, {"steps": result.steps, "cpu_s": cpu_s, "wall_s": result.seconds, "commit": commit()})
    return ours(of, folder, model, sets.remembered(about))


# --- published picks


def published(of: DataSet, tools: Tools) -> Outcome:
    """Picks that others published, as they are."""
    picks = {name: coordinates.read(file) for name, file in folders.stems(tools.published[of.name]).items()}
    return Outcome(picks, picks, float("-inf"), "as published")


def methods(tools: Tools) -> list[Method]:
    """Return all lines of the table, in its order."""
    general = shipped.path_of(shipped.DEFAULT)
    no_relion = "" if shutil.which("relion_autopick") else "not installed"
    no_topaz = "" if shutil.which(tools.topaz) else "not installed"

    def no_picks(of: DataSet) -> str:
        return "" if of.name in tools.published else "no published picks of these micrographs at hand"

    some = [
        Method("relion", "RELION 3.1.3, LoG", 0, relion_log, lambda of: no_relion),
        Method("cryolo", "crYOLO, published picks", 0, lambda of, _: published(of, tools), no_picks),
        Method("topaz-general", "Topaz 0.3.20, general model", 0, lambda of, at: topaz(of, at, tools, 0)),
        Method("topaz-2", "Topaz 0.3.20, trained", 2, lambda of, at: topaz(of, at, tools, 2)),
        Method("topaz-8", "Topaz 0.3.20, trained", 8, lambda of, at: topaz(of, at, tools, 8)),
        Method("proposals", "UPicker, proposals", 0, proposals),
        Method("general", "UPicker, general model", 0, lambda of, at: ours(of, at, general)),
        Method("pretrained", "UPicker, pretrained", 0, lambda of, at: trained(of, at, tools, 0)),
        Method("ours-2", "UPicker, fine-tuned", 2, lambda of, at: trained(of, at, tools, 2)),
        Method("ours-8", "UPicker, fine-tuned", 8, lambda of, at: trained(of, at, tools, 8)),
    ]
    return [dataclasses.replace(m, missing=lambda of: no_topaz) if m.key.startswith("topaz") else m for m in some]
