"""Laws of augmentation: boxes follow their discs, blank stays blank, grey levels stay in bounds, nothing is lost."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from upicker.config import Config
from upicker.errors import ConfigError
from upicker.train.augment.composing import contaminated, mosaic, mosaic_sources, pasted
from upicker.train.augment.geometric import Pose, apply_symmetry, random_view, view
from upicker.train.augment.online import augmented, draw_tile
from upicker.train.augment.photometric import blurred, defocused, gamma_adjusted, photometric
from upicker.train.offline import with_copies
from upicker.train.sample import Sample
from upicker.train.store import Store

SIDE = 14.0
OFF = {f"augment.{knob}": 0 for knob in ("flip", "intensity", "noise")}
CONFIG = Config().with_changes({"train.tile_px": 96, "image.working_diameter_px": SIDE, **OFF})
EVERYTHING = CONFIG.with_changes(
    {
        "augment.flip": True,
        "augment.rotate_deg": 180,
        "augment.scale": 0.2,
        "augment.mosaic": 0.5,
        "augment.paste": 2,
        "augment.contaminants": 1,
        "augment.gamma": 0.4,
        "augment.defocus": 0.8,
        "augment.blur_diameters": 0.06,
        "augment.intensity": 0.2,
        "augment.noise": 0.2,
        "augment.keep_blank": True,
    }
)


def discs(shape: tuple[int, int], count: int, seed: int, noise: float = 0.0) -> Sample:
    """Soft discs, brightest in their middle, between pixels; no two closer than two diameters."""
    rng = np.random.default_rng(seed)
    xy = np.empty((0, 2))
    while len(xy) < count:
        place = rng.uniform(SIDE, np.array(shape[::-1]) - SIDE)
        if (np.hypot(*(xy - place).T) > 2 * SIDE).all():
            xy = np.concatenate([xy, [place]])
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    pixels = noise * rng.standard_normal(shape) + 1e-3
    for x, y in xy:
        pixels += 4 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (SIDE / 5) ** 2))
    return Sample(pixels.astype(np.float32), xy, np.full(count, SIDE))


def offsets(picture: Sample) -> np.ndarray:
    """How far the centre of mass of the brightness around a box lies from its centre, `(n,)`; those wholly visible."""
    found = []
    rows, columns = picture.pixels.shape
    for (x, y), side in zip(picture.xy, picture.side, strict=True):
        reach, column, row = int(side * 0.6), round(x), round(y)
        if min(column, row, columns - 1 - column, rows - 1 - row) < reach:
            continue
        part = picture.pixels[row - reach : row + reach + 1, column - reach : column + reach + 1]
        part = np.clip(part - 0.3, 0, None)
        steps = np.arange(-reach, reach + 1)
        across, down = part.sum(0) @ steps / part.sum(), part.sum(1) @ steps / part.sum()
        found.append(np.hypot(column + across - x, row + down - y))
    return np.array(found)


def test_the_default_tile_is_what_it_always_was():
    """Written out once more: position, symmetry, gain, level, noise; other parts draw no numbers while they are off."""
    sample = discs((131, 157), 7, 0, noise=1.0)
    config = Config().with_changes({"train.tile_px": 96})
    for seed in range(12):
        rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
        y, x = int(same.integers(36)), int(same.integers(62))
        which = int(same.integers(8))
        pixels = np.asarray(sample.pixels[y : y + 96, x : x + 96])
        if which >= 4:
            pixels = pixels[:, ::-1]
        pixels = np.rot90(pixels, which % 4)
        gain = np.float32(1 + 0.2 * same.uniform(-1, 1))
        pixels = pixels * gain + np.float32(0.2 * same.uniform(-1, 1))
        level = np.float32(0.2 * same.uniform())
        pixels = pixels + level * same.standard_normal((96, 96), np.float32)
        tile = draw_tile([sample], 0, config, rng)
        np.testing.assert_array_equal(tile.pixels, pixels)
        assert rng.integers(2**62) == same.integers(2**62)


@pytest.mark.parametrize("angle", [0.0, 17.0, 90.0, -133.0])
@pytest.mark.parametrize("scale", [0.8, 1.0, 1.3])
def test_a_disc_follows_its_box_through_a_view(angle, scale):
    picture = discs((131, 157), 9, 1)
    seen = view(picture, (99, 119), Pose((80.3, 61.7), angle, scale))
    assert seen.pixels.shape == (99, 119)
    assert len(seen.xy) >= 2
    np.testing.assert_allclose(seen.side, scale * SIDE)
    assert len(offsets(seen)) >= 1
    assert offsets(seen).max() < 0.2
    # As many discs as boxes: whatever is bright in the view has its centre there, or near the edge.
    rows, columns = np.nonzero(seen.pixels > 2)
    near = np.hypot(columns[:, None] - seen.xy[:, 0], rows[:, None] - seen.xy[:, 1]).min(1) < scale * SIDE / 2
    rim = np.minimum(np.minimum(rows, 98 - rows), np.minimum(columns, 118 - columns)) < scale * SIDE / 2
    assert (near | rim).all()


def test_a_view_without_rotation_or_scale_is_the_micrograph():
    picture = discs((61, 90), 3, 2, noise=1.0)
    same = view(picture, (61, 90), Pose((44.5, 30.0)))
    np.testing.assert_allclose(same.pixels, picture.pixels, atol=1e-5)
    np.testing.assert_allclose(same.xy, picture.xy)


def test_positive_angles_rotate_clockwise_on_the_screen():
    pixels = np.zeros((61, 61), np.float32)
    pixels[30, 50] = 1  # right of the middle
    seen = view(Sample(pixels, np.array([[50.0, 30.0]]), np.array([5.0])), (61, 61), Pose((30.0, 30.0), 90.0))
    np.testing.assert_allclose(seen.xy, [[30.0, 50.0]], atol=1e-9)  # below it
    assert seen.pixels[50, 30] > 0.9


def test_a_rotated_view_is_blank_beyond_the_micrograph_and_drops_particles_outside():
    picture = discs((97, 131), 8, 3, noise=1.0)
    pose = Pose((65.0, 48.0), 45.0)
    seen = view(picture, (97, 131), pose)
    matrix = pose.matrix((97, 131))
    y, x = np.mgrid[:97, :131].reshape(2, -1)
    back = np.linalg.inv(matrix[:, :2]) @ (np.array([x, y]) - matrix[:, 2:])
    outside = ((back < -0.6) | (back > np.array([[130.6], [96.6]]))).any(0).reshape(97, 131)
    assert outside.any()
    assert not seen.pixels[outside].any()
    places = picture.xy @ matrix[:, :2].T + matrix[:, 2]
    inside = ((places >= -0.5) & (places <= (130.5, 96.5))).all(1)
    assert 0 < inside.sum() < 8
    np.testing.assert_allclose(seen.xy, places[inside])


def test_a_view_beside_the_micrograph_is_blank():
    seen = view(discs((40, 50), 1, 0), (30, 30), Pose((400.0, 20.0), 30.0))
    assert not seen.pixels.any()
    assert len(seen.xy) == len(seen.side) == 0


def test_blanked_pixels_stay_blank_when_rotated():
    picture = discs((97, 131), 4, 4, noise=1.0)
    picture.pixels[20:60, 30:75] = 0
    seen = view(picture, (97, 131), Pose((65.0, 48.0), 30.0, 1.1))
    matrix = Pose((65.0, 48.0), 30.0, 1.1).matrix((97, 131))
    corners = np.array([[33, 23], [71, 23], [33, 56], [71, 56], [50, 40]]) @ matrix[:, :2].T + matrix[:, 2]
    columns, rows = np.rint(corners).astype(int).T
    assert not seen.pixels[rows, columns].any()


def test_small_micrographs_are_rotated_about_their_own_middle():
    picture = discs((40, 50), 1, 0)
    config = CONFIG.with_changes({"augment.rotate_deg": 180}).augment
    for seed in range(10):
        seen = random_view(picture, (96, 96), config, np.random.default_rng(seed))
        assert len(seen.xy) == 1
        assert offsets(seen).max() < 0.2


@pytest.mark.parametrize("which", range(8))
def test_symmetries_hold_for_images_that_are_not_square(which):
    picture = discs((61, 90), 3, 5)
    pixels, xy = apply_symmetry(picture.pixels, picture.xy, which)
    assert pixels.shape == ((90, 61) if which % 2 else (61, 90))
    assert offsets(Sample(pixels, xy, picture.side)).max() < 0.1


def test_every_box_of_a_mosaic_lies_on_its_disc_and_every_quarter_is_another_micrograph():
    samples = [discs((131 + 5 * n, 157), 9, n) for n in range(4)]
    samples = [replace(one, pixels=one.pixels + np.float32(0.01 * n)) for n, one in enumerate(samples)]
    config = CONFIG.with_changes({"augment.rotate_deg": 30, "augment.scale": 0.1}).augment
    seen = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        four = mosaic_sources(samples, seed % 4, rng)
        assert {id(one) for one in four} == {id(one) for one in samples}
        assert four[0] is samples[seed % 4]
        parts = []

        def draw(quarter, shape, four=four, rng=rng, parts=parts):
            parts.append(random_view(four[quarter], shape, config, rng))
            return parts[-1]

        tile = mosaic(draw, (96, 99), rng)
        assert tile.pixels.shape == (96, 99)
        assert sum(part.pixels.size for part in parts) == tile.pixels.size
        assert len(tile.xy) == len(tile.side) == sum(len(part.xy) for part in parts)
        column, row = np.rint(tile.xy).astype(int).clip(0, (98, 95)).T
        assert (tile.pixels[row, column] > 2).all()
        seen += len(tile.xy)
    assert seen > 16


def test_a_mosaic_of_one_micrograph_consists_of_its_parts():
    one = discs((131, 157), 3, 0)
    assert mosaic_sources([one], 0, np.random.default_rng(0)) == [one] * 4
    two = [one, discs((40, 50), 1, 0)]
    assert mosaic_sources(two, 1, np.random.default_rng(0))[1:] == [one] * 3


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_pasting_adds_boxes_on_discs_and_touches_no_labelled_one(noise):
    source, target = discs((141, 167), 9, 6, noise), discs((141, 167), 5, 7, noise)
    before = target.pixels.copy()
    result = pasted(target, source, 4, np.random.default_rng(1))
    np.testing.assert_array_equal(target.pixels, before)
    assert len(result.xy) == len(target.xy) + 4
    np.testing.assert_array_equal(result.xy[:5], target.xy)
    assert result.is_sure.all()
    offset = offsets(Sample(gaussian_filter(result.pixels, 1.5 * noise), result.xy[5:], result.side[5:]))
    assert len(offset) == 4
    assert offset.max() < (0.3 if noise == 0 else 2.5)
    rows, columns = np.mgrid[:141, :167]
    for x, y in target.xy:
        disc = np.hypot(columns - x, rows - y) <= SIDE / 2
        np.testing.assert_array_equal(result.pixels[disc], before[disc])
    apart = np.hypot(*np.moveaxis(result.xy[:, None] - result.xy, -1, 0)) + 1e3 * np.eye(9)
    assert apart.min() >= SIDE
    touched = result.pixels != before
    close = np.min([np.hypot(columns - x, rows - y) for x, y in result.xy[5:]], 0) <= 0.66 * SIDE
    assert not (touched & ~close).any()


def test_a_pasted_particle_has_level_and_noise_of_its_new_position():
    rng = np.random.default_rng(0)
    source = discs((141, 167), 9, 6, 1.0)
    ground = Sample((3 + 0.8 * rng.standard_normal((141, 167))).astype(np.float32), np.empty((0, 2)), np.empty(0))
    result = pasted(ground, source, 8, np.random.default_rng(2))
    assert len(result.xy) >= 6
    rows, columns = np.mgrid[:141, :167]
    distance = np.min([np.hypot(columns - x, rows - y) for x, y in result.xy], 0) / SIDE
    edge = (distance > 0.52) & (distance < 0.62)
    assert result.pixels[edge].mean() == pytest.approx(3, abs=0.15)
    # Weights of 1/2 and 1/2 would leave 0.57 there.
    assert result.pixels[edge].std() == pytest.approx(0.8, abs=0.1)


def test_particles_are_not_pasted_where_there_is_no_room_nor_lifted_where_they_are_not_alone():
    source, rng = discs((141, 167), 9, 6), np.random.default_rng(0)
    blank = Sample(np.zeros((96, 96), np.float32), np.empty((0, 2)), np.empty(0))
    assert len(pasted(blank, source, 3, rng).xy) == 0
    grid = np.stack(np.meshgrid(np.arange(0, 96, SIDE), np.arange(0, 96, SIDE)), -1).reshape(-1, 2)
    full = Sample(np.ones((96, 96), np.float32), grid, np.full(len(grid), SIDE))
    assert len(pasted(full, source, 3, rng).xy) == len(grid)
    pair = Sample(source.pixels, np.array([[60.0, 60.0], [70.0, 60.0]]), np.full(2, SIDE))
    ground = Sample(np.ones((96, 96), np.float32), np.empty((0, 2)), np.empty(0))
    assert len(pasted(ground, pair, 3, rng).xy) == 0
    assert pasted(ground, ground, 3, rng) is ground
    assert len(pasted(Sample(np.ones((9, 9), np.float32), np.empty((0, 2)), np.empty(0)), source, 3, rng).xy) == 0


def test_only_sure_particles_are_copied_and_unsure_ones_are_not_covered():
    source = replace(discs((141, 167), 9, 6), sure=np.arange(9) == 4)
    ground = Sample(np.ones((96, 103), np.float32), np.array([[50.0, 40.0]]), np.array([SIDE]), np.array([False]))
    result = pasted(ground, source, 3, np.random.default_rng(0))
    assert len(result.xy) == 2  # each particle is copied at most once
    assert result.is_sure.tolist() == [False, True]
    assert (result.pixels[33:48, 43:58] == 1).all()


def test_contaminants_take_the_particles_they_cover_and_nothing_else():
    picture = discs((141, 167), 12, 8, 1.0)
    taken = 0
    for seed in range(12):
        result = contaminated(picture, SIDE, 3, np.random.default_rng(seed))
        touched = np.abs(result.pixels - picture.pixels) > 0.6
        column, row = np.rint(result.xy).astype(int).T
        # Kept ones lie outside the outlines, where a soft edge has less than half its height of at most 5.
        assert (result.pixels[row, column] != 0).all()
        assert np.abs(result.pixels - picture.pixels)[row, column].max() < 2.5
        gone = np.array([place for place in picture.xy if not (result.xy == place).all(1).any()]).reshape(-1, 2)
        column, row = np.rint(gone).astype(int).T
        assert (result.pixels[row, column] != picture.pixels[row, column]).all()
        taken += len(gone)
        assert len(result.xy) + len(gone) == 12
        assert 0 < touched.mean() < 0.7
    assert taken
    assert contaminated(picture, SIDE, 0, np.random.default_rng(0)) is picture


def test_what_a_contaminant_covers_cannot_be_seen():
    picture, hidden = discs((141, 167), 12, 8, 0.3), []
    for seed in range(30):
        result = contaminated(picture, SIDE, 2, np.random.default_rng(seed))
        for x, y in np.rint(picture.xy).astype(int):
            if (result.xy.round().astype(int) == (x, y)).all(1).any():
                continue
            before, after = (one.pixels[y - 4 : y + 5, x - 4 : x + 5] for one in (picture, result))
            if (after != 0).all() and abs(before - after).min() > 0:
                hidden.append(np.corrcoef(before.ravel(), after.ravel())[0, 1])
    assert len(hidden) > 6
    assert np.mean(hidden) < 0.5  # 0.86 were the contaminant only added


def test_contaminants_leave_blank_what_is_blank():
    empty = Sample(np.zeros((96, 103), np.float32), np.empty((0, 2)), np.empty(0))
    assert not contaminated(empty, SIDE, 9, np.random.default_rng(0)).pixels.any()


def filters():
    """Each photometric change at a large strength."""
    return {
        "gamma up": lambda p, b: gamma_adjusted(p, 1.5),
        "gamma down": lambda p, b: gamma_adjusted(p, 1 / 1.5),
        "blur": lambda p, b: blurred(p, 1.5, b),
        "defocus 1.5": lambda p, b: defocused(p, SIDE, (1.5, 0.1, 1.0), b),
        "defocus 6": lambda p, b: defocused(p, SIDE, (6.0, 0.6, 1.0), b),
    }


def median_absolute(values: np.ndarray) -> float:
    return float(np.median(np.abs(values - np.median(values))))


@pytest.mark.parametrize("name", filters())
def test_grey_levels_stay_in_bounds_and_discs_at_their_positions(name):
    change = filters()[name]
    noisy = discs((131, 157), 9, 9, 1.0)
    noisy.pixels[60:90, 100:140] = 0
    blank = noisy.pixels == 0
    before = noisy.pixels.copy()
    changed = change(noisy.pixels, blank)
    np.testing.assert_array_equal(noisy.pixels, before)
    assert changed.dtype == np.float32
    assert not changed[blank].any()
    assert abs(changed[~blank].mean() - before[~blank].mean()) < 0.25
    assert changed[~blank].std() == pytest.approx(before[~blank].std(), rel=0.25 if "gamma" in name else 1e-3)
    assert 0.5 < median_absolute(changed[~blank]) / median_absolute(before[~blank]) < 1.5
    assert np.abs(changed - before).max() > 0.1
    clean = discs((131, 157), 9, 9)
    clean = replace(clean, pixels=change(clean.pixels, None))
    column, row = np.rint(clean.xy).astype(int).T
    for x, y in zip(column, row, strict=True):
        part = clean.pixels[y - 4 : y + 5, x - 4 : x + 5]
        peak = np.unravel_index(part.argmax(), part.shape)
        assert np.hypot(peak[0] - 4, peak[1] - 4) <= 1.0


def test_no_strength_is_no_change():
    pixels = discs((61, 90), 3, 5, 1.0).pixels
    np.testing.assert_allclose(gamma_adjusted(pixels, 1.0), np.maximum(pixels, -5), atol=1e-5)
    np.testing.assert_array_equal(blurred(pixels, 0.0), pixels)
    np.testing.assert_allclose(defocused(pixels, SIDE, (2.0, 0.3, 0.0)), pixels, atol=1e-4)
    nothing = np.zeros((40, 50), np.float32)
    np.testing.assert_array_equal(defocused(nothing, SIDE, (2.0, 0.3, 1.0)), nothing)


def test_the_defocus_filter_is_the_documented_contrast_transfer():
    """White noise in, the curve out: against the power spectrum, far from the edges."""
    pixels = np.random.default_rng(0).standard_normal((512, 509)).astype(np.float32)
    changed = defocused(pixels, SIDE, (3.0, 0.3, 1.0))
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(509)) * SIDE / 3.0
    ratio = np.abs(np.fft.rfft2(changed)) ** 2 / (np.abs(np.fft.rfft2(pixels)) ** 2).mean()
    expected = np.sin(0.3 + (np.pi / 2 - 0.3) * frequency**2) ** 2
    rings = [(frequency > low) & (frequency < low + 0.1) for low in (0.3, 0.6, 1.0, 1.3, 1.7)]
    measured, wanted = (np.array([values[ring].mean() for ring in rings]) for values in (ratio, expected))
    np.testing.assert_allclose(measured / measured[2], wanted / wanted[2], atol=0.12)


def test_blank_stays_blank_through_everything_where_asked():
    picture = discs((96, 96), 3, 0, 1.0)
    picture.pixels[:30, 20:70] = 0
    picture.pixels[80, 80] = 0  # by chance, not blanked
    blank = np.zeros((96, 96), bool)
    blank[:30, 20:70] = True
    config = EVERYTHING.augment
    for seed in range(5):
        result = photometric(picture.pixels, SIDE, config, np.random.default_rng(seed))
        np.testing.assert_array_equal(result == 0, blank)
    without = photometric(picture.pixels, SIDE, replace(config, keep_blank=False), np.random.default_rng(0))
    assert without[blank].all()


def test_the_same_numbers_draw_the_same_and_each_part_does_something():
    samples = [discs((131, 157), 9, n, 1.0) for n in range(3)]
    one, same = (draw_tile(samples, 1, EVERYTHING, np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one.pixels, same.pixels)
    np.testing.assert_array_equal(one.xy, same.xy)
    plain = draw_tile(samples, 1, CONFIG, np.random.default_rng(5)).pixels
    for knob, value in vars(EVERYTHING.augment).items():
        if knob in ("online", "offline", "keep_blank"):
            continue
        config = CONFIG.with_changes({f"augment.{knob}": value})
        tiles = [draw_tile(samples, 1, config, np.random.default_rng(5 + n)).pixels for n in range(4)]
        assert not all(np.array_equal(tile, plain) for tile in tiles), knob
        assert all(tile.dtype == np.float32 and tile.shape == (96, 96) for tile in tiles)


def test_boxes_lie_on_discs_through_everything_that_moves():
    config = CONFIG.with_changes(
        {"augment.flip": 1, "augment.rotate_deg": 180, "augment.scale": 0.2, "augment.mosaic": 0.5, "augment.paste": 2}
    )
    samples = [discs((131, 157), 9, n) for n in range(3)]
    seen = 0
    for seed in range(20):
        tile = draw_tile(samples, seed % 3, config, np.random.default_rng(seed))
        column, row = np.rint(tile.xy).astype(int).clip(0, 95).T
        assert (tile.pixels[row, column] > 1.8).all()
        seen += len(tile.xy)
    assert seen > 60


def test_copies_are_made_before_training_and_are_the_same_by_their_seed():
    samples = [discs((131, 157), 9, 0), discs((97, 141), 6, 1)]
    config = CONFIG.with_changes(
        {"augment.offline": 3, "augment.rotate_deg": 180, "augment.flip": 1, "augment.scale": 0.1}
    )
    more = with_copies(samples, config, Store())
    assert more[:2] == samples
    assert len(more) == 8
    for number, copy in enumerate(more[2:]):
        assert not copy.pixels.flags.writeable
        assert sorted(copy.pixels.shape) == sorted(samples[number % 2].pixels.shape)
        assert len(copy.xy) >= 2
        assert offsets(copy).max() < 0.2
        plain = draw_tile([copy], 0, config.with_changes({"augment.online": False}), np.random.default_rng(0))
        assert plain.pixels.flags.writeable
    store = Store()
    fewer = with_copies(samples, config.with_changes({"augment.offline": 1, "augment.online": False}), store)
    for one, two in zip(fewer, more[:4], strict=True):
        np.testing.assert_array_equal(one.pixels, two.pixels)
        np.testing.assert_array_equal(one.xy, two.xy)
    other = with_copies(samples, config.with_changes({"train.seed": 1}), store)
    assert not np.array_equal(other[2].pixels, more[2].pixels)
    assert with_copies(samples, CONFIG, store) == samples


def test_things_counted_per_tile_follow_the_area():
    picture = discs((600, 500), 20, 0, 1.0)
    config = CONFIG.with_changes({"augment.paste": 1, "train.tile_px": 100})
    added = [len(augmented(picture, picture, config, np.random.default_rng(n)).xy) - 20 for n in range(6)]
    assert 12 <= np.mean(added) <= 30  # 20 lonely particles at most, each once


def test_knobs_have_ranges_and_one_name_only():
    config = Config().with_changes({"augment.online": "no", "augment.noise": 0.1, "augment.intensity": "0.3"})
    assert (config.augment.online, config.augment.noise, config.augment.intensity) == (False, 0.1, 0.3)
    for former in ("train.augment", "train.noise", "train.intensity"):
        with pytest.raises(ConfigError, match=f"unknown '{former}'"):
            Config().with_changes({former: 0})
    for knob, value in (("rotate_deg", 181), ("mosaic", 1.1), ("paste", -1), ("scale", "much"), ("offline", 1.5)):
        with pytest.raises(ConfigError, match=f"augment.{knob}"):
            Config().with_changes({f"augment.{knob}": value})


def test_sizes_that_are_a_convention_stay_one():
    sample = replace(discs((150, 170), 5, 1), sized=False)
    copied = with_copies([sample], EVERYTHING.with_changes({"augment.offline": 2}), Store())
    assert [one.sized for one in copied] == [False] * 3
    drawn = [draw_tile([sample], 0, EVERYTHING, np.random.default_rng(seed)) for seed in range(6)]
    assert not any(one.sized for one in drawn)
    quarters = [sample, sample, sample, replace(sample, sized=True)]
    composed = mosaic(
        lambda quarter, part: random_view(quarters[quarter], part, CONFIG.augment, np.random.default_rng(0)),
        (96, 90),
        np.random.default_rng(0),
    )
    assert not composed.sized, "where some are"
