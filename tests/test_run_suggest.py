"""Which micrographs are worth labelling: calibration of scores, uncertainty, ranking, and which are ranked at all."""

from pathlib import Path

import numpy as np
import pytest

from upicker.calibration import Calibration, expected_error, from_labels, from_threshold
from upicker.errors import CoordinatesError, InputError
from upicker.io import coordinates
from upicker.io.coverage import FILE
from upicker.io.labels import Labelled
from upicker.particles import Particles
from upicker.run import ranking
from upicker.run.ranking import Detected, Ranking, Suggestion, assess, calibrating_on, ranked
from upicker.run.suggest import divide

# Scores are probabilities.
IDENTITY = Calibration(1.0, 0.0)
PATH = Path("a.mrc")


def assessed(*scores: float) -> Suggestion:
    return assess(PATH, np.array(scores), IDENTITY)


def test_uncertainty_is_largest_where_a_pick_could_be_either_and_zero_where_all_is_clear():
    assert assessed(0.5, 0.5, 0.5).uncertainty == pytest.approx(3.0)
    assert [assessed(score).uncertainty for score in (1 / 3, 2 / 3)] == pytest.approx([8 / 9, 8 / 9])
    some = assessed(0.2, 0.3, 0.5, 0.7, 0.8, 0.95, 0.05)
    assert (some.uncertain, some.candidates) == (3, 6)
    assert some.expected == pytest.approx(0.2 + 0.3 + 0.5 + 0.7 + 0.8 + 0.95)
    clear = assessed(0.99, 0.97, *[0.021] * 400)
    assert (clear.uncertainty, clear.candidates, clear.uncertain) == (0.0, 2, 0)
    assert assessed().candidates == 0


@pytest.mark.parametrize("labelled", [False, True])
def test_clear_scores_rank_below_scores_at_the_threshold(labelled):
    """Whatever the number of detections, with and without a fitted calibration."""
    threshold, rng = 0.35, np.random.default_rng(5)
    found = Ranking(threshold)
    if labelled:
        score = rng.uniform(0.05, 0.65, 400)
        found.add(Detected(Path("known.mrc"), score, rng.random(400) < Calibration(20.0, 12.4).probability(score)))
        assert found.fitted is not None
    for name, n in (("few", 5), ("many", 300)):
        found.add(Detected(Path(f"clear_{name}.mrc"), np.concatenate([np.full(n, 0.9), np.full(3 * n, 0.02)])))
        found.add(Detected(Path(f"at_threshold_{name}.mrc"), rng.normal(threshold, 0.01, n)))
    names = [one.micrograph.stem for one in found.suggestions()]
    assert {name.rpartition("_")[0] for name in names[:2]} == {"at_threshold"}
    assert {name.rpartition("_")[0] for name in names[2:]} == {"clear"}


def test_a_calibration_finds_the_curve_that_scores_were_drawn_from():
    rng = np.random.default_rng(3)
    score = rng.uniform(0.2, 0.6, 20_000)  # a narrow range, as detection networks have it
    truth = Calibration(5.0, 2.5)
    hit = rng.random(len(score)) < truth.probability(score)
    found = from_labels(score, hit)
    assert found is not None
    assert (found.slope, found.offset) == pytest.approx((5.0, 2.5), rel=0.05)
    assert np.abs(found.probability(score) - truth.probability(score)).max() < 0.02


def test_a_calibration_needs_right_and_wrong_detections_in_the_right_order():
    score, hit = np.linspace(0.1, 0.9, 60), np.arange(60) >= 30
    assert from_labels(score, hit) is not None  # no step, though a threshold separates them
    assert from_labels(score, np.arange(60) >= 51) is None
    assert from_labels(score, np.arange(60) >= 9) is None
    assert from_labels(score, ~hit) is None


def test_without_labels_the_threshold_is_one_half_and_the_usual_pick_is_sure():
    score = np.array([0.05, 0.1, 0.3, 0.4, 0.5, 0.6, 0.7])
    found = from_threshold(score, 0.3)
    assert found.probability(np.array([0.3, 0.5])) == pytest.approx([0.5, 0.9])
    assert np.all(np.diff(found.probability(score)) > 0)
    assert from_threshold(np.array([0.1]), 0.3).probability(np.array([0.3])) == pytest.approx([0.5])


