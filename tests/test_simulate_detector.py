"""Laws of the camera: counts, noise, contrast, bad pixels."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import fft, stats

from upicker.errors import ConfigError
from upicker.simulate.microscope.cameras import CAMERAS, find, read
from upicker.simulate.microscope.detector import Detector, count, expose

SHAPE = (601, 794)
CLEAN = Detector("ideal", gain_error=0.0, hot_pixels=0.0, dead_pixels=0.0)
ALL = [(name, kV) for name, tables in CAMERAS.items() for kV in tables]
RINGS = np.linspace(0.02, 0.48, 9)


def flat(electrons: float, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    return np.full(shape, electrons, np.float32)


def ring_power(image: np.ndarray) -> np.ndarray:
    """Mean power per pixel in rings of frequency around `RINGS`; white noise of variance v has v everywhere."""
    power = np.abs(fft.fft2(image - image.mean())) ** 2 / image.size
    k = np.hypot(np.fft.fftfreq(SHAPE[0])[:, None], np.fft.fftfreq(SHAPE[1])[None, :])
    return np.array([power[np.abs(k - ring) < 0.015].mean() for ring in RINGS])


@pytest.mark.parametrize("mean", [0.0, 0.7, 9.0, 19.9, 20.0, 43.5, 300.0])
def test_counts_are_poisson_numbers(mean):
    drawn = count(np.random.default_rng(3), flat(mean, (1000, 1003)))
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, np.rint(drawn))
    found = np.bincount(drawn.astype(int).ravel(), minlength=int(mean + 12 * np.sqrt(mean) + 12)) / drawn.size
    expected = stats.poisson.pmf(np.arange(len(found)), mean)
    # What a million true draws would show, and 0.002 for the formula.
    chance = np.sqrt(2 / np.pi * expected / drawn.size).sum() / 2
    assert np.abs(found - expected).sum() / 2 < 0.002 + 1.5 * chance
    assert drawn.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / drawn.size) + 1e-9)
    assert drawn.var(dtype=float) == pytest.approx(mean, rel=5 * np.sqrt(2.2 / drawn.size) + 1e-3)


def test_a_image_of_few_and_many_is_counted_right_in_both():
    mean = flat(400.0)
    mean[::3, 200:] = 2.0
    drawn = count(np.random.default_rng(0), mean)
    for level in (2.0, 400.0):
        part = drawn[mean == level]
        assert part.mean() == pytest.approx(level, abs=5 * np.sqrt(level / part.size))
        assert part.var(dtype=float) == pytest.approx(level, rel=0.03)


def test_the_ideal_camera_counts_every_electron_where_it_falls():
    dose = flat(30.0)
    dose[:, 300:] = 60.0
    counts = expose(np.random.default_rng(1), dose, CLEAN)
    for part, mean in ((counts[:, :300], 30), (counts[:, 300:], 60)):
        assert part.mean() == pytest.approx(mean, rel=2e-3)
        assert part.var(dtype=float) == pytest.approx(mean, rel=0.02)
    np.testing.assert_allclose(ring_power(expose(np.random.default_rng(2), flat(30.0), CLEAN)) / 30, 1, atol=0.08)


@pytest.mark.parametrize(("camera", "voltage_kV"), ALL)
def test_mean_counts_are_the_dose_that_the_camera_sees(camera, voltage_kV):
    detector = replace(CLEAN, camera=camera, voltage_kV=voltage_kV)
    counts = expose(np.random.default_rng(1), flat(50.0), detector)
    assert counts.mean() == pytest.approx(50 * find(camera, voltage_kV).dqe0, rel=2e-3)
    half = expose(np.random.default_rng(1), flat(50.0), replace(detector, dqe0=0.5))
    assert half.mean() == pytest.approx(25, rel=2e-3)


@pytest.mark.parametrize("camera", ["k3", "falcon4", "de20"])
@pytest.mark.parametrize("binning", [1.0, 2.0])
def test_the_noise_has_the_power_of_its_transfer_function(camera, binning):
    detector = replace(CLEAN, camera=camera, binning=binning)
    power = ring_power(expose(np.random.default_rng(4), flat(40.0), detector)) / (40 * detector.efficiency)
    # A ring is 0.03 wide: its mean, not its middle, where the curve is steep.
    inside = RINGS[:, None] + np.linspace(-0.015, 0.015, 31)
    expected = (find(camera, 300).noise(inside / binning) ** 2).mean(axis=1)
    np.testing.assert_allclose(power, expected, rtol=0.1)


@pytest.mark.parametrize(("camera", "binning"), [("k3", 1.0), ("k2", 1.5), ("falcon3ec", 1.0), ("de20", 2.0)])
def test_contrast_is_passed_by_the_modulation_transfer_function(camera, binning):
    detector = replace(CLEAN, camera=camera, binning=binning)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    for row, column in ((31, 0), (100, 120), (-250, 90)):
        wave = np.cos(2 * np.pi * (row * y / SHAPE[0] + column * x / SHAPE[1]))
        counts = expose(np.random.default_rng(5), (60 + 20 * wave).astype(np.float32), detector)
        seen = 2 * np.mean(counts * wave) / (20 * detector.efficiency)
        k = np.hypot(row / SHAPE[0], column / SHAPE[1]) / binning
        noise = np.sqrt(2 * 60 / detector.efficiency / counts.size) / 20
        assert seen == pytest.approx(float(find(camera, 300).transfer(np.array(k))), abs=4 * noise)


@pytest.mark.parametrize(("camera", "voltage_kV"), ALL)
def test_tables_are_possible_ones(camera, voltage_kV):
    table, f = find(camera, voltage_kV), np.linspace(0, 0.5, 101)
    assert table.transfer(f)[0] == table.noise(f)[0] == 1
    assert (np.diff(table.transfer(f)) < 0).all()
    efficiency = table.dqe(f)
    assert efficiency[0] == table.dqe0
    assert (np.diff(efficiency) < 0.002).all()
    assert 0.1 * table.dqe0 < efficiency[-1] < 0.6 * table.dqe0


def test_tables_agree_with_the_makers():
    """A second copy of the makers' files, where it is installed."""
    folder = pytest.importorskip("importlib.resources").files(pytest.importorskip("ttsim3d")) / "data"
    for camera, kV, file in (
        ("k2", 300, "k2_300kV_FL2"),
        ("k2", 200, "k2_200kV_FL2"),
        ("k3", 300, "k3_standard_300kV_FL2"),
        ("k3", 200, "k3_standard_200kV_FL2"),
        ("k3-cds", 300, "k3_CDS_300kV_FL1"),
        ("k3-cds", 200, "k3_CDS_200kV_FL2"),
        ("falcon3ec", 300, "falcon3EC_300kV"),
        ("falcon3ec", 200, "falcon3EC_200kV"),
        ("falcon4", 300, "falcon4EC_300kV"),
        ("falcon4", 200, "falcon4EC_200kV"),
        ("de20", 300, "de20_300kV"),
    ):
        theirs, f = read(folder / f"mtf_{file}.star"), np.linspace(0, 0.49, 60)
        np.testing.assert_allclose(find(camera, kV).transfer(f), theirs.transfer(f), atol=0.01, err_msg=file)


