"""The protocols."""

from scipion_upicker.protocols.pick import UPickerProtPick
from scipion_upicker.protocols.train import UPickerProtTrain

__all__ = ["UPickerProtPick", "UPickerProtTrain"]
