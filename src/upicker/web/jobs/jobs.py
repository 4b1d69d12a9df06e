"""Starting, watching and stopping jobs.

Each job has a folder STATE/jobs/ID: ``job.json`` (what was started), ``out.log`` (its output), ``exit`` (its exit
code), and its results. There is no other state, so that another server finds all jobs.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import shutil
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from upicker.errors import InputError, OutputError
from upicker.io.atomic import replacing
from upicker.io.labels import LabelFolder, Labelled
from upicker.io.names import plain
from upicker.run import detached
from upicker.run.detached import Process
from upicker.run.ranking import calibrating_on
from upicker.statistics import evenly_spaced
from upicker.web.jobs import commands
from upicker.web.jobs.commands import Plan
from upicker.web.jobs.job import RECORD, Job, read
from upicker.web.project import Project
from upicker.web.responses import Refused

FOLDER = "jobs"
KINDS = ("finetune", "suggest")
# Sent one after the other, each time a job is asked to stop: a training saves its state at the first.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
MOST_STEPS = 1_000_000
# Micrographs that are ranked: a minute or two on a laptop.
MOST_RANKED = 24
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")


class Jobs:
    """The jobs of a project.

    Parameters
    ----------
    project : Project
        The project.
    labels : LabelFolder
        Its folder of labels.
    program : sequence of str
        The command that starts ``upicker``.
    """

    def __init__(
        self, project: Project, labels: LabelFolder, program: Sequence[str] = (sys.executable, "-m", "upicker")
    ) -> None:
        self.project, self._labels = project, labels
        self._program = tuple(program)
        self._folder = project.state.absolute() / FOLDER
        self._starting = threading.Lock()

    def all(self) -> list[Job]:
        """Return all jobs, the latest first."""
        try:
            names = sorted((path.name for path in self._folder.iterdir() if _ID.fullmatch(path.name)), reverse=True)
        except OSError:
            return []
        return [found for name in names if (found := read(self._folder / name)) is not None]

    def get(self, name: str) -> Job:
        """Return one job.

        Raises
        ------
        KeyError
            If there is no such job.
        """
        found = read(self._folder / name) if _ID.fullmatch(name) else None
        if found is None:
            raise KeyError(name)
        return found

    def model(self) -> Path | None:
        """Return the weights to pick with: those of the latest training, else the project's."""
        return next((job.model for job in self.all() if job.model is not None), self.project.model)

    def models(self) -> list[Path]:
        """Return the weights a training can start from: the project's, then those trained here, the latest first."""
        given = [] if self.project.model is None else [self.project.model]
        return given + [job.model for job in self.all() if job.model is not None]

    def labelled(self) -> list[Labelled]:
        """Return the labelled micrographs that are not marked as bad.

        Raises
        ------
        InputError
            As `LabelFolder.labelled`.
        """
        bad = self.project.bad()
        return [one for one in self._labels.labelled() if plain(one.path) not in bad]

    def unlabelled(self) -> list[Path]:
        """Return the unlabelled micrographs that are not marked as bad.

        Raises
        ------
        InputError
            As `LabelFolder.unlabelled`.
        """
        bad = self.project.bad()
        return [path for path in self._labels.unlabelled() if plain(path) not in bad]

    def finetune(self, steps: int | None = None, initial: str | None = None, partial: bool = False) -> Job:
        """Start a training on the labels.

        Parameters
        ----------
        steps : int, optional
            By default those of the config.
        initial : str, optional
            Weights to start from: one of `models`; by default a random start.
        partial : bool
            Whether label files that ``coverage.csv`` does not name are partial rather than complete.

        Raises
        ------
        Refused
            409 if a training is running already.
        InputError
            If there are too few labels, the weights are unknown here, or the number of steps is out of range.
        OutputError
            If it cannot be started.
        """
        known = {str(path): path for path in self.models()}
        if initial is not None and initial not in known:
            raise InputError(initial, "these weights are not of this project", "Choose one from the list")
        steps = self.project.config.train.finetune_steps if steps is None else steps
        if not 1 <= steps <= MOST_STEPS:
            raise InputError("the steps", f"the number of steps must be 1 to {MOST_STEPS}, not {steps}", "Change it")
        with self._starting:
            self._refuse_second("finetune", "a training")
            labelled = self.labelled()
            commands.refuse_too_few(labelled)
            plan = Plan(steps, None if initial is None else known[initial].absolute(), partial)
            about = {"steps": steps, "init": initial, "partial": partial}
            about |= {"micrographs": len(labelled), "particles": sum(one.particles for one in labelled)}
            with self._new() as folder:
                arguments = commands.finetune_arguments(self.project, labelled, plan, folder)
                return self._start(folder, "finetune", arguments, about)

    def suggest(self) -> Job:
        """Start to rank micrographs to label next.

        Raises
        ------
        Refused
            409 if that is running already.
        InputError
            If there are no weights, or no unlabelled micrographs.
        OutputError
            If it cannot be started.
        """
        with self._starting:
            self._refuse_second("suggest", "a search")
            model = self.model()
            if model is None:
                raise InputError("the model", "there are no weights yet", "Train on some labels first")
            paths = spread(self.unlabelled())
            if not paths:
                found = "all micrographs are labelled"
                raise InputError("the micrographs", found, "Add micrographs, or train on these")
            calibrating = calibrating_on(self.labelled())
            given = [*(one.path for one in calibrating), *paths]
            about = {"steps": len(given), "calibrating": len(calibrating)}
            about |= {"init": str(model), "micrographs": len(paths)}
            with self._new() as folder:
                arguments = commands.suggest_arguments(self.project, given, model, folder)
                return self._start(folder, "suggest", arguments, about)

    def stop(self, name: str) -> Job:
        """Ask a job to stop; each further time with a stronger signal.

        Raises
        ------
        KeyError
            If there is no such job.
        OutputError
            If that cannot be recorded; it is asked all the same.
        """
        with self._starting:
            job = self.get(name)
            if job.state != "running":
                return job
            try:
                self._record(job.folder, {**job.about, "stops": job.stops + 1})
            finally:  # Also where the disk is full.
                job.process.send(SIGNALS[min(job.stops, len(SIGNALS) - 1)])
        return self.get(name)

    def suggestions(self) -> dict[str, Any]:
        """Return the latest ranking, of the micrographs that are still unlabelled.

        Returns
        -------
        dict
            ``model`` (file of the weights, or None), ``ready``, ``order`` (numbers of micrographs, the most uncertain
            first), ``why`` (number -> a phrase) and ``names`` (number -> name).
        """
        jobs = [job for job in self.all() if job.kind == "suggest"]
        latest, found = next(((job, found) for job in jobs if (found := job.suggestions())), (None, []))
        unlabelled = {plain(path) for path in self.unlabelled()}
        numbers = {self.project.name(i): i for i in range(len(self.project.micrographs))}
        shown = {numbers[name]: one for one in found if (name := plain(one.micrograph)) in unlabelled}
        return {
            "model": None if latest is None else latest.about.get("init"),
            "ready": latest is not None and jobs[0].state != "running",
            "order": list(shown),
            "why": {str(i): f"{one.uncertain} uncertain of {one.candidates} detections" for i, one in shown.items()},
            "names": {str(i): self.project.name(i) for i in shown},
        }

    def choices(self) -> dict[str, Any]:
        """Return what a training would use, and could start from; ``refusal`` is the reason why it cannot start."""
        labelled, refusal = [], None
        try:
            labelled = self.labelled()
            commands.refuse_too_few(labelled)
        except InputError as error:
            refusal = f"{error.remedy or error}"
        return {
            "micrographs": len(labelled),
            "particles": sum(one.particles for one in labelled),
            "partly": sum(one.partial for one in labelled),
            "steps": self.project.config.train.finetune_steps,
            "models": [str(path) for path in self.models()],
            "model": None if (model := self.model()) is None else str(model),
            "refusal": refusal,
        }

    def _refuse_second(self, kind: str, what: str) -> None:
        if any(job.kind == kind and job.state == "running" for job in self.all()):
            raise Refused(409, "the jobs", f"{what} is running already", "Wait until it ends, or stop it")

    @contextlib.contextmanager
    def _new(self) -> Iterator[Path]:
        """Yield a folder for a job, which is removed if the job does not start."""
        self.project.refuse_if_lost()
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        folder = self._folder / f"{now}-{uuid.uuid4().hex[:6]}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(self._folder, f"cannot be written ({reason})", "Check the folder and the disk") from error
        try:
            yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _start(self, folder: Path, kind: str, arguments: Sequence[str], about: Mapping[str, Any]) -> Job:
        command = [*self._program, *arguments]

        def record(process: Process) -> None:
            words = {"kind": kind, "command": command, "pid": process.pid, "process_start": process.start_time}
            self._record(folder, {**words, "started": time.time(), "stops": 0, **about})

        detached.start(command, folder, record)
        return self.get(folder.name)

    def _record(self, folder: Path, record: Mapping[str, Any]) -> None:
        with replacing(folder / RECORD) as temporary:
            temporary.write_text(json.dumps(record, indent=1))


def spread(paths: Sequence[Path], most: int = MOST_RANKED) -> list[Path]:
    """Return at most `most` of the paths, evenly spread over the list."""
    return [paths[i] for i in evenly_spaced(len(paths), most, ends=False)]
