"""The TOML file of a training over many data sets: what is simulated, which sets are learned from, which are checked.

Paths are relative to the folder of the file. An unknown key is an error that names the nearest.
"""

from __future__ import annotations

import fnmatch
import glob
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from upicker.config import Config, flatten
from upicker.config.checking import Room, converted, require_known
from upicker.config.knob import knob, knobs_of
from upicker.errors import ConfigError, InputError
from upicker.io.masks import Masks
from upicker.io.micrographs import Reading, entries
from upicker.simulate.specimens import rcsb
from upicker.simulate.specimens.specimen import BUILT_IN
from upicker.simulate.tiles import TilePlan, Variety
from upicker.units import Length, parse_length

# Steps between validations, unless the file says: simulated images are picked as users do, which takes its time.
VALIDATE_EVERY = 500
_GLOB = set("*?[")
# What varies by its logarithm, or is divided by, is above 0; of the rest only these may be below 0.
_POSITIVE = {
    "size_A",
    "given",
    "decoy",
    "per_diameter2",
    "min_distance",
    "voltages_kV",
    "dose_e_A2",
    "thickness_A",
    "ice_noise",
}
_SIGNED = {"preferred", "Cs_mm", "defocus_A"}
Table = TypeVar("Table", bound=Room)


@dataclass(frozen=True)
class FileConfig(Room):
    """What stands outside all tables of the file."""

    steps: int = knob(10_000, "Steps of the training.", low=1)
    seed: int = knob(0, "Seed of all random numbers; another one gives other tiles.", low=0)
    check_every: int = knob(1000, "Steps between checks.", low=1)
    check_threshold: float = knob(0.25, "The threshold, one for all checks, at which F1 is reported.", low=0, high=1)
    check_views: int = knob(1, "Views in which checks are picked (pick.views).", low=1, high=8)


@dataclass(frozen=True)
class SimulatedConfig(Room):
    """The table ``[simulated]``, apart from what varies (`upicker.simulate.tiles.Variety`)."""

    share: float | None = knob(
        None, "Fraction of the tiles that are simulated.", low=0, high=1, none="1 without sets, else 0.5"
    )
    specimens: tuple[str, ...] = knob(BUILT_IN, "Built-in names, files, patterns of files, or PDB ids.")
    exclude: tuple[str, ...] = knob((), "Names or patterns of specimens to leave out, e.g. 4v7r for 4v7r.mrc.gz.")
    pool: int = knob(16, "Particles in use at a time.", low=1)
    refresh: int = knob(1000, "Tiles after which the pool changes.", low=1)
    views: int = knob(128, "Directions from which each particle is projected.", low=1)
    kept_aside: int = knob(24, "Simulated images, never trained on, on which the threshold is chosen.", low=0)


@dataclass(frozen=True)
class SetConfig(Room):
    """A table ``[[set]]``."""

    name: str = knob("", "Name of the set, for messages.")
    micrographs: tuple[str, ...] = knob((), "Files, folders, patterns or lists.")
    labels: str | None = knob(None, "Folder or file of labels.", none="proposals serve as labels")
    diameter: str | None = knob(None, "Particle diameter, e.g. 190A or 108px.", none="the median of the labels'")
    pixel_size: str | None = knob(None, "Pixel size, e.g. 1.77A.", none="that of lists or headers")
    mask: str | None = knob(None, "Contamination mask, or a folder of them, 1 = bad.", none="only the built-in one")
    mask_good: bool = knob(False, "Whether 1 is good in these masks, instead of unusable.")
    weight: float = knob(1.0, "How often its tiles are drawn, relative to the other sets.", low=0.001, high=1000)
    partial: bool = knob(False, "Whether the labels cover only some of the particles.")
    sized: bool | None = knob(
        None,
        "Whether boxes learn the sizes of the labels, or only where they are.",
        none="if these differ; labels of one size follow a convention",
    )
    given: tuple[float, ...] = knob(
        (0.5, 0.71, 1.0, 1.41, 2.0), "Diameters that are given in training, as multiples of the particles'.", above=0
    )


