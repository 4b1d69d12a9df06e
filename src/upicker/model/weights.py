"""The weights file: safetensors, whose header carries all that picking requires.

No pickle is read: a file from a stranger can hold numbers and text, but no code that runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_as_bytes
from torch import Tensor, nn

from upicker import __version__
from upicker.config import Config
from upicker.errors import ConfigError, WeightsError
from upicker.io.atomic import replacing
from upicker.model.detector import Detector
from upicker.units import Length, parse_length

# The format of the tensors, stored in the header; a file of another format is refused.
#
# Raise it by 1 whenever the tensors of an older file would mean something else to the code as it is, even if all names
# and shapes still fit: a renamed or reshaped parameter, but also another order of a box's coordinates, other waves of
# the sine embedding, another unit of the sampling offsets, an activation or a norm moved, another scale of the input
# pixels. Not for new fields of the header or for knobs: those have errors of their own.
FORMAT = 1

_KEY = "upicker"


@dataclass(frozen=True)
class Header:
    """The metadata of a weights file.

    Attributes
    ----------
    config : dict
        The merged config, as nested tables.
    diameter : str
        The particle diameter that the weights were trained for, with its unit.
    stage : str
        ``"pretrain"`` or ``"finetune"``.
    threshold : float or None
        Lowest score of a pick, chosen by training.
    f1, precision, recall : float or None
        At that threshold, on validation data.
    steps : int
        Training steps of the stage.
    version : str
        Version of UPicker that wrote the file.
    fingerprint : str
        Of the training, once it is complete (`upicker.train.fingerprint`); empty before.
    format : int
        Format of the tensors, see `FORMAT`.
    """

    config: dict
    diameter: str
    stage: str
    threshold: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    steps: int
    version: str = __version__
    fingerprint: str = ""
    format: int = FORMAT

    @property
    def length(self) -> Length:
        """The particle diameter as a length."""
        return parse_length(self.diameter)


def build(config: Config) -> Detector:
    """Return a fresh detector for the config's architecture and working scale.

    Raises
    ------
    ConfigError
        If such a network cannot be built.
    """
    model = config.model
    if model.dim % model.heads:
        remedy = f"It takes a multiple of model.heads, which is {model.heads}"
        raise ConfigError("model.dim", f"it cannot be {model.dim}", remedy)
    return Detector(model, config.image.working_diameter_px / config.train.tile_px)


def save(path: Path, model: nn.Module, header: Header) -> None:
    """Write the weights file, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = tensors_as_bytes(state, {_KEY: json.dumps(asdict(header))})
    with replacing(path) as beside:
        # Not through safetensors' own writer: its files are readable by their owner only.
        beside.write_bytes(content)


def read_header(path: Path) -> Header:
    """Read a weights file's header only.

    Raises
    ------
    WeightsError
        If the file is missing, broken, not UPicker's, or of another format.
    """
    with _opened(path) as file:
        text = (file.metadata() or {}).get(_KEY)
    if text is None:
        raise WeightsError(
            path,
            "these are weights, but not of UPicker",
            "Give a file that upicker pretrain or finetune wrote",
        )
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError(f"expected a table, found {type(values).__name__}")
        _require_format(path, values.get("format"))
        header = Header(**values)
        if not isinstance(header.config, dict) or not isinstance(header.threshold, int | float | None):
            raise TypeError("config or threshold of the wrong type")
        parse_length(header.diameter)
    except (TypeError, ValueError, ConfigError) as error:
        raise WeightsError(
            path, f"its header cannot be read ({error})", "Was it written by a newer UPicker?"
        ) from error
    return header


def _require_format(path: Path, found: object) -> None:
    """Refuse a file whose tensors this version would misread."""
    if found == FORMAT:
        return
    if found is None:
        what, remedy = "weights without a format number, of an early development version", "Train again"
    elif isinstance(found, int) and found > FORMAT:
        what, remedy = f"weights of format {found}", "Update UPicker, or train again with this version"
    else:
        what, remedy = f"weights of format {found}", "Train again, or use the version of UPicker that wrote them"
    raise WeightsError(path, f"these are {what}; this version reads format {FORMAT}", remedy)


def load(path: Path) -> tuple[Detector, Header, Config]:
    """Read a weights file into a detector of its own architecture.

    Returns
    -------
    model, header, config
        The config is that of the header, except for device and threads: those belong to the machine that trained.

    Raises
    ------
    WeightsError
        As `read_header`, or if the tensors do not fit the header's architecture.
    """
    header = read_header(path)
    try:
        config = _without_machine(Config().with_tables(header.config, str(path)))
        with torch.random.fork_rng(
            devices=[]
        ):  # the random start is overwritten; the caller's generator stays as it was
            model = build(config)
    except ConfigError as error:
        raise WeightsError(path, f"its config does not fit this version ({error.found})", "Train again") from error
    load_into(model, path)
    return model, header, config


def _without_machine(config: Config) -> Config:
    """Return a training's config with the default device and threads."""
    default = Config().train
    return replace(config, train=replace(config.train, device=default.device, threads=default.threads))


def load_into(model: Detector, path: Path) -> None:
    """Fill a detector from a weights file.

    Raises
    ------
    WeightsError
        If names or shapes do not fit: the weights are of another architecture.
    """
    fill(model, read_tensors(path), path)


def fill(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Fill a module from a state whose names and shapes must all fit.

    Raises
    ------
    WeightsError
        Giving `path` and the first tensor that does not fit.
    """
    own = model.state_dict()
    wrong = [n for n in own if n not in state or own[n].shape != state[n].shape] + [n for n in state if n not in own]
    if wrong:
        raise WeightsError(
            path,
            f"these are weights of another architecture ({len(wrong)} tensors do not fit, e.g. '{wrong[0]}')",
            "Use the preset and the --set model.* knobs that they were trained with",
        )
    model.load_state_dict(dict(state))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file.

    Raises
    ------
    WeightsError
        If it is missing or broken.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def _opened(path: Path) -> safe_open:
    if not Path(path).is_file():
        raise WeightsError(path, "there is no such file", "Train one with upicker pretrain or finetune")
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            path, f"this is not a whole safetensors file ({error})", "Copy it again, or train again"
        ) from error
