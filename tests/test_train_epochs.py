"""The length of a training in epochs."""

import math

import numpy as np
import pytest
from command_line import CENTRES, DIAMETER, TOY, micrograph

from upicker.config import Config, over_preset
from upicker.io import coordinates
from upicker.particles import Particles
from upicker.train import stages
from upicker.train.epochs import tiles_of, with_steps
from upicker.train.job import Job
from upicker.train.ranks import Ranks
from upicker.train.sample import Sample
from upicker.train.stage import Stage
from upicker.units import Length


def sample(rows: int, columns: int) -> Sample:
    return Sample(np.zeros((rows, columns), np.float32), np.zeros((0, 2)), np.zeros(0))


@pytest.mark.parametrize(("shape", "tiles"), [((96, 96), 1), ((97, 96), 2), ((190, 290), 8), ((10, 20), 1)])
def test_tiles_cover_a_micrograph(shape, tiles):
    assert tiles_of(sample(*shape), 96) == tiles


@pytest.mark.parametrize(("batch", "accumulate", "processes", "steps"), [(1, 1, 1, 30), (2, 1, 1, 15), (2, 2, 2, 4)])
def test_an_epoch_has_as_many_tiles_whatever_a_step_has(batch, accumulate, processes, steps):
    knobs = {"train.tile_px": 96, "train.batch": batch, "train.accumulate": accumulate, "train.pretrain_epochs": 3}
    config = Config().with_changes(knobs)
    found = with_steps(config, [sample(190, 290), sample(96, 190)], Ranks(0, processes)).train
    assert found.pretrain_steps == steps
    assert found.finetune_steps == config.train.finetune_steps


def test_steps_that_are_set_count_instead_of_a_presets_epochs():
    config = Config().with_changes(over_preset("paper", {"train.finetune_steps": 7}))
    assert (config.train.finetune_epochs, config.train.finetune_steps, config.train.pretrain_epochs) == (None, 7, 50)
    both = Config().with_changes(over_preset("paper", {"train.finetune_steps": 7, "train.finetune_epochs": 2}))
    assert both.train.finetune_epochs == 2


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_both_stages_train_for_their_epochs(tmp_path, monkeypatch, stage):
    found: list[tuple[int, int]] = []

    def run_stage(stage: Stage, samples: list[Sample], *rest: object) -> None:
        found.append((stage.steps, sum(tiles_of(one, 96) for one in samples)))

    monkeypatch.setattr(stages, "run_stage", run_stage)
    paths = [micrograph(tmp_path / f"mics/m{seed}.mrc", seed) for seed in range(2)]
    for path in paths:
        coordinates.write(tmp_path / f"labels/{path.stem}.csv", Particles.of(CENTRES, DIAMETER), "csv")
    config = Config().with_changes({**TOY, f"train.{stage}_epochs": 2.5, "train.tile_px": 96})
    job, length = Job(tmp_path / "m.safetensors", config), Length(DIAMETER, "px")
    if stage == "pretrain":
        stages.pretrain(paths, length, job)
    else:
        stages.finetune(paths, tmp_path / "labels", job, None, length, 0.0)
    [(steps, tiles)] = found
    # Of 307 x 413 working pixels, less the margin that labels leave.
    assert 20 < tiles <= 40
    assert steps == math.ceil(2.5 * tiles)
