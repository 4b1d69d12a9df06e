"""The training loop, one for all stages."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from upicker.config import Config, TrainConfig
from upicker.errors import InputError
from upicker.model.criterion import SetCriterion
from upicker.model.denoising import DenoisingQueries, prepare_denoising
from upicker.model.detector import Detector
from upicker.pick.torch_network import TorchNetwork, autocast, device_of, to_device
from upicker.train import checkpoint
from upicker.train.checkpoint import State
from upicker.train.dataset import Batch, Sample, batch
from upicker.train.log import CsvLog, Progress
from upicker.train.ranks import SINGLE_PROCESS, Ranks
from upicker.train.teacher import Teacher
from upicker.train.validation import Pair, ValidationMicrograph, metrics_of, steering

# Peak learning rate in rounds of self-training, as a fraction of the first one. Longer steps follow the network's own
# mistakes: with those of fine-tuning F1 fell from .81 to .70 in two rounds (docs/experiments.md).
ROUND_FACTOR = 0.5
# A training of fewer than twice so many validations is not ended early by default.
LEAST_PATIENCE = 4
# Positions are embedded from an origin up to so many particle diameters away: a tile of 4096 pixels is 170 wide.
ORIGINS = 128.0
# In training there are at least so many queries for each particle of the most crowded tile.
QUERIES_PER_OBJECT = 1.5
# After so many steps in a row without a finite gradient none will follow: the weights have diverged.
MOST_SKIPPED = 10


@dataclass(frozen=True, eq=False)
class Plan:
    """One stage of training.

    Attributes
    ----------
    stage : str
        ``"pretrain"``, ``"finetune"`` or ``"train"``.
    config : Config
        All knobs.
    steps : int
        Number of steps, unless validation stops the training earlier.
    learning_rate : float
        The schedule's peak.
    samples : list of Sample, or callable
        Training samples; or a function of the step and of the slice of its tiles that a rank uses, which returns these
        as a batch, always the same for the same step.
    validation : list of ValidationMicrograph
        What to validate on; empty: no validation, the last weights are kept.
    checkpoint : Path
        File of the resumable state.
    identity : dict
        Plain values that distinguish this training from others.
    save_best : callable
        Called with the averaged detector, the validation metrics (empty without validation) and the step whenever
        they are the best so far; on the first rank only.
    ranks : Ranks
        The processes that train together.
    teacher : Teacher or None
        Changes the samples during training.
    metrics : callable or None
        Computes the metrics of a validation from pairs of picks and labels; their ``merit`` replaces F1 in deciding
        which weights are best. None: the best F1.
    rounds : tuple of int
        Steps at which the schedule starts again, at a fraction of the learning rate (`ROUND_FACTOR`).
    check : callable
        Called before a checkpoint is written; raises if it must not be.
    report : callable
        Called after each step, by all ranks; returns what else to log.
    keep_last : bool
        Whether the last weights that were validated are kept, instead of the best.
    """

    stage: str
    config: Config
    steps: int
    learning_rate: float
    samples: list[Sample] | Callable[[int, slice], Batch]
    validation: list[ValidationMicrograph]
    checkpoint: Path
    identity: dict
    save_best: Callable[[Detector, dict[str, float], int], None]
    ranks: Ranks = SINGLE_PROCESS
    teacher: Teacher | None = None
    metrics: Callable[[list[Pair]], dict[str, float]] | None = None
    rounds: tuple[int, ...] = ()
    check: Callable[[], None] = lambda: None
    report: Callable[[State], dict[str, float]] = lambda _: {}
    keep_last: bool = False

    def schedule(self, step: int) -> tuple[float, float]:
        """Return the peak learning rate of the round that a step is in, and the fraction of it at that step."""
        starts = [0, *self.rounds, self.steps]
        number = sum(step >= start for start in self.rounds)
        done, warmup = step - starts[number], self.config.train.warmup
        peak = self.learning_rate * (ROUND_FACTOR if number else 1.0)
        return peak, one_cycle(done, starts[number + 1] - starts[number], warmup)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step: this rank's images, and the boxes of all ranks' tiles.

        Tiles depend on how many there are in the step, not on how they are divided among ranks and accumulated batches.
        """
        tiles = tiles_per_step(self.config.train, self.ranks)
        part = self.ranks.parts(tiles, 1)[0]
        if callable(self.samples):
            drawn = self.samples(step, part)
        else:
            config = replace(self.config, train=replace(self.config.train, batch=tiles))
            drawn = batch(self.samples, config, step, part)
        own = drawn.targets, drawn.unsure, drawn.sized
        targets, unsure, sized = map(_joined, zip(*self.ranks.all_gather(own), strict=True))
        return drawn._replace(targets=targets or [], unsure=unsure, sized=sized)


