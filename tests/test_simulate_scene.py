"""Laws of whole simulated micrographs: the truth they come with is true."""

from dataclasses import replace

import numpy as np
import pytest

from upicker.errors import ConfigError
from upicker.simulate.optics import ctf
from upicker.simulate.scene import Scene, make
from upicker.simulate.specimen import barrel

SMALL = Scene(shape=(301, 420), pixel_size_A=5.0, particles=40, contaminants=0.0)


def boxes(pixels: np.ndarray, xy: np.ndarray, half: int) -> np.ndarray:
    corners = np.round(xy).astype(int) - half
    room = ((corners >= 0) & (corners + 2 * half < pixels.shape[::-1])).all(1)
    return np.stack([pixels[y : y + 2 * half + 1, x : x + 2 * half + 1] for x, y in corners[room]])


def test_one_index_is_one_picture_and_another_index_or_seed_another():
    first, again = make(SMALL, 3), make(SMALL, 3)
    np.testing.assert_array_equal(first.micrograph.pixels, again.micrograph.pixels)
    np.testing.assert_array_equal(first.particles.xy, again.particles.xy)
    for other in (make(SMALL, 4), make(replace(SMALL, seed=1), 3)):
        assert (first.micrograph.pixels != other.micrograph.pixels).any()
        assert first.defocus_A != other.defocus_A


def test_the_mean_count_is_the_dose():
    scene = replace(SMALL, particles=0, dose_e_A2=12.0)
    pixels = make(scene).micrograph.pixels
    assert pixels.mean() == pytest.approx(12.0 * 25, rel=0.01)


def test_without_structure_the_noise_is_that_of_counting():
    scene = replace(SMALL, particles=0, ice_noise=0.0, ice_gradient=0.0, detector_blur_px=0.0)
    pixels = make(scene).micrograph.pixels
    assert pixels.var() == pytest.approx(pixels.mean(), rel=0.02)
    assert (pixels == np.round(pixels)).all()
    assert make(replace(scene, detector_blur_px=0.5)).micrograph.pixels.var() < 0.7 * pixels.var()


def test_the_ice_is_grainy_and_its_grain_goes_through_the_lens():
    scene = replace(SMALL, particles=0, ice_gradient=0.0, dose_e_A2=1e4, defocus_A=(20000.0, 20000.0))
    pixels = make(replace(scene, detector_blur_px=0.0)).micrograph.pixels[:300, :300]
    power = np.abs(np.fft.fft2(pixels - pixels.mean())) ** 2
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(300, 5.0), np.fft.fftfreq(300, 5.0)))
    peak, zero = np.sqrt(np.array([0.5, 1.0]) / (0.019687 * 20000))  # of a pure phase object: 1/28, 1/20 A
    ring = [power[np.abs(k - at) < 5e-4].mean() for at in (peak, zero)]
    assert ring[0] > 3 * ring[1]


def test_the_picture_has_the_shape_the_size_and_about_as_many_particles_as_asked():
    made = make(SMALL)
    assert made.micrograph.pixels.shape == made.unusable.shape == (301, 420)
    assert made.micrograph.pixels.dtype == np.float32
    assert made.micrograph.pixel_size_A == 5.0
    assert (made.particles.diameter_px == 30).all()
    assert made.rotations.shape == (len(made.particles), 3, 3)
    assert 25 < len(made.particles) < 55
    assert made.particles.inside((301, 420)).all()


def test_no_two_particles_are_nearer_than_asked():
    for gap in (0.5, 1.1):
        xy = make(replace(SMALL, min_distance=gap, particles=60)).particles.xy
        distance = np.linalg.norm(xy[:, None] - xy, axis=2) + 1e9 * np.eye(len(xy))
        assert gap * 30 <= distance.min() < (gap + 0.3) * 30


