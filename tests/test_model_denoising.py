"""Contrastive denoising: what the queries are, and that no truth leaks out of them."""

from dataclasses import replace

import pytest
import torch

from upicker.config import DenoiseConfig, ModelConfig
from upicker.model.denoising import DenoisingQueries, prepare_denoising
from upicker.model.detector import Detector, DetectorOutput

CONFIG = DenoiseConfig(groups=3, label_noise=0.5, positive_noise=0.4, negative_noise=0.8)
TINY = ModelConfig(
    widths=(8, 8, 16, 16, 16), dim=32, heads=4, feedforward=32, encoder_layers=1, decoder_layers=2, query_density=0.6
)


def inner(n: int, seed: int = 0) -> torch.Tensor:
    """Boxes in a tile of 4 x 4 particle diameters."""
    random = torch.Generator().manual_seed(seed)
    return torch.cat(
        [torch.rand(n, 2, generator=random) * 2.4 + 0.8, torch.rand(n, 2, generator=random) * 0.8 + 0.4], 1
    )


def made(targets: list[torch.Tensor], config: DenoiseConfig = CONFIG, seed: int = 0) -> DenoisingQueries:
    denoising = prepare_denoising(targets, config, torch.Generator().manual_seed(seed))
    assert denoising is not None
    return denoising


def moves(denoising: DenoisingQueries) -> torch.Tensor:
    """`(B, n, 4)`: how far each corner coordinate moved, in half box sides."""
    half = denoising.targets[..., 2:] / 2

    def corners(boxes: torch.Tensor) -> torch.Tensor:
        return torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], -1)

    return (corners(denoising.boxes) - corners(denoising.targets)).abs() / torch.cat([half, half], -1)


