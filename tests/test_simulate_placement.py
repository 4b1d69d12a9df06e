"""Laws of where particles lie and their orientations."""

import re

import numpy as np
import pytest
from scipy.spatial import KDTree

from upicker.errors import ConfigError
from upicker.simulate.placement import Area, Placement, heights, orientations, positions


def area(inside: int, outside: int = 0, diameter: float = 20.0, shape=(301, 520)) -> Area:
    n = inside + outside
    return Area(shape, 35.0, np.full(n, diameter), np.arange(n) < inside)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("gap", "count"), [(0.6, 150), (1.2, 150), (1.0, 330)])
def test_no_two_are_nearer_than_asked_thrown_or_pushed_apart(gap, count):
    where = area(count, 90)
    xy = positions(rng(), where, Placement(min_distance=gap))
    distance = KDTree(xy).query(xy, 2)[0][:, 1]
    assert gap * 20 <= distance.min() < (gap + 0.2) * 20


def test_exactly_as_many_as_asked_for_lie_in_the_image_and_the_others_around_it():
    where = area(60, 45)
    xy = positions(rng(), where, Placement())
    inside = ((xy >= -0.5) & (xy < np.array([519.5, 300.5]))).all(1)
    np.testing.assert_array_equal(inside, where.inside)
    assert ((xy >= -35.5) & (xy < np.array([554.5, 335.5]))).all()


def test_unequal_ones_keep_the_mean_of_their_diameters():
    diameters = np.where(np.arange(90) % 3 == 0, 45.0, 12.0)
    where = Area((301, 520), 35.0, diameters, np.ones(90, bool))
    xy = positions(rng(), where, Placement(min_distance=1.0))
    distance = np.linalg.norm(xy[:, None] - xy, axis=2) + 1e9 * np.eye(90)
    assert (distance - (diameters[:, None] + diameters) / 2).min() >= 0
    assert distance.min() < 20


def test_more_than_fit_is_an_error_that_says_how_many_do():
    with pytest.raises(ConfigError, match="do not fit") as error:
        positions(rng(), area(900, 400), Placement(min_distance=1.0))
    fit = int(re.findall(r"about (\d+)", str(error.value))[0])
    # Nine tenths of that do fit, and it is less than the densest lattice of discs.
    share = 0.9 * fit / 900
    assert len(positions(rng(), area(int(900 * share), int(400 * share)), Placement(min_distance=1.0)))
    assert fit * np.pi / 4 * 20**2 < 0.907 * 301 * 520


def test_aggregates_touch_and_the_others_keep_away():
    where = area(100)
    xy = positions(rng(), where, Placement(min_distance=1.3, clustered=0.4))
    nearest = KDTree(xy).query(xy, 2)[0][:, 1] / 20
    assert 0.3 < (nearest < 1.0).mean() < 0.55
    assert np.median(nearest) > 1.2
    assert nearest.min() > 0.3


def test_the_same_generator_gives_the_same_positions():
    first, again = (positions(rng(5), area(40, 9), Placement(clustered=0.3)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_orientations_are_rotations_and_uniform():
    turns = orientations(rng(), 4000)
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    # Each column is uniform on the sphere: its mean is 0 and its second moment a third of the unit matrix.
    for axis in range(3):
        moment = np.einsum("ni,nj->ij", turns[:, :, axis], turns[:, :, axis]) / len(turns)
        np.testing.assert_allclose(moment, np.eye(3) / 3, atol=0.03)
        assert np.abs(turns[:, :, axis].mean(0)).max() < 0.04
    assert abs(np.trace(turns, axis1=1, axis2=2).mean()) < 0.06


@pytest.mark.parametrize("preferred", [6.0, -6.0])
def test_preferred_views_follow_their_density(preferred):
    cosine = orientations(rng(), 5000, preferred)[:, 2, 2]
    c = np.linspace(-1, 1, 20001)
    weight = np.exp(-preferred * c**2)
    assert (cosine**2).mean() == pytest.approx((weight * c**2).sum() / weight.sum(), rel=0.06)
    assert abs(cosine.mean()) < 0.05


def test_particles_stay_in_the_ice_and_most_at_its_surfaces():
    thickness = np.linspace(100, 800, 3000)
    height = heights(rng(), Placement(surfaces=0.8), thickness, np.full(3000, 75.0))
    room = np.clip(thickness / 2 - 75, 0, None)
    assert (np.abs(height) <= room + 1e-9).all()
    thick = room > 150
    assert 0.75 < (np.abs(height[thick]) > room[thick] - 60).mean() < 0.95
    assert 0.45 < (height[thick] > 0).mean() < 0.55


@pytest.mark.parametrize("change", [{"clustered": 1.2}, {"broken": -0.1}, {"min_distance": -1.0}, {"decoy_share": -1}])
def test_impossible_placements_are_errors(change):
    with pytest.raises(ConfigError, match=next(iter(change))):
        Placement(**change)
