"""``upicker status``."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from upicker.cli.console import as_json, note, problem, result
from upicker.cli.options import Json

if TYPE_CHECKING:
    from upicker.run.status import Running, Status, TrainingStatus

# So many failures are printed; --json has all.
MOST = 10


def status(where: Path, /, *, json: Json = False) -> int:
    """Say what ran in a folder: with which weights and knobs, how far it is, what failed and why.

    Parameters
    ----------
    where
        Output folder of "upicker pick", "propose" or "relion-job", or the weights of a training, perhaps still to come.
    """
    from upicker.run import status as known

    as_json(json)
    found = known.status(where)
    if isinstance(found, known.TrainingStatus):
        _show_training(found)
        result({"result": "status", "kind": "training", **asdict(found)})
    else:
        _show_run(found)
        listed = [{"path": path, "why": why} for path, why in found.failures.items()]
        values = {key: value for key, value in asdict(found).items() if key not in ("command", "folder")}
        result({"result": "status", "kind": "run", "of": found.command, **values, "failures": listed})
    return 0


def _show_run(found: Status) -> None:
    about = found.about
    note(f"{found.command} ({found.version}), last begun {found.time}")
    if weights := about.get("general_name") or about.get("model"):
        note(f"weights: {weights} ({str(about.get('model_sha256', ''))[:8]})")
    named = ("diameter", "relative_size", "threshold", "fdr", "pixel_size_A", "mask", "gain")
    if settings := _listed({key: about[key] for key in named if key in about}):
        note(settings)
    if found.knobs:
        note(f"knobs: {_listed(found.knobs)}")
    of = "" if found.total is None else f" of {found.total}"
    note(f"done: {found.done}{of} micrographs, {found.particles} particles")
    for one in found.running:
        note(f"running on {one.host or 'some machine'}: {_progress(one)}")
    if found.failures:
        problem(f"failed: {len(found.failures)} micrographs")
        for path, why in [*found.failures.items()][:MOST]:
            problem(f"  {why if path in why else f'{path}: {why}'}")
        if len(found.failures) > MOST:
            problem(f"  and {len(found.failures) - MOST} more (--json lists all)")


def _progress(one: Running) -> str:
    of = "" if one.todo is None else f" of {one.todo}"
    rate = f", {one.per_second:.2g} micrographs a second" if math.isfinite(one.per_second) else ""
    left = f", {_time(one.seconds_left)} left" if math.isfinite(one.seconds_left) else ""
    return f"{one.done}{of}{rate}{left}"


def _show_training(found: TrainingStatus) -> None:
    of = "" if found.steps is None else f" of {found.steps}"
    took = f", {_time(found.seconds)}" if math.isfinite(found.seconds) else ""
    note(f"{found.stage or 'training'} -> {found.path}: {found.state}, step {found.step}{of}{took}")
    if math.isfinite(found.best_f1):
        note(f"best F1 {found.best_f1:.3f} at threshold {found.threshold:.3f}")
    if found.holder:
        note(found.holder)
    elif found.state == "interrupted":
        note("the same command with --resume continues it")


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{key}={_short(value)}" for key, value in values.items())


def _short(value: object) -> object:
    return f"{len(value)} numbers" if isinstance(value, list) and len(value) > 4 else value


def _time(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
