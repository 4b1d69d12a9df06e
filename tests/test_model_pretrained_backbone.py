"""ImageNet weights: torchvision's names and shapes, grey images, and errors about files that do not fit."""

import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from upicker.config import Config
from upicker.errors import ConfigError, WeightsError
from upicker.model import imagenet, weights
from upicker.model.backbone import ResNet
from upicker.model.detector import Detector

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}
CONFIG = Config().with_changes(
    {"model.dim": 32, "model.heads": 4, "model.feedforward": 16, "model.encoder_layers": 0, "model.decoder_layers": 1}
    | {"model.query_density": 0.1, "model.backbone": "resnet18"}
)


def torchvision_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ResNet, by its rule, with classifier and batch counters."""
    bottleneck = name == "resnet50"
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}

    def norm(at: str, channels: int) -> None:
        shapes.update({f"{at}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{at}.num_batches_tracked"] = ()

    norm("bn1", 64)
    before = 64
    for layer, (blocks, width) in enumerate(zip(BLOCKS[name], (64, 128, 256, 512), strict=True), 1):
        after = 4 * width if bottleneck else width
        for block in range(blocks):
            at = f"layer{layer}.{block}"
            kernels = [(width, before, 3, 3), (width, width, 3, 3)]
            if bottleneck:
                kernels = [(width, before, 1, 1), (width, width, 3, 3), (after, width, 1, 1)]
            for i, shape in enumerate(kernels, 1):
                shapes[f"{at}.conv{i}.weight"] = shape
                norm(f"{at}.bn{i}", shape[0])
            if block == 0 and (layer > 1 or bottleneck):
                shapes[f"{at}.downsample.0.weight"] = (after, before, 1, 1)
                norm(f"{at}.downsample.1", after)
            before = after
    return shapes | {"fc.weight": (1000, before), "fc.bias": (1000,)}


def torchvision_state(name: str) -> dict[str, Tensor]:
    """A state as torchvision saves it, with random numbers."""
    random = torch.Generator().manual_seed(0)
    state = {}
    for key, shape in torchvision_shapes(name).items():
        state[key] = torch.tensor(7) if not shape else 0.02 * torch.randn(shape, generator=random)
        if key.endswith("running_var"):
            state[key] = state[key].abs() + 1
    return state


def fresh(backbone: str = "resnet18") -> Detector:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return weights.build(CONFIG.with_changes({"model.backbone": backbone}))


def saved(path: Path, state: object) -> str:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return str(path)


@pytest.fixture(scope="module")
def state18() -> dict[str, Tensor]:
    return torchvision_state("resnet18")


def refused(source: str, backbone: str = "resnet18") -> WeightsError:
    """A refusal leaves the backbone as it was."""
    model = fresh(backbone)
    with pytest.raises(WeightsError) as caught:
        imagenet.load_backbone(model, source)
    before = fresh(backbone).state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    return caught.value


@pytest.mark.parametrize("name", BLOCKS)
def test_the_backbones_carry_torchvisions_names_and_shapes(name):
    with torch.device("meta"):
        own = {key: tuple(tensor.shape) for key, tensor in ResNet(name).state_dict().items()}
    theirs = torchvision_shapes(name) | {"conv1.weight": (64, 1, 7, 7)}
    assert own == {k: s for k, s in theirs.items() if not k.startswith("fc.") and "num_batches" not in k}


@pytest.mark.parametrize(("name", "millions"), [("resnet18", 11.69), ("resnet34", 21.80), ("resnet50", 25.56)])
def test_the_rule_of_names_gives_the_published_numbers_of_parameters(name, millions):
    learned = [s for k, s in torchvision_shapes(name).items() if "running" not in k and "num_batches" not in k]
    assert sum(torch.Size(shape).numel() for shape in learned) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_load_from_a_file(tmp_path, state18, suffix):
    model = fresh()
    imagenet.load_backbone(model, saved(tmp_path / f"resnet18{suffix}", state18))
    found = model.backbone.state_dict()
    assert torch.equal(found["layer4.1.conv2.weight"], state18["layer4.1.conv2.weight"])
    assert torch.equal(found["layer2.0.downsample.1.running_var"], state18["layer2.0.downsample.1.running_var"])
    torch.testing.assert_close(found["conv1.weight"], state18["conv1.weight"].sum(1, keepdim=True))


def test_files_of_the_old_format_load_too(tmp_path, state18):
    """Torchvision's oldest files are no archives."""
    path, model = tmp_path / "resnet18-old.pth", fresh()
    torch.save(state18, path, _use_new_zipfile_serialization=False)
    imagenet.load_backbone(model, str(path))
    assert torch.equal(model.backbone.state_dict()["bn1.bias"], state18["bn1.bias"])


