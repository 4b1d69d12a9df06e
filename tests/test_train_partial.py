"""Partial labels: what is not taught, how validation judges, which files are partial, and that nothing else changes."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import CENTRES, DIAMETER, TOY, micrograph, upicker
from test_train_loop import CONFIG, discs, plan_of, rows_of, same, trained

from upicker.config import Config, DenoiseConfig, LossConfig
from upicker.errors import ConfigError
from upicker.geometry import Frame, Region
from upicker.image.prepare import Prepared
from upicker.io import coordinates
from upicker.model.criterion import SetCriterion, box_losses, sigmoid_focal_loss
from upicker.model.denoising import prepare_denoising
from upicker.model.detector import DetectorOutput
from upicker.model.matcher import HungarianMatcher
from upicker.particles import Particles
from upicker.scoring import Curve, best_threshold, curve, steady
from upicker.train import loop, stages
from upicker.train.augment.online import draw_tile
from upicker.train.dataset import batch
from upicker.train.job import Job
from upicker.train.labels import LabelledMicrograph
from upicker.train.partial import (
    PartialTeacher,
    bounds,
    estimated,
    labelled_fraction,
    metrics_for,
    partial_metrics,
    steps_for,
    training_region,
)
from upicker.train.ranks import Ranks
from upicker.train.sample import Sample
from upicker.train.teacher import TrainingRegion
from upicker.train.validation import ValidationMicrograph

LOSS = LossConfig(unsure_weight=0.0)
CRITERION = SetCriterion(LOSS)
SHAPE = (90, 130)


def boxes(*centres: tuple[float, float], side: float = 0.1) -> torch.Tensor:
    return torch.tensor([[x, y, side, side] for x, y in centres]).reshape(-1, 4)


def unsure_at(*centres: tuple[float, float], weight: float = 0.0) -> torch.Tensor:
    return weighted(boxes(*centres), weight)


def weighted(positions: torch.Tensor, weight: float) -> torch.Tensor:
    return torch.cat([positions, torch.full((len(positions), 1), weight)], 1)


def outputs_of(predicted: torch.Tensor, scores: list[float]) -> DetectorOutput:
    """The output of a detector with these predictions in each of two layers and of its encoder."""
    logits = torch.tensor(scores)[None, :, None].requires_grad_()
    return DetectorOutput(logits, predicted[None], [logits], [predicted[None]], logits, predicted[None], [], [])


def pushes(
    output: DetectorOutput, target: torch.Tensor, unsure: torch.Tensor | None, config: LossConfig = LOSS
) -> np.ndarray:
    """What the class loss does to each query: positive, its score falls; negative, it rises; 0, it is let alone."""
    found = SetCriterion(config)(output, [target], None, None if unsure is None else [unsure])
    (gradient,) = torch.autograd.grad(found["loss_class"], output.enc_logits)
    return gradient[0, :, 0].numpy()


QUERIES = boxes((0.2, 0.2), (0.5, 0.5), (0.51, 0.5), (0.8, 0.3))
SCORES = [1.0, 2.0, 1.0, 0.5]


def test_at_an_unsure_position_one_prediction_is_ignored_and_its_duplicates_are_not():
    push = pushes(outputs_of(QUERIES, SCORES), boxes((0.2, 0.2)), unsure_at((0.5, 0.5)))
    assert push[0] < 0
    assert push[1] == 0
    assert push[2] > 0  # a double, whether there is a particle or not
    assert push[3] > 0
    complete = pushes(outputs_of(QUERIES, SCORES), boxes((0.2, 0.2)), None)
    assert complete[1] > 0
    np.testing.assert_array_equal(np.delete(push, 1), np.delete(complete, 1))


def test_unsure_positions_can_be_weighted():
    half = pushes(outputs_of(QUERIES, SCORES), boxes((0.2, 0.2)), unsure_at((0.5, 0.5), weight=0.5))
    whole = pushes(outputs_of(QUERIES, SCORES), boxes((0.2, 0.2)), None)
    np.testing.assert_allclose(half, whole * [1, 0.5, 1, 1], rtol=1e-6)


@pytest.mark.parametrize(("offset", "taught"), [(0.045, False), (0.055, True)])
def test_only_predictions_at_an_unsure_position_are_ignored(offset, taught):
    push = pushes(outputs_of(boxes((0.5 + offset, 0.5)), [3.0]), boxes(), unsure_at((0.5, 0.5)))
    assert (push[0] > 0) == taught


def test_labels_come_first_and_boxes_of_unsure_positions_have_no_loss():
    output = outputs_of(QUERIES, SCORES)
    target, unsure = boxes((0.2, 0.2)), unsure_at((0.52, 0.53))
    found, complete = CRITERION(output, [target], None, [unsure]), CRITERION(output, [target], None)
    assert torch.equal(found["loss_l1"], complete["loss_l1"])
    assert torch.equal(found["loss_giou"], complete["loss_giou"])
    assert float(found["loss_class"].detach()) < float(complete["loss_class"].detach())


def test_negative_denoising_queries_at_unsure_positions_are_ignored():
    target = boxes((0.3, 0.3), (0.7, 0.6), side=0.2)
    denoising = prepare_denoising([target], DenoiseConfig(groups=3), torch.Generator().manual_seed(1))
    assert denoising is not None
    logits = torch.zeros(1, len(denoising), 1, requires_grad=True)
    matching = outputs_of(QUERIES, SCORES)
    output = replace(matching, dn_logits=[logits], dn_boxes=[denoising.boxes])
    bad = torch.nonzero(denoising.negative[0])[0, 0]
    unsure = weighted(denoising.boxes[0, bad][None].clone(), 0.0)
    unsure[:, 2:4] = 0.02
    (push,) = torch.autograd.grad(CRITERION(output, [target], denoising, [unsure])["loss_denoise"], logits)
    (complete,) = torch.autograd.grad(CRITERION(output, [target], denoising)["loss_denoise"], logits)
    there = (denoising.boxes[0, :, :2] - unsure[:, :2]).norm(dim=1) <= 0.01
    there &= denoising.negative[0]
    assert there[bad]
    assert 0 < there.sum() < denoising.negative.sum()
    assert (push[0, there] == 0).all()
    assert (complete[0, there] > 0).all()
    assert torch.equal(push[0, ~there], complete[0, ~there])


def test_without_unsure_positions_the_loss_is_bitwise_that_of_the_equations():
    """Eq. (2) to (4) written down without them, operation by operation."""
    target = boxes((0.2, 0.2), (0.77, 0.33))
    denoising = prepare_denoising([target], DenoiseConfig(), torch.Generator().manual_seed(0))
    assert denoising is not None
    logits = torch.linspace(-2, 2, len(denoising))[None, :, None]
    output = replace(outputs_of(QUERIES, SCORES), dn_logits=[logits], dn_boxes=[denoising.boxes])
    parts = {"class": torch.zeros(()), "l1": torch.zeros(()), "giou": torch.zeros(())}
    for logit, box in output.layers:
        queries, objects = HungarianMatcher(LOSS)(logit[0], box[0], target)
        truth = torch.zeros_like(logit)
        truth[0, queries] = 1
        l1, giou = box_losses(box[0, queries], target[objects])
        parts["class"] = parts["class"] + LOSS.class_weight * sigmoid_focal_loss(logit, truth, LOSS).sum() / 2
        parts["l1"] = parts["l1"] + LOSS.l1_weight * l1 / 2
        parts["giou"] = parts["giou"] + LOSS.giou_weight * giou / 2
    yes, no = denoising.positive, denoising.negative
    l1, giou = box_losses(denoising.boxes[yes], denoising.targets[yes])
    classes = LOSS.class_weight * sigmoid_focal_loss(logits, yes.float()[..., None], LOSS)[yes | no].sum()
    parts["denoise"] = (classes + LOSS.l1_weight * l1 + LOSS.giou_weight * giou) / int(yes.sum())
    parts[""] = parts["class"] + parts["l1"] + parts["giou"] + parts["denoise"]
    for unsure in (None, [unsure_at()]):
        for name, value in CRITERION(output, [target], denoising, unsure).items():
            assert torch.equal(value, parts[name.removeprefix("loss").removeprefix("_")]), name


def test_unsure_positions_go_with_the_particles_through_every_augmentation():
    """Dots mark both kinds; after any augmentation they lie where the dots are, and no kind becomes the other."""
    rng = np.random.default_rng(5)
    pixels = np.full((140, 180), 0.01, np.float32)
    grid = np.stack(np.meshgrid(np.arange(12, 170, 24), np.arange(12, 130, 24)), -1).reshape(-1, 2)
    sure = rng.random(len(grid)) < 0.4
    for (x, y), one in zip(grid, sure, strict=True):
        pixels[y - 1 : y + 2, x - 1 : x + 2] = 9.0 if one else -9.0
    sample = Sample(pixels, grid.astype(float), np.full(len(grid), 16.0), sure)
    config = CONFIG.with_changes(
        {"augment.rotate_deg": 180, "augment.scale": 0.3, "augment.mosaic": 0.5, "augment.paste": 2, "augment.noise": 0}
        | {"augment.contaminants": 1, "augment.intensity": 0, "train.tile_px": 96}
    )
    seen = [0, 0]
    for step in range(30):
        drawn = draw_tile([sample, sample], step % 2, config, np.random.default_rng(step))
        inner = ((drawn.xy > 4) & (drawn.xy < 91)).all(1)
        for (x, y), one in zip(np.rint(drawn.xy[inner]).astype(int), drawn.is_sure[inner], strict=True):
            around = drawn.pixels[y - 1 : y + 2, x - 1 : x + 2]
            value = around.flat[np.abs(around).argmax()]
            if abs(value) > 1:  # not under a contaminant, or cut by a seam
                assert (value > 0) == one
                seen[int(one)] += 1
    assert min(seen) > 50


def test_batches_hold_unsure_positions_apart_and_none_without():
    pixels, xy = discs()
    sure = np.arange(len(xy)) % 3 == 0
    whole = Sample(pixels, xy, np.full(len(xy), 16.0))
    some = replace(whole, sure=sure)
    for step in range(4):
        one, other = batch([whole], CONFIG, step), batch([some], CONFIG, step)
        assert one.unsure is None
        assert other.unsure is not None
        assert torch.equal(one.images, other.images)
        for target, places, both in zip(other.targets, other.unsure, one.targets, strict=True):
            assert len(target) + len(places) == len(both)
            assert set(map(tuple, both.tolist())) == set(map(tuple, torch.cat([target, places[:, :4]]).tolist()))


def test_rejected_positions_have_a_weight_of_their_own():
    pixels, xy = discs()
    levels = np.arange(len(xy)).astype(np.int8) % 3 - 1
    config = CONFIG.with_changes({"loss.unsure_weight": 0.125, "loss.rejected_weight": 0.75})
    seen = {0.125: 0, 0.75: 0}
    for step in range(4):
        drawn = batch([Sample(pixels, xy, np.full(len(xy), 16.0), levels)], config, step)
        assert drawn.unsure is not None
        for places in drawn.unsure:
            for weight in places[:, 4].tolist():
                seen[weight] += 1
    assert min(seen.values()) > 2


Pairs = list[tuple[Particles, Particles]]


def scattered(n: int, precision: float, recall: float, share: float, seed: int = 0) -> Pairs:
    """Picks and partial labels of a picker whose scores run from true to false, at this precision and recall."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(4 * n)))
    places = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)[rng.permutation(side**2)] * 40.0
    found = round(n * recall)
    false = round(found * (1 - precision) / precision)
    rest = n - found
    # True picks score 1 to 0.3, the false ones 0.6 to 0.3; below lie what was missed, and much more that is false.
    score = np.concatenate([rng.uniform(0.3, 1, found), rng.uniform(0.02, 0.3, rest)])
    score = np.concatenate([score, rng.uniform(0.3, 0.6, false), rng.uniform(0.02, 0.3, 3 * n - n - false)])
    picks = Particles.of(places[: 3 * n], 20.0, score)
    labelled = rng.permutation(n)[: round(share * n)]
    return [(picks, Particles.of(places[labelled], 20.0))]


