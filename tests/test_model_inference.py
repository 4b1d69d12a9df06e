"""The detector for picking computes what the detector of training does."""

import copy

import pytest
import torch

from upicker.config import ModelConfig
from upicker.model.detector import Detector
from upicker.model.inference import InferenceDetector, Levels

SMALL = ModelConfig(widths=(8, 8, 16, 16, 16), dim=64, heads=4, feedforward=64, queries=30)
CONFIGS = {
    "compact": SMALL,
    "resnet18, four levels": ModelConfig(backbone="resnet18", levels=4, dim=64, heads=2, points=2, queries=30),
    "one level, no encoder": ModelConfig(widths=(8, 8, 16, 16, 16), dim=64, levels=1, encoder_layers=0, queries=9),
    "more queries than tokens": ModelConfig(widths=(8, 8, 16, 16, 16), dim=32, queries=1000),
}


def detector(config: ModelConfig) -> Detector:
    """A detector with weights away from their start, so that samples go astray, too."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Detector(config, 0.2).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def tiles(side: int, number: int = 2) -> torch.Tensor:
    return torch.randn(number, 1, side, side, generator=torch.Generator().manual_seed(1))


def in_training_order(model: Detector, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode():
        outputs = model(images)
    return outputs.pred_logits[..., 0].sigmoid(), outputs.pred_boxes


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_scores_and_boxes_are_those_of_training(config):
    model = detector(config)
    fast = InferenceDetector(model)
    for side, number in ((96, 2), (64, 1), (96, 3)):
        images = tiles(side, number)
        precise = in_training_order(copy.deepcopy(model).double(), images.double())
        for ours, theirs, exact in zip(fast(images), in_training_order(model, images), precise, strict=True):
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
            torch.testing.assert_close(ours.double(), exact, atol=1e-5, rtol=0)
    assert fast(images)[0].std() > 1e-4  # they do differ


def test_samples_outside_are_zero_and_those_at_pixels_are_the_pixels():
    levels = Levels([(3, 5)], heads=1, points=1, device=torch.device("cpu"))
    value = torch.arange(1.0, 16)[None, :, None]
    x = torch.tensor([0.0, 4, 4, -1, 5, -7, 1e9, 0.5, 4.5, 4.0])
    y = torch.tensor([0.0, 0, 2, 1, 1, 1, 0, 0.5, 1.0, 2.75])
    found = levels.samples(value, torch.stack([x, y], 1)[None], torch.ones(1, len(x), 1))[0, :, 0]
    wanted = torch.tensor([1.0, 5, 15, 0, 0, 0, 0, (1 + 2 + 6 + 7) / 4, 10 / 2, 15 / 4])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shift", [-200.0, 200.0])
def test_attention_weights_of_any_size_are_those_of_softmax(shift):
    model = detector(SMALL)
    with torch.no_grad():
        for layer in [*model.encoder.layers, *(layer.cross_attn for layer in model.decoder.layers)]:
            getattr(layer, "self_attn", layer).attention_weights.bias += shift
    images = tiles(64)
    for ours, theirs in zip(InferenceDetector(model)(images), in_training_order(model, images), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_many_tiles_of_a_large_level_are_sampled_at_their_places():
    levels = Levels([(512, 512)], heads=8, points=1, device=torch.device("cpu"))
    value = torch.zeros(9, 512 * 512, 8)
    value[8, -1] = torch.arange(1.0, 9)
    place = torch.full((9, 1, 16), 511.0)
    found = levels.samples(value, place, torch.ones(9, 1, 8))
    torch.testing.assert_close(found[8, 0], value[8, -1], atol=1e-3, rtol=0)


def test_what_is_not_finite_in_one_tile_stays_there():
    model = detector(SMALL)
    images = tiles(64, 2)
    alone = InferenceDetector(model)(images[1:])
    images[0] = 1e30
    both = InferenceDetector(model)(images)
    for one, two in zip(alone, both, strict=True):
        torch.testing.assert_close(one[0], two[1], atol=1e-6, rtol=0)


def test_bfloat16_gives_float32_near_float32():
    model = detector(SMALL)
    scores, boxes = InferenceDetector(model, torch.bfloat16)(tiles(96))
    exact, _ = InferenceDetector(model)(tiles(96))
    assert scores.dtype == boxes.dtype == torch.float32
    torch.testing.assert_close(scores.sort().values, exact.sort().values, atol=0.05, rtol=0)


def test_weights_are_copied():
    model = detector(SMALL)
    fast = InferenceDetector(model)
    before = fast(tiles(64))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(a, b) for a, b in zip(before, fast(tiles(64)), strict=True))
