"""Laws of matching and scoring, with independent scorers as oracles: tests/scorer.py, and that of ../shared."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scorer
from hypothesis import given, settings
from hypothesis import strategies as st

from upicker import scoring
from upicker.errors import ConfigError
from upicker.geometry import iou_squares
from upicker.particles import Particles


def arrays(picks: Particles, labels: Particles, side: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The scorer's form of picks and labels."""
    diameter = labels.diameter_px if side is None else np.full(len(labels), side)
    return np.column_stack([picks.xy, picks.score]), np.column_stack([labels.xy, diameter])


def crowd(seed: int, picks: int, labels: int, span: float = 120.0) -> tuple[Particles, Particles]:
    rng = np.random.default_rng(seed)
    truth = Particles.of(rng.uniform(0, (span, span / 2), (labels, 2)), rng.uniform(15, 25, labels))
    return Particles.of(rng.uniform(0, (span, span / 2), (picks, 2)), 20, rng.uniform(size=picks)), truth


@pytest.mark.parametrize("by", scoring.CRITERIA)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 40), st.integers(0, 40))
def test_matching_agrees_with_the_scorer(by, seed, n, m):
    picks, labels = crowd(seed, n, m)
    for side in (None, 20.0):
        expected = scorer.match(*arrays(picks, labels, side), by)
        assert scoring.match(picks, labels, side, by).label.tolist() == expected


def test_ties_and_twins_agree_with_the_scorer():
    rng = np.random.default_rng(5)
    xy = rng.integers(0, 12, (60, 2)) * 3.0  # a coarse lattice: many equal positions, distances and scores
    picks = Particles.of(xy[:35], 20, rng.integers(0, 3, 35))
    labels = Particles.of(xy[35:], 20)
    for by in scoring.CRITERIA:
        expected = scorer.match(*arrays(picks, labels), by)
        assert scoring.match(picks, labels, by=by).label.tolist() == expected


def test_an_overlap_of_exactly_one_half_is_a_match():
    labels = Particles.of([[0, 0]], 30)
    for dx, hit in ((10, True), (10.001, False)):  # (30 - 10) * 30 / (2 * 900 - 600) = 1/2
        assert scoring.match(Particles.of([[dx, 0]]), labels).hit.tolist() == [hit]
    for dx, hit in ((15, True), (15.001, False)):
        assert scoring.match(Particles.of([[0, dx]]), labels, by="centre").hit.tolist() == [hit]


def test_the_stronger_pick_comes_first_and_labels_are_used_once():
    labels = Particles.of([[50, 20], [90, 20]], 20)
    picks = Particles.of([[51, 20], [50, 20], [300, 20]], 20, [0.9, 0.5, 0.7])
    matches = scoring.match(picks, labels)
    assert matches.label.tolist() == [0, -1, -1]
    assert matches.hit.tolist() == [True, False, False]
    assert matches.missed.tolist() == [False, True]


def test_the_work_grows_with_the_neighbours_not_with_all_pairs(monkeypatch):
    compared = []
    monkeypatch.setattr(scoring, "iou_squares", lambda *args: compared.append(len(args[0])) or iou_squares(*args))
    for side in (1, 2):
        picks, labels = crowd(1, 1000 * side, 1000 * side, 4000.0 * side**0.5)  # as crowded, twice the area
        scoring.match(picks, labels)
    # A disc of half a diameter holds pi 12.5^2 / (4000 * 2000 / 1000) = 6 % of a label.
    assert len(compared) == 2
    assert all(count < 0.1 * labels for count, labels in zip(compared, (1000, 2000), strict=True))


def test_figures_of_a_case_counted_by_hand():
    labels = Particles.of([[10, 10], [50, 10], [90, 10], [130, 10]], 20)
    picks = Particles.of([[10, 10], [200, 10], [51, 11], [220, 10], [91, 10]], 20, [0.9, 0.8, 0.7, 0.6, 0.5])
    found = scoring.score([(picks, labels)], threshold=0.65)
    assert (found.precision, found.recall, found.f1) == pytest.approx((2 / 3, 2 / 4, 4 / 7))
    assert (found.picks, found.labels, found.micrographs, found.by) == (3, 4, 1, "iou")
    assert (found.best_f1, found.best_precision, found.best_recall) == pytest.approx((6 / 9, 3 / 5, 3 / 4))
    assert found.best_threshold == 0.5  # nothing lower is known
    assert found.average_precision == pytest.approx((1 + 2 / 3 + 3 / 5) / 4)


