"""Drift: no alarm while nothing changes, also where neighbours are alike; an alarm soon after a change."""

from itertools import pairwise

import numpy as np
import pytest

from upicker.run.drift import BEFORE, LAST, drifts, has_changed
from upicker.run.entries import Entry


def counts(rng: np.random.Generator, number: int, kind: str) -> np.ndarray:
    """Numbers of particles of micrographs, while nothing changes."""
    if kind == "alike":
        return rng.poisson(200, number).astype(float)
    if kind == "squares":  # Groups of eight of one grid square.
        squares = np.repeat(rng.normal(0, 0.25, number // 8 + 1), 8)[:number]
        return 200 * np.exp(squares + rng.normal(0, 0.2, number))
    return 200 * np.exp(rng.normal(0, 0.4, number))


@pytest.mark.parametrize("kind", ["alike", "squares", "scattered"])
def test_false_alarms_are_rare(kind):
    rng = np.random.default_rng(0)
    values = counts(rng, 1500, kind)
    ends = range(2 * LAST, len(values) + 1, 2)
    alarms = [has_changed(values[max(0, end - LAST - BEFORE) : end], True) for end in ends]
    begun = sum(now and not before for before, now in pairwise([False, *alarms]))
    assert begun <= 2


@pytest.mark.parametrize("kind", ["alike", "scattered"])
def test_a_change_is_noticed_within_the_last_ones(kind):
    rng = np.random.default_rng(1)
    for _ in range(20):
        values = counts(rng, BEFORE + LAST, kind)
        values[-LAST:] *= 0.5
        assert has_changed(values, True)


def entry(number: int, particles: int = 200, score: float | None = 0.7, usable: float | None = 0.9) -> Entry:
    return Entry(f"m{number:03d}", particles=particles, median_score=score, usable=usable)


def test_it_says_what_changed_since_when_and_from_what_to_what():
    rng = np.random.default_rng(2)
    before = [entry(n, int(rng.poisson(200)), 0.7 + rng.normal(0, 0.02), 0.9) for n in range(60)]
    assert drifts(before) == []
    after = [entry(60 + n, int(rng.poisson(90)), 0.7 + rng.normal(0, 0.02), 0.6) for n in range(LAST)]
    found = {one.what: one for one in drifts([*before, *after])}
    assert set(found) == {"particles", "usable area"}
    assert found["particles"].since == "m060"
    assert found["particles"].before == pytest.approx(200, abs=10)
    assert found["usable area"].after == pytest.approx(0.6)
    assert "0.90 before, 0.60 in the last 20, since about m060. Look at contamination" in str(found["usable area"])


def test_too_few_or_unknown_or_equal_values_are_no_drift():
    assert drifts([entry(n) for n in range(2 * LAST - 1)]) == []
    assert drifts([entry(n, score=None, usable=None) for n in range(200)]) == []
    assert drifts([Entry(f"m{n}") for n in range(200)]) == []


def test_a_change_that_is_small_does_not_matter_however_sure_it_is():
    rng = np.random.default_rng(3)
    scores = 0.7 + rng.normal(0, 0.002, 120)
    scores[-LAST:] += 0.03
    assert not has_changed(scores, False)
    scores[-LAST:] += 0.05
    assert has_changed(scores, False)
