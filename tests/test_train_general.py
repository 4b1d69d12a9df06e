"""Training over many sets: which tiles it draws, what it leaves, and that nothing but its inputs matters."""

import csv
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import CENTRES, DIAMETER, SHAPE, TOY, micrograph, upicker

from upicker.cli.train import _workers
from upicker.config import Config
from upicker.errors import ConfigError, InputError
from upicker.geometry import Frame
from upicker.image.prepare import Prepared
from upicker.io import coordinates, micrographs, mrc
from upicker.model import weights
from upicker.particles import Particles
from upicker.pick.detection import number_of_views
from upicker.pick.picker import Picker
from upicker.simulate.tiles import TilePlan
from upicker.train import general, stages
from upicker.train.job import Job
from upicker.train.log import Silent
from upicker.train.mixture import Mixture, TileSource
from upicker.train.sample import Sample
from upicker.train.sets import read
from upicker.train.simulated import KEPT_ASIDE, SimulatedTiles
from upicker.train.stages import finetune, pretrain
from upicker.train.teacher import TrainingRegion
from upicker.units import Length

# Not as narrow as the toy of other tests: see `test_train_ranks`.
NETWORK = TOY | {"model.widths": "16,16,16,16,16", "train.device": "cpu", "train.bfloat16": False, "train.batch": 2}
CONFIG = Config().with_changes(NETWORK)
PLAN = TilePlan(pool=2, refresh=6, views=4, seed=3)
STEPS = 4
SIMULATED = "[simulated]\npool = 2\nviews = 4\nkept_aside = 1\n"
SET = '[[set]]\nname = "a"\nmicrographs = "mics/m0.mrc"\nlabels = "labels"\ndiameter = "24px"\ngiven = [0.7, 1, 1.5]\n'
UNLABELLED = '[[set]]\nname = "b"\nmicrographs = "mics/m1.mrc"\ndiameter = "24px"\nweight = 2\ngiven = [1]\n'
CHECK = '[[check]]\nname = "c"\nmicrographs = "mics/m2.mrc"\nlabels = "labels"\ndiameter = "24px"\n'


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    found = tmp_path_factory.mktemp("sets")
    for number in range(3):
        micrograph(found / "mics" / f"m{number}.mrc", number)
        coordinates.write(found / "labels" / f"m{number}.csv", Particles.of(CENTRES, DIAMETER), "csv")
    return found


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """No test waits for matplotlib."""
    monkeypatch.setattr("upicker.train.stage._draw", lambda _, path: path.write_bytes(b""))


class Told(Silent):
    """Records checks; may interrupt."""

    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at, self.checks = stop_at, []

    def step(self, row: dict) -> None:
        if row.get("step") == self.stop_at:
            raise KeyboardInterrupt

    def checked(self, name: str, figures: dict) -> None:
        self.checks.append((name, figures["step"]))


def trained(folder: Path, output: Path, text: str, told: Told | None = None, workers: int = 0, **more) -> Path:
    """Train as the file says, with a network of toy size; return the weights file."""
    (folder / "SETS.toml").write_text(f"steps = {STEPS}\ncheck_every = 3\n{text}")
    sets = read(folder / "SETS.toml")
    job = Job(output, CONFIG.with_changes({"train.seed": sets.settings.seed}), progress=told or Told(), **more)
    assert general.train(sets, job, workers=workers).steps == STEPS
    return output


def sample(seed: int, sure: bool | None = None) -> Sample:
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 120, (9, 2))
    pixels = rng.standard_normal((130, 121)).astype(np.float32)
    return Sample(pixels, xy, np.full(9, 30.0), None if sure is None else np.full(9, sure))


def mixture(workers: int = 0, plan: TilePlan = PLAN) -> Mixture:
    sources = [TileSource(0.5, [[sample(0), sample(1)], [sample(2)]]), TileSource(0.2, [[sample(3, False)]])]
    return Mixture(SimulatedTiles(plan, CONFIG), sources, CONFIG, 4, workers)


