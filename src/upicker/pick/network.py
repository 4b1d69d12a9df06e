"""What picking requires of a back end: a network as one function, NumPy in, NumPy out.

A back end is one file with a function like `load`; ``Picker(path, back_end=load)`` uses it. The default is chosen in
`load` below. Tiles, views, merging and thresholds are independent of the back end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from upicker.calibration import Calibration
from upicker.config import Config
from upicker.errors import ConfigError
from upicker.units import Length

# Tiles `(B, 1, h, w)` float32 at the working scale, 0 = background -> scores `(B, Q)` float32 in 0..1, and boxes
# `(B, Q, 4)` float32 in centre form (x, y, width, height), in pixels of the tile, the centre of the first one at 0. Any
# size of tile that is a multiple of `upicker.pick.detection.MULTIPLE` works. Q may be anything, and differ from batch
# to batch.
Network = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class DeviceFullError(MemoryError):
    """The memory of a GPU is full: the tiles that it was given cannot be computed together."""


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with what its file says about it.

    Attributes
    ----------
    network : callable
        The function.
    config : Config
        Stored with the weights, with the user's changes.
    diameter : Length or None
        Particle diameter that the weights were trained for; None: any, so that the user gives it.
    threshold : float or None
        Lowest score of a pick, chosen by training.
    device : str
        Type of the device that computes: ``"cpu"``, ``"cuda"``, ...
    gpus : tuple of str
        The GPUs that several processes divide, as CUDA_VISIBLE_DEVICES names them; none where all use one device.
    spare : callable or None
        Returns the same network on the CPU, for when the memory of the GPU is full.
    thresholds : mapping of int to float
        The threshold for each of some numbers of views; empty: `threshold` for all.
    calibrations : mapping of int to Calibration
        What makes probabilities of scores, for each of some numbers of views; empty: scores are used as they are.
    general : mapping of str to str
        The shipped model that the weights are, or were trained from (`upicker.model.header.Header.general`).
    bfloat16 : bool
        Whether it computes in bfloat16, which may be for the machine to decide.
    """

    network: Network
    config: Config
    diameter: Length | None
    threshold: float | None
    device: str
    gpus: tuple[str, ...] = ()
    spare: Callable[[], Network] | None = None
    thresholds: Mapping[int, float] = field(default_factory=dict)
    calibrations: Mapping[int, Calibration] = field(default_factory=dict)
    general: Mapping[str, str] = field(default_factory=dict)
    bfloat16: bool = False

    def probability(self, score: np.ndarray, views: int) -> np.ndarray:
        """Return `(n,)` probabilities for scores from a number of views; uncalibrated, the scores as they are."""
        if not self.calibrations:
            return score
        return self.calibrations[nearest(views, self.calibrations)].probability(score)

    def threshold_with(self, views: int | None) -> float | None:
        """Return the threshold for a number of views, or for the nearest known one; None: for the usual number."""
        return threshold_with(views, self.thresholds, self.threshold)


def threshold_with(views: int | None, thresholds: Mapping[int, float], usual: float | None) -> float | None:
    """Return the threshold for a number of views, or for the nearest known one; `usual` for None, the usual number."""
    if views is None or not thresholds:
        return usual
    return thresholds[nearest(views, thresholds)]


def nearest(views: int, known: Iterable[int]) -> int:
    """Return the nearest known number of views, of two the larger one."""
    return min(known, key=lambda number: (abs(number - views), -number))


def load(path: Path, changes: Mapping[str, object]) -> LoadedNetwork:
    """Load a network from its file with the back end for that file.

    Parameters
    ----------
    path : Path
        A weights file.
    changes : mapping
        The user's changes to the stored config, e.g. ``{"pick.threshold": 0.3}``.

    Raises
    ------
    WeightsError, ConfigError
        If the file or the changes cannot be used.
    """
    from upicker.pick import torch_network  # torch takes seconds to import

    return torch_network.load(path, changes)


@dataclass(frozen=True)
class Computing:
    """What the default back end computes with on this machine.

    Attributes
    ----------
    build : str
        What it was built for: ``"CPU"``, ``"CUDA 13.0"``, ``"ROCm 6.4"``.
    gpus : tuple of str
        Name and memory of each GPU that it can use.
    cpu_bfloat16 : bool
        Whether networks compute in bfloat16 on the CPU.
    """

    build: str
    gpus: tuple[str, ...]
    cpu_bfloat16: bool


def computing() -> Computing:
    """Return what the default back end computes with on this machine."""
    from upicker.pick import torch_network

    return torch_network.computing()


def verified(path: Path) -> str:
    """Read a shipped model, and compare the SHA-256 of its numbers with the one that it was shipped with.

    Returns
    -------
    str
        In hexadecimal digits.

    Raises
    ------
    WeightsError
        If the file is broken or was changed.
    """
    from upicker.pick import torch_network

    return torch_network.verified(path)


def changed(stored: Config, changes: Mapping[str, object]) -> Config:
    """Return a stored config with the user's changes.

    Raises
    ------
    ConfigError
        If a change is invalid, or would need other weights.
    """
    config = stored.with_changes(changes)
    other = {name: value for name, value in _fixed(stored).items() if _fixed(config)[name] != value}
    if other:
        raise ConfigError(
            "--preset, --config or --set",
            f"{', '.join(f'{name} is {value}' for name, value in other.items())}: fixed by the weights",
            f"Leave {'it' if len(other) == 1 else 'them'} out",
        )
    return config


def _fixed(stored: Config) -> dict[str, object]:
    """Return what weights depend on: architecture and working scale."""
    scale: dict[str, object] = {"image.working_diameter_px": stored.image.working_diameter_px}
    architecture = {f"model.{name}": value for name, value in asdict(stored.model).items() if name != "query_density"}
    return architecture | scale