def _joined(of_ranks: Sequence[list[Tensor] | None]) -> list[Tensor] | None:
    """Return the tensors of all ranks' tiles; None if there are none, which all ranks agree about."""
    lists = [one for one in of_ranks if one is not None]
    return [tensor for one in lists for tensor in one] if lists else None


def tiles_per_step(train: TrainConfig, ranks: Ranks) -> int:
    """Return how many tiles a step uses: those of all ranks, and of all accumulated batches."""
    return train.batch * train.accumulate * ranks.world_size


def batch_factor(tiles: int, train: TrainConfig) -> float:
    """Return the factor of the learning rate for this number of tiles per step: its square root.

    That is the rule for Adam and similar optimizers, whose steps do not grow with the gradient: with `n` times the
    tiles, the noise of a gradient falls by the root of `n`, so that the same noise allows steps longer by that root
    (Malladi et al. 2022, "On the SDEs and scaling rules for adaptive gradient algorithms").
    """
    return math.sqrt(tiles / train.rate_batch) if train.rate_batch else 1.0


def initial_state(model: Detector, plan: Plan, resume: bool) -> State:
    """Return the state to train from: new, or that of the checkpoint if `resume` and there is one."""
    model = to_device(model, plan.config).eval()
    average = copy.deepcopy(model).eval().requires_grad_(False)
    # One pass over the weights and their moments instead of a dozen, where there is such an implementation.
    fused = device_of(plan.config).type in {"cpu", "cuda"}
    optimizer = torch.optim.AdamW(_parameter_groups(model, plan.config.train), lr=plan.learning_rate, fused=fused)
    state = State(model, average, optimizer)
    if resume and plan.checkpoint.is_file():
        checkpoint.load(plan.checkpoint, state, plan.identity)
    return state


def run(plan: Plan, state: State, log: CsvLog | None, progress: Progress) -> bool:
    """Train until the last step, or until validation stops improving.

    Interrupted (Ctrl-C), it leaves a checkpoint and the best weights so far. Ranks stop at the same step. Only the
    first one writes files; the others have no log.

    Returns
    -------
    bool
        True if it stopped early.

    Raises
    ------
    InputError
        If the gradients of `MOST_SKIPPED` steps in a row are not finite.
    """
    progress.start(plan.steps, plan.stage, state.step)
    consistent = True  # the state lies between two steps; within a step it must never be saved
    try:
        with plan.ranks.deferring_signals() as raise_deferred:
            while state.step < plan.steps and not _out_of_patience(plan, state):
                began = time.monotonic()
                row = {} if plan.teacher is None else plan.teacher.update(state)
                row |= _compute_gradients(plan, state)
                consistent = False
                row |= _update_weights(plan, state)
                due = state.step % plan.config.train.validate_every == 0 or state.step == plan.steps
                if due and plan.validation:
                    row |= _validate(plan, state)
                row |= plan.report(state)
                state.seconds += time.monotonic() - began
                row |= {"step": state.step, "stage": plan.stage, "seconds": state.seconds}
                if log is not None:
                    log.write(row)
                consistent = True
                progress.step(row)
                if "f1" in row:
                    progress.validated(row)
                if due:
                    _save_checkpoint(plan, state)
                raise_deferred()
    except KeyboardInterrupt:
        if consistent:
            _save_checkpoint(plan, state)
        raise
    finally:
        progress.finish()
    if not plan.validation:
        state.best = {} if plan.teacher is None else plan.teacher.final_metrics(state)
        if plan.ranks.is_first:
            plan.save_best(state.average, state.best, state.step)
    return state.step < plan.steps


def _save_checkpoint(plan: Plan, state: State) -> None:
    if plan.ranks.is_first:
        plan.check()
        checkpoint.save(plan.checkpoint, state, plan.identity)


def _out_of_patience(plan: Plan, state: State) -> bool:
    return state.not_improved >= patience_of(plan.config.train, plan.steps)


def patience_of(train: TrainConfig, steps: int) -> int:
    """Return after how many validations without a better F1 a training of `steps` steps stops.

    F1 may rise until the learning rate has fallen, so that a training is only ended early if nothing was gained during
    half of it; short trainings are not.
    """
    return train.patience or max(LEAST_PATIENCE, math.ceil(steps / train.validate_every / 2))


