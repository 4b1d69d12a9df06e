"""Options shared by several commands, and how they change the config."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from upicker.cli.console import warning
from upicker.cli.shares import Share, parse_share
from upicker.config import Config, read_changes
from upicker.errors import ConfigError, InputError
from upicker.units import (
    CS_MM,
    DEFOCUS_A,
    DOSE_E_A2,
    DURATION_S,
    FRACTION,
    PER_UM2,
    PHASE_DEG,
    RATIO,
    THICKNESS_A,
    VOLTAGE_KV,
    Length,
    Quantity,
    parse_length,
)

if TYPE_CHECKING:
    from upicker.io.lists import Listed
    from upicker.io.masks import Masks
    from upicker.io.micrographs import Reading


def _length(_type: object, tokens: Sequence[Any]) -> Length:
    return parse_length(tokens[0].value)


def _pixel_size(_type: object, tokens: Sequence[Any]) -> float:
    length = parse_length(tokens[0].value)
    if length.unit != "A":
        raise ConfigError("--pixel-size", f"{length} is not in Angstrom", "Give e.g. --pixel-size 1.77A")
    return length.value


def _share(_type: object, tokens: Sequence[Any]) -> Share:
    return parse_share(tokens[0].value)


def _quantity(quantity: Quantity, metavar: str) -> Any:
    """Return the parameter of one number with its unit; negative numbers are not mistaken for options."""

    def convert(_type: object, tokens: Sequence[Any]) -> float:
        return quantity.read(tokens[0].value, tokens[0].keyword or metavar)

    return Parameter(converter=convert, n_tokens=1, accepts_keys=False, metavar=metavar, allow_leading_hyphen=True)


def _defocus(_type: object, tokens: Sequence[Any]) -> tuple[float, float]:
    return DEFOCUS_A.read_range(tokens[0].value, tokens[0].keyword or "--defocus")


def _shape(_type: object, tokens: Sequence[Any]) -> tuple[int, int]:
    sides = re.fullmatch(r"\s*(\d{1,9})\s*(?:px)?\s*(?:[x×*,]\s*(\d{1,9})\s*(?:px)?\s*)?", tokens[0].value, re.I)
    if not sides:
        remedy = "Write columns and rows, e.g. --shape 4096x4096"
        raise ConfigError("--shape", f"'{tokens[0].value}' is not an image size", remedy)
    columns = int(sides[1])
    return int(sides[2] or columns), columns


_SIZE: Any = Parameter(converter=_length, n_tokens=1, accepts_keys=False, metavar="LENGTH")

Micrographs = Annotated[
    str, Parameter(help="Micrographs: files, folders, quoted patterns (e.g. 'data/*.mrc') or lists (.star, .cs, text).")
]
Size = Annotated[Length, _SIZE]
# Not a Path: "./general-1" is a file, "general-1" is not.
Model = Annotated[str, Parameter(metavar="MODEL")]
Output = Annotated[Path, Parameter(name=("--output", "-o"))]
PixelSize = Annotated[
    float | None,
    Parameter(
        converter=_pixel_size,
        n_tokens=1,
        metavar="LENGTH",
        help="Pixel size of the micrographs, e.g. 1.77A; by default from the list, or else from the file headers.",
    ),
]
Gain = Annotated[
    Path | None,
    Parameter(negative="", help="Gain reference; only for movies, which are summed.", show_default=False),
]
Dose = Annotated[float, _quantity(DOSE_E_A2, "DOSE")]
Thickness = Annotated[float, _quantity(THICKNESS_A, "LENGTH")]
Voltage = Annotated[float, _quantity(VOLTAGE_KV, "KV")]
Aberration = Annotated[float, _quantity(CS_MM, "LENGTH")]
Phase = Annotated[float, _quantity(PHASE_DEG, "ANGLE")]
Concentration = Annotated[float, _quantity(PER_UM2, "NUMBER")]
Duration = Annotated[float, _quantity(DURATION_S, "TIME")]
Fraction = Annotated[float, _quantity(FRACTION, "FRACTION")]
Ratio = Annotated[float, _quantity(RATIO, "RATIO")]
Defocus = Annotated[
    tuple[float, float],
    Parameter(
        converter=_defocus, n_tokens=1, accepts_keys=False, metavar="RANGE", allow_leading_hyphen=True, negative=""
    ),
]
Shape = Annotated[
    tuple[int, int],
    Parameter(
        converter=_shape, n_tokens=1, accepts_keys=False, metavar="COLUMNSxROWS", allow_leading_hyphen=True, negative=""
    ),
]
Suffix = Annotated[
    str,
    Parameter(
        negative="",
        show_default=False,
        allow_leading_hyphen=True,
        metavar="ENDING",
        help="Ending of the files' names that those of the micrographs lack, e.g. _extract; most are recognised.",
    ),
]
Changes = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set",
        negative="",
        show_default=False,
        metavar="ROOM.KNOB=VALUE",
        help='Set one knob of the config, e.g. image.particles=bright; may be repeated. "upicker config" lists all.',
    ),
]
ConfigFile = Annotated[
    Path | None,
    Parameter(name="--config", help='TOML file of knobs, from "upicker config" or the run.toml of an earlier run.'),
]
Jobs = Annotated[int, Parameter(name=("--jobs", "-j"))]
ShareOf = Annotated[
    Share | None,
    Parameter(
        converter=_share,
        n_tokens=1,
        accepts_keys=False,
        metavar="K/N",
        negative="",
        help="Do every N-th micrograph from the K-th on, K being 1 to N: one task of a job array. All tasks have the "
        "same list, output folder and settings; what holds for all micrographs is determined by the whole list.",
    ),
]
Cluster = Annotated[
    str | None,
    Parameter(
        help="Work on a cluster: local, slurm, tls://HOST:PORT of a dask scheduler, a TOML file, or its name in "
        "~/.config/upicker. --jobs is then the number of workers.",
    ),
]
Insecure = Annotated[
    bool, Parameter(negative="", show_default=False, help="Allow connections to the cluster that are not encrypted.")
]
Json = Annotated[
    bool,
    Parameter(
        negative="", show_default=False, help="Print one JSON object on the standard output (docs/scripting.md)."
    ),
]
Flag: Any = Parameter(negative="", show_default=False)
# What the words for the number of views of a micrograph mean (`pick.views`).
_VIEWS = {"--fast": 1, "--accurate": 8}
Fast = Annotated[bool, Parameter(negative="", show_default=False, help="Pick in one view: the least time.")]
Accurate = Annotated[
    bool,
    Parameter(negative="", show_default=False, help="Pick in eight views, rotated and mirrored: the best picks."),
]


def changes(file: Path | None, settings: Sequence[str], **own: object) -> dict[str, object]:
    """Merge the changes of the config: a file, then ``--set``, then the command's own options.

    Parameters
    ----------
    file : Path or None
        Value of ``--config``.
    settings : sequence of str
        Values of ``--set``: ``room.knob=value``.
    **own : object
        ``room__knob=value``, None where the option was not given.

    Returns
    -------
    dict
        ``{"room.knob": value}``, checked.

    Raises
    ------
    ConfigError
        For a malformed setting, an unknown knob, or a value that the knob does not take.
    """
    merged: dict[str, object] = {} if file is None else read_changes(file)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError("--set", f"expected ROOM.KNOB=VALUE, found '{setting}'", "Write e.g. --set train.batch=4")
        merged[key.strip()] = value.strip()
    merged |= {key.replace("__", "."): value for key, value in own.items() if value is not None}
    Config().with_changes(merged)
    return merged


def views(fast: bool, accurate: bool, settings: Sequence[str]) -> int | None:
    """Return the number of views that ``--fast`` or ``--accurate`` stands for; None with neither.

    Raises
    ------
    ConfigError
        With both, or with ``--set pick.views``.
    """
    given = {option: number for option, number in _VIEWS.items() if {"--fast": fast, "--accurate": accurate}[option]}
    words = [*given, *(f"--set {one}" for one in settings if one.partition("=")[0].strip() == "pick.views")]
    if given and len(words) > 1:
        raise ConfigError(words[1], f"it sets the number of views, as does {words[0]}", "Give one of them")
    return next(iter(given.values()), None)


def comma_separated(text: str) -> tuple[str, ...]:
    """Split ``star,csv``."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


