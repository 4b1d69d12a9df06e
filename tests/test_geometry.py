"""Laws of frames, tiles and squares."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upicker.geometry import Frame, iou_squares, suppress, tiles


def test_a_frame_undoes_itself_with_different_scales_along_both_axes():
    frame = Frame((4092, 5760), (1213, 1706))
    xy = np.random.default_rng(0).uniform(0, 4000, (50, 2))
    np.testing.assert_allclose(frame.to_raw(frame.to_working(xy)), xy)
    assert frame.scale_xy[0] == 1706 / 5760
    assert frame.scale_xy[1] == 1213 / 4092


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.integers(0, 100))
def test_every_place_is_owned_by_exactly_one_tile_that_covers_it(height, width, overlap):
    (rows, columns), cover = tiles((height, width), 128, overlap, 32)
    assert rows % 32 == columns % 32 == 0
    assert max(rows, columns) <= 128 + 32  # a multiple may be reached by rounding only
    xy = np.random.default_rng(height).uniform((-0.5, -0.5), (width - 0.5, height - 0.5), (200, 2))
    owners = np.array([tile.owns(xy) for tile in cover])
    assert (owners.sum(0) == 1).all()
    for tile, owned in zip(cover, owners, strict=True):
        inside = xy[owned] - (tile.x, tile.y)
        assert (inside >= -0.5).all()
        assert (inside <= (columns - 0.5, rows - 0.5)).all()


def test_neighbouring_tiles_overlap_by_what_is_asked():
    (rows, columns), cover = tiles((300, 1213), 384, 64, 32)
    starts = sorted({tile.x for tile in cover})
    assert starts[0] == 0
    assert starts[-1] + columns == 1213
    assert (np.diff(starts) <= columns - 64).all()
    assert rows == 320


@pytest.mark.parametrize(
    ("shape", "size", "number"),
    [
        ((328, 328), (352, 352), 1),
        ((910, 910), (480, 480), 4),
        ((910, 1280), (480, 480), 6),
        ((500, 100), (288, 128), 2),
        ((1, 481), (32, 288), 2),
    ],
)
def test_tiles_are_few_and_as_small_as_their_number_allows(shape, size, number):
    found, cover = tiles(shape, 480, 48, 32)
    assert (found, len(cover)) == (size, number)


@pytest.mark.parametrize(
    ("shift", "a", "b", "iou"), [((0, 0), 2, 2, 1.0), ((1, 0), 2, 2, 1 / 3), ((0, 0), 4, 2, 0.25), ((9, 9), 2, 2, 0.0)]
)
def test_iou_of_squares_drawn_by_hand(shift, a, b, iou):
    assert iou_squares(np.array(shift, float), np.array(float(a)), np.array(float(b))) == pytest.approx(iou)


def test_suppression_agrees_with_the_plain_quadratic_way():
    rng = np.random.default_rng(3)
    xy, side, score = rng.uniform(0, 60, (80, 2)), rng.uniform(8, 14, 80), rng.uniform(size=80)
    expected = np.ones(80, bool)
    for i in np.argsort(-score):
        if expected[i]:
            smaller = np.minimum(side, side[i])
            overlap = iou_squares(xy - xy[i], smaller, smaller)
            expected &= ~((overlap > 0.3) & (score < score[i]))
    kept = suppress(xy, side, score, 0.3)
    np.testing.assert_array_equal(kept, expected)
    assert 0 < kept.sum() < 80


@pytest.mark.parametrize(("distance", "kept"), [(0.0, [True, False]), (2.0, [True, False]), (4.0, [True, True])])
def test_of_two_sizes_in_one_place_one_is_kept_and_a_small_neighbour_of_a_large_one_is_another(distance, kept):
    # The smaller square, of 10, lies inside the larger one, of 18, in each case.
    xy, side = np.array([[50.0, 50.0], [50.0 + distance, 50.0]]), np.array([18.0, 10.0])
    assert suppress(xy, side, np.array([0.8, 0.6]), 0.5).tolist() == kept