def _compute_gradients(plan: Plan, state: State) -> dict[str, float]:
    """Compute the gradient of the next step, and change nothing that a checkpoint holds; returns what to log."""
    config, device = plan.config, device_of(plan.config)
    images, targets, rng, unsure, sized = plan.batch(state.step)
    peak, fraction = plan.schedule(state.step)
    learning_rate = peak * batch_factor(len(targets), config.train) * fraction
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate
    targets = [t.to(device) for t in targets]
    unsure = None if unsure is None else [boxes.to(device) for boxes in unsure]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    denoising = prepare_denoising(targets, config.denoise, generator)
    origin = (torch.rand(len(targets), 2, generator=generator) * ORIGINS).to(device)
    at_least = round(QUERIES_PER_OBJECT * max(map(len, targets), default=0))
    criterion, num_boxes = SetCriterion(config.loss), _num_boxes(targets)
    state.model.train()
    state.optimizer.zero_grad(set_to_none=True)
    sums: dict[str, Tensor] = {}
    parts = plan.ranks.parts(len(targets), config.train.accumulate)
    for part, tiles in zip(parts, images.chunk(len(parts)), strict=True):
        part_targets, part_denoising = targets[part], _part(denoising, part)
        with autocast(config, device):
            tiles = tiles.to(device, memory_format=torch.channels_last)
            outputs = state.model(tiles, part_denoising, origin[part], at_least)
        # The criterion divides by the number of boxes (or a multiple) in the tiles that it is given. It has to be that
        # of all tiles of the step, or tiles with few objects would weigh more in a part of their own.
        weight = _num_boxes(part_targets) / num_boxes
        part_unsure, part_sized = (None if one is None else one[part] for one in (unsure, sized))
        found = criterion(outputs, part_targets, part_denoising, part_unsure, part_sized)
        losses = {name: value * weight for name, value in found.items()}
        losses["loss"].backward()
        sums = {name: sums.get(name, 0) + value.detach() for name, value in losses.items()}
    return {"learning_rate": learning_rate, **plan.ranks.all_reduce_gradients(state.model, sums)}


def _num_boxes(targets: list[Tensor]) -> int:
    """Return what losses are divided by."""
    return max(sum(len(boxes) for boxes in targets), 1)


def _part(denoising: DenoisingQueries | None, part: slice) -> DenoisingQueries | None:
    """Return the denoising queries of some tiles."""
    if denoising is None:
        return None
    values = {f.name: getattr(denoising, f.name) for f in fields(denoising)}
    return replace(denoising, **{name: value[part] for name, value in values.items() if isinstance(value, Tensor)})


def _update_weights(plan: Plan, state: State) -> dict[str, int]:
    """Take one step of gradient descent; returns what to log."""
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), plan.config.train.clip_norm)
    # A step whose gradient is not finite is skipped: one bad tile must not end a long training.
    skip = not torch.isfinite(norm)
    state.skipped, state.skipped_in_a_row = state.skipped + skip, state.skipped_in_a_row + 1 if skip else 0
    if not skip:
        state.optimizer.step()
    elif state.skipped_in_a_row >= MOST_SKIPPED:
        raise InputError(
            f"{plan.stage}, step {state.step + 1}",
            f"the gradients of {MOST_SKIPPED} steps in a row are not finite: the training has diverged",
            "Train again with a lower learning rate (--set train.learning_rate, or train.finetune_learning_rate with "
            "--init), or with --set train.bfloat16=false",
        )
    state.step += 1
    _update_average(state, plan.config.train.average)
    return {"skipped": 1} if skip else {}


def _update_average(state: State, decay: float) -> None:
    """Move the average towards the weights, faster in the first steps, so that it soon forgets the random start."""
    weight = 1 - min(decay, state.step / (state.step + 10)) if decay else 1.0
    with torch.no_grad():
        average: list[Tensor] = list(state.average.parameters())
        latest: list[Tensor] = list(state.model.parameters())
        torch._foreach_lerp_(average, latest, weight)  # pyright: ignore[reportPrivateImportUsage]


def _validate(plan: Plan, state: State) -> dict[str, float]:
    """Pick the validation micrographs with one view, and keep the weights if they are the best so far."""
    network, config = TorchNetwork(state.average, plan.config), steering(plan.config)
    pairs = plan.ranks.map(lambda one: one.pick(network, config), plan.validation)
    row = metrics_of(pairs) if plan.metrics is None else plan.metrics(pairs)
    merit = row.pop("merit", row["f1"]) if not plan.keep_last else state.step
    before = state.best.get("merit", state.best.get("f1", -1.0))
    state.not_improved = 0 if merit > before else state.not_improved + 1
    if merit >= before:  # Of equally good weights, those that were trained longer.
        state.best = row | {"merit": merit} if plan.metrics or plan.keep_last else row
        if plan.ranks.is_first:
            plan.save_best(state.average, row, state.step)
    return row


def one_cycle(step: int, steps: int, warmup: float) -> float:
    """Return the fraction of the peak learning rate at a step: a linear rise, then half a cosine down to 1 %."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


def _parameter_groups(model: nn.Module, train: TrainConfig) -> list[dict]:
    """Return parameter groups with weight decay for matrices and kernels only."""
    named = list(model.named_parameters())
    return [
        {"params": [p for _, p in named if p.ndim > 1], "weight_decay": train.weight_decay},
        {"params": [p for _, p in named if p.ndim <= 1], "weight_decay": 0.0},
    ]