@pytest.mark.parametrize("share", [1.0, 0.3, 0.1])
@pytest.mark.parametrize(("precision", "recall"), [(0.9, 0.8), (0.7, 0.9)])
def test_partial_labels_choose_nearly_the_threshold_that_complete_ones_choose(share, precision, recall):
    n = 2000
    pairs = scattered(n, precision, recall, share)
    true = scattered(n, precision, recall, 1.0)
    row = partial_metrics(pairs, [True])
    real = curve(true)
    at = np.searchsorted(-real.thresholds, -row["threshold"])
    assert real.f1[at] > real.f1.max() - 0.02
    assert row["f1"] == pytest.approx(real.f1[at], abs=0.05)
    assert row["recall"] == pytest.approx(real.recall[at], abs=0.04)
    assert row["precision"] == pytest.approx(real.precision[at], abs=0.08)
    assert labelled_fraction(curve(pairs), round(share * n)) == pytest.approx(share, rel=0.15)


def test_few_partial_labels_choose_a_threshold_that_costs_little():
    """The lowest score to keep at the highest merit of 50 labels costs twice as much F1."""

    def drawn(n: int, share: float, rng: np.random.Generator) -> tuple[Particles, Particles]:
        hits = rng.random(n) < 0.75
        scores = 1 / (1 + np.exp(-rng.normal(np.where(hits, 0.0, -1.5))))
        xy = np.column_stack([np.arange(n) * 20.0, np.zeros(n)])
        return Particles.of(xy, 10.0, scores), Particles.of(xy[hits & (rng.random(n) < share)], 10.0)

    rng = np.random.default_rng(0)
    many = curve([drawn(20000, 1.0, rng)])
    lost = {"steady": [], "best": []}
    for _ in range(60):
        pairs = [drawn(700, 0.1, rng)]
        points = curve(pairs)
        merit = replace(points, f1=np.sqrt(points.precision * points.recall))
        for how, threshold in (
            ("steady", partial_metrics(pairs, [True])["threshold"]),
            ("best", best_threshold(merit)),
        ):
            at = np.searchsorted(-many.thresholds, -threshold)
            lost[how].append(many.f1.max() - many.f1[min(at, len(many.f1) - 1)])
    assert np.mean(lost["steady"]) < 0.015
    assert np.mean(lost["steady"]) < 0.7 * np.mean(lost["best"])


