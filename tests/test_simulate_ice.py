"""Laws of the ice and of the carbon film."""

import numpy as np
import pytest

from upicker.errors import ConfigError
from upicker.simulate import carbon, ice
from upicker.simulate.grid import Grid
from upicker.simulate.ice import Attenuation, Ice

GRID = Grid((211, 307), 20, 3.0)
ALL = Attenuation(np.ones_like, np.ones_like)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def radial_power(image: np.ndarray, low: float, high: float) -> float:
    """Mean power per area, (image's unit)^2 A^2, at frequencies from low to high."""
    power = np.abs(np.fft.fft2(image)) ** 2 / image.size * GRID.pixel_size_A**2
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, GRID.pixel_size_A) for n in image.shape), indexing="ij"))
    return power[(k >= low) & (k < high)].mean()


def test_a_grid_holds_its_image_and_transforms_fast():
    assert all(n >= 2 * 20 + m for n, m in zip(GRID.shape, (211, 307), strict=True))
    assert np.zeros(GRID.shape)[GRID.inside].shape == (211, 307)
    for n in GRID.shape:
        for p in (2, 3, 5):
            while n % p == 0:
                n //= p
        assert n == 1


def test_a_window_counts_from_its_place_and_ends_at_the_border():
    window, y, x = GRID.window(np.array([3.25, 100.0]), 10)
    assert window[0].start == 0
    assert y[0, 0] == pytest.approx(-3.25 * 3)
    assert x[0, 100 - window[1].start] == pytest.approx(0)
    assert np.zeros(GRID.shape)[window].shape == (y.size, x.size)


def test_the_thickness_has_its_mean_and_its_gradient():
    flat = ice.thickness(rng(), Ice(thickness_A=300, gradient=0), GRID)
    assert (flat == 300).all()
    for seed in range(5):
        sloped = ice.thickness(rng(seed), Ice(thickness_A=300, gradient=0.4), GRID)
        assert sloped.dtype == np.float32
        assert sloped.mean() == pytest.approx(300, rel=0.01)
        assert 0.05 < np.ptp(sloped) / 300 < 0.8


def test_the_structure_noise_of_ice_has_the_power_of_its_molecules():
    """At low frequencies: density x thickness x (potential of a molecule)^2 x order."""
    thickness = np.full(GRID.shape, 400.0, np.float32)
    expected = 0.0314 * 400 * (4.6 / 0.0314) ** 2 * 0.07
    noise = ice.structure_noise(rng(), Ice(film=0.0), GRID, thickness, ALL)
    assert noise.dtype == np.float32
    assert radial_power(noise, 0.004, 0.05) == pytest.approx(expected, rel=0.06)
    with_film = [ice.structure_noise(rng(seed), Ice(film=4.0), GRID, thickness, ALL) for seed in range(8)]
    low = np.mean([radial_power(one, 0.0005, 0.006) for one in with_film])
    assert low == pytest.approx(5 * expected, rel=0.15)
    twice = ice.structure_noise(rng(), Ice(film=0.0, noise=2.0), GRID, thickness, ALL)
    np.testing.assert_allclose(twice, 2 * noise, rtol=1e-4, atol=1e-3)


def test_water_that_moves_fades_and_the_film_with_the_protein():
    thickness = np.full(GRID.shape, 400.0, np.float32)
    moved = Attenuation(np.ones_like, lambda k: np.where(k > 0.08, 0.5, 1.0))
    before, after = (ice.structure_noise(rng(), Ice(film=0.0), GRID, thickness, kept) for kept in (ALL, moved))
    assert radial_power(after, 0.1, 0.15) == pytest.approx(0.25 * radial_power(before, 0.1, 0.15), rel=0.02)
    assert radial_power(after, 0.01, 0.07) == pytest.approx(radial_power(before, 0.01, 0.07), rel=0.02)
    damaged = Attenuation(np.zeros_like, np.ones_like)
    left = ice.structure_noise(rng(), Ice(film=9.0), GRID, thickness, damaged)
    np.testing.assert_allclose(left, before, rtol=1e-4, atol=1e-3)


def test_carbon_covers_a_side_of_the_image_and_ends_in_an_arc():
    for seed in range(12):
        film = carbon.edge(rng(seed), GRID)
        covered = (film > 0)[GRID.inside]
        assert 0.02 < covered.mean() < 0.8
        assert film.dtype == np.float32
        assert film.max() <= 300
        corners = covered[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert 1 <= corners.sum() <= 3


def test_carbon_has_more_structure_noise_than_ice_and_only_where_it_lies():
    film = carbon.edge(rng(3), GRID)
    noise = carbon.structure_noise(rng(), GRID, film)
    assert (noise[film == 0] == 0).all()
    water = ice.structure_noise(rng(), Ice(), GRID, np.full(GRID.shape, 450.0, np.float32), ALL)
    assert noise[film == film.max()].std() > 1.5 * water.std()


@pytest.mark.parametrize("change", [{"thickness_A": 0.0}, {"gradient": -1.0}, {"noise": -0.1}, {"slices": 0}])
def test_impossible_ice_is_an_error(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        Ice(**change)
