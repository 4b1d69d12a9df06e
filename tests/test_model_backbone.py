"""Trunks: strides, key names, and ImageNet weights for grey pictures."""

import pytest
import torch
from torch.nn import functional as F

from upicker.config import preset
from upicker.model import weights
from upicker.model.backbone import CompactTrunk, FrozenBatchNorm, ResNet50, from_torchvision


def torchvision_names() -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's resnet50, by its rule, without classifier and batch counters."""
    names: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            names[f"{name}.{part}"] = (channels,)

    norm("bn1", 64)
    before = 64
    for layer, (blocks, width) in enumerate([(3, 64), (4, 128), (6, 256), (3, 512)], 1):
        for block in range(blocks):
            at = f"layer{layer}.{block}"
            shapes = [(width, before, 1, 1), (width, width, 3, 3), (4 * width, width, 1, 1)]
            for i, shape in enumerate(shapes, 1):
                names[f"{at}.conv{i}.weight"] = shape
                norm(f"{at}.bn{i}", shape[0])
            if block == 0:
                names[f"{at}.downsample.0.weight"] = (4 * width, before, 1, 1)
                norm(f"{at}.downsample.1", 4 * width)
            before = 4 * width
    return names


def fake_torchvision() -> dict[str, torch.Tensor]:
    """A state as torchvision saves it, with random numbers."""
    random = torch.Generator().manual_seed(0)
    state = {n: torch.randn(s, generator=random) * 0.02 for n, s in torchvision_names().items()}
    for name in list(state):
        if name.endswith("running_var"):
            state[name] = state[name].abs() + 1
            state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(7)
    return state | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}


def test_resnet50_carries_torchvisions_names_and_shapes():
    with torch.device("meta"):
        state = ResNet50().state_dict()
    expected = torchvision_names() | {"conv1.weight": (64, 1, 7, 7)}
    assert {n: tuple(t.shape) for n, t in state.items()} == expected


def test_the_paper_preset_builds_with_the_papers_sizes():
    with torch.device("meta"):
        model = weights.build(preset("paper"))
    assert isinstance(model.trunk, ResNet50)
    assert (len(model.encoder), len(model.decoder.layers)) == (6, 6)
    assert (len(model.project), len(model.extra)) == (3, 1)
    assert model.content.weight.shape == (900, 256)
    assert 35e6 < sum(p.numel() for p in model.parameters()) < 60e6


def test_imagenet_weights_fit_and_see_grey_as_rgb():
    state = fake_torchvision()
    kept = from_torchvision(state)
    with torch.device("meta"):
        names = set(ResNet50().state_dict())
    assert set(kept) == names
    grey = torch.randn(2, 1, 30, 42, generator=torch.Generator().manual_seed(1))
    expected = F.conv2d(grey.expand(-1, 3, -1, -1), state["conv1.weight"], None, 2, 3)
    torch.testing.assert_close(F.conv2d(grey, kept["conv1.weight"], None, 2, 3), expected, atol=1e-5, rtol=1e-4)
    assert state["conv1.weight"].shape[1] == 3  # what was given stays as it was
    assert "fc.weight" in state


def test_one_channel_weights_stay_as_they_are():
    kept = from_torchvision({"conv1.weight": torch.ones(64, 1, 7, 7)})
    assert kept["conv1.weight"].shape == (64, 1, 7, 7)


def test_frozen_batch_norm_is_batch_norm_that_does_not_learn():
    random = torch.Generator().manual_seed(2)
    own, other = FrozenBatchNorm(6), torch.nn.BatchNorm2d(6).eval()
    for name in ("weight", "bias", "running_mean", "running_var"):
        drawn = torch.rand(6, generator=random) + 0.5
        getattr(own, name).copy_(drawn)
        getattr(other, name).data.copy_(drawn)
    x = torch.randn(2, 6, 5, 7, generator=random)
    torch.testing.assert_close(own.train()(x), other(x))
    assert not list(own.parameters())


@pytest.mark.parametrize("size", [(64, 96), (70, 100)])
def test_maps_have_strides_8_16_32_and_the_channels_promised(size):
    trunk = CompactTrunk((8, 8, 16, 24, 32)).eval()
    maps = trunk(torch.zeros(1, 1, *size))
    assert [m.shape[1] for m in maps] == list(trunk.channels) == [16, 24, 32]
    for feature, stride in zip(maps, (8, 16, 32), strict=True):
        assert feature.shape[2:] == tuple(-(-n // stride) for n in size)


def test_resnet50_starts_without_exploding_or_vanishing():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        trunk = ResNet50().eval()
        with torch.inference_mode():
            maps = trunk(torch.randn(1, 1, 64, 96))
    assert [tuple(m.shape[1:]) for m in maps] == [(512, 8, 12), (1024, 4, 6), (2048, 2, 3)]
    assert all(0.01 < float(m.std()) < 10 for m in maps)