def test_f1_against_partial_labels_would_choose_badly():
    """The reason for all this: with a tenth of the labels, F1 prefers a handful of picks."""
    pairs, true = scattered(2000, 0.9, 0.8, 0.1), curve(scattered(2000, 0.9, 0.8, 1.0))
    naive = curve(pairs)
    threshold = naive.thresholds[naive.best or 0]
    assert true.f1[np.searchsorted(-true.thresholds, -threshold)] < true.f1.max() - 0.05


def test_merit_prefers_better_weights_whatever_their_scores():
    merits = [
        partial_metrics(scattered(800, p, r, 0.2), [True])["merit"]
        for p, r in ((0.6, 0.6), (0.7, 0.7), (0.8, 0.8), (0.9, 0.9))
    ]
    assert merits == sorted(merits)
    assert merits[-1] > 1.2 * merits[0]


def test_complete_labels_count_alone_where_there_are_any():
    partial, complete = scattered(300, 0.8, 0.8, 0.1, seed=1), scattered(300, 0.7, 0.9, 1.0, seed=2)
    row = partial_metrics([*partial, *complete], [True, False])
    threshold, expected = steady(complete)
    assert row["f1"] == row["merit"] == expected.f1
    assert row["threshold"] == threshold
    assert metrics_for([]) is None


