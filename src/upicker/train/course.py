"""One stage of training, from its lessons to its weights file: what both stages do alike.

Beside the weights file lie ``<stem>.log.csv``, ``<stem>.png`` (its curves) and, until the training is complete,
``<stem>.checkpoint``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from upicker.model import weights
from upicker.model.detector import Detector
from upicker.model.weights import Header
from upicker.train import loop, threshold
from upicker.train.complete import complete, completed, mark_of
from upicker.train.dataset import Sample
from upicker.train.job import Job, StageResult
from upicker.train.log import CsvLog, totals
from upicker.train.loop import Check, Plan
from upicker.train.partial import judge_of
from upicker.train.teacher import Teacher
from upicker.units import Length


@dataclass(frozen=True, eq=False)
class Course:
    """What differs between the stages once the data are read."""

    stage: str
    model: Detector
    diameter: Length
    steps: int
    learning_rate: float
    teacher: Teacher | None = None
    rounds: tuple[int, ...] = ()
    learned: Sequence[Check] = ()  # what the threshold rests on, beside what is validated on


def run(course: Course, samples: list[Sample], checks: list[Check], job: Job, result: StageResult) -> StageResult:
    """Train, keep the best weights and say what came of it."""
    config, output = job.config, job.output
    diameter = str(course.diameter)
    checks = [check for check in checks if len(check.pair(check.labels)[1])]

    def keep(average: Detector, row: dict[str, float], steps: int) -> None:
        figures = [row.get(name) for name in ("threshold", "f1", "precision", "recall")]
        weights.save(output, average, Header(config.to_tables(), diameter, course.stage, *figures, steps=steps))

    plan = Plan(
        stage=course.stage,
        config=config,
        steps=course.steps,
        learning_rate=course.learning_rate,
        samples=samples,
        checks=checks,
        checkpoint=output.with_suffix(".checkpoint"),
        meaning={
            "stage": course.stage,
            "config": config.to_tables(),
            "diameter": diameter,
            "micrographs": [list(s.pixels.shape) for s in samples],
            "particles": [len(s.xy) for s in samples],
            "unsure": [int((~s.known).sum()) for s in samples],
            "teacher": type(course.teacher).__name__,
            "tiles a step": loop.tiles_a_step(config.train, job.ranks),
        },
        keep=keep,
        ranks=job.ranks,
        teacher=course.teacher,
        judge=judge_of(checks),
        rounds=course.rounds,
    )
    result.margin = config.pick.edge_diameters or 0.0
    result.estimated = bool(checks) and all(check.partial for check in checks)
    mark = mark_of(plan.meaning, course.model, samples, checks)
    if job.resume and not plan.checkpoint.exists() and (header := completed(output, mark)):
        job.ranks.agree({"complete": True})
        steps, seconds = totals(output.with_suffix(".log.csv"))
        return _told(replace(result, was_complete=True, steps=steps, seconds=seconds), asdict(header))
    state = loop.begin(course.model, plan, job.resume)
    # Before the first rank writes anything: the others may still have been reading the checkpoint.
    job.ranks.agree(plan.meaning | {"checkpoint": state.step, "checks": len(plan.checks)})
    log = CsvLog(output.with_suffix(".log.csv"), state.step) if job.ranks.first else None
    try:
        result.stopped_early = loop.run(plan, state, log, job.progress)
    finally:
        if log is not None:
            log.close()
            if state.step:
                _draw(log.path)
    if job.ranks.first:
        if course.learned and state.best:
            state.best |= threshold.rechosen(output, plan.checks, course.learned, config)
        complete(output, mark)
        plan.checkpoint.unlink(missing_ok=True)
    result.steps, result.seconds = state.step, state.seconds
    return _told(result, state.best)


def _told(result: StageResult, row: Mapping[str, Any]) -> StageResult:
    """Return the result with a validation's figures."""
    return replace(result, **{name: row.get(name) for name in ("f1", "precision", "recall", "threshold")})


def _draw(log: Path) -> None:
    """Draw the log's curves beside it: `model.log.csv` -> `model.png`."""
    from upicker.draw import training_curves  # matplotlib takes half a second; only at the end

    training_curves(log, log.with_suffix("").with_suffix(".png"))
