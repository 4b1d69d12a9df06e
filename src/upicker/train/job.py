"""What a stage of training is given, and its result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from upicker.config import Config
from upicker.errors import UPickerWarning
from upicker.io.lock import lock
from upicker.io.micrographs import Reading
from upicker.io.sources import Source
from upicker.train.log import Progress, Silent
from upicker.train.ranks import SINGLE_PROCESS, Ranks


@dataclass
class StageResult:
    """The result of a stage.

    Attributes
    ----------
    path : Path
        The weights file.
    steps : int
        Steps done in total.
    seconds : float
        Training time.
    f1, precision, recall, threshold : float or None
        Metrics of the best validation (pretraining: against proposals).
    estimated : bool
        Whether precision and F1 are estimated upper bounds, because no validation labels are complete.
    stopped_early : bool
        Whether validation stopped the training.
    was_complete : bool
        Whether the training had been completed before, so that nothing was done; steps and seconds are then read from
        the log, 0 without it.
    trained_on : int
        Number of micrographs that were trained on.
    skipped : list of (Path, str)
        Unusable micrographs or label files, each with the reason.
    unused : list of Path or Part
        Micrographs without labels, and labels without a micrograph.
    warnings : list of UPickerWarning
        Warnings about micrographs that were used.
    skipped_steps : int
        Steps whose gradient was not finite, and which changed no weight.
    margin : float
        Distance from the edge that picks keep, in particle diameters: that of the labels, less the error of a centre;
        0: no margin.
    pseudo_labels : str
        What pretraining took for labels, in words.
    """

    path: Path
    steps: int = 0
    seconds: float = 0.0
    f1: float | None = None
    precision: float | None = None
    recall: float | None = None
    threshold: float | None = None
    estimated: bool = False
    stopped_early: bool = False
    was_complete: bool = False
    trained_on: int = 0
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    unused: list[Source] = field(default_factory=list)
    warnings: list[UPickerWarning] = field(default_factory=list)
    skipped_steps: int = 0
    margin: float = 0.0
    pseudo_labels: str = "proposals"


@dataclass(frozen=True)
class Job:
    """What all stages are given.

    Attributes
    ----------
    output : Path
        The weights file to write.
    config : Config
        All knobs.
    reading : Reading
        Pixel sizes that override the micrographs' headers, and the gain reference.
    resume : bool
        Continue from the checkpoint, if there is one; do nothing if this training is complete.
    progress : Progress
        The progress display.
    backbone_weights : str or None
        ImageNet weights for the ResNet backbone of a random start: a file, or ``"hub"``.
    ranks : Ranks
        The processes that train together. All ranks call a stage alike; only the first one writes files.
    given : collection of str or None
        Names of the knobs that the user set, as ``"train.tile_px"``: beside weights to start from they hold, or are
        refused. None: the knobs that differ from their defaults.
    force : bool
        Whether to take the output from another process that is training it.
    """

    output: Path
    config: Config
    reading: Reading = field(default_factory=Reading)
    resume: bool = False
    progress: Progress = field(default_factory=Silent)
    backbone_weights: str | None = None
    ranks: Ranks = SINGLE_PROCESS
    given: Collection[str] | None = None
    force: bool = False

    @property
    def checkpoint(self) -> Path:
        """The file of the resumable state: ``m.checkpoint`` of ``m.safetensors``."""
        return self._beside(".checkpoint")

    @property
    def log(self) -> Path:
        """The log."""
        return self._beside(".log.csv")

    @property
    def curves(self) -> Path:
        """The picture of the training curves."""
        return self._beside(".png")

    @contextmanager
    def locked(self) -> Iterator[Callable[[], None]]:
        """Keep other trainings from the output; of several ranks the first one does.

        Yields
        ------
        callable
            To call before something is written: raises Held if another process took the output by force.

        Raises
        ------
        Held
            If another process is training it.
        """
        if not self.ranks.is_first:
            yield lambda: None
            return
        with lock(self._beside(".lock"), f"the training of {self.output.name}", force=self.force) as held:
            yield held.check

    def _beside(self, ending: str) -> Path:
        # Only this suffix is replaced: model_0.31 and model_0.32 must not share a checkpoint.
        name = self.output.name.removesuffix(".safetensors")
        return self.output.with_name(name + ending)
