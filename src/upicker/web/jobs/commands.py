"""The command lines of jobs: fine-tuning on labels, and suggestions of what to label next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from upicker.config import Config, flatten
from upicker.errors import InputError
from upicker.io import star
from upicker.io.atomic import replacing
from upicker.io.labels import Labelled

if TYPE_CHECKING:
    from upicker.web.project import Project

# Fewer labels would be memorised.
LEAST_PARTICLES = 10
MODEL, RANKING = "model.safetensors", "ranking.csv"
# Knobs that training determines; those that weights to start from fix, beside model.*; and those that may be changed
# for existing weights.
_DETERMINED = ("pick.threshold", "pick.edge_diameters")
_FIXED = ("image.working_diameter_px",)
_CHANGEABLE = ("train.threads", "train.device", "train.bfloat16")


@dataclass(frozen=True)
class Plan:
    """Options of a training.

    Attributes
    ----------
    steps : int
        Number of steps.
    initial : Path or None
        Weights to start from; None for a random start.
    partial : bool
        Whether label files that ``coverage.csv`` does not name are partial rather than complete.
    """

    steps: int
    initial: Path | None
    partial: bool


def refuse_too_few(labelled: Sequence[Labelled]) -> None:
    """Refuse to train on too few labels.

    Raises
    ------
    InputError
        With fewer than `LEAST_PARTICLES`.
    """
    particles = sum(one.particles for one in labelled)
    if not particles:
        raise InputError("the labels", "none yet", f"Label at least {LEAST_PARTICLES} particles first")
    if particles < LEAST_PARTICLES:
        found = f"there {'is' if particles == 1 else 'are'} only {particles}: too few to train on"
        raise InputError("the labels", found, f"Label at least {LEAST_PARTICLES} particles")


def finetune_arguments(project: Project, labelled: Sequence[Labelled], plan: Plan, folder: Path) -> list[str]:
    """Return the arguments of ``upicker`` that train on labels.

    Parameters
    ----------
    project : Project
        Its labels, diameter, pixel sizes and config.
    labelled : sequence of Labelled
        The micrographs to train on.
    plan : Plan
        The options.
    folder : Path
        Where the weights go; also a list of the micrographs, if each has its own pixel size.

    Raises
    ------
    OutputError
        If that list cannot be written.
    """
    words = ["finetune", *_inputs(project, [one.path for one in labelled], folder), "-o", str(folder / MODEL)]
    words += [] if plan.initial is None else ["--init", str(plan.initial)]
    words += ["--partial"] if plan.partial else []
    settings = changed_knobs(project.config) | {"train.finetune_steps": plan.steps}
    settings = {key: value for key, value in settings.items() if key not in _DETERMINED}
    if plan.initial is not None:
        # Weights have their own network, and refuse another.
        settings = {key: value for key, value in settings.items() if not key.startswith("model.") and key not in _FIXED}
    return words + _settings(settings)


def suggest_arguments(project: Project, paths: Sequence[Path], model: Path, folder: Path) -> list[str]:
    """Return the arguments of ``upicker`` that rank micrographs to label next.

    Parameters
    ----------
    project : Project
        Its labels, diameter and pixel sizes.
    paths : sequence of Path
        The micrographs to rank, and completely labelled ones to calibrate on.
    model : Path
        The weights.
    folder : Path
        Where the ranking goes; also a list of the micrographs, if each has its own pixel size.

    Raises
    ------
    OutputError
        If that list cannot be written.
    """
    words = ["suggest", *_inputs(project, paths, folder), "--model", str(model.absolute())]
    words += ["-o", str(folder / RANKING)]
    return words + _settings({k: v for k, v in changed_knobs(project.config).items() if k in _CHANGEABLE})


def changed_knobs(config: Config) -> dict[str, object]:
    """Return the knobs that are not at their defaults."""
    default = flatten(Config().to_tables(), "")
    return {key: value for key, value in flatten(config.to_tables(), "").items() if value != default[key]}


def _inputs(project: Project, paths: Sequence[Path], folder: Path) -> list[str]:
    """Return the arguments that name micrographs, labels, diameter, pixel size, gain and masks."""
    reading = project.reading
    if reading.pixel_size_A is None and reading.listed:
        words = [str(_micrograph_list(project, paths, folder))]
    else:
        # Absolute, so that no name looks like an option.
        words = [str(path.absolute()) for path in paths]
    assert project.labels is not None
    options = {
        "--labels": project.labels.absolute(),
        "--diameter": project.diameter,
        "--pixel-size": None if reading.pixel_size_A is None else f"{reading.pixel_size_A:g}A",
        "--gain": reading.gain,
        "--mask": None if reading.masks is None else reading.masks.path.absolute(),
    }
    words += ["--mask-good"] if reading.masks is not None and reading.masks.good else []
    return words + [word for name, value in options.items() if value is not None for word in (name, str(value))]


def _micrograph_list(project: Project, paths: Sequence[Path], folder: Path) -> Path:
    """Write a STAR file of micrographs with their pixel sizes."""
    target = folder / "micrographs.star"
    rows = [(str(path.absolute()), project.reading.size_of(path) or 0.0) for path in paths]
    with replacing(target) as temporary:
        columns = ("_rlnMicrographName", "_rlnMicrographPixelSize")
        temporary.write_text(star.format_table("", columns, rows), encoding="utf-8", errors="surrogateescape")
    return target


def _settings(settings: Mapping[str, object]) -> list[str]:
    """Return knobs as ``--set`` options."""
    return [word for key, value in settings.items() for word in ("--set", f"{key}={_text(value)}")]


def _text(value: object) -> str:
    """Return the value of a knob as ``--set`` reads it."""
    if isinstance(value, list | tuple):
        return ",".join(str(part) for part in value)
    return "none" if value is None else str(value)
