"""Numbers with units: lengths such as ``190A`` and ``108px``, doses, voltages, defocus ranges, durations."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from upicker.errors import ConfigError

_LENGTH = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(px|pix|pixels?|A|Å|ang(?:strom)?|nm)?\s*", re.I)


@dataclass(frozen=True)
class Length:
    """A length on the specimen, in Angstrom or in pixels of the raw micrograph.

    Attributes
    ----------
    value : float
        The number, > 0.
    unit : str
        ``"A"`` or ``"px"``.
    """

    value: float
    unit: str

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"

    def to_px(self, pixel_size_A: float | None, where: str = "pixel size") -> float:
        """Return the length in raw pixels.

        Raises
        ------
        ConfigError
            If the length is in Angstrom and `pixel_size_A` is not known; `where` names the micrograph.
        """
        if self.unit == "px":
            return self.value
        if not pixel_size_A:
            raise ConfigError(
                where,
                f"the pixel size is not known, so {self} cannot be converted to pixels",
                f"Give --pixel-size, e.g. --pixel-size 1.77A, or the length in pixels, e.g. {self.value:g}px",
            )
        return self.value / pixel_size_A


def parse_length(text: str | float) -> Length:
    """Read ``190A``, ``19nm`` or ``108px``; a bare number is Angstrom.

    Raises
    ------
    ConfigError
        If the text is not a positive length.
    """
    match = _LENGTH.fullmatch(str(text))
    if not match or not 0 < float(match[1]) < float("inf"):
        remedy = "Write a positive number with its unit, e.g. 190A or 108px"
        raise ConfigError(str(text), "this is not a length", remedy)
    value, unit = float(match[1]), (match[2] or "A").lower()
    if unit.startswith("p"):
        return Length(value, "px")
    return Length(value * 10 if unit == "nm" else value, "A")


@dataclass(frozen=True)
class Quantity:
    """A physical quantity that an option takes: its units and its range.

    Attributes
    ----------
    units : dict
        Unit, in lower case -> its factor to the package's own unit.
    bare : str or None
        The unit of a bare number; None requires a unit.
    low, high : float
        Smallest and largest value, in the package's own unit.
    example : str
        An example for error messages.
    """

    units: dict[str, float]
    bare: str | None
    low: float
    high: float
    example: str

    def read(self, text: str, option: str) -> float:
        """Return one number in the package's own unit.

        Raises
        ------
        ConfigError
            If `text` is not a number, lacks a unit, has an unknown one, or is out of range; names `option`.
        """
        match = _NUMBER.fullmatch(text)
        if not match:
            raise ConfigError(option, f"'{text}' is not a number with its unit", f"Write e.g. {option} {self.example}")
        number, unit = float(match[1]), (match[2] or "").lower().replace("μ", "µ") or self.bare
        if unit is None:
            raise ConfigError(option, f"'{text}' has no unit", f"Write e.g. {option} {self.example}")
        if unit not in self.units:
            known = ", ".join(name for name in self.units if name.isascii())
            raise ConfigError(option, f"'{text}' has the unit '{match[2]}'", f"Known units are: {known}")
        value = number * self.units[unit]
        if not self.low <= value <= self.high:
            bounds = " to ".join(f"{bound / self.units[unit]:g}{unit}" for bound in (self.low, self.high))
            raise ConfigError(option, f"'{text}' is out of range", f"It takes {bounds}, e.g. {self.example}")
        return value

    def read_range(self, text: str, option: str) -> tuple[float, float]:
        """Return ``0.8-2.5um``, or ``1.5um`` for a range without width, in the package's own unit.

        Raises
        ------
        ConfigError
            As `read`, and if the first number is larger than the second.
        """
        match = _RANGE.fullmatch(text)
        if not match:
            value = self.read(text, option)
            return value, value
        first, first_unit, last, last_unit = match.groups(default="")
        low, high = self.read(first + (first_unit or last_unit), option), self.read(last + last_unit, option)
        if low > high:
            raise ConfigError(option, f"'{text}' starts with the larger number", f"Write e.g. {option} {self.example}")
        return low, high


_UNIT = r"([^\s\d.+-]\S*)?"
_NUMBER = re.compile(rf"\s*([-+]?[0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?)\s*{_UNIT}\s*", re.I)
_RANGE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([^\W\d_]+)?\s*(?:-|–|\.\.)\s*([0-9]*\.?[0-9]+)\s*([^\W\d_]+)?\s*")

_ANGSTROM = {"a": 1.0, "å": 1.0, "angstrom": 1.0, "nm": 10.0, "um": 1e4, "µm": 1e4}
DOSE_E_A2 = Quantity({"e/a2": 1.0, "e/a^2": 1.0, "e/å²": 1.0, "e/å2": 1.0, "e/nm2": 0.01}, "e/a2", 0.01, 1e5, "40e/A2")
DEFOCUS_A = Quantity(_ANGSTROM, None, 0.0, 2e5, "0.8-2.5um")
THICKNESS_A = Quantity(_ANGSTROM, "a", 1.0, 5e4, "45nm")
VOLTAGE_KV = Quantity({"kv": 1.0, "v": 1e-3}, "kv", 10.0, 3000.0, "300kV")
CS_MM = Quantity({"mm": 1.0, "um": 1e-3, "µm": 1e-3}, "mm", 0.0, 20.0, "2.7mm")
PHASE_DEG = Quantity({"deg": 1.0, "°": 1.0, "rad": 180 / math.pi}, "deg", 0.0, 180.0, "90deg")
PER_UM2 = Quantity({"/um2": 1.0, "/µm2": 1.0, "/um^2": 1.0, "/µm²": 1.0}, "/um2", 0.01, 1e5, "400/um2")
FRACTION = Quantity({"": 1.0, "%": 0.01}, "", 0.0, 1.0, "0.1")
RATIO = Quantity({"": 1.0}, "", 1e-4, 1e3, "0.05")
DURATION_S = Quantity({"s": 1.0, "ms": 1e-3, "min": 60.0, "h": 3600.0, "d": 86400.0}, None, 0.01, 3.2e7, "30s")
