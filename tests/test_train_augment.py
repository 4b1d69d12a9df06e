"""Tiles and their boxes: symmetries, conventions, and what makes a step the same step."""

import numpy as np
import pytest
import torch

from upicker.config import Config
from upicker.geometry import Frame
from upicker.image.prepare import Prepared
from upicker.particles import Particles
from upicker.train.augment.geometric import apply_symmetry
from upicker.train.augment.online import draw_tile
from upicker.train.augment.photometric import photometric
from upicker.train.dataset import batch, sample_from
from upicker.train.sample import Sample

CONFIG = Config().with_changes({"train.tile_px": 48, "train.batch": 3})
PLAIN = CONFIG.with_changes({"augment.online": False})


def dotted(shape: tuple[int, int], n: int, seed: int) -> Sample:
    """A black image with bright dots of different heights at whole pixels, no two close."""
    rng = np.random.default_rng(seed)
    flat = rng.choice((shape[0] // 3) * (shape[1] // 3), n, replace=False)
    xy = np.stack([flat % (shape[1] // 3), flat // (shape[1] // 3)], 1) * 3 + 1
    pixels = np.zeros(shape, np.float32)
    pixels[xy[:, 1], xy[:, 0]] = np.arange(1, n + 1)
    return Sample(pixels, xy.astype(float), np.linspace(6, 9, n))


@pytest.mark.parametrize("which", range(8))
def test_the_symmetries_move_pixels_where_they_move_centres(which):
    rng = np.random.default_rng(which)
    tile = np.zeros((7, 7), np.float32)
    xy = np.array([[1, 2], [5, 0], [6, 6], [3, 3], [0, 4]])
    tile[xy[:, 1], xy[:, 0]] = rng.uniform(1, 2, 5)
    moved, places = apply_symmetry(tile, xy.astype(float), which)
    column, row = places.astype(int).T
    np.testing.assert_array_equal(moved[row, column], tile[xy[:, 1], xy[:, 0]])
    assert moved.flags.c_contiguous
    assert np.count_nonzero(moved) == 5


def test_there_are_eight_different_symmetries_and_the_first_changes_nothing():
    tile = np.arange(25, dtype=np.float32).reshape(5, 5)
    xy = np.array([[1.25, 3.5]])
    seen = {apply_symmetry(tile, xy, which)[0].tobytes() for which in range(8)}
    assert len(seen) == 8
    same, places = apply_symmetry(tile, xy, 0)
    np.testing.assert_array_equal(same, tile)
    np.testing.assert_array_equal(places, xy)


def test_four_rotations_by_90_degrees_or_two_mirrors_change_nothing():
    tile = np.random.default_rng(0).standard_normal((6, 6)).astype(np.float32)
    xy = np.array([[0.3, 4.1], [5.0, 2.2]])
    for which, times in ((1, 4), (4, 2), (5, 2), (2, 2)):
        other, places = tile, xy
        for _ in range(times):
            other, places = apply_symmetry(other, places, which)
        np.testing.assert_array_equal(other, tile)
        np.testing.assert_allclose(places, xy)


def test_augmentation_keeps_its_input_and_all_centres():
    tile = Sample(np.zeros((48, 48), np.float32), np.array([[3.0, 20.0], [30.5, 1.0]]), np.array([8.0, 8.0]))
    changed = draw_tile([tile], 0, CONFIG, np.random.default_rng(0))
    assert not tile.pixels.any()
    np.testing.assert_array_equal(tile.xy, [[3.0, 20.0], [30.5, 1.0]])
    assert changed.pixels.dtype == np.float32
    assert changed.pixels.shape == (48, 48)
    assert len(changed.xy) == 2


def test_augmentation_can_be_switched_off():
    tile = Sample(np.ones((48, 48), np.float32), np.array([[3.0, 2.0]]), np.array([8.0]))
    same = draw_tile([tile], 0, PLAIN, np.random.default_rng(0))
    np.testing.assert_array_equal(same.pixels, tile.pixels)
    np.testing.assert_array_equal(same.xy, tile.xy)


def test_intensity_and_noise_stay_within_their_strengths():
    config = CONFIG.with_changes({"augment.noise": 0.3, "augment.intensity": 0.2}).augment
    tile = np.zeros((64, 64), np.float32)
    tile[32:] = 10.0
    steps, levels, spreads = [], [], []
    for seed in range(200):
        changed = photometric(tile, 32.0, config, np.random.default_rng(seed))
        low, high = np.sort(changed.ravel())[:1500], np.sort(changed.ravel())[-1500:]
        steps.append((high.mean() - low.mean()) / 10)
        levels.append(np.median(changed[changed < 5]))
        spreads.append(changed[changed < 5].std())
    assert 0.75 < min(steps) < 0.9
    assert 1.1 < max(steps) < 1.25
    assert -0.25 < min(levels) < -0.1
    assert 0.1 < max(levels) < 0.25
    assert max(spreads) < 0.32
    assert min(spreads) < 0.05


@pytest.mark.parametrize("config", [PLAIN, CONFIG], ids=["plain", "augmented"])
@pytest.mark.parametrize("shape", [(90, 131), (48, 48), (30, 100), (40, 31)])
def test_boxes_lie_on_the_dots_of_their_tile(config, shape):
    """Boxes count from the outer corner of the first pixel, in diameters: a dot at pixel i is at (i + 0.5) / d."""
    config = config.with_changes({"augment.noise": 0.0, "augment.intensity": 0.0})
    sample = dotted(shape, 40, 0)
    seen = 0
    for step in range(8):
        images, targets, *_ = batch([sample], config, step)
        assert images.shape == (3, 1, 48, 48)
        assert images.dtype == torch.float32
        for image, boxes in zip(images[:, 0].numpy(), targets, strict=True):
            assert boxes.dtype == torch.float32
            places = boxes[:, :2].numpy() * config.image.working_diameter_px - 0.5
            np.testing.assert_allclose(places, np.rint(places), atol=1e-4)
            column, row = np.rint(places).astype(int).T
            heights = image[row, column]
            assert (heights > 0.5).all()
            # Each dot of the tile has its box, and each box the size of its own dot.
            assert len(boxes) == np.count_nonzero(image)
            expected = sample.side[np.rint(heights).astype(int) - 1] / config.image.working_diameter_px
            np.testing.assert_allclose(boxes[:, 2:].numpy(), np.stack([expected, expected], 1), rtol=1e-5)
            seen += len(boxes)
    assert seen > 0


def test_a_centre_between_pixels_at_the_edge_belongs_to_the_tile():
    sample = Sample(np.zeros((48, 48), np.float32), np.array([[-0.4, 47.4], [20.0, 47.6]]), np.array([8.0, 8.0]))
    _, targets, *_ = batch([sample], PLAIN, 0)
    torch.testing.assert_close(targets[0][:, :2], torch.tensor([[0.1, 47.9]]) / PLAIN.image.working_diameter_px)


def test_the_same_step_draws_the_same_and_other_steps_and_seeds_draw_others():
    samples = [dotted((90, 131), 40, 0), dotted((70, 200), 60, 1)]
    one, targets, rng, *_ = batch(samples, CONFIG, 7)
    same, same_targets, same_rng, *_ = batch(samples, CONFIG, 7)
    assert torch.equal(one, same)
    assert all(torch.equal(a, b) for a, b in zip(targets, same_targets, strict=True))
    assert rng.integers(2**31) == same_rng.integers(2**31)
    assert not torch.equal(one, batch(samples, CONFIG, 8)[0])
    assert not torch.equal(one, batch(samples, CONFIG.with_changes({"train.seed": 1}), 7)[0])


def test_drawing_leaves_global_random_numbers_alone():
    before, torch_before = np.random.get_state()[1].copy(), torch.random.get_rng_state()  # noqa: NPY002
    batch([dotted((90, 131), 40, 0)], CONFIG, 0)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(torch_before, torch.random.get_rng_state())


def test_micrographs_are_drawn_by_their_area_and_positions_everywhere():
    small, large = (Sample(np.full(s, v, np.float32), np.zeros((0, 2)), np.zeros(0)) for s, v in
                    (((50, 60), 1.0), ((100, 90), 2.0)))  # fmt: skip
    drawn = torch.cat([batch([small, large], PLAIN, step)[0][:, 0, 24, 24] for step in range(200)])
    assert float((drawn == 2).float().mean()) == pytest.approx(0.75, abs=0.06)
    ramp = Sample(np.add.outer(1000.0 * np.arange(52), np.arange(53)).astype(np.float32), np.zeros((0, 2)), np.zeros(0))
    corners = {float(v) for step in range(60) for v in batch([ramp], PLAIN, step)[0][:, 0, 0, 0]}
    assert corners == {1000.0 * row + column for row in range(5) for column in range(6)}


def test_a_sample_has_its_particles_at_the_working_scale():
    prepared = Prepared(np.zeros((40, 60), np.float32), Frame((80, 121), (40, 60)), 20.0)
    whole = sample_from(prepared, Particles.of([[100.0, 30.0], [3.0, 70.0]], 20.0))
    np.testing.assert_allclose(whole.xy, [[100 * 60 / 121, 15.0], [3 * 60 / 121, 35.0]])
    np.testing.assert_allclose(whole.side, 20 * np.sqrt(0.5 * 60 / 121))
    assert whole.pixels.shape == (40, 60)
    assert sample_from(prepared, Particles.of([])).xy.shape == (0, 2)


def test_blanked_particles_are_not_in_a_sample():
    good = np.ones((40, 60), bool)
    good[:, :20] = False
    prepared = Prepared(np.zeros((40, 60), np.float32), Frame((80, 120), (40, 60)), 20.0, usable=good)
    part = sample_from(prepared, Particles.of([[30.0, 20.0], [50.0, 20.0]], 20.0))
    np.testing.assert_allclose(part.xy, [[25.0, 10.0]])
