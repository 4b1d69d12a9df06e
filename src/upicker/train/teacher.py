"""The teacher: the averaged weights pick the training micrographs, and their picks change the training targets.

At each update it picks as a user would, and thresholds are found from how well the picks agree with the known
particles; each pick then becomes a particle, an unsure position (`Sample.sure`), or nothing. Whole micrographs are
picked now and then, rather than each tile at each step: it costs less, the thresholds rest on all picks, and the
targets of a tile do not depend on where it was cut. The result of the last update is part of the checkpoint, so that a
resumed training equals an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch

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
from upicker.train.dataset import sample_from
from upicker.train.labels import without_known
from upicker.train.ranks import Ranks
from upicker.train.sample import Sample

# Number of views in which the teacher picks: it picks often, and more views would take as long as the training steps.
TEACHER_VIEWS = 2


class Teacher(Protocol):
    """Changes the training samples of a plan, in place, as the training goes on."""

    def update(self, state: State) -> dict[str, float]:
        """Bring the samples up to date for the next step; return what to log, if micrographs were picked again.

        Called by all ranks at each step. Of the state, only `State.teacher` changes, and in one assignment.
        """
        ...

    def final_metrics(self, state: State) -> dict[str, float]:
        """Return the metrics (``precision``, ``recall``, ``f1``, ``threshold``) of the last weights, or nothing."""
        ...


@dataclass(frozen=True)
class Bounds:
    """Scores that separate the teacher's picks.

    Attributes
    ----------
    sure : float
        Picks of at least this score become particles; inf: none.
    unsure : float
        Others of at least this score become unsure positions.
    """

    sure: float
    unsure: float


@dataclass(frozen=True, eq=False)
class TrainingRegion:
    """A micrograph, or a region of it, to train on.

    Attributes
    ----------
    prepared : Prepared
        At the working scale, masked.
    known : Particles
        Labels, or proposals, raw pixels, diameters known.
    unsure : Particles
        Positions that are unsure before the teacher has picked.
    region : Region or None
        Raw pixels; None: the whole micrograph.
    partial : bool
        Whether there are particles beside the known ones.
    sized : bool
        Whether the particles have sizes of their own, see `Sample.sized`.
    rejected : Particles
        Positions that somebody looked at, and that rather hold no particle.
    """

    prepared: Prepared
    known: Particles
    unsure: Particles = field(default_factory=lambda: Particles.of([]))
    region: Region | None = None
    partial: bool = True
    sized: bool = True
    rejected: Particles = field(default_factory=lambda: Particles.of([]))

    def initial_sample(self) -> Sample:
        """Return the training sample before the teacher has picked."""
        return self.sample(self.known, self.unsure)

    def sample(self, sure: Particles, unsure: Particles) -> Sample:
        """Return the training sample with these particles and unsure positions."""
        particles = replace(sample_from(self.prepared, sure, self.region), sized=self.sized)
        if not len(unsure) and not len(self.rejected):
            return particles
        diameter = self.prepared.diameter_px
        unsure = without_known(unsure, self.rejected, diameter)
        others = [
            sample_from(self.prepared, one.with_diameter(diameter, only_missing=True), self.region)
            for one in (unsure, self.rejected)
        ]
        parts = [particles, *others]
        return Sample(
            particles.pixels,
            np.concatenate([part.xy for part in parts]),
            np.concatenate([part.side for part in parts]),
            np.repeat(np.array([1, 0, -1], np.int8), [len(part.xy) for part in parts]),
            self.sized,
        )

    def own(self, picks: Particles) -> Particles:
        """Return the picks of the micrograph that lie in the region, with the nominal diameter."""
        if self.region is not None:
            picks = picks.select(self.region.contains(picks.xy))
        return picks.with_diameter(self.prepared.diameter_px)

    @property
    def labels(self) -> Particles:
        """The known particles that lie in the region."""
        return self.known if self.region is None else self.known.select(self.region.contains(self.known.xy))


def teacher_picks(
    regions: Sequence[TrainingRegion],
    average: Detector,
    config: Config,
    ranks: Ranks,
    views: int | None = TEACHER_VIEWS,
) -> list[Particles]:
    """Return the teacher's picks of each region, down to very low scores; micrographs are divided among the ranks.

    At most `views` views are used; None: as many as a user's picks use.
    """
    if views is not None:
        config = replace(config, pick=replace(config.pick, views=min(config.pick.views or views, views)))
    micrographs = {id(one.prepared): one.prepared for one in regions}
    network = TorchNetwork(average, config)
    picks = ranks.map(lambda prepared: detect(network, prepared, config), list(micrographs.values()))
    found = dict(zip(micrographs, picks, strict=True))
    return [one.own(found[id(one.prepared)]) for one in regions]


def to_tensors(targets: Sequence[tuple[Particles, Particles]]) -> dict[str, torch.Tensor]:
    """Return sure and unsure positions of each region for a checkpoint: `(n, 3)` x, y, and 1 for sure, 0 for unsure."""
    tensors = {}
    for number, (sure, unsure) in enumerate(targets):
        is_sure = np.repeat([1.0, 0.0], [len(sure), len(unsure)])
        tensors[str(number)] = torch.from_numpy(np.column_stack([np.concatenate([sure.xy, unsure.xy]), is_sure]))
    return tensors


def from_tensors(tensors: dict[str, torch.Tensor], regions: Sequence[TrainingRegion]) -> list[Sample]:
    """Return the training samples that `to_tensors` has stored."""
    samples = []
    for number, one in enumerate(regions):
        table = tensors[str(number)].numpy()
        positions = Particles.of(table[:, :2], one.prepared.diameter_px)
        samples.append(one.sample(positions.select(table[:, 2] > 0), positions.select(table[:, 2] == 0)))
    return samples


def lowest(points: Curve, good: np.ndarray) -> float:
    """Return the lowest score where `good`, `(t,)` bool, holds, halfway to the next lower one; inf if nowhere."""
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
        If it is on: the targets of a copy cannot be updated.
    """
    if config.augment.offline:
        found = "the targets of copies made before training cannot be updated during training"
        raise ConfigError("augment.offline", found, "Leave it at 0 with partial labels and self-training")
