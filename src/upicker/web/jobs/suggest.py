"""Which micrograph to label next: where the model is least sure.

A micrograph's doubt is a sum over the model's detections: one that is a particle with the chance `p` is worth
``4 p (1 - p)``, which is 1 where p is one half, and 0 where all is clear. Scores become chances on completely labelled
micrographs, see `upicker.run.calibration`; without such, the threshold stored with the weights stands at one half.
What is below `FAINT` or above ``1 - FAINT`` counts for nothing, or the heaps of hopeless detections would outweigh the
rest. People are told how many are doubtful, between `DOUBTFUL` and ``1 - DOUBTFUL``.

A crowded micrograph has more of everything, and takes longer to label, so the doubt is divided by the number of
candidates (all detections above `FAINT`), and by their median over the micrographs in addition, or one with two faint
candidates would come first.

``python -m upicker.web.jobs.suggest REQUEST.json`` asks the model, in a process of its own that
`upicker.web.jobs.jobs` starts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from upicker.errors import UPickerError
from upicker.io import coordinates
from upicker.io.atomic import replacing
from upicker.io.micrographs import Reading
from upicker.io.names import plain
from upicker.particles import Particles
from upicker.run.calibration import Calibration, from_labels, from_threshold
from upicker.scoring import match
from upicker.units import Length, parse_length
from upicker.web.answers import answer
from upicker.web.jobs.training import Labelled, changes

if TYPE_CHECKING:
    from upicker.pick.picker import Picker
    from upicker.web.project import Project

FILE, REQUEST, PROGRESS = "suggestions.json", "request.json", "progress.json"
# So many micrographs are asked about: a minute or two of a laptop's time.
MOST = 24
# And so many labelled ones tell what its scores mean.
MOST_KNOWN = 4
FAINT, DOUBTFUL = 0.1, 0.25
# Somebody waits, and an order of micrographs needs no more views than these.
VIEWS = 2
# Knobs that can be changed with weights that exist.
_FREE = ("train.threads", "train.device", "train.bfloat16")


@dataclass(frozen=True)
class Suggestion:
    """What the model thinks of one micrograph.

    Attributes
    ----------
    name : str
        The micrograph's.
    doubt : float
        Sum of 4 p (1 - p) over its detections.
    candidates : int
        Detections that are particles, or may be.
    why : str
        For the user.
    """

    name: str
    doubt: float
    candidates: int
    why: str


@dataclass(frozen=True)
class Found:
    """What a search has found so far.

    Attributes
    ----------
    model : str or None
        The weights asked.
    ready : bool
        Whether all micrographs have been looked at.
    entries : list of Suggestion
        The most doubtful micrograph first.
    """

    model: str | None = None
    ready: bool = False
    entries: list[Suggestion] = field(default_factory=list)


def assess(name: str, detections: Particles, calibration: Calibration) -> Suggestion:
    """Return the doubt about one micrograph.

    Parameters
    ----------
    name : str
        The micrograph's.
    detections : Particles
        Down to a very low score, 0..1.
    calibration : Calibration
        What scores mean.
    """
    p = calibration.chance(detections.score)
    candidates = int((p >= FAINT).sum())
    doubt = float((4 * p * (1 - p))[(p >= FAINT) & (p <= 1 - FAINT)].sum())
    doubtful = int(((p >= DOUBTFUL) & (p <= 1 - DOUBTFUL)).sum())
    return Suggestion(name, doubt, candidates, f"{doubtful} doubtful picks of {candidates}")


def ranked(found: Sequence[Suggestion]) -> list[Suggestion]:
    """Return them by falling share of doubtful picks."""
    usual = float(np.median([one.candidates for one in found])) if found else 0.0
    return sorted(found, key=lambda one: (-one.doubt / max(one.candidates + usual, 1.0), one.name))


def spread(paths: Sequence[Path], most: int = MOST) -> list[Path]:
    """Return at most so many, evenly spread over the list."""
    if len(paths) <= most:
        return list(paths)
    return [paths[int((i + 0.5) * len(paths) / most)] for i in range(most)]


def write_request(
    project: Project, model: Path, paths: Sequence[Path], known: Sequence[Labelled], folder: Path
) -> Path:
    """Write what a search is to do; return the file.

    Parameters
    ----------
    project : Project
        Whose micrographs.
    model : Path
        The weights to ask.
    paths : sequence of Path
        The micrographs to ask about.
    known : sequence of Labelled
        Completely labelled ones, on which scores are compared with the truth.
    folder : Path
        Where the request and the progress go.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    reading = project.reading
    request = {
        "model": str(model.absolute()),
        "micrographs": [[str(path.absolute()), reading.size_of(path)] for path in paths],
        "labelled": [[str(one.path.absolute()), reading.size_of(one.path), str(one.file.absolute())] for one in known],
        "gain": None if reading.gain is None else str(reading.gain.absolute()),
        "diameter": None if project.diameter is None else str(project.diameter),
        "settings": {key: value for key, value in changes(project.config).items() if key in _FREE},
        "output": str(project.state.absolute() / FILE),
    }
    target = folder / REQUEST
    _write(target, request)
    return target


