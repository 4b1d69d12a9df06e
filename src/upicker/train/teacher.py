"""The teacher: the averaged weights pick the training micrographs, and so say what else in them may be a particle.

At each look it picks as a user would, thresholds are found from how its picks agree with what is known, and each pick
becomes a label, an unsure place (`Sample.sure`), or nothing. Whole micrographs are looked at now and then, rather than
each tile at each step: it costs less, the thresholds rest on all picks, and what a tile is taught does not depend on
where it was cut. What the last look found is part of the checkpoint: a resumed training is the uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from scipy.spatial import KDTree

from upicker.config import Config
from upicker.errors import ConfigError
from upicker.geometry import Region
from upicker.image.prepare import Prepared
from upicker.model.detector import Detector
from upicker.particles import Particles
from upicker.pick.detection import detect
from upicker.pick.torch_network import TorchNetwork
from upicker.scoring import Curve
from upicker.train.checkpoint import State
from upicker.train.dataset import sample
from upicker.train.ranks import Ranks
from upicker.train.sample import Sample

# What is closer to a known particle than so many diameters is the same one.
SAME_DIAMETERS = 0.5
# It looks at micrographs in so many views: it looks often, and more of them would take as long as learning.
LOOKS = 2


class Teacher(Protocol):
    """Who tells the loop what is taught. It changes the plan's samples in place."""

    def attend(self, state: State) -> dict[str, float]:
        """Bring the samples to what is taught in the next step; return what to log, if it looked anew.

        All ranks call it at each step. It changes nothing of the state but `State.memory`, and that at once.
        """
        ...

    def verdict(self, state: State) -> dict[str, float]:
        """Return the row (``precision``, ``recall``, ``f1``, ``threshold``) of the last weights, or nothing."""
        ...


@dataclass(frozen=True)
class Bounds:
    """Where the teacher's picks change their meaning.

    Attributes
    ----------
    sure : float
        From this score on they are particles; inf: none is.
    unsure : float
        From this score on they may be.
    """

    sure: float
    unsure: float


@dataclass(frozen=True, eq=False)
class Lesson:
    """A micrograph, or a region of it, that is learned from.

    Attributes
    ----------
    prepared : Prepared
        At the working scale, masked.
    known : Particles
        Labels, or proposals, raw pixels, diameters known.
    unsure : Particles
        What may be particles, too, before the teacher is asked.
    region : Region or None
        What is learned from, raw pixels; None: all.
    partial : bool
        Whether there are particles that are not known.
    """

    prepared: Prepared
    known: Particles
    unsure: Particles = field(default_factory=lambda: Particles.of([]))
    region: Region | None = None
    partial: bool = True

    def start(self) -> Sample:
        """Return what is taught before the teacher is asked."""
        return self.taught(self.known, self.unsure)

    def taught(self, sure: Particles, unsure: Particles) -> Sample:
        """Return the sample that teaches `sure` as particles, and little where `unsure` are."""
        particles = sample(self.prepared, sure, self.region)
        if not len(unsure):
            return particles
        diameter = self.prepared.diameter_px
        places = sample(self.prepared, unsure.with_diameter(diameter), self.region)
        return Sample(
            particles.pixels,
            np.concatenate([particles.xy, places.xy]),
            np.concatenate([particles.side, places.side]),
            np.arange(len(particles.xy) + len(places.xy)) < len(particles.xy),
        )

    def own(self, picks: Particles) -> Particles:
        """Return the micrograph's picks where it is learned from, with the nominal diameter."""
        if self.region is not None:
            picks = picks.select(self.region.contains(picks.xy))
        return picks.with_diameter(self.prepared.diameter_px)

    @property
    def labels(self) -> Particles:
        """What is known, where it is learned from."""
        return self.known if self.region is None else self.known.select(self.region.contains(self.known.xy))


def apart(particles: Particles, others: Particles, diameter_px: float) -> Particles:
    """Return those particles that are none of the `others`."""
    if not len(particles) or not len(others):
        return particles
    distance, _ = KDTree(others.xy).query(particles.xy)
    return particles.select(distance > SAME_DIAMETERS * diameter_px)


def looked(
    lessons: Sequence[Lesson], average: Detector, config: Config, ranks: Ranks, views: int | None = LOOKS
) -> list[Particles]:
    """Return the teacher's picks of each lesson, down to very low scores; ranks share the work.

    In so many views, if users will pick in as many; None: as users will.
    """
    if views is not None:
        config = replace(config, pick=replace(config.pick, views=min(config.pick.views or views, views)))
    pictures = {id(lesson.prepared): lesson.prepared for lesson in lessons}
    network = TorchNetwork(average, config)
    picks = ranks.map(lambda prepared: detect(network, prepared, config), list(pictures.values()))
    found = dict(zip(pictures, picks, strict=True))
    return [lesson.own(found[id(lesson.prepared)]) for lesson in lessons]


def remembered(found: Sequence[tuple[Particles, Particles]]) -> dict[str, torch.Tensor]:
    """Return, for a checkpoint, what each lesson teaches: `(n, 3)` x, y, and 1 for sure, 0 for unsure."""
    memory = {}
    for number, (sure, unsure) in enumerate(found):
        mark = np.repeat([1.0, 0.0], [len(sure), len(unsure)])
        memory[str(number)] = torch.from_numpy(np.column_stack([np.concatenate([sure.xy, unsure.xy]), mark]))
    return memory


def recalled(memory: dict[str, torch.Tensor], lessons: Sequence[Lesson]) -> list[Sample]:
    """Return the samples that `remembered` stands for."""
    samples = []
    for number, lesson in enumerate(lessons):
        table = memory[str(number)].numpy()
        places = Particles.of(table[:, :2], lesson.prepared.diameter_px)
        samples.append(lesson.taught(places.select(table[:, 2] > 0), places.select(table[:, 2] == 0)))
    return samples


def lowest(points: Curve, good: np.ndarray) -> float:
    """Return the lowest score where `good`, `(t,)` bool, holds; inf if nowhere. The middle to the next lower score."""
    at = np.flatnonzero(good)
    if not len(at):
        return float("inf")
    score = points.thresholds[at[-1]]
    below = points.thresholds[at[-1] + 1] if at[-1] + 1 < len(points.thresholds) else score
    return float(below + (score - below) / 2)


def refuse_copies(config: Config) -> None:
    """Refuse offline augmentation.

    Raises
    ------
    ConfigError
        If it is on: what is taught in a copy cannot change any more.
    """
    if config.augment.offline:
        found = "copies made before training cannot follow what is learned of unlabelled particles"
        raise ConfigError("augment.offline", found, "Leave it at 0 with partial labels and self-training")