def test_metrics_without_picks_or_hits_are_zero():
    nothing = partial_metrics([(Particles.of([]), Particles.of([[5.0, 5.0]], 20.0))], [True])
    assert nothing == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "threshold": 1.0, "merit": 0.0}
    astray = partial_metrics([(Particles.of([[500.0, 5.0]], 20.0, 0.5), Particles.of([[5.0, 5.0]], 20.0))], [True])
    assert (astray["f1"], astray["merit"]) == (0, 0)
    assert bounds(curve([(Particles.of([]), Particles.of([]))]), 0, CONFIG).unsure == math.inf


def test_bounds_follow_the_knobs_doubt_and_adopt():
    pairs = scattered(2000, 0.7, 0.9, 0.2)
    points, labels = curve(pairs), 400
    between = bounds(points, labels, CONFIG)
    assert between.sure == math.inf
    kept = points.thresholds >= between.unsure
    merit = points.precision * points.recall
    assert merit[kept][-1] >= 0.75 * merit.max() > merit[~kept].max() * 0.99
    adopting = bounds(points, labels, CONFIG.with_changes({"teacher.adopt": 0.9}))
    assert adopting.unsure == between.unsure < adopting.sure < 1
    true = curve(scattered(2000, 0.7, 0.9, 1.0))
    assert true.precision[true.thresholds >= adopting.sure][-1] == pytest.approx(0.9, abs=0.07)
    assert isinstance(estimated(points, labels), Curve)