@Parameter(name="*")
@dataclass(frozen=True)
class Masking:
    """Contamination masks.

    Parameters
    ----------
    mask
        Contamination mask, or a folder with NAME_mask.* or NAME.* for each micrograph: 1 (or 255) is unusable. Any size
        with the micrograph's aspect ratio; probabilities count from 0.5 on. Joined with the built-in mask.
    mask_good
        With --mask: 1 (or 255) is good ice, and 0 is unusable.
    """

    mask: Annotated[Path | None, Parameter(negative="", show_default=False)] = None
    mask_good: Annotated[bool, Flag] = False

    @property
    def masks(self) -> Masks | None:
        """The masks that are given.

        Raises
        ------
        InputError
            If there is no such file or folder.
        ConfigError
            If the convention is given without masks.
        """
        from upicker.io.masks import Masks

        if self.mask_good and self.mask is None:
            raise ConfigError("--mask-good", "it has no effect without --mask", "Give --mask, too, or leave it out")
        return None if self.mask is None else Masks(self.mask, self.mask_good)


NO_MASKS = Masking()


def listed_micrographs(
    patterns: Sequence[str],
    pixel_size_A: float | None,
    gain: Path | None,
    masks: Masks | None = None,
    again: bool = False,
) -> tuple[list[Path], Reading]:
    """Return the micrographs given by files, folders, patterns and lists, and how to read them; warn of empty masks.

    They may be listed `again`, without that warning.

    Raises
    ------
    InputError
        If there is none, or a list cannot be read.
    """
    from upicker.io.micrographs import Reading
    from upicker.io.names import plain

    found = entries(patterns)
    paths = [entry.path for entry in found]
    if masks is not None and not again and (told := masks.all_empty([plain(path) for path in paths])):
        warning(told)
    return paths, Reading.of(found, pixel_size_A, gain, masks)


def entries(patterns: Sequence[str], by_path: bool = False) -> list[Listed]:
    """Return the micrographs given by files, folders, patterns and lists, with the metadata of the lists.

    Parameters
    ----------
    patterns : sequence of str
        As given.
    by_path : bool
        Whether files of one name in several folders are allowed.

    Raises
    ------
    InputError
        If there is none, or a list cannot be read.
    """
    from upicker.io import micrographs

    if not patterns:
        raise ConfigError("MICS", "no micrographs were given", "Give files, folders, quoted patterns or lists")
    return micrographs.entries(patterns, by_path)


def existing_labels(path: Path) -> Path:
    """Return a folder of labels, or a file of them, after checking that it exists.

    Raises
    ------
    InputError
        If it does not exist.
    """
    if not path.exists():
        raise InputError(path, "no such folder or file of labels", "Check the path")
    return path
