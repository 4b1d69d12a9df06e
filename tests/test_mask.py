"""The contamination mask: keeps clean ice, finds what is drawn into it."""

import numpy as np
import pytest

from upicker.config import ImageConfig
from upicker.geometry import Frame
from upicker.image.mask import usable
from upicker.image.prepare import Prepared, prepare
from upicker.particles import Micrograph

SHAPE = (520, 610)
DIAMETER = 24.0


def ice(seed=0, particles=60):
    """Noise on a slope, with dark particles of the diameter."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    picture = random.normal(size=SHAPE) + 0.004 * x - 0.002 * y
    grid = [(x, y) for x in range(30, SHAPE[1] - 20, 40) for y in range(30, SHAPE[0] - 20, 40)]
    for cx, cy in random.permutation(grid)[:particles] + random.uniform(-6, 6, (particles, 2)):
        picture -= 1.2 * (np.hypot(x - cx, y - cy) < DIAMETER / 2)
    return picture.astype(np.float32)


def good(pixels, config=None):
    config = config or ImageConfig(working_diameter_px=16.0)
    ready = prepare(Micrograph(pixels, "m"), DIAMETER, config)
    mask = usable(ready, config)
    assert mask.shape == ready.pixels.shape
    assert mask.dtype == bool
    return mask, ready.frame


def in_working(region, frame):
    rows, columns = (np.arange(n) * m / n for n, m in zip(frame.working_shape, frame.raw_shape))
    return region[np.ix_(rows.astype(int), columns.astype(int))]


@pytest.mark.parametrize("particles", [0, 15, 150])
def test_clean_ice_is_kept(particles):
    assert good(ice(particles, particles))[0].mean() >= 0.98


def test_a_large_dark_blob_is_marked_and_little_else():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    blob = np.hypot(x - 420, y - 150) < 70
    mask, frame = good(ice() - np.where(blob, np.float32(12), np.float32(0)))
    there = in_working(blob, frame)
    assert (~mask & there).sum() >= 0.98 * there.sum()
    far = in_working(np.hypot(x - 420, y - 150) > 70 + 2 * DIAMETER, frame)
    assert (mask & far).sum() >= 0.97 * far.sum()


def test_a_carbon_edge_is_marked_and_the_hole_kept():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = (x - 0.3 * y - 380).astype(np.float32)
    picture = ice(3) - 9 * np.exp(-((distance / 9) ** 2)) - np.where(distance > 0, np.float32(1.5), np.float32(0))
    mask, frame = good(picture.astype(np.float32))
    edge, hole = in_working(np.abs(distance) < 6, frame), in_working(distance < -2 * DIAMETER, frame)
    assert (~mask & edge).sum() >= 0.95 * edge.sum()
    assert (mask & hole).sum() >= 0.97 * hole.sum()


@pytest.mark.parametrize(("offset", "film"), [(230.0, True), (0.0, False)])
def test_what_an_edge_cuts_off_is_marked_if_it_is_small(offset, film):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = (0.7 * (x - SHAPE[1] / 2) - 0.7 * (y - SHAPE[0] / 2) - offset).astype(np.float32)
    mask, frame = good((ice(3) - 9 * np.exp(-((distance / 9) ** 2))).astype(np.float32))
    ice_side, other = (in_working(region, frame) for region in (distance < -2 * DIAMETER, distance > 2 * DIAMETER))
    assert (mask & ice_side).sum() >= 0.97 * ice_side.sum()
    kept = (mask & other).sum() / other.sum()
    assert kept == 0 if film else kept > 0.97


def test_rough_ice_is_marked():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    rough = np.hypot(x - 170, y - 330) < 90
    coarse = np.kron(np.random.default_rng(5).normal(size=(130, 153)), np.ones((4, 4)))[: SHAPE[0], : SHAPE[1]]
    mask, frame = good((ice(4) + np.where(rough, 3.0 * coarse, 0.0)).astype(np.float32))
    there = in_working(np.hypot(x - 170, y - 330) < 75, frame)
    assert (~mask & there).sum() >= 0.9 * there.sum()
    assert (mask & ~in_working(np.hypot(x - 170, y - 330) < 150, frame)).mean() > 0.6


def test_a_frame_of_repeated_lines_is_marked():
    picture = ice(6)
    picture[:18] = picture[18]
    picture[:, :27] = picture[:, 27:28]
    picture[:, -21:] = picture[:, -22:-21]
    mask, frame = good(picture)
    inside = np.zeros(SHAPE, bool)
    inside[18:, 27:-21] = True
    assert mask[~in_working(inside, frame)].mean() < 0.05
    inside = np.zeros(SHAPE, bool)
    inside[30:, 39:-33] = True
    assert mask[in_working(inside, frame)].mean() > 0.97


def test_it_does_not_depend_on_offset_and_factor():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    picture = ice(7) - np.where(np.hypot(x - 420, y - 150) < 50, np.float32(9), np.float32(0))
    assert (good(picture)[0] != good(40 * picture + 900)[0]).mean() < 0.001


def test_without_the_unflattened_picture_it_looks_at_the_pixels():
    noise = np.random.default_rng(8).normal(size=(130, 170)).astype(np.float32)
    noise[40:80, 60:110] += 10
    mask = usable(Prepared(noise, Frame(noise.shape, noise.shape), 16.0), ImageConfig())
    assert not mask[45:75, 65:105].any()
    assert mask.mean() > 0.75


@pytest.mark.parametrize("shape", [(16, 17), (20, 400)])
def test_tiny_pictures_have_a_mask(shape):
    noise = np.random.default_rng(9).normal(size=shape).astype(np.float32)
    ready = prepare(Micrograph(noise, "m"), 12.0, ImageConfig())
    assert usable(ready, ImageConfig()).shape == ready.pixels.shape


def test_a_real_contaminant_is_covered(shared):
    from upicker.io import micrographs

    folder = shared / "data" / "contamination"
    reference = micrographs.read(folder / "mask.mrc").pixels > 0.5
    ready = prepare(micrographs.read(folder / "micrograph.mrc"), 26.0, ImageConfig())
    mask, there = usable(ready, ImageConfig()), in_working(reference, ready.frame)
    assert (~mask & there).sum() >= 0.95 * there.sum()
    assert (mask & ~there).sum() >= 0.9 * (~there).sum()
