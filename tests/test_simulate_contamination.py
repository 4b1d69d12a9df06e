"""Laws of contaminants: what is drawn is marked."""

import numpy as np
import pytest

from upicker.errors import ConfigError
from upicker.simulate.canvas import Canvas
from upicker.simulate.contamination import Contamination, litter

CANVAS = Canvas((401, 523), 40, 4.0)
KINDS = ("blobs", "crystals", "patches", "speckles")
NONE = dict.fromkeys(KINDS, 0.0)


def drawn(kind: str, seed: int):
    return litter(np.random.default_rng(seed), Contamination(**{**NONE, kind: 2.5}), CANVAS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_drawn_is_marked_and_takes_electrons(kind):
    made = [one for seed in range(6) if (one := drawn(kind, seed)) is not None]
    assert len(made) > 2
    for one in made:
        touched = (one.loss > 0.02) | (np.abs(one.height_A) > 1)
        assert touched.any()
        assert (one.unusable[touched]).mean() > 0.97
        assert (one.loss >= 0).all()
        assert one.loss.shape == CANVAS.shape
        assert one.loss.dtype == one.height_A.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_little_is_marked_that_is_not_near_something_drawn(kind):
    one = next(one for seed in range(6) if (one := drawn(kind, seed)) is not None)
    assert one.loss[one.unusable].mean() > 10 * one.loss[~one.unusable].mean()
    assert one.unusable.mean() < 0.95


def test_there_are_as_many_as_asked_on_average_and_none_are_none():
    assert litter(np.random.default_rng(0), Contamination(**NONE), CANVAS) is None
    empty = sum(litter(np.random.default_rng(seed), Contamination(blobs=0.5), CANVAS) is None for seed in range(200))
    assert 90 < empty < 153  # exp(-0.5) of 200 is 121


def test_one_generator_gives_one_picture():
    first, again = drawn("crystals", 1), drawn("crystals", 1)
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(first.loss, again.loss)


def test_crystalline_ice_shows_its_lattice_where_pixels_are_fine_enough():
    fine = Canvas((300, 340), 20, 1.1)
    found = (litter(np.random.default_rng(seed), Contamination(**{**NONE, "patches": 1}), fine) for seed in range(5))
    one = next(one for one in found if one is not None)
    power = np.abs(np.fft.fft2(one.height_A)) ** 2
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, 1.1) for n in fine.shape), indexing="ij"))
    ring = (k > 1 / 4.1) & (k < 1 / 3.2)
    assert power[ring].sum() > 0.8 * power[k > 0].sum()


def test_levels_grow_and_others_are_errors():
    none, some, much = (Contamination.level(name) for name in ("none", "some", "much"))
    for kind in KINDS:
        assert getattr(none, kind) == 0 < getattr(some, kind) < getattr(much, kind)
    with pytest.raises(ConfigError, match="no level 'lots'"):
        Contamination.level("lots")
    with pytest.raises(ConfigError, match="speckles: -1 is not 0 or more"):
        Contamination(speckles=-1)
