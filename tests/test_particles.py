"""What scores are survives whatever is done with particles, and is never mixed up."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from upicker.particles import Particles, ScoreKind

XY = [(1, 2), (3, 4), (5, 6)]


@pytest.mark.parametrize("kind", ScoreKind)
def test_the_kind_of_score_survives(kind: ScoreKind) -> None:
    particles = Particles.of(XY, 9, [0.2, 0.8, 0.5], kind)
    for again in (
        particles.select(np.array([True, False, True])),
        particles.select(np.array([], int)),
        particles.by_score(),
        particles.above(0.4),
        particles.with_diameter(4),
        replace(particles, xy=particles.xy + 1),
        Particles.concatenate([particles]),
        Particles.concatenate([particles, Particles.of([]), particles.by_score()]),
        pickle.loads(pickle.dumps(particles)),
    ):
        assert again.score_kind is kind


def test_labels_have_no_score_and_other_scores_are_given() -> None:
    assert Particles.of(XY).score_kind is ScoreKind.NONE
    assert Particles.of([]).score_kind is ScoreKind.NONE
    assert Particles.of(XY, 3, [1, 1, 0.5]).score_kind is ScoreKind.GIVEN


def test_joined_scores_of_several_kinds_are_of_none_of_them() -> None:
    one, other = (Particles.of(XY, 9, [0.2, 0.8, 0.5], kind) for kind in (ScoreKind.PROBABILITY, ScoreKind.CORRELATION))
    for parts in ([one, other], [one, Particles.of(XY)], [Particles.of(XY), other, one]):
        assert Particles.concatenate(parts).score_kind is ScoreKind.GIVEN
    nothing = Particles.of([], score_kind=ScoreKind.PROBABILITY)
    assert Particles.concatenate([nothing, nothing]).score_kind is ScoreKind.PROBABILITY


def test_scores_in_words() -> None:
    assert ScoreKind.PROBABILITY.text(0.3149) == "probability 0.315"
    assert ScoreKind.CORRELATION.text(4.2) == "template correlation 4.2 σ"
    assert ScoreKind.FILTER_RESPONSE.text(0.5) == "filter response 0.5 σ"
    assert ScoreKind.GIVEN.text(17) == ScoreKind.NONE.text(17) == "score 17"
    assert len({kind.words for kind in ScoreKind}) == len(ScoreKind) - 1
