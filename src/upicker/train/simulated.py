"""Simulated tiles as training data: an endless sequence in which each tile depends on its number only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from torch.utils.data import Dataset

from upicker.config import Config
from upicker.image.mask import masked
from upicker.image.prepare import Prepared, prepare
from upicker.particles import Particles
from upicker.simulate.tiles import TilePlan, Tiles, learnable
from upicker.train.dataset import TileTensors, sample_from, tensors_of_tile
from upicker.train.validation import ValidationMicrograph

# A tile is cut from an image that is larger by this, in given diameters: only some of its edges are edges of the
# image, and the preparation includes its surroundings.
WIDER = 1.0
# The numbers of tiles that are kept aside begin here: no training gets that far.
KEPT_ASIDE = 2**40
_CUT = 3  # seeds of this use


class SimulatedTiles(Dataset[TileTensors]):
    """Tile `index` of an endless sequence, prepared as a micrograph is.

    It has no length. A sampler assigns tiles to the workers of a `DataLoader`, so that no two draw the same.

    Parameters
    ----------
    plan : TilePlan
        What is simulated.
    config : Config
        Preparation (except polarity: electrons make particles dark), tile, augmentation.
    """

    def __init__(self, plan: TilePlan, config: Config) -> None:
        image = replace(config.image, particles="dark")
        self.config = replace(config, image=image)
        self.plan = plan
        side = config.train.tile_px + round(WIDER * image.working_diameter_px)
        self._tiles = Tiles(plan, side, image.working_diameter_px)

    def __getitem__(self, index: int) -> TileTensors:
        """Return the tensors of a tile, as in `upicker.train.dataset.batch`."""
        rng = np.random.default_rng((self.plan.seed, index, _CUT))
        return tensors_of_tile([sample_from(*self._prepared(index))], 0, self.config, rng)

    def kept_aside(self, number: int) -> list[ValidationMicrograph]:
        """Return small simulated micrographs that are never trained on, with complete labels."""
        found = [self._prepared(KEPT_ASIDE + index) for index in range(number)]
        return [ValidationMicrograph(prepared, particles) for prepared, particles in found]

    def _prepared(self, index: int) -> tuple[Prepared, Particles]:
        """Return the image of a tile at the scale of the given diameter, masked, and its particles."""
        image = self.config.image
        simulated = self._tiles.make(index)
        prepared = prepare(simulated.micrograph, image.working_diameter_px, image)
        return masked(prepared, image), learnable(simulated)
