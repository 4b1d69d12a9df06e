"""The demo: from unlabelled pictures to particle stacks, on simulated micrographs with a known truth.

Each stage calls the function behind the command of the same name.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from upicker import draw
from upicker.config import Config
from upicker.io import coordinates, micrographs, mrc
from upicker.io.pairing import pair_folder
from upicker.pick.picker import Picker
from upicker.run import compare
from upicker.run.batch import Outcome
from upicker.run.extract import Extracting, extract_all
from upicker.run.outputs import Outputs, writable
from upicker.run.pick import Picking, pick_all
from upicker.run.propose import Proposing, propose_all
from upicker.scoring import Score
from upicker.simulate.contamination import Contamination
from upicker.simulate.microscope.detector import Detector
from upicker.simulate.placement import Placement
from upicker.simulate.scene import Scene, make
from upicker.train import stages
from upicker.train.job import Job
from upicker.train.log import Progress
from upicker.units import Length

# Barrels, a few rods that are not to be picked, and some ice that has fallen on them; seen by a camera whose pictures
# were reduced to a third of their size.
SCENE = Scene(
    specimens=("barrel",),
    diameter_A=150.0,
    placement=Placement(decoys=("rod",), decoy_share=0.1),
    contamination=Contamination.level("some"),
    detector=Detector(binning=3.0),
)
# What the demo changes, so that it ends within minutes on two cores.
CHANGES: dict[str, object] = {
    "train.pretrain_steps": 150,
    "train.finetune_steps": 200,
    "train.validate_every": 50,
}


@dataclass(frozen=True)
class Plan:
    """How much the demo does.

    Attributes
    ----------
    scene : the specimen and the microscope; its shape is replaced, its diameter is what the filter looks for.
    shapes : rows, columns of the micrographs, in turn.
    training : micrographs to learn from; all are pretrained on.
    labelled : how many of them have labels.
    testing : micrographs kept aside.
    box : side of the extracted boxes.
    changes : of the config.
    """

    scene: Scene = SCENE
    shapes: tuple[tuple[int, int], ...] = ((960, 1024), (1024, 880), (896, 1088))
    training: int = 8
    labelled: int = 2
    testing: int = 4
    box: Length = field(default_factory=lambda: Length(220, "A"))
    changes: dict[str, object] = field(default_factory=lambda: dict(CHANGES))


@dataclass(frozen=True)
class Result:
    """What the demo came to.

    Attributes
    ----------
    scores : dict
        Method (proposals, pretrained, fine-tuned) -> pooled score on the micrographs kept aside.
    seconds : dict
        Stage -> time taken.
    files : dict
        What it is -> where it lies.
    """

    scores: dict[str, Score]
    seconds: dict[str, float]
    files: dict[str, Path]


class Watch(Protocol):
    """Who looks on."""

    def stage(self, title: str) -> None:
        """A stage begins."""

    def training(self) -> Progress:
        """Return what is told of a training."""
        ...

    def follow(self, title: str, outcomes: Generator[Outcome, None, None], total: int, target: Path) -> int:
        """Go through a batch to its end."""
        ...


def demo(folder: Path, watch: Watch, plan: Plan | None = None) -> Result:
    """Simulate, propose, pretrain, fine-tune, pick, evaluate, extract.

    Parameters
    ----------
    folder : Path
        Where everything is written.
    watch : Watch
        Told of each stage.
    plan : Plan, optional
        How much to do.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    plan = plan or Plan()
    writable(folder)
    clock = _Clock(watch)
    config = Config().with_changes(plan.changes, "the demo")
    assert plan.scene.diameter_A is not None, "the filter needs a diameter"
    diameter = Length(plan.scene.diameter_A, "A")

    clock.start("simulate", f"Simulate {plan.training + plan.testing} micrographs")
    training, testing = _simulate(folder, plan)

    clock.start("propose", "Propose: no labels, no training")
    proposed = Outputs(folder / "proposed")
    watch.follow("proposed", propose_all(testing, Proposing(diameter, proposed, config)), len(testing), proposed.folder)

    clock.start("pretrain", f"Pretrain on {len(training)} micrographs without labels")
    pretrained = folder / "pretrained.safetensors"
    stages.pretrain(training, diameter, Job(pretrained, config, progress=watch.training()))

    clock.start("finetune", f"Fine-tune on {plan.labelled} labelled micrographs")
    model = folder / "model.safetensors"
    job = Job(model, config, progress=watch.training())
    stages.finetune(training[: plan.labelled], folder / "labels", job, pretrained)

    clock.start("pick", f"Pick the {len(testing)} micrographs kept aside")
    for weights, name in ((pretrained, "picked-pretrained"), (model, "picked")):
        work = Picking(Picker(weights), Outputs(folder / name, ("csv", "star")))
        watch.follow("picked", pick_all(testing, work, weights), len(testing), folder / name)

    clock.start("evaluate", "Evaluate against the known truth")
    methods = {"proposals": "proposed", "pretrained": "picked-pretrained", "fine-tuned": "picked"}
    found = {method: compare.load(folder / "truth", folder / name) for method, name in methods.items()}
    scores = {method: compare.scores(comparison)[1] for method, comparison in found.items()}
    curve, overlay = folder / "precision-recall.png", folder / "overlay.png"
    compare.plot(curve, found["fine-tuned"])
    picks, labels = found["fine-tuned"].pairs[testing[0].stem]
    draw.overlay(micrographs.read(testing[0]), picks, overlay, labels)

    clock.start("extract", "Extract the particles")
    star = folder / "particles.star"
    files = pair_folder(testing, folder / "picked").pairs
    boxes = extract_all(list(files), Extracting(files, star, plan.box))
    watch.follow("extracted", boxes, len(files), star)

    files = {
        "picks and truth": overlay,
        "precision and recall": curve,
        "training": folder / "model.png",
        "weights": model,
        "coordinates": folder / "picked",
        "particles": star,
    }
    return Result(scores, clock.stop(), files)


def _simulate(folder: Path, plan: Plan) -> tuple[list[Path], list[Path]]:
    """Write the micrographs, labels for the first of them and the truth of the last; return both kinds."""
    paths = []
    for index in range(plan.training + plan.testing):
        picture = make(replace(plan.scene, shape=plan.shapes[index % len(plan.shapes)]), index)
        path = folder / "micrographs" / f"{picture.micrograph.name}.mrc"
        mrc.write(path, picture.micrograph.pixels, picture.micrograph.pixel_size_A)
        paths.append(path)
        kind = "labels" if index < plan.labelled else "truth" if index >= plan.training else None
        if kind is not None:
            coordinates.write(coordinates.output_path(folder / kind, path.stem, "csv"), picture.particles, "csv")
    return paths[: plan.training], paths[plan.training :]


class _Clock:
    """Times the stages."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self._seconds = watch, dict[str, float]()
        self._name, self._began = "", 0.0

    def start(self, name: str, title: str) -> None:
        """End the stage under way, and begin another."""
        self.stop()
        self._watch.stage(title)
        self._name, self._began = name, time.monotonic()

    def stop(self) -> dict[str, float]:
        """End the stage under way; return the seconds of all stages."""
        if self._name:
            self._seconds[self._name] = time.monotonic() - self._began
        self._name = ""
        return self._seconds
