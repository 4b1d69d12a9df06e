"""Laws of the microscope: wavelength, contrast transfer, images of waves, thick specimens."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import fft

from upicker.errors import ConfigError
from upicker.simulate.microscope.filters import filtered, frequencies
from upicker.simulate.microscope.multislice import exit_wave, thick_intensity
from upicker.simulate.microscope.optics import (
    Optics,
    aberration,
    ctf,
    envelope,
    focus_spread_A,
    intensity,
    interaction_rad_VA,
    wavelength_A,
)

SHAPE = (90, 127)
# Full coherence: nothing fades.
STEADY = Optics(envelope_B_A2=0.0, Cc_mm=0.0, divergence_mrad=0.0)
PLAIN = replace(STEADY, amplitude_contrast=0.0)


def smooth(seed: int, *shape: int, blur: float = 60.0) -> np.ndarray:
    """Random images without frequencies near Nyquist, standard deviation 1."""
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    ky, kx = frequencies((shape[-2], shape[-1]), 1.0)
    soft = fft.ifft2(fft.fft2(noise) * np.exp(-blur * (ky**2 + kx**2))).real
    return (soft / soft.std()).astype(np.float32)


def weak_phase(phase: np.ndarray, pixel_size_A: float, optics: Optics) -> np.ndarray:
    """The image of a weak specimen: 1, and twice its phase convolved with the CTF."""
    seen = fft.ifft2(fft.fft2(phase) * ctf((phase.shape[0], phase.shape[1]), pixel_size_A, optics)).real
    return 1 + 2 * seen / np.cos(np.arcsin(optics.amplitude_contrast))


def zeros_of(optics: Optics, pixel_size_A: float, samples: int) -> tuple[np.ndarray, float]:
    """Where the transfer crosses 0 along a row, between samples, and the step between these."""
    row = ctf((1, samples), pixel_size_A, optics, half=True)[0].astype(float)
    step = 1 / (samples * pixel_size_A)
    at = np.flatnonzero(np.diff(np.sign(row[1:]))) + 1
    return (at + row[at] / (row[at] - row[at + 1])) * step, step


@pytest.mark.parametrize(("voltage_kV", "expected_A"), [(300, 0.019687), (200, 0.025079), (100, 0.037014)])
def test_the_wavelength_is_the_known_one(voltage_kV, expected_A):
    assert wavelength_A(voltage_kV) == pytest.approx(expected_A, rel=1e-4)


@pytest.mark.parametrize(("voltage_kV", "expected"), [(300, 6.526e-4), (200, 7.288e-4), (100, 9.244e-4)])
def test_the_interaction_constant_is_the_known_one(voltage_kV, expected):
    assert interaction_rad_VA(voltage_kV) == pytest.approx(expected, rel=1e-3)


def test_zeros_without_spherical_aberration_stand_where_defocus_puts_them():
    found, step = zeros_of(replace(PLAIN, Cs_mm=0.0, defocus_A=20000.0), 1.0, 8192)
    expected = np.sqrt(np.arange(1, 20) / (wavelength_A(300) * 20000))  # pi lambda df k^2 = n pi
    np.testing.assert_allclose(found[:19], expected, atol=step / 10)


@pytest.mark.parametrize("plate_deg", [0.0, 60.0, 90.0])
def test_zeros_with_everything_solve_the_quadratic_equation(plate_deg):
    optics = Optics(voltage_kV=200, Cs_mm=2.0, amplitude_contrast=0.1, defocus_A=12000, phase_plate_deg=plate_deg)
    found, step = zeros_of(optics, 1.2, 16384)
    wavelength, cs_A = wavelength_A(200), 2.0e7
    # pi/2 cs lambda^3 q^2 - pi lambda df q + (n pi - plate - asin w) = 0 in q = k^2
    rest = np.pi * np.arange(1, 12) - np.deg2rad(plate_deg) - np.arcsin(0.1)
    root = np.sqrt((wavelength * 12000) ** 2 - 2 / np.pi * cs_A * wavelength**3 * rest)
    expected = np.sqrt((wavelength * 12000 - root) / (cs_A * wavelength**3))
    np.testing.assert_allclose(found[:11], expected, atol=step / 10)


def test_zeros_with_astigmatism_lie_on_an_ellipse():
    optics = replace(PLAIN, Cs_mm=0.0, defocus_A=20000.0, astigmatism_A=3000.0, astigmatism_deg=30.0)
    transfer = ctf((1200, 1201), 1.0, optics)
    ky, kx = frequencies((1200, 1201), 1.0)
    angle = np.arctan2(ky, kx)
    defocus_A = 20000 + 1500 * np.cos(2 * (angle - np.deg2rad(30)))
    order = wavelength_A(300) * defocus_A * (ky**2 + kx**2)  # whole numbers are zeros, in between it is -sin
    near = order < 12
    np.testing.assert_allclose(transfer[near], -np.sin(np.pi * order[near]), atol=1e-4)


def test_the_origin_shows_the_amplitude_contrast_dark_whatever_the_phase_plate():
    for plate_deg in (0.0, 90.0):
        optics = Optics(amplitude_contrast=0.07, phase_plate_deg=plate_deg)
        assert ctf(SHAPE, 3.0, optics)[0, 0] == pytest.approx(-0.07)
        assert aberration(SHAPE, 3.0, optics)[0, 0] == 0


def test_a_phase_plate_shows_low_frequencies_in_focus():
    row = ctf((1, 4000), 1.0, replace(PLAIN, defocus_A=0.0, phase_plate_deg=90.0), half=True)[0]
    assert (row[1:250] < -0.99).all()  # up to 16 A
    assert np.abs(ctf((1, 4000), 1.0, replace(PLAIN, defocus_A=0.0), half=True)[0, 1:250]).max() < 0.01


@pytest.mark.parametrize("function", [aberration, envelope, ctf])
@pytest.mark.parametrize("shape", [SHAPE, (91, 128)])
def test_the_half_is_the_left_part_of_the_whole(function, shape):
    optics = Optics(astigmatism_A=500.0, astigmatism_deg=20.0, phase_plate_deg=30.0)
    inside = (shape[1] + 1) // 2  # without Nyquist, whose sign differs
    whole, half = function(shape, 1.7, optics), function(shape, 1.7, optics, half=True)
    assert half.shape == (shape[0], shape[1] // 2 + 1)
    np.testing.assert_array_equal(half[:, :inside], whole[:, :inside])


def test_astigmatism_gives_each_axis_its_own_defocus():
    square = (96, 96)
    optics = replace(PLAIN, defocus_A=15000.0, astigmatism_A=1000.0)
    both = aberration(square, 2.0, optics)
    largest = aberration(square, 2.0, replace(PLAIN, defocus_A=15500.0))
    smallest = aberration(square, 2.0, replace(PLAIN, defocus_A=14500.0))
    np.testing.assert_allclose(both[0], largest[0], rtol=1e-4)
    np.testing.assert_allclose(both[:, 0], smallest[:, 0], rtol=1e-4)
    rotated = aberration(square, 2.0, replace(optics, astigmatism_deg=90.0))
    np.testing.assert_allclose(rotated, both.T, atol=1e-3)
    diagonal = np.arange(1, 40)
    slanted = aberration(square, 2.0, replace(optics, astigmatism_deg=45.0))
    np.testing.assert_allclose(slanted[diagonal, diagonal], largest[diagonal, diagonal], rtol=1e-4)


def at_frequency(k: float, optics: Optics) -> float:
    """The envelope at one frequency."""
    return float(envelope((1, 64), 10 / (64 * k), optics)[0, 10])


def test_each_envelope_falls_to_one_over_e_where_its_formula_says():
    wavelength = wavelength_A(300)
    b_factor = replace(STEADY, envelope_B_A2=80.0)
    assert at_frequency(np.sqrt(4 / 80), b_factor) == pytest.approx(np.exp(-1), rel=1e-4)
    temporal = replace(STEADY, Cc_mm=2.7, energy_spread_eV=2.0)
    k = np.sqrt(np.sqrt(2) / (np.pi * wavelength * focus_spread_A(temporal)))
    assert at_frequency(k, temporal) == pytest.approx(np.exp(-1), rel=1e-4)
    # Without spherical aberration the source's envelope is exp(-(pi alpha df k)^2).
    spatial = replace(STEADY, divergence_mrad=0.2, defocus_A=18000.0, Cs_mm=0.0)
    assert at_frequency(1 / (np.pi * 0.2e-3 * 18000), spatial) == pytest.approx(np.exp(-1), rel=1e-4)


def test_a_wide_source_is_the_mean_over_tilted_beams():
    """The envelope of the source, with everything in it, from the slope of the lens' phase."""
    optics = replace(STEADY, divergence_mrad=0.1, defocus_A=15000.0)
    samples, pixel_size_A = 40000, 0.35
    k = np.fft.rfftfreq(samples, pixel_size_A)
    slope = np.gradient(aberration((1, samples), pixel_size_A, optics, half=True)[0].astype(float), k)
    expected = np.exp(-((0.1e-3 / (2 * wavelength_A(300)) * slope) ** 2))
    found = envelope((1, samples), pixel_size_A, optics, half=True)[0]
    np.testing.assert_allclose(found[1:-1], expected[1:-1], atol=5e-3)
    # The slope vanishes where defocus and spherical aberration balance: nothing is lost there.
    balance = np.sqrt(15000 / (2.7e7 * wavelength_A(300) ** 2))
    assert found[np.argmin(np.abs(k - balance))] == pytest.approx(1, abs=1e-3)


