"""Options that several commands share, and how they become a config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from upicker.config import Config, read_changes
from upicker.errors import ConfigError, InputError
from upicker.units import Length, parse_length


def _length(_type: object, tokens: Sequence[Any]) -> Length:
    return parse_length(tokens[0].value)


def _pixel_size(_type: object, tokens: Sequence[Any]) -> float:
    length = parse_length(tokens[0].value)
    if length.unit != "A":
        raise ConfigError("--pixel-size", f"{length} is not in Angstrom", "Give e.g. --pixel-size 1.77A")
    return length.value


_SIZE: Any = Parameter(converter=_length, n_tokens=1, accepts_keys=False, metavar="LENGTH")

Micrographs = Annotated[str, Parameter(help="Micrographs: files, folders, quoted patterns like 'data/*.mrc'.")]
Size = Annotated[Length, _SIZE]
Output = Annotated[Path, Parameter(name=("--output", "-o"))]
PixelSize = Annotated[
    float | None,
    Parameter(
        converter=_pixel_size,
        n_tokens=1,
        metavar="LENGTH",
        help="Pixel size of the micrographs, e.g. 1.77A; by default what their headers say.",
    ),
]
Changes = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        negative="",
        show_default=False,
        metavar="ROOM.KNOB=VALUE",
        help="Change one knob of the config, e.g. image.particles=bright; may be repeated.",
    ),
]
ConfigFile = Annotated[
    Path | None, Parameter(name="--config", help="A TOML file of knobs, e.g. the run.toml of an earlier run.")
]
Jobs = Annotated[int, Parameter(name=("--jobs", "-j"))]
Flag: Any = Parameter(negative="", show_default=False)


def changes(file: Path | None, settings: Sequence[str], **own: object) -> dict[str, object]:
    """Merge what changes the config: a file, then ``--set``, then options of the command's own.

    Parameters
    ----------
    file : Path or None
        Of ``--config``.
    settings : sequence of str
        Of ``--set``: ``room.knob=value``.
    **own : object
        ``room__knob=value``, None where the option was not given.

    Returns
    -------
    dict
        ``{"room.knob": value}``, checked.

    Raises
    ------
    ConfigError
        For what is not a setting, an unknown knob, or a value of the wrong kind.
    """
    merged: dict[str, object] = {} if file is None else read_changes(file)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError("--set", f"'{setting}' sets nothing", "Write e.g. --set train.batch=4")
        merged[key.strip()] = value.strip()
    merged |= {key.replace("__", "."): value for key, value in own.items() if value is not None}
    Config().with_changes(merged)
    return merged


def words(text: str) -> tuple[str, ...]:
    """Split ``star,csv``."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def find_micrographs(patterns: Sequence[str]) -> list[Path]:
    """Return the micrographs that files, folders and patterns name.

    Raises
    ------
    InputError
        If there is none.
    """
    from upicker.io import micrographs

    if not patterns:
        raise ConfigError("MICS", "no micrographs are given", "Name files, folders or quoted patterns")
    return micrographs.find(patterns)


def existing_folder(path: Path, what: str) -> Path:
    """Return a folder that is there.

    Raises
    ------
    InputError
        If it is not.
    """
    if not path.is_dir():
        raise InputError(path, f"there is no such folder of {what}", "Check the path")
    return path
