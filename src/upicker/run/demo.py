"""The demo: from micrographs to particle stacks, on simulated data with ground truth.

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
from upicker.pick import shipped
from upicker.pick.picker import Picker
from upicker.run import compare
from upicker.run.batch import Outcome
from upicker.run.extract import Extracting, extract_all
from upicker.run.find import find_all
from upicker.run.outputs import Outputs, writable
from upicker.run.pick import Picking
from upicker.run.propose import Proposing
from upicker.scoring import Score
from upicker.simulate.contamination import Contamination
from upicker.simulate.microscope.detector import Detector
from upicker.simulate.placement import Placement
from upicker.simulate.scene import Scene, make
from upicker.train import stages
from upicker.train.job import Job
from upicker.train.log import Progress
from upicker.units import Length

# Barrels, a few rods as decoys, and some ice contamination; the camera's images are binned by 3.
SCENE = Scene(
    specimens=("barrel",),
    diameter_A=150.0,
    placement=Placement(decoys=("rod",), decoy_share=0.1),
    contamination=Contamination.level("some"),
    detector=Detector(binning=3.0),
)
# Changes of the config, so that the demo takes minutes on two cores.
CHANGES: dict[str, object] = {
    "train.finetune_steps": 200,
    "train.validate_every": 50,
}


@dataclass(frozen=True)
class Plan:
    """The size of the demo.

    Attributes
    ----------
    scene : the specimen and the microscope; its shape is replaced, its diameter is what the filter looks for.
    shapes : rows, columns of the micrographs, in turn.
    training : micrographs for training, all of them labelled.
    testing : held-out micrographs.
    box : side of the extracted boxes.
    changes : of the config.
    general : weights in place of the general model.
    """

    scene: Scene = SCENE
    shapes: tuple[tuple[int, int], ...] = ((960, 1024), (1024, 880), (896, 1088))
    training: int = 2
    testing: int = 4
    box: Length = field(default_factory=lambda: Length(220, "A"))
    changes: dict[str, object] = field(default_factory=lambda: dict(CHANGES))
    general: Path | None = None


@dataclass(frozen=True)
class Result:
    """The results of the demo.

    Attributes
    ----------
    scores : dict
        Method (proposals, general model, fine-tuned) -> pooled score on the held-out micrographs.
    seconds : dict
        Stage -> time spent.
    files : dict
        Description -> path of each output.
    """

    scores: dict[str, Score]
    seconds: dict[str, float]
    files: dict[str, Path]


class Stages(Protocol):
    """Receives the progress of work in several stages."""

    def stage(self, title: str) -> None:
        """Begin a stage."""

    def training(self) -> Progress:
        """Return the receiver of a training's progress."""
        ...

    def follow(self, title: str, outcomes: Generator[Outcome, None, None], total: int, target: Path) -> int:
        """Consume the outcomes of a batch; return its exit code."""
        ...


def demo(folder: Path, watch: Stages, plan: Plan | None = None) -> Result:
    """Simulate, propose, pick with the general model, fine-tune it, pick again, evaluate, extract.

    Parameters
    ----------
    folder : Path
        The folder for all output.
    watch : Stages
        Receives progress.
    plan : Plan, optional
        The size of the demo.

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
    watch.follow("proposed", find_all(testing, Proposing(diameter, proposed, config)), len(testing), proposed.folder)

    def pick(weights: Path, name: str) -> None:
        work = Picking(Picker(weights), Outputs(folder / name, ("csv", "star")), diameter)
        watch.follow("picked", find_all(testing, work), len(testing), folder / name)

    general, model = plan.general or shipped.located(None), folder / "model.safetensors"
    clock.start("pick", f"Pick with {general.stem}: no labels, no training")
    pick(general, "picked-general")

    clock.start("finetune", f"Fine-tune it on {len(training)} labelled micrographs")
    stages.finetune(training, folder / "labels", Job(model, config, progress=watch.training()), general)

    clock.start("pick again", f"Pick the {len(testing)} held-out micrographs again")
    pick(model, "picked")

    clock.start("evaluate", "Evaluate against the ground truth")
    methods = {"proposals": "proposed", "general model": "picked-general", "fine-tuned": "picked"}
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
    """Write micrographs, with labels for the first ones and ground truth for the last; return training and test set."""
    paths = []
    for index in range(plan.training + plan.testing):
        simulated = make(replace(plan.scene, shape=plan.shapes[index % len(plan.shapes)]), index)
        path = folder / "micrographs" / f"{simulated.micrograph.name}.mrc"
        mrc.write(path, simulated.micrograph.pixels, simulated.micrograph.pixel_size_A)
        paths.append(path)
        kind = "labels" if index < plan.training else "truth"
        coordinates.write(coordinates.output_path(folder / kind, path.stem, "csv"), simulated.particles, "csv")
    return paths[: plan.training], paths[plan.training :]


class _Clock:
    """Times the stages."""

    def __init__(self, watch: Stages) -> None:
        self._watch, self._seconds = watch, dict[str, float]()
        self._name, self._began = "", 0.0

    def start(self, name: str, title: str) -> None:
        """End the current stage, and begin another."""
        self.stop()
        self._watch.stage(title)
        self._name, self._began = name, time.monotonic()

    def stop(self) -> dict[str, float]:
        """End the current stage; return the seconds of all stages."""
        if self._name:
            self._seconds[self._name] = time.monotonic() - self._began
        self._name = ""
        return self._seconds
