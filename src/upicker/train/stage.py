"""One stage of training, from its samples to its weights file: what all stages have in common.

Next to the weights file are ``<stem>.log.csv``, ``<stem>.png`` (the training curves) and, until the training is
complete, ``<stem>.checkpoint``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from upicker.errors import InputError
from upicker.io.lock import Held
from upicker.model import weights
from upicker.model.detector import Detector
from upicker.model.weights import Header
from upicker.train import loop, threshold
from upicker.train.checks import Checks
from upicker.train.dataset import Batch
from upicker.train.fingerprint import completed, fingerprint_of, mark_complete
from upicker.train.job import Job, StageResult
from upicker.train.log import CsvLog, totals
from upicker.train.loop import Plan
from upicker.train.partial import metrics_for
from upicker.train.sample import Sample
from upicker.train.start import Start
from upicker.train.teacher import Teacher
from upicker.train.validation import ValidationMicrograph, countable
from upicker.units import Length


@dataclass(frozen=True, eq=False)
class Stage:
    """What differs between the stages once the data are read.

    Attributes
    ----------
    name : str
        ``"pretrain"``, ``"finetune"`` or ``"train"``.
    start : Start
        The network before its first step, and what it comes from.
    diameter : Length or None
        Of the particles; stored with the weights. None: the weights are for particles of any size.
    steps : int
        Number of steps.
    learning_rate : float
        The schedule's peak.
    teacher : Teacher or None
        Changes the samples during training.
    rounds : tuple of int
        Steps at which the schedule starts again.
    threshold_on : sequence of ValidationMicrograph
        On what the threshold is chosen, beside what is validated on.
    identity : mapping
        The knobs as they were given, and hashes of all that was read (`Inputs`).
    check : callable
        Called before weights, a checkpoint or curves are written or removed: raises if another process took the output,
        see `Job.locked`.
    checks : Checks or None
        Sets that are scored as the training goes on. The last weights are then kept, instead of the best validated.
    views : int or None
        Views in which what is validated on is picked for the stored threshold; None: as many as a user's picks of it.
    """

    name: str
    start: Start
    diameter: Length | None
    steps: int
    learning_rate: float
    teacher: Teacher | None = None
    rounds: tuple[int, ...] = ()
    threshold_on: Sequence[ValidationMicrograph] = ()
    identity: Mapping[str, object] = field(default_factory=dict)
    check: Callable[[], None] = lambda: None
    checks: Checks | None = None
    views: int | None = None


def run_stage(
    stage: Stage,
    samples: list[Sample] | Callable[[int, slice], Batch],
    validation: list[ValidationMicrograph],
    job: Job,
    result: StageResult,
) -> StageResult:
    """Train, save the best weights, and return the result with its metrics."""
    config, output, checks = job.config, job.output, stage.checks
    diameter = None if stage.diameter is None else str(stage.diameter)
    validation = countable(validation)

    def save_best(average: Detector, row: dict[str, float], steps: int) -> None:
        stage.check()
        metrics = [row.get(name) for name in ("threshold", "f1", "precision", "recall")]
        header = Header(config.to_tables(), diameter, stage.name, *metrics, steps=steps, general=stage.start.general)
        weights.save(output, average, header)

    plan = Plan(
        stage=stage.name,
        config=config,
        steps=stage.steps,
        learning_rate=stage.learning_rate,
        samples=samples,
        validation=validation,
        checkpoint=job.checkpoint,
        identity={
            **stage.identity,
            "stage": stage.name,
            "diameter": diameter,
            "teacher": type(stage.teacher).__name__,
            "tiles per step": loop.tiles_per_step(config.train, job.ranks),
        },
        save_best=save_best,
        ranks=job.ranks,
        teacher=stage.teacher,
        metrics=metrics_for(validation),
        rounds=stage.rounds,
        check=stage.check,
        **({"report": checks, "keep_last": True} if checks else {}),
    )
    result.margin = config.pick.edge_diameters or 0.0
    result.estimated = bool(validation) and not countable([one for one in validation if not one.partial])
    fingerprint = fingerprint_of(plan.identity)
    if job.resume and not plan.checkpoint.exists() and (header := completed(output, fingerprint)):
        job.ranks.require_equal({"complete": True})
        steps, seconds = totals(job.log)
        return _with_metrics(replace(result, was_complete=True, steps=steps, seconds=seconds), asdict(header))
    state = loop.initial_state(stage.start.model, plan, job.resume)
    if state.best and not output.is_file():
        found = f"the best weights so far are missing beside {plan.checkpoint.name}"
        raise InputError(output, found, "Put them back, or start again without --resume")
    # Before the first rank writes anything: the others may still have been reading the checkpoint.
    job.ranks.require_equal(
        plan.identity
        | {
            "checkpoint": state.step,
            "validation micrographs": len(plan.validation),
            "particles": [] if callable(samples) else [_content(one) for one in samples],
        }
    )
    log = CsvLog(job.log, state.step, checks.columns if checks else ()) if job.ranks.is_first else None
    try:
        result.stopped_early = loop.run(plan, state, log, job.progress)
    finally:
        if log is not None:
            log.close()
            with suppress(Held):  # The curves of another training are left alone.
                stage.check()
                if state.step:
                    _draw(job.log, job.curves)
    if job.ranks.is_first:
        if plan.validation and state.best:
            stage.check()
            picking = config if stage.views is None else replace(config, pick=replace(config.pick, views=stage.views))
            where = (plan.validation, stage.threshold_on)
            # Proposals are no truth that probabilities could be of.
            state.best |= threshold.choose_again(output, *where, picking, stage.check, stage.name != "pretrain")
        stage.check()
        mark_complete(output, fingerprint)
        stage.check()
        plan.checkpoint.unlink(missing_ok=True)
    # All end together: NCCL wants the group to be taken down by all ranks at about the same time.
    job.ranks.all_gather(None)
    result.steps, result.seconds, result.skipped_steps = state.step, state.seconds, state.skipped
    return _with_metrics(result, state.best)


def _content(sample: Sample) -> tuple[tuple[int, ...], int, int]:
    """Return the size of a sample, its number of positions, and how many of them are sure."""
    return sample.pixels.shape, len(sample.xy), int(sample.is_sure.sum())


def _with_metrics(result: StageResult, row: Mapping[str, Any]) -> StageResult:
    """Return the result with the metrics of a validation."""
    return replace(result, **{name: row.get(name) for name in ("f1", "precision", "recall", "threshold")})


def _draw(log: Path, path: Path) -> None:
    """Draw the training curves."""
    from upicker.draw import training_curves  # matplotlib takes half a second; only at the end

    training_curves(log, path)
