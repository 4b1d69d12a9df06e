"""``upicker pretrain`` and ``upicker finetune``: the two stages of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from upicker.cli.batches import tell
from upicker.cli.console import hush, note, problem, warning
from upicker.cli.options import (
    Changes,
    ConfigFile,
    Flag,
    Gain,
    Micrographs,
    Output,
    PixelSize,
    Size,
    changes,
    existing_folder,
    listed_micrographs,
)
from upicker.cli.progress import TrainingBar
from upicker.config import preset as preset_config
from upicker.errors import UPickerError, listed

if TYPE_CHECKING:
    from upicker.train.job import StageResult
    from upicker.train.ranks import Ranks

Backbone = Annotated[
    str,
    Parameter(
        metavar="none|FILE|hub",
        help="ImageNet weights for a ResNet backbone (--preset paper, or --set model.backbone=resnet18, 34, 50): a "
        ".pth or .safetensors file of torchvision or timm, or 'hub' to fetch timm's from Hugging Face (extra [hub]).",
    ),
]


def pretrain(
    *mics: Micrographs,
    output: Output,
    diameter: Size,
    self_train: int | None = None,
    preset: str = "compact",
    backbone_weights: Backbone = "none",
    resume: Annotated[bool, Flag] = False,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
) -> int:
    """Train on unlabelled micrographs: proposals (see "upicker propose") are taken for the truth.

    Beside the weights it writes OUTPUT.log.csv and OUTPUT.png, the log and the curves.

    Parameters
    ----------
    output
        The weights to write, e.g. pre.safetensors.
    diameter
        Diameter of the particles, e.g. 190A or 108px.
    self_train
        Rounds of self-training after that: the confident picks take the place of the proposals, and training goes on.
        The weights can then be used without any label. By default none (--set teacher.rounds).
    preset
        "compact" (for a laptop) or "paper" (the paper's sizes, for a GPU).
    resume
        Go on where an earlier run with this output was stopped; if it was complete, nothing is done.
    """
    from upicker.train import stages
    from upicker.train.job import Job

    with _together() as ranks:
        changed = changes(config, changes_, teacher__rounds=self_train)
        merged = preset_config(preset).with_changes(changed)
        paths, reading = listed_micrographs(mics, pixel_size, gain)
        job = Job(output, merged, reading, resume, TrainingBar(), _backbone(backbone_weights), ranks)
        result = stages.pretrain(paths, diameter, job)
        return _report("pretrained", result, len(paths))


def finetune(
    *mics: Micrographs,
    labels: Path,
    output: Output,
    init: Path | None = None,
    diameter: Size | None = None,
    validation: str = "0.2",
    partial: Annotated[bool, Flag] = False,
    preset: str = "compact",
    backbone_weights: Backbone = "none",
    cache: Annotated[Path | None, Parameter(negative="")] = None,
    resume: Annotated[bool, Flag] = False,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
) -> int:
    """Train on labelled micrographs, perhaps a few, and choose the threshold on validation micrographs.

    The best weights by F1 on the validation micrographs are kept. Beside them it writes OUTPUT.log.csv and
    OUTPUT.png, the log and the curves.

    Parameters
    ----------
    labels
        The folder of labels: NAME.csv, NAME.star or NAME.box for each micrograph.
    output
        The weights to write, e.g. model.safetensors.
    init
        Weights to start from, of "upicker pretrain" or "upicker finetune"; by default a random start.
    diameter
        Diameter of the particles, e.g. 190A; by default that of --init, or of the labels.
    validation
        A share like 0.2 of the labelled micrographs (of the rows of each, if they are few) to validate on, or
        a folder of labels, whose micrographs are then not learned from; 0: nothing.
    partial
        The labels cover only some of the particles, drawn evenly: what is not labelled is hardly taken for background
        where the network, or the A-LoG filter, sees a particle. A file coverage.csv beside the labels (columns name,
        coverage, x0, y0, x1, y1) can say it of single files, or name a rectangle that is labelled.
    preset
        "compact" or "paper"; --init brings its own.
    cache
        A folder for the prepared pictures and for copies of them (--set augment.offline=4), which stay there; by
        default a temporary one.
    resume
        Go on where an earlier run with this output was stopped; if it was complete, nothing is done.
    """
    from upicker.train import stages
    from upicker.train.job import Job

    with _together() as ranks:
        merged = preset_config(preset).with_changes(changes(config, changes_))
        paths, reading = listed_micrographs(mics, pixel_size, gain)
        held = _validation(validation)
        job = Job(output, merged, reading, resume, TrainingBar(), _backbone(backbone_weights), ranks, cache)
        result = stages.finetune(paths, existing_folder(labels, "labels"), job, init, diameter, held, partial)
        return _report("fine-tuned", result, len(paths))


@contextmanager
def _together() -> Iterator[Ranks]:
    """Join the processes of torchrun. Only the first one speaks; others only of errors that it does not meet."""
    from upicker.train.ranks import together

    with together() as ranks:
        hush(not ranks.first)
        try:
            yield ranks
        except UPickerError as error:
            hush(ranks.met_by_first(error) and not ranks.first)
            raise


def _backbone(text: str) -> str | None:
    return None if text == "none" else text


def _validation(text: str) -> Path | float:
    """Read a share, or a folder."""
    from upicker.errors import ConfigError

    try:
        share = float(text)
    except ValueError:
        return existing_folder(Path(text), "validation labels")
    if not 0 <= share < 1:
        raise ConfigError("--validation", f"{text} is no share", "Give a number from 0 to below 1, or a folder")
    return share


def _report(title: str, result: StageResult, total: int) -> int:
    """Print what a stage gave; return the exit code."""
    from upicker.io.pairing import unmatched

    early = ", stopped early" if result.stopped_early else ""
    used = f"{result.steps} steps on {result.trained_on} of {total} micrographs, {result.seconds:.0f} s{early}"
    note(f"{title}: {'complete already, nothing was done' if result.was_complete else used} -> {result.path}")
    if result.f1 is not None:
        truth = "proposals" if title == "pretrained" else "validation labels"
        note(
            f"against {truth}: F1 {result.f1:.3f}, precision {result.precision:.3f}, recall"
            f" {result.recall:.3f} at threshold {result.threshold:.3f}, which is stored with the weights"
        )
        if result.estimated:
            note("no validation labels are complete: these are estimates, and precision and F1 are no more than this")
    else:
        warning("not validated: no threshold is stored with the weights; choose one when picking, with --threshold")
    if result.margin:
        note(
            f"no label is closer than {result.margin:.1f} diameters to the rim; picks will keep that margin, too "
            "(--set pick.edge_diameters=0 when picking turns it off)"
        )
    tell(result.warnings)
    if result.unused:
        warning(unmatched(result.unused, "file", "a match by name, not used"))
    for path, reason in result.skipped:
        problem(f"Skipped {path}: {reason}" if str(path) not in reason else f"Skipped {reason}")
    if not result.skipped:
        return 0
    skipped = listed([path for path, _ in result.skipped])
    warning(f"{len(result.skipped)} of {total} micrographs could not be used: {skipped}")
    return 3
