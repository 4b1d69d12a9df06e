"""The demo, with pictures and a network of toy size."""

import numpy as np
import pytest
import starfile
import torch
from command_line import TOY

from upicker.cli import demo as shown
from upicker.config import Config
from upicker.io import coordinates, folders, micrographs
from upicker.model import weights
from upicker.model.header import Header
from upicker.run.demo import Plan, demo
from upicker.simulate.contamination import Contamination
from upicker.simulate.scene import Scene
from upicker.units import Length


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    scene = Scene(particles=12, diameter_A=150.0, pixel_size_A=6.0, contamination=Contamination.level("none"))
    changes = {**TOY, "pick.threshold": 0.0}
    config, general = Config().with_changes(changes), folder.with_name("general.safetensors")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = weights.build(config)
    with torch.no_grad():
        network.class_embed.bias += 3  # or no score is above the floor
    weights.save(general, network, Header(config.to_tables(), None, "train", 0.3, None, None, None, steps=1))
    shapes = ((230, 310), (300, 250))
    plan = Plan(scene, shapes, training=2, testing=2, box=Length(40, "px"), changes=changes, general=general)
    return folder, demo(folder, shown.Stages(), plan)


def test_it_goes_the_whole_way(done):
    folder, result = done
    assert list(result.scores) == ["proposals", "general model", "fine-tuned"]
    assert list(result.seconds) == ["simulate", "propose", "pick", "finetune", "pick again", "evaluate", "extract"]
    assert all(path.exists() for path in result.files.values())
    shapes = [micrographs.read(path).shape for path in sorted((folder / "micrographs").iterdir())]
    assert shapes == [(230, 310), (300, 250)] * 2
    assert not [
        path
        for path in folder.rglob("*")
        if (path.name.startswith(".") and path.name != ".upicker") or path.suffix == ".checkpoint"
    ]


def test_learned_and_judged_micrographs_are_not_the_same(done):
    folder, _ = done
    labels, truth = (set(folders.stems(folder / name)) for name in ("labels", "truth"))
    assert len(labels) == 2
    assert len(truth) == 2
    assert not labels & truth
    assert set(folders.stems(folder / "picked")) == truth


def test_the_filter_finds_the_simulated_particles(done):
    _, result = done
    assert result.scores["proposals"].recall > 0.6


def test_the_stacks_fit_the_picks(done):
    folder, _ = done
    listed = starfile.read(folder / "particles.star", always_dict=True)["particles"]
    assert set(np.unique(listed["rlnOpticsGroup"])) == {1}
    assert len(listed) <= sum(len(coordinates.read(path)) for path in (folder / "picked").glob("*.csv"))


def test_the_report_is_a_table(done, capsys):
    shown._report(done[1])
    out = capsys.readouterr().out
    for word in ("fine-tuned", "recall", "overlay.png", "particles.star"):
        assert word in out
