"""Lengths with their unit: ``190A``, ``108px``."""

from __future__ import annotations

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
                f"the pixel size is not known, so {self} cannot be turned into pixels",
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
