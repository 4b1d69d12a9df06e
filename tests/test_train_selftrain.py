"""Self-training: rounds, what they teach, the threshold without labels, and going on after a kill."""

from pathlib import Path

import numpy as np
import pytest
from command_line import TOY, micrograph, upicker
from test_train_loop import CONFIG, SHAPE, discs, plan_of, rows_of, same, trained

from upicker.config import Config
from upicker.errors import ConfigError
from upicker.geometry import Frame
from upicker.image.prepare import Prepared
from upicker.model import weights
from upicker.particles import Particles
from upicker.scoring import curve
from upicker.train import loop
from upicker.train.loop import ROUND_FACTOR, one_cycle
from upicker.train.ranks import Ranks
from upicker.train.selftrain import SelfTeacher, round_starts, strongest
from upicker.train.teacher import TrainingRegion

ROUNDS = CONFIG.with_changes({"teacher.rounds": 2, "teacher.round_steps": 2, "train.pretrain_steps": 3})
COUNT = 5


def picture(seed: int) -> Prepared:
    return Prepared(discs(seed)[0], Frame(SHAPE, SHAPE), 16.0)


def training_regions(count: int = COUNT) -> list[TrainingRegion]:
    """Micrographs whose proposals miss every third particle, and hold a false one."""
    found = []
    for seed in range(count):
        xy = discs(seed)[1]
        proposed = np.concatenate([xy[np.arange(len(xy)) % 3 > 0], [[64.0, 4.0]]])
        found.append(TrainingRegion(picture(seed), Particles.of(proposed, 16.0, np.linspace(1, 3, len(proposed)))))
    return found


