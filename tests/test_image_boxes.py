"""Rectangles cut out of an image are those of the padded image."""

import numpy as np
import pytest

from upicker.image.boxes import cut

PIXELS = np.arange(7 * 11, dtype=np.float32).reshape(7, 11) + 1
CORNERS = np.array([[2, 1], [0, 0], [7, 4], [-2, 3], [9, -3], [-12, -8], [30, 2], [4, 6]])


@pytest.mark.parametrize(("beyond", "padding"), [("edge", "edge"), ("zero", "constant")])
@pytest.mark.parametrize("shape", [(3, 4), (7, 11), (9, 5)])
def test_they_are_those_of_the_padded_image(beyond, padding, shape):
    margin = 40
    padded = np.pad(PIXELS, margin, padding)
    boxes = cut(PIXELS, CORNERS, shape, beyond)
    assert boxes.shape == (len(CORNERS), *shape)
    assert boxes.dtype == PIXELS.dtype
    for box, (x, y) in zip(boxes, CORNERS + margin):
        np.testing.assert_array_equal(box, padded[y : y + shape[0], x : x + shape[1]])


def test_they_are_copies_and_may_be_none():
    pixels = PIXELS.copy()
    cut(pixels, np.array([[1, 1]]), (2, 2))[...] = 0
    np.testing.assert_array_equal(pixels, PIXELS)
    assert cut(pixels, np.empty((0, 2), int), (2, 3)).shape == (0, 2, 3)


def test_tiles_are_background_beyond_the_micrograph():
    pixels = np.arange(12, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(cut(pixels, np.array([[1, 0]]), (3, 3), "zero")[0], pixels[:, 1:4])
    (over,) = cut(pixels, np.array([[2, 1]]), (4, 4), "zero")
    assert over.shape == (4, 4)
    np.testing.assert_array_equal(over[:2, :2], pixels[1:, 2:])
    assert over[2:].sum() == over[:, 2:].sum() == 0
