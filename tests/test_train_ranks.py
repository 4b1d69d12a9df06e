"""Training by several processes, and with several batches a step: the same as one large batch on one process."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import CENTRES, DIAMETER, TOY, environment, micrograph
from safetensors.torch import load_file

from upicker.cli.app import run
from upicker.config import Config
from upicker.errors import ConfigError, InputError, UPickerError
from upicker.io import coordinates
from upicker.model import weights
from upicker.particles import Particles
from upicker.train import loop, ranks
from upicker.train.dataset import batch
from upicker.train.ranks import Ranks
from upicker.train.sample import Sample

# Not as narrow as the toy of other tests: with 8 channels, and two tiles at once, the CPU convolutions of torch 2.13
# write where they must not.
NETWORK = TOY | {"model.widths": "16,16,16,16,16", "train.device": "cpu", "train.bfloat16": False}
RATE = 4e-4  # short steps, or differences in rounding would grow
NETWORK["train.learning_rate"] = RATE
CONFIG = Config().with_changes(NETWORK | {"train.batch": 4})
# Of 100 weights, 99 must agree to this fraction of a step. Not all: Adam divides a gradient by its own size, so that
# where there is none, rounding errors decide in which direction a weight moves.
CLOSE = 0.01


def samples() -> list[Sample]:
    """Two micrographs with very different numbers of objects, so that it matters what losses are divided by."""
    rng = np.random.default_rng(0)
    many, few = rng.uniform(0, 120, (40, 2)), rng.uniform(0, 120, (1, 2))
    pictures = rng.standard_normal((2, 130, 121)).astype(np.float32)
    return [Sample(one, xy, np.full(len(xy), 30.0)) for one, xy in zip(pictures, (many, few), strict=True)]


def taught(config: Config, steps: int = 3) -> loop.State:
    """The state after a few steps on the process itself."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = weights.build(config)
    plan = loop.Plan("finetune", config, steps, RATE, samples(), [], Path("none"), {}, lambda *_: None)
    state = loop.initial_state(model, plan, resume=False)
    for _ in range(steps):
        loop._compute_gradients(plan, state)
        loop._update_weights(plan, state)
    return state


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The difference that 99 % of the weights keep below, in steps at the full learning rate."""
    assert list(one) == list(other)
    difference = torch.cat([(one[name].double() - other[name].double()).flatten() for name in one])
    return float(difference.abs().quantile(0.99)) / RATE


def gradient(state: loop.State) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in state.model.parameters()])


@pytest.fixture(scope="module")
def whole() -> loop.State:
    return taught(CONFIG)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_several_batches_a_step_are_one_large_batch(whole, accumulate):
    config = CONFIG.with_changes({"train.batch": 4 // accumulate, "train.accumulate": accumulate})
    state = taught(config)
    assert apart(state.model.state_dict(), whole.model.state_dict()) < CLOSE
    assert apart(state.average.state_dict(), whole.average.state_dict()) < CLOSE


def test_the_law_would_notice_batches_that_are_averaged(whole, monkeypatch):
    monkeypatch.setattr(loop, "_num_boxes", len)
    state = taught(CONFIG.with_changes({"train.batch": 1, "train.accumulate": 4}))
    assert apart(state.model.state_dict(), whole.model.state_dict()) > 30 * CLOSE


def test_several_batches_a_step_in_bfloat16_are_one_large_batch():
    """Rounding does not depend on what else is in the batch: far less differs than between bfloat16 and float32."""
    half = CONFIG.with_changes({"train.bfloat16": True})
    parts = half.with_changes({"train.batch": 1, "train.accumulate": 4})
    one, other, exact = (gradient(taught(config, 1)) for config in (half, parts, CONFIG))
    assert float((one - other).norm()) < 0.1 * float((one - exact).norm())


def test_gradient_and_figures_of_a_step_are_those_of_the_large_batch():
    parts = CONFIG.with_changes({"train.batch": 1, "train.accumulate": 4})
    rows, gradients = [], []
    for config in (CONFIG, parts):
        plan = loop.Plan("finetune", config, 3, RATE, samples(), [], Path("none"), {}, lambda *_: None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = loop.initial_state(weights.build(config), plan, resume=False)
        rows.append(loop._compute_gradients(plan, state))
        gradients.append(gradient(state))
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)
    assert float((gradients[0] - gradients[1]).norm() / gradients[0].norm()) < 1e-5


def test_a_tile_is_the_same_whoever_draws_the_others():
    config = CONFIG.with_changes({"train.batch": 6})
    every = batch(samples(), config, 5)
    for part in (slice(0, 2), slice(2, 6), slice(5, 6)):
        some = batch(samples(), config, 5, part)
        assert torch.equal(some.images, every.images[part])
        assert all(torch.equal(a, b) for a, b in zip(some.targets, every.targets[part], strict=True))
        assert len(some.targets) == len(some.images)
    after = [batch(samples(), config, 5, part).rng.integers(2**31) for part in (slice(None), slice(3, 4))]
    assert after[0] == after[1]  # what else is random does not depend on the part, either


@pytest.mark.parametrize(("count", "accumulate"), [(1, 1), (1, 3), (2, 1), (3, 2)])
def test_each_tile_of_a_step_belongs_to_one_part_of_one_rank(count, accumulate):
    tiles = 2 * count * accumulate
    owned = [i for n in range(count) for part in Ranks(n, count).parts(tiles, accumulate) for i in range(tiles)[part]]
    assert owned == list(range(tiles))


def test_the_learning_rate_follows_the_root_of_the_tiles_per_step():
    train = CONFIG.with_changes({"train.batch": 2, "train.accumulate": 4}).train
    assert Config().train.batch == Config().train.rate_batch  # nothing changes by default
    assert loop.tiles_per_step(train, Ranks()) == 8
    assert loop.tiles_per_step(train, Ranks(1, 3)) == 24
    assert loop.batch_factor(2, train) == 1
    assert loop.batch_factor(8, train) == pytest.approx(2)
    assert loop.batch_factor(1, train) == pytest.approx(0.5**0.5)
    assert loop.batch_factor(8, replace(train, rate_batch=None)) == 1


def test_a_single_process_needs_no_others():
    with ranks.join() as alone:
        assert (alone.rank, alone.world_size, alone.is_first) == (0, 1, True)
        assert alone.map(str, [1, 2, 3]) == ["1", "2", "3"]
        alone.require_equal({"anything": object()})
        with alone.deferring_signals() as raise_deferred:
            raise_deferred()
        assert alone.reported_by_first(UPickerError("a", "b"))


def test_processes_that_read_other_files_are_refused(monkeypatch):
    monkeypatch.setattr(Ranks, "all_gather", lambda _, own: [own, own | {"particles": "of another picture"}])
    with pytest.raises(InputError, match=r"2 processes.*different: particles\)"):
        Ranks(0, 2).require_equal({"particles": [3, 4], "config": {"a": 1}})
    monkeypatch.setattr(Ranks, "all_gather", lambda _, own: [own, dict(own)])
    Ranks(0, 2).require_equal({"particles": [3, 4], "config": {"a": 1}})


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=r"4 processes for 2 GPUs.*--nproc-per-node 2"):
        ranks.require_gpus(Ranks(0, 4), "auto")
    with pytest.raises(ConfigError, match="cuda:1"):
        ranks.require_gpus(Ranks(0, 2), "cuda:1")
    ranks.require_gpus(Ranks(0, 4), "cpu")
    ranks.require_gpus(Ranks(), "cuda:1")


# By torchrun.


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """Micrographs and labels: one micrograph has five particles, one only two."""
    folder = tmp_path_factory.mktemp("project")
    for seed, some in enumerate((5, 2, 5)):
        micrograph(folder / "mics" / f"m{seed}.mrc", seed)
        coordinates.write(folder / "labels" / f"m{seed}.csv", Particles.of(CENTRES[:some], DIAMETER), "csv")
    return folder


def words(stage: str, output: str, tiles: int) -> list[str]:
    """A command line of a stage."""
    settings = NETWORK | {"train.batch": tiles}
    own = ["--labels", "labels"] if stage == "finetune" else ["--diameter", f"{DIAMETER}px"]
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return [stage, "mics", *own, "-o", output, *sets]


def torchrun(folder: Path, program: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program by two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *program]
    # A hang would be an error of its own; a busy machine is slow.
    options = {"cwd": folder, "capture_output": True, "text": True, "timeout": 550}
    variables = environment() | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    return subprocess.run(command, env=variables, check=False, **options)


# What the optimizer imports at its first step had the group as a default.
THREADS = """
import time
from pathlib import Path

