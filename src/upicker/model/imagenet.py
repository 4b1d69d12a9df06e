"""ImageNet weights for the ResNet backbones: from a file, or from the hub.

Only tensors are unpickled: a file from a stranger can hold numbers, but no code that runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from upicker.errors import ConfigError, WeightsError
from upicker.model.backbone import RESNETS, ResNet
from upicker.model.detector import Detector
from upicker.model.weights import read_tensors, require_finite

OPTION = "--backbone-weights"
# timm's ImageNet-1k weights of 2021 on the hub ("a1": the best of its training recipes), Apache 2.0.
REPOSITORY = "timm/{backbone}.a1_in1k"
FILE = "model.safetensors"
# How torch's error names a function that a pickle would call.
_FOREIGN = re.compile(r"GLOBAL (\S+)")
# Names of misfitting tensors in an error, at most.
MOST_NAMES = 4


def load_backbone(model: Detector, source: str) -> None:
    """Fill a detector's ResNet backbone with ImageNet weights.

    Parameters
    ----------
    model : Detector
        Its backbone must be a `ResNet`.
    source : str
        A ``.safetensors`` or ``.pth`` file of torchvision's or timm's ResNet of that depth, or ``"hub"``.

    Raises
    ------
    ConfigError
        If there are no ImageNet weights for this backbone.
    WeightsError
        If the weights cannot be fetched or read, or do not fit; lists what does not fit, and which file to give.
    """
    name = model.config.backbone
    if name not in RESNETS:
        remedy = f"Use --preset paper, or --set model.backbone=NAME with one of {', '.join(RESNETS)}"
        raise ConfigError(OPTION, f"there are no ImageNet weights for the {name} backbone", remedy)
    path = _from_hub(name) if source == "hub" else Path(source)
    state = converted(_read(path, name))
    if problems := _misfits(model.backbone, state):
        fitting = [other for other in RESNETS if other != name and not _misfits(_on_meta_device(other), state)]
        remedy = (
            f"They are those of {fitting[0]}: --set model.backbone={fitting[0]}" if fitting else _where_to_get(name)
        )
        raise WeightsError(path, f"these weights do not fit {name}: {'; '.join(problems)}", remedy)
    require_finite(state, path)
    model.backbone.load_state_dict(state)


def converted(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn a state of torchvision's or timm's ResNet into one of `ResNet`.

    The classifier and the batch counters are dropped; the first convolution is summed over its three colours, which
    is its effect on a grey image in all three channels.
    """
    kept = {k: v for k, v in state.items() if not k.startswith("fc.") and not k.endswith("num_batches_tracked")}
    first = kept.get("conv1.weight")
    if first is not None and first.ndim == 4 and first.shape[1] == 3:
        kept["conv1.weight"] = first.sum(1, keepdim=True)
    return kept


def _from_hub(name: str) -> Path:
    """Download the weights, or find them in the hub's cache."""
    repository = REPOSITORY.format(backbone=name)
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        remedy = f"Install 'upicker[hub]'. Or: {_where_to_get(name)}"
        raise WeightsError(f"{OPTION} hub", "huggingface_hub is not installed", remedy) from error
    try:
        return Path(hf_hub_download(repository, FILE))
    except Exception as error:  # The hub raises errors of many kinds: network, permissions, names, cache.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        found = f"{repository} cannot be fetched ({reason})"
        raise WeightsError(f"{OPTION} hub", found, _where_to_get(name)) from error


def _where_to_get(name: str) -> str:
    """Return where to get a fitting file, as a sentence."""
    address = f"https://huggingface.co/{REPOSITORY.format(backbone=name)}/resolve/main/{FILE}"
    return (
        f"Fetch {address} on a machine with network (or torchvision's {name}-*.pth from download.pytorch.org/models) "
        f"and give the file: {OPTION} FILE"
    )


def _read(path: Path, name: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(path, "there is no such file", _where_to_get(name))
    if path.suffix not in {".pth", ".pt", ".bin"}:
        return read_tensors(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of any kind for a broken file.
        if foreign := _FOREIGN.search(str(error)):
            found = f"it holds more than tensors ('{foreign[1]}', which may run code when read), and is refused"
            raise WeightsError(path, found, f"Do not open it with other programs. {_where_to_get(name)}") from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise WeightsError(path, f"cannot be read as tensors ({reason})", _where_to_get(name)) from error
    others = [key for key, value in state.items() if not isinstance(value, Tensor)] if isinstance(state, dict) else []
    if others or not isinstance(state, dict):
        kind = f"'{others[0]}' is not a tensor" if others else f"it is a {type(state).__name__}"
        raise WeightsError(path, f"expected a dictionary of tensors ({kind})", _where_to_get(name))
    return state


def _on_meta_device(name: str) -> nn.Module:
    """Return a ResNet on the meta device: tensors have shapes, but take no memory."""
    with torch.device("meta"):
        return ResNet(name)


def _misfits(backbone: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Return, in words, which tensors are missing, unexpected, or of another shape; empty if all fit."""
    own = {name: tuple(tensor.shape) for name, tensor in backbone.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    groups = {
        "missing": [name for name in own if name not in found],
        "unexpected": [name for name in found if name not in own],
        "of another shape": [
            f"{name} {found[name]} instead of {shape}" for name, shape in own.items() if found.get(name, shape) != shape
        ],
    }
    return [f"{len(names)} {what} ({_first(names)})" for what, names in groups.items() if names]


def _first(names: list[str]) -> str:
    return ", ".join(names[:MOST_NAMES]) + (", ..." if len(names) > MOST_NAMES else "")
