"""The training loop, one for both stages."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from upicker.config import Config, TrainConfig
from upicker.geometry import Region
from upicker.image.prepare import Prepared
from upicker.model.criterion import SetCriterion
from upicker.model.denoising import DenoisingQueries, prepare_denoising
from upicker.model.detector import Detector
from upicker.particles import Particles
from upicker.pick.detection import detect
from upicker.pick.network import Network
from upicker.pick.torch_network import TorchNetwork, autocast, device_of, to_device
from upicker.scoring import steady
from upicker.train import checkpoint
from upicker.train.checkpoint import State
from upicker.train.dataset import Batch, Sample, batch
from upicker.train.log import CsvLog, Progress
from upicker.train.ranks import ALONE, Ranks
from upicker.train.teacher import Teacher

# The peak of the learning rate in rounds of self-training, as a share of the first lap's. Longer steps follow the
# network's own mistakes: with those of fine-tuning F1 fell from .81 to .70 in two rounds (docs/experiments.md).
ROUND_RATE = 0.5


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
    partial : bool
        Whether there are particles without a label.
    """

    prepared: Prepared
    labels: Particles
    region: Region | None = None
    partial: bool = False

    def pair(self, picks: Particles) -> tuple[Particles, Particles]:
        """Return picks and labels, both inside the region."""
        if self.region is None:
            return picks, self.labels
        return picks.select(self.region.contains(picks.xy)), self.labels.select(self.region.contains(self.labels.xy))

    def picked(self, network: Network, config: Config) -> tuple[Particles, Particles]:
        """Return the picks of a network, as a user would have them, and labels."""
        return self.pair(detect(network, self.prepared, config, self.region))


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
        What is learned from; or what returns all tiles of a step, always the same for the same step.
    checks : list of Check
        What is validated on; empty: no validation, the last weights are kept.
    checkpoint : Path
        Where the resumable state goes.
    meaning : dict
        Plain values that tell this training from another one.
    keep : callable
        Called with the averaged detector and the validation row (empty without checks) whenever they are the
        best so far; on the first rank only.
    ranks : Ranks
        Who trains together.
    teacher : Teacher or None
        Who changes the samples as training goes on.
    judge : callable or None
        What makes a validation's row of the pairs of picks and labels of the checks; its ``merit`` takes the place of
        F1 in telling which weights are best. None: the best F1.
    rounds : tuple of int
        Steps at which the schedule starts anew, with the learning rate of fine-tuning.
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
    ranks: Ranks = ALONE
    teacher: Teacher | None = None
    judge: Callable[[list[tuple[Particles, Particles]]], dict[str, float]] | None = None
    rounds: tuple[int, ...] = ()

    def schedule(self, step: int) -> tuple[float, float]:
        """Return the peak of the learning rate around a step, and the share of it that the step has."""
        bounds = [0, *self.rounds, self.steps]
        lap = sum(step >= start for start in self.rounds)
        done, warmup = step - bounds[lap], self.config.train.warmup
        peak = self.learning_rate * (ROUND_RATE if lap else 1.0)
        return peak, learning_rate(done, bounds[lap + 1] - bounds[lap], warmup)

    def draw(self, step: int) -> Batch:
        """Return the tiles of a step: this rank's images, and the boxes of all ranks' tiles.

        Tiles depend on how many there are in the step, not on how many ranks share them, nor in how many parts.
        """
        if callable(self.samples):
            drawn = self.samples(step)
            return drawn._replace(images=drawn.images[self.ranks.parts(len(drawn.images), 1)[0]])
        tiles = tiles_a_step(self.config.train, self.ranks)
        config = replace(self.config, train=replace(self.config.train, batch=tiles))
        drawn = batch(self.samples, config, step, self.ranks.parts(tiles, 1)[0])
        shares = self.ranks.gather((drawn.targets, drawn.unsure or []))
        targets = [boxes for share, _ in shares for boxes in share]
        unsure = [places for _, share in shares for places in share]
        return drawn._replace(targets=targets, unsure=None if drawn.unsure is None else unsure)


def tiles_a_step(train: TrainConfig, ranks: Ranks) -> int:
    """Return how many tiles a step learns from: those of all ranks, and of all parts of a step."""
    return train.batch * train.accumulate * ranks.count


def rate_factor(tiles: int, train: TrainConfig) -> float:
    """Return by how much the learning rate changes with the tiles a step: their square root.

    That is the rule for Adam and its kin, whose steps do not grow with the gradient: with `n` times the tiles, the
    noise of a gradient falls by the root of `n`, so that the same noise allows steps longer by that root (Malladi
    et al. 2022, "On the SDEs and scaling rules for adaptive gradient algorithms").
    """
    return math.sqrt(tiles / train.rate_batch) if train.rate_batch else 1.0


def begin(model: Detector, plan: Plan, resume: bool) -> State:
    """Return the state to train from: fresh, or that of the checkpoint if `resume` and there is one."""
    model = to_device(model, plan.config).eval()
    average = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(_groups(model, plan.config.train), lr=plan.learning_rate)
    state = State(model, average, optimizer)
    if resume and plan.checkpoint.is_file():
        checkpoint.load(plan.checkpoint, state, plan.meaning)
    return state


