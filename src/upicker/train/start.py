"""Where a training starts: what is checked before anything is read, and the network before its first step."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from upicker.config import Config, flatten
from upicker.errors import ConfigError, OutputError
from upicker.model import imagenet, weights
from upicker.model.detector import Detector
from upicker.pick.network import changed
from upicker.pick.torch_network import device_of
from upicker.train.fingerprint import Inputs
from upicker.train.job import Job
from upicker.train.ranks import require_gpus
from upicker.units import Length

# Room that an output folder must have for a training to start.
LEAST_BYTES = 2**20
# What weights bring along unless it is set anew: architecture and preparation, and the rates and steps that suit them.
# Some of it is fixed (`upicker.pick.network.changed`).
_ROOMS = ("model", "image")
_KNOBS = tuple(
    f"train.{name}"
    for name in (
        *("tile_px", "learning_rate", "finetune_learning_rate"),
        *("pretrain_steps", "finetune_steps", "pretrain_epochs", "finetune_epochs"),
    )
)


def check(job: Job) -> None:
    """Refuse an unusable output or device before the training, not after it.

    Raises
    ------
    OutputError
        If a file of the training cannot be written.
    ConfigError
        If there is no such device, or there are too few GPUs.
    """
    require_gpus(job.ranks, job.config.train.device)
    device_of(job.config)
    for path in (job.output, job.checkpoint, job.log, job.curves):
        try:
            path.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            remedy = "Give a shorter name" if error.errno == errno.ENAMETOOLONG else "Give another output"
            raise OutputError(path, f"cannot be written ({error.strerror})", remedy) from error
    if job.output.exists() and not job.output.is_file():
        raise OutputError(job.output, "it is a folder or a device", "Give the name of a file")
    folder = next(parent for parent in job.output.absolute().parents if parent.is_dir())
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(LEAST_BYTES))
    except OSError as error:
        remedy = "Check that the folder may be written to and has room, or give another output"
        raise OutputError(job.output, f"cannot be written ({error.strerror})", remedy) from error


def random_start(job: Job, inputs: Inputs) -> Detector:
    """Return a detector with random weights, the same for the same seed; the caller's generator stays as it was.

    Weights given for its backbone are noted in `inputs`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.config.train.seed)
        model = weights.build(job.config)
    if job.backbone_weights is not None:
        imagenet.load_backbone(model, job.backbone_weights)
        inputs.add_weights(model.backbone.state_dict())
    return model


@dataclass(frozen=True, eq=False)
class Start:
    """What a training starts from.

    Attributes
    ----------
    model : Detector
        The network.
    config : Config
        Of the training.
    diameter : Length or None
        Stored with the weights; None: they are for particles of any size, or random.
    general : dict of str to str
        The shipped model that the weights are, or were trained from (`upicker.model.header.Header.general`).
    threshold : float or None
        Stored with the weights.
    is_given : bool
        Whether weights were given; else they are random.
    """

    model: Detector
    config: Config
    diameter: Length | None = None
    general: dict[str, str] = field(default_factory=dict)
    threshold: float | None = None
    is_given: bool = False

    @property
    def knows_all_sizes(self) -> bool:
        """Whether these are weights for particles of any kind and size."""
        return self.is_given and self.diameter is None


def start(initial: Path | None, job: Job, inputs: Inputs) -> Start:
    """Return what a training starts from; None: random weights.

    Given weights are noted in `inputs`.

    Raises
    ------
    WeightsError
        If the file cannot be read.
    ConfigError
        If a knob that the user set needs other weights.
    """
    if initial is None:
        return Start(random_start(job, inputs), job.config)
    if job.backbone_weights is not None:
        raise ConfigError(imagenet.OPTION, f"{initial} has a backbone of its own", "Leave one of the two out")
    model, header, stored = weights.load(initial)
    inputs.add_weights(model.state_dict())
    config = config_for(stored, job.config, job.given)
    return Start(model, config, header.length, header.general, header.threshold, is_given=True)


def config_for(stored: Config, config: Config, given: Collection[str] | None) -> Config:
    """Return the config of a training that starts from weights.

    Parameters
    ----------
    stored : Config
        That of the weights.
    config : Config
        That of the job.
    given, optional
        Names of the knobs that the user set; None: those that differ from the defaults.

    Raises
    ------
    ConfigError
        Naming the knobs that are set and fixed by the weights otherwise.
    """
    own, default = _flat(config), _flat(Config())
    names = [name for name in own if own[name] != default[name]] if given is None else given
    brought = {name: value for name, value in _flat(stored).items() if name.split(".")[0] in _ROOMS or name in _KNOBS}
    return changed(config.with_changes(brought), {name: own[name] for name in names})


def _flat(config: Config) -> Mapping[str, object]:
    return flatten(config.to_tables(), "config")