def test_a_grey_image_gives_what_it_would_as_rgb(state18):
    kept = imagenet.converted(state18)
    grey = torch.randn(2, 1, 30, 42, generator=torch.Generator().manual_seed(1))
    expected = F.conv2d(grey.expand(-1, 3, -1, -1), state18["conv1.weight"], None, 2, 3)
    torch.testing.assert_close(F.conv2d(grey, kept["conv1.weight"], None, 2, 3), expected, atol=1e-5, rtol=1e-4)
    assert state18["conv1.weight"].shape[1] == 3  # what was given stays as it was
    one = {"conv1.weight": torch.ones(64, 1, 7, 7)}
    assert torch.equal(imagenet.converted(one)["conv1.weight"], one["conv1.weight"])


def test_tensors_that_do_not_fit_are_listed(tmp_path, state18):
    path = tmp_path / "resnet18.pth"
    short = {k: v for k, v in state18.items() if k != "layer3.1.conv2.weight"}
    error = refused(saved(path, short))
    assert error.where == str(path)
    assert "1 missing (layer3.1.conv2.weight)" in error.found
    error = refused(saved(path, state18 | {"head.bias": torch.zeros(5)}))
    assert "1 unexpected (head.bias)" in error.found
    error = refused(saved(path, state18 | {"layer1.0.conv1.weight": torch.zeros(64, 64, 1, 1)}))
    assert "1 of another shape (layer1.0.conv1.weight (64, 64, 1, 1) instead of (64, 64, 3, 3))" in error.found
    assert "huggingface.co/timm/resnet18.a1_in1k" in error.remedy
    error = refused(saved(path, {}))
    assert "100 missing (conv1.weight, bn1.weight, bn1.bias, bn1.running_mean, ...)" in error.found


def test_weights_of_another_depth_are_recognised(tmp_path, state18):
    error = refused(saved(tmp_path / "r.pth", state18), "resnet34")
    assert "missing (layer1.2.conv1.weight" in error.found
    assert error.remedy == "They are those of resnet18: --set model.backbone=resnet18"


def test_files_of_something_else_are_refused(tmp_path, state18):
    path = tmp_path / "r.pth"
    assert "'state_dict' is not a tensor" in refused(saved(path, {"state_dict": state18})).found
    assert "it is a list" in refused(saved(path, [1, 2])).found
    for content in (b"", b"PK\x03\x04junk", b"junk"):
        path.write_bytes(content)
        assert "cannot be read as tensors" in refused(str(path)).found
    safe = tmp_path / "r.safetensors"
    safe.write_bytes(b"junk")
    assert "safetensors" in refused(str(safe)).found
    error = refused(str(tmp_path / "none.pth"))
    assert "no such file" in error.found
    assert "Fetch https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors" in error.remedy


class Trap:
    """Touches a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["torch", "torch before 1.6", "pickle"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path, state18, writer):
    path, sprung = tmp_path / "resnet18.pth", tmp_path / "sprung"
    content = state18 | {"extra": Trap(sprung)}
    if writer == "pickle":
        path.write_bytes(pickle.dumps({"conv1.weight": Trap(sprung)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    error = refused(str(path))
    assert "refused" in error.found
    assert "getattr" in error.found or "pathlib" in error.found  # what it would call is named
    assert not sprung.exists()
    pickle.loads(pickle.dumps(Trap(sprung)))
    assert sprung.exists()  # the trap works


def test_the_compact_backbone_takes_no_imagenet_weights(tmp_path, state18):
    with pytest.raises(ConfigError, match=r"compact.*--set model\.backbone=NAME.*resnet34"):
        imagenet.load_backbone(fresh("compact"), saved(tmp_path / "r.pth", state18))


def test_the_hub_is_asked_for_timms_weights(tmp_path, state18, monkeypatch):
    asked = []

    def hf_hub_download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return saved(tmp_path / "model.safetensors", state18)

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=hf_hub_download))
    model = fresh()
    imagenet.load_backbone(model, "hub")
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]
    assert torch.equal(model.backbone.state_dict()["bn1.bias"], state18["bn1.bias"])


def test_without_the_hub_the_file_to_give_is_named(monkeypatch):
    def offline(repository: str, file: str) -> str:
        raise ConnectionError("no route to host.\nMore of it.")

    address = "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors"
    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(hf_hub_download=offline))
    error = refused("hub", "resnet50")
    assert error.found == "timm/resnet50.a1_in1k cannot be fetched (no route to host)"
    assert address in error.remedy
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    error = refused("hub", "resnet50")
    assert "not installed" in error.found
    assert "upicker[hub]" in error.remedy
    assert address in error.remedy
