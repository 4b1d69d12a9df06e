"""The detector as a whole: shapes, batches, gradients, half precision."""

from dataclasses import replace

import pytest
import torch

from upicker.config import Config, DenoiseConfig, ModelConfig
from upicker.model import weights
from upicker.model.boxes import refined
from upicker.model.denoising import prepare_denoising
from upicker.model.detector import PRIOR_PROBABILITY, Detector
from upicker.model.transformer import REACH, _self_attention

TINY = ModelConfig(
    widths=(8, 8, 16, 16, 16), dim=32, heads=4, feedforward=32, encoder_layers=1, decoder_layers=3, query_density=0.75
)
DIAMETER_PX = 16.0
TARGETS = [torch.tensor([[1.2, 1.6, 0.8, 0.8], [2.8, 2.4, 0.8, 0.8]]), torch.zeros(0, 4)]


def built(config: ModelConfig, spread: float = 0.0) -> Detector:
    """A detector from a fixed seed; `spread` moves every parameter away from its start."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Detector(config, DIAMETER_PX)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += spread * torch.randn(parameter.shape)
    return model.eval()


def images(n: int, *size: int) -> torch.Tensor:
    return torch.randn(n, 1, *size, generator=torch.Generator().manual_seed(1))


def denoising_queries():
    return prepare_denoising(TARGETS, DenoiseConfig(groups=2), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (TINY, (64, 64)),
        (TINY, (70, 100)),
        (replace(TINY, levels=2), (64, 64)),
        (replace(TINY, levels=4), (64, 64)),
        (replace(TINY, levels=5), (96, 64)),
        (replace(TINY, backbone="resnet50", levels=4), (64, 96)),
    ],
)
def test_shapes_and_ranges_of_the_output(config, size):
    model = built(config)
    with torch.no_grad():
        output = model(images(2, *size), denoising_queries())
    assert len(output.aux_logits) + 1 == len(output.aux_boxes) + 1 == len(output.dn_logits) == config.decoder_layers
    number = round(0.75 * size[0] * size[1] / DIAMETER_PX**2)
    for logits, boxes in output.layers:
        assert logits.shape == (2, number, 1)
        assert boxes.shape == (2, number, 4)
        assert logits.isfinite().all()
        beyond = 32 * 2 ** max(0, config.levels - 3) / DIAMETER_PX  # the outer cells of the coarsest level
        assert ((boxes > 0) & (boxes[..., :2].amax(-1, keepdim=True) < max(size) / DIAMETER_PX + beyond)).all()
    assert output.dn_logits[0].shape == (2, 2 * 2 * 2, 1)
    assert output.dn_boxes[0].shape == (2, 2 * 2 * 2, 4)


def test_without_denoising_queries_there_are_no_denoising_outputs():
    with torch.no_grad():
        output = built(TINY)(images(1, 64, 64))
    assert output.dn_logits == output.dn_boxes == []


def test_a_batch_is_its_singles():
    model, tiles = built(TINY, 0.1), images(3, 70, 100)
    with torch.no_grad():
        together = model(tiles)
        for i in range(3):
            alone = model(tiles[i : i + 1])
            for several, one in zip(together.layers, alone.layers, strict=True):
                for a, b in zip(several, one, strict=True):
                    torch.testing.assert_close(a[i : i + 1], b, atol=2e-5, rtol=1e-4)


def test_fewer_tokens_than_queries_give_fewer_detections():
    model = built(replace(TINY, query_density=50))
    with torch.no_grad():
        output = model(images(2, 64, 64), denoising_queries())
    tokens = 8 * 8 + 4 * 4 + 2 * 2
    assert output.pred_logits.shape == (2, tokens, 1)


def test_a_fresh_detector_expects_few_particles_of_the_expected_size():
    model = built(TINY)
    with torch.no_grad():
        output = model(images(1, 64, 64))
    torch.testing.assert_close(output.enc_boxes[..., 2:], torch.ones(1, 12, 2))
    torch.testing.assert_close(output.pred_boxes, output.enc_boxes, atol=1e-4, rtol=0)
    assert float(output.pred_logits.sigmoid().median()) == pytest.approx(PRIOR_PROBABILITY, abs=3 * PRIOR_PROBABILITY)


def test_query_selection_takes_the_tokens_with_the_highest_scores():
    model = built(TINY, 0.1)
    with torch.no_grad():
        memory, pyramid = model.encode(images(2, 64, 96))
        logits, boxes = model.select_queries(memory, pyramid, 12)
        every = model.enc_out_class_embed(model.enc_output_norm(model.enc_output(memory)))[..., 0]
    torch.testing.assert_close(logits[..., 0], every.sort(1, descending=True).values[:, :12])
    assert boxes.shape == (2, 12, 4)


def test_the_content_of_queries_is_learned_and_does_not_depend_on_the_image():
    """Mixed query selection: positions from the image, content from the embedding."""
    model = built(TINY, 0.1)
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    with torch.no_grad():
        model(images(2, 64, 64))
    assert torch.equal(seen[0], model.query_embed.weight.expand(2, 12, -1))


def decoder_steps(model: Detector) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """The box steps of the decoder's layers, kept for their gradients, the boxes, and the first boxes."""
    steps: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, _given: tuple, step: torch.Tensor) -> None:
        step.retain_grad()
        steps.append(step)

    hook = model.decoder.bbox_embed.register_forward_hook(keep)
    with torch.no_grad():
        memory, pyramid = model.encode(images(1, 64, 64))
        _, first = model.select_queries(memory, pyramid, 12)
    first = first.requires_grad_()
    content = model.query_embed.weight.expand(1, 12, -1)
    _, boxes = model.decoder(content, first, memory, pyramid)
    hook.remove()
    return steps, boxes, first


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_look_forward_twice(layer):
    """The gradient of a layer's box reaches its own step and the one before, and none further back."""
    steps, boxes, first = decoder_steps(built(TINY, 0.1))
    boxes[layer].sum().backward()
    for other, step in enumerate(steps):
        reached = step.grad is not None and bool(step.grad.abs().max() > 0)
        assert reached == (other in (layer, layer - 1)), f"layer {layer} on the step of {other}"
    reached = first.grad is not None and bool(first.grad.abs().max() > 0)
    assert reached == (layer == 0)


