"""Rotated and mirrored views: their detections come back to the original positions, and are merged into one list."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import CONFIG, DIAMETER, SHAPE, Dots, dotted, found_once, scattered

from upicker.errors import ConfigError
from upicker.particles import Particles
from upicker.pick.detection import detect, number_of_views
from upicker.pick.views import VIEWS, from_view, fused, to_view

RADIUS = 3.0
TWO = CONFIG.with_changes({"pick.views": 2})


@given(st.integers(0, 7), st.integers(1, 9), st.integers(1, 9), st.data())
@settings(deadline=None, max_examples=60)
def test_a_pixel_found_in_a_view_is_that_of_the_array(view, rows, columns, data):
    x, y = data.draw(st.integers(0, columns - 1)), data.draw(st.integers(0, rows - 1))
    image = np.zeros((rows, columns))
    image[y, x] = 1
    shown = np.argwhere(to_view(image, view))[:, ::-1]
    np.testing.assert_array_equal(from_view(Particles.of(shown, 5, 0.5), image.shape, view).xy, [[x, y]])


def test_the_views_are_the_eight_different_ones():
    image = np.arange(6).reshape(2, 3)
    assert len({to_view(image, i).tobytes() + bytes(to_view(image, i).shape) for i in range(len(VIEWS))}) == 8
    np.testing.assert_array_equal(to_view(image, 0), image)


@pytest.mark.parametrize("views", [2, 5, 8])
def test_a_network_without_up_or_down_finds_the_same_in_more_views(views):
    xy, heights = scattered(SHAPE, 3)
    picks = detect(Dots(), dotted(SHAPE, xy, heights), CONFIG.with_changes({"pick.views": views}))
    found_once(picks, xy)
    np.testing.assert_allclose(picks.score, np.sort(heights)[::-1], atol=1e-5)
    np.testing.assert_allclose(picks.diameter_px, DIAMETER)


class Duplicating(Dots):
    """Beside every particle a weak second detection, on the other side of its position."""

    def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, boxes = super().__call__(tiles)
        strong, weak = boxes.copy(), boxes.copy()
        strong[..., 1] += 1.0 / tiles.shape[-1]
        weak[..., 1] -= 0.8 / tiles.shape[-1]
        return np.concatenate([scores, scores * 0.6], 1), np.concatenate([strong, weak], 1)


def test_duplicates_of_a_view_are_removed_before_views_are_merged():
    # In the second view, upside down, the weak detection is nearer to the first view's strong one than its strong one.
    picks = detect(Duplicating(), dotted((64, 64), np.array([[30, 31]]), np.array([0.8])), TWO)
    found_once(picks, np.array([[30, 31]]))
    np.testing.assert_allclose(picks.score, 0.8, atol=1e-5)


@pytest.mark.parametrize("views", ["0", "9"])
def test_other_numbers_of_views_are_refused(views):
    with pytest.raises(ConfigError, match=r"pick\.views"):
        CONFIG.with_changes({"pick.views": views})


@pytest.mark.parametrize(("shape", "views"), [((28 * 8, 28 * 8), 8), ((20 * 8, 41 * 8), 4)])
def test_small_micrographs_are_picked_in_all_views_unless_the_config_gives_a_number(shape, views):
    config = CONFIG.with_changes({"pick.views": None, "image.working_diameter_px": 8})
    image = dotted(shape, np.array([[30, 31]]), np.array([0.8]))
    assert number_of_views(image, config) == views
    assert number_of_views(image, TWO) == 2


def test_means_of_the_views_with_a_particle_and_their_fraction_in_the_score():
    first = Particles.of([[10, 10], [50, 20], [90, 5]], [20, 20, 30], [0.9, 0.6, 0.2])
    second = Particles.of([[52, 20], [10, 11]], [26, 20], [0.3, 0.9])
    joined = fused([first, second, Particles.of([])], RADIUS)
    np.testing.assert_allclose(joined.xy, [[10, 10.5], [50 + 2 * 0.3 / 0.9, 20], [90, 5]])
    np.testing.assert_allclose(joined.score, [1.8 / 3, 0.9 / 3, 0.2 / 3])
    np.testing.assert_allclose(joined.diameter_px, [20, 22, 30])


def test_a_view_counts_once_for_a_particle_and_takes_the_nearest():
    first, second = Particles.of([[0, 0]], 10, 0.8), Particles.of([[2, 0], [1, 0]], 10, [0.7, 0.4])
    joined = fused([first, second], RADIUS)
    np.testing.assert_allclose(joined.score, [0.6])
    np.testing.assert_allclose(joined.xy, [[0.4 / 1.2, 0]])


def test_nothing_and_one_view_stay_as_they_are():
    one = Particles.of([[1, 2], [1.5, 2]], 10, [0.2, 0.7])
    assert fused([one], RADIUS).xy.tolist() == one.xy.tolist()
    assert not len(fused([Particles.of([]), Particles.of([])], RADIUS))
