"""Laws of whole simulated micrographs: the truth they come with is true."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import KDTree

from upicker.errors import ConfigError
from upicker.simulate.contamination import Contamination
from upicker.simulate.ice import Ice
from upicker.simulate.microscope.damage import damage_curve
from upicker.simulate.microscope.detector import Detector
from upicker.simulate.microscope.optics import Optics, ctf
from upicker.simulate.placement import Placement
from upicker.simulate.scene import Scene, make
from upicker.simulate.specimens.specimen import load

CLEAN = Contamination.level("none")
IDEAL = Detector("ideal", gain_error=0.0, hot_pixels=0.0, dead_pixels=0.0)
SMALL = Scene(shape=(301, 420), pixel_size_A=5.0, particles=40, contamination=CLEAN, detector=IDEAL, diameter_A=150.0)
FLAT = Ice(gradient=0.0, noise=0.0)


def boxes(pixels: np.ndarray, xy: np.ndarray, half: int) -> np.ndarray:
    corners = np.round(xy).astype(int) - half
    room = ((corners >= 0) & (corners + 2 * half < pixels.shape[::-1])).all(1)
    return np.stack([pixels[y : y + 2 * half + 1, x : x + 2 * half + 1] for x, y in corners[room]])


def test_one_index_is_one_image_and_another_index_or_seed_another():
    first, again = make(SMALL, 3), make(SMALL, 3)
    np.testing.assert_array_equal(first.micrograph.pixels, again.micrograph.pixels)
    np.testing.assert_array_equal(first.particles.xy, again.particles.xy)
    np.testing.assert_array_equal(first.truth.rotations, again.truth.rotations)
    for other in (make(SMALL, 4), make(replace(SMALL, seed=1), 3)):
        assert (first.micrograph.pixels != other.micrograph.pixels).any()
        assert first.defocus_A != other.defocus_A


def test_contaminants_leave_the_particles_where_they_were():
    clean = make(SMALL, 1)
    dirty = make(replace(SMALL, contamination=Contamination(blobs=3.0), carbon=1.0), 1)
    assert 0 < len(dirty.particles) < len(clean.particles)
    assert KDTree(clean.particles.xy).query(dirty.particles.xy)[0].max() == 0


@pytest.mark.parametrize("detector", [IDEAL, Detector("k3", dqe0=0.8, binning=2.0)], ids=["ideal", "k3"])
def test_the_mean_count_is_the_dose_times_the_efficiency(detector):
    pixels = make(replace(SMALL, particles=0, dose_e_A2=12.0, detector=detector)).micrograph.pixels
    assert pixels.mean() == pytest.approx(12.0 * 25 * detector.efficiency, rel=0.01)


def test_without_structure_the_noise_is_that_of_counting():
    pixels = make(replace(SMALL, particles=0, ice=FLAT)).micrograph.pixels
    assert pixels.var() == pytest.approx(pixels.mean(), rel=0.02)
    assert (pixels == np.round(pixels)).all()


def test_hot_pixels_come_with_the_detector():
    hot = replace(SMALL, detector=replace(IDEAL, hot_pixels=200.0))
    cold, pixels = (make(scene).micrograph.pixels for scene in (SMALL, hot))
    assert pixels.max() > 3 * cold.max()


@pytest.mark.parametrize("slices", [1, 3])
def test_the_structure_noise_of_ice_is_imaged_by_the_lens(slices):
    ice = Ice(gradient=0.0, slices=slices)
    scene = replace(SMALL, particles=0, ice=ice, dose_e_A2=1e4, defocus_A=(20000.0, 20000.0), astigmatism_A=0.0)
    pixels = make(scene).micrograph.pixels[:300, :300]
    power = np.abs(np.fft.fft2(pixels - pixels.mean())) ** 2
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(300, 5.0), np.fft.fftfreq(300, 5.0)))
    peak, zero = np.sqrt(np.array([0.5, 1.0]) / (0.019687 * 20000))  # of a pure phase object: 1/28, 1/20 A
    ring = [power[np.abs(k - at) < 5e-4].mean() for at in (peak, zero)]
    assert ring[0] > 3 * ring[1]


def test_the_image_has_the_shape_the_size_and_the_particles_asked_for():
    made = make(SMALL)
    n = len(made.particles)
    assert made.micrograph.pixels.shape == made.unusable.shape == (301, 420)
    assert made.micrograph.pixels.dtype == np.float32
    assert made.micrograph.pixel_size_A == 5.0
    assert (made.particles.diameter_px == 30).all()
    assert n == 40
    assert made.particles.inside((301, 420)).all()
    assert made.truth.rotations.shape == (n, 3, 3)
    np.testing.assert_allclose(made.truth.defocus_A, made.defocus_A - made.truth.height_A)
    assert np.ptp(made.truth.height_A) > 100
    assert not made.truth.broken.any()
    assert len(made.decoys) == 0


def test_labels_carry_the_specimens_own_diameter_if_none_is_given():
    made = make(replace(SMALL, diameter_A=None, specimens=("barrel", "small"), placement=Placement(min_distance=0.5)))
    own = np.array([load(name).diameter_A / 5 for name in ("barrel", "small")])
    np.testing.assert_allclose(made.particles.diameter_px, own[made.truth.specimen])
    assert sorted(np.bincount(made.truth.specimen)) == [20, 20]


def test_a_image_may_be_empty():
    made = [make(replace(SMALL, empty=0.5, shape=(90, 120), particles=4), index) for index in range(24)]
    counts = {len(one.particles) for one in made}
    assert counts == {0, 4}
    assert 4 < sum(len(one.particles) == 0 for one in made) < 20
    assert all(np.isnan(one.snr) for one in made if not len(one.particles))


@pytest.mark.parametrize("name", ["barrel", "globule"])
def test_boxes_at_the_true_positions_average_to_a_dark_centred_particle(name):
    ice = Ice(gradient=0.0)
    scene = replace(
        SMALL, specimens=(name,), placement=Placement(min_distance=1.4), ice=ice, shape=(500, 620), diameter_A=None
    )
    images = [make(replace(scene, particles=25), index) for index in range(4)]
    cut = np.concatenate([boxes(p.micrograph.pixels, p.particles.xy, 24) for p in images])
    average = cut.mean(0) - np.median(cut)
    rows, columns = np.mgrid[-24:25, -24:25]
    dark = np.clip(-average - 0.3 * np.abs(average.min()), 0, None)
    middle = np.array([(dark * columns).sum(), (dark * rows).sum()]) / dark.sum()
    assert np.abs(middle).max() < 1.0
    distance = np.hypot(rows, columns)
    assert average[distance < 9].mean() < average[distance > 20].mean() - 3 * cut.std() / np.sqrt(len(cut))


@pytest.mark.parametrize("slices", [1, 4])
def test_a_particle_is_just_where_and_how_and_how_high_it_is_said_to_be(slices):
    """A template with its defocus peaks at the truth, and more than one for the height on the ice's other side."""
    ice = Ice(thickness_A=6000.0, gradient=0.0, noise=0.0, slices=slices)
    scene = replace(
        SMALL,
        pixel_size_A=2.5,
        particles=7,
        ice=ice,
        dose_e_A2=60.0,
        optics=Optics(envelope_B_A2=0.0),
        motion_A=0.0,
        placement=Placement(min_distance=1.5, surfaces=1.0),
        defocus_A=(9000.0, 9000.0),
    )
    made = make(scene, 1)
    specimen, shape = load("barrel"), made.micrograph.shape
    optics = replace(scene.optics, astigmatism_A=made.astigmatism_A, astigmatism_deg=made.astigmatism_deg)
    pixels = made.micrograph.pixels / made.micrograph.pixels.mean() - 1
    k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, 2.5) for n in shape), indexing="ij"))
    faded = damage_curve(k, 60.0, weighted=True)

    def answer(rotation: np.ndarray, defocus_A: float) -> np.ndarray:
        projection = np.zeros(shape, np.float32)
        projection[:97, :97] = specimen.projection(rotation, 97, 2.5)
        lens = ctf(shape, 2.5, replace(optics, defocus_A=float(defocus_A)))
        seen = np.fft.fft2(np.roll(projection, (-48, -48), (0, 1))) * faded * lens
        return np.fft.ifft2(np.fft.fft2(pixels) * np.conj(seen)).real / np.sqrt((np.abs(seen) ** 2).mean())

    fits = []
    for xy, rotation, defocus in zip(made.particles.xy, made.truth.rotations, made.truth.defocus_A, strict=True):
        if (np.minimum(xy, np.array(shape[::-1]) - xy) < 45).any():
            continue
        right = answer(rotation, defocus)
        x, y = np.rint(xy).astype(int)
        around = right[y - 20 : y + 21, x - 20 : x + 21]
        row, column = np.unravel_index(around.argmax(), around.shape)
        assert np.hypot(column + x - 20 - xy[0], row + y - 20 - xy[1]) < 1.2
        mirrored = answer(rotation, 2 * made.defocus_A - defocus)
        fits.append((around.max(), mirrored[y - 2 : y + 3, x - 2 : x + 3].max()))
    assert len(fits) > 1
    assert all(right > 1.02 * other for right, other in fits)


