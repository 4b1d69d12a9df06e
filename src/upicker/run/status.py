"""What ran in a folder: with which weights and knobs, how far it is, what failed and why."""

from __future__ import annotations

import csv
import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from upicker.errors import InputError
from upicker.io.lock import holder_of
from upicker.run import entries, record

# A run of another machine, of which nobody here knows whether it has ended, is taken for ended after so long a silence.
SILENT_S = 600.0


@dataclass(frozen=True)
class Running:
    """A process that is at work.

    Attributes
    ----------
    host : str
        Where.
    done, todo : int or None
        How many of its micrographs it has done, and has to do.
    per_second : float
        Micrographs a second, so far; NaN at first.
    seconds_left : float
        At this rate; NaN if unknown.
    """

    host: str
    done: int
    todo: int | None
    per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Status:
    """What ran in a folder of particles.

    Attributes
    ----------
    folder : Path
        The folder.
    command, version, time : str
        Of the last run; empty if unknown.
    about : mapping
        Model, diameter, threshold ..., see `upicker.run.record.Record.about`.
    knobs : mapping
        Those that differ from the defaults.
    total : int or None
        How many micrographs there are, as far as known.
    done, particles : int
        How many are done, and their particles.
    failures : mapping of str to str
        Path -> why.
    running : tuple of Running
        The processes at work.
    """

    folder: Path
    command: str
    version: str
    time: str
    about: Mapping[str, object] = field(default_factory=dict)
    knobs: Mapping[str, object] = field(default_factory=dict)
    total: int | None = None
    done: int = 0
    particles: int = 0
    failures: Mapping[str, str] = field(default_factory=dict)
    running: tuple[Running, ...] = ()


@dataclass(frozen=True)
class TrainingStatus:
    """What is known of a training.

    Attributes
    ----------
    path : Path
        Its weights, which may not be there yet.
    stage : str
        ``"pretrain"``, ``"finetune"`` or ``"train"``; empty if unknown.
    step : int
        Steps done.
    steps : int or None
        Steps of the finished training.
    best_f1, threshold : float
        Of the best validation; NaN without one.
    seconds : float
        Training time so far.
    holder : str
        The process that trains, in words; empty if none does.
    state : str
        ``"running"``, ``"finished"``, or ``"interrupted"`` (which ``--resume`` continues).
    """

    path: Path
    stage: str
    step: int
    steps: int | None
    best_f1: float
    threshold: float
    seconds: float
    holder: str
    state: str


def status(where: Path) -> Status | TrainingStatus:
    """Return what ran in a folder, or what a training did.

    Parameters
    ----------
    where : Path
        The output folder of ``pick``, ``propose`` or ``relion-job``, or the weights file of a training, which may not
        be there yet.

    Raises
    ------
    InputError
        If nothing ran there.
    """
    if where.is_dir():
        about = record.read(where)
        runs = [entries.told(file) for file in entries.files(where)]
        if about.about or runs:
            return _of_runs(where, about, runs)
        trained = sorted({file.with_suffix(".safetensors") for file in where.glob("*.checkpoint")})
        if len(trained) == 1:
            return training(trained[0])
        found = "nothing of upicker pick, propose or relion-job ran here, as there is no run.toml"
        raise InputError(where, found, "Give an output folder, or the weights file of a training")
    return training(where)


def _of_runs(folder: Path, found: record.Record, runs: list[entries.Told]) -> Status:
    failures: dict[str, str] = {}
    for one in runs:
        for entry in one.entries:
            failures.pop(entry.path or "", None)
        failures |= one.failures
    now_ns = datetime.datetime.now(datetime.UTC).timestamp() * 1e9
    running = tuple(_running(one) for one in runs if not one.has_ended and not _is_over(one, now_ns))
    totals = [one.total for one in runs if one.total is not None]
    done = found.micrographs
    text = {key: str(found.about.get(key, "")) for key in ("command", "version", "time")}
    return Status(
        folder,
        **text,
        about={key: value for key, value in found.about.items() if key not in (*text, record.SINCE)},
        knobs=found.changed_knobs(),
        total=max(totals[-1], len(done) + len(failures)) if totals else None,
        done=len(done),
        particles=sum(entry.particles or 0 for entry in done),
        failures=failures,
        running=running,
    )


def _is_over(one: entries.Told, now_ns: float) -> bool:
    """Return whether a run elsewhere has done all that it had to do, or has been silent for long."""
    tried = len(one.entries) + len(one.failures)
    return not one.is_here and ((one.todo is not None and tried >= one.todo) or now_ns - one.last_ns > SILENT_S * 1e9)


def _running(one: entries.Told) -> Running:
    tried = len(one.entries) + len(one.failures)
    seconds = one.last_ns / 1e9 - one.began.timestamp()
    rate = tried / seconds if tried and seconds > 0 else math.nan
    left = (one.todo - tried) / rate if one.todo is not None and rate > 0 else math.nan
    return Running(one.host, tried, one.todo, rate, left)


def training(path: Path) -> TrainingStatus:
    """Return what is known of a training, from its log, lock, checkpoint and weights.

    Raises
    ------
    InputError
        If there is none of them.
    """
    log, checkpoint, lock = (path.with_suffix(suffix) for suffix in (".log.csv", ".checkpoint", ".lock"))
    if not any(file.exists() for file in (path, log, checkpoint)):
        raise InputError(path, "there is no such folder, and no training with this output", "Check the name")
    rows = _rows(log)
    last = rows[-1] if rows else {}
    validated = [row for row in rows if _number(row, "f1") == _number(row, "f1")]
    best = max(validated, key=lambda row: _number(row, "f1"), default={})
    steps, stage = None, str(last.get("stage", ""))
    if path.exists() and not checkpoint.exists():
        from upicker.model import weights  # imports torch

        head = weights.read_header(path)
        steps, stage = head.steps, head.stage
    found = holder_of(lock)
    holder = "" if found is None or found.process.has_ended else str(found)
    state = "running" if holder else "interrupted" if checkpoint.exists() or not path.exists() else "finished"
    step = int(_number(last, "step")) if rows else steps or 0
    seconds = _number(last, "seconds")
    return TrainingStatus(
        path, stage, step, steps, _number(best, "f1"), _number(best, "threshold"), seconds, holder, state
    )


def _rows(log: Path) -> list[dict[str, str]]:
    try:
        with log.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _number(row: Mapping[str, str], key: str) -> float:
    try:
        return float(row[key])
    except (KeyError, TypeError, ValueError):
        return math.nan
