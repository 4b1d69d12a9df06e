"""Every knob of the package: one frozen dataclass per room, one file per dataclass, the unit in the name."""

from upicker.config.augment import AugmentConfig
from upicker.config.config import PRESETS, Config, flatten, over_preset, preset, preset_changes, read_changes
from upicker.config.denoise import DenoiseConfig
from upicker.config.image import ImageConfig
from upicker.config.loss import LossConfig
from upicker.config.model import ModelConfig
from upicker.config.pick import PickConfig
from upicker.config.propose import ProposeConfig
from upicker.config.teacher import TeacherConfig
from upicker.config.train import TrainConfig

__all__ = [
    "PRESETS",
    "AugmentConfig",
    "Config",
    "DenoiseConfig",
    "ImageConfig",
    "LossConfig",
    "ModelConfig",
    "PickConfig",
    "ProposeConfig",
    "TeacherConfig",
    "TrainConfig",
    "flatten",
    "over_preset",
    "preset",
    "preset_changes",
    "read_changes",
]