def test_pooling_counts_all_micrographs_together():
    rich, poor = crowd(2, 30, 20), crowd(3, 5, 10)
    both = scoring.score([rich, poor])
    hits = sum(int(scoring.match(*pair).hit.sum()) for pair in (rich, poor))
    assert hits > 0
    assert both.precision == pytest.approx(hits / 35)
    assert both.recall == pytest.approx(hits / 30)
    assert both.micrographs == 2


def test_the_best_threshold_gives_the_best_f1_and_stands_between_two_scores():
    pairs = [crowd(seed, 40, 30) for seed in range(5)]
    found = scoring.score(pairs)
    assert scoring.score(pairs, threshold=found.best_threshold).f1 == found.best_f1
    scores = np.concatenate([picks.score for picks, _ in pairs])
    lowest, below = scores[scores >= found.best_threshold].min(), scores[scores < found.best_threshold].max()
    assert found.best_threshold == pytest.approx((lowest + below) / 2)


def test_a_threshold_between_neighbouring_floats_keeps_the_better_one():
    high = np.float64(0.7)
    points = scoring.Curve(np.array([high, np.nextafter(high, 0)]), *np.array([[1, 0.5], [1, 1], [1, 0.6]]))
    assert scoring.best_threshold(points) == high


def test_equal_scores_are_kept_or_dropped_together():
    labels = Particles.of([[10, 10], [50, 10]], 20)
    picks = Particles.of([[10, 10], [90, 10], [50, 10], [200, 10]], 20, [1, 1, 1, 0.5])
    for order in ([0, 1, 2, 3], [1, 2, 0, 3], [3, 2, 1, 0]):
        points = scoring.curve([(picks.select(np.array(order)), labels)])
        assert points.thresholds.tolist() == [1, 0.5]
        np.testing.assert_allclose(points.precision, [2 / 3, 2 / 4])
        np.testing.assert_allclose(points.recall, [1, 1])
        assert points.average_precision == pytest.approx(2 / 3)


@pytest.mark.parametrize("by", scoring.CRITERIA)
def test_every_point_of_the_curve_is_the_score_at_its_threshold(by):
    pairs = [crowd(seed, 15, 12) for seed in range(3)]
    points = scoring.curve(pairs, by=by)
    assert (np.diff(points.thresholds) < 0).all()
    for t, *figures in zip(points.thresholds, points.precision, points.recall, points.f1, strict=True):
        found = scoring.score(pairs, by=by, threshold=t)
        assert [found.precision, found.recall, found.f1] == pytest.approx(figures)


def test_nothing_picked_or_nothing_labelled_is_nought_and_no_error():
    some, none = Particles.of([[10, 10]], 20), Particles.of([])
    for picks, labels in ((none, none), (some, none), (none, some)):
        found = scoring.score([(picks, labels)])
        assert (found.precision, found.recall, found.f1, found.best_f1, found.average_precision) == (0,) * 5
        assert (found.picks, found.labels) == (len(picks), len(labels))
    assert scoring.score([]).micrographs == 0
    assert scoring.score([(none, some)]).best_threshold == np.inf
    assert scoring.match(none, some).missed.tolist() == [True]


def test_an_empty_picture_among_others_costs_precision_only():
    labels = Particles.of([[10, 10]], 20)
    found = scoring.score([(labels, labels), (Particles.of([[5, 5]], 20), Particles.of([]))])
    assert (found.precision, found.recall) == (0.5, 1.0)


def test_errors_name_the_option():
    some = Particles.of([[10, 10]])
    with pytest.raises(ConfigError, match="--diameter"):
        scoring.match(some, some)
    with pytest.raises(ConfigError, match="must be positive, found 0px"):
        scoring.score([(some, some)], side_px=0)
    with pytest.raises(ConfigError, match="unknown criterion 'ious'"):
        scoring.score([(some, some)], side_px=20, by="ious")


def write_csv(path: Path, particles: Particles) -> None:
    rows = [f"{x!r},{y!r},{s!r}" for (x, y), s in zip(particles.xy.tolist(), particles.score.tolist(), strict=True)]
    path.write_text("\n".join(["x,y,score", *rows]) + "\n")


def independent(shared: Path, folder: Path, pairs: list, side: float, by: str, threshold: float) -> list[float]:
    for kind in (0, 1):
        (folder / str(kind)).mkdir(exist_ok=True)
        for k, pair in enumerate(pairs):
            write_csv(folder / str(kind) / f"m{k}.csv", pair[kind])
    command = [sys.executable, shared / "tools" / "score.py", folder / "1", folder / "0", "--diameter", side]
    command += ["--by", by, "--threshold", threshold]
    out = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=True).stdout
    number = r"(-?[\d.]+)"
    pattern = f"P {number} R {number} F1 {number}; best F1 {number} .P {number} R {number} at.*AP {number}"
    match = re.search(pattern, out)
    assert match, out
    return [float(value) for value in match.groups()]


