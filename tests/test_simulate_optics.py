"""Laws of the microscope: wavelength, contrast transfer, images of waves."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import fft

from upicker.simulate.optics import (
    Optics,
    aberration,
    ctf,
    envelope,
    frequencies,
    intensity,
    interaction_rad_VA,
    wavelength_A,
)

SHAPE = (90, 128)
PLAIN = Optics(amplitude_contrast=0.0, envelope_B_A2=0.0)


@pytest.mark.parametrize(("voltage_kV", "expected_A"), [(300, 0.019687), (200, 0.025079), (100, 0.037014)])
def test_the_wavelength_is_the_known_one(voltage_kV, expected_A):
    assert wavelength_A(voltage_kV) == pytest.approx(expected_A, rel=1e-4)


@pytest.mark.parametrize(("voltage_kV", "expected"), [(300, 6.526e-4), (200, 7.288e-4), (100, 9.244e-4)])
def test_the_interaction_constant_is_the_known_one(voltage_kV, expected):
    assert interaction_rad_VA(voltage_kV) == pytest.approx(expected, rel=1e-3)


def test_zeros_without_spherical_aberration_stand_where_defocus_puts_them():
    optics = replace(PLAIN, Cs_mm=0.0, defocus_A=20000.0)
    row = ctf((1, 8192), 1.0, optics)[0, :4096]
    k = np.arange(4096) / 8192
    crossings = np.flatnonzero(np.diff(np.sign(row[1:]))) + 1
    orders = np.arange(1, 20)
    expected = np.sqrt(orders / (wavelength_A(300) * 20000))  # pi lambda df k^2 = n pi
    np.testing.assert_allclose(k[crossings[:19]], expected, atol=1 / 8192)


def test_zeros_with_everything_solve_the_quadratic_equation():
    optics = Optics(voltage_kV=200, Cs_mm=2.0, amplitude_contrast=0.1, defocus_A=12000, envelope_B_A2=50)
    row = ctf((1, 16384), 1.2, optics)[0, :8192]
    k = np.arange(8192) / (16384 * 1.2)
    crossings = np.flatnonzero(np.diff(np.sign(row)))
    wavelength, cs = wavelength_A(200), 2.0e7
    # pi/2 cs lambda^3 q^2 - pi lambda df q + (n pi - asin w) = 0 in q = k^2
    rest = np.pi * np.arange(1, 12) - np.arcsin(0.1)
    root = np.sqrt((wavelength * 12000) ** 2 - 2 / np.pi * cs * wavelength**3 * rest)
    expected = np.sqrt((wavelength * 12000 - root) / (cs * wavelength**3))
    np.testing.assert_allclose(k[crossings[:11]], expected, atol=1 / (16384 * 1.2))


def test_the_origin_shows_the_amplitude_contrast_dark():
    assert ctf(SHAPE, 3.0, Optics(amplitude_contrast=0.07))[0, 0] == pytest.approx(-0.07)


def test_astigmatism_gives_each_axis_its_own_defocus():
    square = (96, 96)
    optics = replace(PLAIN, defocus_A=15000.0, astigmatism_A=1000.0)
    both = aberration(square, 2.0, optics)
    largest = aberration(square, 2.0, replace(PLAIN, defocus_A=15500.0))
    smallest = aberration(square, 2.0, replace(PLAIN, defocus_A=14500.0))
    np.testing.assert_allclose(both[0], largest[0], rtol=1e-4)
    np.testing.assert_allclose(both[:, 0], smallest[:, 0], rtol=1e-4)
    turned = aberration(square, 2.0, replace(optics, astigmatism_deg=90.0))
    np.testing.assert_allclose(turned, both.T, atol=1e-3)
    diagonal = np.arange(1, 40)
    slanted = aberration(square, 2.0, replace(optics, astigmatism_deg=45.0))
    np.testing.assert_allclose(slanted[diagonal, diagonal], largest[diagonal, diagonal], rtol=1e-4)


def test_the_envelope_falls_to_one_over_e_where_b_says():
    ky, kx = frequencies(SHAPE, 2.5)
    b = 4 / (kx[0, 10] ** 2 + ky[7, 0] ** 2)
    assert envelope(SHAPE, 2.5, Optics(envelope_B_A2=float(b)))[7, 10] == pytest.approx(np.exp(-1))


def test_a_weak_particle_is_imaged_through_the_ctf():
    optics = Optics(defocus_A=9000, astigmatism_A=700, astigmatism_deg=25, amplitude_contrast=0.1)
    rng = np.random.default_rng(0)
    phase = 1e-3 * rng.standard_normal(SHAPE).astype(np.float32)
    tangent = np.float32(np.tan(np.arcsin(0.1)))
    picture = intensity(phase, tangent * phase, 3.0, optics)
    seen = fft.ifft2(fft.fft2(phase) * ctf(SHAPE, 3.0, optics)).real
    expected = 2 * seen / np.cos(np.arcsin(0.1))
    assert np.abs(picture - 1 - expected).max() < 0.03 * np.abs(expected).max()


def test_protein_in_underfocus_is_dark_and_absorption_takes_its_share():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    blob = 0.1 * np.exp(-((y - 45) ** 2 + (x - 64) ** 2) / 60).astype(np.float32)
    assert intensity(blob, 0 * blob, 3.0, Optics(defocus_A=15000))[45, 64] < 0.99
    flat = np.full(SHAPE, 0.3, np.float32)
    np.testing.assert_allclose(intensity(flat, flat, 3.0, Optics()), np.exp(-0.6), rtol=1e-5)


def test_a_phase_only_object_loses_no_electrons():
    phase = np.random.default_rng(1).normal(0, 0.5, SHAPE).astype(np.float32)
    assert intensity(phase, 0 * phase, 3.0, PLAIN).mean() == pytest.approx(1, rel=1e-4)
