"""What a run leaves beside its outputs to say how they were made: ``run.toml``."""

from __future__ import annotations

import datetime
import json
import tomllib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from upicker import __version__
from upicker.config import Config
from upicker.io.atomic import replacing
from upicker.particles import Micrograph, Particles
from upicker.run.batch import Outcome

NAME = "run.toml"


@dataclass(frozen=True)
class Entry:
    """One micrograph of a run, in ``run.toml``.

    Attributes
    ----------
    name : str
        The micrograph's stem.
    path : str
        Where it was read from.
    rows, columns : int
        Its shape; coordinates lie in this frame, ``(0, 0)`` being the centre of the first stored pixel.
    pixel_size_A : float or None
        Angstrom per raw pixel, where known.
    diameter_px : float
        The particle diameter used, in raw pixels.
    particles : int
        How many were written.
    """

    name: str
    path: str
    rows: int
    columns: int
    pixel_size_A: float | None
    diameter_px: float
    particles: int

    @classmethod
    def of(cls, micrograph: Micrograph, particles: Particles, diameter_px: float) -> Entry:
        """Return the entry of a micrograph with its particles."""
        rows, columns = micrograph.shape
        diameter_px, count = round(float(diameter_px), 3), len(particles)
        return cls(micrograph.name, str(micrograph.path), rows, columns, micrograph.pixel_size_A, diameter_px, count)


def write(folder: Path, command: str, config: Config, about: Mapping[str, object], entries: Sequence[Entry]) -> Path:
    """Write ``folder/run.toml``: the merged config, and a table ``[run]`` about the run itself.

    It can be given back with ``--config``. Micrographs of an earlier run into the same folder stay listed.

    Parameters
    ----------
    folder : Path
        The output folder.
    command : str
        The command's name.
    config : Config
        The merged config.
    about : mapping
        More of the run: the model, the diameter, the pixel size ... None values are left out.
    entries : sequence of Entry
        The micrographs done.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = folder / NAME
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    run = {"command": command, "version": __version__, "time": now, **about}
    done = {entry.name: asdict(entry) for entry in entries}
    listed = {**_entries_in(path), **done}
    tables = [*config.to_tables().items(), ("run", run)]
    text = "\n".join(table(f"[{name}]", knobs, "none" if name != "run" else None) for name, knobs in tables)
    text += "".join("\n" + table("[[run.micrographs]]", listed[name], None) for name in sorted(listed))
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def recorded(
    outcomes: Generator[Outcome[Entry], None, None],
    folder: Path,
    command: str,
    config: Config,
    about: Mapping[str, object],
) -> Generator[Outcome[Entry], None, None]:
    """Pass outcomes on, and write ``folder/run.toml`` at the end, also when the caller stops before it.

    Parameters
    ----------
    outcomes : generator of Outcome
        From `upicker.run.batch.each`.
    folder, command, config, about
        See `write`.
    """
    entries: list[Entry] = []
    try:
        for outcome in outcomes:
            if outcome.value is not None:
                entries.append(outcome.value)
            yield outcome
    finally:
        if entries:
            write(folder, command, config, about, entries)


def _entries_in(path: Path) -> dict[str, dict]:
    """Return the micrographs that an earlier run listed; none without a readable record."""
    try:
        run = tomllib.loads(path.read_text(encoding="utf-8"))["run"]
        return {entry["name"]: entry for entry in run["micrographs"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def table(heading: str, values: Mapping[str, object], none: str | None) -> str:
    """Return one table of TOML; None becomes the string `none`, or is left out."""
    lines = [heading]
    for key, value in values.items():
        if value is None and none is None:
            continue
        lines.append(f"{key} = {_value(none if value is None else value)}")
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    """Write one value as TOML."""
    if isinstance(value, bool | int | float):
        return str(value).lower()  # nan and inf are TOML, too.
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(part) for part in value) + "]"
    # A JSON string is a TOML one, too, once `ensure_ascii=False` keeps surrogate pairs out of it.
    return json.dumps(str(value).encode("utf-8", "replace").decode(), ensure_ascii=False)
