"""Turned and mirrored views: what is found in them lies where it is in the picture, and is joined to one answer."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_picker import CONFIG, DIAMETER, SHAPE, Dots, dotted, found_once, scattered
from torch import Tensor

from upicker.errors import ConfigError
from upicker.model.detector import DetectorOutput
from upicker.particles import Particles
from upicker.pick.picker import detect, views_of
from upicker.pick.views import VIEWS, back, fused, seen

REACH = 3.0
TWO = CONFIG.with_changes({"pick.views": 2})


@given(st.integers(0, 7), st.integers(1, 9), st.integers(1, 9), st.data())
@settings(deadline=None, max_examples=60)
def test_a_pixel_found_in_a_view_is_that_of_the_picture(view, rows, columns, data):
    x, y = data.draw(st.integers(0, columns - 1)), data.draw(st.integers(0, rows - 1))
    picture = np.zeros((rows, columns))
    picture[y, x] = 1
    shown = np.argwhere(seen(picture, view))[:, ::-1]
    np.testing.assert_array_equal(back(Particles.of(shown, 5, 0.5), picture.shape, view).xy, [[x, y]])


def test_the_views_are_the_eight_different_ones():
    picture = np.arange(6).reshape(2, 3)
    assert len({seen(picture, i).tobytes() + bytes(seen(picture, i).shape) for i in range(len(VIEWS))}) == 8
    np.testing.assert_array_equal(seen(picture, 0), picture)


@pytest.mark.parametrize("views", [2, 5, 8])
def test_a_detector_that_has_no_up_or_down_finds_the_same_in_more_views(views):
    xy, heights = scattered(SHAPE, 3)
    picks = detect(Dots(), dotted(SHAPE, xy, heights), CONFIG.with_changes({"pick.views": views}))
    found_once(picks, xy)
    np.testing.assert_allclose(picks.score, np.sort(heights)[::-1], atol=1e-5)
    np.testing.assert_allclose(picks.diameter_px, DIAMETER)


class Doubling(Dots):
    """Beside every particle a weak second pick, on the other side of where the particle is."""

    def forward(self, images: Tensor) -> DetectorOutput:
        output = super().forward(images)
        logits, boxes = output.pred_logits, output.pred_boxes
        strong, weak = boxes.clone(), boxes.clone()
        strong[..., 1] += 1.0 / images.shape[-1]
        weak[..., 1] -= 0.8 / images.shape[-1]
        logits, boxes = torch.cat([logits, logits - 1], 1), torch.cat([strong, weak], 1)
        return DetectorOutput(logits, boxes, [], [], logits, boxes, [], [])


def test_doubles_of_a_view_go_before_views_are_joined():
    # In the second view, upside down, the weak pick lies nearer to the first view's strong one than its own strong one.
    picks = detect(Doubling(), dotted((64, 64), np.array([[30, 31]]), np.array([0.8])), TWO)
    found_once(picks, np.array([[30, 31]]))
    np.testing.assert_allclose(picks.score, 0.8, atol=1e-5)


@pytest.mark.parametrize("views", ["0", "9"])
def test_other_numbers_of_views_are_refused(views):
    with pytest.raises(ConfigError, match=r"pick\.views"):
        CONFIG.with_changes({"pick.views": views})


@pytest.mark.parametrize(("shape", "views"), [((28 * 8, 28 * 8), 8), ((20 * 8, 41 * 8), 4)])
def test_small_micrographs_are_looked_at_in_all_views_unless_told_otherwise(shape, views):
    config = CONFIG.with_changes({"pick.views": None, "image.working_diameter_px": 8})
    picture = dotted(shape, np.array([[30, 31]]), np.array([0.8]))
    assert views_of(picture, config) == views
    assert views_of(picture, TWO) == 2


def test_means_of_the_views_that_see_a_particle_and_the_share_of_them_in_the_score():
    first = Particles.of([[10, 10], [50, 20], [90, 5]], [20, 20, 30], [0.9, 0.6, 0.2])
    second = Particles.of([[52, 20], [10, 11]], [26, 20], [0.3, 0.9])
    joined = fused([first, second, Particles.of([])], REACH)
    np.testing.assert_allclose(joined.xy, [[10, 10.5], [50 + 2 * 0.3 / 0.9, 20], [90, 5]])
    np.testing.assert_allclose(joined.score, [1.8 / 3, 0.9 / 3, 0.2 / 3])
    np.testing.assert_allclose(joined.diameter_px, [20, 22, 30])


def test_a_view_counts_once_for_a_particle_and_takes_the_nearest():
    first, second = Particles.of([[0, 0]], 10, 0.8), Particles.of([[2, 0], [1, 0]], 10, [0.7, 0.4])
    joined = fused([first, second], REACH)
    np.testing.assert_allclose(joined.score, [0.6])
    np.testing.assert_allclose(joined.xy, [[0.4 / 1.2, 0]])


def test_nothing_and_one_view_stay_as_they_are():
    one = Particles.of([[1, 2], [1.5, 2]], 10, [0.2, 0.7])
    assert fused([one], REACH).xy.tolist() == one.xy.tolist()
    assert not len(fused([Particles.of([]), Particles.of([])], REACH))
