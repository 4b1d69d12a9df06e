"""Deformable attention against plain second implementations, its own derivatives, and transformers."""

import importlib
import math
import warnings

import numpy as np
import pytest
import torch

from upicker.model.attention import MSDeformAttn, ms_deform_attn, samples_by_grid
from upicker.model.position import FASTEST, SLOWEST, Pyramid, sine_embedding

SHAPES = [(7, 5), (4, 3), (2, 1)]
B, Q, H, P, WIDTH = 2, 6, 3, 4, 2
L = sum(h * w for h, w in SHAPES)


def random_input(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Values, sampling locations (many of them outside or on the edge) and weights, in float64."""
    random = torch.Generator().manual_seed(seed)
    values = torch.randn(B, L, H, WIDTH, generator=random, dtype=torch.float64)
    locations = torch.rand(B, Q, H, len(SHAPES), P, 2, generator=random, dtype=torch.float64) * 1.6 - 0.3
    weights = torch.rand(B, Q, H, len(SHAPES) * P, generator=random, dtype=torch.float64).softmax(-1)
    return values, locations, weights.view(B, Q, H, len(SHAPES), P)


def plain_sample(values: np.ndarray, locations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The definition, one number at a time."""
    out = np.zeros((B, Q, H, WIDTH))
    first = np.cumsum([0, *(h * w for h, w in SHAPES)])
    for b, q, h, n, p in np.ndindex(B, Q, H, len(SHAPES), P):
        rows, columns = SHAPES[n]
        x, y = locations[b, q, h, n, p] * (columns, rows) - 0.5
        for i in (math.floor(y), math.floor(y) + 1):
            for j in (math.floor(x), math.floor(x) + 1):
                if 0 <= i < rows and 0 <= j < columns:
                    weight = (1 - abs(y - i)) * (1 - abs(x - j)) * weights[b, q, h, n, p]
                    out[b, q, h] += weight * values[b, first[n] + i * columns + j, h]
    return out.reshape(B, Q, H * WIDTH)


def reference():
    """The transformers implementation; its import may warn about other code than ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("transformers")
        return importlib.import_module("transformers.models.deformable_detr.modeling_deformable_detr")


def test_sampling_agrees_with_a_plain_loop():
    values, locations, weights = random_input()
    found = ms_deform_attn(values, SHAPES, locations, weights)
    expected = plain_sample(values.numpy(), locations.numpy(), weights.numpy())
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_a_location_at_the_centre_of_a_cell_gives_that_cell():
    """The convention that boxes rely on: 0..1 spans the outer edges of the pixels of each level."""
    values = torch.arange(35.0, dtype=torch.float64).view(1, 35, 1, 1)
    pyramid = Pyramid([(7, 5)], [0.5])
    places = pyramid.centres(dtype=torch.float64) / pyramid.extents(dtype=torch.float64)
    locations = places.view(1, 35, 1, 1, 1, 2)
    found = ms_deform_attn(values, [(7, 5)], locations, torch.ones(1, 35, 1, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(found.flatten(), torch.arange(35.0, dtype=torch.float64), atol=1e-5, rtol=0)


def test_derivatives_of_sampling_are_right():
    values, locations, weights = (t[:1].clone().requires_grad_() for t in random_input(1))
    # Away from the kinks of bilinear interpolation, where there is no derivative.
    cells = locations.detach() * torch.tensor([(w, h) for h, w in SHAPES])[:, None] - 0.5
    assert ((cells - cells.round()).abs() > 1e-4).all()
    assert torch.autograd.gradcheck(lambda v, p, w: ms_deform_attn(v, SHAPES, p, w), (values, locations, weights))


def sum_and_gradients(sampling, given: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """The sums of a way of sampling, and the gradients of values, locations and weights."""
    values, locations, weights = (t.detach().clone().requires_grad_() for t in given)
    sums = sampling(values, SHAPES, locations, weights)
    random = torch.Generator().manual_seed(7)
    of_sums = torch.randn(sums.shape, generator=random).to(sums.dtype)
    return [sums.detach(), *torch.autograd.grad(sums, (values, locations, weights), of_sums)]


@pytest.mark.parametrize(
    ("precision", "of_values", "far"),
    [
        (torch.float64, torch.float64, 1e-12),
        (torch.float32, torch.float32, 1e-5),
        # bfloat16 has eight bits: the ends of both ways are rounded alike, but for a last bit.
        (torch.float32, torch.bfloat16, 2**-7),
    ],
)
def test_sums_and_gradients_are_those_of_grid_sample(precision, of_values, far):
    values, locations, weights = random_input(5)
    locations = torch.cat([locations, 5 * locations - 2, 1e6 * locations], 1)  # far outside, too
    given = values.to(of_values), locations.to(precision), weights.repeat(1, 3, 1, 1, 1).to(of_values)
    for found, expected in zip(sum_and_gradients(ms_deform_attn, given), sum_and_gradients(samples_by_grid, given)):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= far * expected.abs().max()


def test_places_outside_the_map_give_nothing_and_have_no_gradient():
    """Just outside, at the zeros around a level, and so far that no whole number holds the pixel."""
    values, locations, weights = random_input(6)
    for outside in (-1.0, -0.5, 1.5, 2.0, 40.0, -1e30, 1e30):
        given = values.float(), torch.full_like(locations, outside).float(), weights.float()
        for found in sum_and_gradients(ms_deform_attn, given):
            assert not found.any(), outside


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_place_that_is_not_finite_spoils_its_own_query_only(value, axis):
    """Training skips a step whose gradient is not finite; it must neither crash nor train on garbage."""
    values, locations, weights = (t.float() for t in random_input(7))
    locations[1, 2, 0, 1, 3, axis] = value
    sums, _, of_locations, _ = sum_and_gradients(ms_deform_attn, (values, locations, weights))
    spoilt = ~sums.isfinite().view(B, Q, H, WIDTH).all(-1)
    assert spoilt.nonzero().tolist() == [[1, 2, 0]]
    assert not of_locations[1, 2, 0, 1, 3].isfinite().all()


def test_gradients_are_computed_only_where_they_are_asked_for():
    values, locations, weights = random_input(8)
    whole = sum_and_gradients(ms_deform_attn, (values, locations, weights))
    for i, asked in enumerate((values, locations, weights)):
        asked.requires_grad_()
        sums = ms_deform_attn(values, SHAPES, locations, weights)
        random = torch.Generator().manual_seed(7)
        of_sums = torch.randn(sums.shape, generator=random).to(sums.dtype)
        torch.testing.assert_close(torch.autograd.grad(sums, asked, of_sums)[0], whole[i + 1])
        asked.requires_grad_(False)


def test_no_query_is_no_sum():
    values, locations, weights = random_input(9)
    sums, of_values, *_ = sum_and_gradients(ms_deform_attn, (values, locations[:, :0], weights[:, :0]))
    assert sums.shape == (B, 0, H * WIDTH)
    assert not of_values.any()


def test_derivatives_of_the_whole_module_are_right():
    random = torch.Generator().manual_seed(3)
    module = MSDeformAttn(4, 2, 2, 2).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=random)
    shapes = [(3, 4), (2, 2)]
    queries, memory = (torch.randn(1, n, 4, generator=random, dtype=torch.float64) for n in (3, 16))
    boxes = torch.rand(1, 3, 2, 4, generator=random, dtype=torch.float64) * 0.5 + 0.2
    given = tuple(t.requires_grad_() for t in (queries, boxes, memory))
    assert torch.autograd.gradcheck(lambda q, r, m: module(q, r, m, shapes), given)


def test_sampling_agrees_with_transformers():
    other = reference().MultiScaleDeformableAttention()
    values, locations, weights = random_input(2)
    shapes = torch.tensor(SHAPES)
    expected = other(values, shapes, SHAPES, None, locations, weights, 64)
    torch.testing.assert_close(ms_deform_attn(values, SHAPES, locations, weights), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", [2, 4], ids=["points", "boxes"])
def test_the_module_agrees_with_transformers(form):
    room = reference()
    config = room.DeformableDetrConfig(
        d_model=24, num_feature_levels=3, encoder_attention_heads=3, decoder_attention_heads=3,
        use_timm_backbone=False, use_pretrained_backbone=False,
    )  # fmt: skip
    other = room.DeformableDetrMultiscaleDeformableAttention(config, num_heads=3, n_points=P).double()
    own = MSDeformAttn(24, 3, 3, P).double()
    random = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for mine, theirs in (
            (own.sampling_offsets, other.sampling_offsets),
            (own.attention_weights, other.attention_weights),
            (own.value_proj, other.value_proj),
            (own.output_proj, other.output_proj),
        ):
            for name in ("weight", "bias"):
                drawn = torch.randn(getattr(mine, name).shape, generator=random, dtype=torch.float64) * 0.3
                getattr(mine, name).copy_(drawn)
                getattr(theirs, name).copy_(drawn)
    queries, memory = (torch.randn(B, n, 24, generator=random, dtype=torch.float64) for n in (Q, L))
    reference_points = torch.rand(B, Q, 3, form, generator=random, dtype=torch.float64)
    expected, _ = other(
        queries,
        encoder_hidden_states=memory,
        reference_points=reference_points,
        spatial_shapes=torch.tensor(SHAPES),
        spatial_shapes_list=SHAPES,
    )
    torch.testing.assert_close(own(queries, reference_points, memory, SHAPES), expected, atol=1e-11, rtol=0)


def test_heads_start_in_different_directions_with_points_at_growing_distances():
    module = MSDeformAttn(16, 8, 2, 3)
    start = module.sampling_offsets(torch.randn(1, 16)).detach().view(8, 2, 3, 2)
    torch.testing.assert_close(start[:, 0], start[:, 1])
    reach = start.abs().amax(-1)[:, 0]
    torch.testing.assert_close(reach, torch.tensor([1.0, 2.0, 3.0]).expand(8, 3))
    angle = torch.atan2(start[:, 0, 0, 1], start[:, 0, 0, 0])
    assert len(set((angle / (math.pi / 4)).round().int().tolist()) | {4}) >= 8


def test_boxes_twice_as_large_are_sampled_twice_as_far():
    """Boxes set the unit of the offsets: a box of two cells is sampled as points two cells apart are."""
    module = MSDeformAttn(8, 2, 1, 1)
    seen = []
    for side in (0.1, 0.2):
        memory = Pyramid([(20, 20)], [0.05]).centres()[None] @ torch.eye(2, 8)
        torch.nn.init.eye_(module.value_proj.weight)
        torch.nn.init.eye_(module.output_proj.weight)
        found = module(torch.zeros(1, 1, 8), torch.tensor([[[[0.5, 0.5, side, side]]]]), memory, [(20, 20)])
        seen.append(found.detach()[0, 0, :2] - 0.5)
    torch.testing.assert_close(seen[1], 2 * seen[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0], torch.tensor([0.05, 0.0]), atol=1e-5, rtol=0)


def test_cell_centres_run_row_by_row_and_level_by_level():
    pyramid = Pyramid([(2, 4), (1, 2)], [0.25, 0.5])
    centres = pyramid.centres()
    torch.testing.assert_close(centres[:, 0], torch.tensor([0.125, 0.375, 0.625, 0.875] * 2 + [0.25, 0.75]))
    torch.testing.assert_close(centres[:, 1], torch.tensor([0.125] * 4 + [0.375] * 4 + [0.25] * 2))
    torch.testing.assert_close(pyramid.extents(), torch.tensor([[1.0, 0.5], [1.0, 0.5]]))
    assert pyramid.of_tokens(torch.tensor([[1.0], [2.0]])).flatten().tolist() == [1.0] * 8 + [2.0] * 2


def test_products_of_sine_embeddings_depend_on_the_distance_only():
    """Near positions have similar embeddings, positions one particle apart do not."""
    x = torch.linspace(10, 20, 81, dtype=torch.float64)[:, None]
    known = sine_embedding(x, 64)
    assert known.shape == (81, 64)
    products = known @ known.T / 32
    for step in (0, 1, 5, 20):
        diagonal = products.diagonal(step)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-9, rtol=0)
    torch.testing.assert_close(products.diagonal(), torch.ones(81, dtype=torch.float64))
    assert float(products[0, round(1 / 0.125)]) < 0.7
    assert SLOWEST < 1 < FASTEST


def test_the_sine_embedding_of_two_values_is_that_of_each_beside_the_other():
    both = torch.tensor([[0.2, 0.7]])
    torch.testing.assert_close(
        sine_embedding(both, 8), torch.cat([sine_embedding(both[:, :1], 8), sine_embedding(both[:, 1:], 8)], 1)
    )
