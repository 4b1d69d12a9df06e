"""Laws of what the beam does to the specimen."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from upicker.errors import ConfigError
from upicker.simulate.microscope.damage import critical_exposure_e_A2, damage_curve, motion_curve, water_curve

K = np.array([0.0, 0.01, 0.05, 0.1, 0.25, 0.5])


@pytest.mark.parametrize(("k", "expected"), [(0.05, 38.71), (0.1, 14.14), (0.25, 5.277), (0.5, 3.591)])
def test_the_critical_exposure_is_the_published_curve(k, expected):
    assert critical_exposure_e_A2(np.array(k)) == pytest.approx(expected, rel=1e-3)
    assert critical_exposure_e_A2(np.array(k), 200) == pytest.approx(0.8 * expected, rel=5e-3)


def test_damage_over_an_exposure_is_the_sum_of_its_frames():
    dose, frames = 40.0, 4000
    at = (np.arange(frames) + 0.5) * dose / frames
    left = np.exp(-at / (2 * critical_exposure_e_A2(K[1:, None])))
    np.testing.assert_allclose(damage_curve(K[1:], dose), left.mean(1), rtol=1e-4)
    # Weighted: frames times what is left in them, divided by the root of the weights' squares, which keeps noise.
    weighted = (left * left).sum(1) / np.sqrt((left**2).sum(1)) / np.sqrt(frames)
    np.testing.assert_allclose(damage_curve(K[1:], dose, weighted=True), weighted, rtol=1e-4)
    before = np.exp(-10 / (2 * critical_exposure_e_A2(K[1:])))
    np.testing.assert_allclose(damage_curve(K[1:], dose, before_e_A2=10), before * left.mean(1), rtol=1e-4)


def test_damage_leaves_the_mean_and_grows_with_dose_and_frequency():
    for weighted in (False, True):
        little, much = (damage_curve(K, dose, weighted=weighted) for dose in (10.0, 60.0))
        assert little[0] == much[0] == 1
        assert (np.diff(much) < 0).all()
        assert (much[1:] < little[1:]).all()
        np.testing.assert_array_equal(damage_curve(K, 0.0, weighted=weighted), 1)
    assert (damage_curve(K, 40, weighted=True)[1:] > damage_curve(K, 40)[1:]).all()
    assert (damage_curve(K, 40, voltage_kV=200)[1:] < damage_curve(K, 40)[1:]).all()


def test_motion_is_a_b_factor_and_the_mean_over_positions():
    np.testing.assert_allclose(motion_curve(K, 1.5), np.exp(-8 * np.pi**2 * 1.5**2 / 4 * K**2))
    positions = np.random.default_rng(0).normal(0, 1.5, 400_000)
    seen = np.cos(2 * np.pi * K[:, None] * positions).mean(1)
    np.testing.assert_allclose(motion_curve(K, 1.5), seen, atol=6e-3)


def test_water_fades_as_walking_molecules_do():
    """Many molecules walk at random; the power of their mean structure, against the closed form."""
    rng, dose, steps = np.random.default_rng(1), 12.0, 240
    walk = np.cumsum(rng.normal(0, np.sqrt(1.1 / 3 * dose / steps), (4000, steps)), axis=1)
    k = np.array([0.03, 0.1, 0.2])
    mean = np.exp(2j * np.pi * k[:, None, None] * walk).mean(2)
    np.testing.assert_allclose(water_curve(k, dose) ** 2, (np.abs(mean) ** 2).mean(1), atol=0.012)


def test_the_best_exposure_for_rings_of_ice_is_the_published_one():
    """McMullan et al. 2015: rings at 3.7 A are clearest in summed power spectra with 4.0 electrons per A^2 a image.

    A image's rings grow with dose^2 times what is left; the error of its noise with dose, and with
    the root of the number of images that the whole exposure gives.
    """
    clearness = lambda dose: -np.sqrt(dose) * float(water_curve(np.array(1 / 3.7), dose)) ** 2  # noqa: E731
    assert minimize_scalar(clearness, bounds=(0.1, 40), method="bounded").x == pytest.approx(4.0, abs=0.2)


def test_water_has_no_seam_where_its_series_ends():
    k = np.linspace(0, 0.02, 4001)
    curve = water_curve(k, 5.0)
    assert curve[0] == 1
    assert np.abs(np.diff(curve, 2)).max() < 1e-6
    assert (water_curve(K[1:], 20, 200) < water_curve(K[1:], 20, 300)).all()


def test_negative_numbers_are_refused_by_name():
    for call, name in (
        (lambda: damage_curve(K, -1.0), "dose_e_A2"),
        (lambda: damage_curve(K, 1.0, before_e_A2=-1.0), "before_e_A2"),
        (lambda: damage_curve(K, float("nan")), "dose_e_A2"),
        (lambda: motion_curve(K, -0.5), "motion_A"),
        (lambda: water_curve(K, -3.0), "dose_e_A2"),
    ):
        with pytest.raises(ConfigError, match=name):
            call()
