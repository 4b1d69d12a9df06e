"""Every knob of the package: one frozen dataclass per room, the unit in the name."""

from upicker.config.config import (
    PRESETS,
    Config,
    DenoiseConfig,
    ImageConfig,
    LossConfig,
    ModelConfig,
    PickConfig,
    ProposeConfig,
    TrainConfig,
    flatten,
    preset,
    read_changes,
)

__all__ = [
    "PRESETS",
    "Config",
    "DenoiseConfig",
    "ImageConfig",
    "LossConfig",
    "ModelConfig",
    "PickConfig",
    "ProposeConfig",
    "TrainConfig",
    "flatten",
    "preset",
    "read_changes",
]
