"""The state dict's keys, order and shapes: those of Deformable DETR and DINO, frozen by the published weights.

A change here makes all weights unreadable: raise `upicker.model.header.FORMAT`.
"""

from collections.abc import Iterable, Mapping

import pytest
import torch

from upicker.config import ModelConfig, preset
from upicker.model import weights

Shapes = dict[str, tuple[int, ...]]


def under(prefix: str, *parts: Mapping[str, tuple[int, ...]]) -> Shapes:
    return {f"{prefix}.{name}": shape for part in parts for name, shape in part.items()}


def joined(parts: Iterable[Shapes]) -> Shapes:
    return {name: shape for part in parts for name, shape in part.items()}


def linear(name: str, after: int, before: int) -> Shapes:
    return {f"{name}.weight": (after, before), f"{name}.bias": (after,)}


def conv(name: str, after: int, before: int, kernel: int) -> Shapes:
    return {f"{name}.weight": (after, before, kernel, kernel)}


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def frozen_norm(name: str, width: int) -> Shapes:
    return {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}


def deformable_attention(name: str, c: ModelConfig) -> Shapes:
    samples = c.heads * c.levels * c.points
    return under(
        name,
        linear("sampling_offsets", 2 * samples, c.dim),
        linear("attention_weights", samples, c.dim),
        linear("value_proj", c.dim, c.dim),
        linear("output_proj", c.dim, c.dim),
    )


def feed_forward(c: ModelConfig) -> Shapes:
    return linear("linear1", c.feedforward, c.dim) | linear("linear2", c.dim, c.feedforward)


def encoder_layer(c: ModelConfig) -> Shapes:
    return deformable_attention("self_attn", c) | norm("norm1", c.dim) | feed_forward(c) | norm("norm2", c.dim)


def decoder_layer(c: ModelConfig) -> Shapes:
    return joined(
        [
            {"self_attn.in_proj_weight": (3 * c.dim, c.dim), "self_attn.in_proj_bias": (3 * c.dim,)},
            linear("self_attn.out_proj", c.dim, c.dim),
            norm("norm1", c.dim),
            deformable_attention("cross_attn", c),
            norm("norm2", c.dim),
            feed_forward(c),
            norm("norm3", c.dim),
        ]
    )


def residual_block(before: int, after: int, shortcut: bool) -> Shapes:
    return joined(
        [
            conv("conv1", after, before, 3),
            norm("norm1", after),
            conv("conv2", after, after, 3),
            norm("norm2", after),
            conv("shortcut", after, before, 1) if shortcut else {},
        ]
    )


def compact_backbone(widths: tuple[int, ...]) -> Shapes:
    w2, w4, *rest = widths
    stages = under("stage4", residual_block(w2, w4, True))
    for stride, before, after in zip((8, 16, 32), (w4, *rest), rest):
        stages |= under(f"stage{stride}.0", residual_block(before, after, True))
        stages |= under(f"stage{stride}.1", residual_block(after, after, False))
    return conv("stem.0", w2, 1, 5) | norm("stem.1", w2) | stages


def bottleneck(before: int, width: int, downsample: bool) -> Shapes:
    shapes = conv("conv1", width, before, 1) | frozen_norm("bn1", width)
    shapes |= conv("conv2", width, width, 3) | frozen_norm("bn2", width)
    shapes |= conv("conv3", 4 * width, width, 1) | frozen_norm("bn3", 4 * width)
    if downsample:
        shapes |= conv("downsample.0", 4 * width, before, 1) | frozen_norm("downsample.1", 4 * width)
    return shapes


def resnet50() -> Shapes:
    shapes, before = conv("conv1", 64, 1, 7) | frozen_norm("bn1", 64), 64
    for stage, (width, blocks) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3)), 1):
        for block in range(blocks):
            shapes |= under(f"layer{stage}.{block}", bottleneck(before, width, block == 0))
            before = 4 * width
    return shapes


def detector(c: ModelConfig, backbone: Shapes, channels: list[tuple[int, int]]) -> Shapes:
    """All keys; `channels` are input channels and kernel of each `input_proj`."""
    return joined(
        [
            {"level_embed": (c.levels, c.dim)},
            under("backbone", backbone),
            *(
                conv(f"input_proj.{i}.0", c.dim, before, kernel)
                | {f"input_proj.{i}.0.bias": (c.dim,)}
                | norm(f"input_proj.{i}.1", c.dim)
                for i, (before, kernel) in enumerate(channels)
            ),
            *(under(f"encoder.layers.{i}", encoder_layer(c)) for i in range(c.encoder_layers)),
            linear("enc_output", c.dim, c.dim),
            norm("enc_output_norm", c.dim),
            linear("enc_out_class_embed", 1, c.dim),
            linear("enc_out_bbox_embed.layers.0", c.dim, c.dim),
            linear("enc_out_bbox_embed.layers.1", 4, c.dim),
            {"query_embed.weight": (1, c.dim), "label_enc.weight": (2, c.dim)},
            *(under(f"decoder.layers.{i}", decoder_layer(c)) for i in range(c.decoder_layers)),
            linear("decoder.ref_point_head.layers.0", c.dim, 2 * c.dim),
            linear("decoder.ref_point_head.layers.1", c.dim, c.dim),
            norm("decoder.norm", c.dim),
            linear("decoder.bbox_embed.layers.0", c.dim, c.dim),
            linear("decoder.bbox_embed.layers.1", c.dim, c.dim),
            linear("decoder.bbox_embed.layers.2", 4, c.dim),
            linear("class_embed", 1, c.dim),
        ]
    )


EXPECTED = {
    "compact": (compact_backbone((32, 48, 96, 160, 256)), [(96, 1), (160, 1), (256, 1)]),
    "paper": (resnet50(), [(512, 1), (1024, 1), (2048, 1), (2048, 3)]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_keys_order_and_shapes_of_the_state_dict(name):
    config = preset(name)
    with torch.device("meta"):
        found = {key: tuple(tensor.shape) for key, tensor in weights.build(config).state_dict().items()}
    expected = detector(config.model, *EXPECTED[name])
    assert found == expected
    assert list(found) == list(expected)
    assert len(found) == {"compact": 186, "paper": 536}[name]


def test_random_starts_stay_what_they_were():
    """The order in which parameters are created decides which random numbers they get."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = weights.build(preset("compact")).state_dict()
    first = {
        "backbone.stem.0.weight": -0.0014974,
        "level_embed": -0.0353950,
        "encoder.layers.1.linear2.weight": 0.0428795,
        "decoder.layers.2.cross_attn.output_proj.weight": -0.0279836,
        "query_embed.weight": 0.1047529,
        "class_embed.weight": 0.0310756,
    }
    assert {name: float(state[name].flatten()[0]) for name in first} == pytest.approx(first, abs=1e-6)
