"""What a run leaves beside its outputs to say how they were made: ``run.toml``. It is read and written here only.

It holds the merged config, one table per room, so that ``--config`` takes it; a table ``[run]`` about the run itself;
and a list ``run.micrographs``.
"""

from __future__ import annotations

import datetime
import math
import tomllib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import tomli_w

from upicker import __version__
from upicker.config import Config, flatten
from upicker.errors import UPickerError
from upicker.io.atomic import replacing
from upicker.particles import Micrograph, Particles
from upicker.run.batch import Outcome
from upicker.units import Length, parse_length

NAME = "run.toml"


@dataclass(frozen=True)
class Entry:
    """One micrograph of a run; None where a record does not give it.

    Attributes
    ----------
    name : str
        The micrograph's stem.
    path : str or None
        Where it was read from.
    rows, columns : int or None
        Its shape; coordinates lie in this frame, ``(0, 0)`` being the centre of the first stored pixel.
    pixel_size_A : float or None
        Angstrom per raw pixel, where known.
    diameter_px : float or None
        The particle diameter used, in raw pixels.
    particles : int or None
        How many were written.
    score : str or None
        What their scores are, of `upicker.particles.ScoreKind`.
    """

    name: str
    path: str | None = None
    rows: int | None = None
    columns: int | None = None
    pixel_size_A: float | None = None
    diameter_px: float | None = None
    particles: int | None = None
    score: str | None = None

    @classmethod
    def of(cls, micrograph: Micrograph, particles: Particles, diameter_px: float) -> Entry:
        """Return the entry of a micrograph with its particles."""
        rows, columns = micrograph.shape
        return cls(
            name=micrograph.name,
            path=str(micrograph.path),
            rows=rows,
            columns=columns,
            pixel_size_A=micrograph.pixel_size_A,
            diameter_px=round(float(diameter_px), 3),
            particles=len(particles),
            score=particles.score_kind.declaration,
        )


@dataclass(frozen=True)
class Record:
    """The content of a ``run.toml``; empty where there is none, or none that can be read.

    Attributes
    ----------
    about : mapping
        The table ``[run]`` without the micrographs: command, version, time, model, diameter ... as far as known.
    knobs : mapping
        ``"room.knob"`` -> value, as written; another version may have had other knobs.
    micrographs : tuple of Entry
        The micrographs of all runs into this folder.
    """

    about: Mapping[str, object] = field(default_factory=dict)
    knobs: Mapping[str, object] = field(default_factory=dict)
    micrographs: tuple[Entry, ...] = ()

    @property
    def command(self) -> str | None:
        """The command: ``"pick"``, ``"propose"`` ..."""
        command = self.about.get("command")
        return command if isinstance(command, str) else None

    @property
    def threshold(self) -> float | None:
        """The lowest score of the particles written."""
        threshold = self.about.get("threshold")
        return float(threshold) if isinstance(threshold, int | float) and math.isfinite(threshold) else None

    @property
    def diameter(self) -> Length | None:
        """The particle diameter."""
        try:
            return parse_length(str(self.about["diameter"]))
        except (KeyError, UPickerError):
            return None

    @property
    def model(self) -> Path | None:
        """The weights, if the file still exists."""
        model = self.about.get("model")
        return Path(model) if isinstance(model, str) and model and Path(model).is_file() else None

    def changed_knobs(self) -> dict[str, object]:
        """Return the knobs whose values are not the defaults of this version."""
        default = _flat(Config())
        return {key: value for key, value in self.knobs.items() if key not in default or value != default[key]}


def read(folder: Path) -> Record:
    """Read ``folder/run.toml``. What is missing or cannot be read is left empty: picks stay good without it."""
    try:
        tables = tomllib.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Record()
    rooms = {room: table for room, table in tables.items() if isinstance(table, dict)}
    about = rooms.pop("run", {})
    listed = about.pop("micrographs", [])
    entries = (_entry(values) for values in (listed if isinstance(listed, list) else []))
    return Record(about, flatten(rooms, NAME), tuple(entry for entry in entries if entry is not None))


def write(folder: Path, command: str, config: Config, about: Mapping[str, object], entries: Sequence[Entry]) -> Path:
    """Write ``folder/run.toml``. Micrographs of an earlier run into the same folder stay listed.

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
    run: dict[str, object] = {"command": command, "version": __version__, "time": now, **about}
    listed = {entry.name: entry for entry in (*read(folder).micrographs, *entries)}
    if listed:
        run["micrographs"] = [asdict(listed[name]) for name in sorted(listed)]
    tables = {room: {key: _written(value) for key, value in of.items()} for room, of in config.to_tables().items()}
    with replacing(path) as temporary:
        temporary.write_text(toml({**tables, "run": run}), encoding="utf-8")
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


def toml(value: Mapping[str, object]) -> str:
    """Return a mapping as TOML, without its None values; what TOML has no type for becomes text."""
    return tomli_w.dumps(_plain(value))  # type: ignore[arg-type]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, bool | int | float):
        return value
    # File names may hold bytes that are not UTF-8, as surrogates.
    return str(value).encode("utf-8", "replace").decode()


def _written(value: object) -> object:
    """Return a knob's value as the file has it: the text "none" for None, which TOML lacks."""
    return "none" if value is None else list(value) if isinstance(value, tuple) else value


def _flat(config: Config) -> dict[str, object]:
    return {key: _written(value) for key, value in flatten(config.to_tables(), NAME).items()}


def _entry(values: object) -> Entry | None:
    """Return one listed micrograph; None without a name."""
    if not isinstance(values, dict):
        return None
    known: dict = {one.name: values[one.name] for one in fields(Entry) if one.name in values}
    if "name" not in known and isinstance(known.get("path"), str):
        known["name"] = Path(known["path"]).stem
    return Entry(**known) if isinstance(known.get("name"), str) else None
