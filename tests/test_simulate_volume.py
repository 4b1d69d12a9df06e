"""Laws of projections: Gaussian blobs, whose slices are exact, against sums over a rotated grid and against Volume."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from upicker.simulate.specimens.blobs import Blobs
from upicker.simulate.specimens.volume import Volume

RNG = np.random.default_rng(0)
BLOBS = Blobs("lopsided", 130.0, RNG.uniform(-1, 1, (60, 3)) * (22, 38, 61), 4.5, RNG.lognormal(9, 0.7, 60))
TURNS = Rotation.from_quat(RNG.normal(size=(4, 4))).as_matrix()
AXES = Rotation.from_euler("x", 70, degrees=True), Rotation.from_euler("y", 70, degrees=True)
QUARTERS = [turn.as_matrix() for turn in (*AXES, Rotation.from_euler("z", 70, degrees=True))]


def volume_of(blobs: Blobs, voxel_size_A: float) -> Volume:
    size = 2 * int(np.ceil(blobs.radius_A / voxel_size_A)) + 2
    return Volume(blobs.name, blobs.volume(size, voxel_size_A), voxel_size_A, blobs.diameter_A, blobs.radius_A)


VOLUME = volume_of(BLOBS, 3.0)


def summed(rotation: np.ndarray, step: float, size: int) -> np.ndarray:
    """The blobs' Gaussians in the image plane, written down directly, in float64."""
    x, y, _ = rotation @ BLOBS.centres_A.T
    grid = (np.arange(size) - size // 2) * step
    bells = [np.exp(-0.5 * ((grid[:, None] - at) / BLOBS.sigma_A) ** 2) for at in (y, x)]
    return np.einsum("yk,xk,k->yx", *bells, BLOBS.weight_VA3) / (2 * np.pi * BLOBS.sigma_A**2)


@pytest.mark.parametrize("rotation", [np.eye(3), *TURNS, *QUARTERS])
def test_blobs_are_the_sum_of_their_gaussians(rotation):
    expected = summed(rotation, 2.1, 83)
    np.testing.assert_allclose(BLOBS.projection(rotation, 83, 2.1), expected, atol=2e-4 * expected.max())


def test_blobs_project_as_their_rotated_grid_does():
    volume = BLOBS.volume(61, 3.0)
    for rotation in (*TURNS, *QUARTERS):
        # The value at p of the rotated volume is that of the volume at rotation^-1 p; arrays count z, y, x.
        matrix = rotation.T[::-1, ::-1]
        rotated = ndimage.affine_transform(volume, matrix, np.full(3, 30) - matrix @ np.full(3, 30), order=3)
        expected = rotated.sum(0) * 3
        assert np.abs(BLOBS.projection(rotation, 61, 3.0) - expected).max() < 0.01 * expected.max()


@pytest.mark.parametrize("pixel_size_A", [1.34, 3.0, 4.1, 9.5])
@pytest.mark.parametrize("rotation", [np.eye(3), *TURNS, *QUARTERS])
def test_a_slice_through_the_grid_is_the_projection(rotation, pixel_size_A):
    size = 2 * int(BLOBS.radius_A / pixel_size_A) + 5
    found, expected = (s.projection(rotation, size, pixel_size_A, (1.3, -0.4)) for s in (VOLUME, BLOBS))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9999
    assert np.abs(found - expected).max() < 0.01 * expected.max()
    assert found.sum() == pytest.approx(expected.sum(), rel=3e-3)
    assert expected.sum() * pixel_size_A**2 == pytest.approx(BLOBS.weight_VA3.sum(), rel=1e-2)


@pytest.mark.parametrize("specimen", [BLOBS, VOLUME], ids=["blobs", "volume"])
def test_a_shift_moves_the_image_by_just_that(specimen):
    rows, columns = np.mgrid[:101, :101]
    still, moved = (specimen.projection(TURNS[0], 101, 2.0, shift) for shift in ((0.0, 0.0), (3.4, -7.3)))
    middles = [np.array([(p * columns).sum(), (p * rows).sum()]) / p.sum() for p in (still, moved)]
    np.testing.assert_allclose(middles[1] - middles[0], (3.4, -7.3), atol=2e-2)
    whole = specimen.projection(TURNS[0], 101, 2.0, (3.0, -7.0))
    np.testing.assert_allclose(whole[:-7, 3:], still[7:, :-3], atol=1e-4 * still.max())


@pytest.mark.parametrize("size", [40, 41, 240])
def test_small_images_are_cut_and_large_ones_padded(size):
    full = VOLUME.projection(TURNS[1], 141, 2.0, (5.2, 0.7))
    other = VOLUME.projection(TURNS[1], size, 2.0, (5.2, 0.7))
    half = min(size, 141) // 2
    around = [
        p[len(p) // 2 - half : len(p) // 2 + half, len(p) // 2 - half : len(p) // 2 + half] for p in (full, other)
    ]
    np.testing.assert_array_equal(*around)
    outside = VOLUME.projection(TURNS[1], 20, 2.0, (500.0, 0.0))
    assert not outside.any()
    assert outside.shape == (20, 20)


def test_a_coarse_image_is_the_fourier_crop_of_a_fine_one():
    fine = VOLUME.projection(TURNS[2], 192, 1.5)
    coarse = VOLUME.projection(TURNS[2], 32, 9.0)
    spectrum = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(fine)))[96 - 16 : 96 + 16, 96 - 16 : 96 + 16]
    spectrum[0], spectrum[:, 0] = 0, 0
    cropped = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(spectrum))).real / 36
    assert np.abs(coarse - cropped).max() < 0.02 * cropped.max()


def test_another_implementation_of_central_slices_agrees():
    torch = pytest.importorskip("torch")
    slices = pytest.importorskip("torch_fourier_slice")
    size = len(VOLUME.density_V)
    # It turns the slice where we turn the particle.
    turns = np.stack([*TURNS, *QUARTERS])
    others = slices.project_3d_to_2d(torch.tensor(VOLUME.density_V), torch.tensor(turns.mT.copy(), dtype=torch.float32))
    for rotation, other in zip(turns, others.numpy() * VOLUME.voxel_size_A, strict=True):
        ours = VOLUME.projection(rotation, size, VOLUME.voxel_size_A)
        assert np.corrcoef(ours.ravel(), other.ravel())[0, 1] > 0.998
