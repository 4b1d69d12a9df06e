"""Detection with a network that is a NumPy function: tiles equal the whole, regions, margins; no torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import environment
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import CONFIG, DIAMETER, SHAPE, Dots, dotted, found_once, ordered, scattered

from upicker.geometry import Frame, Region
from upicker.image.prepare import Prepared
from upicker.pick.detection import FLOOR, detect


@pytest.mark.parametrize("tile", [32, 64, 128, 416])
@pytest.mark.parametrize("overlap", [0.0, 1.5, 100.0])
@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_equal_the_whole(tile, overlap, batch):
    xy, heights = scattered(SHAPE, 0)
    config = CONFIG.with_changes(
        {"pick.tile_px": tile, "pick.overlap_diameters": overlap, "pick.batch": batch, "pick.nms_iou": None}
    )
    network = Dots()
    picks = detect(network, dotted(SHAPE, xy, heights), config)
    found_once(picks, xy)
    np.testing.assert_allclose(picks.score, np.sort(heights)[::-1], atol=1e-5)
    assert picks.diameter_px == pytest.approx(DIAMETER)
    assert network.largest_batch <= batch


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("region", [Region(30, 40, 200, 90), Region(0, 0, 20, 300), Region(-0.5, 150, 349.5, 209.5)])
def test_a_region_has_the_picks_that_the_whole_has_there(region, views):
    xy, heights = scattered((210, 350), seed=4)
    config, prepared = CONFIG.with_changes({"pick.views": views}), dotted((210, 350), xy, heights)
    whole, part = detect(Dots(), prepared, config), detect(Dots(), prepared, config, region)
    expected = whole.select(region.contains(whole.xy))
    assert 0 < len(expected) < len(whole)
    np.testing.assert_allclose(ordered(part.xy), ordered(expected.xy), atol=1e-3)


def test_a_region_is_detected_in_no_less_than_a_tile():
    prepared = dotted((210, 350), *scattered((210, 350), seed=4))
    for region in (Region(100, 190, 110, 205), Region(340, 0, 349, 9), Region(0, 0, 5, 5)):
        network = Dots()
        detect(network, prepared, CONFIG, region)
        assert network.largest_batch == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(17, 150), st.integers(17, 150), st.integers(32, 90), st.floats(0, 12), st.integers(0, 99))
def test_every_particle_is_picked_once_in_a_micrograph_of_any_size(height, width, tile, overlap, seed):
    xy, heights = scattered((height, width), seed)
    config = CONFIG.with_changes({"pick.tile_px": tile, "pick.overlap_diameters": overlap})
    found_once(detect(Dots(), dotted((height, width), xy, heights), config), xy)


def test_the_number_of_picks_is_not_capped_by_the_queries_of_a_tile():
    xy, heights = scattered((300, 500), 1)
    network = Dots(queries=20)
    picks = detect(network, dotted((300, 500), xy, heights), CONFIG.with_changes({"pick.tile_px": 64}))
    assert len(xy) > 20 * 10
    found_once(picks, xy)


def test_a_particle_whose_tiles_disagree_about_its_position_is_picked_once():
    """At the border of two tiles each may find the particle on the other's side, or both on their own."""

    class Disagreeing(Dots):
        def __init__(self, shift: float) -> None:
            super().__init__()
            self.shift, self.calls = shift, 0

        def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            scores, boxes = super().__call__(tiles)
            self.calls += 1
            boxes[..., 0] += self.shift * (1 if self.calls % 2 else -1)
            return scores, boxes

    config = CONFIG.with_changes({"pick.batch": 1, "pick.nms_iou": None})
    # Two tiles of 64, from 0 and from 36: ownership passes in the middle, at 49.5.
    for x in (48, 49, 50, 51):
        for shift in (-1.0, -0.5, 0.5, 1.0):
            picks = detect(Disagreeing(shift), dotted((60, 100), np.array([[x, 20]]), np.array([0.7])), config)
            assert len(picks) == 1, (x, shift)


@pytest.mark.parametrize(("nms", "expected"), [(None, 2), (0.5, 1), (0.9, 2)])
def test_suppression_is_a_knob(nms, expected):
    # Squares of 8 px, 2 px apart: an IoU of 0.6. In the middle of one tile, so that no border plays a part.
    prepared = dotted((64, 64), np.array([[30, 31], [32, 31]]), np.array([0.6, 0.8]))
    picks = detect(Dots(), prepared, CONFIG.with_changes({"pick.nms_iou": nms}))
    assert len(picks) == expected
    assert picks.xy[0] == pytest.approx((32, 31), abs=1e-3)
    assert picks.score[0] == pytest.approx(0.8, abs=1e-5)