@pytest.mark.parametrize("most", [1, 7, 101, 800])
def test_groups_never_collapse(most):
    denoising = made([inner(most), inner(most // 2, 1)])
    assert denoising.groups == 3
    assert len(denoising) == denoising.boxes.shape[1] == 2 * 3 * most
    assert denoising.positive.sum(1).tolist() == [3 * most, 3 * (most // 2)]
    assert denoising.negative.sum(1).tolist() == [3 * most, 3 * (most // 2)]


@pytest.mark.parametrize("targets", [[], [torch.zeros(0, 4)], [torch.zeros(0, 4)] * 3])
def test_without_objects_there_are_no_queries(targets):
    assert prepare_denoising(targets, CONFIG, torch.Generator()) is None


def test_without_groups_there_are_no_queries():
    assert prepare_denoising([inner(3)], replace(CONFIG, groups=0), torch.Generator()) is None


def test_each_group_holds_every_object_as_a_positive_and_a_negative():
    targets = [inner(5), inner(2, 1), torch.zeros(0, 4)]
    denoising = made(targets)
    truth, positive, negative = (
        t.unflatten(1, (3, 2, 5)) for t in (denoising.targets, denoising.positive, denoising.negative)
    )
    for i, target in enumerate(targets):
        for group in range(3):
            assert positive[i, group, 0].sum() == negative[i, group, 1].sum() == len(target)
            assert not positive[i, group, 1].any()
            assert not negative[i, group, 0].any()
            for half in range(2):
                torch.testing.assert_close(truth[i, group, half, : len(target)], target)


def test_padding_is_neither_positive_nor_negative():
    denoising = made([inner(6), inner(2, 1), torch.zeros(0, 4)])
    real = denoising.positive | denoising.negative
    assert not (denoising.positive & denoising.negative).any()
    assert real.sum(1).tolist() == [6 * 6, 6 * 2, 0]
    assert denoising.boxes.isfinite().all()


def test_positives_move_less_than_lambda_p_and_negatives_between_it_and_lambda_n():
    denoising = made([inner(400)])
    far = moves(denoising)[0]
    near, wide = far[denoising.positive[0]], far[denoising.negative[0]]
    slack = 1e-4  # float32
    assert float(near.max()) <= 0.4 + slack
    assert float(wide.min()) >= 0.4 - slack
    assert float(wide.max()) <= 0.8 + slack
    # The whole of both ranges is used, evenly.
    assert float(near.mean()) == pytest.approx(0.2, abs=0.01)
    assert float(wide.mean()) == pytest.approx(0.6, abs=0.01)


def test_corners_move_to_all_sides_alike():
    denoising = made([inner(400)])
    moved = (denoising.boxes - denoising.targets)[0]
    towards = (moved[..., :2] > 0).float().mean(0)
    grown = (moved[..., 2:] > 0).float().mean(0)
    torch.testing.assert_close(towards, torch.full((2,), 0.5), atol=0.03, rtol=0)
    torch.testing.assert_close(grown, torch.full((2,), 0.5), atol=0.03, rtol=0)


@pytest.mark.parametrize("fraction", [0.0, 0.2, 0.5, 1.0])
def test_lambda_l_is_the_fraction_of_replaced_labels(fraction):
    denoising = made([inner(500)], replace(CONFIG, label_noise=fraction))
    kept = denoising.labels[denoising.positive].double().mean()
    assert set(denoising.labels.unique().tolist()) <= {0, 1}
    assert float(kept) == pytest.approx(1 - fraction, abs=0.0 if fraction in (0, 1) else 0.04)


def test_boxes_at_the_border_move_as_others_do():
    border = torch.tensor([[0.0, 2.0, 1.0, 1.0], [4.0, 4.0, 0.8, 0.8], [2.0, 0.04, 3.6, 0.5]]).repeat(50, 1)
    denoising = made([border])
    torch.testing.assert_close(denoising.targets[0, :150], border)
    assert (denoising.boxes[..., 2:] > 0).all()
    assert float(moves(denoising)[0][denoising.negative[0]].min()) >= 0.4 - 1e-4


def test_sides_stay_positive_under_any_noise():
    denoising = made([inner(200)], replace(CONFIG, positive_noise=1.0, negative_noise=3.0))
    assert (denoising.boxes[..., 2:] > 0).all()


def test_the_generator_decides_everything():
    targets = [inner(9), inner(4, 1)]
    one, same, other = made(targets, seed=1), made(targets, seed=1), made(targets, seed=2)
    for name in ("labels", "boxes", "targets", "positive", "negative"):
        assert torch.equal(getattr(one, name), getattr(same, name))
    assert not torch.equal(one.boxes, other.boxes)
    before = torch.random.get_rng_state()
    made(targets)
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_attention_mask_is_that_of_a_plain_loop():
    denoising = made([inner(4), inner(1, 1)], replace(CONFIG, groups=3))
    mask, n = denoising.attn_mask(5), len(denoising)
    group = [i // 8 for i in range(n)] + [None] * 5
    for row in range(n + 5):
        for column in range(n + 5):
            # All attend to a matching query (None); to a denoising query, its own group only.
            expected = group[column] is not None and group[column] != group[row]
            assert bool(mask[row, column]) == expected
    assert not mask.diagonal().any()


@pytest.fixture(scope="module")
def model() -> Detector:
    """A detector away from its start, whose heads depend on all of their input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Detector(TINY, 16.0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval().requires_grad_(False)


def matching_queries(output: DetectorOutput) -> list[torch.Tensor]:
    """Logits and boxes of all decoder layers."""
    return [tensor for layer in output.layers[:-1] for tensor in layer]


def predictions(model: Detector, denoising: DenoisingQueries | None) -> tuple[list, list]:
    """Outputs of the matching and of the denoising queries for one fixed image."""
    output = model(torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(7)), denoising)
    return matching_queries(output), [*output.dn_logits, *output.dn_boxes]


def changed(denoising: DenoisingQueries, which: slice) -> DenoisingQueries:
    boxes, labels = denoising.boxes.clone(), denoising.labels.clone()
    boxes[:, which] = boxes[:, which].flip(-1) * 0.7 + 0.1
    labels[:, which] = 1 - labels[:, which]
    return replace(denoising, boxes=boxes, labels=labels)


def test_no_truth_reaches_the_matching_queries(model):
    denoising = made([inner(3), inner(2, 1)])
    found, denoised = predictions(model, denoising)
    others, other_denoised = predictions(model, changed(denoising, slice(None)))
    for a, b in zip(found, others, strict=True):
        assert torch.equal(a, b)
    # The change did reach the denoising queries themselves, or the equality above would prove nothing.
    assert all(not torch.equal(a, b) for a, b in zip(denoised, other_denoised, strict=True))


def test_denoising_queries_do_not_change_the_detections(model):
    """With and without them, the matching queries predict the same, to the last digits of the summation."""
    denoising = made([inner(3), inner(2, 1)])
    found, _ = predictions(model, denoising)
    alone, _ = predictions(model, None)
    for a, b in zip(found, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("group", [0, 1, 2])
def test_groups_do_not_attend_to_each_other(model, group):
    denoising = made([inner(3), inner(2, 1)])
    size = len(denoising) // 3
    own = slice(group * size, (group + 1) * size)
    _, before = predictions(model, denoising)
    _, after = predictions(model, changed(denoising, own))
    rest = [i for i in range(len(denoising)) if not own.start <= i < own.stop]
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a[:, rest], b[:, rest])
        assert not torch.equal(a[:, own], b[:, own])


def test_no_gradient_of_the_matching_outputs_reaches_a_denoising_query(model):
    denoising = made([inner(3), inner(2, 1)])
    boxes = denoising.boxes.clone().requires_grad_()
    model.label_enc.weight.requires_grad_()
    output = model(
        torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(7)), replace(denoising, boxes=boxes)
    )
    total = sum(t.sum() for t in matching_queries(output))
    reached = torch.autograd.grad(total, [boxes, model.label_enc.weight], allow_unused=True)
    model.label_enc.weight.requires_grad_(False)
    assert all(g is None or not g.any() for g in reached)


def test_denoising_queries_may_attend_to_matching_queries(model):
    denoising = made([inner(3), inner(2, 1)])
    _, before = predictions(model, denoising)
    kept = model.query_embed.weight.clone()
    model.query_embed.weight.mul_(-1)
    _, after = predictions(model, denoising)
    model.query_embed.weight.copy_(kept)
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
