"""Validation: picking some labelled micrographs as a user would, and comparing the picks with the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from upicker.config import Config
from upicker.geometry import Region
from upicker.image.prepare import Prepared
from upicker.particles import Particles
from upicker.pick.detection import detect, detect_in_views
from upicker.pick.network import Network
from upicker.scoring import steady

# Picks and labels of one micrograph.
Pair = tuple[Particles, Particles]


@dataclass(frozen=True, eq=False)
class ValidationMicrograph:
    """A micrograph to validate on.

    Attributes
    ----------
    prepared : Prepared
        At the working scale.
    labels : Particles
        Ground truth, raw pixels, diameters known.
    region : Region or None
        Raw pixels; picks and labels elsewhere are ignored. None: the whole micrograph.
    partial : bool
        Whether there are unlabelled particles.
    """

    prepared: Prepared
    labels: Particles
    region: Region | None = None
    partial: bool = False

    def pair(self, picks: Particles) -> Pair:
        """Return picks and labels, both inside the region."""
        if self.region is None:
            return picks, self.labels
        return picks.select(self.region.contains(picks.xy)), self.labels.select(self.region.contains(self.labels.xy))

    def pick(self, network: Network, config: Config) -> Pair:
        """Return the picks of a network, as a user would get them, and the labels."""
        return self.pair(detect(network, self.prepared, config, self.region))

    def pick_in_views(self, network: Network, config: Config, numbers: Sequence[int]) -> list[Pair]:
        """Return the same with each of some numbers of views."""
        return [self.pair(found) for found in detect_in_views(network, self.prepared, config, numbers, self.region)]


def steering(config: Config) -> Config:
    """Return how to pick while a training runs: with one view, for that ranks weights as several do."""
    return replace(config, pick=replace(config.pick, views=1))


def metrics_of(pairs: list[Pair]) -> dict[str, float]:
    """Return ``precision``, ``recall``, ``f1`` and the ``threshold`` to store, of picks and labels."""
    threshold, result = steady(pairs)
    return {
        "precision": result.precision,
        "recall": result.recall,
        "f1": result.f1,
        "threshold": min(threshold, 1.0),
    }


def countable(validation: Sequence[ValidationMicrograph]) -> list[ValidationMicrograph]:
    """Return the micrographs on which picks can be counted: with complete labels, even if there are none, or with some.

    Without any label in all of them there is nothing to validate on.
    """
    labels = [len(one.pair(one.labels)[1]) for one in validation]
    found = [one for one, number in zip(validation, labels, strict=True) if number or not one.partial]
    return found if any(labels) else []
