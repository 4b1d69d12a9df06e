"""The detector for picking computes what the detector of training does."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from upicker.config import Config, ModelConfig
from upicker.model import inference
from upicker.model.detector import Detector
from upicker.model.inference import ENOUGH, InferenceDetector, Levels
from upicker.model.position import Pyramid

DIAMETER_PX = 16.0
SMALL = ModelConfig(widths=(8, 8, 16, 16, 16), dim=64, heads=4, feedforward=64)
CONFIGS = {
    "compact": SMALL,
    "resnet18, four levels": ModelConfig(backbone="resnet18", levels=4, dim=64, heads=2, points=2),
    "one level, no encoder": ModelConfig(widths=(8, 8, 16, 16, 16), dim=64, levels=1, encoder_layers=0),
}


def detector(config: ModelConfig) -> Detector:
    """A detector with weights away from their start, so that samples go astray, too."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Detector(config, DIAMETER_PX).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return model


def tiles(side: int, number: int = 2) -> torch.Tensor:
    return torch.randn(number, 1, side, side + 32, generator=torch.Generator().manual_seed(1))


def in_training_order(model: Detector, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """All tokens become queries, boxes in pixels."""
    with torch.inference_mode():
        outputs = model(images, at_least=10**6)
    corner = torch.tensor([0.5, 0.5, 0, 0])
    return outputs.pred_logits[..., 0].sigmoid(), outputs.pred_boxes * DIAMETER_PX - corner


@pytest.fixture
def every_token(monkeypatch):
    """Every token becomes a query, as in training with enough of them."""
    monkeypatch.setattr(inference, "LEAST_SCORE", 0.0)
    monkeypatch.setattr(inference, "ENOUGH", 0.0)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_scores_and_boxes_are_those_of_training(config, every_token):
    model = detector(config)
    fast = InferenceDetector(model)
    for side, number in ((96, 2), (64, 1), (96, 3)):
        images = tiles(side, number)
        precise = in_training_order(copy.deepcopy(model).double(), images.double())
        for ours, theirs, exact in zip(fast(images), in_training_order(model, images), precise, strict=True):
            assert ours.dtype == torch.float32
            # Of boxes, a fraction of the tile.
            atol = 5e-5 * (side if ours.ndim == 3 else 0.2)
            torch.testing.assert_close(ours, theirs, atol=atol, rtol=0)
            torch.testing.assert_close(ours.double(), exact, atol=atol, rtol=0)
    assert fast(images)[0].std() > 1e-4  # they do differ


def test_samples_outside_are_zero_and_those_at_pixels_are_the_pixels():
    levels = Levels(Pyramid([(3, 5)], [1.0]), heads=1, points=1, device=torch.device("cpu"))
    value = torch.arange(1.0, 16)[None, :, None]
    x = torch.tensor([0.0, 4, 4, -1, 5, -7, 1e9, 0.5, 4.5, 4.0])
    y = torch.tensor([0.0, 0, 2, 1, 1, 1, 0, 0.5, 1.0, 2.75])
    found = levels.samples(value, torch.stack([x, y], 1)[None], torch.ones(1, len(x), 1))[0, :, 0]
    wanted = torch.tensor([1.0, 5, 15, 0, 0, 0, 0, (1 + 2 + 6 + 7) / 4, 10 / 2, 15 / 4])
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shift", [-200.0, 200.0])
def test_attention_weights_of_any_size_are_those_of_softmax(shift, every_token):
    model = detector(SMALL)
    with torch.no_grad():
        for layer in [*model.encoder.layers, *(layer.cross_attn for layer in model.decoder.layers)]:
            getattr(layer, "self_attn", layer).attention_weights.bias += shift
    images = tiles(64)
    for ours, theirs in zip(InferenceDetector(model)(images), in_training_order(model, images), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5 * (2 * 64 if ours.ndim == 3 else 1), rtol=0)


def test_many_tiles_of_a_large_level_are_sampled_at_their_places():
    levels = Levels(Pyramid([(512, 512)], [1.0]), heads=8, points=1, device=torch.device("cpu"))
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
    number = alone[0].shape[1]
    for one, two in zip(alone, both, strict=True):
        torch.testing.assert_close(one[0], two[1, :number], atol=1e-5, rtol=1e-5)


def scoring_tokens(share: float) -> Detector:
    """A detector that is sure of this share of the tokens (`ENOUGH`), and needs few queries otherwise."""
    model = detector(replace(SMALL, query_density=0.1))
    with torch.no_grad():
        memory, _ = model.encode(tiles(64, 3))
        logits = model.enc_out_class_embed(model.enc_output_norm(model.enc_output(memory))).flatten()
        model.enc_out_class_embed.bias += torch.tensor(ENOUGH).logit() - logits.quantile(1 - share)
    return model


def test_a_batch_is_its_singles_though_tiles_have_other_numbers_of_queries():
    fast = InferenceDetector(scoring_tokens(0.3))
    images = tiles(64, 3)
    images[1] *= 3
    scores, boxes = fast(images)
    numbers = []
    for i in range(3):
        alone, at = fast(images[i : i + 1])
        numbers.append(alone.shape[1])
        torch.testing.assert_close(scores[i, : alone.shape[1]], alone[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(boxes[i, : alone.shape[1]], at[0], atol=1e-3, rtol=0)
        assert (scores[i, alone.shape[1] :] == 0).all()
    assert len(set(numbers)) > 1
    assert max(numbers) == scores.shape[1] < 8 * 12


def test_the_number_of_queries_is_no_cap():
    """Particles of half the diameter, packed as densely as discs can be, may each have a query; at any size of tile."""
    fast = InferenceDetector(scoring_tokens(1.0))
    half_px = Config().image.working_diameter_px / 2
    for side in (64, 128):
        images = tiles(side, 1)
        densest = 2 / 3**0.5 * images.shape[2] * images.shape[3] / half_px**2
        assert fast(images)[0].shape[1] > densest


def test_where_nothing_is_sure_the_number_of_queries_is_that_of_training_and_on_empty_ice_one():
    model = scoring_tokens(0.0)
    images = tiles(64, 1)
    assert InferenceDetector(model)(images)[0].shape[1] == math.ceil(0.1 * 64 * 96 / DIAMETER_PX**2)
    with torch.no_grad():
        model.enc_out_class_embed.bias -= 30
    scores, _ = InferenceDetector(model)(images)
    assert scores.tolist() == [[0.0]]


def test_bfloat16_gives_float32_near_float32(every_token):
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
