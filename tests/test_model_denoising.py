"""Contrastive denoising: what the queries are, and that nothing leaks out of them."""

from dataclasses import replace

import pytest
import torch

from upicker.config import DenoiseConfig, ModelConfig
from upicker.model.denoising import Noised, noise
from upicker.model.detector import Detector

CONFIG = DenoiseConfig(groups=3, label_noise=0.5, positive_noise=0.4, negative_noise=0.8)
TINY = ModelConfig(
    widths=(8, 8, 16, 16, 16), dim=32, heads=4, feedforward=32, encoder_layers=1, decoder_layers=2, queries=10
)


def inner(n: int, seed: int = 0) -> torch.Tensor:
    """Boxes so far from the rim that no noise reaches it."""
    random = torch.Generator().manual_seed(seed)
    return torch.cat(
        [torch.rand(n, 2, generator=random) * 0.6 + 0.2, torch.rand(n, 2, generator=random) * 0.1 + 0.02], 1
    )


def made(targets: list[torch.Tensor], config: DenoiseConfig = CONFIG, seed: int = 0) -> Noised:
    noised = noise(targets, config, torch.Generator().manual_seed(seed))
    assert noised is not None
    return noised


def moves(noised: Noised) -> torch.Tensor:
    """`(B, n, 4)`: how far each corner coordinate moved, in half box sides."""
    half = noised.truth[..., 2:] / 2

    def corners(boxes: torch.Tensor) -> torch.Tensor:
        return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)

    return (corners(noised.boxes) - corners(noised.truth)).abs() / torch.cat([half, half], -1)


