"""Laws of the procedural particles: exact projections, symmetry."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from upicker.errors import ConfigError
from upicker.simulate.specimen import Specimen, barrel, build, dihedral, globule

SPECIMENS = [barrel(150.0, 1), globule(180.0, 1)]
TURNS = Rotation.from_quat(np.random.default_rng(0).normal(size=(4, 4))).as_matrix()


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda s: s.name)
@pytest.mark.parametrize("rotation", TURNS)
def test_every_projection_holds_the_whole_particle(specimen, rotation):
    size = 2 * int(specimen.radius_A / 3.3) + 3
    volume = specimen.volume(size, 3.3)
    projection = specimen.projection(rotation, size, 3.3)
    assert volume.sum() * 3.3**3 == pytest.approx(specimen.weight_VA3.sum(), rel=1e-4)
    assert projection.sum() * 3.3**2 == pytest.approx(volume.sum() * 3.3**3, rel=1e-4)


@pytest.mark.parametrize("specimen", SPECIMENS, ids=lambda s: s.name)
def test_along_z_and_y_it_is_the_sum_over_the_volume(specimen):
    size = 2 * int(specimen.radius_A / 4) + 3
    volume = specimen.volume(size, 4.0)
    scale = volume.sum(0).max() * 4
    np.testing.assert_allclose(specimen.projection(np.eye(3), size, 4.0), volume.sum(0) * 4, atol=1e-4 * scale)
    # x stays, y takes the place of z, so that rows are -z
    turned = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    along_y = volume.sum(1)[::-1] * 4
    np.testing.assert_allclose(specimen.projection(turned, size, 4.0), along_y, atol=1e-4 * scale)


def test_any_other_side_agrees_with_a_turned_volume():
    specimen = barrel(150.0, 3)
    volume = specimen.volume(61, 4.0)
    for rotation in TURNS:
        # The value at p of the turned volume is that of the volume at rotation^-1 p; arrays count z, y, x.
        matrix = rotation.T[::-1, ::-1]
        offset = np.full(3, 30) - matrix @ np.full(3, 30)
        turned = ndimage.affine_transform(volume, matrix, offset, order=3)
        expected = turned.sum(0) * 4
        error = specimen.projection(rotation, 61, 4.0) - expected
        assert np.abs(error).max() < 0.02 * expected.max()


def test_a_slice_of_the_transform_is_the_transform_of_the_projection():
    specimen, size, step = globule(150.0, 2), 64, 4.0
    rotation = TURNS[1]
    k = np.fft.fftfreq(size, step)[:6]
    grid = np.stack(np.meshgrid(k, k, indexing="ij"), -1).reshape(-1, 2)  # ky, kx
    in_particle = np.stack([grid[:, 1], grid[:, 0], np.zeros(len(grid))], 1) @ rotation  # rotation^-1 k
    place = (np.arange(size) - size // 2) * step
    volume = specimen.volume(size, step)
    waves = [np.exp(-2j * np.pi * in_particle[:, [axis]] * place) for axis in (2, 1, 0)]
    slice_ = np.einsum("zyx,kz,ky,kx->k", volume, *waves, optimize=True) * step**3
    picture = specimen.projection(rotation, size, step)
    sides = [np.exp(-2j * np.pi * grid[:, [axis]] * place) for axis in (0, 1)]
    transform = np.einsum("yx,ky,kx->k", picture, *sides, optimize=True) * step**2
    # Averaging over voxels and over pixels damps a little differently: sinc^3 along turned axes against sinc^2.
    assert np.abs(transform - slice_).max() < 2e-2 * np.abs(slice_).max()


def test_a_shift_between_pixels_moves_the_centre_of_mass_by_just_that():
    specimen = globule(150.0, 0)
    rows, columns = np.mgrid[:71, :71]

    def middle(picture):
        return np.array([(picture * columns).sum(), (picture * rows).sum()]) / picture.sum()

    moved = specimen.projection(TURNS[0], 71, 3.0, (0.4, -2.3))
    still = specimen.projection(TURNS[0], 71, 3.0)
    np.testing.assert_allclose(middle(moved) - middle(still), (0.4, -2.3), atol=1e-3)


def test_the_barrel_has_d7_symmetry_and_no_more():
    specimen = barrel(150.0, 5)
    volume = specimen.volume(60, 4.0)
    for operator in dihedral(7):
        turned = Specimen("turned", specimen.centres_A @ operator.T, specimen.sigma_A, specimen.weight_VA3)
        np.testing.assert_allclose(turned.volume(60, 4.0), volume, atol=1e-4 * volume.max())
    sixth = Rotation.from_euler("z", 360 / 6, degrees=True).as_matrix()
    turned = Specimen("turned", specimen.centres_A @ sixth.T, specimen.sigma_A, specimen.weight_VA3)
    assert np.abs(turned.volume(60, 4.0) - volume).max() > 0.1 * volume.max()


def test_dihedral_operators_are_a_group_of_rotations():
    group = dihedral(7)
    np.testing.assert_allclose(np.linalg.det(group), 1)
    products = np.einsum("aij,bjk->abik", group, group).reshape(-1, 1, 3, 3)
    assert (np.abs(products - group).max((2, 3)).min(1) < 1e-12).all()


def test_the_barrel_has_its_length_its_width_its_hole_and_its_weight():
    specimen = barrel(150.0)
    x, y, z = specimen.centres_A.T
    assert np.ptp(z) == pytest.approx(150, abs=10)
    assert 2 * np.hypot(x, y).max() == pytest.approx(115, abs=12)
    assert np.hypot(x, y).min() > 10
    assert specimen.weight_VA3.sum() / 3.0 / 1.21e3 == pytest.approx(700, rel=0.05)  # kDa
    np.testing.assert_allclose(barrel(300.0).centres_A, 2 * specimen.centres_A)


def test_seeds_make_different_particles_and_unknown_names_are_errors():
    assert (globule(260.0, 1).centres_A[:99] != globule(260.0, 2).centres_A[:99]).any()
    np.testing.assert_array_equal(build("globule", 260.0, 1).weight_VA3, globule(260.0, 1).weight_VA3)
    with pytest.raises(ConfigError, match="no 'ball'"):
        build("ball", 100.0)