def telling(usable: Sequence[Labelled], most: int = MOST_KNOWN) -> list[Labelled]:
    """Return the completely labelled micrographs that say most about the model: those with most labels."""
    whole = [one for one in usable if one.particles and not one.partly]
    return sorted(whole, key=lambda one: (-one.particles, one.path))[:most]


def read(state: Path) -> Found:
    """Return what the latest search found; nothing if there was none."""
    try:
        content = json.loads((state / FILE).read_text())
        entries = [Suggestion(**entry) for entry in content["entries"]]
        return Found(str(content["model"]), bool(content["ready"]), entries)
    except (OSError, ValueError, KeyError, TypeError):
        return Found()


def done(folder: Path) -> int:
    """Return how many micrographs a search has looked at."""
    try:
        return int(json.loads((folder / PROGRESS).read_text())["done"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def search(request: Mapping[str, Any], folder: Path, say: Callable[[str], object]) -> None:
    """Ask the model about each micrograph; what is found is written after each.

    Parameters
    ----------
    request : mapping
        As `write_request` writes it.
    folder : Path
        Where the progress goes.
    say : callable
        Is told of micrographs that cannot be used.

    Raises
    ------
    UPickerError
        If the weights cannot be used, no micrograph can, or nothing can be written.
    """
    asked = _Asked.of(request)
    doing = _Progress(folder / PROGRESS, len(request["labelled"]) + len(request["micrographs"]))
    scores, hits = [np.empty(0)], [np.empty(0, bool)]
    for path, size, file in request["labelled"]:
        with doing.trying(say):
            detections, diameter_px = asked.detect(Path(path), size)
            labels = coordinates.read(Path(file)).with_diameter(diameter_px)
            scores.append(detections.score)
            hits.append(match(detections, labels).hit)
    fitted = from_labels(np.concatenate(scores), np.concatenate(hits))
    found: dict[str, Particles] = {}
    todo = request["micrographs"]
    for number, (path, size) in enumerate(todo, 1):
        with doing.trying(say):
            found[plain(Path(path))] = asked.detect(Path(path), size)[0]
        every = np.concatenate([np.empty(0), *(detections.score for detections in found.values())])
        calibration = fitted or from_threshold(every, asked.threshold)
        entries = ranked([assess(name, detections, calibration) for name, detections in found.items()])
        if found:
            content = {"model": request["model"], "ready": number == len(todo), "entries": [*map(asdict, entries)]}
            _write(Path(request["output"]), content)
    if not found and doing.failure is not None:
        raise doing.failure


@dataclass(frozen=True)
class _Asked:
    """The model at work."""

    picker: Picker
    threshold: float
    diameter: Length
    gain: Path | None

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> _Asked:
        from upicker.pick.detection import FLOOR
        from upicker.pick.picker import Picker

        picker = Picker(Path(request["model"]), {"pick.views": VIEWS, **request["settings"]})
        # All that it sees, also what it would not pick.
        threshold, picker.threshold = picker.threshold, FLOOR
        diameter = parse_length(request["diameter"]) if request["diameter"] else picker.diameter
        return cls(picker, threshold, diameter, None if request["gain"] is None else Path(request["gain"]))

    def detect(self, path: Path, pixel_size_A: float | None) -> tuple[Particles, float]:
        """Return all detections in a micrograph, and the particles' diameter there, raw pixels."""
        micrograph = Reading(pixel_size_A, {}, self.gain).read(path)
        diameter_px = self.diameter.to_px(micrograph.pixel_size_A, str(path))
        return self.picker.pick(micrograph, diameter_px), diameter_px


@dataclass
class _Progress:
    """Counts micrographs, in a file for the page, and remembers the first that failed."""

    path: Path
    total: int
    done: int = 0
    failure: UPickerError | None = None

    @contextmanager
    def trying(self, say: Callable[[str], object]) -> Iterator[None]:
        """Work on one micrograph, which may fail."""
        try:
            yield
        except UPickerError as error:
            self.failure = self.failure or error
            say(f"Skipped {error}")
        self.done += 1
        _write(self.path, {"done": self.done, "of": self.total})


def routes(project: Project, parts: Mapping[str, Any]) -> list[Route]:
    """Return the routes of suggestions."""

    async def show(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(parts["jobs"].suggestions))

    async def begin(request: Request) -> Response:
        return answer(await anyio.to_thread.run_sync(parts["jobs"].begin_search), 201)

    return [
        Route("/api/suggestions", show, methods=["GET"]),
        Route("/api/suggestions", begin, methods=["POST"]),
    ]


def main(arguments: Sequence[str]) -> int:
    """Do what a request says; return the exit code."""
    target = Path(arguments[0])

    def say(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    try:
        search(json.loads(target.read_text()), target.parent, say)
    except UPickerError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _write(path: Path, content: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