@pytest.mark.parametrize("most", [1, 7, 101, 800])
def test_groups_never_collapse(most):
    noised = made([inner(most), inner(most // 2, 1)])
    assert noised.groups == 3
    assert len(noised) == noised.boxes.shape[1] == 2 * 3 * most
    assert noised.positive.sum(1).tolist() == [3 * most, 3 * (most // 2)]
    assert noised.negative.sum(1).tolist() == [3 * most, 3 * (most // 2)]


@pytest.mark.parametrize("targets", [[], [torch.zeros(0, 4)], [torch.zeros(0, 4)] * 3])
def test_without_objects_there_are_no_queries(targets):
    assert noise(targets, CONFIG, torch.Generator()) is None


def test_without_groups_there_are_no_queries():
    assert noise([inner(3)], replace(CONFIG, groups=0), torch.Generator()) is None


def test_each_group_holds_every_object_as_a_positive_and_a_negative():
    targets = [inner(5), inner(2, 1), torch.zeros(0, 4)]
    noised = made(targets)
    truth, positive, negative = (t.unflatten(1, (3, 2, 5)) for t in (noised.truth, noised.positive, noised.negative))
    for i, target in enumerate(targets):
        for group in range(3):
            assert positive[i, group, 0].sum() == negative[i, group, 1].sum() == len(target)
            assert not positive[i, group, 1].any()
            assert not negative[i, group, 0].any()
            for half in range(2):
                torch.testing.assert_close(truth[i, group, half, : len(target)], target)


def test_padding_is_neither_positive_nor_negative():
    noised = made([inner(6), inner(2, 1), torch.zeros(0, 4)])
    real = noised.positive | noised.negative
    assert not (noised.positive & noised.negative).any()
    assert real.sum(1).tolist() == [6 * 6, 6 * 2, 0]
    assert noised.boxes.isfinite().all()


def test_positives_move_less_than_lambda_p_and_negatives_between_it_and_lambda_n():
    noised = made([inner(400)])
    far = moves(noised)[0]
    near, wide = far[noised.positive[0]], far[noised.negative[0]]
    slack = 1e-4  # float32
    assert float(near.max()) <= 0.4 + slack
    assert float(wide.min()) >= 0.4 - slack
    assert float(wide.max()) <= 0.8 + slack
    # The whole of both ranges is used, evenly.
    assert float(near.mean()) == pytest.approx(0.2, abs=0.01)
    assert float(wide.mean()) == pytest.approx(0.6, abs=0.01)


def test_corners_move_to_all_sides_alike():
    noised = made([inner(400)])
    moved = (noised.boxes - noised.truth)[0]
    towards = (moved[..., :2] > 0).float().mean(0)
    grown = (moved[..., 2:] > 0).float().mean(0)
    torch.testing.assert_close(towards, torch.full((2,), 0.5), atol=0.03, rtol=0)
    torch.testing.assert_close(grown, torch.full((2,), 0.5), atol=0.03, rtol=0)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
def test_lambda_l_is_the_share_of_replaced_labels(share):
    noised = made([inner(500)], replace(CONFIG, label_noise=share))
    kept = noised.labels[noised.positive].double().mean()
    assert set(noised.labels.unique().tolist()) <= {0, 1}
    assert float(kept) == pytest.approx(1 - share, abs=0.0 if share in (0, 1) else 0.04)


def test_boxes_at_the_rim_stay_in_the_tile():
    rim = torch.tensor([[0.0, 0.5, 0.1, 0.1], [1.0, 1.0, 0.2, 0.2], [0.5, 0.01, 0.9, 0.05]]).repeat(50, 1)
    noised = made([rim])
    assert (noised.boxes > 0).all()
    low, high = noised.boxes[..., :2] - noised.boxes[..., 2:] / 2, noised.boxes[..., :2] + noised.boxes[..., 2:] / 2
    assert float(low.min()) >= -1e-4
    assert float(high.max()) <= 1 + 1e-4
    torch.testing.assert_close(noised.truth[0, :150], rim)


def test_the_generator_decides_everything():
    targets = [inner(9), inner(4, 1)]
    one, same, other = made(targets, seed=1), made(targets, seed=1), made(targets, seed=2)
    for name in ("labels", "boxes", "truth", "positive", "negative"):
        assert torch.equal(getattr(one, name), getattr(same, name))
    assert not torch.equal(one.boxes, other.boxes)
    before = torch.random.get_rng_state()
    made(targets)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_mask_hides_what_a_plain_loop_hides():
    noised = made([inner(4), inner(1, 1)], replace(CONFIG, groups=3))
    hidden, n = noised.hidden(5), len(noised)
    group = [i // 8 for i in range(n)] + [None] * 5
    for row in range(n + 5):
        for column in range(n + 5):
            # A matching query (None) is seen by all; a denoising query only within its group.
            expected = group[column] is not None and group[column] != group[row]
            assert bool(hidden[row, column]) == expected
    assert not hidden.diagonal().any()


@pytest.fixture(scope="module")
def model() -> Detector:
    """A detector away from its start, whose heads answer to all that reaches them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Detector(TINY, 0.2)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval().requires_grad_(False)


def answers(model: Detector, noised: Noised | None) -> tuple[list, list]:
    """Matching and denoising outputs for one fixed picture."""
    output = model(torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(7)), noised)
    return [*output.logits, *output.boxes], [*output.noised_logits, *output.noised_boxes]


def changed(noised: Noised, which: slice) -> Noised:
    boxes, labels = noised.boxes.clone(), noised.labels.clone()
    boxes[:, which] = boxes[:, which].flip(-1) * 0.7 + 0.1
    labels[:, which] = 1 - labels[:, which]
    return replace(noised, boxes=boxes, labels=labels)


def test_matching_queries_learn_nothing_of_the_truth(model):
    noised = made([inner(3), inner(2, 1)])
    found, denoised = answers(model, noised)
    others, other_denoised = answers(model, changed(noised, slice(None)))
    for a, b in zip(found, others, strict=True):
        assert torch.equal(a, b)
    # The change did reach the denoising queries themselves, or the equality above would say nothing.
    assert all(not torch.equal(a, b) for a, b in zip(denoised, other_denoised, strict=True))


def test_denoising_queries_do_not_change_what_is_found(model):
    """With and without them, the matching queries answer the same, to the last digits of the summation."""
    noised = made([inner(3), inner(2, 1)])
    found, _ = answers(model, noised)
    alone, _ = answers(model, None)
    for a, b in zip(found, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("group", [0, 1, 2])
def test_groups_do_not_see_each_other(model, group):
    noised = made([inner(3), inner(2, 1)])
    size = len(noised) // 3
    own = slice(group * size, (group + 1) * size)
    _, before = answers(model, noised)
    _, after = answers(model, changed(noised, own))
    rest = [i for i in range(len(noised)) if not own.start <= i < own.stop]
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a[:, rest], b[:, rest])
        assert not torch.equal(a[:, own], b[:, own])


def test_no_gradient_of_the_matching_outputs_reaches_a_denoising_query(model):
    noised = made([inner(3), inner(2, 1)])
    boxes = noised.boxes.clone().requires_grad_()
    model.noised_content.weight.requires_grad_()
    output = model(torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(7)), replace(noised, boxes=boxes))
    total = sum(t.sum() for t in (*output.logits, *output.boxes))
    reached = torch.autograd.grad(total, [boxes, model.noised_content.weight], allow_unused=True)
    model.noised_content.weight.requires_grad_(False)
    assert all(g is None or not g.any() for g in reached)


def test_denoising_queries_may_look_at_matching_queries(model):
    noised = made([inner(3), inner(2, 1)])
    _, before = answers(model, noised)
    kept = model.content.weight.clone()
    model.content.weight.mul_(-1)
    _, after = answers(model, noised)
    model.content.weight.copy_(kept)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
