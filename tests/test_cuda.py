"""The network on a GPU: the same predictions, losses, training and picks as on a CPU.

Each test also runs with the CPU in place of the GPU, so that its own code is known to work. Those on the GPU have the
marker `cuda` and skip without one; ``pytest -m cuda --must-run=cuda`` fails instead.
"""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import KDTree
from test_train_loop import CONFIG, discs, fresh, plan_of, rows_of, same, trained

from upicker.config import Config, DenoiseConfig, LossConfig
from upicker.model import inference, weights
from upicker.model.criterion import SetCriterion
from upicker.model.denoising import DenoisingQueries, prepare_denoising
from upicker.model.detector import Detector, DetectorOutput
from upicker.model.inference import InferenceDetector
from upicker.model.weights import Header
from upicker.particles import Micrograph, Particles
from upicker.pick.picker import Picker
from upicker.pick.torch_network import TorchNetwork, autocast
from upicker.run.pick import processes
from upicker.train.loop import Plan

TARGETS = [torch.tensor([[1.2, 1.6, 0.8, 0.8], [2.8, 2.4, 0.8, 0.8]]), torch.zeros(0, 4)]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request) -> Iterator[str]:
    """The devices; convolutions in full float32, whose 10-bit TensorFloat-32 would hide a mistake."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch finds no GPU")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield request.param


def on(device: str, config: Config = CONFIG, **changes: object) -> Config:
    return config.with_changes({"train.device": device, **{k.replace("_", ".", 1): v for k, v in changes.items()}})


def spread_out(config: Config = CONFIG) -> Detector:
    """A detector away from its start, with predictions that differ."""
    model, random = fresh(config).eval(), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=random)
    return model


def tiles(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 1, 64, 64, generator=torch.Generator().manual_seed(1))


def predicted(device: str, config: Config = CONFIG) -> tuple[DetectorOutput, DenoisingQueries, Detector]:
    """Outputs of the same weights for the same tiles and denoising queries, on a device."""
    targets = [boxes.to(device) for boxes in TARGETS]
    denoising = prepare_denoising(targets, DenoiseConfig(groups=2), torch.Generator().manual_seed(0))
    assert denoising is not None
    model = spread_out().to(device)
    with autocast(config, torch.device(device)):
        outputs = model(tiles().to(device, memory_format=torch.channels_last), denoising)
    return outputs, denoising, model


def agree(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(found.detach().cpu(), expected.detach(), atol=atol, rtol=0)


def test_denoising_queries_do_not_depend_on_the_device(device):
    _, found, _ = predicted(device)
    _, expected, _ = predicted("cpu")
    for name in ("labels", "positive", "negative"):
        assert torch.equal(getattr(found, name).cpu(), getattr(expected, name))
    agree(found.boxes, expected.boxes, 1e-6)
    assert torch.equal(found.attn_mask(16).cpu(), expected.attn_mask(16))


def test_predictions_agree_with_those_of_the_cpu(device):
    with torch.no_grad():
        found, _, model = predicted(device)
        expected, _, reference = predicted("cpu")
        agree(model.encode(tiles().to(device))[0], reference.encode(tiles())[0])
    for one, other in zip(found.dn_logits + found.dn_boxes, expected.dn_logits + expected.dn_boxes, strict=True):
        agree(one, other)
    # The selected tokens may come in another order where scores are nearly equal.
    for (logits, _), (other, _) in zip(found.layers, expected.layers, strict=True):
        agree(logits.sort(1).values, other.sort(1).values, 1e-3)


def test_losses_and_gradients_agree_with_those_of_the_cpu(device):
    losses, gradients = [], []
    for where in (device, "cpu"):
        outputs, denoising, model = predicted(where)
        targets = [boxes.to(where) for boxes in TARGETS]
        unsure = [torch.tensor([[0.5, 0.2, 0.2, 0.2, 0.25]], device=where), torch.zeros(0, 5, device=where)]
        found = SetCriterion(LossConfig())(outputs, targets, denoising, unsure)
        found["loss"].backward()
        losses.append({name: float(value.detach()) for name, value in found.items()})
        gradients.append({name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None})
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        agree(gradient, gradients[1][name], 1e-2 * float(gradients[1][name].abs().max()) + 1e-5)


def test_bfloat16_is_finite_near_float32_and_gives_float32(device):
    with torch.no_grad():
        rough, _, _ = predicted(device, on(device, train_bfloat16=True))
        exact, _, _ = predicted(device)
    for tensors in (*rough.layers, rough.dn_logits, rough.dn_boxes):
        assert all(t.dtype == torch.float32 and t.isfinite().all() for t in tensors)
    assert not torch.equal(rough.dn_boxes[-1], exact.dn_boxes[-1])
    agree(rough.dn_boxes[-1], exact.dn_boxes[-1].cpu(), 0.05)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_the_back_end_gives_numpy_arrays(device, bfloat16):
    network = TorchNetwork(spread_out(), on(device, train_bfloat16=bfloat16))
    scores, boxes = network(tiles(3).numpy())
    expected, _ = TorchNetwork(spread_out(), on("cpu"))(tiles(3).numpy())
    assert boxes.shape == (*scores.shape, 4)
    assert scores.dtype == boxes.dtype == np.float32
    assert ((scores >= 0) & (scores < 1)).all()  # 0 where a tile has fewer queries
    np.testing.assert_allclose(np.sort(scores), np.sort(expected), atol=0.1 if bfloat16 else 1e-3)


def test_the_detector_for_picking_computes_what_that_of_training_does(device, monkeypatch):
    monkeypatch.setattr(inference, "LEAST_SCORE", 0.0)
    monkeypatch.setattr(inference, "ENOUGH", 0.0)  # every token becomes a query, so that none can change places
    model = spread_out().to(device)
    images = tiles(3).to(device)
    with torch.inference_mode():
        scores, boxes = InferenceDetector(model)(images)
        outputs = model(images, at_least=10**6)
        precise = copy.deepcopy(model).double()(images.double(), at_least=10**6)
    for expected in (outputs, precise):
        agree(scores, expected.pred_logits[..., 0].sigmoid().cpu().float(), 1e-5)
        in_pixels = expected.pred_boxes.cpu().float() * model.diameter_px - torch.tensor([0.5, 0.5, 0, 0])
        agree(boxes, in_pixels, 1e-3)


def row_values(plan: Plan) -> np.ndarray:
    names = ("loss", "loss_class", "loss_l1", "loss_giou", "loss_denoise")
    return np.array([[float(row[name]) for name in names] for row in rows_of(plan)])


@pytest.mark.parametrize("bfloat16", [False, True])
def test_training_begins_as_on_the_cpu_and_validates(device, tmp_path, bfloat16):
    changes: dict = {"train.bfloat16": bfloat16}
    plan = plan_of(tmp_path, on(device, CONFIG.with_changes(changes)))
    state, stopped = trained(plan)
    assert (state.step, stopped) == (6, False)
    assert next(state.model.parameters()).device.type == device
    (tmp_path / "cpu").mkdir()
    reference = plan_of(tmp_path / "cpu")
    trained(reference)
    found, expected = row_values(plan), row_values(reference)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0], expected[0], rtol=0.1 if bfloat16 else 5e-3)
    assert sum(bool(row["f1"]) for row in rows_of(plan)) == 3
    # The kept weights are read on any machine.
    kept, _, config = weights.load(tmp_path / "kept.safetensors")
    assert next(kept.parameters()).device.type == "cpu"
    assert config.train.device == "auto"


def test_a_training_goes_on_from_its_checkpoint(device, tmp_path):
    plan = plan_of(tmp_path, on(device), checks=False)
    state, _ = trained(replace(plan, steps=4))
    assert plan.checkpoint.is_file()
    resumed, _ = trained(plan, resume=True)
    assert resumed.step == 6
    moments = [value for one in resumed.optimizer.state.values() for value in one.values() if value.ndim]
    assert {value.device.type for value in moments} == {device}
    assert not same(state.model.state_dict(), resumed.model.state_dict())
    assert all(bool(value.isfinite().all()) for value in resumed.model.state_dict().values())


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory) -> Path:
    """Weights trained for a few steps on the CPU."""
    folder = tmp_path_factory.mktemp("weights")
    state, _ = trained(plan_of(folder, steps=30, checks=False))
    path = folder / "model.safetensors"
    header = Header(CONFIG.to_tables(), "16px", "finetune", 0.05, None, None, None, steps=30)
    weights.save(path, state.average, header)
    return path


def picks_of(picker: Picker) -> Particles:
    pixels, _ = discs(2)
    return picker.pick(Micrograph(-pixels, "discs"), 16.0)


def test_picks_agree_with_those_of_the_cpu(device, weights_file):
    changes = {"pick.threshold": 0.0, "train.bfloat16": False}
    picker = Picker(weights_file, {**changes, "train.device": device})
    assert picker.device == device
    picks, expected = picks_of(picker), picks_of(Picker(weights_file, {**changes, "train.device": "cpu"}))
    assert len(expected) > 10
    assert abs(len(picks) - len(expected)) <= 0.05 * len(expected)
    distance, _ = KDTree(picks.xy).query(expected.xy)
    assert np.mean(distance < 0.5) >= 0.95
    np.testing.assert_allclose(picks.score[:10], expected.score[:10], atol=0.01)
    assert (np.diff(picks.score) <= 0).all()


def test_picking_in_bfloat16_finds_the_same_strong_particles(device, weights_file):
    changes = {"pick.threshold": 0.0, "train.device": device}
    rough = picks_of(Picker(weights_file, {**changes, "train.bfloat16": True}))
    exact = picks_of(Picker(weights_file, {**changes, "train.bfloat16": False}))
    distance, _ = KDTree(rough.xy).query(exact.xy[:10])
    assert np.mean(distance < 2) >= 0.8
    assert len(set(rough.score.tolist())) == len(rough)  # scores are not rounded to bfloat16's few steps


def test_auto_is_the_gpu_where_there_is_one(weights_file):
    picker = Picker(weights_file, {"train.device": "auto"})
    assert picker.device == ("cuda" if torch.cuda.is_available() else "cpu")


def test_a_gpu_is_used_by_one_process(device, weights_file):
    picker = Picker(weights_file, {"train.device": device})
    assert processes(1000, picker) >= 1
    if device == "cuda":
        assert processes(1000, picker) == 1
