"""The header of a weights file: what picking requires beside the tensors.

A file may come from a stranger, so that all of the header is checked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from upicker import __version__
from upicker.calibration import Calibration
from upicker.errors import ConfigError, WeightsError
from upicker.units import Length, parse_length

# The format of the tensors, stored in the header; a file of another format is refused.
#
# Raise it by 1 whenever the tensors of an older file would mean something else to the code as it is, even if all names
# and shapes still fit: a renamed or reshaped parameter, but also another order of a box's coordinates, other waves of
# the sine embedding, another unit of the sampling offsets, an activation or a norm moved, another scale of the input
# pixels. Not for new fields of the header or for knobs: those have errors of their own.
FORMAT = 2

# A header has a few thousand characters.
MOST_CHARACTERS = 2**20
# Digits of a number of views.
MOST_DIGITS = 3
# Of what a file says, so much is quoted in an error.
MOST_QUOTED = 200
# Slope and offset of a calibration.
MOST_STEEP = 1e3
# Without these knobs positions and sizes would silently be those of the defaults.
REQUIRED = (("image", "working_diameter_px"),)


@dataclass(frozen=True)
class Header:
    """The metadata of a weights file.

    Attributes
    ----------
    config : dict
        The merged config, as nested tables.
    diameter : str or None
        The particle diameter that the weights were trained for, with its unit; None: any.
    stage : str
        ``"pretrain"``, ``"finetune"`` or ``"train"``.
    threshold : float or None
        Lowest score of a pick, chosen by training.
    f1, precision, recall : float or None
        At that threshold, on validation data.
    steps : int
        Training steps of the stage.
    version : str
        Version of UPicker that wrote the file.
    fingerprint : str
        Of the training, once it is complete (`upicker.train.fingerprint`); empty before.
    thresholds : dict of str to float
        The threshold for each of some numbers of views, as scores differ with that; empty: `threshold` for all.
    calibrations : dict of str to [float, float]
        Slope and offset of the curve that makes probabilities of scores (`upicker.calibration.Calibration`), for each
        of some numbers of views; thresholds are then probabilities. Empty: scores are used as they are.
    general : dict of str to str
        The shipped model that these weights are, or were trained from: ``name``, ``sha256`` (of its tensors, see
        `upicker.model.weights.digest`) and ``commit`` (of its training). Empty: none.
    format : int
        Format of the tensors, see `FORMAT`.
    """

    config: dict
    diameter: str | None
    stage: str
    threshold: float | None
    f1: float | None
    precision: float | None
    recall: float | None
    steps: int
    version: str = __version__
    fingerprint: str = ""
    thresholds: dict[str, float] = field(default_factory=dict)
    calibrations: dict[str, list[float]] = field(default_factory=dict)
    general: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def length(self) -> Length | None:
        """The particle diameter as a length; None: any."""
        return None if self.diameter is None else parse_length(self.diameter)

    @property
    def curves(self) -> dict[int, Calibration]:
        """The calibration for each of some numbers of views."""
        return {int(views): Calibration(*values) for views, values in self.calibrations.items()}

    @property
    def by_views(self) -> dict[int, float]:
        """The threshold for each of some numbers of views."""
        return {int(views): value for views, value in self.thresholds.items()}

    def to_text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))


def parsed(text: str, path: Path) -> Header:
    """Read the header of a weights file from its JSON.

    Raises
    ------
    WeightsError
        If it is not one, or of another format.
    """
    try:
        if len(text) > MOST_CHARACTERS:
            raise ValueError(f"it has {len(text)} characters")
        values = json.loads(text)
        if not isinstance(values, dict):
            raise TypeError(f"expected a table, found {type(values).__name__}")
        _require_format(path, values.get("format"))
        header = Header(**values)
        _require_sound(header)
    except (TypeError, ValueError, RecursionError, ConfigError) as error:
        raise WeightsError(
            path, f"its header cannot be read ({quoted(error)})", "If a newer UPicker wrote it, update"
        ) from error
    return header


def quoted(text: object) -> str:
    """Return what a file says for a message: not too long, and without characters that no terminal prints."""
    words = str(text)
    words = words if len(words) <= MOST_QUOTED else f"{words[:MOST_QUOTED]} ..."
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def _require_sound(header: Header) -> None:
    """Refuse fields of the wrong type or outside their range; `TypeError`, `ValueError` or `ConfigError`."""
    for name in ("diameter", "stage", "version", "fingerprint"):
        value = getattr(header, name)
        if not isinstance(value, str) and (name != "diameter" or value is not None):
            raise TypeError(f"'{name}' is not text")
    for name in ("threshold", "f1", "precision", "recall"):
        value = getattr(header, name)
        if value is not None and not _is_fraction(value):
            raise ValueError(f"'{name}' is no number from 0 to 1")
    _require_thresholds(header.thresholds)
    _require_calibrations(header.calibrations)
    _require_texts(header.general)
    if not isinstance(header.steps, int) or isinstance(header.steps, bool) or header.steps < 0:
        raise ValueError("'steps' is no whole number")
    if not isinstance(header.config, dict) or not all(isinstance(room, Mapping) for room in header.config.values()):
        raise TypeError("'config' is no table of tables")
    for room, name in REQUIRED:
        if name not in header.config.get(room, {}):
            raise ValueError(f"'{room}.{name}' is missing")
    if header.diameter is not None:
        parse_length(header.diameter)


def _require_texts(general: object) -> None:
    if not isinstance(general, dict) or not all(isinstance(text, str) for text in general.values()):
        raise TypeError("'general' is no table of texts")


def _require_thresholds(thresholds: object) -> None:
    if not isinstance(thresholds, dict):
        raise TypeError("'thresholds' is no table")
    for views, value in thresholds.items():
        if not (_is_number_of_views(views) and _is_fraction(value)):
            raise ValueError("'thresholds' has no number from 0 to 1 for each number of views")


def _require_calibrations(calibrations: object) -> None:
    if not isinstance(calibrations, dict):
        raise TypeError("'calibrations' is no table")
    for views, value in calibrations.items():
        pair = isinstance(value, list) and len(value) == 2 and all(map(_is_finite, value))
        if not (_is_number_of_views(views) and pair and 0 < value[0] <= MOST_STEEP and abs(value[1]) <= MOST_STEEP):
            raise ValueError("'calibrations' has no slope above 0 and offset for each number of views")


def _is_number_of_views(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS and int(text) > 0


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_fraction(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _require_format(path: Path, found: object) -> None:
    """Refuse a file whose tensors this version would misread."""
    if found == FORMAT and not isinstance(found, bool):
        return
    if found is None:
        what, remedy = "weights without a format number, of an early development version", "Train again"
    elif isinstance(found, int) and found > FORMAT:
        what, remedy = f"weights of format {quoted(found)}", "Update UPicker, or train again with this version"
    else:
        what, remedy = (
            f"weights of format {quoted(found)}",
            "Train again, or use the version of UPicker that wrote them",
        )
    raise WeightsError(path, f"these are {what}; this version reads format {FORMAT}", remedy)
