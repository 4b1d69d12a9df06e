"""The loop: its schedule, that it learns, stops, and goes on after a kill as if nothing had been."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from upicker.config import Config
from upicker.errors import InputError, OutputError, WeightsError
from upicker.geometry import Frame
from upicker.image.prepare import Prepared
from upicker.model import weights
from upicker.model.criterion import SetCriterion
from upicker.particles import Particles
from upicker.train import checkpoint, loop, validation
from upicker.train.checkpoint import State
from upicker.train.log import COLUMNS, CsvLog, Silent
from upicker.train.loop import Plan, one_cycle
from upicker.train.sample import Sample
from upicker.train.validation import ValidationMicrograph

CONFIG = Config().with_changes(
    {
        "model.widths": "8,8,16,16,16", "model.dim": 32, "model.heads": 4, "model.feedforward": 64,
        "model.encoder_layers": 1, "model.decoder_layers": 2, "model.query_density": 1,
        "image.working_diameter_px": 16, "train.tile_px": 64, "train.batch": 2, "train.validate_every": 2,
        "train.device": "cpu", "train.bfloat16": False, "pick.batch": 8, "pick.overlap_diameters": 0.5,
    }
)  # fmt: skip
SHAPE = (90, 130)


def discs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A prepared micrograph of bright discs in weak noise, and their centres; none overlap."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(np.arange(14, SHAPE[1] - 10, 25.0), np.arange(12, SHAPE[0] - 10, 24.0)), -1)
    xy = grid.reshape(-1, 2) + rng.uniform(-3, 3, (grid.size // 2, 2))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    pixels = 0.2 * rng.standard_normal(SHAPE)
    for cx, cy in xy:
        pixels += 3.0 * ((x - cx) ** 2 + (y - cy) ** 2 < 8**2)
    return pixels.astype(np.float32), xy


def plan_of(folder: Path, config: Config = CONFIG, steps: int = 6, checks: bool = True, **changes) -> Plan:
    """A plan on drawn discs, which keeps its best weights in ``kept.safetensors``."""
    pixels, xy = discs()
    check_pixels, check_xy = discs(1)
    prepared = Prepared(check_pixels, Frame(SHAPE, SHAPE), 16.0)

    def save_best(average, row, step):
        header = weights.Header(
            config.to_tables(), "16px", "finetune", row.get("threshold"), row.get("f1"), None, None, step
        )
        weights.save(folder / "kept.safetensors", average, header)

    plan = Plan(
        stage="finetune",
        config=config,
        steps=steps,
        learning_rate=2e-3,
        samples=[Sample(pixels, xy, np.full(len(xy), 16.0))],
        validation=[ValidationMicrograph(prepared, Particles.of(check_xy, 16.0))] if checks else [],
        checkpoint=folder / "run.checkpoint",
        identity={"config": config.to_tables(), "particles": [len(xy)]},
        save_best=save_best,
    )
    return replace(plan, **changes)


def fresh(config: Config = CONFIG):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return weights.build(config)


def trained(plan: Plan, resume: bool = False, progress=None) -> tuple[State, bool]:
    """Run a plan with its log beside its checkpoint."""
    state = loop.initial_state(fresh(plan.config), plan, resume)
    log = CsvLog(plan.checkpoint.with_suffix(".csv"), state.step)
    try:
        return state, loop.run(plan, state, log, progress or Silent())
    finally:
        log.close()


def rows_of(plan: Plan) -> list[dict[str, str]]:
    with plan.checkpoint.with_suffix(".csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


class Killed(Silent):
    """Raises an error at a step."""

    def __init__(self, at: int, error: type[BaseException]) -> None:
        self.at, self.error, self.finished = at, error, False

    def step(self, row: dict) -> None:
        if row["step"] == self.at:
            raise self.error

    def finish(self) -> None:
        self.finished = True


def same(a: dict, b: dict) -> bool:
    return list(a) == list(b) and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[Plan, State]:
    plan = plan_of(tmp_path_factory.mktemp("whole"))
    return plan, trained(plan)[0]


def as_uninterrupted(plan: Plan, state: State, uninterrupted: tuple[Plan, State]) -> None:
    """Weights, average, kept file, log and best validation: all as if nothing had been."""
    whole_plan, whole = uninterrupted
    assert state.step == whole.step
    assert same(state.model.state_dict(), whole.model.state_dict())
    assert same(state.average.state_dict(), whole.average.state_dict())
    assert rows_of(plan) == rows_of(whole_plan)
    assert (state.best, state.not_improved) == (whole.best, whole.not_improved)
    kept, whole_kept = (p.checkpoint.with_name("kept.safetensors").read_bytes() for p in (plan, whole_plan))
    assert kept == whole_kept


@pytest.mark.parametrize("at", [1, 3, 4, 6])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError], ids=["ctrl-c", "crash"])
def test_resumed_equals_uninterrupted(tmp_path, uninterrupted, at, error):
    plan, killed = plan_of(tmp_path), Killed(at, error)
    with pytest.raises(error):
        trained(plan, progress=killed)
    assert killed.finished
    state, _ = trained(plan, resume=True)
    as_uninterrupted(plan, state, uninterrupted)


@pytest.mark.parametrize("place", ["validation", "matching", "optimizer", "average"])
def test_ctrl_c_in_the_middle_of_a_step_leaves_no_half_step(tmp_path, uninterrupted, monkeypatch, place):
    room, name, at = {
        "validation": (validation, "steady", 2),
        "matching": (SetCriterion, "__call__", 5),
        "optimizer": (torch.optim.AdamW, "step", 5),
        "average": (loop, "_update_average", 5),
    }[place]
    original, calls = getattr(room, name), []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == at:
            if place == "optimizer":
                original(*args, **kwargs)
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    plan = plan_of(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(room, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(plan)
    state, _ = trained(plan, resume=True)
    as_uninterrupted(plan, state, uninterrupted)


def test_resuming_without_a_checkpoint_begins_anew(tmp_path, uninterrupted):
    plan = plan_of(tmp_path)
    state, _ = trained(plan, resume=True)
    as_uninterrupted(plan, state, uninterrupted)


def test_a_checkpoint_is_not_touched_without_resume(tmp_path, uninterrupted):
    plan = plan_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trained(plan, progress=Killed(3, KeyboardInterrupt))
    state, _ = trained(plan)
    as_uninterrupted(plan, state, uninterrupted)


def test_the_seed_decides_and_the_surroundings_do_not(tmp_path, uninterrupted):
    torch.rand(7)
    np.random.rand(3)  # noqa: NPY002
    state, _ = trained(plan_of(tmp_path / "a"))
    assert same(state.model.state_dict(), uninterrupted[1].model.state_dict())
    other, _ = trained(plan_of(tmp_path / "b", CONFIG.with_changes({"train.seed": 1})))
    assert not same(state.model.state_dict(), other.model.state_dict())


def test_training_leaves_global_random_numbers_alone(tmp_path):
    before = torch.random.get_rng_state()
    trained(plan_of(tmp_path, steps=2))
    assert torch.equal(before, torch.random.get_rng_state())


def test_the_checkpoint_of_another_training_is_refused_by_what_differs(tmp_path):
    plan = plan_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trained(plan, progress=Killed(2, KeyboardInterrupt))
    for identity in (
        {"config": {}, "particles": [20]},
        plan.identity | {"particles": [3]},
        plan.identity | {"more": 1},
    ):
        changed = sorted(k for k in identity if identity[k] != plan.identity.get(k))
        with pytest.raises(InputError, match=rf"run\.checkpoint.*{', '.join(changed)}"):
            trained(replace(plan, identity=identity), resume=True)
    before = plan.checkpoint.read_bytes()
    assert before == plan.checkpoint.read_bytes()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04junk", b"\x80\x04K\x01."])
def test_a_broken_checkpoint_is_refused(tmp_path, content):
    plan = plan_of(tmp_path)
    plan.checkpoint.write_bytes(content)
    with pytest.raises(WeightsError, match=r"run\.checkpoint.*--resume"):
        trained(plan, resume=True)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    plan = plan_of(tmp_path)
    for content in ({"conv1.weight": torch.zeros(3)}, [1, 2], torch.zeros(2)):
        torch.save(content, plan.checkpoint)
        with pytest.raises(InputError, match=r"run\.checkpoint"):
            trained(plan, resume=True)


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    plan = plan_of(tmp_path)
    trained(plan, progress=None)
    before = plan.checkpoint.read_bytes()
    state = loop.initial_state(fresh(), plan, resume=True)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"run\.checkpoint.*No space left"):
        checkpoint.save(plan.checkpoint, state, plan.identity)
    assert plan.checkpoint.read_bytes() == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_a_signal_while_a_checkpoint_is_written_is_still_that_signal(tmp_path, monkeypatch):
    plan = plan_of(tmp_path)
    trained(plan, progress=None)
    before = plan.checkpoint.read_bytes()
    state = loop.initial_state(fresh(), plan, resume=True)

    class Stopped(KeyboardInterrupt):
        pass

    class Written:
        """A file during whose second writing somebody presses Ctrl-C."""

        def __init__(self, file):
            self._file, self._times = file, 0

        def write(self, data):
            self._times += 1
            if self._times == 2:
                raise Stopped
            return self._file.write(data)

        def flush(self):
            self._file.flush()

    torch_save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, file: torch_save(content, Written(file)))
    with pytest.raises(Stopped):
        checkpoint.save(plan.checkpoint, state, plan.identity)
    assert plan.checkpoint.read_bytes() == before


def test_a_signal_before_torch_ends_its_archive_does_not_abort_the_process(tmp_path):
    """The archive's destructor ends it then: on a closed file that is a C++ exception, and SIGABRT."""
    code = """
import sys, torch
from pathlib import Path
from torch import nn, serialization
from upicker.train import checkpoint

def interrupted(*_args):
    raise KeyboardInterrupt

serialization._open_zipfile_writer_buffer.__exit__ = interrupted
model = nn.Linear(2, 2)
state = checkpoint.State(model, model, torch.optim.AdamW(model.parameters()))
try:
    checkpoint.save(Path(sys.argv[1]), state, {})
except KeyboardInterrupt:
    print("stopped")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run.checkpoint")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
    assert not list(tmp_path.iterdir())


def test_a_short_training_learns_drawn_discs(tmp_path):
    config = CONFIG.with_changes({"augment.online": False, "train.validate_every": 99, "train.average": 0})
    plan = plan_of(tmp_path, config, steps=90, checks=False, learning_rate=4e-3)
    trained(plan)
    losses = np.array([[float(row[k]) for k in ("loss", "loss_class", "loss_l1")] for row in rows_of(plan)])
    first, last = losses[:5].mean(0), losses[-10:].mean(0)
    assert np.isfinite(losses).all()
    assert (last < 0.6 * first).all(), (first, last)


def scripted(monkeypatch, f1s: list[float]) -> None:
    """Validations answer with these figures, one after the other."""
    answers = iter(f1s)

    def scored(_pairs):
        f1 = next(answers)
        return f1, type("Result", (), {"precision": f1, "recall": f1, "f1": f1})

    monkeypatch.setattr(validation, "steady", scored)
    monkeypatch.setattr(validation, "detect", lambda *_: Particles.of([]))


@pytest.mark.parametrize(
    ("f1s", "patience", "steps", "kept"),
    [
        ([0.1, 0.5, 0.4, 0.5, 0.9], 2, 8, 8),  # as good as the best is kept, but no reason to wait on
        ([0.1, 0.5, 0.4, 0.6, 0.5], 2, 10, 8),
        ([0.0, 0.0, 0.0, 0.0, 0.0], 3, 8, 8),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 1, 10, 10),
        ([0.9, 0.2, 0.3, 0.4, 0.5], 1, 4, 2),
    ],
)
def test_training_stops_when_patience_is_over_and_keeps_the_best(tmp_path, monkeypatch, f1s, patience, steps, kept):
    scripted(monkeypatch, f1s)
    plan = plan_of(tmp_path, CONFIG.with_changes({"train.patience": patience}), steps=10)
    state, early = trained(plan)
    assert state.step == steps
    assert early == (steps < 10)
    header = weights.read_header(tmp_path / "kept.safetensors")
    assert (header.steps, header.f1) == (kept, max(f1s[: steps // 2]))
    assert state.best["f1"] == header.f1


@pytest.mark.parametrize(
    ("validations", "best", "last"),
    [(8, 1, 5), (8, 2, 6), (8, 3, 7), (8, 4, 8), (8, 7, 8), (16, 5, 13), (4, 1, 4), (7, 1, 5), (30, 10, 25)],
)
def test_by_default_training_stops_if_half_of_it_gained_nothing(tmp_path, monkeypatch, validations, best, last):
    scripted(monkeypatch, [0.5 + 0.01 * min(n, best) for n in range(1, validations + 1)])
    config = CONFIG.with_changes({"train.validate_every": 1, "augment.online": False})
    state, early = trained(plan_of(tmp_path, config, steps=validations))
    assert (state.step, early) == (last, last < validations)


def test_the_default_training_can_stop_early_and_default_pretraining_does_not():
    train = Config().train
    validations = train.finetune_steps // train.validate_every
    assert loop.patience_of(train, train.finetune_steps) == validations // 2 == 4
    assert loop.patience_of(train, train.pretrain_steps) >= train.pretrain_steps // train.validate_every
    assert loop.patience_of(replace(train, patience=2), train.finetune_steps) == 2


def test_patience_is_remembered_by_the_checkpoint(tmp_path, monkeypatch):
    scripted(monkeypatch, [0.5, 0.4, 0.4, 0.4, 0.4])
    plan = plan_of(tmp_path, CONFIG.with_changes({"train.patience": 2}), steps=10)
    with pytest.raises(KeyboardInterrupt):
        trained(plan, progress=Killed(5, KeyboardInterrupt))
    state, early = trained(plan, resume=True)
    assert (state.step, early, state.best["f1"]) == (6, True, 0.5)


def test_without_picks_the_threshold_stays_a_score(tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "detect", lambda *_: Particles.of([]))
    trained(plan_of(tmp_path))
    assert weights.read_header(tmp_path / "kept.safetensors").threshold == 1.0


def test_validation_comes_every_so_many_steps_and_at_the_end(tmp_path):
    plan = plan_of(tmp_path, steps=5)
    trained(plan)
    rows = rows_of(plan)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["step"] for row in rows if row["f1"]] == ["2", "4", "5"]
    for row in rows:
        assert row["stage"] == "finetune"
        total = sum(float(row[k]) for k in ("loss_class", "loss_l1", "loss_giou", "loss_denoise"))
        assert float(row["loss"]) == pytest.approx(total, rel=1e-4)


def test_without_checks_the_last_weights_are_kept(tmp_path):
    plan = plan_of(tmp_path, steps=3, checks=False)
    state, early = trained(plan)
    assert not early
    model, header, _ = weights.load(tmp_path / "kept.safetensors")
    assert (header.steps, header.threshold, header.f1) == (3, None, None)
    assert same(model.state_dict(), state.average.state_dict())
    assert all(not row["f1"] for row in rows_of(plan))


def diverging(monkeypatch, steps: set[int]) -> None:
    """The losses of these steps, counted from 1, are not finite."""
    original, calls = SetCriterion.__call__, []

    def broken(*args):
        calls.append(1)
        parts = original(*args)
        return parts | {"loss": parts["loss"] * float("nan")} if len(calls) in steps else parts

    monkeypatch.setattr(SetCriterion, "__call__", broken)


def test_a_gradient_that_is_no_number_changes_no_weight_and_is_counted(tmp_path, monkeypatch):
    diverging(monkeypatch, {1, 2})
    plan = plan_of(tmp_path, steps=2, checks=False)
    state, _ = trained(plan)
    assert same(state.model.state_dict(), fresh().state_dict())
    assert (state.step, state.skipped) == (2, 2)
    assert [row["skipped"] for row in rows_of(plan)] == ["1", "1"]


def test_ten_gradients_in_a_row_that_are_no_numbers_end_a_training(tmp_path, monkeypatch):
    most = loop.MOST_SKIPPED
    diverging(monkeypatch, set(range(3, 3 + most - 1)) | set(range(5 + most, 99)))
    plan = plan_of(tmp_path, steps=99, checks=False)
    with pytest.raises(
        InputError, match=rf"step {4 + 2 * most}: the gradients of {most} steps in a row.*learning rate"
    ):
        trained(plan)
    skipped = [int(row["step"]) for row in rows_of(plan) if row["skipped"]]
    assert skipped == [*range(3, 3 + most - 1), *range(5 + most, 4 + 2 * most)]


def test_a_resumed_training_counts_on(tmp_path, monkeypatch):
    plan = plan_of(tmp_path, steps=40, checks=False)
    with monkeypatch.context() as patch:
        diverging(patch, set(range(3, 9)))
        with pytest.raises(KeyboardInterrupt):
            trained(plan, progress=Killed(8, KeyboardInterrupt))
    diverging(monkeypatch, set(range(99)))
    with pytest.raises(InputError, match="step 12"):
        trained(plan, resume=True)


def test_micrographs_without_particles_can_be_trained_on(tmp_path):
    plan = plan_of(tmp_path, steps=2, checks=False)
    empty = Sample(plan.samples[0].pixels, np.zeros((0, 2)), np.zeros(0))
    state, _ = trained(replace(plan, samples=[empty]))
    assert all(p.isfinite().all() for p in state.model.state_dict().values())
    assert {float(row["loss_denoise"]) for row in rows_of(plan)} == {0.0}


def test_the_average_follows_the_weights_and_can_be_switched_off(tmp_path):
    state, _ = trained(plan_of(tmp_path / "off", CONFIG.with_changes({"train.average": 0}), 3, checks=False))
    assert same(state.average.state_dict(), state.model.state_dict())
    start = fresh().state_dict()
    state, _ = trained(plan_of(tmp_path / "on", CONFIG.with_changes({"train.average": 0.999}), 3, checks=False))
    name = "decoder.bbox_embed.layers.0.weight"
    whole = float((state.model.state_dict()[name] - start[name]).norm())
    left = float((state.model.state_dict()[name] - state.average.state_dict()[name]).norm())
    # The first steps count fully, or the random start would linger in 0.999 ** 3 of the average.
    assert 0 < left < 0.9 * whole


def test_biases_and_norms_do_not_decay():
    groups = loop._parameter_groups(fresh(), CONFIG.train)
    assert all(p.ndim > 1 for p in groups[0]["params"])
    assert all(p.ndim <= 1 for p in groups[1]["params"])
    assert (groups[0]["weight_decay"], groups[1]["weight_decay"]) == (CONFIG.train.weight_decay, 0.0)
    assert sum(len(g["params"]) for g in groups) == len(list(fresh().parameters()))


def test_the_number_of_threads_is_honoured(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    config = CONFIG.with_changes({"train.threads": 3})
    loop.initial_state(fresh(config), plan_of(tmp_path, config), resume=False)
    assert set(asked) == {3}


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine():
    assert [one_cycle(step, 100, 0.1) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert one_cycle(55, 100, 0.1) == pytest.approx(0.505)
    assert one_cycle(100, 100, 0.1) == pytest.approx(0.01)
    falling = [one_cycle(step, 100, 0.1) for step in range(10, 100)]
    assert all(a > b for a, b in zip(falling, falling[1:], strict=False))
    for steps, warmup in ((1, 0.1), (2, 0.0), (3, 1.0), (7, 0.5)):
        values = [one_cycle(step, steps, warmup) for step in range(steps)]
        assert all(0 < v <= 1 for v in values)


def test_the_schedule_reaches_the_log(tmp_path):
    plan = plan_of(tmp_path, steps=4, checks=False)
    trained(plan)
    found = [float(row["learning_rate"]) for row in rows_of(plan)]
    assert found == pytest.approx([2e-3 * one_cycle(step, 4, CONFIG.train.warmup) for step in range(4)], rel=1e-4)


def test_the_log_keeps_the_rows_before_a_resume_and_drops_those_after(tmp_path):
    path = tmp_path / "deep" / "x.log.csv"
    log = CsvLog(path)
    for step in range(1, 6):
        log.write({"step": step, "loss": 1 / 3, "stage": "pretrain"})
    assert path.read_text().count("\n") == 6  # each row at once, before the file is closed
    log.close()
    again = CsvLog(path, keep_steps=3)
    again.write({"step": 4, "loss": 2.0})
    again.close()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["step"], row["loss"]) for row in rows] == [
        ("1", "0.333333"),
        ("2", "0.333333"),
        ("3", "0.333333"),
        ("4", "2"),
    ]
    CsvLog(path).close()
    assert path.read_text().count("\n") == 1


def test_a_kill_while_a_log_is_continued_loses_no_row(tmp_path, monkeypatch):
    log = CsvLog(tmp_path / "x.log.csv")
    log.write({"step": 1, "loss": 0.5})
    log.close()
    before = log.path.read_bytes()

    def killed(*_args):
        raise SystemExit

    monkeypatch.setattr(csv.DictWriter, "writerows", killed)
    with pytest.raises(SystemExit):
        CsvLog(log.path, 1)
    assert log.path.read_bytes() == before


def test_a_log_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "x").write_text("")
    with pytest.raises(OutputError, match=r"x\.log\.csv"):
        CsvLog(tmp_path / "x" / "x.log.csv")
    (tmp_path / "y.log.csv").mkdir()
    with pytest.raises(OutputError, match=r"y\.log\.csv"):
        CsvLog(tmp_path / "y.log.csv")
