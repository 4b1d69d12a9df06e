"""The training loop, one for both stages."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from upicker.config import Config, TrainConfig
from upicker.evaluate import steady
from upicker.geometry import Region
from upicker.image.prepare import Prepared
from upicker.model.denoising import noise
from upicker.model.detector import Detector
from upicker.model.losses import losses
from upicker.particles import Particles
from upicker.pick.picker import computing, detect, device_of, to_device
from upicker.train import checkpoint
from upicker.train.checkpoint import State
from upicker.train.dataset import Batch, Sample, batch
from upicker.train.log import CsvLog, Progress


@dataclass(frozen=True, eq=False)
class Check:
    """A micrograph to validate on.

    Attributes
    ----------
    prepared : Prepared
        At the working scale.
    labels : Particles
        The truth, raw pixels, diameters known.
    region : Region or None
        What is looked at: picks and labels elsewhere do not count.
    """

    prepared: Prepared
    labels: Particles
    region: Region | None = None

    def pair(self, picks: Particles) -> tuple[Particles, Particles]:
        """Return picks and labels, both inside the region."""
        if self.region is None:
            return picks, self.labels
        return picks.select(self.region.contains(picks.xy)), self.labels.select(self.region.contains(self.labels.xy))


@dataclass(frozen=True, eq=False)
class Plan:
    """One stage of training.

    Attributes
    ----------
    stage : str
        ``"pretrain"`` or ``"finetune"``.
    config : Config
        All knobs.
    steps : int
        At most.
    learning_rate : float
        The schedule's peak.
    samples : list of Sample, or callable
        What is learned from; or what returns the batch of a step, always the same for the same step.
    checks : list of Check
        What is validated on; empty: no validation, the last weights are kept.
    checkpoint : Path
        Where the resumable state goes.
    meaning : dict
        Plain values that tell this training from another one.
    keep : callable
        Called with the averaged detector and the validation row (empty without checks) whenever they are the
        best so far.
    """

    stage: str
    config: Config
    steps: int
    learning_rate: float
    samples: list[Sample] | Callable[[int], Batch]
    checks: list[Check]
    checkpoint: Path
    meaning: dict
    keep: Callable[[Detector, dict[str, float], int], None]

    def draw(self, step: int) -> Batch:
        """Return the tiles of a step."""
        return self.samples(step) if callable(self.samples) else batch(self.samples, self.config, step)


def begin(model: Detector, plan: Plan, resume: bool) -> State:
    """Return the state to train from: fresh, or that of the checkpoint if `resume` and there is one."""
    model = to_device(model, plan.config)
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(_groups(model, plan.config.train), lr=plan.learning_rate)
    state = State(model, average, optimizer)
    if resume and plan.checkpoint.is_file():
        checkpoint.load(plan.checkpoint, state, plan.meaning)
    return state


def run(plan: Plan, state: State, log: CsvLog, progress: Progress) -> bool:
    """Train until the last step, or until validation stops improving.

    Interrupted (Ctrl-C), it leaves a checkpoint and the best weights so far.

    Returns
    -------
    bool
        True if it stopped early.
    """
    train = plan.config.train
    progress.start(plan.steps, plan.stage, state.step)
    whole = True  # the state lies between two steps; a half step must never be saved
    try:
        while state.step < plan.steps and not _out_of_patience(plan, state):
            began = time.monotonic()
            row = _learn(plan, state)
            whole = False
            _step(plan, state)
            last = state.step == plan.steps
            validate = bool(plan.checks) and (state.step % train.validate_every == 0 or last)
            if validate:
                row |= _validate(plan, state)
            state.seconds += time.monotonic() - began
            row |= {"step": state.step, "stage": plan.stage, "seconds": state.seconds}
            log.write(row)
            whole = True
            progress.step(row)
            if validate:
                progress.validated(row)
            if state.step % train.validate_every == 0 or last:
                checkpoint.save(plan.checkpoint, state, plan.meaning)
    except KeyboardInterrupt:
        if whole:
            checkpoint.save(plan.checkpoint, state, plan.meaning)
        raise
    finally:
        progress.finish()
    if not plan.checks:
        plan.keep(state.average, {}, state.step)
    return state.step < plan.steps


def _out_of_patience(plan: Plan, state: State) -> bool:
    return state.waited >= plan.config.train.patience


def _learn(plan: Plan, state: State) -> dict[str, float]:
    """Compute the gradient of the next step, and nothing that a checkpoint holds; returns what to log."""
    config, device = plan.config, device_of(plan.config)
    rate = learning_rate(state.step, plan.steps, config.train.warmup)
    for group in state.optimizer.param_groups:
        group["lr"] = plan.learning_rate * rate
    images, targets, rng = plan.draw(state.step)
    targets = [t.to(device) for t in targets]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    noised = noise(targets, config.denoise, generator)
    state.model.train()
    with computing(config, device):
        output = state.model(images.to(device, memory_format=torch.channels_last), noised)
    parts = losses(output, targets, noised, config.loss)
    state.optimizer.zero_grad(set_to_none=True)
    parts["loss"].backward()
    return {"learning_rate": plan.learning_rate * rate, **{k: float(v.detach()) for k, v in parts.items()}}


def _step(plan: Plan, state: State) -> None:
    """Take one step of gradient descent."""
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), plan.config.train.clip_norm)
    # A step whose gradient is not finite is left out: one bad tile must not end a night's training.
    if torch.isfinite(norm):
        state.optimizer.step()
    state.step += 1
    _follow(state, plan.config.train.average)


def _follow(state: State, decay: float) -> None:
    """Move the average towards the weights; the first steps count fully, or the random start would linger."""
    weight = 1 - min(decay, state.step / (state.step + 10)) if decay else 1.0
    with torch.no_grad():
        for mean, new in zip(state.average.parameters(), state.model.parameters(), strict=True):
            mean.lerp_(new, weight)


def _validate(plan: Plan, state: State) -> dict[str, float]:
    """Pick the validation micrographs as a user would, and keep the weights if they are the best so far."""
    pairs = [check.pair(detect(state.average, check.prepared, plan.config)) for check in plan.checks]
    threshold, result = steady(pairs)
    row = {
        "precision": result.precision,
        "recall": result.recall,
        "f1": result.f1,
        "threshold": min(threshold, 1.0),
    }
    before = state.best.get("f1", -1.0)
    state.waited = 0 if row["f1"] > before else state.waited + 1
    if row["f1"] >= before:  # Of equally good weights, those that learned longer.
        state.best = row
        plan.keep(state.average, row, state.step)
    return row


def learning_rate(step: int, steps: int, warmup: float) -> float:
    """Return the share of the peak learning rate: a linear rise, then half a cosine down to 1 %."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def _groups(model: nn.Module, train: TrainConfig) -> list[dict]:
    """Weight decay for matrices and kernels only."""
    named = list(model.named_parameters())
    return [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
