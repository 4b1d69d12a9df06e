"""The estimated share of false picks: laws of the estimate, and what is found where there is nothing but chance."""

import numpy as np
import planted
import pytest

from upicker.geometry import Frame
from upicker.image.prepare import Prepared
from upicker.pick.decoys import Chance, negated
from upicker.pick.detection import detect


def drawn(seed: int, true: int, false: int) -> tuple[Chance, np.ndarray, np.ndarray]:
    """Picks of which `false` are drawn as decoys are; return their scores and which are true, too."""
    rng = np.random.default_rng(seed)
    score = np.concatenate([rng.beta(6, 3, true), rng.beta(2, 6, false)])
    return Chance.of(score, rng.beta(2, 6, rng.poisson(false))), score, np.arange(true + false) < true


@pytest.mark.parametrize("fdr", [0.02, 0.05, 0.1, 0.2])
def test_the_true_share_of_false_picks_is_the_wanted_one(fdr):
    shares = []
    for seed in range(40):
        chance, score, is_true = drawn(seed, 900, 600)
        threshold = chance.threshold(fdr)
        assert threshold is not None
        shares.append(float(np.mean(~is_true[score >= threshold])))
    assert np.mean(shares) == pytest.approx(fdr, rel=0.15)


def test_the_estimate_never_rises_with_the_threshold_and_is_never_below_decoys_by_picks():
    chance, score, _ = drawn(1, 80, 200)
    thresholds = np.sort(np.append(np.linspace(0, 1.1, 200), score))
    estimate = chance.fdr(thresholds)
    assert np.all(np.diff(estimate) <= 0) or estimate[-1] == 1
    inside = thresholds <= score.max()
    assert np.all(np.diff(estimate[inside]) <= 0)
    assert np.all((estimate > 0) & (estimate <= 1))
    assert np.all(estimate[~inside] == 1), "there is no pick"
    picks, decoys = chance.counts(thresholds[inside])
    lowest = np.minimum.accumulate(np.minimum(1, (decoys + 1) / picks))
    np.testing.assert_array_less(estimate[inside] - 1e-12, lowest)


def test_the_threshold_is_the_lowest_one_with_the_wanted_estimate():
    chance, score, _ = drawn(2, 500, 300)
    threshold = chance.threshold(0.1)
    assert chance.fdr(threshold) <= 0.1
    assert threshold in score
    below = score[score < threshold].max()
    assert chance.fdr(below) > 0.1


def test_a_few_picks_without_a_decoy_are_not_certain():
    chance = Chance.of(np.linspace(0.5, 0.9, 10), np.empty(0))
    assert chance.fdr(0.5) == pytest.approx(0.1)
    assert chance.threshold(0.05) is None
    assert not chance.is_more


def test_equal_scores_are_kept_or_dropped_together():
    chance = Chance.of(np.repeat([0.2, 0.6], 50), np.repeat(0.2, 30))
    assert chance.threshold(0.05) == 0.6
    assert chance.fdr(0.2) == pytest.approx(0.31)
    assert chance.fdr(0.4) == chance.fdr(0.6) == pytest.approx(0.02)


def test_chance_alone_is_not_more_than_decoys():
    assert not any(drawn(seed, 0, 800)[0].is_more for seed in range(200))
    assert not Chance.of(np.empty(0), np.empty(0)).is_more
    assert drawn(0, 60, 400)[0].is_more


def test_a_micrograph_of_noise_has_as_many_decoys_as_picks_and_one_with_particles_has_more_picks():
    rng = np.random.default_rng(4)
    shape = (400, 500)
    noise = np.clip(rng.normal(0, 0.12, shape), -1, 1).astype(np.float32)
    at = rng.choice(noise.size, 150, replace=False)
    for pixels, is_more in (
        (noise, False),
        (noise + (np.bincount(at, minlength=noise.size) * 0.9).reshape(shape), True),
    ):
        prepared = Prepared(pixels.astype(np.float32), Frame(shape, shape), planted.DIAMETER)
        found = [detect(planted.Dots(), one, planted.CONFIG) for one in (prepared, negated(prepared))]
        chance = Chance.of(found[0].score, found[1].score)
        assert len(chance.decoys) > 100
        assert chance.is_more == is_more
    assert 100 < chance.counts(chance.threshold(0.05))[0] < 180


def test_negating_leaves_masked_areas_and_the_frame():
    pixels = np.array([[0, 1.5], [-2, 0]], np.float32)
    prepared = Prepared(pixels, Frame((2, 2), (2, 2)), 8.0, usable=np.array([[False, True], [True, True]]))
    found = negated(prepared)
    np.testing.assert_array_equal(found.pixels, -pixels)
    assert found.frame == prepared.frame
    assert found.usable is prepared.usable
    np.testing.assert_array_equal(prepared.pixels[0, 1], 1.5)
