"""Proposals to start labelling from: of the A-LoG filter or a model, computed in a separate process, and cached.

Where nobody has told the particle diameter, it is estimated there first, as `upicker pick` does, and saved.

They are cached in STATE/proposals, one file per micrograph and source, with a digest of all that they depend on: the
micrograph's file, the diameter, the settings and the weights. When any of these changes, they are computed again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from upicker import __version__
from upicker.config import Config
from upicker.errors import OutputError
from upicker.io.atomic import replacing
from upicker.io.micrographs import Reading
from upicker.io.stamp import Stamp, stamp
from upicker.particles import Particles
from upicker.pick.shipped import located
from upicker.propose.proposals import propose, with_template
from upicker.run.machine import cores
from upicker.run.propose import at_working_scale
from upicker.run.worker import Worker
from upicker.web.project import Project
from upicker.web.responses import Refused

if TYPE_CHECKING:
    from upicker.pick.picker import Picker
    from upicker.run.size import Found

FOLDER = "proposals"
SOURCES = ("alog", "model")
# So that the user can lower the suggested threshold, this many times as many proposals are returned; at least 200.
_MORE, _AT_LEAST = 3, 200
_DECIMALS, _DIGITS = 2, 6


@dataclass(frozen=True)
class Proposing:
    """The computation of the proposals for one micrograph; picklable, for another process.

    Attributes
    ----------
    diameter_px : float or None
        Of the particles, raw pixels of this micrograph; None uses the one stored with the model.
    config : Config
        The knobs of ``image`` and ``propose``; a model uses its own.
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
        """Return ``particles``, x, y, score by decreasing score, and the suggested ``threshold``.

        Raises
        ------
        UPickerError
            If the micrograph or the weights cannot be used.
        """
        found, threshold = self._of_model(path) if self.model else self._of_filter(path)
        rows = zip(np.round(found.xy, _DECIMALS).tolist(), np.round(found.score, _DIGITS).tolist())
        return {"particles": [[*xy, score] for xy, score in rows], "threshold": round(threshold, _DIGITS)}

    def _of_filter(self, path: Path) -> tuple[Particles, float]:
        """Return the proposals of A-LoG, and the lowest score among as many as `density.automatic_count` keeps."""
        assert self.diameter_px is not None
        prepared = at_working_scale(self.reading.read(path), self.diameter_px, self.config)
        # Without a threshold theta, both start from the same candidates: the first list begins with the second.
        knobs = with_template(replace(self.config.propose, threshold=0.0), [prepared], self.config.image)
        found = propose(prepared, replace(knobs, top_k="all"), self.config.image, prepared.usable)
        count = len(propose(prepared, replace(knobs, top_k="auto"), self.config.image, prepared.usable))
        threshold = float(found.score[count - 1]) if count else float(found.score.max(initial=0.0)) + 1.0
        return found.select(np.arange(min(len(found), max(_AT_LEAST, _MORE * count)))), threshold

    def _of_model(self, path: Path) -> tuple[Particles, float]:
        assert self.model is not None
        picker, threshold = _picker(self.model, stamp(self.model))
        return picker.pick(self.reading.read(path), self.diameter_px), threshold


@dataclass(frozen=True)
class Sizing:
    """The estimate of the particle diameter from some micrographs; picklable, for another process.

    Attributes
    ----------
    paths : tuple of Path
        All micrographs of the project.
    reading : Reading
        How they are read.
    particles : str
        The knob ``image.particles``.
    """

    paths: tuple[Path, ...]
    reading: Reading
    particles: str

    def __call__(self, _: Path) -> Found:
        """Return what a few of the micrographs say, see `upicker.run.size.find`, also for errors."""
        from upicker.pick.picker import Picker
        from upicker.run.size import find

        changes = {"pick.views": 1, "image.particles": self.particles, "train.threads": max(1, cores() - 1)}
        return find(Picker(None, changes), self.paths, self.reading)


