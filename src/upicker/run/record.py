"""What a run leaves beside its outputs to say how they were made: ``run.toml``. It is read and written here only.

It holds the merged config, one table per room, so that ``--config`` takes it, and a table ``[run]`` about the run. It
is written when a run begins. The micrographs are listed in files of their own (`upicker.run.entries`), because several
runs may write to one folder at a time; earlier versions listed them in ``run.micrographs``.
"""

from __future__ import annotations

import datetime
import math
import tomllib
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import tomli_w

from upicker import __version__
from upicker.config import Config, flatten
from upicker.errors import UPickerError
from upicker.io.atomic import create, replacing
from upicker.run import entries
from upicker.run.batch import Outcome
from upicker.run.entries import Entry, Journal
from upicker.units import Length, parse_length

NAME = "run.toml"
SINCE = "since_ns"


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
    def since_ns(self) -> int | None:
        """Outputs that were last changed before that, in nanoseconds since 1970, are those of other settings."""
        since = self.about.get(SINCE)
        return since if isinstance(since, int) else None

    @property
    def diameter(self) -> Length | None:
        """The particle diameter."""
        try:
            return parse_length(str(self.about["diameter"]))
        except (KeyError, UPickerError):
            return None

    @property
    def relative_size(self) -> float:
        """Size of the particles, in given diameters, to which the working scale was set."""
        size = self.about.get("relative_size")
        return float(size) if isinstance(size, int | float) and 0 < size < math.inf else 1.0

    @property
    def model(self) -> Path | None:
        """The weights, if the file still exists."""
        model = self.about.get("model")
        return Path(model) if isinstance(model, str) and model and Path(model).is_file() else None

    def changed_knobs(self) -> dict[str, object]:
        """Return the knobs whose values are not the defaults of this version."""
        default = flat(Config())
        return {key: value for key, value in self.knobs.items() if key not in default or value != default[key]}


def read(folder: Path, micrographs: bool = True) -> Record:
    """Read the record of a folder. What is missing or cannot be read is left empty: picks stay good without it.

    Parameters
    ----------
    folder : Path
        The output folder.
    micrographs : bool
        Whether to read the entries of the micrographs, too.
    """
    about, knobs, listed = _read_toml(folder)
    return Record(about, knobs, entries.merged([*listed, *entries.read(folder)]) if micrographs else ())


def write_first(folder: Path, command: str, config: Config, about: Mapping[str, object]) -> bool:
    """Write ``folder/run.toml`` unless another process has done so; return whether it was this one.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    return create(folder / NAME, _text(command, config, about))


def write(
    folder: Path, command: str, config: Config, about: Mapping[str, object], micrographs: Iterable[Entry] = ()
) -> Path:
    """Write ``folder/run.toml``. Micrographs that an earlier version listed in it stay listed.

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
    micrographs : iterable of Entry
        Those done already; others are added by a `upicker.run.entries.Journal`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = folder / NAME
    listed = [entry.as_dict() for entry in _read_toml(folder)[2]]
    with replacing(path) as temporary:
        temporary.write_text(_text(command, config, {**about, "micrographs": listed or None}), encoding="utf-8")
    with closing(Journal(folder)) as journal:
        journal.append(micrographs)
    return path


def _text(command: str, config: Config, about: Mapping[str, object]) -> str:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    tables = {room: {key: _written(value) for key, value in of.items()} for room, of in config.to_tables().items()}
    return toml({**tables, "run": {"command": command, "version": __version__, "time": now, **about}})


def recorded(
    outcomes: Generator[Outcome[Entry], None, None], journal: Journal
) -> Generator[Outcome[Entry], None, None]:
    """Pass outcomes on, and append the entry of each, or its failure, to a journal.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.value is not None:
                journal.append([outcome.value])
            elif outcome.error is not None:
                journal.failed(outcome.path, str(outcome.error))
            yield outcome


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


def flat(config: Config) -> dict[str, object]:
    """Return ``"room.knob"`` -> value, as `Record.knobs` has them."""
    return {key: _written(value) for key, value in flatten(config.to_tables(), NAME).items()}


def _read_toml(folder: Path) -> tuple[dict[str, object], dict[str, object], list[Entry]]:
    """Return what ``run.toml`` says about the run, the knobs, and the micrographs that an earlier version listed."""
    try:
        tables = tomllib.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}, {}, []
    rooms = {room: table for room, table in tables.items() if isinstance(table, dict)}
    about = rooms.pop("run", {})
    listed = about.pop("micrographs", [])
    found = (entries.parsed(values) for values in (listed if isinstance(listed, list) else []))
    return about, flatten(rooms, NAME), [entry for entry in found if entry is not None]
