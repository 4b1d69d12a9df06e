"""All rooms of knobs together, and how changes to them are merged.

Precedence: the defaults < a config file (TOML, one table per room) < the command line
(``--set room.knob=value``). An unknown knob is an error that names the nearest one. The merged config
travels with the weights and with every output.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from upicker.config.augment import AugmentConfig
from upicker.config.checking import converted, require_known
from upicker.config.denoise import DenoiseConfig
from upicker.config.image import ImageConfig
from upicker.config.knob import knobs_of
from upicker.config.loss import LossConfig
from upicker.config.model import ModelConfig
from upicker.config.pick import PickConfig
from upicker.config.propose import ProposeConfig
from upicker.config.teacher import TeacherConfig
from upicker.config.train import TrainConfig
from upicker.errors import ConfigError


@dataclass(frozen=True)
class Config:
    """All rooms' knobs."""

    image: ImageConfig = field(default_factory=ImageConfig)
    propose: ProposeConfig = field(default_factory=ProposeConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    denoise: DenoiseConfig = field(default_factory=DenoiseConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    pick: PickConfig = field(default_factory=PickConfig)

    def with_changes(self, changes: Mapping[str, object], where: str = "--set") -> Config:
        """Return a config with ``{"room.knob": value}`` applied; values may be strings.

        Parameters
        ----------
        changes : mapping
            ``"room.knob"`` -> value.
        where : str
            The file or option that they come from, for errors.

        Raises
        ------
        ConfigError
            For an unknown room or knob (names the nearest), or a value that the knob does not take.
        """
        config, rooms = self, [one.name for one in fields(self)]
        for key, value in changes.items():
            room, _, name = key.partition(".")
            require_known(room, rooms, where, key)
            part = getattr(config, room)
            knobs = knobs_of(type(part))
            require_known(name, knobs, where, key, prefix=f"{room}.")
            config = replace(config, **{room: replace(part, **{name: converted(value, knobs[name], where)})})
        return config

    def with_tables(self, tables: Mapping[str, object], where: str) -> Config:
        """Return a config with nested tables ``{"room": {"knob": value}}`` applied."""
        return self.with_changes(flatten(tables, where), where)

    def to_tables(self) -> dict:
        """Return nested plain values, as `with_tables` takes them. None is kept, so that no default replaces it."""
        return asdict(self)


def flatten(tables: Mapping[str, object], where: str) -> dict[str, object]:
    """Turn nested tables ``{"room": {"knob": value}}`` into ``{"room.knob": value}``."""
    flat: dict[str, object] = {}
    for room, table in tables.items():
        if not isinstance(table, Mapping):
            remedy = "Write it in the table of its room, e.g. [train]"
            raise ConfigError(where, f"'{room}' stands outside a table", remedy)
        flat.update({f"{room}.{name}": value for name, value in table.items()})
    return flat


def read_changes(path: Path) -> dict[str, object]:
    """Read a TOML file of knobs, one table per room, as ``{"room.knob": value}``, checked.

    A table ``[run]`` is ignored, so that the ``run.toml`` that a command left beside its output can be given back as
    it is.

    Raises
    ------
    ConfigError
        If it cannot be read, or holds an unknown knob or a value that the knob does not take.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(path, f"cannot be read as TOML ({error})", "Give a file with tables like [train]") from error
    tables.pop("run", None)
    changes = flatten(tables, str(path))
    Config().with_changes(changes, str(path))
    return changes


PRESETS: dict[str, dict[str, object]] = {
    "compact": {},
    "paper": {
        "model.backbone": "resnet50",
        "model.levels": 4,
        "model.dim": 256,
        "model.feedforward": 2048,
        "model.encoder_layers": 6,
        "model.decoder_layers": 6,
        # The paper's 900 queries and its weight of 5 for boxes of 0..1 are an image's, here a tile of 24 diameters.
        "model.query_density": 900 / 24**2,
        "loss.l1_weight": 5 / 24,
        "loss.match_l1": 5 / 24,
        "train.tile_px": 576,
        "train.learning_rate": 1e-4,
        "train.finetune_learning_rate": 1e-4,
        "train.pretrain_epochs": 50.0,
        "train.finetune_epochs": 50.0,
        "train.proposals": "50",
        "image.bilateral": True,
        "image.equalize": "clahe",
        "propose.template": False,
        "propose.min_ratio": 0.8,
        "propose.max_ratio": 1.25,
        "propose.range_penalty": math.inf,
        "propose.maxima": False,
        "propose.disc_diameters": 1.0,
    },
}


def preset_changes(name: str | None) -> dict[str, object]:
    """Return all that a preset sets, in the knobs in which presets differ; None: nothing.

    Raises
    ------
    ConfigError
        If the preset is unknown.
    """
    if name is None:
        return {}
    require_known(name, PRESETS, "--preset", name)
    values = flatten(Config().with_changes(PRESETS[name]).to_tables(), name)
    return {key: values[key] for changes in PRESETS.values() for key in changes}


def over_preset(name: str | None, changes: Mapping[str, object]) -> dict[str, object]:
    """Return all that a preset and further changes set; steps that are set count instead of the preset's epochs.

    Raises
    ------
    ConfigError
        If the preset is unknown.
    """
    given = preset_changes(name) | dict(changes)
    for stage in ("pretrain", "finetune"):
        if f"train.{stage}_steps" in changes and f"train.{stage}_epochs" in given.keys() - changes.keys():
            given[f"train.{stage}_epochs"] = None
    return given


def preset(name: str) -> Config:
    """Return the config of a preset: ``"compact"`` or ``"paper"``.

    Raises
    ------
    ConfigError
        If the preset is unknown.
    """
    return Config().with_changes(preset_changes(name))
