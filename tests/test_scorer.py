"""`upicker.evaluate` against a scorer written from the definitions (tests/scorer.py), and that one against a count."""

import ast
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scorer
import starfile
from command_line import upicker as command
from hypothesis import given, settings
from hypothesis import strategies as st

import upicker
from upicker import scoring
from upicker.io import coordinates
from upicker.particles import Particles


def arrays(picks: Particles, labels: Particles) -> tuple[np.ndarray, np.ndarray]:
    return np.column_stack([picks.xy, picks.score]), np.column_stack([labels.xy, labels.diameter_px])


def figures(found: scoring.Score) -> scorer.Figures:
    best = (found.best_precision, found.best_recall, found.best_f1)
    return scorer.Figures(found.precision, found.recall, found.f1, *best, found.average_precision)


def agree(pairs: list[tuple[Particles, Particles]], by: str, threshold: float = -np.inf) -> scorer.Figures:
    """Compare the labels of all picks, and all figures; return them."""
    scenes = [arrays(*pair) for pair in pairs]
    for pair, scene in zip(pairs, scenes, strict=True):
        assert scoring.match(*pair, by=by).label.tolist() == scorer.match(*scene, by)
    picks, labels = ([pair[kind] for pair in pairs] for kind in (0, 1))
    found = upicker.evaluate(labels, picks, by=by, threshold=threshold)
    expected = scorer.evaluate(scenes, threshold, by)
    assert figures(found) == pytest.approx(expected)
    assert scorer.at_threshold(scenes, found.best_threshold, by)[2] == pytest.approx(expected.best_f1)
    return expected


def crowd(seed: int, picks: int, labels: int, lattice: bool = False) -> tuple[Particles, Particles]:
    """Labels that overlap, and picks near them and elsewhere.

    On a lattice, positions, overlaps, distances and scores are equal in many places, and all are whole or half numbers.
    """
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, (150, 90), (labels, 2))
    diameter = rng.uniform(12, 28, labels)
    near = xy[rng.integers(0, labels, picks)] + rng.normal(0, 4, (picks, 2)) if labels else np.empty((0, 2))
    far = rng.uniform(0, (150, 90), (picks, 2))
    centres = np.where(rng.random((picks, 1)) < 0.7, near, far) if labels else far
    score = rng.random(picks)
    if lattice:
        xy, centres, diameter = 4 * np.round(xy / 4), 4 * np.round(centres / 4), 4 * np.round(diameter / 4)
        score = np.round(4 * score) / 4
    return Particles.of(centres, 20, score), Particles.of(xy, diameter)


@pytest.mark.parametrize("by", scoring.CRITERIA)
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 30), st.integers(0, 30)), max_size=3),
    st.booleans(),
    st.sampled_from([-np.inf, 0.0, 0.25, 0.5, 0.9, 2.0]),
)
def test_figures_are_those_of_the_definitions(by, sizes, lattice, threshold):
    agree([crowd(*size, lattice=lattice) for size in sizes], by, threshold)


@pytest.mark.parametrize("by", scoring.CRITERIA)
def test_figures_of_a_crowd_are_neither_nought_nor_one(by):
    """Else the comparison above would prove little."""
    for lattice in (False, True):
        found = agree([crowd(seed, 60, 50, lattice) for seed in range(3)], by, 0.5)
        assert all(0.1 < figure < 0.95 for figure in found), found


@pytest.mark.parametrize("by", scoring.CRITERIA)
def test_duplicates_are_false_picks(by):
    labels = Particles.of([[20, 20], [60, 20], [60, 20]], 20)  # the last two are one and the same
    picks = Particles.of([[20, 20]] * 3 + [[60, 20]] * 3, 20, [0.9, 0.9, 0.8, 0.7, 0.7, 0.7])
    found = agree([(picks, labels)], by)
    assert found[:3] == pytest.approx((3 / 6, 1.0, 2 / 3))


@pytest.mark.parametrize("by", scoring.CRITERIA)
def test_empty_sets(by):
    none, some = Particles.of([], 20), Particles.of([[10, 10], [50, 30]], 20, [0.5, 0.25])
    for pairs in ([], [(none, none)], [(some, none)], [(none, some)]):
        assert agree(pairs, by) == (0,) * 7
    assert agree([(none, some), (some, none), (some, some)], by)[:3] == pytest.approx((0.5, 0.5, 0.5))


def test_the_scorer_counts_a_case_as_one_does_by_hand():
    """Three labels; picks by falling score: right, wrong, wrong (its label is taken), right; the last two are equal."""
    labels = np.array([[10, 10, 12], [40, 10, 12], [70, 10, 12]])
    # Shifted by 3, squares of 12 share 9 * 12 of 2 * 144 - 108: an IoU of 0.6; by 5, 84 of 204: 0.41.
    picks = np.array([[13, 10, 0.9], [45, 10, 0.8], [10, 10, 0.5], [70, 13, 0.5]])
    assert scorer.overlaps(picks, labels)[0, 0] == pytest.approx(0.6)
    assert scorer.match(picks, labels, "iou") == [0, -1, -1, 2]
    assert scorer.match(picks, labels, "centre") == [0, 1, -1, 2]
    # Points of the curve: (1, 1/3), (1/2, 1/3), (2/4, 2/3).
    area = Fraction(1, 3) * 1 + Fraction(1, 3) * Fraction(1, 2)
    expected = (1 / 2, 1 / 3, 2 / 5, 2 / 4, 2 / 3, 4 / 7, float(area))
    assert scorer.evaluate([(picks, labels)], 0.6) == pytest.approx(expected)


@pytest.mark.parametrize("form", ["csv", "star"])
@pytest.mark.parametrize("by", scoring.CRITERIA)
def test_the_command_prints_these_figures(capsys, tmp_path, monkeypatch, form, by):
    """From files to the table; the scorer gets the positions that another program reads from these files."""
    monkeypatch.chdir(tmp_path)
    scenes = []
    for seed in range(3):
        picks, labels = crowd(seed, 60, 50)
        coordinates.write(Path("labels", f"mic{seed}.csv"), labels, "csv")
        path = coordinates.output_path(Path("picks"), f"mic{seed}", form)
        coordinates.write(path, picks, form)
        if form == "star":
            names = ["rlnCoordinateX", "rlnCoordinateY", "rlnAutopickFigureOfMerit"]
            read = starfile.read(path)[names].to_numpy()
        else:
            read = np.genfromtxt(path, delimiter=",", names=True)[["x", "y", "score"]].tolist()
        truth = np.genfromtxt(f"labels/mic{seed}.csv", delimiter=",", names=True)[["x", "y", "diameter"]].tolist()
        scenes.append((np.array(read), np.array(truth)))
    code, out, err = command(capsys, "evaluate", "labels", "picks", "--by", by, "--threshold", "0.4")
    assert (code, err) == (0, "")
    rows = {row.split()[0]: row.split()[1:] for row in out.splitlines() if row.strip().startswith(("mic", "all"))}
    for row, scene in (*((f"mic{seed}", [scene]) for seed, scene in enumerate(scenes)), ("all", scenes)):
        expected = scorer.evaluate(scene, 0.4, by)
        shown = (expected.precision, expected.recall, expected.f1, expected.average_precision, expected.best_f1)
        assert [float(word) for word in rows[row][-6:-1]] == pytest.approx(shown, abs=5.1e-4)


def test_the_scorer_imports_numpy_only():
    tree = ast.parse(Path(scorer.__file__).read_text(encoding="utf-8"))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules == {"numpy", "typing"}