def test_what_can_be_seen_of_a_particle():
    crowded = replace(SMALL, placement=Placement(min_distance=0.5), particles=90)
    made = make(crowded)
    xy, seen = made.particles.xy, made.truth.visible
    assert ((seen >= 0) & (seen <= 1)).all()
    nearest = KDTree(xy).query(xy, 2)[0][:, 1]
    border = np.minimum(xy, np.array([419, 300]) - xy).min(1)
    # A barrel is 30 pixels long and 24 wide; far from all others nothing of it is hidden, at the border half of it is.
    alone = make(replace(SMALL, particles=12, placement=Placement(min_distance=1.3)))
    free = np.minimum(alone.particles.xy, np.array([419, 300]) - alone.particles.xy).min(1) > 18
    assert (alone.truth.visible[free] == 1).all()
    assert np.all(seen[nearest < 18] < 1)
    assert np.all(seen[border < 1] < 0.75)
    assert np.corrcoef(seen, np.minimum(nearest, 30))[0, 1] > 0.4


def test_a_contaminant_hides_and_marks():
    scene = replace(SMALL, contamination=Contamination(blobs=4.0), ice=Ice(gradient=0.0), particles=60)
    made = [make(scene, index) for index in range(4)]
    assert any(m.unusable.sum() > 400 for m in made)
    partly = 0
    for m in made:
        column, row = np.rint(m.particles.xy).astype(int).clip(0, (419, 300)).T
        assert not m.unusable[row, column].any()
        squares = [m.unusable[max(y - 7, 0) : y + 8, max(x - 7, 0) : x + 8].any() for x, y in zip(column, row)]
        assert (m.truth.visible[squares] < 1).all()
        partly += sum(squares)
        if m.unusable.sum() > 400:
            pixels = m.micrograph.pixels
            assert pixels[m.unusable].mean() < pixels[~m.unusable].mean() - pixels[~m.unusable].std()
    assert partly


