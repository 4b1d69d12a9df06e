"""The resumable state of a training; files are written completely or not at all, and read without running code."""

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
    """All that changes during training. Random numbers follow from the step, so that no generator is stored.

    Attributes
    ----------
    model : Detector
        The weights that are trained.
    average : Detector
        Their exponential moving average: validated, and saved as the result.
    optimizer : Optimizer
        With its moments.
    step : int
        Steps done.
    not_improved : int
        Validations since the best one.
    best : dict
        Metrics of the best validation so far; empty before the first.
    seconds : float
        Training time so far.
    teacher : dict
        State of the teacher: plain values and tensors; empty without a teacher.
    skipped : int
        Steps so far whose gradient was not finite, and which changed no weight.
    skipped_in_a_row : int
        Those since the last step that did.
    """

    model: Detector
    average: Detector
    optimizer: Optimizer
    step: int = 0
    not_improved: int = 0
    best: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    teacher: dict = field(default_factory=dict)
    skipped: int = 0
    skipped_in_a_row: int = 0


def save(path: Path, state: State, identity: dict) -> None:
    """Write the state; `identity` (plain values) distinguishes its training from others."""
    content = {
        "identity": identity,
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "not_improved": state.not_improved,
        "best": state.best,
        "seconds": state.seconds,
        "teacher": state.teacher,
        "skipped": state.skipped,
        "skipped_in_a_row": state.skipped_in_a_row,
    }
    archive = BytesIO()  # stays open, unlike a file, into which an interrupted torch may still write its end later
    with replacing(path) as beside:
        try:
            torch.save(content, archive)
        except RuntimeError as error:
            # Interrupted, torch raises an error about an unfinished archive; the interruption is what counts.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise
        beside.write_bytes(archive.getbuffer())


def load(path: Path, state: State, identity: dict) -> None:
    """Fill `state` from a file that `save` wrote for the same training.

    Raises
    ------
    WeightsError
        If the file cannot be read.
    InputError
        If it belongs to a training with other knobs or inputs.
    """
    try:
        content: dict[str, Tensor | dict | float] = torch.load(path, map_location="cpu", weights_only=True)
        before = content["identity"]
    except Exception as error:
        raise WeightsError(path, f"the checkpoint cannot be read ({error})", "Start again without --resume") from error
    if before != identity:
        changed = sorted(k for k in identity if not isinstance(before, dict) or before.get(k) != identity[k])
        raise InputError(
            path,
            f"it belongs to another training (different: {', '.join(changed)})",
            "Repeat the command unchanged, or start again without --resume",
        )
    state.model.load_state_dict(content["model"])  # type: ignore[arg-type]
    state.average.load_state_dict(content["average"])  # type: ignore[arg-type]
    state.optimizer.load_state_dict(content["optimizer"])  # type: ignore[arg-type]
    state.step, state.not_improved = content["step"], content["not_improved"]  # type: ignore[assignment]
    state.best, state.seconds = content["best"], content["seconds"]  # type: ignore[assignment]
    state.teacher = content["teacher"]  # type: ignore[assignment]
    state.skipped, state.skipped_in_a_row = content["skipped"], content["skipped_in_a_row"]  # type: ignore[assignment]