def run(plan: Plan, state: State, log: CsvLog | None, progress: Progress) -> bool:
    """Train until the last step, or until validation stops improving.

    Interrupted (Ctrl-C), it leaves a checkpoint and the best weights so far. Ranks stop at the same step. Only the
    first one writes; others have no log.

    Returns
    -------
    bool
        True if it stopped early.
    """
    progress.start(plan.steps, plan.stage, state.step)
    whole = True  # the state lies between two steps; a half step must never be saved
    try:
        with plan.ranks.listening() as heed:
            while state.step < plan.steps and not _out_of_patience(plan, state):
                began = time.monotonic()
                row = {} if plan.teacher is None else plan.teacher.attend(state)
                row |= _learn(plan, state)
                whole = False
                _step(plan, state)
                due = state.step % plan.config.train.validate_every == 0 or state.step == plan.steps
                validate = due and bool(plan.checks)
                if validate:
                    row |= _validate(plan, state)
                state.seconds += time.monotonic() - began
                row |= {"step": state.step, "stage": plan.stage, "seconds": state.seconds}
                if log is not None:
                    log.write(row)
                whole = True
                progress.step(row)
                if "f1" in row:
                    progress.validated(row)
                if due:
                    _save(plan, state)
                heed()
    except KeyboardInterrupt:
        if whole:
            _save(plan, state)
        raise
    finally:
        progress.finish()
    if not plan.checks:
        state.best = {} if plan.teacher is None else plan.teacher.verdict(state)
        if plan.ranks.first:
            plan.keep(state.average, state.best, state.step)
    return state.step < plan.steps


def _save(plan: Plan, state: State) -> None:
    if plan.ranks.first:
        checkpoint.save(plan.checkpoint, state, plan.meaning)


def _out_of_patience(plan: Plan, state: State) -> bool:
    return state.waited >= plan.config.train.patience


def _learn(plan: Plan, state: State) -> dict[str, float]:
    """Compute the gradient of the next step, and nothing that a checkpoint holds; returns what to log."""
    config, device = plan.config, device_of(plan.config)
    images, targets, rng, unsure = plan.draw(state.step)
    peak, height = plan.schedule(state.step)
    rate = peak * rate_factor(len(targets), config.train) * height
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    targets = [t.to(device) for t in targets]
    unsure = None if unsure is None else [places.to(device) for places in unsure]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    denoising = prepare_denoising(targets, config.denoise, generator)
    criterion, everything = SetCriterion(config.loss), _objects(targets)
    state.model.train()
    state.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    parts_of_step = plan.ranks.parts(len(targets), config.train.accumulate)
    for part, tiles in zip(parts_of_step, images.chunk(len(parts_of_step)), strict=True):
        own, own_denoising = targets[part], _part(denoising, part)
        with autocast(config, device):
            outputs = state.model(tiles.to(device, memory_format=torch.channels_last), own_denoising)
        # Losses are divided by the objects of the tiles they are given (or a multiple); that has to be all tiles of
        # the step, or tiles with few objects would count more for being apart from the others.
        share = _objects(own) / everything
        own_unsure = None if unsure is None else unsure[part]
        found = criterion(outputs, own, own_denoising, own_unsure)
        parts = {name: value * share for name, value in found.items()}
        parts["loss"].backward()
        sums = {name: sums.get(name, 0) + value.detach() for name, value in parts.items()}
    return {"learning_rate": rate, **plan.ranks.add_gradients(state.model, sums)}


def _objects(targets: list[Tensor]) -> int:
    """What losses are divided by."""
    return max(sum(len(boxes) for boxes in targets), 1)


def _part(denoising: DenoisingQueries | None, part: slice) -> DenoisingQueries | None:
    """The denoising queries of some tiles."""
    if denoising is None:
        return None
    values = {f.name: getattr(denoising, f.name) for f in fields(denoising)}
    return replace(denoising, **{name: value[part] for name, value in values.items() if isinstance(value, Tensor)})


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
    network = TorchNetwork(state.average, plan.config)
    pairs = plan.ranks.map(lambda check: check.picked(network, plan.config), plan.checks)
    row = scored(pairs) if plan.judge is None else plan.judge(pairs)
    merit = row.pop("merit", row["f1"])
    before = state.best.get("merit", state.best.get("f1", -1.0))
    state.waited = 0 if merit > before else state.waited + 1
    if merit >= before:  # Of equally good weights, those that learned longer.
        state.best = row if plan.judge is None else row | {"merit": merit}
        if plan.ranks.first:
            plan.keep(state.average, row, state.step)
    return row


def scored(pairs: list[tuple[Particles, Particles]]) -> dict[str, float]:
    """Return ``precision``, ``recall``, ``f1`` and the ``threshold`` to store, of picks and labels."""
    threshold, result = steady(pairs)
    return {
        "precision": result.precision,
        "recall": result.recall,
        "f1": result.f1,
        "threshold": min(threshold, 1.0),
    }


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
