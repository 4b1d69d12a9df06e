"""Matching and losses, against brute force and float64 formulas."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from upicker.config import DenoiseConfig, LossConfig, ModelConfig
from upicker.model.boxes import generalized_box_iou
from upicker.model.criterion import SetCriterion, box_losses, sigmoid_focal_loss
from upicker.model.denoising import prepare_denoising
from upicker.model.detector import Detector, DetectorOutput
from upicker.model.matcher import HungarianMatcher

CONFIG = LossConfig()
CRITERION, MATCHER = SetCriterion(CONFIG), HungarianMatcher(CONFIG)
TINY = ModelConfig(
    widths=(8, 8, 16, 16, 16), dim=32, heads=4, feedforward=32, encoder_layers=1, decoder_layers=2, query_density=0.75
)


def drawn(n: int, seed: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.cat([torch.rand(n, 2, generator=random) * 4, torch.rand(n, 2, generator=random) + 0.4], 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model() -> Detector:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Detector(TINY, 16.0)


def gradients(model: Detector, loss: torch.Tensor) -> dict[str, torch.Tensor | None]:
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize(("queries", "objects"), [(5, 3), (3, 5), (4, 4), (6, 1), (1, 4)])
@pytest.mark.parametrize("seed", [0, 1])
def test_matching_is_the_cheapest_of_all_assignments(queries, objects, seed):
    logits, boxes, target = torch.randn(queries, 1, generator=generator(seed)), drawn(queries, seed), drawn(objects, 9)
    cost = MATCHER.cost(logits, boxes, target).double().numpy()
    long, short = max(cost.shape), min(cost.shape)
    tall = cost if cost.shape[0] == long else cost.T
    cheapest = min(sum(tall[r, c] for c, r in enumerate(rows)) for rows in itertools.permutations(range(long), short))
    found_queries, found_objects = (t.numpy() for t in MATCHER(logits, boxes, target))
    assert len(found_queries) == len(found_objects) == short
    assert len(set(found_queries)) == len(set(found_objects)) == short
    assert cost[found_queries, found_objects].sum() == pytest.approx(cheapest, abs=1e-5)


def test_the_matching_cost_is_what_its_formula_says():
    logits, boxes, target = torch.randn(4, 1, generator=generator(2)), drawn(4, 2), drawn(3, 3)
    config = LossConfig(match_class=1.5, match_l1=3.0, match_giou=0.7, focal_alpha=0.3, focal_gamma=1.5)
    cost = HungarianMatcher(config).cost(logits, boxes, target)
    for q, m in np.ndindex(4, 3):
        p = 1 / (1 + math.exp(-float(logits[q, 0])))
        found = -0.3 * (1 - p) ** 1.5 * math.log(p) + 0.7 * p**1.5 * math.log(1 - p)
        l1 = float((boxes[q].double() - target[m].double()).abs().sum())
        giou = float(generalized_box_iou(boxes[q].double(), target[m].double()))
        assert float(cost[q, m]) == pytest.approx(1.5 * found + 3.0 * l1 - 0.7 * giou, abs=1e-5)


def test_without_objects_nothing_is_matched():
    queries, objects = MATCHER(torch.zeros(4, 1), drawn(4, 0), torch.zeros(0, 4))
    assert len(queries) == len(objects) == 0
    assert queries.dtype == objects.dtype == torch.int64


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_cost_a_pair_and_not_the_run(bad):
    logits, boxes, target = torch.zeros(5, 1), drawn(5, 1), drawn(3, 1)
    logits[0] = bad
    boxes[1] = bad
    queries, objects = MATCHER(logits, boxes, target)
    assert sorted(objects.tolist()) == [0, 1, 2]
    assert 1 not in queries
    assert 0 not in queries or not math.isnan(bad)  # an infinite logit is a probability of 0 or 1
    queries, objects = MATCHER(torch.full((5, 1), bad), torch.full((5, 4), bad), target)
    assert sorted(objects.tolist()) == [0, 1, 2]


def test_the_focal_loss_is_its_formula():
    logits = torch.linspace(-9, 9, 37, dtype=torch.float64)[:, None]
    for config in (CONFIG, LossConfig(focal_alpha=0.4, focal_gamma=0.5), LossConfig(focal_gamma=0.0)):
        alpha, gamma = config.focal_alpha, config.focal_gamma
        for truth in (0.0, 1.0):
            found = sigmoid_focal_loss(logits, torch.full_like(logits, truth), config)
            for x, value in zip(logits[:, 0].tolist(), found[:, 0].tolist(), strict=True):
                p = 1 / (1 + math.exp(-x))
                right = p if truth else 1 - p
                share = alpha if truth else 1 - alpha
                assert value == pytest.approx(-share * (1 - right) ** gamma * math.log(right), rel=1e-7)


def test_the_focal_loss_is_finite_at_the_ends_and_so_is_its_gradient():
    logits = torch.tensor([[-1e4], [1e4]], requires_grad=True)
    value = sigmoid_focal_loss(logits, torch.tensor([[1.0], [0.0]]), CONFIG).sum()
    value.backward()
    assert value.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def perfect(targets: list[torch.Tensor], queries: int) -> DetectorOutput:
    """The outputs of a perfect detector with two layers."""
    boxes = torch.full((len(targets), queries, 4), 0.1)
    logits = torch.full((len(targets), queries, 1), -12.0)
    for i, target in enumerate(targets):
        matched = torch.randperm(queries, generator=generator(i))[: len(target)]
        boxes[i, matched], logits[i, matched] = target, 12.0
    return DetectorOutput(logits, boxes, [logits], [boxes], logits, boxes, [], [])


def test_perfect_predictions_cost_nothing():
    targets = [drawn(5, 0), drawn(2, 1), drawn(0, 2)]
    for name, value in CRITERION(perfect(targets, 7), targets, None).items():
        assert float(value) == pytest.approx(0, abs=1e-4), name


def test_worse_predictions_cost_more():
    targets = [drawn(5, 0), drawn(2, 1)]
    best = perfect(targets, 7)
    for shift in (0.01, 0.1):
        moved = replace(best, pred_boxes=best.pred_boxes + shift, aux_boxes=[b + shift for b in best.aux_boxes])
        found = CRITERION(moved, targets, None)
        # Two layers, four numbers of each box, the mean over the objects.
        assert float(found["loss_l1"]) == pytest.approx(CONFIG.l1_weight * 2 * 4 * shift, rel=1e-3)
        assert float(found["loss_giou"]) > 0


def test_where_sizes_are_not_learned_only_the_place_of_a_box_counts():
    targets = [drawn(5, 0), drawn(4, 1)]
    best = perfect(targets, 7)
    denoising = prepare_denoising(targets, DenoiseConfig(groups=1), generator())
    assert denoising is not None
    of_tile = [torch.tensor(False), torch.tensor(True)]

    def learned(change: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[torch.Tensor | None]]:
        boxes = (best.pred_boxes + change).requires_grad_()
        noised = (denoising.targets + change).requires_grad_()
        logits = torch.zeros(*noised.shape[:2], 1)
        output = replace(best, pred_boxes=boxes, aux_boxes=[boxes], dn_logits=[logits], dn_boxes=[noised])
        losses = CRITERION(output, targets, denoising, None, of_tile)
        losses["loss"].backward()
        return losses, [boxes.grad, noised.grad]

    _, larger = learned(torch.tensor([0.0, 0.0, 0.2, 0.2]))
    losses, moved = learned(torch.tensor([0.05, 0.02, 0.0, 0.0]))
    for sizes, places in zip(larger, moved, strict=True):
        assert not sizes[0].any()
        assert sizes[1, :, 2:].any()
        assert places[0, :, :2].any()
        assert not places[0, :, 2:].any()
    everything = CRITERION(replace(best, pred_boxes=best.pred_boxes + 0.1), targets, None)
    some = CRITERION(replace(best, pred_boxes=best.pred_boxes + 0.1), targets, None, None, [torch.tensor(True)] * 2)
    assert all(torch.equal(everything[name], some[name]) for name in losses)


def test_box_losses_are_sums_over_pairs():
    a, b = drawn(6, 0), drawn(6, 1)
    l1, giou = box_losses(a, b)
    assert float(l1) == pytest.approx(float((a.double() - b.double()).abs().sum()), rel=1e-6)
    assert float(giou) == pytest.approx(float((1 - generalized_box_iou(a.double(), b.double())).sum()), rel=1e-6)


@pytest.mark.parametrize("most", [0, 3, 40])
def test_the_loss_is_the_sum_of_its_parts(model, most):
    targets = [drawn(most, 0), drawn(most // 2, 1)]
    denoising = prepare_denoising(targets, DenoiseConfig(), generator())
    found = CRITERION(model(torch.randn(2, 1, 64, 64, generator=generator()), denoising), targets, denoising)
    parts = [value for name, value in found.items() if name != "loss"]
    assert set(found) == {"loss", "loss_class", "loss_l1", "loss_giou", "loss_denoise"}
    assert float(found["loss"].detach()) == pytest.approx(sum(float(p.detach()) for p in parts), rel=1e-5)
    assert all(p.isfinite() and p >= 0 for p in parts)
    assert (float(found["loss_denoise"].detach()) > 0) == (most > 0)


def test_the_weights_multiply_their_parts(model):
    targets = [drawn(3, 0)]
    denoising = prepare_denoising(targets, DenoiseConfig(), generator())
    output = model(torch.randn(1, 1, 64, 64, generator=generator()), denoising)
    one = SetCriterion(LossConfig(class_weight=1, l1_weight=1, giou_weight=1))(output, targets, denoising)
    other = SetCriterion(LossConfig(class_weight=2, l1_weight=3, giou_weight=0))(output, targets, denoising)
    torch.testing.assert_close(other["loss_class"], 2 * one["loss_class"])
    torch.testing.assert_close(other["loss_l1"], 3 * one["loss_l1"])
    assert float(other["loss_giou"].detach()) == 0


def test_without_objects_loss_and_all_gradients_are_finite(model):
    targets = [torch.zeros(0, 4), torch.zeros(0, 4)]
    output = model(torch.randn(2, 1, 64, 64, generator=generator()))
    found = gradients(model, CRITERION(output, targets, None)["loss"])
    # Only the embeddings of denoising queries get no gradient from tiles without objects.
    assert {name for name, g in found.items() if g is None} == {"label_enc.weight"}
    assert all(g.isfinite().all() for g in found.values() if g is not None)


def test_with_objects_every_parameter_learns(model):
    targets = [drawn(4, 0), torch.zeros(0, 4)]
    denoising = prepare_denoising(targets, DenoiseConfig(), generator())
    random = generator(5)
    for parameter in model.parameters():  # away from the start, where zero weights stop gradients on purpose
        parameter.data += 0.02 * torch.randn(parameter.shape, generator=random)
    output = model(torch.randn(2, 1, 64, 64, generator=generator()), denoising)
    found = gradients(model, CRITERION(output, targets, denoising)["loss"])
    for name, gradient in found.items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert gradient.abs().max() > 0, name


def test_more_objects_than_queries_are_allowed(model):
    targets = [drawn(40, 0)]
    output = model(torch.randn(1, 1, 64, 64, generator=generator()))
    assert output.pred_logits.shape[1] < 40
    found = gradients(model, CRITERION(output, targets, None)["loss"])
    assert all(g is None or g.isfinite().all() for g in found.values())


def test_padded_denoising_queries_cost_nothing(model):
    """A tile's denoising loss is the same beside a crowded tile, to whose number of objects it is padded."""
    few, many = drawn(2, 0), drawn(9, 1)
    config = DenoiseConfig(groups=1)
    denoising = prepare_denoising([few, many], config, generator())
    assert denoising is not None
    logits = torch.randn(2, len(denoising), 1, generator=generator(1))
    boxes = torch.rand(2, len(denoising), 4, generator=generator(2)) * 0.5 + 0.2
    real = denoising.positive | denoising.negative
    empty = perfect([few, many], 9)

    def denoise_loss(logits: torch.Tensor, boxes: torch.Tensor) -> float:
        output = replace(empty, dn_logits=[logits], dn_boxes=[boxes])
        return float(CRITERION(output, [few, many], denoising)["loss_denoise"])

    before = denoise_loss(logits, boxes)
    for other in (-30.0, 30.0):
        assert denoise_loss(torch.where(real[..., None], logits, other), boxes) == pytest.approx(before, rel=1e-6)
    only_positive = torch.where(denoising.positive[..., None], boxes, 0.9)
    assert denoise_loss(logits, only_positive) == pytest.approx(before, rel=1e-6)
