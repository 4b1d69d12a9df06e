"""The data sets of `peers.py`: real ones, and simulated ones of `simulated_sets.py`; how picks of them are scored.

Of a real set the last micrographs by name are tested on (`training.SETS`), of a simulated one four. The labelled
micrographs are the first of the others by name.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import sets
from training import SETS, Data

from upicker import scoring
from upicker.io import coordinates, micrographs, mrc
from upicker.particles import Particles
from upicker.train.labels import edge_margin, picks_margin
from upicker.units import Length

PIXEL_SIZE_A = {"empiar10017": 1.77, "apoferritin": 1.6, "proteasome20s": 7.84}
SIMULATED = ("sim-10028-full", "sim-10025-full", "sim-10025-hard", "sim-10028-hard")
TRAINING, TEST = 8, 4  # micrographs of a simulated set
# A threshold is chosen on so many labelled micrographs.
CHOSEN_ON = 2

Picks = dict[str, Particles]


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set.

    Attributes
    ----------
    name : str
        Its name.
    train, test : tuple of Path
        Micrographs, by name.
    labels : Path
        A folder of ``NAME.csv``.
    diameter_px, pixel_size_A : float
        Of the labels, and of a raw pixel.
    folder : Path
        For all that is made of the set.
    """

    name: str
    train: tuple[Path, ...]
    test: tuple[Path, ...]
    labels: Path
    diameter_px: float
    pixel_size_A: float
    folder: Path

    @property
    def diameter(self) -> Length:
        """The labels' diameter."""
        return Length(self.diameter_px, "px")

    @property
    def chosen_on(self) -> tuple[Path, ...]:
        """The labelled micrographs on which thresholds are chosen."""
        return self.train[:CHOSEN_ON]

    def truth(self, path: Path) -> Particles:
        """Return the labels of a micrograph."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Labels outside the micrograph, in apoferritin.
            return coordinates.read(self.labels / f"{path.stem}.csv")

    def as_mrc(self, path: Path) -> Path:
        """Return a micrograph as an MRC file, which all programs read."""
        if path.suffix == ".mrc":
            return path.resolve()
        target = self.folder / "mics" / f"{path.stem}.mrc"
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            mrc.write(target, micrographs.read(path).pixels, self.pixel_size_A)
        return target.resolve()

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a micrograph; all of a set are alike."""
        return micrographs.read(self.test[0]).shape

    @cached_property
    def margin_px(self) -> float:
        """The margin along the border in which nobody's picks count, because the training labels leave it."""
        frame = SimpleNamespace(raw_shape=self.shape)
        like: Any = [
            SimpleNamespace(
                region=None,
                partial=False,
                particles=self.truth(path),
                diameter_px=self.diameter_px,
                prepared=SimpleNamespace(frame=frame),
            )
            for path in self.train
        ]
        return picks_margin(edge_margin(like)) * self.diameter_px

    def inside(self, picks: Particles) -> Particles:
        """Return the picks that do not lie in the margin."""
        height, width = self.shape
        x, y = picks.xy.T
        nearest = np.minimum(np.minimum(x, width - 1 - x), np.minimum(y, height - 1 - y))
        return picks.select(nearest >= self.margin_px) if self.margin_px else picks

    def pairs(self, picks: Picks, paths: tuple[Path, ...]) -> list[tuple[Particles, Particles]]:
        """Return picks, without those in the margin, and labels, by micrograph."""
        nothing = Particles.of([])
        return [(self.inside(picks.get(path.stem, nothing)), self.truth(path)) for path in paths]

    def best_threshold(self, picks: Picks) -> float:
        """Return the threshold of the best F1 on the labelled micrographs."""
        return scoring.score(self.pairs(picks, self.chosen_on), self.diameter_px).best_threshold


def opened(name: str, data: Path, simulated: Path, out: Path) -> DataSet:
    """Open a set by its name; ends the program where a simulated one is not there."""
    if name in SETS:
        real = Data(data, name)
        train, test, labels = tuple(real.train), tuple(real.test), real.labels
        return DataSet(name, train, test, labels, real.diameter.value, PIXEL_SIZE_A[name], out / name)
    of = sets.open_set(simulated / name, TRAINING, TEST, TRAINING)
    size = of.diameter_px(), of.pixel_size_A()
    return DataSet(name, of.training, of.test, of.truth, *size, out / name)
