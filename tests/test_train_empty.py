"""Label files without rows: micrographs on which there is nothing, which teach that."""

import numpy as np
import pytest
from command_line import CENTRES, DIAMETER, SHAPE, TOY, micrograph

from upicker.config import Config
from upicker.io import coordinates, mrc
from upicker.particles import Particles
from upicker.train import stages
from upicker.train.job import Job
from upicker.train.stages import finetune

CONFIG = Config().with_changes(TOY | {"train.device": "cpu"})
WITHOUT_ROWS = {
    "csv": "x,y,diameter\n",
    "star": "\ndata_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n",
    "box": "",
}


@pytest.mark.parametrize("kind", WITHOUT_ROWS)
@pytest.mark.parametrize("validation", [0.0, 0.2])
def test_a_label_file_without_rows_teaches_an_empty_micrograph(tmp_path, monkeypatch, kind, validation):
    for number in range(2):
        micrograph(tmp_path / "mics" / f"m{number}.mrc", number)
        coordinates.write(tmp_path / "labels" / f"m{number}.{kind}", Particles.of(CENTRES, DIAMETER), kind)
    mrc.write(tmp_path / "mics" / "empty.mrc", np.random.default_rng(9).normal(100, 4, SHAPE), 2.0)
    (tmp_path / "labels" / f"empty.{kind}").write_text(WITHOUT_ROWS[kind])
    seen = []

    def stage(stage, samples, validation, job, result):
        seen.extend(samples)
        return result

    monkeypatch.setattr(stages, "run_stage", stage)
    paths = sorted((tmp_path / "mics").iterdir())
    diameter = None if kind != "star" else stages.Length(DIAMETER, "px")
    result = finetune(paths, tmp_path / "labels", Job(tmp_path / "m.safetensors", CONFIG), None, diameter, validation)
    assert (result.trained_on, result.skipped, result.unused, result.warnings) == (3, [], [], [])
    assert sorted(len(one.xy) > 0 for one in seen) == [False, True, True]
    empty = next(one for one in seen if not len(one.xy))
    assert empty.pixels.size > 0.5 * max(one.pixels.size for one in seen)
