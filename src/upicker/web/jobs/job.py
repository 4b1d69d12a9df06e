"""One job as its folder tells it: whether it runs, how far it is, and what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from upicker.run import detached
from upicker.run.detached import Process
from upicker.web.jobs import course, suggest
from upicker.web.jobs.training import MODEL

RECORD = "job.json"
# Some micrographs may have been skipped: it is done, and says so.
_GOOD = (0, 3)
_LOG_LINES = 40


@dataclass(frozen=True)
class Job:
    """One job as its folder tells.

    Attributes
    ----------
    id : str
        The folder's name; they sort by time.
    folder : Path
        Where it lies.
    kind : str
        Of `KINDS`.
    process : Process
        What was started.
    started : float
        Seconds since 1970.
    stops : int
        How often it was asked to stop.
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
        # Read after that, or the code of one that ends in between would be missed.
        if detached.exit_code(self.folder) in _GOOD:
            return "done"
        return "stopped" if self.stops else "failed"

    @property
    def model(self) -> Path | None:
        """The weights that it left, if it is over and there are some."""
        path = self.folder / MODEL
        return path if self.kind == "finetune" and path.is_file() and not self.process.alive else None


def read(folder: Path) -> Job | None:
    """Return the job of a folder; None if its record cannot be read."""
    try:
        record = json.loads((folder / RECORD).read_text())
        process = Process(int(record["pid"]), str(record["birth"]))
        about = float(record["started"]), int(record["stops"])
        return Job(folder.name, folder, str(record["kind"]), process, *about, record)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def summary(job: Job) -> dict[str, Any]:
    """Return what the page shows of a job, as plain values; see `detail` for more."""
    return _summary(job, _course(job))


def detail(job: Job) -> dict[str, Any]:
    """Return `summary`, and the curves and the end of the log."""
    found = _course(job)
    curves = {"curve": found.curve, "f1s": found.f1s}
    return {**_summary(job, found), **curves, "log": detached.tail(job.folder, _LOG_LINES)}


def _course(job: Job) -> course.Course:
    if job.kind == "suggest":
        return course.Course(step=suggest.done(job.folder))
    return course.read((job.folder / MODEL).with_suffix(".log.csv"))


def _summary(job: Job, found: course.Course) -> dict[str, Any]:
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
        "seconds": max(0.0, (time.time() if running else detached.ended(job.folder)) - job.started),
        "left": left,
        "micrographs": job.about.get("micrographs"),
        "particles": job.about.get("particles"),
        "message": _message(job, state, found),
        "model": None if job.model is None else str(job.model),
    }


def _message(job: Job, state: str, found: course.Course) -> str:
    """Say in a sentence how it stands."""
    last = detached.tail(job.folder, 3)
    if state == "failed":
        return "\n".join(last) or "It ended without a word: it was killed, or the machine was started anew."
    if job.kind == "suggest":
        return {"running": "Asking the model…", "stopped": "Stopped."}.get(state, "")
    figures = [f"F1 {found.best['f1']:.3f}"] if found.best else []
    figures += [f"{name} {found.best[name]:.3f}" for name in ("precision", "recall") if name in found.best]
    said = ", ".join(figures)
    if state == "running":
        return f"Best so far: {said}" if said else "Training…" if found.step else "Reading the labelled micrographs…"
    if state == "stopped":
        kept = "the best weights so far are kept" if job.model else "there are no weights yet"
        return f"Stopped at step {found.step}: {kept}."
    return f"On labels kept aside: {said}" if said else "Done; there were too few labels to keep some aside."