def test_more_particles_than_fit_are_left_out():
    assert 20 < len(make(replace(SMALL, particles=500, min_distance=1.0)).particles) < 301 * 420 / 30**2 * 1.2


@pytest.mark.parametrize("specimen", ["barrel", "globule"])
def test_boxes_at_the_true_places_average_to_a_dark_centred_particle(specimen):
    scene = replace(SMALL, specimen=specimen, min_distance=1.4, ice_gradient=0.0, shape=(500, 620))
    pictures = [make(scene, index) for index in range(4)]
    cut = np.concatenate([boxes(p.micrograph.pixels, p.particles.xy, 20) for p in pictures])
    average = cut.mean(0) - np.median(cut)
    rows, columns = np.mgrid[-20:21, -20:21]
    dark = np.clip(-average - 0.3 * np.abs(average.min()), 0, None)
    middle = np.array([(dark * columns).sum(), (dark * rows).sum()]) / dark.sum()
    assert np.abs(middle).max() < 1.0
    distance = np.hypot(rows, columns)
    noise = cut.std() / np.sqrt(len(cut))
    assert average[distance < 9].mean() < average[(distance > 17) & (distance < 20)].mean() - noise


def test_a_particle_is_just_where_and_how_it_is_said_to_be():
    scene = replace(SMALL, particles=6, ice_noise=0.0, dose_e_A2=1e5, ice_gradient=0.0, min_distance=2.0)
    made = make(scene, 1)
    assert len(made.particles) > 2
    # At such a dose the picture less its mean is the particles alone, seen through the lens.
    specimen, lens = barrel(150.0, 0), ctf((81, 81), 5.0, replace(scene.optics, defocus_A=made.defocus_A))
    pixels = made.micrograph.pixels / made.micrograph.pixels.mean() - 1
    corners = np.round(made.particles.xy).astype(int) - 20
    checked = 0
    for xy, corner, rotation in zip(made.particles.xy, corners, made.rotations, strict=True):
        if (corner < 0).any() or (corner + 41 > (420, 301)).any():
            continue
        x, y = corner
        shift = tuple(xy - np.round(xy))
        seen = np.fft.ifft2(np.fft.fft2(specimen.projection(rotation, 81, 5.0, shift)) * lens).real
        found = pixels[y : y + 41, x : x + 41]
        assert np.corrcoef(seen[20:61, 20:61].ravel(), found.ravel())[0, 1] > 0.95
        checked += 1
    assert checked > 1


def test_contaminants_are_dark_marked_and_free_of_particles():
    scene = replace(SMALL, contaminants=4.0, ice_gradient=0.0)
    made = [make(scene, index) for index in range(4)]
    assert any(m.unusable.any() for m in made)
    for m in made:
        column, row = np.round(m.particles.xy).astype(int).clip(0, (419, 300)).T
        assert not m.unusable[row, column].any()
        if m.unusable.sum() > 400:
            pixels = m.micrograph.pixels
            assert pixels[m.unusable].mean() < pixels[~m.unusable].mean() - pixels[~m.unusable].std()


def test_the_ice_gradient_makes_one_side_brighter():
    smooth = make(replace(SMALL, particles=0, ice_gradient=1.5), 2).micrograph.pixels
    flat = make(replace(SMALL, particles=0, ice_gradient=0.0), 2).micrograph.pixels

    def unevenness(pixels):
        quarters = pixels[:300, :420].reshape(4, 75, 4, 105).mean((1, 3))
        return np.ptp(quarters) / quarters.mean()

    assert unevenness(smooth) > 0.04
    assert unevenness(flat) < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dose_e_A2": 0.0}, "dose_e_A2: 0 is not positive"),
        ({"pixel_size_A": 60.0}, "2.5 pixels wide"),
        ({"specimen": "cube"}, "no 'cube'"),
    ],
)
def test_impossible_scenes_are_errors(change, message):
    with pytest.raises(ConfigError, match=message):
        make(replace(SMALL, **change))
