"""The weights file: safetensors, whose header carries all that picking requires.

No pickle is read: a file from a stranger can hold numbers and text, but no code that runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_as_bytes
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from upicker.config import Config, ModelConfig
from upicker.errors import ConfigError, WeightsError
from upicker.io.atomic import replacing
from upicker.model.detector import Detector
from upicker.model.header import Header, parsed, quoted

_KEY = "upicker"


# Kinds of the tensors that a network is filled from.
_DTYPES = {"F64", "F32", "F16", "BF16"}
# Groups of layers that the header counts: knob -> their names.
_LAYERS = {"levels": "input_proj", "encoder_layers": "encoder.layers", "decoder_layers": "decoder.layers"}


def build(config: Config) -> Detector:
    """Return a fresh detector for the config's architecture and working scale.

    Raises
    ------
    ConfigError
        If such a network cannot be built.
    """
    _require_buildable(config.model)
    return Detector(config.model, config.image.working_diameter_px)


def _require_buildable(model: ModelConfig) -> None:
    if model.dim % model.heads:
        remedy = f"It takes a multiple of model.heads, which is {model.heads}"
        raise ConfigError("model.dim", f"it cannot be {model.dim}", remedy)


def save(path: Path, model: nn.Module, header: Header) -> None:
    """Write the weights file, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = tensors_as_bytes(state, {_KEY: header.to_text()})
    with replacing(path) as beside:
        # Not through safetensors' own writer: its files are readable by their owner only.
        beside.write_bytes(content)


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of all tensors, with their names, kinds and shapes, in hexadecimal digits."""
    ordered = {name: state[name].detach().cpu().contiguous() for name in sorted(state)}
    return hashlib.sha256(tensors_as_bytes(ordered)).hexdigest()


def read_header(path: Path) -> Header:
    """Read a weights file's header only.

    Raises
    ------
    WeightsError
        If the file is missing, broken, not UPicker's, or of another format.
    """
    with _opened(path) as file:
        text = (file.metadata() or {}).get(_KEY)
    if text is None:
        raise WeightsError(
            path,
            "these are weights, but not of UPicker",
            "Give a file that upicker pretrain or finetune wrote",
        )
    return parsed(text, path)


def load(path: Path) -> tuple[Detector, Header, Config]:
    """Read a weights file into a detector of its own architecture.

    Returns
    -------
    model, header, config
        The config is that of the header, except for device and threads: those belong to the machine that trained.

    Raises
    ------
    WeightsError
        As `checked`, or if a tensor is not finite.
    """
    header, config = checked(path)
    # The random start is overwritten; the caller's generator stays as it was.
    with torch.random.fork_rng(devices=[]):
        model = build(config)
    load_into(model, path)
    return model, header, config


def checked(path: Path) -> tuple[Header, Config]:
    """Read all of a weights file but the numbers, and check that it fits together; no network is built.

    Memory is bounded by the size of the file: the header's layers are counted in the names of the tensors before as
    much as the shapes of a network are derived from it.

    Returns
    -------
    header, config
        As those of `load`.

    Raises
    ------
    WeightsError
        As `read_header`, or if the config is not valid here, or the tensors do not fit the header's architecture.
    """
    header = read_header(path)
    try:
        config = _without_machine(Config().with_tables(header.config, "its config"))
        _require_buildable(config.model)
    except ConfigError as error:
        found = f"its config does not fit this version ({quoted(error.found)})"
        raise WeightsError(path, found, "Train again") from error
    with _opened(path) as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
        kinds = {name: one.get_dtype() for name, one in slices.items()}
    for knob, group in _LAYERS.items():
        depth = group.count(".") + 1
        found = {name.split(".")[depth] for name in shapes if name.startswith(f"{group}.") and name.count(".") > depth}
        if len(found) != getattr(config.model, knob):
            what = f"its header says model.{knob}={getattr(config.model, knob)}, its tensors {len(found)}"
            raise _another_architecture(path, what)
    _require_shapes(path, _shapes_of(config.model), shapes)
    if other := sorted(name for name, kind in kinds.items() if kind not in _DTYPES):
        raise WeightsError(
            path, f"'{quoted(other[0])}' holds no floating-point numbers", "Copy it again, or train again"
        )
    return header, config


@lru_cache(maxsize=16)
def _shapes_of(model: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Return the tensors of an architecture by name, without their memory."""
    with torch.device("meta"), _WithoutNormal():
        return {name: tuple(tensor.shape) for name, tensor in Detector(model, 0.1).state_dict().items()}


class _WithoutNormal(TorchFunctionMode):
    """Leaves out normally distributed values: on the device ``meta`` they import torch's compiler, a second of work."""

    def __torch_function__(
        self, func: Callable, types: object, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, or do nothing."""
        kwargs = kwargs or {}
        if func in (Tensor.normal_, nn.init.normal_, nn.init.kaiming_normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _require_shapes(path: Path, own: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse tensors whose names or shapes do not fit."""
    wrong = [n for n in own if own[n] != found.get(n)] + [n for n in found if n not in own]
    if wrong:
        raise _another_architecture(path, f"{len(wrong)} tensors do not fit, e.g. '{quoted(wrong[0])}'")


def _another_architecture(path: Path, what: str) -> WeightsError:
    return WeightsError(
        path,
        f"these are weights of another architecture ({what})",
        "Use the preset and the --set model.* knobs that they were trained with",
    )


def _without_machine(config: Config) -> Config:
    """Return a training's config with the default device and threads."""
    default = Config().train
    return replace(config, train=replace(config.train, device=default.device, threads=default.threads))


def load_into(model: Detector, path: Path) -> None:
    """Fill a detector from a weights file.

    Raises
    ------
    WeightsError
        If names or shapes do not fit: the weights are of another architecture.
    """
    fill(model, read_tensors(path), path)


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Fill a module from a state whose names and shapes must all fit.

    Raises
    ------
    WeightsError
        Giving `path` and the first tensor that does not fit, or is not finite.
    """
    own, found = ({name: tuple(t.shape) for name, t in one.items()} for one in (module.state_dict(), state))
    _require_shapes(path, own, found)
    require_finite(state, path)
    module.load_state_dict(dict(state))


def require_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse tensors with NaN or infinite numbers, which a broken copy or a diverged training leaves.

    Raises
    ------
    WeightsError
        Naming the first.
    """
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(
                path, f"'{quoted(name)}' holds numbers that are not finite", "Copy it again, or train again"
            )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file.

    Raises
    ------
    WeightsError
        If it is missing or broken.
    """
    with _opened(path) as file:
        try:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, RuntimeError, ValueError) as error:  # of a kind that torch does not know, for instance
            raise WeightsError(
                path, f"a tensor cannot be read ({quoted(error)})", "Copy it again, or train again"
            ) from error


def _opened(path: Path) -> safe_open:
    if not Path(path).is_file():
        raise WeightsError(path, "there is no such file", "Train one with upicker pretrain or finetune")
    try:
        return safe_open(path, "pt")
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            path, f"this is not a whole safetensors file ({quoted(error)})", "Copy it again, or train again"
        ) from error