import torch

from upicker.train.ranks import join


def of_gloo() -> list[str]:
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


with join() as ranks:
    assert ranks.all_gather(ranks.rank) == [0, 1]
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    torch.optim.AdamW([parameter]).step()
    assert of_gloo()
time.sleep(0.1)  # Ended threads are listed for a moment.
assert not of_gloo(), of_gloo()
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="lists threads as Linux does")
def test_no_thread_outlives_the_group(tmp_path):
    """One of gloo's that is at work while Python ends aborts the process ("terminate called"), now and then."""
    program = tmp_path / "program.py"
    program.write_text(THREADS)
    done = torchrun(tmp_path, [str(program)])
    assert done.returncode == 0, done.stderr


def on_one(project: Path, stage: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train on this process with all tiles."""
    monkeypatch.chdir(project)
    path = project / f"{stage}-one" / "m.safetensors"
    path.parent.mkdir()
    assert run(words(stage, str(path), 2)) == 0
    return path


def same(one: Path, two: Path) -> None:
    """Same weights, figures, log and files."""
    assert {p.name for p in one.parent.iterdir()} == {p.name for p in two.parent.iterdir()}
    assert apart(load_file(one), load_file(two)) < CLOSE
    first, second = weights.read_header(one), weights.read_header(two)
    assert (first.steps, first.stage) == (second.steps, second.stage)
    assert (second.f1, second.threshold) == pytest.approx((first.f1, first.threshold), abs=1e-3)
    tables = [np.genfromtxt(path.with_suffix(".log.csv"), delimiter=",", names=True) for path in (one, two)]
    for column in ("step", "learning_rate", "loss", "loss_class", "loss_l1", "loss_giou", "loss_denoise"):
        np.testing.assert_allclose(tables[1][column], tables[0][column], rtol=1e-3)


@pytest.mark.slow
def test_two_processes_pretrain_as_one_with_twice_the_batch(project, monkeypatch):
    one, two = on_one(project, "pretrain", monkeypatch), project / "pretrain-two" / "m.safetensors"
    two.parent.mkdir()
    done = torchrun(project, ["-m", "upicker", *words("pretrain", str(two), 1)])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("pretrained: 4 steps on 3 of 3 micrographs") == 1
    assert done.stderr.count("step 4 of 4: F1") == 1
    same(one, two)


@pytest.mark.slow
def test_two_processes_train_on_many_sets_as_one_with_twice_the_batch(project, monkeypatch):
    monkeypatch.chdir(project)
    sets = """
        steps = 3
        check_every = 2
        [simulated]
        pool = 2
        views = 4
        kept_aside = 2
        [[set]]
        name = "a"
        micrographs = "mics/m0.mrc"
        labels = "labels"
        given = [1, 1.5]
        [[check]]
        name = "c"
        micrographs = "mics/m[12].mrc"
        labels = "labels"
    """
    Path("SETS.toml").write_text(sets)
    paths = [project / f"train-{how}" / "m.safetensors" for how in ("one", "two")]
    train = ["train", "SETS.toml"]
    commands = [train + words("train", str(path), tiles)[4:] for path, tiles in zip(paths, (2, 1), strict=True)]
    for path in paths:
        path.parent.mkdir()
    assert run([*commands[0], "--workers", "0"]) == 0
    done = torchrun(project, ["-m", "upicker", *commands[1], "--workers", "1"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained: 3 steps on 1 of 1 micrographs") == 1
    assert done.stderr.count("check c, step 3: best F1") == 1
    same(*paths)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both_between_the_same_steps_and_they_go_on(project, monkeypatch):
    one, two = on_one(project, "finetune", monkeypatch), project / "finetune-two" / "m.safetensors"
    two.parent.mkdir()
    command = words("finetune", str(two), 1)
    done = torchrun(project, [str(Path(__file__).with_name("rank_work.py")), "signal", "3", *command])
    assert done.returncode != 0
    assert done.stderr.count("Stopped. All files written are complete") == 1
    assert torch.load(two.with_suffix(".checkpoint"), weights_only=True)["step"] == 3
    done = torchrun(project, ["-m", "upicker", *command, "--resume"])
    assert done.returncode == 0, done.stderr
    same(one, two)
    done = torchrun(project, ["-m", "upicker", *command, "--resume"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("fine-tuned: already complete") == 1


@pytest.mark.slow
def test_when_one_process_fails_all_end_and_its_error_is_printed_once(project):
    command = words("finetune", str(project / "failed" / "m.safetensors"), 1)
    done = torchrun(project, [str(Path(__file__).with_name("rank_work.py")), "error", "2", *command])
    assert done.returncode != 0
    assert done.stderr.count("the second process: it was made to fail") == 1
    assert "fine-tuned" not in done.stdout


@pytest.mark.slow
def test_an_error_of_all_processes_is_printed_once(project):
    command = words("finetune", "x.safetensors", 1)
    command[command.index("labels")] = "nowhere"
    done = torchrun(project, ["-m", "upicker", *command])
    assert done.returncode != 0
    assert done.stderr.count("nowhere: no such folder or file of labels") == 1