class Oracle:
    """Replaces a network: finds all particles of `discs`, and, with lower scores, empty positions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[int] = []
        monkeypatch.setattr("upicker.train.teacher.detect", self)

    def __call__(self, _model, prepared: Prepared, _config: Config) -> Particles:
        seed = next(s for s in range(COUNT) if np.array_equal(discs(s)[0], prepared.pixels))
        self.asked.append(seed)
        xy = discs(seed)[1] + 1.0
        false = np.stack([np.linspace(5, 125, 10), np.full(10, 87.0)], 1)
        score = np.concatenate([np.linspace(0.9, 0.5, len(xy)), np.linspace(0.3, 0.1, 10)])
        return Particles.of(np.concatenate([xy, false]), 15.0, score)


def self_plan(folder: Path, config: Config = ROUNDS):
    teacher = SelfTeacher(training_regions(), config, Ranks())
    steps = config.train.pretrain_steps + config.teacher.rounds * config.teacher.round_steps
    return plan_of(
        folder, config, steps, checks=False, stage="pretrain", samples=teacher.samples, teacher=teacher,
        rounds=round_starts(config),
    )  # fmt: skip


def test_rounds_begin_after_pretraining_and_one_after_the_other():
    assert round_starts(CONFIG) == ()
    assert round_starts(ROUNDS) == (3, 5)
    plan = self_plan(Path("nowhere"))
    found = [plan.schedule(step) for step in range(7)]
    assert found == [
        *((plan.learning_rate, one_cycle(step, 3, 0.1)) for step in range(3)),
        *((plan.learning_rate * ROUND_FACTOR, one_cycle(step, 2, 0.1)) for _ in range(2) for step in range(2)),
    ]
    plain = plan_of(Path("nowhere"))
    assert [plain.schedule(s) for s in range(6)] == [(plain.learning_rate, one_cycle(s, 6, 0.1)) for s in range(6)]


def test_in_a_round_the_picks_are_the_targets(tmp_path, monkeypatch):
    oracle = Oracle(monkeypatch)
    plan = self_plan(tmp_path)
    first = plan.samples[0]
    assert {len(s.xy) for s in plan.samples} == {len(one.known) for one in training_regions()}
    trained(plan)
    held = COUNT // 2  # one of five, from the middle
    learned = [seed for seed in range(COUNT) if seed != held]
    assert len(plan.samples) == len(learned)
    assert oracle.asked.count(held) == 3  # two rounds, and the threshold at the end
    assert all(oracle.asked.count(seed) == 2 for seed in learned)
    for seed, sample in zip(learned, plan.samples, strict=True):
        np.testing.assert_allclose(sample.xy[sample.is_sure], discs(seed)[1] + 1.0)
    assert plan.samples[0] is not first
    rounds = [(row["step"], row["round"], row["sure"]) for row in rows_of(plan) if row["round"]]
    total = str(sum(len(discs(seed)[1]) for seed in learned))
    assert rounds == [("4", "1", total), ("6", "2", total)]
    assert all(float(row["f1"]) > 0 for row in rows_of(plan) if row["round"])


def test_the_threshold_is_found_without_labels_and_stored(tmp_path, monkeypatch):
    Oracle(monkeypatch)
    state, early = trained(self_plan(tmp_path))
    assert not early
    header = weights.read_header(tmp_path / "kept.safetensors")
    assert 0.3 < (header.threshold or 0) <= 0.5  # all particles, nothing else
    assert header.steps == state.step == 7
    assert state.best["threshold"] == header.threshold
    # F1 against the proposals would be misled by a filter that sees few of the particles: a round is cut otherwise.
    few = [(Oracle(monkeypatch)(None, picture(2), CONFIG), Particles.of(discs(2)[1][:4], 16.0))]
    naive = curve(few)
    assert naive.thresholds[naive.best or 0] > 0.8


def test_more_rounds_than_none_change_the_weights_and_none_change_nothing(tmp_path, monkeypatch):
    Oracle(monkeypatch)
    without = CONFIG.with_changes({"train.pretrain_steps": 3})
    samples = [one.initial_sample() for one in training_regions()]
    plain, _ = trained(plan_of(tmp_path / "plain", without, 3, checks=False, stage="pretrain", samples=samples))
    config = without.with_changes({"teacher.held": 0})
    rounds, _ = trained(self_plan(tmp_path / "none", config))
    assert same(plain.model.state_dict(), rounds.model.state_dict())
    assert plan_of(tmp_path).teacher is None


@pytest.mark.parametrize("at", [4, 5, 7])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_resumed_self_training_equals_the_uninterrupted_one(tmp_path, monkeypatch, at, error):
    """Killed in the first step of a round, within one, and in the very last step."""
    Oracle(monkeypatch)
    whole, _ = trained(self_plan(tmp_path / "whole"))
    learn, calls = loop._compute_gradients, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == at:
            raise error
        return learn(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_compute_gradients", interrupted)
        with pytest.raises(error):
            trained(self_plan(tmp_path / "cut"))
    plan = self_plan(tmp_path / "cut")
    state, _ = trained(plan, resume=True)
    assert same(state.model.state_dict(), whole.model.state_dict())
    assert same(state.average.state_dict(), whole.average.state_dict())
    assert state.best == whole.best
    assert rows_of(plan) == rows_of(self_plan(tmp_path / "whole"))
    kept = [(tmp_path / name / "kept.safetensors").read_bytes() for name in ("whole", "cut")]
    assert kept[0] == kept[1]


def test_a_teacher_without_picks_leaves_the_proposals(tmp_path, monkeypatch):
    monkeypatch.setattr("upicker.train.teacher.detect", lambda *_: Particles.of([]))
    plan = self_plan(tmp_path)
    before = list(plan.samples)
    state, _ = trained(plan)
    assert all(a is b for a, b in zip(before, plan.samples, strict=True))
    assert state.best["threshold"] == 1.0


def test_few_micrographs_are_all_trained_on(monkeypatch):
    Oracle(monkeypatch)
    assert len(SelfTeacher(training_regions(3), ROUNDS, Ranks()).samples) == 3
    assert len(SelfTeacher(training_regions(4), ROUNDS, Ranks()).samples) == 3
    assert len(SelfTeacher(training_regions(5), ROUNDS.with_changes({"teacher.held": 0.4}), Ranks()).samples) == 3


def test_what_is_not_a_target_is_background(tmp_path, monkeypatch):
    """Nothing is unsure: where weaker picks were, they came back as particles in the next round."""
    Oracle(monkeypatch)
    plan = self_plan(tmp_path)
    trained(plan)
    assert all(sample.sure is None for sample in plan.samples)


def test_the_stronger_half_is_by_score():
    half = strongest(Particles.of([[1, 1], [2, 2], [3, 3]], 9.0, [1.0, 3.0, 2.0]))
    assert half.score.tolist() == [3.0, 2.0]
    assert len(strongest(Particles.of([]))) == 0


def test_the_command_trains_itself_and_stores_a_threshold(tmp_path, monkeypatch, capsys):
    for seed in range(4):
        micrograph(tmp_path / "mics" / f"m{seed}.mrc", seed)
    monkeypatch.setattr("upicker.train.stage._draw", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    settings = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]
    args = (
        "pretrain",
        "mics",
        "-o",
        "s.safetensors",
        "--diameter",
        "24px",
        *settings,
        "--set",
        "teacher.round_steps=2",
    )
    code, out, err = upicker(capsys, *args, "--self-train", 2)
    assert code == 0, err
    assert "8 steps on 3 of 4 micrographs" in out
    assert "against proposals: F1" in out
    assert "step 5 of 8: F1" in err
    assert weights.read_header(Path("s.safetensors")).threshold is not None
    assert weights.load(Path("s.safetensors"))[2].teacher.rounds == 2


def test_offline_copies_are_refused():
    with pytest.raises(ConfigError, match=r"augment\.offline"):
        SelfTeacher([], ROUNDS.with_changes({"augment.offline": 1}), Ranks())