def same(one, other) -> bool:
    pairs = [
        (one.images, other.images),
        *zip([*one.targets, *one.unsure], [*other.targets, *other.unsure], strict=True),
    ]
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_step_has_the_same_tiles_in_whatever_order_and_by_however_many_processes_they_are_drawn():
    alone, ahead = mixture(), mixture(workers=2)
    steps = [alone(step) for step in range(4)]
    assert [same(steps[step], mixture()(step)) for step in (2, 0)] == [True, True]
    assert [same(ahead(step), steps[step]) for step in range(4)] == [True] * 4
    for part in (slice(0, 2), slice(2, 4)):
        some = alone(1, part)
        assert torch.equal(some.images, steps[1].images[part])
        assert all(torch.equal(a, b) for a, b in zip(some.targets, steps[1].targets[part], strict=True))
        assert some.rng.integers(2**31) == mixture()(1).rng.integers(2**31)
    images = [image for batch in steps for image in batch.images]
    assert not any(torch.equal(a, b) for n, a in enumerate(images) for b in images[:n])


def test_workers_leave_ctrl_c_to_the_main_process():
    """A terminal sends it to all of them, and several ranks finish their step first: it needs tiles."""
    ahead, alone = mixture(workers=1), mixture()
    ahead(0)
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        assert os.getpgid(worker.pid or 0) != os.getpgrp(), "torchrun sends SIGTERM to the group"
        os.kill(worker.pid or 0, signal.SIGINT)
    assert [same(ahead(step), alone(step)) for step in range(1, 5)] == [True] * 4, "more than are ready"


