"""The back end of PyTorch: a detector as a function from NumPy to NumPy, and on what device it computes.

The only file of this room that imports torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from upicker.config import Config
from upicker.errors import ConfigError, DeviceError, WeightsError
from upicker.model import weights
from upicker.model.detector import Detector
from upicker.model.inference import InferenceDetector
from upicker.pick.network import Computing, DeviceFullError, LoadedNetwork, changed


class TorchNetwork:
    """A detector as a `upicker.pick.network.Network`.

    Parameters
    ----------
    model : Detector
        The network; it is moved to the config's device. Its weights are copied: later changes do not matter.
    config : Config
        Device, threads and precision.
    """

    def __init__(self, model: Detector, config: Config) -> None:
        self._device = device_of(config)
        with _named_errors(self._device):
            self._network = InferenceDetector(to_device(model, config), precision(config, self._device))

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(B, 1, h, w)` float32 -> scores `(B, Q)`, boxes `(B, Q, 4)`; see `upicker.pick.network.Network`."""
        with _named_errors(self._device):
            images = torch.from_numpy(tiles).to(self._device, memory_format=torch.channels_last)
            scores, boxes = self._network(images)
            return scores.cpu().numpy(), boxes.cpu().numpy()


class _Later:
    """A network that goes to its device with the first tiles: a process that only hands out files takes no GPU."""

    def __init__(self, model: Detector, config: Config) -> None:
        self._model, self._config = model, config
        self._network: TorchNetwork | None = None

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._network is None:
            self._network = TorchNetwork(self._model, self._config)
        return self._network(tiles)


def load(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
    """Load a weights file of `upicker pretrain` or `finetune`; see `upicker.pick.network.load`."""
    model, header, stored = weights.load(path)
    config = changed(stored, changes)
    device = device_of(config).type
    spare = None if device == "cpu" else partial(TorchNetwork, model, config.with_changes({"train.device": "cpu"}))
    network = _Later(model, config)
    return LoadedNetwork(
        network,
        config,
        header.length,
        header.threshold,
        device,
        gpus(config),
        spare,
        thresholds=header.by_views,
        calibrations=header.curves,
        general=header.general,
        bfloat16=precision(config, device_of(config)) == torch.bfloat16,
    )


def gpus(config: Config) -> tuple[str, ...]:
    """Return the GPUs that processes may divide, as CUDA_VISIBLE_DEVICES names them; none if the config names one."""
    # ROCm has more such variables, which would have to agree.
    if config.train.device not in ("auto", "cuda") or torch.version.hip or not torch.cuda.is_available():
        return ()
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return tuple(named[:count]) if named[0] else tuple(map(str, range(count)))


def computing() -> Computing:
    """Return what torch was built for and what it finds; see `upicker.pick.network.computing`."""
    cuda, hip = torch.version.cuda, torch.version.hip
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = [torch.cuda.get_device_properties(number) for number in range(count)]
    return Computing(
        f"ROCm {hip}" if hip else f"CUDA {cuda}" if cuda else "CPU",
        tuple(f"{one.name}, {one.total_memory / 2**30:.0f} GiB" for one in found),
        precision(Config(), torch.device("cpu")) == torch.bfloat16,
    )


def verified(path: Path) -> str:
    """Return the SHA-256 of a shipped model, which its header names, too; see `upicker.pick.network.verified`."""
    _, header, _ = weights.load(path)
    found, shipped = weights.digest(weights.read_tensors(path)), header.general.get("sha256")
    if found != shipped:
        what = f"its SHA-256 is {found[:8]}..., that of the model that was shipped {str(shipped)[:8]}..."
        raise WeightsError(path, what, "Install UPicker again")
    return found


# What torch says when a GPU cannot be used any more by this process, and when there is no memory, of a GPU or a CPU.
_FAILED = re.compile("CUDA|CUDNN|cuDNN|CUBLAS|HIP error")
_FULL = re.compile("out of memory|ALLOC_FAILED|can't allocate memory|not enough memory|could not create a memory", re.I)


@contextmanager
def _named_errors(device: torch.device) -> Iterator[None]:
    """Raise `DeviceFullError`, MemoryError or `DeviceError` for those of torch, which are all RuntimeErrors."""
    try:
        yield
    except RuntimeError as error:
        lines = str(error).splitlines() or [type(error).__name__]
        if _FULL.search(str(error)):
            raise (MemoryError if device.type == "cpu" else DeviceFullError)(lines[0]) from error
        if device.type != "cpu" and _FAILED.search(str(error)):
            remedy = "Look at nvidia-smi and the system's log; --set train.device=cpu does without it"
            raise DeviceError(f"the GPU {device}", lines[0], remedy) from error
        raise


def to_device(model: Detector, config: Config) -> Detector:
    """Move a detector to the config's device, with the memory format and the threads that compute fastest."""
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    return model.to(device_of(config)).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def device_of(config: Config) -> torch.device:
    """Return the config's device; ``auto`` is a GPU where there is one.

    Raises
    ------
    ConfigError
        If there is no such device, or torch was installed without it.
    """
    name = config.train.device
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    known = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    if (device.index or 0) >= known:
        there = f"PyTorch finds {known or 'no'} such {'device' if known == 1 else 'devices'}"
        raise ConfigError("train.device", f"'{name}' is not there: {there}", "Use train.device=auto or cpu")
    return device


def autocast(config: Config, device: torch.device) -> torch.autocast:
    """Return the context in which the network is trained; see `precision`."""
    enabled = precision(config, device) == torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled and device.type in {"cpu", "cuda"})


def precision(config: Config, device: torch.device) -> torch.dtype:
    """Return the precision in which the network computes: bfloat16 where the processor is fast at it."""
    bfloat16 = config.train.bfloat16
    if bfloat16 is None:
        bfloat16 = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_is_fast_at_bfloat16()
    return torch.bfloat16 if bfloat16 else torch.float32


def _cpu_is_fast_at_bfloat16() -> bool:
    # A private name of torch: where it is missing, float32 is right, only slower.
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.backends.mkldnn.is_available() and supported()