@dataclass(frozen=True)
class CheckConfig(Room):
    """A table ``[[check]]``."""

    name: str = knob("", "Name of the set, for messages and the log.")
    micrographs: tuple[str, ...] = knob((), "Files, folders, patterns or lists.")
    labels: str | None = knob(None, "Folder or file of complete labels.")
    diameter: str | None = knob(None, "Particle diameter, e.g. 190A or 108px.", none="the median of the labels'")
    pixel_size: str | None = knob(None, "Pixel size, e.g. 1.77A.", none="that of lists or headers")
    mask: str | None = knob(None, "Contamination mask, or a folder of them, 1 = bad.", none="only the built-in one")
    mask_good: bool = knob(False, "Whether 1 is good in these masks, instead of unusable.")


@dataclass(frozen=True, eq=False)
class GivenSet:
    """The micrographs of a set, found, and how they are read.

    Attributes
    ----------
    name : str
        Its name.
    paths : list of Path
        Its micrographs.
    reading : Reading
        Their pixel sizes.
    labels : Path or None
        Where the labels are.
    diameter : Length or None
        Of the particles.
    settings : SetConfig or CheckConfig
        The table.
    """

    name: str
    paths: list[Path]
    reading: Reading
    labels: Path | None
    diameter: Length | None
    settings: SetConfig | CheckConfig


@dataclass(frozen=True, eq=False)
class Sets:
    """The content of the file.

    Attributes
    ----------
    path : Path
        The file.
    settings : FileConfig
        What stands outside all tables.
    changes : dict
        ``{"room.knob": value}`` of the tables of knobs.
    simulated : SimulatedConfig or None
        None: nothing is simulated.
    plan : TilePlan or None
        The same, as what simulates takes it.
    sets : list of GivenSet
        What is learned from.
    checks : list of GivenSet
        What is checked only.
    """

    path: Path
    settings: FileConfig
    changes: dict[str, object]
    simulated: SimulatedConfig | None
    plan: TilePlan | None
    sets: list[GivenSet]
    checks: list[GivenSet]

    @property
    def share(self) -> float:
        """Fraction of the tiles that are simulated."""
        if self.simulated is None:
            return 0.0
        if self.simulated.share is not None:
            return self.simulated.share
        return 0.5 if self.sets else 1.0

    @property
    def weights(self) -> list[float]:
        """The fraction of the tiles that are of each set."""
        own = [one.settings.weight for one in self.sets if isinstance(one.settings, SetConfig)]
        return [(1 - self.share) * weight / sum(own) for weight in own]