def test_there_are_no_fewer_workers_than_none(monkeypatch, folder, capsys):
    monkeypatch.setattr("upicker.run.machine.cores", lambda: 2)
    for processes, expected in (("1", 1), ("2", 0), ("4", 0)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
        assert _workers() == expected
    code, _, err = upicker(capsys, "train", folder / "SETS.toml", "-o", folder / "w.safetensors", "--workers=-1")
    assert code == 2
    assert "must be at least 0" in err


def test_a_set_gives_its_share_of_the_tiles():
    sources = [TileSource(0.5, [[sample(0)]]), TileSource(0.2, [[sample(3, False)]])]
    many = Mixture(SimulatedTiles(PLAN, CONFIG), sources, CONFIG, 50)
    numbers = [number for step in range(40) for number in many.numbers(step)]
    assert len(numbers) / 2000 == pytest.approx(0.3, abs=0.03)
    assert len(set(numbers)) == len(numbers)
    # Without simulated tiles the others keep their proportion; unsure positions are of the second.
    drawn = Mixture(None, sources, CONFIG, 300)(0)
    assert np.mean([len(boxes) > 0 for boxes in drawn.unsure or []]) == pytest.approx(0.2 / 0.7, abs=0.08)


def test_tiles_that_are_kept_aside_are_of_no_step():
    tiles = SimulatedTiles(PLAN, CONFIG)
    [one, other] = tiles.kept_aside(2)
    assert not np.array_equal(one.prepared.pixels, other.prepared.pixels)
    assert one.labels.diameter_px.size == len(one.labels)
    assert max(mixture().numbers(10**6)) < KEPT_ASIDE


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory) -> Path:
    """Weights of an uninterrupted training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("upicker.train.stage._draw", lambda *_: None)
        return trained(folder, tmp_path_factory.mktemp("whole") / "w.safetensors", SIMULATED + SET + UNLABELLED)


def test_weights_know_a_threshold_and_no_diameter(folder, whole):
    header = weights.read_header(whole)
    assert (header.diameter, header.length, header.stage, header.steps) == (None, None, "train", STEPS)
    assert header.threshold is not None
    assert not whole.with_name("w.checkpoint").exists()
    picker = Picker(whole)
    one = micrographs.read(folder / "mics" / "m0.mrc")
    with pytest.raises(ConfigError, match=r"particles of any size.*Give --diameter"):
        picker.pick(one)
    picker.threshold = 0.0
    assert len(picker.pick(one, DIAMETER))


@pytest.mark.parametrize(("views", "expected"), [(None, 4), (2, 2)])
def test_the_threshold_is_for_as_many_views_as_most_micrographs_get(folder, tmp_path, monkeypatch, views, expected):
    """The simulated images are small, and are picked in all views by default."""
    seen = []

    def noted(path, validation, training, config, *others):
        seen.extend(number_of_views(one.prepared, config) for one in validation)
        return {}

    monkeypatch.setattr("upicker.train.threshold.choose_again", noted)
    (folder / "SETS.toml").write_text(f"steps = 1\n{SIMULATED}")
    job = Job(tmp_path / "w.safetensors", CONFIG.with_changes({"pick.views": views}))
    general.train(read(folder / "SETS.toml"), job)
    assert seen == [expected]


def test_interrupted_and_resumed_by_other_workers_it_gives_the_same_bytes(folder, whole, tmp_path):
    output, text = tmp_path / "w.safetensors", SIMULATED + SET + UNLABELLED
    with pytest.raises(KeyboardInterrupt):
        trained(folder, output, text, Told(stop_at=2))
    assert (tmp_path / "w.checkpoint").exists()
    trained(folder, output, text, workers=2, resume=True)
    assert output.read_bytes() == whole.read_bytes()


def test_checks_are_scored_and_never_learned_from(folder, whole, tmp_path):
    output, told = tmp_path / "w.safetensors", Told()
    trained(folder, output, "check_threshold = 0.4\n" + SIMULATED + SET + UNLABELLED + CHECK, told)
    assert output.read_bytes() == whole.read_bytes()
    assert told.checks == [("c", 3), ("c", 4)]
    with (tmp_path / "w.log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [bool(row["check c"]) for row in rows] == [False, False, True, True]
    assert 0 <= float(rows[-1]["check c at 0.4"]) <= float(rows[-1]["check c"]) <= 1
    # Nor is what is simulated for the threshold.
    trained(folder, tmp_path / "more.safetensors", (SIMULATED + SET + UNLABELLED).replace("aside = 1", "aside = 2"))
    ours, others = (weights.read_tensors(path) for path in (whole, tmp_path / "more.safetensors"))
    assert all(torch.equal(ours[name], others[name]) for name in ours)


def test_what_is_learned_from_matters(folder, whole, tmp_path):
    texts = [
        SIMULATED + SET,
        SIMULATED + SET + UNLABELLED.replace("= 2", "= 3"),
        "seed = 1\n" + SIMULATED + SET + UNLABELLED,
    ]
    found = [whole, *(trained(folder, tmp_path / f"{n}.safetensors", text) for n, text in enumerate(texts))]
    prints = {weights.read_header(path).fingerprint for path in found}
    assert len(prints) == 4


def test_another_number_of_steps_is_another_training(folder, tmp_path):
    """The learning rate falls until the last one; and one that is complete has not done more."""
    output = tmp_path / "w.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(folder, output, SIMULATED, Told(stop_at=2))
    sets = read(folder / "SETS.toml")
    longer = replace(sets, settings=replace(sets.settings, steps=STEPS + 1))
    with pytest.raises(InputError, match="different: steps"):
        general.train(longer, Job(output, CONFIG, resume=True))


def test_pretraining_and_fine_tuning_start_from_it_with_a_diameter_of_their_own(folder, whole, tmp_path):
    mics = sorted((folder / "mics").iterdir())
    jobs = [Job(tmp_path / f"{name}.safetensors", CONFIG.with_changes({"train.seed": 2})) for name in ("p", "f", "n")]
    pretrain(mics[:2], Length(25, "px"), jobs[0], whole)
    finetune(mics, folder / "labels", jobs[1], whole, validation=0)
    assert [weights.read_header(job.output).diameter for job in jobs[:2]] == ["25px", "24px"]
    for number in range(3):
        coordinates.write(tmp_path / "points" / f"m{number}.star", Particles.of(CENTRES), "star")
    with pytest.raises(InputError, match=r"no diameter.*Give --diameter"):
        finetune(mics, tmp_path / "points", jobs[2], whole, validation=0)
    with pytest.raises(ConfigError, match=r"model.dim is 32: fixed by the weights"):
        pretrain(mics, Length(25, "px"), replace(jobs[2], config=CONFIG.with_changes({"model.dim": 64})), whole)


@pytest.mark.parametrize(
    ("diameters", "simulated", "more", "sized"),
    [
        ([24.0] * 5, SIMULATED, "", False),
        ([24.0] * 5, SIMULATED, "sized = true", True),
        ([24.0] * 5, "", "", True),
        ([24.0, 24.0, 30.0, 20.0, 24.0], SIMULATED, "", True),
        ([24.0, 24.0, 30.0, 20.0, 24.0], SIMULATED, "sized = false", False),
    ],
    ids=["one size", "it says", "nothing else", "several", "it denies"],
)
def test_labels_of_one_size_are_a_convention_and_several_are_learned(
    folder, tmp_path, monkeypatch, diameters, simulated, more, sized
):
    coordinates.write(tmp_path / "labels" / "m0.csv", Particles.of(CENTRES, diameters), "csv")
    own = SET.replace('"labels"', f'"{tmp_path}/labels"')
    text = f"{simulated}{own}{more}\n"
    seen = []

    def stage(stage, samples, validation, job, result):
        seen.extend(samples._samples)
        return replace(result, steps=STEPS)

    monkeypatch.setattr(general, "run_stage", stage)
    trained(folder, tmp_path / "w.safetensors", text)
    assert [one.sized for one in seen] == [sized] * 3
    for one, given in zip(seen, (1.0, 0.7, 1.5), strict=True):
        assert one.side == pytest.approx(np.array(diameters) / 24 * 32 / given, rel=0.01)


def test_fine_tuning_keeps_the_sizes_that_a_general_model_knows(folder, whole, tmp_path, monkeypatch):
    seen = []

    def stage(stage, samples, validation, job, result):
        seen.extend(samples)
        return result

    monkeypatch.setattr(stages, "run_stage", stage)
    for start in (whole, None):
        finetune(
            sorted((folder / "mics").iterdir()), folder / "labels", Job(tmp_path / "f", CONFIG), start, validation=0
        )
    assert [one.sized for one in seen] == [False] * 3 + [True] * 3
    # So does pretraining, unless proposals have sizes of their own.
    seen.clear()
    for start, config in ((whole, CONFIG), (None, CONFIG), (whole, CONFIG.with_changes({"propose.sizes": True}))):
        pretrain([folder / "mics" / "m0.mrc"], Length(24, "px"), Job(tmp_path / "p", config), start)
    assert [one.sized for one in seen] == [False, True, True]


def test_pretraining_learns_from_the_picks_of_a_general_model(folder, whole, tmp_path, monkeypatch):
    found = Particles.of([[50.0, 40.0], [90.0, 60.0], [150.0, 60.0]], 24.0, [0.8, 0.2, 0.02])
    monkeypatch.setattr("upicker.train.reading.teacher_picks", lambda regions, *_, **__: [found for _ in regions])
    monkeypatch.setattr("upicker.train.reading.DEFAULT_THRESHOLD", 0.4)
    seen = []

    def stage(stage, samples, validation, job, result):
        seen.extend(samples)
        return result

    monkeypatch.setattr(stages, "run_stage", stage)
    config = CONFIG.with_changes({"propose.mask": True})
    header = weights.read_header(whole)
    general = tmp_path / "g.safetensors"
    weights.save(general, weights.load(whole)[0], replace(header, threshold=0.4))
    result = pretrain([folder / "mics" / "m0.mrc"], Length(24, "px"), Job(tmp_path / "p", config), general)
    assert result.pseudo_labels == "the picks that it started from"
    # A particle above the threshold, an unsure one a little below it, and background; their sizes are not learned.
    assert [one.is_sure.tolist() for one in seen] == [[True, False]]
    assert [one.sized for one in seen] == [False]


def test_unsure_positions_are_as_large_as_particles_whatever_diameter_is_given():
    prepared = Prepared(np.zeros((64, 60), np.float32), Frame((96, 90), (64, 60)), 48.0)
    particles = Particles.of([[50.0, 40.0]], 24.0)
    found = TrainingRegion(prepared, particles, Particles.of([[20.0, 30.0]], 24.0)).initial_sample()
    assert found.side == pytest.approx([16, 16])
    assert TrainingRegion(prepared, particles, Particles.of([[20.0, 30.0]])).initial_sample().side[1] == 32


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (SET.replace("[0.7, 1, 1.5]", "[0.01]"), "set.. a: none of its micrographs fits a diameter"),
        (SET + CHECK.replace('"labels"', '"partial"'), "check.. c: its labels are partial"),
    ],
    ids=["no diameter fits", "partial check"],
)
def test_sets_that_cannot_be_used_are_named(folder, tmp_path, more, says):
    coordinates.write(folder / "partial" / "m2.csv", Particles.of(CENTRES, DIAMETER), "csv")
    (folder / "partial" / "coverage.csv").write_text("name,coverage,x0,y0,x1,y1\nm2,partial,,,,\n")
    with pytest.raises(InputError, match=says):
        trained(folder, tmp_path / "w.safetensors", SIMULATED + more)


def test_an_empty_set_teaches_that_there_is_nothing(folder, tmp_path):
    """Whose label files have no rows; a set in which nothing is proposed is refused."""
    mrc.write(tmp_path / "mics" / "empty.mrc", np.random.default_rng(9).normal(100, 4, SHAPE), 2.0)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "empty.csv").write_text("x,y,diameter\n")
    empty = f'[[set]]\nname = "e"\nmicrographs = "{tmp_path}/mics"\nlabels = "{tmp_path}/labels"\ndiameter = "24px"\n'
    trained(folder, tmp_path / "e.safetensors", SIMULATED + empty)


def test_the_command_trains_tells_and_picks_with_a_diameter(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (folder / "SETS.toml").write_text(f"steps = 2\n{SIMULATED}{SET}{CHECK}")
    settings = [word for key, value in NETWORK.items() for word in ("--set", f"{key}={value}")]
    words = ("train", folder / "SETS.toml", "-o", "g.safetensors", "--workers", 0, *settings)
    code, out, err = upicker(capsys, *words)
    assert code == 0
    assert "trained: 2 steps on 1 of 1 micrographs" in out
    assert "simulated: 50% of the tiles, of 8 kinds of specimen" in out
    assert "against simulated images kept aside: F1" in out
    assert "check c, step 2: best F1" in err
    code, out, _ = upicker(capsys, *words, "--resume")
    assert "already complete" in out
    pick = ("pick", folder / "mics", "--model", "g.safetensors", "-o", "picks")
    code, _, err = upicker(capsys, *pick)
    # It is estimated; two steps teach nothing, and nothing is found.
    assert code == 1
    assert "nothing like a particle was found" in err
    code, _, err = upicker(capsys, "suggest", folder / "mics", "--model", "g.safetensors")
    assert code == 1
    assert "nothing like a particle was found" in err
    assert upicker(capsys, *pick, "--diameter", "24px")[0] == 0
    code, _, err = upicker(capsys, *words[:1], tmp_path / "none.toml", *words[2:])
    assert code == 2
    # Started from, they take the diameter of the labels.
    labels = (
        "finetune",
        folder / "mics",
        "--labels",
        folder / "labels",
        "--init",
        "g.safetensors",
        "-o",
        "f.safetensors",
    )
    code, _, err = upicker(capsys, *labels, "--set", "train.finetune_steps=1", "--set", "pick.views=1")
    assert code == 0
    assert weights.read_header(Path("f.safetensors")).diameter == "24px"
