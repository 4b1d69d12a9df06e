"""The knobs of the room ``model``."""

from __future__ import annotations

from dataclasses import dataclass

from upicker.config.checking import Room
from upicker.config.knob import knob


@dataclass(frozen=True)
class ModelConfig(Room):
    """Architecture of the detection transformer; fixed once weights are trained."""

    backbone: str = knob(
        "compact",
        "Backbone: a compact network of the widths below, or a ResNet.",
        choices=("compact", "resnet18", "resnet34", "resnet50"),
    )
    widths: tuple[int, int, int, int, int] = knob(
        (32, 48, 96, 160, 256),
        "Channels of the compact backbone's stages, at strides 2, 4, 8, 16 and 32.",
        low=8,
        high=4096,
        multiple_of=8,
    )
    levels: int = knob(3, "Feature levels given to the transformer, from stride 8 on.", low=1, high=8)
    dim: int = knob(
        128,
        "Width of the transformer (embedding dimension); also a multiple of heads.",
        low=32,
        high=4096,
        multiple_of=32,
    )
    heads: int = knob(8, "Attention heads.", low=1, high=256)
    points: int = knob(4, "Sampling points of deformable attention, per head and level.", low=1, high=64)
    feedforward: int = knob(512, "Hidden width of the feed-forward networks.", low=1, high=65536)
    encoder_layers: int = knob(2, "Layers of the encoder.", low=0, high=64)
    decoder_layers: int = knob(3, "Layers of the decoder.", low=1, high=64)
    query_density: float = knob(
        1.4,
        "Object queries per squared particle diameter of a tile in training; more where a tile holds more particles. "
        "Picking takes as many as the micrograph asks for.",
        above=0,
        high=100,
    )
