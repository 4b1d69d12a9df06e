"""Laws of Fourier cropping: amplitude, position, linearity, awkward sizes."""

import numpy as np
import pytest

from upicker.image import fourier
from upicker.image.fourier import crop

SHAPES = [((60, 84), (20, 28)), ((61, 47), (23, 31)), ((40, 30), (67, 91)), ((64, 50), (31, 50)), ((33, 20), (33, 41))]


def resample(picture, shape):
    return fourier.resample([picture], picture.shape, shape)


@pytest.mark.parametrize(("raw", "working"), SHAPES)
@pytest.mark.parametrize("resampling", [crop, resample])
def test_a_constant_stays_that_constant(raw, working, resampling):
    out = resampling(np.full(raw, 7.25, np.float32), working)
    assert out.shape == working
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, 7.25, rtol=1e-5)


@pytest.mark.parametrize(("raw", "working"), SHAPES)
def test_a_slow_wave_is_sampled_at_raw_times_scale(raw, working):
    def wave(shape):
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float64)
        return np.sin(2 * np.pi * (3 * y / shape[0] - 2 * x / shape[1]) + 0.4) + np.cos(2 * np.pi * 4 * x / shape[1])

    np.testing.assert_allclose(crop(wave(raw).astype(np.float32), working), wave(working), atol=1e-5)


@pytest.mark.parametrize(("raw", "working"), SHAPES)
def test_it_agrees_with_a_direct_sum_over_frequencies(raw, working):
    picture = np.random.default_rng(0).normal(size=raw)
    expected = picture.astype(np.complex128)
    for axis, (n, m) in enumerate(zip(raw, working)):
        if n == m:
            continue
        spectrum = np.fft.fft(expected, axis=axis)
        k = np.rint(np.fft.fftfreq(n) * n)
        kept = np.abs(k) < min(n, m) / 2
        basis = np.exp(2j * np.pi * np.outer(np.arange(m), k[kept]) / m) / n
        expected = np.moveaxis(np.tensordot(basis, np.compress(kept, spectrum, axis=axis), (1, axis)), 0, axis)
    np.testing.assert_allclose(crop(picture.astype(np.float32), working), expected.real, atol=2e-5)


@pytest.mark.parametrize("resampling", [crop, resample])
def test_it_is_linear_and_leaves_its_input(resampling):
    a, b = np.random.default_rng(1).normal(size=(2, 53, 70)).astype(np.float32)
    before = a.copy()
    both = resampling(a + 3 * b, (20, 33))
    np.testing.assert_allclose(both, resampling(a, (20, 33)) + 3 * resampling(b, (20, 33)), atol=1e-4)
    np.testing.assert_array_equal(a, before)


def test_enlarging_and_cropping_back_returns_the_picture():
    picture = crop(np.random.default_rng(2).normal(size=(80, 90)).astype(np.float32), (31, 45))
    np.testing.assert_allclose(crop(crop(picture, (77, 101)), (31, 45)), picture, atol=1e-5)


def test_turning_and_cropping_commute_around_the_first_sample():
    picture = np.random.default_rng(3).normal(size=(60, 44)).astype(np.float32)
    np.testing.assert_allclose(crop(picture.T, (22, 30)), crop(picture, (30, 22)).T, atol=1e-5)


def test_a_tilted_plane_does_not_ring():
    y, x = np.mgrid[:90, :120].astype(np.float32)
    rows, columns = np.mgrid[:31, :37]
    expected = 5 + 2 * rows * 90 / 31 - 3 * columns * 120 / 37
    np.testing.assert_allclose(resample(5 + 2 * y - 3 * x, (31, 37)), expected, atol=2e-3)


def test_more_rows_than_one_block_make_no_seam():
    picture = np.random.default_rng(4).normal(size=(700, 12)).astype(np.float32)
    spectrum = np.fft.rfft2(picture)
    spectrum = np.concatenate([spectrum[:51], spectrum[-50:]])[:, :6]
    expected = np.fft.irfft2(spectrum, s=(101, 11)) * (101 * 11 / (700 * 12))
    np.testing.assert_allclose(crop(picture, (101, 11)), expected, atol=1e-5)