def read(path: Path) -> Sets:
    """Read the file, and find all that it names.

    Raises
    ------
    ConfigError
        If it cannot be read as TOML, holds an unknown key, or a value that the key does not take.
    InputError
        If a file that it names does not exist.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            path, f"cannot be read as TOML ({error})", "Give a file like that of docs/general-model.md"
        ) from error
    own, rooms = knobs_of(FileConfig), [one.name for one in fields(Config)]
    for key in tables:
        require_known(key, [*own, "simulated", "set", "check", *rooms], str(path), key)
    settings = _room(FileConfig, {key: tables[key] for key in own if key in tables}, path, "")
    changes = flatten({room: tables[room] for room in rooms if room in tables}, str(path))
    if "train.seed" in changes:
        raise ConfigError(path, "'train.seed' is set", "Write 'seed = N' above all tables")
    changes = {"train.validate_every": VALIDATE_EVERY, "train.seed": settings.seed} | changes
    Config().with_changes(changes, str(path))
    simulated = plan = None
    if "simulated" in tables:
        simulated, plan = _simulated(_table(tables, "simulated", path), path, settings.seed)
    sets, checks = (_given(tables, key, kind, path) for key, kind in (("set", SetConfig), ("check", CheckConfig)))
    found = Sets(path, settings, changes, simulated, plan, sets, checks)
    if not sets and not found.share:
        raise ConfigError(path, "there is nothing to learn from", "Add a table [simulated] or [[set]]")
    if found.share == 1 and sets:
        raise ConfigError(path, "with simulated.share = 1 no set is learned from", "Lower it, or leave out [[set]]")
    return found


def _room(kind: type[Table], table: Mapping[str, object], path: Path, prefix: str) -> Table:
    """Return the values of a table; `prefix` is what stands before its keys in messages."""
    knobs = {name: replace(one, room=prefix.rstrip(".")) for name, one in knobs_of(kind).items()}
    for key in table:
        require_known(key, knobs, str(path), f"{prefix}{key}", prefix)
    return kind(**{key: converted(value, knobs[key], str(path)) for key, value in table.items()})


def _table(tables: Mapping[str, object], key: str, path: Path) -> dict[str, object]:
    table = tables[key]
    if not isinstance(table, dict):
        raise ConfigError(path, f"'{key}' is no table", f"Write [{key}]")
    return table


def _simulated(table: Mapping[str, object], path: Path, seed: int) -> tuple[SimulatedConfig, TilePlan]:
    """Read the table of what is simulated."""
    own, varied = knobs_of(SimulatedConfig), {one.name: one.default for one in fields(Variety)}
    for key in table:
        require_known(key, [*own, *varied], str(path), f"simulated.{key}", "simulated.")
    config = _room(SimulatedConfig, {key: value for key, value in table.items() if key in own}, path, "simulated.")
    variety = {
        key: _varied(value, varied[key], f"simulated.{key}", path) for key, value in table.items() if key in varied
    }
    plan = TilePlan(
        specimens=_specimens(config, path),
        variety=Variety(**variety),
        pool=config.pool,
        refresh=config.refresh,
        views=config.views,
        seed=seed,
    )
    return config, plan


def _varied(value: Any, default: Any, key: str, path: Path) -> Any:
    """Return a range, a list of values, or a probability."""
    values = value if isinstance(value, list) else [value]
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in values)
    if not isinstance(default, tuple):
        if isinstance(value, list) or not numbers or not 0 <= float(values[0]) <= 1:
            raise ConfigError(path, f"'{key}' cannot be {value!r}", "It takes a number from 0 to 1")
        return float(values[0])
    is_range = len(default) == 2
    if (
        not isinstance(value, list)
        or not numbers
        or not values
        or (is_range and (len(values) != 2 or values[0] > values[1]))
    ):
        takes = "the lowest and the highest value, e.g." if is_range else "a list, e.g."
        raise ConfigError(path, f"'{key}' cannot be {value!r}", f"It takes {takes} {list(default)}")
    name = key.removeprefix("simulated.")
    if name in _POSITIVE and min(values) <= 0:
        raise ConfigError(path, f"'{key}' cannot be {value!r}", "It takes numbers above 0")
    if name not in _SIGNED and min(values) < 0:
        raise ConfigError(path, f"'{key}' cannot be {value!r}", "It takes numbers of at least 0")
    return tuple(float(one) for one in values)


def _specimens(config: SimulatedConfig, path: Path) -> tuple[str, ...]:
    """Return the specimens: built-in names, files and PDB ids, without those to leave out."""
    found: list[str] = []
    for name in config.specimens:
        beside = _beside(path.parent.absolute(), name)
        if name in BUILT_IN or (rcsb.is_id(name) and not Path(beside).exists()):
            found.append(name)
            continue
        matches = [beside] if Path(beside).is_file() else sorted(glob.glob(beside, recursive=True))  # noqa: PTH207
        files = [match for match in matches if Path(match).is_file()]
        if not files:
            known = f"Give a file, a pattern of files, a PDB id, or one of {', '.join(BUILT_IN)}"
            raise InputError(path, f"there is no specimen '{name}'", known)
        found += files
    for pattern in config.exclude:
        out = [name for name in found if any(fnmatch.fnmatch(one, pattern) for one in _names(name))]
        if not out:
            raise ConfigError(path, f"'simulated.exclude': no specimen is called '{pattern}'", "Check its name")
        found = [name for name in found if name not in out]
    if not found:
        raise ConfigError(path, "'simulated.specimens' are all excluded", "Leave one in")
    # Built-in ones are drawn as often as they are named; a file may match several patterns.
    return tuple(one for at, one in enumerate(found) if one in BUILT_IN or one not in found[:at])


def _names(specimen: str) -> tuple[str, str]:
    """Return a specimen's name with and without its suffixes."""
    name = Path(specimen).name
    return name, name.split(".")[0]


