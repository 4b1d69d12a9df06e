"""Trainings and suggestions that are started from the page, and outlive it.

Each has a folder STATE/jobs/ID: ``job.json`` (what was started), ``out.log`` (what it said), ``exit`` (how it ended),
and what it makes. Nothing else is remembered, so that another server finds all of it.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker.errors import InputError, OutputError
from upicker.io.atomic import replacing
from upicker.io.names import plain
from upicker.run import detached
from upicker.web.answers import Refused, answer, body
from upicker.web.jobs import suggest, training
from upicker.web.jobs.job import RECORD, Job, detail, read, summary
from upicker.web.jobs.training import Labels

if TYPE_CHECKING:
    from upicker.web.project import Project

FOLDER = "jobs"
KINDS = ("finetune", "suggest")
# Each time one is stopped, the next of these is sent: a training saves its state at the first.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
MOST_STEPS = 1_000_000
_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6}")


class Jobs:
    """Starts, watches and stops jobs.

    Parameters
    ----------
    project : Project
        What the page shows.
    program : sequence of str
        What stands for ``upicker`` in a training's command line.
    """

    def __init__(self, project: Project, program: Sequence[str] = (sys.executable, "-m", "upicker")) -> None:
        self.project, self.labels = project, Labels(project)
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
        """Return one job; KeyError if there is none of this name."""
        found = read(self._folder / name) if _ID.fullmatch(name) else None
        if found is None:
            raise KeyError(name)
        return found

    def model(self) -> Path | None:
        """Return the weights to pick with: those of the latest training, else the project's."""
        return next((job.model for job in self.all() if job.model is not None), self.project.model)

    def finetune(self, steps: int | None = None, initial: str | None = None, partial: bool = False) -> Job:
        """Start a training on what is labelled.

        Parameters
        ----------
        steps : int, optional
            By default those of the config.
        initial : str, optional
            Weights to start from: one of `models`; by default a random start.
        partial : bool
            Whether micrographs of which nobody said how much is labelled are taken to be labelled in part, rather than
            completely.

        Raises
        ------
        Refused
            409 if one runs already.
        InputError
            If there is too little to learn from, the weights are not among those known here, or `steps` is no
            number of steps.
        OutputError
            If it cannot be started.
        """
        known = {str(path): path for path in self.models()}
        if initial is not None and initial not in known:
            raise InputError(initial, "these weights are not of this project", "Choose one of the list")
        steps = self.project.config.train.finetune_steps if steps is None else steps
        if not 1 <= steps <= MOST_STEPS:
            raise InputError("the steps", f"{steps} is no number of steps", f"Give 1 to {MOST_STEPS}")
        with self._starting:
            self._refuse_second("finetune", "a training")
            chosen = self.labels.usable()
            training.refuse_too_few(chosen)
            name, folder = self._new()
            plan = training.Plan(steps, None if initial is None else known[initial].absolute(), partial)
            words = training.command(self.project, chosen, plan, folder)
            about = {"steps": steps, "init": initial, "partial": partial}
            about |= {"micrographs": len(chosen), "particles": sum(one.particles for one in chosen)}
            return self._start(name, "finetune", [*self._program, *words], about)

    def search(self) -> Job:
        """Start to look for the micrographs that are best labelled next.

        Raises
        ------
        Refused
            409 if that is going on already.
        InputError
            If there are no weights to ask, or nothing is left to label.
        OutputError
            If it cannot be started.
        """
        with self._starting:
            self._refuse_second("suggest", "a search")
            model = self.model()
            if model is None:
                raise InputError("the model", "there is none to ask yet", "Train on what is labelled first")
            paths = suggest.spread(self.labels.unlabelled())
            if not paths:
                raise InputError("the micrographs", "none is left without labels", "Add micrographs, or train on these")
            name, folder = self._new()
            known = suggest.telling(self.labels.usable())
            target = suggest.write_request(self.project, model, paths, known, folder)
            about = {"steps": len(known) + len(paths), "init": str(model), "micrographs": len(paths)}
            return self._start(name, "suggest", [sys.executable, "-m", "upicker.web.jobs.suggest", str(target)], about)

    def stop(self, name: str) -> Job:
        """Ask a job to stop; asked again, more sternly. KeyError if there is none of this name."""
        with self._starting:
            job = self.get(name)
            if job.state != "running":
                return job
            self._record(job.folder, {**job.about, "stops": job.stops + 1})
            job.process.send(SIGNALS[min(job.stops, len(SIGNALS) - 1)])
        return self.get(name)

    def begin_search(self) -> dict[str, Any]:
        """Start to look for the micrographs that are best labelled next, as `search`; return its `summary`."""
        return summary(self.search())

    def models(self) -> list[Path]:
        """Return the weights a training can start from: the project's, then those trained here, the latest first."""
        own = [] if self.project.model is None else [self.project.model]
        return own + [job.model for job in self.all() if job.model is not None]

    def suggestions(self) -> dict[str, Any]:
        """Return what the latest search found, for micrographs that are still without labels.

        Returns
        -------
        dict
            ``model`` (its file or None), ``ready``, ``order`` (numbers of micrographs, the most doubtful first),
            ``why`` (number -> a sentence) and ``names`` (number -> name).
        """
        latest = next((job for job in self.all() if job.kind == "suggest"), None)
        found = suggest.read(self.project.state)
        open_ = {plain(path) for path in self.labels.unlabelled()}
        numbers = {self.project.name(i): i for i in range(len(self.project.micrographs))}
        entries = [one for one in found.entries if one.name in numbers and one.name in open_]
        return {
            "model": found.model,
            "ready": found.ready and (latest is None or latest.state != "running"),
            "order": [numbers[one.name] for one in entries],
            "why": {str(numbers[one.name]): one.why for one in entries},
            "names": {str(numbers[one.name]): one.name for one in entries},
        }

    def choices(self) -> dict[str, Any]:
        """Return what a training would learn from, and could start from; ``refusal`` says why it cannot begin."""
        chosen, refusal = [], None
        try:
            chosen = self.labels.usable()
            training.refuse_too_few(chosen)
        except InputError as error:
            refusal = f"{error.remedy or error}"
        return {
            "micrographs": len(chosen),
            "particles": sum(one.particles for one in chosen),
            "partly": sum(one.partly for one in chosen),
            "steps": self.project.config.train.finetune_steps,
            "models": [str(path) for path in self.models()],
            "model": None if (model := self.model()) is None else str(model),
            "refusal": refusal,
        }

    def _refuse_second(self, kind: str, what: str) -> None:
        if any(job.kind == kind and job.state == "running" for job in self.all()):
            raise Refused(409, "the jobs", f"{what} is going on already", "Wait for its end, or stop it")

    def _new(self) -> tuple[str, Path]:
        """Make a folder for a job."""
        now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        name = f"{now}-{uuid.uuid4().hex[:6]}"
        try:
            (self._folder / name).mkdir(parents=True)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(self._folder, f"cannot be written ({reason})", "Check the folder and the disk") from error
        return name, self._folder / name

    def _start(self, name: str, kind: str, command: Sequence[str], about: Mapping[str, Any]) -> Job:
        folder = self._folder / name
        process = detached.start(command, folder)
        record = {"kind": kind, "command": list(command), "pid": process.pid, "birth": process.birth}
        self._record(folder, {**record, "started": time.time(), "stops": 0, **about})
        return self.get(name)

    def _record(self, folder: Path, record: Mapping[str, Any]) -> None:
        with replacing(folder / RECORD) as temporary:
            temporary.write_text(json.dumps(record, indent=1))


