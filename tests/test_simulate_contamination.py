"""Laws of contaminants: where they lie is marked as unusable."""

import numpy as np
import pytest

from upicker.errors import ConfigError
from upicker.simulate.contamination import Contamination, draw
from upicker.simulate.grid import Grid

GRID = Grid((401, 523), 40, 4.0)
KINDS = ("blobs", "crystals", "patches", "speckles", "filaments")
NONE = dict.fromkeys(KINDS, 0.0)


def drawn(kind: str, seed: int):
    return draw(np.random.default_rng(seed), Contamination(**{**NONE, kind: 2.5}), GRID)


@pytest.mark.parametrize("kind", KINDS)
def test_contaminants_are_marked_and_cost_electrons(kind):
    made = [one for seed in range(6) if (one := drawn(kind, seed)) is not None]
    assert len(made) > 2
    for one in made:
        touched = (one.loss > 0.02) | (np.abs(one.height_A) > 1)
        assert touched.any()
        assert (one.unusable[touched]).mean() > 0.97
        assert (one.loss >= 0).all()
        assert one.loss.shape == GRID.shape
        assert one.loss.dtype == one.height_A.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_little_is_marked_that_is_not_near_a_contaminant(kind):
    one = next(one for seed in range(6) if (one := drawn(kind, seed)) is not None)
    assert one.loss[one.unusable].mean() > 10 * one.loss[~one.unusable].mean()
    assert one.unusable.mean() < 0.95


def test_their_mean_number_is_that_asked_for_and_0_gives_none():
    assert draw(np.random.default_rng(0), Contamination(**NONE), GRID) is None
    empty = sum(draw(np.random.default_rng(seed), Contamination(blobs=0.5), GRID) is None for seed in range(200))
    assert 90 < empty < 153  # exp(-0.5) of 200 is 121


def test_equal_generators_give_equal_contaminants():
    first, again = drawn("crystals", 1), drawn("crystals", 1)
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.loss, again.loss)


def test_crystalline_ice_shows_its_lattice_where_pixels_are_fine_enough():
    fine = Grid((300, 340), 20, 1.1)
    found = (draw(np.random.default_rng(seed), Contamination(**{**NONE, "patches": 1}), fine) for seed in range(5))
    one = next(one for one in found if one is not None)
    power = np.abs(np.fft.fft2(one.height_A)) ** 2
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, 1.1) for n in fine.shape), indexing="ij"))
    ring = (k > 1 / 4.1) & (k < 1 / 3.2)
    assert power[ring].sum() > 0.8 * power[k > 0].sum()


def test_levels_grow_and_others_are_errors():
    none, some, much = (Contamination.level(name) for name in ("none", "some", "much"))
    for kind in KINDS[:-1]:  # filaments are none of the levels
        assert getattr(none, kind) == 0 < getattr(some, kind) < getattr(much, kind)
    with pytest.raises(ConfigError, match="unknown level 'lots'"):
        Contamination.level("lots")
    with pytest.raises(ConfigError, match="speckles: -1 is negative"):
        Contamination(speckles=-1)