def test_the_spread_of_focus_adds_its_causes_in_squares():
    gun = replace(STEADY, Cc_mm=2.0, energy_spread_eV=1.0, voltage_ripple_ppm=0.0, lens_ripple_ppm=0.0)
    relativistic = (1 + 300 / 511) / (1 + 300 / 1022)
    assert focus_spread_A(gun) == pytest.approx(2.0e7 * relativistic * 1.0 / 2.3548 / 300e3, rel=1e-4)
    lens = replace(gun, energy_spread_eV=0.0, lens_ripple_ppm=0.5)
    assert focus_spread_A(lens) == pytest.approx(2.0e7 * 1e-6)
    both = replace(gun, lens_ripple_ppm=0.5)
    assert focus_spread_A(both) == pytest.approx(np.hypot(focus_spread_A(gun), focus_spread_A(lens)))
    assert 20 < focus_spread_A(Optics()) < 60  # of a 300 kV field emission gun


def test_torch_ctf_agrees():
    torch_ctf = pytest.importorskip("torch_ctf")
    optics = replace(
        STEADY, defocus_A=12000, astigmatism_A=900, astigmatism_deg=25, phase_plate_deg=35, amplitude_contrast=0.08
    )
    given = {
        "defocus": 1.2,
        "astigmatism": 0.045,  # half the difference of the two, micrometres
        "astigmatism_angle": 25.0,
        "voltage": 300.0,
        "spherical_aberration": 2.7,
        "amplitude_contrast": 0.08,
        "phase_shift": 35.0,
        "pixel_size": 1.7,
        "image_shape": SHAPE,
        "rfft": False,
        "fftshift": False,
    }
    theirs = torch_ctf.calculate_ctf_2d(**given).numpy()
    scattered = np.ones(SHAPE, bool)
    scattered[0, 0] = False  # they let the unscattered beam through the plate too
    scattered[SHAPE[0] // 2] = False  # the sign of Nyquist's frequency
    np.testing.assert_allclose(ctf(SHAPE, 1.7, optics)[scattered], -theirs[scattered], atol=2e-4)
    wave = torch_ctf.calculate_ctf_2d(**given, return_complex_ctf=True).numpy()
    ours = np.exp(1j * (aberration(SHAPE, 1.7, optics) + np.arcsin(0.08)))
    np.testing.assert_allclose(ours[scattered], wave[scattered], atol=2e-4)


@pytest.mark.parametrize("plate_deg", [0.0, 90.0])
def test_a_weak_particle_is_imaged_through_the_ctf(plate_deg):
    optics = Optics(defocus_A=9000, astigmatism_A=700, astigmatism_deg=25, phase_plate_deg=plate_deg)
    phase = 1e-3 * smooth(0, *SHAPE)
    tangent = np.float32(np.tan(np.arcsin(0.1)))
    image = intensity(phase, tangent * phase, 3.0, optics)
    expected = weak_phase(phase, 3.0, optics)
    np.testing.assert_allclose(image, expected, atol=5e-3 * np.abs(expected - 1).max())


def test_the_weak_phase_image_misses_the_second_order_only():
    optics = Optics(defocus_A=12000.0)
    tangent = np.float32(np.tan(np.arcsin(0.1)))
    missed = []
    for strength in (0.02, 0.04):
        phase = strength * smooth(1, *SHAPE)
        difference = intensity(phase, tangent * phase, 3.0, optics) - weak_phase(phase, 3.0, optics)
        missed.append(float(np.sqrt(np.mean(difference**2))))
    assert missed[1] / missed[0] == pytest.approx(4, rel=0.05)


def test_protein_in_underfocus_is_dark_and_absorption_takes_its_share():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    blob = 0.1 * np.exp(-((y - 45) ** 2 + (x - 64) ** 2) / 60).astype(np.float32)
    assert intensity(blob, 0 * blob, 3.0, Optics(defocus_A=15000))[45, 64] < 0.99
    flat = np.full(SHAPE, 0.3, np.float32)
    np.testing.assert_allclose(intensity(flat, flat, 3.0, Optics()), np.exp(-0.6), rtol=1e-5)


def test_a_phase_only_object_loses_no_electrons():
    phase = np.random.default_rng(1).normal(0, 0.5, SHAPE).astype(np.float32)
    assert intensity(phase, 0 * phase, 3.0, PLAIN).mean() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("voltage_kV", 300000.0),
        ("voltage_kV", -300.0),
        ("Cs_mm", -2.7),
        ("Cs_mm", 2.7e7),
        ("defocus_A", 1.5),
        ("defocus_A", float("nan")),
        ("amplitude_contrast", 7.0),
        ("astigmatism_A", -100.0),
        ("Cc_mm", -1.0),
        ("energy_spread_eV", -0.7),
        ("divergence_mrad", -0.1),
        ("envelope_B_A2", -50.0),
    ],
)
def test_impossible_settings_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=name):
        Optics(**{name: value})


