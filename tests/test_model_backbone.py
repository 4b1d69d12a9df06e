"""Backbones: strides, channels, and a start that neither explodes nor vanishes."""

import pytest
import torch

from upicker.config import preset
from upicker.model import weights
from upicker.model.backbone import CompactBackbone, FrozenBatchNorm2d, ResNet


def test_the_paper_preset_builds_with_the_papers_sizes():
    with torch.device("meta"):
        model = weights.build(preset("paper"))
    assert isinstance(model.backbone, ResNet)
    assert model.backbone.channels == (512, 1024, 2048)
    assert (len(model.encoder.layers), len(model.decoder.layers)) == (6, 6)
    assert [proj[0].kernel_size for proj in model.input_proj] == [(1, 1)] * 3 + [(3, 3)]  # type: ignore[index]
    assert model.queries_of(576, 576) == 900
    assert 35e6 < sum(p.numel() for p in model.parameters()) < 60e6


def test_frozen_batch_norm_is_batch_norm_that_does_not_learn():
    random = torch.Generator().manual_seed(2)
    own, other = FrozenBatchNorm2d(6), torch.nn.BatchNorm2d(6).eval()
    for name in ("weight", "bias", "running_mean", "running_var"):
        drawn = torch.rand(6, generator=random) + 0.5
        getattr(own, name).copy_(drawn)
        getattr(other, name).data.copy_(drawn)
    x = torch.randn(2, 6, 5, 7, generator=random)
    torch.testing.assert_close(own.train()(x), other(x))
    assert not list(own.parameters())


@pytest.mark.parametrize("size", [(64, 96), (70, 100)])
def test_maps_have_strides_8_16_32_and_the_channels_promised(size):
    backbone = CompactBackbone((8, 8, 16, 24, 32)).eval()
    maps = backbone(torch.zeros(1, 1, *size))
    assert [m.shape[1] for m in maps] == list(backbone.channels) == [16, 24, 32]
    for feature, stride in zip(maps, (8, 16, 32), strict=True):
        assert feature.shape[2:] == tuple(-(-n // stride) for n in size)


@pytest.mark.parametrize(("name", "width"), [("resnet18", 128), ("resnet34", 128), ("resnet50", 512)])
def test_resnets_start_without_exploding_or_vanishing(name, width):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = ResNet(name).eval()
        with torch.inference_mode():
            maps = backbone(torch.randn(1, 1, 64, 96))
    assert backbone.channels == (width, 2 * width, 4 * width)
    assert [tuple(m.shape[1:]) for m in maps] == [(width, 8, 12), (2 * width, 4, 6), (4 * width, 2, 3)]
    assert all(0.01 < float(m.std()) < 10 for m in maps)