@pytest.mark.parametrize(("diameters", "expected"), [(0, 4), (0.5, 3), (1.0, 2), (3.0, 0)])
def test_the_edge_margin_is_counted_in_diameters_from_the_edge(diameters, expected):
    # The centres are 0.5, 5.5, 10.5 and 20.5 px from the nearest edge of a micrograph of 41 x 90.
    xy = np.array([[45, 0], [84, 20], [10, 20], [60, 20]])
    prepared = dotted((41, 90), xy, np.linspace(0.3, 0.8, 4))
    assert len(detect(Dots(), prepared, CONFIG.with_changes({"pick.edge_diameters": diameters}))) == expected


def test_noise_below_the_floor_is_left_out():
    prepared = dotted((64, 64), np.array([[10, 10], [40, 30]]), np.array([0.5, 0.5]))

    class Faint(Dots):
        def __call__(self, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            scores, boxes = super().__call__(tiles)
            scores[:, 0] = FLOOR / 2
            return scores, boxes

    assert len(detect(Faint(), prepared, CONFIG)) == 1


def test_an_empty_micrograph_gives_no_picks():
    picks = detect(Dots(), dotted(SHAPE, np.zeros((0, 2), int), np.zeros(0)), CONFIG)
    assert len(picks) == 0
    assert picks.xy.shape == (0, 2)


@pytest.mark.parametrize("rotations", [1, 2, 3])
def test_picking_commutes_with_rotations_by_90_degrees(rotations):
    xy, heights = scattered(SHAPE, 3)
    prepared = dotted(SHAPE, xy, heights)
    rotated = np.ascontiguousarray(np.rot90(prepared.pixels, rotations))
    picks = detect(Dots(), Prepared(rotated, Frame(rotated.shape, rotated.shape), DIAMETER), CONFIG)
    straight = detect(Dots(), prepared, CONFIG)
    expected, shape = straight.xy, SHAPE
    for _ in range(rotations):
        expected = np.stack([expected[:, 1], shape[1] - 1 - expected[:, 0]], 1)
        shape = shape[::-1]
    np.testing.assert_allclose(picks.xy, expected, atol=2e-3)
    np.testing.assert_allclose(picks.score, straight.score)


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["safetensors"] = None  # importing them raises
import numpy as np
from planted import CONFIG, SHAPE, Dots, dotted, found_once, scattered
import upicker.pick.picker, upicker.run.pick
from upicker.pick.detection import detect

xy, heights = scattered(SHAPE, 0)
picks = detect(Dots(), dotted(SHAPE, xy, heights), CONFIG.with_changes({"pick.views": 3}))
found_once(picks, xy)
print(len(picks))
"""


def test_planted_boxes_are_found_where_torch_cannot_be_imported():
    command = [sys.executable, "-c", WITHOUT_TORCH]
    here = Path(__file__).parent  # where `planted` is
    done = subprocess.run(command, cwd=here, env=environment(), capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(scattered(SHAPE, 0)[0]) > 100


@pytest.mark.parametrize("queries", [1, 7, 400])
def test_boxes_of_any_number_come_back_where_they_were_planted(queries):
    """A network that returns what was planted: positions, sides and scores arrive unchanged, in raw pixels."""
    planted = np.array([[10.25, 20.5, 8.0], [40.75, 30.0, 9.0], [20.0, 55.5, 7.0]])
    given = [0.75, 0.5, 0.25]
    asked = []

    def network(tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        asked.append((tiles.shape, tiles.dtype))
        scores, boxes = np.zeros((1, queries), np.float32), np.full((1, queries, 4), 6.4, np.float32)
        n = min(queries, len(planted))
        scores[0, :n] = given[:n]
        boxes[0, :n, :2] = planted[:n, :2]
        boxes[0, :n, 2:] = planted[:n, 2:]
        return scores, boxes

    prepared = Prepared(np.zeros((64, 64), np.float32), Frame((128, 128), (64, 64)), 2 * DIAMETER)
    picks = detect(network, prepared, CONFIG)
    assert asked == [((1, 1, 64, 64), np.dtype(np.float32))]
    n = min(queries, 3)
    np.testing.assert_allclose(picks.xy, 2 * planted[:n, :2], atol=1e-4)
    np.testing.assert_allclose(picks.diameter_px, 2 * planted[:n, 2], rtol=1e-6)
    np.testing.assert_array_equal(picks.score, given[:n])