@pytest.mark.parametrize("pixel_size_A", [0.0, -1.0, float("nan")])
def test_a_pixel_size_must_be_positive(pixel_size_A):
    with pytest.raises(ConfigError, match="pixel_size_A"):
        ctf(SHAPE, pixel_size_A, Optics())


def test_a_filter_multiplies_each_wave_by_its_curve():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    wave = np.cos(2 * np.pi * (7 * y / 90 + 30 * x / 127)).astype(np.float32)
    k = np.hypot(7 / 90, 30 / 127) / 1.7
    curve = lambda k: np.exp(-3 * k) + 0.2 * k  # noqa: E731
    np.testing.assert_allclose(filtered(5 + wave, 1.7, curve), 5 + curve(k) * wave, atol=1e-3)


def potential_VA(count: int, strength_rad: float) -> np.ndarray:
    return strength_rad / interaction_rad_VA(300) * smooth(5, count, *SHAPE)


def test_one_slice_is_the_phase_object():
    optics = Optics(defocus_A=9000.0, astigmatism_A=400.0)
    one = potential_VA(1, 0.3)
    phase = interaction_rad_VA(300) * one[0]
    expected = intensity(phase, np.tan(np.arcsin(0.1)) * phase, 2.0, optics)
    np.testing.assert_allclose(thick_intensity(one, 100.0, 2.0, optics), expected, atol=1e-5)
    given = 0.2 * np.abs(smooth(6, 1, *SHAPE))
    expected = intensity(phase, given[0], 2.0, optics)
    np.testing.assert_allclose(thick_intensity(one, 100.0, 2.0, optics, given), expected, atol=1e-5)


