"""The resumable state of a training: named at birth, written whole, read back without pickle's dangers."""

from __future__ import annotations

from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from upicker.errors import InputError, WeightsError
from upicker.io.atomic import replacing
from upicker.model.detector import Detector


@dataclass
class State:
    """All that changes while training. Random numbers are drawn per step, so none is kept.

    Attributes
    ----------
    model : Detector
        The weights that learn.
    average : Detector
        Their moving average: what is validated and kept.
    optimizer : Optimizer
        With its moments.
    step : int
        Steps done.
    waited : int
        Validations since the best one.
    best : dict
        Row of the best validation so far; empty before the first.
    seconds : float
        Training time so far.
    memory : dict
        What the teacher found at its last look, plain values and tensors; empty without one.
    """

    model: Detector
    average: Detector
    optimizer: Optimizer
    step: int = 0
    waited: int = 0
    best: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    memory: dict = field(default_factory=dict)


def save(path: Path, state: State, meaning: dict) -> None:
    """Write the state; `meaning` (plain values) says which training it belongs to."""
    content = {
        "meaning": meaning,
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "waited": state.waited,
        "best": state.best,
        "seconds": state.seconds,
        "memory": state.memory,
    }
    archive = BytesIO()  # stays open, unlike a file: interrupted, torch writes its end when nobody expects it any more
    with replacing(path) as beside:
        try:
            torch.save(content, archive)
        except RuntimeError as error:
            # Interrupted, torch complains of an archive without an end; what was asked for is to stop.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise
        beside.write_bytes(archive.getbuffer())


def load(path: Path, state: State, meaning: dict) -> None:
    """Fill `state` from a file that `save` wrote for the same training.

    Raises
    ------
    WeightsError
        If the file cannot be read.
    InputError
        If it belongs to a training with another config or other micrographs.
    """
    try:
        content: dict[str, Tensor | dict | float] = torch.load(path, map_location="cpu", weights_only=True)
        before = content["meaning"]
    except Exception as error:
        raise WeightsError(path, f"the checkpoint cannot be read ({error})", "Start again without --resume") from error
    if before != meaning:
        changed = sorted(k for k in meaning if not isinstance(before, dict) or before.get(k) != meaning[k])
        raise InputError(
            path,
            f"it belongs to another training (different: {', '.join(changed)})",
            "Repeat the command as it was, or start again without --resume",
        )
    state.model.load_state_dict(content["model"])  # type: ignore[arg-type]
    state.average.load_state_dict(content["average"])  # type: ignore[arg-type]
    state.optimizer.load_state_dict(content["optimizer"])  # type: ignore[arg-type]
    state.step, state.waited = content["step"], content["waited"]  # type: ignore[assignment]
    state.best, state.seconds = content["best"], content["seconds"]  # type: ignore[assignment]
    state.memory = content.get("memory", {})  # type: ignore[assignment]