def test_boxes_are_refined_step_by_step():
    """Each box is what all steps so far make of the first; looking forward twice changes gradients only."""
    steps, boxes, first = decoder_steps(built(TINY, 0.1))
    at = first
    for step, box in zip(steps, boxes, strict=True):
        at = refined(at, step)
        torch.testing.assert_close(at, box, atol=1e-4, rtol=0)


def test_the_query_selection_gets_no_gradient_from_the_decoders_boxes():
    model = built(TINY, 0.1)
    output = model(images(1, 64, 64))
    output.pred_boxes.sum().backward()
    for parameter in model.enc_out_bbox_embed.parameters():
        assert parameter.grad is None or not parameter.grad.any()


@pytest.mark.parametrize("config", [TINY, replace(TINY, levels=4)])
def test_bfloat16_is_finite_near_float32_and_leaves_boxes_in_float32(config):
    model = built(config, 0.02)
    tiles = images(2, 64, 96)
    exact = model(tiles, denoising_queries())
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(tiles, denoising_queries())
    for output in (exact, rough):
        for tensors in (*output.layers[:-1], output.dn_logits, output.dn_boxes):
            assert all(t.dtype == torch.float32 and t.isfinite().all() for t in tensors)
    # The same tokens need not win in half precision; the denoising queries are the same ones.
    torch.testing.assert_close(rough.dn_boxes[-1], exact.dn_boxes[-1], atol=0.02, rtol=0)
    sum(t.sum() for layer in rough.layers[:-1] for t in layer).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_the_detector_does_not_change_its_input():
    tiles = images(1, 64, 64)
    before = tiles.clone()
    with torch.no_grad():
        built(TINY)(tiles)
    assert torch.equal(tiles, before)


def test_the_unit_of_length_is_the_working_diameter():
    config = Config().with_changes({"image.working_diameter_px": 20})
    with torch.device("meta"):
        assert weights.build(config).diameter_px == 20


def test_more_queries_where_a_tile_holds_more_particles():
    model = built(TINY)
    with torch.no_grad():
        assert model(images(1, 64, 64), at_least=40).pred_logits.shape == (1, 40, 1)
        assert model(images(1, 64, 64), at_least=3).pred_logits.shape == (1, 12, 1)


def test_what_lies_far_away_does_not_change_a_query():
    """Queries beyond reach of each other are as if alone, however many there are in a tile."""
    model = built(TINY, 0.1)
    memory, pyramid = model.encode(images(1, 64, 224))
    near = torch.rand(1, 5, 4, generator=torch.Generator().manual_seed(2)) + 0.5
    beyond, close = (torch.cat([near, near + torch.tensor([step, 0, 0, 0])], 1) for step in (REACH + 3, 0.1))
    with torch.no_grad():
        alone, far, crowded = (
            model.decoder(model.query_embed.weight.expand(1, boxes.shape[1], -1), boxes, memory, pyramid)[0][1][:, :5]
            for boxes in (near, beyond, close)
        )
    torch.testing.assert_close(far, alone, atol=1e-5, rtol=0)
    assert (crowded - alone).abs().max() > 1e-3


def test_the_origin_moves_what_is_embedded_and_no_box():
    model = built(TINY)  # before training, boxes stay where the encoder put them
    with torch.no_grad():
        here = model(images(2, 64, 64))
        there = model(images(2, 64, 64), origin=torch.tensor([[30.0, 2.0], [0.0, 0.0]]))
    torch.testing.assert_close(here.pred_boxes, there.pred_boxes)
    assert not torch.allclose(here.pred_logits[0], there.pred_logits[0], atol=1e-4)
    torch.testing.assert_close(here.pred_logits[1], there.pred_logits[1])


def test_self_attention_is_that_of_its_module():
    layer = built(TINY, 0.1).decoder.layers[0]
    query, value = torch.randn(2, 2, 9, 32, generator=torch.Generator().manual_seed(3)).unbind()
    mask = torch.rand(2, 9, 9, generator=torch.Generator().manual_seed(4)) > 0.5
    mask &= ~torch.eye(9, dtype=torch.bool)
    attention = layer.self_attn
    expected, _ = attention(query, query, value, attn_mask=mask.repeat_interleave(attention.num_heads, 0))
    torch.testing.assert_close(_self_attention(attention, query, value, mask), expected)
