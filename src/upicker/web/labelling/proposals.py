"""Proposals to begin labelling with: from the A-LoG filter or a model, made in a process of their own, and kept.

They are kept in STATE/proposals, one file per micrograph and source, with what they depend on: the micrograph's file,
the diameter, the settings and the weights. When any of these changes, they are made again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker import __version__
from upicker.config import Config
from upicker.errors import OutputError
from upicker.io.atomic import replacing
from upicker.io.micrographs import Reading
from upicker.particles import Particles
from upicker.propose.proposals import propose, settled
from upicker.run.propose import at_working_scale
from upicker.run.worker import Worker
from upicker.web.answers import Refused, answer, body
from upicker.web.labelling.sheet import Stamp, stamp
from upicker.web.project import Project

if TYPE_CHECKING:
    from upicker.pick.picker import Picker

FOLDER = "proposals"
SOURCES = ("alog", "model")
# Below the threshold that is suggested, so many times as many are given for a person to lower it; at least so many.
_MORE, _AT_LEAST = 3, 200
_DECIMALS, _DIGITS = 2, 6


@dataclass(frozen=True)
class Proposing:
    """The proposals for one micrograph; picklable, for a process of its own.

    Attributes
    ----------
    diameter_px : float or None
        The particles', in raw pixels of this micrograph; a model knows its own.
    config : Config
        The knobs of ``image`` and ``propose``; a model brings its own.
    reading : Reading
        How the micrograph is read.
    model : Path or None
        Weights; None: A-LoG.
    """

    diameter_px: float | None
    config: Config
    reading: Reading
    model: Path | None = None

    def __call__(self, path: Path) -> dict[str, Any]:
        """Return ``particles``, x, y, score by falling score, and the ``threshold`` to begin with.

        Raises
        ------
        UPickerError
            If the micrograph or the weights cannot be used.
        """
        found, threshold = self._of_model(path) if self.model else self._of_filter(path)
        places = zip(np.round(found.xy, _DECIMALS).tolist(), np.round(found.score, _DIGITS).tolist())
        return {"particles": [[*xy, score] for xy, score in places], "threshold": round(threshold, _DIGITS)}

    def _of_filter(self, path: Path) -> tuple[Particles, float]:
        """Return what A-LoG finds, and the score down to which `density.automatic_count` would go."""
        assert self.diameter_px is not None
        prepared = at_working_scale(self.reading.read(path), self.diameter_px, self.config)
        # Without a theta, both see the same candidates, and the first list begins with the second.
        knobs = settled(replace(self.config.propose, threshold=0.0), [prepared], self.config.image)
        found = propose(prepared, replace(knobs, top_k="all"), self.config.image, prepared.usable)
        count = len(propose(prepared, replace(knobs, top_k="auto"), self.config.image, prepared.usable))
        threshold = float(found.score[count - 1]) if count else float(found.score.max(initial=0.0)) + 1.0
        return found.select(np.arange(min(len(found), max(_AT_LEAST, _MORE * count)))), threshold

    def _of_model(self, path: Path) -> tuple[Particles, float]:
        assert self.model is not None
        picker, threshold = _picker(self.model, stamp(self.model))
        return picker.pick(self.reading.read(path), self.diameter_px), threshold


@functools.lru_cache(maxsize=1)
def _picker(model: Path, at: Stamp | None) -> tuple[Picker, float]:
    """Return a picker that gives all it finds, and the threshold that its weights bring; kept until they change."""
    from upicker.pick.detection import FLOOR
    from upicker.pick.picker import Picker

    # One processor is left to the page.
    picker = Picker(model, {"train.threads": max(1, (os.cpu_count() or 2) - 1)})
    threshold, picker.threshold = picker.threshold, FLOOR
    return picker, threshold


class Proposals:
    """The proposals of a project: kept ones at once, others from a worker, one after the other.

    Parameters
    ----------
    project : Project
        Whose micrographs.
    model : callable
        Returns the weights to use, or None where there are none.
    """

    def __init__(self, project: Project, model: Callable[[], Path | None]) -> None:
        self._project, self._model = project, model
        self._worker = Worker()

    def wanted(self, number: int, source: object) -> Proposing:
        """Return what is to be done for one micrograph.

        Raises
        ------
        NotThere
            If there is no such micrograph.
        Refused
            400 for an unknown source, without weights, or without a diameter.
        """
        self._project.path(number)
        if source not in SOURCES:
            raise Refused(400, "source", f"there is no source {str(source)[:40]!r}", f"There are: {', '.join(SOURCES)}")
        model = self._model() if source == "model" else None
        if source == "model" and model is None:
            raise Refused(400, "model", "there are no weights yet", "Train on some labels, or start with --model")
        diameter_px = self._project.diameter_px(number)
        if diameter_px is None and model is None:
            raise Refused(400, "diameter", "the particles' diameter is not known", "Set it first")
        return Proposing(diameter_px, self._project.config, self._project.reading, model)

    def kept(self, number: int, work: Proposing) -> dict[str, Any] | None:
        """Return proposals that were made before, with the same settings; None if there are none."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(self._file(number, work).read_text("utf-8"))
            if content.pop("of") == self._settings(number, work):
                return content
        return None

    def made(self, number: int, work: Proposing) -> dict[str, Any]:
        """Make proposals, and keep them.

        Raises
        ------
        UPickerError
            If that cannot be done.
        """
        kept = self.kept(number, work)
        if kept is not None:
            return kept
        of = self._settings(number, work)
        found = self._worker.do(work, self._project.path(number))
        # A full disk is no reason not to show them.
        with contextlib.suppress(OutputError), replacing(self._file(number, work)) as beside:
            beside.write_text(json.dumps({**found, "of": of}), "utf-8")
        return found

    def close(self) -> None:
        """Stop the worker."""
        self._worker.close()

    def _file(self, number: int, work: Proposing) -> Path:
        path = str(self._project.path(number).absolute())
        name = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return self._project.state / FOLDER / f"{name}-{'model' if work.model else 'alog'}.json"

    def _settings(self, number: int, work: Proposing) -> str:
        """Return what proposals depend on, in short."""
        path, reading, config = self._project.path(number), work.reading, work.config
        model = work.model and (str(work.model), stamp(work.model))
        own = () if model else (config.image, config.propose)
        parts = (path, stamp(path), reading.size_of(path), reading.gain, work.diameter_px, model, own, __version__)
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()


def routes(project: Project, parts: MutableMapping[str, Any]) -> list[Route]:
    """Return the route of proposals; the part ``"proposals"`` is added, to be closed with the others."""
    jobs = parts.get("jobs")
    proposals = parts["proposals"] = Proposals(project, jobs.model if jobs else lambda: project.model)
    # Those who wait do so here, not in threads, which others need.
    turn = anyio.CapacityLimiter(1)

    async def propose_one(request: Request) -> Response:
        number, source = request.path_params["number"], (await body(request)).get("source")
        work = await anyio.to_thread.run_sync(proposals.wanted, number, source)
        found = await anyio.to_thread.run_sync(proposals.kept, number, work)
        if found is None:
            async with turn:
                # Whoever has gone on to another micrograph needs none of this one.
                if await request.is_disconnected():
                    return Response(status_code=204)
                found = await anyio.to_thread.run_sync(proposals.made, number, work)
        return answer(found)

    return [Route("/api/micrographs/{number:int}/proposals", propose_one, methods=["POST"])]
