"""``upicker train``: one training over many data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from upicker.cli.console import note
from upicker.cli.options import Changes, ConfigFile, Flag, Model, Output, changes
from upicker.cli.progress import TrainingBar
from upicker.cli.training import Backbone, backbone_of, initial_weights, processes, report_stage
from upicker.config import Config, preset_changes
from upicker.errors import ConfigError


def train(
    sets: Annotated[Path, Parameter(help="TOML file of what to train on; docs/general-model.md explains it.")],
    /,
    *,
    output: Output,
    init: Model | None = None,
    workers: int | None = None,
    preset: str | None = None,
    backbone_weights: Backbone = "none",
    resume: Annotated[bool, Flag] = False,
    force: Annotated[bool, Flag] = False,
    changes_: Changes = (),
    config: ConfigFile = None,
) -> int:
    """Train a general model, on simulated micrographs and on many data sets of particles of all sizes.

    The threshold is chosen on simulated images. Also writes OUTPUT.log.csv, the log, and OUTPUT.png, the training
    curves.

    Parameters
    ----------
    output
        Weights file to write, e.g. general.safetensors.
    init
        Weights to start from, e.g. "general-1"; give another seed in the file, or the same tiles are drawn again. By
        default random weights.
    workers
        Processes that simulate tiles while others are learned from; 0: none. By default one less than there are cores.
        The tiles are the same.
    preset
        "compact" or "paper"; by default that of --init, or "compact".
    resume
        Continue an earlier run with this output; a complete one is not repeated.
    force
        Take the output over from another training (which then writes nothing more), or from one that crashed on
        another machine.
    """
    from upicker.pick.shipped import NONE
    from upicker.train import general
    from upicker.train import sets as files
    from upicker.train.job import Job

    if workers is not None and workers < 0:
        raise ConfigError("--workers", f"must be at least 0, found {workers}", "Give e.g. --workers 1")
    with processes() as ranks:
        read = files.read(sets)
        given = preset_changes(preset) | read.changes | changes(config, changes_)
        job = Job(
            output,
            Config().with_changes(given),
            resume=resume,
            progress=TrainingBar(),
            backbone_weights=backbone_of(backbone_weights),
            ranks=ranks,
            given=frozenset(given),
            force=force,
        )
        initial = initial_weights(init or NONE, job)
        result = general.train(read, job, initial, _workers() if workers is None else workers)
        if read.plan is not None:
            note(f"simulated: {read.share:.0%} of the tiles, of {len(set(read.plan.specimens))} kinds of specimen")
        return report_stage("trained", result, sum(len(one.paths) for one in read.sets), "simulated images kept aside")


def _workers() -> int:
    """Return the number of cores for each process of torchrun on this machine, without the one that it uses itself.

    0 if there are more processes than cores.
    """
    from upicker.run.machine import cores

    return max(0, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1)
