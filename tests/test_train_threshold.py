"""The stored threshold rests on what was held back and on what was learned from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planted import CONFIG as DOTS
from planted import Dots, dotted
from test_train_stages import CONFIG, DIAMETER, data, mics, no_curves, pretrained  # noqa: F401 (fixtures)

from upicker.calibration import from_labels
from upicker.geometry import Frame
from upicker.image.prepare import Prepared
from upicker.model import weights
from upicker.particles import Particles
from upicker.pick.detection import detect, detect_in_views
from upicker.pick.picker import Picker
from upicker.scoring import pooled, score, steady
from upicker.train import threshold
from upicker.train.job import Job
from upicker.train.stages import finetune
from upicker.train.validation import ValidationMicrograph


def found(labels: int, weakest: float, noise: float) -> tuple[Particles, Particles]:
    """All labels found, the last one with a score of `weakest`; and as many false picks up to a score of `noise`."""
    xy = np.column_stack([np.arange(labels) * 30.0, np.zeros(labels)])
    scores = np.concatenate([np.linspace(0.9, weakest, labels), np.linspace(0.01, noise, labels)])
    picks = Particles.of(np.concatenate([xy, xy + np.array([0, 500])]), 20.0, scores)
    return picks, Particles.of(xy, 20.0)


def weaker(pair: tuple[Particles, Particles], views: int) -> tuple[Particles, Particles]:
    """Picks whose scores depend on the number of views; with four as they are."""
    picks, labels = pair
    return replace(picks, score=picks.score * (1 - 0.02 * (views - 4))), labels


@pytest.mark.parametrize("places", [(0, 1), (1, 0)])
def test_it_is_that_of_all_labels_and_the_figures_are_of_those_held_back(pretrained, tmp_path, monkeypatch, places):  # noqa: F811
    path = tmp_path / "copy.safetensors"
    path.write_bytes(pretrained.read_bytes())
    pairs = [found(8, 0.05, 0.1), found(200, 0.5, 0.4)]
    pictures = [Prepared(np.zeros((9, 9), np.float32), Frame((9, 9), (9, 9)), 20.0) for _ in pairs]
    one, other = (ValidationMicrograph(pictures[place], pairs[place][1]) for place in places)
    of = {id(picture): pair for picture, pair in zip(pictures, pairs, strict=True)}
    monkeypatch.setattr(
        ValidationMicrograph,
        "pick_in_views",
        lambda one, network, config, numbers: [weaker(of[id(one.prepared)], views) for views in numbers],
    )
    row = threshold.choose_again(path, [one], [other], CONFIG.with_changes({"pick.views": 4}))
    before, after = weights.read_header(pretrained), weights.read_header(path)

    def probability(score: float, views: int) -> float:
        return float(after.curves[views].probability(np.array([score]))[0])

    chosen = steady(pairs)[0]
    assert row["threshold"] == pytest.approx(probability(chosen, 4))
    assert 0.35 < chosen < 0.55, "where the many labels say, whichever of them were held back"
    held = score([pairs[places[0]]], threshold=chosen)
    assert (row["precision"], row["recall"], row["f1"]) == (held.precision, held.recall, held.f1)
    assert after == replace(before, **row, thresholds=after.thresholds, calibrations=after.calibrations)
    for views in (1, 2, 4, 8):
        scores, hit = pooled([weaker(pair, views) for pair in pairs])
        curve, expected = after.curves[views], from_labels(scores, hit)
        assert expected is not None
        assert (curve.slope, curve.offset) == pytest.approx((expected.slope, expected.offset)), views
        expected = probability(steady([weaker(pair, views) for pair in pairs])[0], views)
        assert after.thresholds[str(views)] == pytest.approx(expected), views
    assert after.threshold == after.thresholds["4"], "of the usual number of views"
    for views, stored in [(1, "1"), (2, "2"), (3, "4"), (5, "4"), (8, "8"), (None, "4")]:
        assert Picker(path, {"pick.views": views}).threshold == after.thresholds[stored], views
    assert all(v.equal(weights.read_tensors(path)[k]) for k, v in weights.read_tensors(pretrained).items())


def test_fine_tuning_with_few_micrographs_stores_it(data: Path, tmp_path, monkeypatch):  # noqa: F811
    asked = []
    real = threshold.choose_again

    def noted(path, validation, training, *others):
        asked.append((len(validation), len(training), weights.read_header(path).threshold))
        return real(path, validation, training, *others)

    monkeypatch.setattr(threshold, "choose_again", noted)
    job = Job(tmp_path / "m.safetensors", CONFIG)
    result = finetune(mics(data, 2), data / "labels", job, diameter=DIAMETER, validation=0.4)
    [(validated, trained, before)] = asked
    assert (validated, trained) == (2, 2)
    header = weights.read_header(job.output)
    assert (header.threshold, header.f1) == (result.threshold, result.f1)
    assert before is not None
    assert set(header.thresholds) == {"1", "2", "4", "8"}
    # Not held back: there are no metrics, so nothing is stored.
    assert finetune(mics(data, 2), data / "labels", job, diameter=DIAMETER, validation=0.0).threshold is None
    assert len(asked) == 1


def test_each_view_is_shown_to_the_network_once_for_all_numbers_of_views():
    image = dotted((64, 64), np.array([[30, 31]]), np.array([0.8]))
    config, shown = DOTS.with_changes({"pick.views": 4}), []

    def network(tiles):
        shown.append(len(tiles))
        return Dots()(tiles)

    found = detect_in_views(network, image, config, [1, 2, 4, 8])
    assert sum(shown) == 8
    for views, picks in zip((1, 2, 4, 8), found, strict=True):
        alone = detect(Dots(), image, config.with_changes({"pick.views": views}))
        np.testing.assert_array_equal(picks.xy, alone.xy)
        np.testing.assert_array_equal(picks.score, alone.score)


def test_with_many_micrographs_eight_views_are_seen_of_the_few_with_the_most_labels(pretrained, tmp_path, monkeypatch):  # noqa: F811
    path = tmp_path / "copy.safetensors"
    path.write_bytes(pretrained.read_bytes())
    asked = {}

    def noted(one, network, config, numbers):
        asked[len(one.labels)] = list(numbers)
        return [found(len(one.labels), 0.5, 0.4)] * len(numbers)

    monkeypatch.setattr(ValidationMicrograph, "pick_in_views", noted)
    picture = Prepared(np.zeros((9, 9), np.float32), Frame((9, 9), (9, 9)), 20.0)
    held = [ValidationMicrograph(picture, found(labels, 0.5, 0.4)[1]) for labels in range(3, 12)]
    threshold.choose_again(path, held, [], CONFIG.with_changes({"pick.views": 2}))
    assert asked == {labels: [2] if labels < 6 else [1, 2, 4, 8] for labels in range(3, 12)}


@pytest.mark.parametrize("usual", [2, 3])
def test_the_threshold_of_the_usual_number_of_views_is_the_stored_one(pretrained, tmp_path, monkeypatch, usual):  # noqa: F811
    """It is chosen on all micrographs, those of other numbers on few; and a config may ask for any number."""
    path = tmp_path / "copy.safetensors"
    path.write_bytes(pretrained.read_bytes())
    monkeypatch.setattr(
        ValidationMicrograph,
        "pick_in_views",
        lambda one, network, config, numbers: [
            weaker(found(len(one.labels), 0.3 + 0.03 * len(one.labels), 0.2), views) for views in numbers
        ],
    )
    picture = Prepared(np.zeros((9, 9), np.float32), Frame((9, 9), (9, 9)), 20.0)
    held = [ValidationMicrograph(picture, found(labels, 0.5, 0.4)[1]) for labels in range(3, 12)]
    row = threshold.choose_again(path, held, [], CONFIG.with_changes({"pick.views": usual}))
    assert Picker(path, {"pick.views": usual}).threshold == row["threshold"]
    assert Picker(path).threshold == row["threshold"]
    assert {"1", "2", "4", "8"} <= set(weights.read_header(path).thresholds)


@pytest.mark.parametrize(("partial", "calibrate"), [(True, True), (False, False)])
def test_labels_that_are_no_whole_truth_make_no_probabilities(pretrained, tmp_path, monkeypatch, partial, calibrate):  # noqa: F811
    path = tmp_path / "copy.safetensors"
    path.write_bytes(pretrained.read_bytes())
    pair = found(60, 0.5, 0.6)
    monkeypatch.setattr(ValidationMicrograph, "pick_in_views", lambda *given: [pair for _ in given[-1]])
    picture = Prepared(np.zeros((9, 9), np.float32), Frame((9, 9), (9, 9)), 20.0)
    held = [ValidationMicrograph(picture, pair[1], partial=partial)]
    row = threshold.choose_again(path, held, [], CONFIG.with_changes({"pick.views": 2}), calibrate=calibrate)
    header = weights.read_header(path)
    assert header.calibrations == {}
    assert row["threshold"] == header.threshold