@functools.lru_cache(maxsize=1)
def _picker(model: Path, at: Stamp | None) -> tuple[Picker, float]:
    """Return a picker of all detections, and the threshold stored with its weights; cached until these change."""
    from upicker.pick.detection import FLOOR
    from upicker.pick.picker import Picker

    # One core is left to the page.
    picker = Picker(model, {"train.threads": max(1, cores() - 1)})
    threshold, picker.threshold = picker.threshold, FLOOR
    return picker, threshold


class Proposals:
    """The proposals of a project: from the cache, or computed by a worker process, one micrograph after the other.

    Parameters
    ----------
    project : Project
        The project.
    model : callable
        Returns the weights to use, or None for the general model.
    """

    def __init__(self, project: Project, model: Callable[[], Path | None]) -> None:
        self._project, self._model = project, model
        self._worker = Worker()

    def unsized(self, number: int, source: object) -> bool:
        """Return whether the particle diameter has to be estimated before a micrograph's proposals.

        Raises
        ------
        NotFound, Refused
            As `wanted`.
        """
        return self._own(number, source) is None and self._project.diameter is None

    def sized(self, number: int) -> str:
        """Estimate the particle diameter, save it, and return what is to be said; nothing if it is known meanwhile.

        Raises
        ------
        UPickerError
            If there is nothing like a particle, see `upicker.run.size.find`.
        OutputError
            If it cannot be saved.
        """
        project = self._project
        if project.diameter is not None:
            return ""
        work = Sizing(project.micrographs, project.reading, project.config.image.particles)
        found = self._worker.do(work, project.path(number))
        if project.diameter is not None:  # the user was faster
            return ""
        project.set_diameter(found.diameter)
        return "; ".join(found.lines())

    def wanted(self, number: int, source: object) -> Proposing:
        """Return the computation for one micrograph.

        Raises
        ------
        NotFound
            If there is no such micrograph.
        Refused
            400 for an unknown source, or without a diameter where one is needed.
        """
        own = self._own(number, source)
        model = own or (located(None) if source == "model" else None)
        diameter_px = self._project.diameter_px(number)
        if diameter_px is None and own is None:
            raise Refused(400, "diameter", "the particle diameter is unknown", "Set it first")
        return Proposing(diameter_px, self._project.config, self._project.reading, model)

    def _own(self, number: int, source: object) -> Path | None:
        """Return the project's own weights that make the proposals, which know the diameter; raises as `wanted`."""
        self._project.path(number)
        if source not in SOURCES:
            raise Refused(400, "source", f"unknown source {str(source)[:40]!r}", f"Use one of: {', '.join(SOURCES)}")
        return self._model() if source == "model" else None

    def cached(self, number: int, work: Proposing) -> dict[str, Any] | None:
        """Return the proposals computed before from the same settings; None if there are none."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            content = json.loads(self._file(number, work).read_text("utf-8"))
            if content.pop("digest") == self._digest(number, work):
                return content
        return None

    def made(self, number: int, work: Proposing) -> dict[str, Any]:
        """Compute proposals, and cache them.

        Raises
        ------
        UPickerError
            If the micrograph or the weights cannot be used.
        """
        cached = self.cached(number, work)
        if cached is not None:
            return cached
        digest = self._digest(number, work)
        found = self._worker.do(work, self._project.path(number))
        # They can be shown even if the disk is full.
        with contextlib.suppress(OutputError), replacing(self._file(number, work)) as temporary:
            temporary.write_text(json.dumps({**found, "digest": digest}), "utf-8")
        return found

    def close(self) -> None:
        """Stop the worker."""
        self._worker.close()

    def _file(self, number: int, work: Proposing) -> Path:
        path = str(self._project.path(number).absolute())
        name = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return self._project.state / FOLDER / f"{name}-{'model' if work.model else 'alog'}.json"

    def _digest(self, number: int, work: Proposing) -> str:
        """Return a digest of everything that the proposals depend on."""
        path, reading, config = self._project.path(number), work.reading, work.config
        model = work.model and (str(work.model), stamp(work.model))
        own = () if model else (config.image, config.propose)
        mask = reading.masks and (reading.masks, stamp(reading.masks.find(self._project.name(number))))
        image = (path, stamp(path), reading.size_of(path), reading.gain, mask)
        parts = (*image, work.diameter_px, model, own, __version__)
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape")).hexdigest()
