"""What a training started from the page learns from, and the command line that it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upicker.config import Config, flatten
from upicker.errors import InputError, UPickerError
from upicker.io import coordinates, star
from upicker.io.atomic import replacing
from upicker.io.coverage import read_coverage
from upicker.io.names import plain
from upicker.io.pairing import pair_folder

if TYPE_CHECKING:
    from upicker.web.project import Project

# Fewer labels teach nothing, and would be learned by heart.
LEAST_PARTICLES = 10
MODEL = "model.safetensors"
BAD = "bad.txt"
_FOUND = ("pick.threshold", "pick.edge_diameters")


@dataclass(frozen=True)
class Labelled:
    """A micrograph to learn from.

    Attributes
    ----------
    path : Path
        The micrograph.
    file : Path
        Its labels' file.
    particles : int
        Its labels; 0 for one that is said to hold none.
    partly : bool
        Whether ``coverage.csv`` says that there are more particles than labels, or names regions.
    """

    path: Path
    file: Path
    particles: int
    partly: bool


@dataclass(frozen=True)
class Plan:
    """What is asked for.

    Attributes
    ----------
    steps : int
        Of training.
    initial : Path or None
        Weights to start from.
    partial : bool
        Whether micrographs of which ``coverage.csv`` says nothing are labelled in part only, rather than completely.
    """

    steps: int
    initial: Path | None
    partial: bool


class Labels:
    """The labels of a project as they are on the disk, where training reads them; files are read when they change."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._counts: dict[Path, tuple[tuple[int, int], int]] = {}

    def bad(self) -> set[str]:
        """Return the names of the micrographs that were marked bad."""
        try:
            return set((self._project.state / BAD).read_text("utf-8", "surrogateescape").splitlines())
        except OSError:
            return set()

    def files(self) -> dict[Path, Path]:
        """Return micrograph -> file of labels.

        Raises
        ------
        InputError
            If names are ambiguous.
        """
        folder = self._project.labels
        if folder is None or not folder.is_dir():
            return {}
        return pair_folder(self._project.micrographs, folder, required=False).pairs

    def usable(self) -> list[Labelled]:
        """Return the micrographs to learn from: with labels, or said to hold none, and not marked bad.

        Raises
        ------
        CoordinatesError
            If ``coverage.csv`` cannot be read.
        InputError
            As `files`.
        """
        files, bad = self.files(), self.bad()
        if not files or self._project.labels is None:
            return []
        # Asked both ways, the answers differ where nothing is said; an empty file by itself does not mean no particles.
        either = [read_coverage(self._project.labels, partial) for partial in (False, True)]
        found = []
        for path in self._project.micrographs:
            if path not in files or plain(path) in bad:
                continue
            said, unsaid = (answer[files[path]] for answer in either)
            particles, partly = self._count(files[path]), said.partial or bool(said.regions)
            if particles or (not partly and not unsaid.partial):
                found.append(Labelled(path, files[path], particles, partly))
        return found

    def unlabelled(self) -> list[Path]:
        """Return the micrographs without labels that are not marked bad."""
        files, bad = self.files(), self.bad()
        paths = self._project.micrographs
        return [p for p in paths if plain(p) not in bad and not (p in files and self._count(files[p]))]

    def _count(self, file: Path) -> int:
        """Return how many labels a file holds; 0 if it cannot be read."""
        try:
            status = file.stat()
            stamp = status.st_mtime_ns, status.st_size
            if self._counts.get(file, ((0, 0), 0))[0] != stamp:
                self._counts[file] = stamp, len(coordinates.read(file))
            return self._counts[file][1]
        except (OSError, UPickerError):
            return 0


def refuse_too_few(chosen: Sequence[Labelled]) -> None:
    """Refuse to train where there is nothing to learn.

    Raises
    ------
    InputError
        Without labels, or with fewer than `LEAST_PARTICLES`.
    """
    particles = sum(one.particles for one in chosen)
    if not particles:
        raise InputError("the labels", "there is not one yet", f"Label at least {LEAST_PARTICLES} particles first")
    if particles < LEAST_PARTICLES:
        few = f"there {'is' if particles == 1 else 'are'} only {particles}, which {'is' if particles == 1 else 'are'}"
        raise InputError("the labels", f"{few} too few to learn from", f"Label at least {LEAST_PARTICLES} particles")


def command(project: Project, chosen: Sequence[Labelled], plan: Plan, folder: Path) -> list[str]:
    """Return the arguments of ``upicker`` that train on labels.

    Parameters
    ----------
    project : Project
        Its labels, diameter, pixel sizes and config.
    chosen : sequence of Labelled
        What to learn from.
    plan : Plan
        What is asked for.
    folder : Path
        Where the weights go; also a list of the micrographs, where each has a pixel size of its own.

    Raises
    ------
    OutputError
        If that list cannot be written.
    """
    reading = project.reading
    words = ["finetune"]
    if reading.pixel_size_A is None and reading.listed:
        words.append(str(_listed(project, [one.path for one in chosen], folder)))
    else:
        # From the root on, so that no name looks like an option.
        words += [str(one.path.absolute()) for one in chosen]
    assert project.labels is not None
    words += ["--labels", str(project.labels.absolute()), "-o", str(folder / MODEL)]
    optional = {
        "--init": plan.initial,
        "--diameter": project.diameter,
        "--pixel-size": None if reading.pixel_size_A is None else f"{reading.pixel_size_A:g}A",
        "--gain": reading.gain,
    }
    words += [word for option, value in optional.items() if value is not None for word in (option, str(value))]
    words += ["--partial"] if plan.partial else []
    settings = changes(project.config) | {"train.finetune_steps": plan.steps}
    # Threshold and margin are what training finds out; and weights bring their own network, and refuse another.
    settings = {key: value for key, value in settings.items() if key not in _FOUND}
    if plan.initial is not None:
        settings = {key: value for key, value in settings.items() if not key.startswith("model.")}
    return words + [word for key, value in settings.items() for word in ("--set", f"{key}={_word(value)}")]


def changes(config: Config) -> dict[str, object]:
    """Return the knobs that are not at their defaults."""
    default = flatten(Config().to_tables(), "")
    return {key: value for key, value in flatten(config.to_tables(), "").items() if value != default[key]}


def _listed(project: Project, paths: Sequence[Path], folder: Path) -> Path:
    """Write the micrographs with their pixel sizes as a list."""
    target = folder / "micrographs.star"
    rows = [(str(path.absolute()), project.reading.size_of(path) or 0.0) for path in paths]
    with replacing(target) as temporary:
        columns = ("_rlnMicrographName", "_rlnMicrographPixelSize")
        temporary.write_text(star.format_table("", columns, rows), encoding="utf-8", errors="surrogateescape")
    return target


def _word(value: object) -> str:
    """Write a knob's value as ``--set`` takes it."""
    if isinstance(value, list | tuple):
        return ",".join(str(part) for part in value)
    return "none" if value is None else str(value)