def test_the_exit_wave_keeps_its_electrons():
    wave = exit_wave(potential_VA(7, 0.5), 300.0, 1.5, PLAIN)
    assert wave.dtype == np.complex64
    assert np.mean(np.abs(wave) ** 2) == pytest.approx(1, rel=1e-5)
    assert np.std(np.abs(wave)) > 0.02  # it is no phase object any more
    lossy = exit_wave(potential_VA(7, 0.5), 300.0, 1.5, PLAIN, np.full((7, *SHAPE), 0.01, np.float32))
    assert np.mean(np.abs(lossy) ** 2) == pytest.approx(np.exp(-2 * 7 * 0.01), rel=1e-5)


def test_a_thin_specimen_agrees_with_the_weak_phase_image():
    optics = Optics(defocus_A=10000.0)
    thin = potential_VA(4, 1e-3)
    weak = weak_phase(interaction_rad_VA(300) * thin.sum(0), 3.0, optics) - 1
    np.testing.assert_allclose(thick_intensity(thin, 20.0, 3.0, optics) - 1, weak, atol=0.01 * np.abs(weak).max())
    thick = thick_intensity(thin, 8000.0, 3.0, optics) - 1
    assert np.abs(thick - weak).max() > 0.1 * np.abs(weak).max()


@pytest.mark.parametrize(("number", "height_A"), [(0, -800.0), (2, 0.0), (3, 400.0)])
def test_a_thin_object_at_a_height_has_that_much_more_defocus(number, height_A):
    slices = np.zeros((5, *SHAPE), np.float32)
    slices[number] = potential_VA(1, 0.2)[0]
    optics = Optics(defocus_A=10000.0)
    expected = thick_intensity(slices[number : number + 1], 1.0, 2.0, replace(optics, defocus_A=10000.0 + height_A))
    np.testing.assert_allclose(thick_intensity(slices, 2000.0, 2.0, optics), expected, atol=2e-4)