def truth_of(seed: int = 0, **changes) -> LabelledMicrograph:
    pixels, xy = discs(seed)
    return LabelledMicrograph(Prepared(pixels, Frame(SHAPE, SHAPE), 16.0), Particles.of(xy, 16.0), **changes)


def test_strong_proposals_are_unsure_until_the_teacher_picks():
    truth = truth_of(partial=True)
    few = replace(truth, particles=truth.particles.select(np.arange(4)))
    whole = Region.inside(SHAPE, 0)
    start = training_region(few, whole, CONFIG).initial_sample()
    assert start.is_sure.sum() == 4
    missing = truth.particles.xy[4:]
    nearest = np.hypot(*(missing[:, None] - start.xy[~start.is_sure]).transpose(2, 0, 1)).min(1)
    assert (nearest < 4).mean() > 0.7
    known = few.particles.xy
    assert np.hypot(*(known[:, None] - start.xy[~start.is_sure]).transpose(2, 0, 1)).min() > 8
    assert training_region(few, whole, CONFIG.with_changes({"teacher.proposals": False})).initial_sample().is_sure.all()
    assert training_region(replace(few, partial=False), whole, CONFIG).initial_sample().sure is None


LABELLED = np.arange(1, 15, 3)
TEACHING = CONFIG.with_changes({"teacher.start_steps": 2, "teacher.every_steps": 2})


def partial_plan(folder: Path, config: Config = TEACHING, checks: bool = True):
    """Six steps on a micrograph of which a few particles are labelled, with a teacher."""
    truth = truth_of(partial=True)
    few = replace(truth, particles=truth.particles.select(LABELLED))
    held = truth_of(1, partial=True)
    looks = [ValidationMicrograph(held.prepared, held.particles.select(LABELLED), partial=True)] if checks else []
    teacher = PartialTeacher([training_region(few, Region.inside(SHAPE, 0), config)], looks, config, Ranks())
    return plan_of(
        folder, config, samples=teacher.samples, validation=looks, teacher=teacher, metrics=metrics_for(looks)
    )


