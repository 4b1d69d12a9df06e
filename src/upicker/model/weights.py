"""The weights file: safetensors, whose header carries all that picking needs to know.

No pickle is read: a file from a stranger can hold numbers and text, and nothing that runs.
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
from upicker.model.backbone import RESNETS
from upicker.model.detector import Detector
from upicker.units import Length, parse_length

_KEY = "upicker"


@dataclass(frozen=True)
class Card:
    """What a weights file says of itself.

    Attributes
    ----------
    config : dict
        The merged config, as nested tables.
    diameter : str
        The particle's diameter that the weights were trained for, with its unit.
    stage : str
        ``"pretrain"`` or ``"finetune"``.
    threshold : float or None
        Lowest score of a pick, as training chose it.
    f1, precision, recall : float or None
        At that threshold, on validation data.
    steps : int
        Training steps of the stage.
    version : str
        Of UPicker.
    mark : str
        Of the training, once it is complete (`upicker.train.complete`); empty before.
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
    mark: str = ""

    @property
    def length(self) -> Length:
        """The diameter as a length."""
        return parse_length(self.diameter)


def build(config: Config) -> Detector:
    """Return a fresh detector for the config's architecture and working scale.

    Raises
    ------
    ConfigError
        If such a network cannot be built.
    """
    model, backbones = config.model, ("compact", *RESNETS)
    rules = {
        "backbone": (model.backbone in backbones, f"one of {', '.join(backbones)}"),
        "widths": (len(model.widths) == 5 and all(w > 0 and w % 8 == 0 for w in model.widths), "5 multiples of 8"),
        "dim": (model.dim % 32 == 0 and model.dim % model.heads == 0, "a multiple of 32 and of model.heads"),
    }
    for knob, (fits, rule) in rules.items():
        if not fits:
            raise ConfigError(f"model.{knob}", f"it cannot be {getattr(model, knob)!r}", f"It takes {rule}")
    return Detector(config.model, config.image.working_diameter_px / config.train.tile_px)


def save(path: Path, model: nn.Module, card: Card) -> None:
    """Write the weights file, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = tensors_as_bytes(state, {_KEY: json.dumps(asdict(card))})
    with replacing(path) as beside:
        # Not through safetensors' own writer: its files can be read by nobody but their owner.
        beside.write_bytes(content)


def read_card(path: Path) -> Card:
    """Read a weights file's header only.

    Raises
    ------
    WeightsError
        If it is missing, broken, or not UPicker's.
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
        card = Card(**json.loads(text))
        if not isinstance(card.config, dict) or not isinstance(card.threshold, int | float | None):
            raise TypeError("config or threshold of the wrong kind")
        parse_length(card.diameter)
    except (TypeError, ValueError, ConfigError) as error:
        raise WeightsError(
            path, f"its header cannot be read ({error})", "Was it written by a newer UPicker?"
        ) from error
    return card


def load(path: Path) -> tuple[Detector, Card, Config]:
    """Read a weights file into a detector of its own architecture.

    Returns
    -------
    model, card, config
        The config is that of the header, but for the device and the threads: those were of the machine that trained.

    Raises
    ------
    WeightsError
        As `read_card`, or if the tensors do not fit the header's architecture.
    """
    card = read_card(path)
    try:
        config = _anywhere(Config().with_tables(card.config, str(path)))
        with torch.random.fork_rng(devices=[]):  # the random start is overwritten; nobody's random numbers change
            model = build(config)
    except ConfigError as error:
        raise WeightsError(path, f"its config does not fit this version ({error.found})", "Train again") from error
    load_into(model, path)
    return model, card, config


def _anywhere(config: Config) -> Config:
    """Return the config of a training without what was of the machine."""
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
        Naming `path` and the first things that do not fit.
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