def test_carbon_is_dark_and_unusable():
    made = make(replace(SMALL, carbon=1.0, ice=Ice(gradient=0.0)), 2)
    assert 0.02 < made.unusable.mean() < 0.8
    pixels = made.micrograph.pixels
    assert pixels[made.unusable].mean() < 0.95 * pixels[~made.unusable].mean()
    column, row = np.rint(made.particles.xy).astype(int).clip(0, (419, 300)).T
    assert not made.unusable[row, column].any()


def test_decoys_are_drawn_and_listed_apart():
    placement = Placement(min_distance=1.2, decoys=("small",), decoy_share=0.5)
    scene = replace(SMALL, particles=16, placement=placement, ice=FLAT, dose_e_A2=2000.0)
    made = make(scene)
    assert len(made.particles) == 16
    assert len(made.decoys) == 8
    assert set(made.truth.specimen) == {0}
    apart = KDTree(made.particles.xy).query(made.decoys.xy)[0]
    assert apart.min() > 1.2 * (30 + load("small").diameter_A / 5) / 2 - 1e-6
    pixels = made.micrograph.pixels
    column, row = np.rint(made.decoys.xy).astype(int).clip(3, (416, 297)).T
    centres = np.mean([pixels[y - 3 : y + 4, x - 3 : x + 4].mean() for x, y in zip(column, row, strict=True)])
    assert centres < pixels.mean() - 0.3 * pixels.std()


def test_broken_particles_lack_a_part():
    scene = replace(SMALL, ice=FLAT, dose_e_A2=1e4, placement=Placement(min_distance=1.3, broken=0.5), shape=(600, 631))
    made, whole = make(scene), make(replace(scene, placement=replace(scene.placement, broken=0.0)))
    broken = made.truth.broken
    assert 8 < broken.sum() < 32
    np.testing.assert_array_equal(made.particles.xy, whole.particles.xy)

    def shade(image):
        cut = [
            image.micrograph.pixels[max(y - 15, 0) : y + 16, max(x - 15, 0) : x + 16].mean()
            for x, y in np.rint(whole.particles.xy).astype(int)
        ]
        return image.micrograph.pixels.max() - np.array(cut)

    assert shade(made)[broken].mean() < shade(whole)[broken].mean()