class Oracle:
    """Replaces a network: finds all particles of `discs`, unlabelled ones with a lower score."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        monkeypatch.setattr("upicker.train.teacher.detect", self)

    def __call__(self, _model, prepared: Prepared, _config: Config) -> Particles:
        self.asked += 1
        seed = next(s for s in (0, 1) if np.array_equal(discs(s)[0], prepared.pixels))
        xy, nothing = discs(seed)[1] + 1.0, np.stack([np.linspace(5, 125, 10), np.full(10, 87.0)], 1)
        score = np.concatenate([np.linspace(0.9, 0.5, len(xy)), np.full(10, 0.1)])
        return Particles.of(np.concatenate([xy, nothing]), 15.0, score)


def test_the_teachers_picks_replace_the_proposals(tmp_path, monkeypatch):
    oracle, plan = Oracle(monkeypatch), partial_plan(tmp_path)
    trained(plan)
    (sample,) = plan.samples
    xy = discs()[1]
    assert oracle.asked == 2 * 2  # two looks at two micrographs
    np.testing.assert_allclose(sample.xy[sample.is_sure], xy[LABELLED])
    others = np.delete(xy, LABELLED, 0) + 1.0
    np.testing.assert_allclose(sample.xy[~sample.is_sure], others)  # and not the false ones, which cost too much
    assert (sample.side == 16.0).all()
    told = [(row["step"], row["sure"], row["unsure"]) for row in rows_of(plan) if row["unsure"]]
    assert told == [("3", "5", str(len(xy) - 5)), ("5", "5", str(len(xy) - 5))]


def test_confident_picks_become_labels_where_that_is_asked_for(tmp_path, monkeypatch):
    Oracle(monkeypatch)
    plan = partial_plan(tmp_path, TEACHING.with_changes({"teacher.adopt": 0.1}))
    trained(plan)
    assert plan.samples[0].is_sure.sum() > 5


def test_a_teacher_without_picks_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("upicker.train.teacher.detect", lambda *_: Particles.of([]))
    plan = partial_plan(tmp_path)
    before = plan.samples[0]
    trained(plan)
    assert plan.samples[0] is before


@pytest.mark.parametrize("at", [3, 4])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_resumed_training_with_a_teacher_equals_the_uninterrupted_one(tmp_path, monkeypatch, at, error):
    Oracle(monkeypatch)
    whole, _ = trained(partial_plan(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_compute_gradients", stop_before(loop._compute_gradients, at, error))
        with pytest.raises(error):
            trained(partial_plan(tmp_path / "cut"))
    plan = partial_plan(tmp_path / "cut")
    state, _ = trained(plan, resume=True)
    assert same(state.model.state_dict(), whole.model.state_dict())
    assert same(state.average.state_dict(), whole.average.state_dict())
    assert state.best == whole.best
    assert rows_of(plan) == rows_of(partial_plan(tmp_path / "whole"))


def stop_before(original, at: int, error: type[BaseException]):
    """The function, which raises when it is called for the `at`-th time."""
    calls = []

    def called(*args):
        calls.append(1)
        if len(calls) == at:
            raise error
        return original(*args)

    return called


def test_a_teacher_without_validation_uses_the_training_labels(tmp_path, monkeypatch):
    oracle, plan = Oracle(monkeypatch), partial_plan(tmp_path, checks=False)
    trained(plan)
    assert oracle.asked == 2
    assert not plan.samples[0].is_sure.all()


SETTINGS = [word for key, value in TOY.items() for word in ("--set", f"{key}={value}")]
ASKING = ["--set", "teacher.start_steps=1", "--set", "teacher.every_steps=2"]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Three micrographs, of whose five particles two are labelled; curves are not drawn."""
    for seed in range(3):
        micrograph(tmp_path / "mics" / f"m{seed}.mrc", seed)
        coordinates.write(tmp_path / "labels" / f"m{seed}.csv", Particles.of(CENTRES[[0, 3]], DIAMETER), "csv")
    monkeypatch.setattr("upicker.train.stage._draw", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_takes_labels_for_partial(project, capsys):
    args = ("finetune", "mics", "--labels", "labels", "--validation", 0.4, *SETTINGS, *ASKING)
    code, out, err = upicker(capsys, *args, "--partial", "-o", "p.safetensors")
    assert code == 0, err
    assert "on 3 of 3 micrographs" in out
    assert "no validation labels are complete" in out
    with Path("p.log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["unsure"]] == ["2", "4"]
    code, out, _ = upicker(capsys, *args, "-o", "c.safetensors")
    assert code == 0
    assert "no validation labels are complete" not in out
    assert Path("c.safetensors").read_bytes() != Path("p.safetensors").read_bytes()


@pytest.mark.parametrize(("partial", "learned", "checked"), [(True, 6, 6), (False, 3, 3)])
def test_partial_labels_are_all_trained_and_validated_on(project, monkeypatch, partial, learned, checked):
    """Of complete ones, those of the lowest rows are held back."""
    plans, begin = [], loop.initial_state
    monkeypatch.setattr(
        loop, "initial_state", lambda model, plan, resume: plans.append(plan) or begin(model, plan, resume)
    )
    mics = sorted((project / "mics").iterdir())
    job = Job(project / "m.safetensors", Config().with_changes({**TOY, "teacher.start_steps": 99}))
    assert stages.finetune(mics, project / "labels", job, validation=0.4, partial=partial).f1 is not None
    known = [one.xy[one.is_sure] for one in plans[0].samples]
    assert sum(map(len, known)) == learned
    assert sum(len(check.pair(check.labels)[1]) for check in plans[0].validation) == checked


@pytest.mark.parametrize(
    ("labels", "changes", "steps"),
    [(5, {}, 100), (50, {}, 100), (80, {}, 160), (700, {}, 300), (50, {"train.steps_per_label": None}, 300)],
)
def test_few_partial_labels_are_shown_less_often(labels, changes, steps):
    config = Config().with_changes({"train.finetune_steps": 300, **changes})
    assert steps_for(labels, config.train) == steps


def test_offline_copies_are_refused():
    config = CONFIG.with_changes({"augment.offline": 2})
    with pytest.raises(ConfigError, match=r"augment\.offline"):
        PartialTeacher([], [], config, Ranks())


def test_a_region_without_unsure_positions_gives_a_plain_sample():
    truth = truth_of()
    assert TrainingRegion(truth.prepared, truth.particles).initial_sample().sure is None
