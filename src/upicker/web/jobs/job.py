"""One job, as its folder describes it: whether it runs, its progress, and its result."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upicker.run import detached, ranking
from upicker.run.detached import Process
from upicker.run.ranking import Suggestion
from upicker.web.jobs import progress
from upicker.web.jobs.commands import MODEL, RANKING
from upicker.web.jobs.progress import TrainingProgress

RECORD = "job.json"
# With 3, some micrographs were skipped, which the log names.
_SUCCESS = (0, 3)
_LOG_LINES = 40


@dataclass(frozen=True)
class Job:
    """One job, as its folder describes it.

    Attributes
    ----------
    id : str
        The name of the folder; they sort by time.
    folder : Path
        The folder.
    kind : str
        One of `upicker.web.jobs.jobs.KINDS`.
    process : Process
        The process that was started.
    started : float
        Seconds since 1970.
    stops : int
        How many times it was asked to stop.
    about : mapping
        The rest of ``job.json``.
    """

    id: str
    folder: Path
    kind: str
    process: Process
    started: float
    stops: int
    about: Mapping[str, Any]

    @property
    def state(self) -> str:
        """``running``, ``done``, ``stopped`` or ``failed``."""
        if self.process.alive:
            return "running"
        # Read after that, or the exit code of one that ends in between would be missed.
        if detached.exit_code(self.folder) in _SUCCESS:
            return "done"
        return "stopped" if self.stops else "failed"

    @property
    def model(self) -> Path | None:
        """The weights that a finished training has written, if any."""
        path = self.folder / MODEL
        return path if self.kind == "finetune" and path.is_file() and not self.process.alive else None

    def suggestions(self) -> list[Suggestion]:
        """Return the ranking so far; empty for a training."""
        return ranking.read(self.folder / RANKING) if self.kind == "suggest" else []


def read(folder: Path) -> Job | None:
    """Return the job of a folder; None if its record cannot be read."""
    try:
        record = json.loads((folder / RECORD).read_text())
        process = Process(int(record["pid"]), str(record["process_start"]))
        about = float(record["started"]), int(record["stops"])
        return Job(folder.name, folder, str(record["kind"]), process, *about, record)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def summary(job: Job) -> dict[str, Any]:
    """Return the state and progress of a job for the page; see `detail` for more."""
    return _summary(job, _progress(job))


def detail(job: Job) -> dict[str, Any]:
    """Return `summary`, and the curves and the end of the log."""
    found = _progress(job)
    curves = {"curve": found.curve, "f1s": found.f1s}
    return {**_summary(job, found), **curves, "log": detached.tail(job.folder, _LOG_LINES)}


def _progress(job: Job) -> TrainingProgress:
    if job.kind == "suggest":
        # Micrographs to calibrate on come first, and are not ranked.
        done = len(job.suggestions())
        return TrainingProgress(step=done and done + int(job.about.get("calibrating") or 0))
    return progress.read((job.folder / MODEL).with_suffix(".log.csv"))


def _summary(job: Job, found: TrainingProgress) -> dict[str, Any]:
    state, steps = job.state, int(job.about.get("steps") or 0)
    running = state == "running"
    left = found.step_seconds * (steps - found.step) if running and found.step_seconds else None
    return {
        "id": job.id,
        "kind": job.kind,
        "state": state,
        "stopping": running and job.stops > 0,
        "step": found.step,
        "steps": steps,
        "loss": found.loss,
        "f1": found.best.get("f1"),
        "started": job.started,
        "seconds": max(0.0, (time.time() if running else detached.end_time(job.folder)) - job.started),
        "left": left,
        "micrographs": job.about.get("micrographs"),
        "particles": job.about.get("particles"),
        "message": _message(job, state, found),
        "model": None if job.model is None else str(job.model),
    }


def _message(job: Job, state: str, found: TrainingProgress) -> str:
    """Return the state in one sentence."""
    if state == "failed":
        last = detached.tail(job.folder, 3)
        return "\n".join(last) or "It exited without output: it was killed, or the machine was restarted."
    if job.kind == "suggest":
        return {"running": "Running the model…", "stopped": "Stopped."}.get(state, "")
    figures = [f"F1 {found.best['f1']:.3f}"] if found.best else []
    figures += [f"{name} {found.best[name]:.3f}" for name in ("precision", "recall") if name in found.best]
    best = ", ".join(figures)
    if state == "running":
        return f"Best so far: {best}" if best else "Training…" if found.step else "Reading the labelled micrographs…"
    if state == "stopped":
        kept = "the best weights so far are kept" if job.model else "there are no weights yet"
        return f"Stopped at step {found.step}: {kept}."
    return f"On validation labels: {best}" if best else "Done; there were too few labels for validation."
