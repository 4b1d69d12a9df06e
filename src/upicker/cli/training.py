"""``upicker pretrain`` and ``upicker finetune``: the two stages of training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from upicker.cli.batches import show_warnings
from upicker.cli.console import note, problem, silence, warning
from upicker.cli.options import (
    NO_MASKS,
    Changes,
    ConfigFile,
    Flag,
    Gain,
    Masking,
    Micrographs,
    Model,
    Output,
    PixelSize,
    Size,
    changes,
    existing_labels,
    listed_micrographs,
)
from upicker.cli.progress import TrainingBar
from upicker.config import Config, over_preset
from upicker.errors import UPickerError, listed

if TYPE_CHECKING:
    from upicker.train.job import Job, StageResult
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
    init: Model | None = None,
    self_train: int | None = None,
    preset: str | None = None,
    backbone_weights: Backbone = "none",
    resume: Annotated[bool, Flag] = False,
    force: Annotated[bool, Flag] = False,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
    masking: Masking = NO_MASKS,
) -> int:
    """Train on unlabelled micrographs: picks of the weights it starts from, or proposals, serve as pseudo-labels.

    Also writes OUTPUT.log.csv, the log, and OUTPUT.png, the training curves.

    Parameters
    ----------
    output
        Weights file to write, e.g. pre.safetensors.
    diameter
        Particle diameter, e.g. 190A or 108px.
    init
        Weights to start from, whose picks are the first pseudo-labels; by default the general model, "general-1".
        With "none", or with knobs of propose set, proposals (see "upicker propose") serve as pseudo-labels; with "none"
        the start is random.
    self_train
        Rounds of self-training after pretraining, in which confident picks replace the proposals; for weights that are
        used without fine-tuning. By default 0 (knob teacher.rounds).
    preset
        "compact" (for a laptop) or "paper" (the paper's network, for a GPU); by default that of --init, or "compact".
    resume
        Continue an earlier run with this output; a complete one is not repeated.
    force
        Take the output over from another training (which then writes nothing more), or from one that crashed on
        another machine.
    """
    from upicker.train import stages
    from upicker.train.job import Job

    with processes() as ranks:
        given = over_preset(preset, changes(config, changes_, teacher__rounds=self_train))
        merged = Config().with_changes(given)
        paths, reading = listed_micrographs(mics, pixel_size, gain, masking.masks)
        backbone = backbone_of(backbone_weights)
        job = Job(output, merged, reading, resume, TrainingBar(), backbone, ranks, frozenset(given), force)
        result = stages.pretrain(paths, diameter, job, initial_weights(init, job))
        return report_stage("pretrained", result, len(paths), result.pseudo_labels)


def finetune(
    *mics: Micrographs,
    labels: Path,
    output: Output,
    init: Model | None = None,
    diameter: Size | None = None,
    validation: str = "0.2",
    partial: Annotated[bool, Flag] = False,
    extracted: Annotated[Path | None, Parameter(negative="", show_default=False)] = None,
    preset: str | None = None,
    backbone_weights: Backbone = "none",
    resume: Annotated[bool, Flag] = False,
    force: Annotated[bool, Flag] = False,
    pixel_size: PixelSize = None,
    gain: Gain = None,
    changes_: Changes = (),
    config: ConfigFile = None,
    masking: Masking = NO_MASKS,
) -> int:
    """Train on labelled micrographs (a few suffice), and choose the threshold.

    Keeps the weights with the best F1 on the validation labels, and stores the threshold with them. Also writes
    OUTPUT.log.csv, the log, and OUTPUT.png, the training curves.

    Parameters
    ----------
    labels
        Folder of labels: NAME.csv, NAME.star or another format for each micrograph; or a file with those of many, such
        as particles.star.
    output
        Weights file to write, e.g. model.safetensors.
    init
        Weights to start from, of "upicker train", "pretrain" or "finetune"; by default the general model, "general-1".
        With "none" the start is random.
    diameter
        Particle diameter, e.g. 190A; by default that of --init, or of the labels.
    validation
        Fraction of the labelled micrographs to validate on (of the rows of each if there are fewer than 16), or a
        folder or file of labels whose micrographs are used for validation only; 0: no validation.
    partial
        The labels cover only some of the particles, drawn at random: unlabelled detections are down-weighted as
        background. A file coverage.csv beside the labels (columns name, coverage, x0, y0, x1, y1) can give this for
        single files, or a rectangle that is completely labelled.
    extracted
        The particles that the labels were selected from, e.g. those of an extraction job, while --labels has what was
        kept of them after 2-D classification. Those not kept are background of less weight (loss.rejected_weight);
        all else is as with --partial.
    preset
        "compact" or "paper"; by default that of --init, or "compact".
    resume
        Continue an earlier run with this output; a complete one is not repeated.
    force
        Take the output over from another training (which then writes nothing more), or from one that crashed on
        another machine.
    """
    from upicker.train import stages
    from upicker.train.job import Job

    with processes() as ranks:
        given = over_preset(preset, changes(config, changes_))
        merged = Config().with_changes(given)
        paths, reading = listed_micrographs(mics, pixel_size, gain, masking.masks)
        held = _validation(validation)
        backbone = backbone_of(backbone_weights)
        job = Job(output, merged, reading, resume, TrainingBar(), backbone, ranks, frozenset(given), force)
        initial = initial_weights(init, job)
        others = None if extracted is None else existing_labels(extracted)
        result = stages.finetune(paths, existing_labels(labels), job, initial, diameter, held, partial, others)
        return report_stage("fine-tuned", result, len(paths))


@contextmanager
def processes() -> Iterator[Ranks]:
    """Join the processes of torchrun. Only the first prints; others print errors that the first does not meet."""
    from upicker.train.ranks import join

    with join() as ranks:
        silence(not ranks.is_first)
        try:
            yield ranks
        except UPickerError as error:
            silence(ranks.reported_by_first(error) and not ranks.is_first)
            raise


def backbone_of(text: str) -> str | None:
    """Return ImageNet weights as given, or None."""
    return None if text == "none" else text


def initial_weights(init: str | None, job: Job) -> Path | None:
    """Return the weights to start from; None: random ones.

    Without ``--init`` it is the general model, unless the user has set what does not fit it, which is said.
    """
    from upicker.errors import ConfigError
    from upicker.model import weights
    from upicker.pick import shipped
    from upicker.train.start import config_for

    if init is not None:
        return None if init == shipped.NONE else shipped.located(init)
    path = shipped.located(None)
    if job.backbone_weights is not None:
        note(f"Starts from random weights: {shipped.DEFAULT} has no backbone for --backbone-weights")
        return None
    try:
        config_for(weights.checked(path)[1], job.config, job.given)
    except ConfigError as error:
        note(f"Starts from random weights, not from {shipped.DEFAULT}: {error.found}")
        return None
    return path


def _validation(text: str) -> Path | float:
    """Read a fraction, or a folder."""
    from upicker.errors import ConfigError

    try:
        fraction = float(text)
    except ValueError:
        return existing_labels(Path(text))
    if not 0 <= fraction < 1:
        raise ConfigError("--validation", f"must be in [0, 1), found {text}", "Give e.g. 0.2, or a folder of labels")
    return fraction


def report_stage(title: str, result: StageResult, total: int, truth: str = "validation labels") -> int:
    """Print the results of a stage; return the exit code.

    Parameters
    ----------
    title : str
        What was done.
    result : StageResult
        The result.
    total : int
        Number of micrographs that were given.
    truth : str
        What was validated on.
    """
    from upicker.io.pairing import unmatched

    early = ", stopped early" if result.stopped_early else ""
    used = f"{result.steps} steps on {result.trained_on} of {total} micrographs, {result.seconds:.0f} s{early}"
    note(f"{title}: {'already complete' if result.was_complete else used} -> {result.path}")
    if result.f1 is not None:
        note(
            f"against {truth}: F1 {result.f1:.3f}, precision {result.precision:.3f}, recall"
            f" {result.recall:.3f} at threshold {result.threshold:.3f}, which is stored with the weights"
        )
        if result.estimated:
            note("no validation labels are complete: these are estimates, precision and F1 upper bounds")
    else:
        from upicker.pick.picker import DEFAULT_THRESHOLD

        warning(
            "not validated: no threshold is stored with the weights, and picking will use "
            f"{DEFAULT_THRESHOLD:g} unless --threshold is given"
        )
    if result.margin:
        note(
            f"no label is closer than {result.margin:.1f} diameters to the border; picks will keep the same margin "
            "(unless picking with --set pick.edge_diameters=0)"
        )
    if result.f1 == 0:
        warning("no particle was found in validation: picking with these weights will find none. Train longer")
    if result.skipped_steps:
        warning(
            f"{result.skipped_steps} of {result.steps} steps were skipped, as their gradients were not finite (column "
            "'skipped' of the log); a lower learning rate may help"
        )
    show_warnings(result.warnings)
    if result.unused:
        warning(unmatched(result.unused, "file", "a match by name, not used"))
    for path, reason in result.skipped:
        problem(f"Skipped {path}: {reason}" if str(path) not in reason else f"Skipped {reason}")
    if not result.skipped:
        return 0
    skipped = listed([path for path, _ in result.skipped])
    warning(f"{len(result.skipped)} of {total} micrographs were skipped: {skipped}")
    return 3