def test_the_micrographs_with_most_labels_calibrate():
    counts = [(3, False), (9, True), (9, False), (0, False), (7, False)]
    labelled = [Labelled(Path(f"m{i}"), Path(f"m{i}.csv"), n, partial) for i, (n, partial) in enumerate(counts)]
    assert [one.path.name for one in calibrating_on(labelled, 2)] == ["m2", "m4"]


def test_the_most_uncertain_comes_first_whatever_its_size():
    def one(name: str, uncertainty: float, candidates: int) -> Suggestion:
        return Suggestion(Path(name), 0, candidates, 0.0, uncertainty)

    def names(*found: Suggestion) -> list[str]:
        return [each.micrograph.name for each in ranked(found)]

    crowded, doubtful, empty = one("crowded", 40, 400), one("doubtful", 38, 100), one("empty", 2, 2)
    assert names(empty, crowded, doubtful) == ["doubtful", "crowded", "empty"]
    assert names() == []
    assert names(one("b", 0, 0), one("a", 0, 0)) == ["a", "b"]


def test_a_ranking_reads_back(tmp_path):
    found = ranked([Suggestion(Path(f"in/{name}.mrc"), 3, 9, 4.25, 3.5) for name in ("a, b", "größe", "caf\udce9")])
    ranking.write(tmp_path / "r.csv", found)
    again = ranking.read(tmp_path / "r.csv")
    assert [one.micrograph for one in again] == [one.micrograph for one in found]
    assert [(one.uncertain, one.candidates, one.uncertainty) for one in again] == [(3, 9, 3.5)] * 3
    assert [one.score for one in again] == pytest.approx([one.score for one in found], abs=1e-4)
    assert ranking.read(tmp_path / "none.csv") == []
    for content in (b"", b"rank,micrograph\n1,a.mrc\n", b"nonsense\nin,it\n", (tmp_path / "r.csv").read_bytes()[:-40]):
        (tmp_path / "bad.csv").write_bytes(content)
        assert len(ranking.read(tmp_path / "bad.csv")) <= 3


def test_completely_labelled_micrographs_calibrate_and_are_not_ranked(tmp_path):
    paths = [tmp_path / f"mic{number}.mrc" for number in range(9)]
    labels = tmp_path / "labels"
    labels.mkdir()
    for number, count in enumerate((3, 8, 5, 7, 6, 4, 0, 0)):
        coordinates.write(labels / f"mic{number}.csv", Particles.of(np.arange(2.0 * count).reshape(-1, 2), 20), "csv")
    (labels / FILE).write_text(
        "name,coverage,x0,y0,x1,y1\nmic3,partial,,,,\nmic4,complete,1,2,3,4\nmic7,complete,,,,\n"
    )
    calibrating, rest = divide(paths, labels)
    # Of the completely labelled 0, 1, 2, 5 and 7, the last has no labels to calibrate on.
    assert calibrating == {paths[n]: labels / f"mic{n}.csv" for n in (1, 2, 5, 0)}
    assert rest == [paths[n] for n in (3, 4, 6, 8)]
    assert divide(paths, None) == ({}, paths)
    with pytest.raises(InputError, match="completely labelled"):
        divide(paths[:3], labels)
    (labels / FILE).write_text("name,coverage\nmic99,partial\n")
    with pytest.raises(CoordinatesError, match="mic99"):
        divide(paths, labels)


def test_the_expected_calibration_error_is_the_mean_distance_between_probability_and_frequency():
    sure = np.array([0.05, 0.05, 0.95, 0.95])
    assert expected_error(sure, sure > 0.5) == pytest.approx(0.05)
    hit = np.array([True, False, False, False, True])
    assert expected_error(np.array([0.2, 0.2, 0.2, 0.2, 1.0]), hit) == pytest.approx(0.8 * 0.05)
    rng = np.random.default_rng(0)
    probability = rng.random(20000)
    hit = rng.random(20000) < probability
    assert expected_error(probability, hit) < 0.015
    assert expected_error(probability**2, hit) > 0.1
    assert expected_error(np.empty(0), np.empty(0, bool)) == 0


def test_weights_of_the_detections_count_as_repetitions_would():
    rng = np.random.default_rng(1)
    score = rng.random(300)
    hit = rng.random(300) < score
    weight = np.where(np.arange(300) < 100, 3.0, 1.0)
    often = np.repeat(np.arange(300), weight.astype(int))
    weighted, repeated = from_labels(score, hit, weight), from_labels(score[often], hit[often])
    assert weighted.slope == pytest.approx(repeated.slope, rel=0.02)
    assert weighted.offset == pytest.approx(repeated.offset, abs=0.02)