def figures(found: scoring.Score) -> list[float]:
    best = [found.best_f1, found.best_precision, found.best_recall]
    return [found.precision, found.recall, found.f1, *best, found.average_precision]


def jittered(labels: Particles, side: float, seed: int) -> Particles:
    """Picks as a fair picker gives them: most near labels, with scores that tell a little."""
    rng = np.random.default_rng(seed)
    near = labels.xy[rng.uniform(size=len(labels)) < 0.9]
    near = near + rng.normal(0, side / 7, near.shape)
    far = rng.uniform(labels.xy.min(0), labels.xy.max(0), (len(labels) // 3, 2))
    score = np.concatenate([rng.normal(1, 0.5, len(near)), rng.normal(0, 0.5, len(far))])
    return Particles.of(np.concatenate([near, far]), side, score)


@pytest.mark.parametrize("by", scoring.CRITERIA)
def test_agreement_with_the_independent_scorer_on_random_crowds(shared, tmp_path, by):
    pairs = [crowd(seed, 60, 50) for seed in range(4)]
    expected = independent(shared, tmp_path, pairs, 21.0, by, 0.4)
    assert figures(scoring.score(pairs, 21.0, by, 0.4)) == pytest.approx(expected, abs=5.1e-4)


@pytest.mark.parametrize("by", scoring.CRITERIA)
@pytest.mark.parametrize(("folder", "side"), [("empiar10017", 108.0), ("apoferritin", 72.0), ("proteasome20s", 24.0)])
def test_agreement_with_the_independent_scorer_on_real_labels(shared, tmp_path, folder, side, by):
    files = sorted((shared / "data" / folder / "coords").glob("*.csv"))[:4]
    labels = [Particles.of(np.loadtxt(file, delimiter=",", skiprows=1, ndmin=2)[:, :2], side) for file in files]
    pairs = [(jittered(truth, side, k), truth) for k, truth in enumerate(labels)]
    expected = independent(shared, tmp_path, pairs, side, by, 0.3)
    found = scoring.score(pairs, side, by, 0.3)
    assert 0.3 < found.f1 < 1
    assert figures(found) == pytest.approx(expected, abs=5.1e-4)


def scored_at(hits: np.ndarray, scores: np.ndarray, missed: int) -> list[tuple[Particles, Particles]]:
    """Picks along a line, some on their labels, and labels that none finds."""
    x = 100.0 * np.arange(len(scores) + missed)
    xy = np.stack([x, 0 * x], 1)
    labelled = np.append(hits, np.ones(missed, bool))
    return [(Particles.of(xy[: len(scores)], 20.0, scores), Particles.of(xy[labelled], 20.0))]


def test_a_steady_threshold_stands_in_the_middle_of_what_the_labels_leave_open():
    scores = np.concatenate([np.linspace(0.99, 0.6, 50), np.linspace(0.1, 0.02, 50)])
    pairs = scored_at(np.arange(100) < 50, scores, 0)
    threshold, result = scoring.steady(pairs)
    assert 0.2 < threshold < 0.55
    assert (result.precision, result.recall, result.f1) == (1.0, 1.0, 1.0)
    turned = [(picks.select(picks.score > 0.05), labels) for picks, labels in pairs]
    assert scoring.steady(turned)[0] == pytest.approx(threshold, abs=0.02)


def test_a_steady_threshold_varies_less_than_the_best_one_and_costs_little():
    rng = np.random.default_rng(0)

    def draw(count: int) -> list[tuple[Particles, Particles]]:
        hits = rng.random(count) < 0.6
        scores = 1 / (1 + np.exp(-rng.normal(np.where(hits, 1.0, -1.5), 1.2)))
        return scored_at(hits, scores, count // 50)

    many = draw(20000)
    best = scoring.score(many).best_f1
    found = {"best": [], "steady": []}
    for _ in range(60):
        few = draw(150)
        found["best"].append(scoring.score(few).best_threshold)
        found["steady"].append(scoring.steady(few)[0])
    lost = {how: [best - scoring.score(many, threshold=t).f1 for t in of] for how, of in found.items()}
    assert np.std(found["steady"]) < 0.8 * np.std(found["best"])
    assert np.mean(lost["steady"]) < 0.8 * np.mean(lost["best"])
    assert np.mean(lost["steady"]) < 0.01


def test_without_picks_nothing_is_kept():
    none = Particles.of([])
    threshold, result = scoring.steady([(none, Particles.of([(1, 2)], 5))])
    assert threshold == np.inf
    assert (result.picks, result.f1) == (0, 0)