def test_the_snr_asked_for_is_the_snr_measured():
    for snr in (0.05, 0.2):
        scene = replace(SMALL, snr=snr)
        made = make(scene, 1)
        assert made.snr == pytest.approx(snr, rel=0.1)
        again = make(replace(scene, snr=None, dose_e_A2=made.dose_e_A2), 1)
        assert again.snr == pytest.approx(snr, rel=0.25)  # whose damage is that of its own dose
    assert make(replace(SMALL, snr=0.2), 1).dose_e_A2 > 2 * make(replace(SMALL, snr=0.05), 1).dose_e_A2


def test_the_snr_is_the_variance_of_the_particles_over_that_of_the_rest():
    """Of the same scene with and without counting noise: what the noise adds is what the SNR says."""
    scene = replace(
        SMALL, ice=FLAT, dose_e_A2=3.0, astigmatism_A=0.0, placement=Placement(min_distance=1.5), particles=25
    )
    made = make(scene)
    pure = make(replace(scene, detector=IDEAL, snr=None, dose_e_A2=3.0), load=load).micrograph.pixels
    np.testing.assert_array_equal(pure, made.micrograph.pixels)
    disc = np.hypot(*np.mgrid[-15:16, -15:16]) <= 15
    variance = boxes(pure, made.particles.xy, 15)[:, disc].var(1).mean()
    shot = 3.0 * 25
    assert made.snr == pytest.approx((variance - shot) / shot, rel=0.25)


def test_an_snr_out_of_reach_says_how_much_can_be_had():
    with pytest.raises(ConfigError, match="structure noise of the ice limits"):
        make(replace(SMALL, snr=500.0))


def test_the_ice_gradient_makes_one_side_brighter():
    smooth = make(replace(SMALL, particles=0, ice=Ice(gradient=1.5)), 2).micrograph.pixels
    flat = make(replace(SMALL, particles=0, ice=Ice(gradient=0.0)), 2).micrograph.pixels

    def unevenness(pixels):
        quarters = pixels[:300, :420].reshape(4, 75, 4, 105).mean((1, 3))
        return np.ptp(quarters) / quarters.mean()

    assert unevenness(smooth) > 0.04
    assert unevenness(flat) < 0.015


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dose_e_A2": 0.0}, "dose_e_A2: 0 is not positive"),
        ({"pixel_size_A": 60.0}, "2.5 pixels wide"),
        ({"particles": 5000}, "room for about"),
        ({"carbon": 1.5}, "carbon: 1.5 is not in"),
        ({"snr": -1.0}, "snr: -1 is not positive"),
        ({"defocus_A": (20000.0, 10000.0)}, "20000 is more than 10000"),
        ({"shape": (90000, 90000)}, "Give 1 x 1 to 16384 x 16384"),
        ({"specimens": ()}, "none given"),
    ],
)
def test_impossible_scenes_are_errors(change, message):
    with pytest.raises(ConfigError, match=message):
        make(replace(SMALL, **change))


def test_whole_particles_keep_away_from_the_rim_and_none_reaches_in():
    whole = Placement(whole=True)
    scene = replace(SMALL, specimens=("small",), diameter_A=120.0, particles=30, ice=FLAT, dose_e_A2=3000.0)
    image, cut = (make(replace(scene, placement=placement)) for placement in (whole, Placement()))
    xy = image.particles.xy
    assert len(xy) == 30
    assert (xy >= 11).all()
    assert (xy <= np.array([420, 301]) - 12).all()
    border = np.ones(scene.shape, bool)
    border[2:-2, 2:-2] = False
    counts, others = (p.micrograph.pixels[border] for p in (image, cut))
    assert counts.std() == pytest.approx(np.sqrt(counts.mean()), rel=0.03)
    assert others.std() > 1.15 * counts.std()


def test_measuring_the_snr_changes_nothing_else():
    measured, not_measured = make(SMALL, 3), make(replace(SMALL, measured=False), 3)
    assert measured.snr > 0
    assert np.isnan(not_measured.snr)
    np.testing.assert_array_equal(measured.micrograph.pixels, not_measured.micrograph.pixels)
