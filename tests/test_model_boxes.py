"""Boxes: two forms, one overlap."""

import numpy as np
import pytest
import torch

from upicker.model.boxes import box_cxcywh_to_xyxy, box_xyxy_to_cxcywh, generalized_box_iou, refined


def boxes(n: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.concatenate([rng.uniform(0, 1, (n, 2)), rng.uniform(0.01, 0.6, (n, 2))], 1))


def plain_giou(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, for one pair of boxes in centre form, one number at a time."""
    ax0, ay0, ax1, ay1 = a[0] - a[2] / 2, a[1] - a[3] / 2, a[0] + a[2] / 2, a[1] + a[3] / 2
    bx0, by0, bx1, by1 = b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2
    inter = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
    union = a[2] * a[3] + b[2] * b[3] - inter
    hull = (max(ax1, bx1) - min(ax0, bx0)) * (max(ay1, by1) - min(ay0, by0))
    return inter / union - (hull - union) / hull


def test_forms_undo_each_other():
    a = boxes(40, 0)
    torch.testing.assert_close(box_xyxy_to_cxcywh(box_cxcywh_to_xyxy(a)), a)
    torch.testing.assert_close(
        box_cxcywh_to_xyxy(torch.tensor([0.5, 0.25, 0.2, 0.1])), torch.tensor([0.4, 0.2, 0.6, 0.3])
    )


def test_generalized_iou_agrees_with_its_definition():
    a, b = boxes(30, 1), boxes(20, 2)
    found = generalized_box_iou(a[:, None], b[None])
    expected = [[plain_giou(x, y) for y in b.numpy()] for x in a.numpy()]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert (found.numpy() < 0).any()
    assert (found.numpy() > 0.2).any()
    torch.testing.assert_close(found, generalized_box_iou(b[None], a[:, None]))


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [
        ((0.5, 0.5, 0.2, 0.4), (0.5, 0.5, 0.2, 0.4), 1.0),
        ((0.5, 0.5, 0.4, 0.4), (0.5, 0.5, 0.2, 0.2), 0.25),
        ((0.1, 0.5, 0.2, 0.2), (0.3, 0.5, 0.2, 0.2), 0.0),  # touching: no overlap, no gap
        ((0.1, 0.5, 0.2, 0.2), (0.9, 0.5, 0.2, 0.2), -0.6),  # 0.6 of the hull is empty
        ((0.25, 0.5, 0.5, 0.2), (0.5, 0.5, 0.5, 0.2), 1 / 3),
    ],
)
def test_generalized_iou_of_boxes_drawn_by_hand(a, b, value):
    found = generalized_box_iou(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))
    assert float(found) == pytest.approx(value, abs=1e-12)


def test_generalized_iou_of_points_is_finite_and_so_is_its_gradient():
    a = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.2, 0.2, 0.0, 0.1]], requires_grad=True)
    found = generalized_box_iou(a, a.detach().clone())
    found.sum().backward()
    assert found.isfinite().all()
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_generalized_iou_falls_with_distance_even_without_overlap():
    x = torch.linspace(0.1, 0.9, 30)
    moving = torch.stack([x, torch.full_like(x, 0.5), torch.full_like(x, 0.1), torch.full_like(x, 0.1)], 1)
    assert (generalized_box_iou(moving, moving[:1]).diff() < 0).all()


def test_boxes_move_by_their_sides_and_grow_by_factors():
    box = torch.tensor([[3.0, 5.0, 2.0, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(refined(box, torch.zeros(1, 4)), box)
    moved = refined(box, torch.tensor([[0.5, -1.0, np.log(2.0), np.log(0.5)]], dtype=torch.float64))
    torch.testing.assert_close(moved, torch.tensor([[4.0, 4.5, 4.0, 0.25]], dtype=torch.float64))


def test_boxes_move_alike_wherever_they_are_and_whatever_their_size():
    delta = 0.3 * torch.randn(20, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    some, place, scale = boxes(20, 3) + 0.2, torch.tensor([100.0, -7.0, 0, 0]), 0.6
    torch.testing.assert_close(refined(some + place, delta), refined(some, delta) + place)
    torch.testing.assert_close(refined(some * scale, delta), refined(some, delta) * scale)


def test_boxes_stay_finite_and_positive_after_any_step():
    box = torch.tensor([[1.0, 1.0, 1.0, 1.0]], requires_grad=True)
    for step in (1e3, -1e3):
        found = refined(box, torch.full((1, 4), step))
        assert found.isfinite().all()
        assert (found[:, 2:] > 0).all()
        assert torch.autograd.grad(found.sum(), box)[0].isfinite().all()
