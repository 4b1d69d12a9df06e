"""Checks that the knobs of a simulation share."""

from __future__ import annotations

import math

from upicker.errors import ConfigError


def positive(owner: object, *names: str) -> None:
    """Refuse values of these attributes that are not above 0."""
    for name in names:
        value = getattr(owner, name)
        if not 0 < value < math.inf:
            raise ConfigError(name, f"{value:g} is not positive", "Give a positive number")


def not_negative(owner: object, *names: str) -> None:
    """Refuse values of these attributes that are below 0."""
    for name in names:
        value = getattr(owner, name)
        if not 0 <= value < math.inf:
            raise ConfigError(name, f"{value:g} is not 0 or more", "Give a positive number, or 0")


def share(owner: object, *names: str) -> None:
    """Refuse values of these attributes outside 0..1."""
    for name in names:
        value = getattr(owner, name)
        if not 0 <= value <= 1:
            raise ConfigError(name, f"{value:g} is not a share", "Give a number from 0 to 1")