def test_equal_generators_give_equal_images_and_others_do_not():
    detector = Detector("k3", bad_columns=2.0)
    one, two, other = (expose(np.random.default_rng(seed), flat(30.0), detector) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert (one != other).mean() > 0.5


def test_gain_errors_are_as_large_as_asked():
    counts = expose(np.random.default_rng(0), flat(1e6), replace(CLEAN, gain_error=0.02))
    assert counts.std(dtype=float) / 1e6 == pytest.approx(np.hypot(0.02, 1e-3), rel=0.01)
    assert counts.mean(dtype=float) == pytest.approx(1e6, rel=2e-4)


def test_hot_and_dead_pixels_and_bad_columns_are_as_many_as_asked():
    million = flat(100.0, (800, 1250))
    hot = expose(np.random.default_rng(0), million, replace(CLEAN, hot_pixels=400.0)) > 200
    assert hot.sum() == pytest.approx(400 * np.exp(-2 / 30), abs=80)  # exponential, 30 times the mean on average
    dead = expose(np.random.default_rng(0), million, replace(CLEAN, dead_pixels=400.0)) == 0
    assert dead.sum() == pytest.approx(400, abs=80)
    columns = expose(np.random.default_rng(0), million, replace(CLEAN, bad_columns=12.0)).mean(0)
    assert 4 <= (np.abs(columns - 100) > 2).sum() <= 22
    assert not (expose(np.random.default_rng(0), million, CLEAN) > 200).any()


def test_a_users_table_is_read_as_star_and_as_plain_columns(tmp_path):
    f = np.arange(0, 0.501, 0.0125)
    value = 0.98 * np.exp(-2 * f**2)
    rows = "\n".join(f"{a:.6f}  {b:.6f}" for a, b in zip(f, value, strict=True))
    star, text = tmp_path / "mtf.star", tmp_path / "mtf.txt"
    star.write_text(f"data_mtf\n\nloop_\n_rlnResolutionInversePixel #1\n_rlnMtfValue #2\n{rows}\n")
    text.write_text("# frequency, transfer\n" + rows.replace("  ", ", ") + "\n")
    for path in (star, text):
        table = find(str(path), 300)
        np.testing.assert_allclose(table.transfer(f), np.exp(-2 * f**2), atol=1e-3)
        assert Detector(str(path)).efficiency == 1


@pytest.mark.parametrize("text", ["", "nothing here\n", "0 1\n0.1 0.9\n", "0.5 0.3\n0 1\n", "0 1\n0.5 -0.3\n"])
def test_what_is_no_table_is_refused_by_its_name(tmp_path, text):
    path = tmp_path / "mtf.star"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"mtf\.star"):
        Detector(str(path))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"camera": "k9"}, "k3-cds"),
        ({"camera": "de20", "voltage_kV": 200.0}, "300 kV"),
        ({"voltage_kV": 300000.0}, "300 kV"),
        ({"binning": 0.5}, "binning"),
        ({"binning": -1.0}, "binning"),
        ({"dqe0": 85.0}, "dqe0"),
        ({"dqe0": 0.0}, "dqe0"),
        ({"gain_error": -0.1}, "gain_error"),
        ({"gain_error": 5.0}, "gain_error"),
        ({"hot_pixels": -1.0}, "hot_pixels"),
        ({"dead_pixels": float("nan")}, "dead_pixels"),
        ({"bad_columns": -1.0}, "bad_columns"),
    ],
)
def test_impossible_cameras_are_refused_by_name(wrong, named):
    with pytest.raises(ConfigError, match=named):
        Detector(**wrong)


@pytest.mark.parametrize("electrons", [-1.0, float("nan")])
def test_negative_electrons_are_refused(electrons):
    with pytest.raises(ConfigError, match="electrons_per_px"):
        expose(np.random.default_rng(0), flat(electrons, (5, 7)), Detector())