def test_torch_scattering_agrees():
    """Its waves travel by exp(+i pi lambda dz k^2): they are the conjugate of ours for the opposite potential."""
    torch, torch_scattering = pytest.importorskip("torch"), pytest.importorskip("torch_scattering")
    count, pixel_size_A = 5, 4.0  # its slices are as thick as a pixel is wide
    volts = potential_VA(count, 0.4) / pixel_size_A
    theirs = torch_scattering.multislice(torch.from_numpy(-volts), pixel_size_A, 300.0).numpy().conj()
    ours = exit_wave(volts * pixel_size_A, count * pixel_size_A, pixel_size_A, PLAIN)
    # From the middle of the specimen to where theirs ends, a whole slice behind the last.
    ky, kx = frequencies(SHAPE, pixel_size_A)
    way_A = (count + 1) / 2 * pixel_size_A
    travelled = fft.ifft2(fft.fft2(ours) * np.exp(-1j * np.pi * wavelength_A(300) * way_A * (ky**2 + kx**2)))
    np.testing.assert_allclose(travelled, theirs, atol=2e-4)


def test_abtem_agrees():
    abtem = pytest.importorskip("abtem")
    # It drops what lies beyond two thirds of Nyquist, so hardly anything may lie there.
    slices = 0.3 / interaction_rad_VA(300) * smooth(7, 5, *SHAPE, blur=300.0)
    specimen = abtem.PotentialArray(slices, slice_thickness=20.0, sampling=(1.0, 1.0))
    wave = abtem.PlaneWave(energy=300e3).multislice(specimen)
    # Its wave ends a whole slice behind the last, 60 A from the middle.
    lens = abtem.CTF(energy=300e3, defocus=8000.0 + 60.0, Cs=2.7e7)
    theirs = np.asarray(wave.apply_ctf(lens).intensity().compute().array)
    np.testing.assert_allclose(thick_intensity(slices, 100.0, 1.0, replace(PLAIN, defocus_A=8000.0)), theirs, atol=2e-3)


@pytest.mark.parametrize(
    ("shape", "thickness_A", "pixel_size_A"),
    [((0, 8, 9), 10.0, 1.0), ((8, 9), 10.0, 1.0), ((2, 8, 9), -10.0, 1.0), ((2, 8, 9), 10.0, 0.0)],
)
def test_impossible_slices_are_refused(shape, thickness_A, pixel_size_A):
    with pytest.raises(ConfigError):
        exit_wave(np.zeros(shape, np.float32), thickness_A, pixel_size_A, Optics())
