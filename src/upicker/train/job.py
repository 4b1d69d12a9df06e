"""What a stage of training is told, and what it came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from upicker.config import Config
from upicker.errors import UPickerWarning
from upicker.io.micrographs import Reading
from upicker.train.log import Progress, Silent
from upicker.train.ranks import ALONE, Ranks


@dataclass
class StageResult:
    """What a stage came to.

    Attributes
    ----------
    path : Path
        The weights file.
    steps : int
        Steps done in all.
    seconds : float
        Training time.
    f1, precision, recall, threshold : float or None
        The best validation's figures (pretraining: against proposals).
    estimated : bool
        Whether precision and F1 are estimates from above, because no validation labels are complete.
    stopped_early : bool
        Whether validation stopped it.
    was_complete : bool
        Whether the training had been completed before, so that nothing was done; steps and seconds are then the
        log's, and 0 if it is gone.
    trained_on : int
        Micrographs learned from.
    skipped : list of (Path, str)
        Bad micrographs or label files, and what is wrong with them.
    unused : list of Path
        Micrographs without labels, and labels without a micrograph.
    warnings : list of UPickerWarning
        What a person should know of micrographs that were used.
    margin : float
        How far from the rim picks stay, in particle diameters: as far as the labels, less what a centre may be off;
        0: no margin.
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
    unused: list[Path] = field(default_factory=list)
    warnings: list[UPickerWarning] = field(default_factory=list)
    margin: float = 0.0


@dataclass(frozen=True)
class Job:
    """What both stages are told.

    Attributes
    ----------
    output : Path
        The weights file to write.
    config : Config
        All knobs.
    reading : Reading
        Pixel sizes that beat the micrographs' headers, and the gain reference.
    resume : bool
        Go on from the checkpoint, if there is one; do nothing if this training is complete.
    progress : Progress
        Who is told.
    backbone : str or None
        ImageNet weights for a random start's ResNet backbone: a file, or ``"hub"``.
    ranks : Ranks
        Who trains together. All ranks call a stage alike; the first one alone writes.
    cache : Path or None
        Where prepared pictures and offline copies go, and stay; None: a temporary folder.
    """

    output: Path
    config: Config
    reading: Reading = field(default_factory=Reading)
    resume: bool = False
    progress: Progress = field(default_factory=Silent)
    backbone: str | None = None
    ranks: Ranks = ALONE
    cache: Path | None = None