def _given(tables: Mapping[str, object], key: str, kind: type, path: Path) -> list[GivenSet]:
    """Read the tables of sets, and find their files."""
    found: list[GivenSet] = []
    listed = tables.get(key, [])
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise ConfigError(path, f"'{key}' is no list of tables", f"Write [[{key}]] above each")
    for number, table in enumerate(listed, 1):
        settings = _room(kind, table, path, f"{key}.")
        assert isinstance(settings, SetConfig | CheckConfig)
        where = f"[[{key}]] {settings.name or number}"
        missing = [name for name in ("name", "micrographs") if not getattr(settings, name)]
        if isinstance(settings, CheckConfig) and settings.labels is None:
            missing.append("labels")
        if settings.labels is None and settings.diameter is None:
            missing.append("diameter")
        if missing:
            raise ConfigError(path, f"{where} has no '{missing[0]}'", f"Write {missing[0]} = ... into it")
        if isinstance(settings, SetConfig) and not settings.given:
            raise ConfigError(path, f"{where}: given is empty", "Give at least one number, e.g. given = [1.0]")
        if settings.name in {one.name for one in found}:
            raise ConfigError(path, f"two [[{key}]] are called '{settings.name}'", "Rename one")
        found.append(_found(settings, path, where))
    return found


def _found(settings: SetConfig | CheckConfig, path: Path, where: str) -> GivenSet:
    """Find the files of a set."""
    folder = path.parent.absolute()
    listed = entries([_beside(folder, pattern) for pattern in settings.micrographs])
    labels = None if settings.labels is None else Path(_beside(folder, settings.labels))
    if labels is not None and not labels.exists():
        raise InputError(labels, f"no such folder or file of labels, of {where} in {path}", "Check the path")
    pixel_size = _length(settings.pixel_size, "pixel_size", where, path)
    if pixel_size is not None and pixel_size.unit != "A":
        raise ConfigError(
            path, f"{where}: pixel_size {pixel_size} is not in Angstrom", "Give e.g. pixel_size = '1.77A'"
        )
    mask = None if settings.mask is None else Path(_beside(folder, settings.mask))
    masks = None if mask is None else Masks(mask, settings.mask_good)
    reading = Reading.of(listed, None if pixel_size is None else pixel_size.value, masks=masks)
    diameter = _length(settings.diameter, "diameter", where, path)
    return GivenSet(settings.name, [one.path for one in listed], reading, labels, diameter, settings)


def _length(text: str | None, key: str, where: str, path: Path) -> Length | None:
    try:
        return None if text is None else parse_length(text)
    except ConfigError as error:
        raise ConfigError(path, f"{where}: {key} '{text}' is no length", error.remedy) from error


def _beside(folder: Path, name: str) -> str:
    """Return a file or a pattern of files as an absolute one; only in what is written there, `*` is a wildcard."""
    own = Path(name).expanduser()
    if own.is_absolute() or (folder / own).exists() or not _GLOB & set(name):
        return str(folder / own)
    return str(Path(glob.escape(str(folder)), own))
