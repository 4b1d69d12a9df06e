"""Range checks that the parameters of a simulation share."""

from __future__ import annotations

import math

from upicker.errors import ConfigError


def positive(owner: object, *names: str) -> None:
    """Raise ConfigError unless these attributes are above 0."""
    for name in names:
        value = getattr(owner, name)
        if not 0 < value < math.inf:
            raise ConfigError(name, f"{value:g} is not positive", "Give a positive number")


def not_negative(owner: object, *names: str) -> None:
    """Raise ConfigError unless these attributes are at least 0."""
    for name in names:
        value = getattr(owner, name)
        if not 0 <= value < math.inf:
            raise ConfigError(name, f"{value:g} is negative or not finite", "Give a positive number, or 0")


def fraction(owner: object, *names: str) -> None:
    """Raise ConfigError unless these attributes are in [0, 1]."""
    for name in names:
        value = getattr(owner, name)
        if not 0 <= value <= 1:
            raise ConfigError(name, f"{value:g} is not in [0, 1]", "Give a number from 0 to 1")