def routes(project: Project, parts: Mapping[str, Any]) -> list[Route]:
    """Return the routes of jobs; `upicker.web.jobs.suggest` has those of suggestions."""
    jobs: Jobs = parts["jobs"]

    async def listed(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(lambda: [summary(job) for job in jobs.all()]))

    async def begin(request: Request) -> Response:
        start = _wanted(jobs, await body(request))
        return answer(await anyio.to_thread.run_sync(lambda: summary(start())), 201)

    async def one(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(lambda: detail(_found(jobs.get, request))))

    async def stop(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(lambda: summary(_found(jobs.stop, request))))

    async def choices(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(jobs.choices))

    return [
        Route("/api/jobs", listed, methods=["GET"]),
        Route("/api/jobs", begin, methods=["POST"]),
        Route("/api/jobs/{id}", one, methods=["GET"]),
        Route("/api/jobs/{id}", stop, methods=["DELETE"]),
        Route("/api/training", choices, methods=["GET"]),
    ]


def _found(get: Callable[[str], Job], request: Request) -> Job:
    """Return the job that a request names, or refuse."""
    name = request.path_params["id"]
    try:
        return get(name)
    except KeyError as error:
        raise Refused(404, f"job {name[:40]}", "there is no such job", "Reload the page") from error


def _wanted(jobs: Jobs, asked: Mapping[str, Any]) -> Callable[[], Job]:
    """Return what starts the job that a request asks for, or refuse."""
    kind, steps, initial, partial = (asked.get(name) for name in ("kind", "steps", "init", "partial"))
    if kind == "suggest":
        return jobs.search
    if kind != "finetune":
        raise Refused(400, "kind", f"there is no kind {str(kind)[:40]!r} of job", f"There are: {', '.join(KINDS)}")
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int)):
        raise Refused(400, "steps", "this is no whole number", "Give a number of steps, or null")
    if initial is not None and not isinstance(initial, str):
        raise Refused(400, "init", "this is no file", "Give the name of weights, or null")
    if not isinstance(partial, bool | None):
        raise Refused(400, "partial", "this is neither true nor false", "Give one of them")
    return functools.partial(jobs.finetune, steps, initial, bool(partial))
